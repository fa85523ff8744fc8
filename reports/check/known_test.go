package check

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"statequake/history"
)

// known is where the known histories are.
const known = "../../fixtures/histories"

// expectation is what expect.yaml says of a history.
type expectation struct {
	About   string              `yaml:"about"`
	Ack     string              `yaml:"ack"`     // durable unless stated
	Window  string              `yaml:"window"`  // of ack: memory
	Witness *bool               `yaml:"witness"` // true unless stated
	Model   string              `yaml:"model"`   // of a history of Jepsen, which has no story
	Torn    bool                `yaml:"torn"`    // no footer, and half a line at the end
	Verdict Verdict             `yaml:"verdict"`
	Find    map[string][]string `yaml:"find"` // kinds, by check
	Story   string              `yaml:"story"`
}

// TestFixtures judges every history in fixtures/histories and compares with
// what its expect.yaml says. The files are those of a run directory; the story
// says the same in the notation of TestKnownHistories, and must be the same.
func TestFixtures(t *testing.T) {
	entries, err := os.ReadDir(known)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| history | what happened | verdict | found |\n|---|---|---|---|\n")
	found, verdicts := map[string]int{}, map[Verdict]int{}
	for _, e := range entries {
		if e.Name() == "README.md" {
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			dir := filepath.Join(known, e.Name())
			x, err := readExpectation(dir)
			if err != nil {
				t.Fatalf("%v\nhint: a history is a folder with an expect.yaml, see README.md there", err)
			}
			fmt.Fprintf(&table, "| [%s](%s/expect.yaml) | %s | %s | %s |\n", e.Name(), e.Name(), x.About, x.Verdict, x.kinds())
			if _, err := os.Stat(filepath.Join(dir, "history.edn")); err == nil {
				return // judged where such histories are read
			}
			verdicts[x.Verdict]++
			for _, kinds := range x.Find {
				for _, kind := range kinds {
					found[kind]++
				}
			}
			x.sameStory(t, dir)
			run, err := history.LoadRun(dir)
			if err != nil {
				t.Fatal(err)
			}
			opt := Options{Ack: cmp.Or(x.Ack, Durable), Witness: x.Witness == nil || *x.Witness, PorcupineTime: time.Minute}
			if x.Window != "" {
				if opt.Window, err = time.ParseDuration(x.Window); err != nil {
					t.Fatal(err)
				}
			}
			results := Run(run, opt)
			kinds := map[string][]string{}
			for _, r := range results {
				if len(r.Kinds) > 0 {
					kinds[r.Name] = slices.Sorted(maps.Keys(r.Kinds))
				}
			}
			for _, want := range x.Find {
				slices.Sort(want)
			}
			if got := Overall(results); got != x.Verdict || !maps.EqualFunc(kinds, x.Find, slices.Equal) {
				t.Errorf("%s, found %v; want %s, %v\n%s", got, kinds, x.Verdict, x.Find, show(results, false))
			}
		})
	}
	for _, kind := range []string{Duplicated, Lost, Phantom, DirtyRead, WrongResult, StaleRead, Reordered, FutureRead, NotLinearizable, HalfApplied, MissedDeadline} {
		if found[kind] == 0 {
			t.Errorf("no history shows the kind %s", kind)
		}
	}
	if verdicts[Violated] < 20 || verdicts[Pass] < 10 || verdicts[Unknown] < 3 {
		t.Errorf("too few: %v", verdicts)
	}
	readme := filepath.Join(known, "README.md")
	have, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(have), "| history |")
	if want := head + table.String(); string(have) != want {
		if os.Getenv("STATEQUAKE_WRITE_HISTORIES") == "" {
			t.Errorf("the table in README.md is not that of the files\n%s", again)
		} else if err := os.WriteFile(readme, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const again = "hint: STATEQUAKE_WRITE_HISTORIES=1 go test ./reports/check -run TestFixtures writes the files of every story, and the table"

func readExpectation(dir string) (*expectation, error) {
	data, err := os.ReadFile(filepath.Join(dir, "expect.yaml"))
	if err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	var x expectation
	if err := d.Decode(&x); err != nil {
		return nil, fmt.Errorf("expect.yaml: %w", err)
	}
	if x.About == "" || x.Verdict == "" || (x.Verdict == Violated) != (len(x.Find) > 0) {
		return nil, fmt.Errorf("expect.yaml: about, verdict, and what is found if it is a violation, are needed")
	}
	return &x, nil
}

func (x *expectation) kinds() string {
	var all []string
	for _, check := range slices.Sorted(maps.Keys(x.Find)) {
		all = append(all, check+": "+strings.Join(x.Find[check], ", "))
	}
	return strings.Join(all, "; ")
}

// sameStory compares the files of a history with its story.
func (x *expectation) sameStory(t *testing.T, dir string) {
	told := t.TempDir()
	run, err := parse(x.Story)
	if err != nil {
		t.Fatal(err)
	}
	w, err := history.Create(told)
	if err != nil {
		t.Fatal(err)
	}
	for i := range run.Ops {
		w.Op(&run.Ops[i])
	}
	for _, f := range run.Faults {
		w.Fault(f)
	}
	if x.Torn {
		w.Abort()
	} else if err := w.Close(*run.Footer); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"history.jsonl", "faults.jsonl"} {
		want, err := os.ReadFile(filepath.Join(told, name))
		if err != nil {
			t.Fatal(err)
		}
		if x.Torn && name == "history.jsonl" {
			want = append(want, want[:40]...)
		}
		path := filepath.Join(dir, name)
		have, err := os.ReadFile(path)
		if len(want) == 0 && os.IsNotExist(err) || err == nil && bytes.Equal(have, want) {
			continue
		}
		if os.Getenv("STATEQUAKE_WRITE_HISTORIES") == "" {
			t.Errorf("%s is not what the story says: %v\n%s", path, err, again)
		} else if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
