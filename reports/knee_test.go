package reports

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A search for the highest rate has a picture of its knee, and no other run has.
func TestKneePicture(t *testing.T) {
	for want, f := range map[bool]*fixture{true: searching(), false: newFixture()} {
		dir := f.write(t)
		v, err := Judge(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(dir, v); err != nil {
			t.Fatal(err)
		}
		svg, err := os.ReadFile(filepath.Join(dir, "plots", "find_max.svg"))
		if have := err == nil; have != want {
			t.Errorf("the picture is there: %v, want %v", have, want)
			continue
		}
		if !want {
			continue
		}
		for _, text := range []string{"100/s is the highest rate with p99 within 50.0 ms", ">knee<", ">bound broken<", "requested rate (1/s)", "latency (ms, log)"} {
			if !bytes.Contains(svg, []byte(text)) {
				t.Errorf("the picture lacks %q", text)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "plots", "find_max.png")); err != nil {
			t.Error(err)
		}
	}
}
