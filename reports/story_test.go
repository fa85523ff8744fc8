package reports

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"statequake/history"
	"statequake/reports/check"
)

// The folder of a violation is a run directory of its own, with next to nothing
// in it, and is judged the same.
func TestExcerptsAreRuns(t *testing.T) {
	f := newFixture()
	f.lose(30)
	dir := f.write(t)
	v, err := Judge(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, v); err != nil {
		t.Fatal(err)
	}
	folders, err := os.ReadDir(filepath.Join(dir, "violations"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("%d folders: %v", len(folders), err)
	}
	for _, folder := range folders {
		alone := filepath.Join(dir, "violations", folder.Name())
		again, err := Judge(alone)
		if err != nil {
			t.Fatal(err)
		}
		if again.ExitCode() != 1 || !maps.Equal(again.Checks[1].Kinds, map[string]int{check.Lost: 1}) || again.Checks[1].Violations[0].Key != "k0.1" {
			t.Errorf("%s: exit code %d, found %v", folder.Name(), again.ExitCode(), again.Checks[1].Kinds)
		}
		run, err := history.LoadRun(alone)
		if err != nil {
			t.Fatal(err)
		}
		if len(run.Ops) > 4 || len(run.Faults) != len(f.faults) {
			t.Errorf("%s holds %d operations and %d of %d fault events", folder.Name(), len(run.Ops), len(run.Faults), len(f.faults))
		}
		plan, _ := os.ReadFile(filepath.Join(alone, scenarioFile))
		if string(plan) != f.scenario {
			t.Errorf("%s has another scenario:\n%s", folder.Name(), plan)
		}
		// It is as small as it gets, so it holds no folders of its own.
		if err := Write(alone, again); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(alone, "violations")); !os.IsNotExist(err) {
			t.Errorf("%s has folders of violations: %v", folder.Name(), err)
		}
	}
}

// The terminal names the folder.
func TestSummaryNamesTheExcerpt(t *testing.T) {
	f := newFixture()
	f.lose(1)
	v := f.judge(t)
	v.dir = "runs/it's 1"
	var b bytes.Buffer
	if err := Summary(&b, v, false, 80); err != nil {
		t.Fatal(err)
	}
	if want := "2 operations alone are judged the same:\n      statequake check 'runs/it'\\''s 1/violations/lost-1'\n"; !strings.Contains(b.String(), want) {
		t.Errorf("the summary does not say\n%s\nbut\n%s", want, b.String())
	}
}

// What an earlier judgement left there goes, and nothing is left half done.
func TestExcerptsAreReplaced(t *testing.T) {
	dir := newFixture().write(t)
	if err := os.MkdirAll(filepath.Join(dir, "violations", "lost-1"), 0o755); err != nil {
		t.Fatal(err)
	}
	v, err := Judge(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, v); err != nil {
		t.Fatal(err)
	}
	entries, err := fs.Glob(os.DirFS(dir), "*violations*")
	if err != nil || len(entries) > 0 {
		t.Errorf("a run without violations holds %v, %v", entries, err)
	}
}

// However many violations there are, a few are told with a folder, of every
// kind one before a second of any.
func TestExcerptsAreBounded(t *testing.T) {
	f := newFixture()
	for i := range f.ops {
		op := &f.ops[i]
		if op.Phase == history.Audit {
			op.Result = []byte(`{"ids":[]}`)
			op.Version, op.Digest = 0, history.ZeroDigest
		}
	}
	read := f.op("7f3a-l104")
	read.Result = []byte(`{"value":-1}`)
	v := f.judge(t)
	names := map[string]bool{}
	for _, e := range v.excerpts {
		names[e.name] = true
	}
	if len(v.excerpts) != excerpted || len(names) != excerpted || !names["lost-1"] {
		t.Errorf("%d excerpts: %v", len(v.excerpts), slices.Sorted(maps.Keys(names)))
	}
}

// Only names that are safe as a path and a link are used.
func TestFolderNames(t *testing.T) {
	for kind, want := range map[string]string{
		"half-applied": "half-applied", "": "violation", "../x": "violation", "a b": "violation", nasty: "violation", strings.Repeat("a", 99): "violation",
	} {
		if got := folderName(kind); got != want {
			t.Errorf("%.20q: %q, want %q", kind, got, want)
		}
	}
}
