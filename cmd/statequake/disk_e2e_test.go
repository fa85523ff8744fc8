//go:build e2e

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"statequake/history"
)

// dark is a run of about 10 s in which all nodes lose their power while one has
// a slow disk, on a write to its log.
const dark = `
name: dark
seed: 7
system: {name: reference, nodes: 3, ack: durable}
load: {workload: {name: shopping-cart, keys: 100}, arrivals: {constant: 50/s}, warmup: 500ms, duration: 8s}
faults:
  - name: slow
    at: 0s
    chaos: {kind: IOChaos, spec: {action: latency, mode: one, selector: {labelSelectors: {statequake.dev/node: n2}}, volumePath: /data, methods: [fsync], delay: 5ms, duration: 4s}}
  - name: dark
    on: {write: "*.wal", nth: 50}
    chaos: {kind: PowerLoss, spec: {mode: all, selector: {}, torn: "0.5", directoryEntries: strict}}
expect: {lost_acks: 0}
`

// TestPowerLossRun: a loss of power is carried out, seen and survived, and the
// files are where a run without it leaves them; without namespaces it is refused.
func TestPowerLossRun(t *testing.T) {
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil && os.Getenv("STATEQUAKE_REQUIRE_FUSE") != "1" {
		t.Skip(err)
	} else if err == nil {
		f.Close()
	}
	binary, dir := build(t)
	file, out := filepath.Join(dir, "dark.yaml"), filepath.Join(dir, "dark")
	if err := os.WriteFile(file, []byte(dark), 0o644); err != nil {
		t.Fatal(err)
	}
	refused, err := exec.Command(binary, "run", file, "--no-sandbox", "--out", filepath.Join(dir, "refused")).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != exitError || !strings.Contains(string(refused), "faults of disks need a mount namespace") {
		t.Errorf("without namespaces: %v\n%s", err, refused)
	}
	cmd := exec.Command(binary, "run", file, "--out", out, "--keep-data")
	text, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 0 && code != 2 { // unknown where the machine is too busy for the load
		t.Fatalf("exit code %d\n%s", code, text)
	}
	run, err := history.LoadRun(out)
	if err != nil {
		t.Fatal(err)
	}
	proofs := map[string]history.Proof{}
	for _, f := range run.Faults {
		if f.Event == history.Evidence {
			proofs[f.Name] = f.Proof
		}
	}
	if len(proofs) != 2 || proofs["slow"] != history.Confirmed || proofs["dark"] != history.Confirmed {
		t.Errorf("evidence %v\n%s", proofs, text)
	}
	if _, err := os.Stat(filepath.Join(out, "data", "n1", "store", "member")); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(out, "data", "*.disk*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}
