package jepsen

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"

	"statequake/reports/check"
)

// TestFixtures judges the histories of Jepsen in fixtures/histories and
// compares with what their expect.yaml says.
func TestFixtures(t *testing.T) {
	paths, err := filepath.Glob("../../fixtures/histories/*/history.edn")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d histories: %v", len(paths), err)
	}
	found := map[string]bool{}
	for _, path := range paths {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			var want struct {
				Model   string              `yaml:"model"`
				Verdict check.Verdict       `yaml:"verdict"`
				Find    map[string][]string `yaml:"find"`
			}
			text, err := os.ReadFile(filepath.Join(filepath.Dir(path), "expect.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if err := yaml.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			h, err := Read(bytes.NewReader(data), "f")
			if err != nil {
				t.Fatal(err)
			}
			v, err := Judge(h, Options{Model: want.Model})
			if err != nil {
				t.Fatal(err)
			}
			kinds := map[string][]string{}
			for _, r := range v.Checks {
				if len(r.Kinds) > 0 {
					kinds[r.Name] = slices.Sorted(maps.Keys(r.Kinds))
				}
				for kind := range r.Kinds {
					found[want.Model+" "+kind] = true
				}
			}
			if v.Verdict != want.Verdict || !maps.EqualFunc(kinds, want.Find, slices.Equal) {
				t.Errorf("%s, found %v; want %s, %v\n%s", v.Verdict, kinds, want.Verdict, want.Find, summary(t, v))
			}
		})
	}
	for _, kind := range []string{
		"set lost", "set stale-read", "set duplicated", "set phantom", "set future-read", "set not-linearizable",
		"bank wrong-total", "bank negative-balance", "bank unexpected-account", "bank missing-account",
	} {
		if !found[kind] {
			t.Errorf("no history shows %s", kind)
		}
	}
}
