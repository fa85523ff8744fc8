package scenarios

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// write puts files into a new folder and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mine")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Every bundled suite can be opened, says what it claims, and can be run again
// from what its scenarios resolve to.
func TestSuites(t *testing.T) {
	var names []string
	for _, info := range Suites() {
		names = append(names, info.Name)
		if info.Suite.Claim == "" && (len(info.Suite.Members) != 1 || info.Suite.Members[0].Scenario.Claim == "") {
			t.Errorf("%s makes no claim", info.Name)
		}
		for _, m := range info.Suite.Members {
			if m.Scenario.Claim == "" {
				t.Errorf("%s: %s makes no claim", info.Name, m.Scenario.Name)
			}
			text, err := m.Scenario.Resolved(Facts{})
			if err != nil {
				t.Fatal(err)
			}
			again, err := Parse("again.yaml", text, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if twice, err := again.Resolved(Facts{}); err != nil || string(twice) != string(text) {
				t.Errorf("%s: %s resolves to another text once it is resolved: %v\n%s\n%s", info.Name, m.Scenario.Name, err, text, twice)
			}
			if !IsSuite(info.Name) {
				t.Errorf("%s is no suite", info.Name)
			}
		}
	}
	if want := []string{"suites/domains", "suites/durability", "suites/latency", "suites/smoke", "suites/soak"}; !slices.Equal(names, want) {
		t.Errorf("suites %v, want %v", names, want)
	}
	// What is only in a suite can be run alone, too.
	if s, err := Open("suites/soak/soak", Options{}); err != nil || s.Load.Duration < 10*time.Minute {
		t.Errorf("suites/soak/soak: %v, %v", s, err)
	}
	if _, err := Source("suites/smoke/suite"); err == nil {
		t.Error("suites/smoke/suite is taken for a scenario")
	}
	// On the disk they are the same.
	onDisk, err := OpenSuite("suites/smoke", Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	built, err := OpenSuite("suites/smoke", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(onDisk.Members) != len(built.Members) || onDisk.Name != built.Name {
		t.Errorf("on the disk %v, in the program %v", onDisk, built)
	}
	if total := built.Members[0].Scenario.Load.Duration + built.Members[1].Scenario.Load.Duration + built.Members[2].Scenario.Load.Duration; total > 40*time.Second {
		t.Errorf("smoke has %v of load", total)
	}
}

func TestOpenSuite(t *testing.T) {
	dir := write(t, map[string]string{
		"b.yaml": strings.Replace(small, "name: small", "name: own", 1),
		"suite.yaml": `# Claim: two ways to get
# here.
scenarios:
  - kill-owner
  - scenario: kill-owner
    claim: another
    set: {name: again, faults: , expect.outage_max: , load.arrivals: {closed: {clients: 3}}} # flow
  - b/../b.yaml
`,
		"notes.txt": "",
	})
	if _, err := OpenSuite(dir, Options{}); err == nil || !strings.Contains(err.Error(), "own is the name of") {
		t.Errorf("b.yaml is in the suite twice: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "c.yaml"), []byte(strings.Replace(small, "name: small", "name: own", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "suite.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "suite.yaml"), []byte(strings.Replace(string(text), "b/../b.yaml", "../c.yaml", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := OpenSuite(dir, Options{Set: []string{"load.duration=12s"}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range s.Members {
		names = append(names, m.Scenario.Name)
		if m.Scenario.Load.Duration != 12*time.Second {
			t.Errorf("%s: --set does not hold: %v", m.Scenario.Name, m.Scenario.Load.Duration)
		}
	}
	if want := []string{"kill-owner", "again", "own"}; !slices.Equal(names, want) {
		t.Fatalf("scenarios %v, want %v", names, want)
	}
	if s.Name != "mine" || s.Claim != "two ways to get here." {
		t.Errorf("suite %q claims %q", s.Name, s.Claim)
	}
	if again := s.Members[1].Scenario; again.Load.Arrivals.Clients != 3 || again.Claim != "another" || len(again.Faults) > 0 || again.Expect["outage_max"] != "" || again.Expect["lost_acks"] != "0" {
		t.Errorf("suite.yaml makes %+v", again)
	}
}

// All that is wrong with all files is said at once, each with its place.
func TestOpenSuiteProblems(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yaml": strings.Replace(small, "{name: counter}", "{name: counter, kees: 10}", 1),
		"b.yaml": strings.Replace(small, "name: small", "name: b", 1),
		"c.yaml": strings.Replace(withFault, "name: small", "name: c", 1),
		"suite.yaml": `scenarios:
  - kill-ovner
  - {scenario: steady, set: {load.durration: 3s}}
  - {scenarios: steady}
`,
	})
	_, err := OpenSuite(dir, Options{Set: []string{"load.timeout=x", "faults.kill-owner.at=1s"}})
	if err == nil {
		t.Fatal("it is opened")
	}
	for _, want := range []string{
		"suite.yaml:2: scenarios[0]: ", "hint: did you mean kill-owner?",
		"suite.yaml:3: scenarios[1].set.load.durration: load.durration: unknown field",
		"suite.yaml:4: scenarios[2].scenarios: unknown field", "suite.yaml:4: scenarios[2].scenario: missing",
		"a.yaml:", "kees: unknown field", "b.yaml: --set faults.kill-owner.at=1s: ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %q:\n%v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "--set load.timeout=x"); n != 1 {
		t.Errorf("what is wrong for all is said %d times:\n%v", n, err)
	}
}

func TestNoSuite(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"holds no scenario":   {"notes.txt": ""},
		"is a run directory":  {"scenario.yaml": small, "history.jsonl": ""},
		"the runs of a suite": {"plan.json": "{}", "a.yaml": small},
		"expected a list":     {"suite.yaml": "scenarios: kill-owner\n"},
		"unknown field":       {"suite.yaml": "scenaris: [steady]\n"},
		"set: expected a map": {"suite.yaml": "scenarios: [{scenario: steady, set: [x]}]\n"},
		": holds no scenario": {"suite.yaml": "# Claim: nothing\n"},
	} {
		dir := write(t, files)
		if !IsSuite(dir) {
			t.Errorf("%s: a folder is not looked at", name)
		}
		if _, err := OpenSuite(dir, Options{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: error is %v, want %q", files, err, name)
		}
	}
	t.Chdir(t.TempDir())
	for _, name := range []string{"kill-owner", "bugs/no-fence", "nothing", "suites/nothing"} {
		if IsSuite(name) {
			t.Errorf("%s is a suite", name)
		}
	}
	if _, err := OpenSuite("suites/nothing", Options{}); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}
