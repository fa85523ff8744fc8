//go:build e2e

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"statequake/scenarios"
)

// twoFaults loses acknowledged writes by one of its two faults.
const twoFaults = `
name: two-faults
seed: 7
system: {name: reference, nodes: 3, store_delay: 300ms, bug: ack-before-journal}
load:
  workload: {name: counter, keys: 100, skew: {zipf: 0.99}}
  arrivals: {constant: 200/s}
  warmup: 0s
  duration: 3s
faults:
  - name: kill
    at: 500ms
    chaos:
      kind: PodChaos
      spec: {action: pod-kill, mode: one, selector: {labelSelectors: {statequake.dev/owner-of: hottest}}}
  - name: pause
    at: 1500ms
    chaos:
      kind: ProcessPause
      spec: {mode: one, selector: {labelSelectors: {statequake.dev/node: n2}}, duration: 200ms}
`

// TestShrink: a real violation comes down to the fault that causes it, and is
// seen again.
func TestShrink(t *testing.T) {
	binary, dir := build(t)
	file, run, out := filepath.Join(dir, "two.yaml"), filepath.Join(dir, "run"), filepath.Join(dir, "small")
	if err := os.WriteFile(file, []byte(twoFaults), 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command(binary, "run", file, "--out", run).CombinedOutput()
	if code := exitCode(err); code != 1 {
		t.Fatalf("the run ended with %d, want a violation\n%s", code, text)
	}
	began := time.Now()
	text, err = exec.Command(binary, "shrink", run, "--kind", "lost", "--tries", "2", "--budget", "60s", "--confirm", "3", "--out", out).CombinedOutput()
	t.Logf("%v\n%s", time.Since(began).Round(time.Second), text)
	if err != nil {
		t.Fatalf("shrink: %v", err)
	}
	if !regexp.MustCompile(`(?m)^lost in [123] of 3 runs: .* interval`).Match(text) {
		t.Error("it does not say how often")
	}
	s, err := scenarios.Open(filepath.Join(out, "scenario.yaml"), scenarios.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Faults) != 1 || s.Faults[0].Name != "kill" || s.Load.Duration >= 3*time.Second {
		t.Errorf("%d faults in %v are left", len(s.Faults), s.Load.Duration)
	}
	f, err := found(filepath.Join(out, "run"))
	if err != nil || f.kinds["lost"] == 0 {
		t.Errorf("the run beside it: %+v, %v", f, err)
	}
}

func exitCode(err error) int {
	if failed, ok := err.(*exec.ExitError); ok {
		return failed.ExitCode()
	}
	return 0
}
