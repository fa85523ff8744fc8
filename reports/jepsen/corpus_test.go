package jepsen

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"statequake/reports/check"
)

func TestX(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/anishathalye/porcupine").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(out))
	test, _ := os.ReadFile(filepath.Join(dir, "porcupine_test.go"))
	for n := range 103 {
		want := check.Violated
		if strings.Contains(string(test), fmt.Sprintf("checkJepsen(t, %d, true)", n)) {
			want = check.Pass
		} else if !strings.Contains(string(test), fmt.Sprintf("checkJepsen(t, %d, false)", n)) {
			continue
		}
		f, err := os.Open(filepath.Join(dir, "test_data", "jepsen", fmt.Sprintf("etcd_%03d.log", n)))
		if err != nil {
			t.Fatal(err)
		}
		h, err := Read(f, filepath.Base(f.Name()))
		if err != nil {
			t.Error(err)
			continue
		}
		v, err := Judge(h, Options{Model: "cas-register"})
		if err != nil {
			t.Error(err)
			continue
		}
		if v.Verdict != want {
			t.Errorf("%s: %s, want %s", f.Name(), v.Verdict, want)
		}
		if n < 3 {
			Summary(os.Stdout, v)
		}
		f.Close()
	}
}
