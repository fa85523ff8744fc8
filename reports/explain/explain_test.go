package explain

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"statequake/history"
	"statequake/reports/check"
)

var update = flag.Bool("update", false, "write the golden files")

// find returns the first violation of the script's kind that its check found.
func (s *script) find(t *testing.T, run *history.Run) (check.Violation, map[string]int) {
	t.Helper()
	for _, r := range check.Run(run, s.opt) {
		if r.Name != s.check {
			continue
		}
		for _, v := range r.Violations {
			if v.Kind == s.kind {
				return v, r.Kinds
			}
		}
		t.Fatalf("the %s check finds no %s: %v", r.Name, s.kind, r.Kinds)
	}
	t.Fatalf("there is no %s check", s.check)
	panic("unreachable")
}

// Each kind of violation comes down to a history of a few operations that is
// judged the same, and to a story of these.
func TestEveryKind(t *testing.T) {
	told := map[string]bool{}
	for name, s := range scripts() {
		t.Run(name, func(t *testing.T) {
			run := s.run()
			v, _ := s.find(t, run)
			budget := Budget(1_000_000)
			excerpt, ok := Minimal(run, s.opt, s.check, v, &budget)
			if !ok || !excerpt.Minimal {
				t.Fatalf("no minimal history: found %v, minimal %v", ok, excerpt.Minimal)
			}
			again, kinds := s.find(t, excerpt.Run)
			if again.Entity != v.Entity || again.Key != v.Key || len(kinds) != 1 || kinds[s.kind] != 1 {
				t.Errorf("the minimal history is judged %v, %s on %s/%s", kinds, again.Kind, again.Entity, again.Key)
			}
			if n := len(excerpt.Run.Ops); n > s.most {
				t.Errorf("%d operations, want at most %d: %v", n, s.most, idsOf(excerpt.Run.Ops))
			}
			for i := range excerpt.Run.Ops {
				less := *excerpt.Run
				less.Ops = slices.Delete(slices.Clone(excerpt.Run.Ops), i, i+1)
				if less.Footer != nil || slices.Contains(v.Ops, excerpt.Run.Ops[i].ID) {
					continue // a whole history without a write is another one
				}
				for _, r := range check.Run(&less, s.opt) {
					if r.Name == s.check && r.Kinds[s.kind] > 0 {
						t.Errorf("%s can go from %v", excerpt.Run.Ops[i].ID, idsOf(excerpt.Run.Ops))
					}
				}
			}
			story := Tell(v, excerpt.Run.Ops, run.Faults)
			golden(t, name+".txt", []byte(fmt.Sprintf("%s on %s/%s\n%s\n", v.Kind, v.Entity, v.Key, strings.Join(story.Lines(), "\n"))))
			told[s.kind] = true
		})
	}
	for _, kind := range []string{check.Duplicated, check.Lost, check.Phantom, check.DirtyRead, check.WrongResult, check.StaleRead,
		check.Reordered, check.FutureRead, check.NotLinearizable, check.HalfApplied, check.MissedDeadline} {
		if !told[kind] {
			t.Errorf("no history of the kind %s", kind)
		}
	}
}

func idsOf(ops []history.Op) []string {
	var ids []string
	for i := range ops {
		ids = append(ids, ops[i].ID)
	}
	return ids
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not as expected; have\n%s\nwant\n%s\n`go test ./reports/explain -update` writes it anew", path, got, want)
	}
}
