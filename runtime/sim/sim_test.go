package sim

import (
	"slices"
	"testing"
)

// forSeed is the simulation of a seed, which must be one.
func forSeed(t *testing.T, seed uint64, bug string) Config {
	t.Helper()
	cfg, err := ForSeed(seed, bug)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestSim runs many small clusters. The totals show that the simulation does
// what it is for: faults, takeovers and cut journals, under load.
func TestSim(t *testing.T) {
	var ops, faults, takeovers, cuts int
	for seed := range uint64(200) {
		r := Run(forSeed(t, seed, ""))
		if r.Violation != "" {
			t.Errorf("seed %d: %s\nhint: %s", seed, r.Violation, Replay(seed, "", false))
		}
		ops, faults, takeovers, cuts = ops+r.Ops, faults+r.Faults, takeovers+r.Takeovers, cuts+r.Cuts
	}
	if ops < 200*50 || faults < 200 || takeovers < 400 || cuts < 200 {
		t.Errorf("only %d ops, %d faults, %d takeovers, %d cuts in 200 seeds", ops, faults, takeovers, cuts)
	}
}

// TestSameSeed: the same seed is the same run, event by event.
func TestSameSeed(t *testing.T) {
	seen := map[uint64]bool{}
	for seed := range uint64(60) {
		a, b := Run(forSeed(t, seed, "")), Run(forSeed(t, seed, ""))
		if a != b {
			t.Errorf("seed %d: %+v, then %+v", seed, a, b)
		}
		seen[a.Hash] = true
	}
	if len(seen) < 60 {
		t.Errorf("%d different runs of 60 seeds", len(seen))
	}
}

// TestPlanted: each planted bug is found within a bounded number of seeds, by
// the invariants, and those that clients can see also by the audit alone.
func TestPlanted(t *testing.T) {
	for _, tt := range []struct {
		bug       string
		auditOnly bool
		within    uint64
	}{
		{"ack-before-journal", false, 20}, {"ack-before-journal", true, 400},
		{"no-fence", false, 20}, {"no-fence", true, 100},
		{"double-apply", false, 20}, {"double-apply", true, 100},
		{"dirty-read", false, 300}, {"dirty-read", true, 300},
		{"lease-not-checked", false, 100}, {"lease-not-checked", true, 400},
		{"concurrent-commands", false, 20}, {"concurrent-commands", true, 20},
		{"rejected-state-kept", false, 100}, {"rejected-state-kept", true, 100},
		{"deleted-resurrected", false, 60}, {"deleted-resurrected", true, 60},
		{"double-activation", false, 20}, {"double-activation", true, 20},
		{"tail-dropped", false, 20}, {"tail-dropped", true, 20},
		{"dedupe-lost", false, 60}, {"dedupe-lost", true, 60},
		{"reordered-group", false, 60}, {"reordered-group", true, 60},
		{"split-group", false, 20}, {"split-group", true, 200},
		{"batch-dropped", false, 20}, {"batch-dropped", true, 20},
		{"snapshot-off-by-one", false, 20}, {"snapshot-off-by-one", true, 20},
		{"checkpoint-ahead", false, 60}, {"checkpoint-ahead", true, 400},
		{"version-reset", false, 20}, {"version-reset", true, 20},
		{"shutdown-loss", false, 100}, {"shutdown-loss", true, 100},
		{"window-exceeded", false, 200}, {"window-exceeded", true, 200},
		{"no-wait", false, 100},
		{"keep-doubt", false, 600},
	} {
		var tries []uint64 // seeds until found, over and over
		var left uint64 = 1
		for seed := uint64(0); seed < tt.within; seed++ {
			cfg := forSeed(t, seed, tt.bug)
			cfg.AuditOnly = tt.auditOnly
			if Run(cfg).Violation == "" {
				left++
				continue
			}
			if tries, left = append(tries, left), 1; len(tries) == 3 {
				break
			}
		}
		if len(tries) == 0 {
			t.Errorf("%s (audit only: %t) was not found within %d seeds", tt.bug, tt.auditOnly, tt.within)
			continue
		}
		slices.Sort(tries)
		t.Logf("%s (audit only: %t): found after %d seeds, median of %d", tt.bug, tt.auditOnly, tries[len(tries)/2], len(tries))
	}
}
