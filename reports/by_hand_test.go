package reports

import (
	"slices"
	"testing"

	"statequake/history"
	"statequake/reports/check"
)

// A fault by hand is judged like those of the scenario, and told apart from
// them, since a replay does not have it; a node's own end is none.
func TestJudgeByHand(t *testing.T) {
	const note = "Injected by hand, and no part of the scenario that a replay runs: by-hand."
	for _, tt := range []struct {
		name    string
		proof   history.Proof
		verdict check.Verdict
	}{
		{"confirmed", history.Confirmed, check.Pass},
		{"not confirmed", history.Mismatch, check.Unknown},
	} {
		f := newFixture()
		for _, e := range slices.Clone(f.faults) {
			e.Name = "by-hand"
			if e.Event == history.Evidence {
				e.Proof = tt.proof
			}
			f.faults = append(f.faults, e)
		}
		v := f.judge(t)
		if v.Verdict != tt.verdict || !slices.Contains(v.Reasons, note) || len(v.Faults) != 2 {
			t.Errorf("%s: verdict is %s, %d faults, reasons %q", tt.name, v.Verdict, len(v.Faults), v.Reasons)
		}
	}
	f := newFixture()
	f.faults = append(f.faults, history.Fault{Name: "own-exit-n1", Kind: "OwnExit", Event: history.Evidence, Proof: history.Mismatch, Targets: []string{"n1"}})
	if v := f.judge(t); slices.ContainsFunc(v.Reasons, func(r string) bool {
		return r == "Injected by hand, and no part of the scenario that a replay runs: own-exit-n1."
	}) {
		t.Errorf("reasons %q", v.Reasons)
	}
}
