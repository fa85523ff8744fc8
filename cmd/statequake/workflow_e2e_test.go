//go:build e2e

package main

import (
	"bytes"
	"cmp"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// brief is a run of 2 s, for tests that need runs and not what they show.
const brief = `
name: brief
seed: 3
system: {name: reference, nodes: 3, ack: durable}
load: {workload: {name: counter, keys: 50}, arrivals: {constant: 100/s}, warmup: 500ms, duration: 1s}
`

// The example workflow does what it says: its steps are run here one after the
// other, in a folder of their own, with clones of this repository as base and
// head. What GitHub provides is played: checkout is a clone, sudo does nothing, gh notes
// what it is told.
func TestWorkflow(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "examples/github-actions/compare.yml"))
	if err != nil {
		t.Fatal(err)
	}
	type step struct {
		Name, Uses, Run, If string
		With, Env           map[string]string
	}
	var workflow struct {
		Jobs map[string]struct {
			Env   map[string]string
			Steps []step
		}
	}
	if err := yaml.Unmarshal(text, &workflow); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(work, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(filepath.Join(work, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	file("bin/sudo", "#!/bin/sh\n", 0o755) // no test changes the machine
	file("bin/gh", "#!/bin/sh\necho \"$@\" > gh.txt\n", 0o755)
	summary := file("summary.md", "", 0o644)

	job := workflow.Jobs["compare"]
	env := append(os.Environ(), "PATH="+filepath.Join(work, "bin")+":"+os.Getenv("PATH"), "GITHUB_STEP_SUMMARY="+summary, "GITHUB_REPOSITORY=me/mine")
	for _, name := range slices.Sorted(maps.Keys(job.Env)) {
		env = append(env, name+"="+job.Env[name])
	}
	gate, err := os.ReadFile(filepath.Join(root, "examples/github-actions/gate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// These runs have no fault, so that a limit of their outage cannot be checked, and
	// a lower rate.
	fitting := regexp.MustCompile(`(?m)^  outage: .*$|, min: 480/s`).ReplaceAllString(string(gate), "")
	if strings.Contains(fitting, "5s") || strings.Contains(fitting, "480") {
		t.Fatalf("the limits are still there:\n%s", fitting)
	}
	env = append(env, "GATE="+file("gate.yaml", fitting, 0o644), "PAIRS=1", "SCENARIO="+file("brief.yaml", brief, 0o644), "SET=load.arrivals.constant=120/s")
	ran := 0
	for _, s := range job.Steps {
		var cmd *exec.Cmd
		action, _, _ := strings.Cut(s.Uses, "@")
		switch {
		case action == "actions/checkout":
			cmd = exec.Command("git", "clone", "-q", root, s.With["path"])
		case action == "actions/setup-go", action == "actions/upload-artifact":
			continue
		case s.Uses != "" || s.Run == "":
			t.Fatalf("the test does not know how to play the step %q (uses %q)", s.Name, s.Uses)
		default: // as GitHub runs them
			cmd = exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", s.Run)
			ran++
		}
		cmd.Dir = work
		cmd.Env = env
		for _, name := range slices.Sorted(maps.Keys(s.Env)) {
			cmd.Env = append(cmd.Env, name+"="+strings.ReplaceAll(s.Env[name], "${{ github.event.pull_request.number }}", "17"))
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("step %q: %v\n%s", cmp.Or(s.Name, s.Uses), err, out)
		}
	}
	if ran < 3 {
		t.Errorf("only %d steps were run", ran)
	}
	told, err := os.ReadFile(summary)
	if err != nil {
		t.Fatal(err)
	}
	if page, err := os.ReadFile(filepath.Join(work, "comparison.html")); err != nil || !bytes.Contains(page, []byte("INCONCLUSIVE: brief")) {
		t.Errorf("the page: %v, %.200s", err, page)
	}
	for _, want := range []string{"## ? INCONCLUSIVE: brief", "The gate warns of that, and passes.", "p99", "throughput", "inconclusive"} { // one pair cannot decide
		if !bytes.Contains(told, []byte(want)) {
			t.Errorf("the summary lacks %q:\n%s", want, told)
		}
	}
	said, err := os.ReadFile(filepath.Join(work, "gh.txt"))
	if err != nil || !strings.HasPrefix(string(said), "pr comment 17 --repo me/mine ") {
		t.Errorf("gh was told %q, %v", said, err)
	}
	for _, side := range []string{"base", "head"} {
		verdict, err := os.ReadFile(filepath.Join(work, "runs", side, "0001", "verdict.json"))
		if err != nil || !bytes.Contains(verdict, []byte(`"pass"`)) {
			t.Errorf("the run of %s: %v, %.200s", side, err, verdict)
		}
		if plan, err := os.ReadFile(filepath.Join(work, "runs", side, "0001", "scenario.yaml")); err != nil || !bytes.Contains(plan, []byte("120/s")) {
			t.Errorf("SET was not applied to %s: %v", side, err)
		}
	}
}
