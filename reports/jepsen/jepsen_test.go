package jepsen

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"statequake/reports/check"
)

// TestKnownHistories judges testdata/*.edn and *.log. The first line of each
// holds the flags, the second the verdict and the kinds that must be found.
func TestKnownHistories(t *testing.T) {
	names, err := filepath.Glob("testdata/*.*")
	if err != nil || len(names) == 0 {
		t.Fatal("no histories", err)
	}
	for _, path := range names {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.SplitN(string(data), "\n", 3)
			flags := strings.Fields(strings.TrimPrefix(lines[0], "; --model "))
			want := strings.Fields(strings.TrimPrefix(lines[1], "; "))
			h, err := Read(strings.NewReader(string(data)), "f")
			if err != nil {
				t.Fatal(err)
			}
			v, err := Judge(h, Options{Model: flags[0], Keys: slices.Contains(flags, "--keys")})
			if err != nil {
				t.Fatal(err)
			}
			kinds := map[string]int{}
			for _, r := range v.Checks {
				maps.Copy(kinds, r.Kinds)
			}
			got := append([]string{string(v.Verdict)}, slices.Sorted(maps.Keys(kinds))...)
			slices.Sort(want[1:])
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v\n%s", got, want, summary(t, v))
			}
			for _, r := range v.Checks {
				for _, violation := range r.Violations {
					if len(violation.Ops) == 0 || !strings.HasPrefix(violation.Ops[0], "f:") || violation.Explanation == "" {
						t.Errorf("names no line: %+v", violation)
					}
				}
				if r.Verdict != check.Pass && len(r.Violations) == 0 && len(r.Reasons) == 0 {
					t.Errorf("%s: %s without a reason", r.Name, r.Verdict)
				}
			}
		})
	}
}

func summary(t *testing.T, v *Verdict) string {
	t.Helper()
	var b strings.Builder
	if err := Summary(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestEtcdLogs judges logs of Jepsen's test of etcd 0.4, which come with
// Porcupine's tests, and say there whether they are linearizable.
func TestEtcdLogs(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/anishathalye/porcupine").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(out))
	expected, err := os.ReadFile(filepath.Join(dir, "porcupine_test.go"))
	if err != nil {
		t.Skipf("the sources of Porcupine come without their tests: %v", err)
	}
	judged := map[check.Verdict]int{}
	for n := range 200 {
		want := check.Pass
		if !strings.Contains(string(expected), fmt.Sprintf("checkJepsen(t, %d, true)", n)) {
			want = check.Violated
			if !strings.Contains(string(expected), fmt.Sprintf("checkJepsen(t, %d, false)", n)) {
				continue
			}
		}
		name := fmt.Sprintf("etcd_%03d.log", n)
		file, err := os.Open(filepath.Join(dir, "test_data", "jepsen", name))
		if err != nil {
			t.Fatal(err)
		}
		h, err := Read(file, name)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		v, err := Judge(h, Options{Model: "cas-register"})
		if err != nil {
			t.Fatal(err)
		}
		if v.Verdict != want {
			t.Errorf("want %s\n%s", want, summary(t, v))
		}
		judged[v.Verdict]++
	}
	if judged[check.Pass] == 0 || judged[check.Violated] == 0 {
		t.Errorf("one-sided: %v", judged)
	}
	t.Logf("%v", judged)
}
