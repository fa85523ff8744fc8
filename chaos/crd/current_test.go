//go:build e2e

package crd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestCurrent(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("./generate.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("generate.sh: %v\n%s", err, out)
	}
	entries, err := files.ReadDir(".")
	if err != nil || len(entries) == 0 {
		t.Fatalf("%d embedded schemas, %v", len(entries), err)
	}
	for _, e := range entries {
		have, _ := files.ReadFile(e.Name())
		want, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s is not what the API module says now (%v); go generate ./chaos/crd", e.Name(), err)
		}
	}
}
