package check

import (
	"fmt"

	"statequake/history"
)

// counts are how many operations there are, by index in phases and outcomes.
type counts [len(phases) + 1][len(outcomes) + 1]int64

// of are the counts of one phase.
func (c *counts) of(phase history.Phase) history.Counts {
	n := &c[indexOf(phases[:], phase)]
	return history.Counts{
		OK: n[indexOf(outcomes[:], history.OK)], Fail: n[indexOf(outcomes[:], history.Fail)],
		Info: n[indexOf(outcomes[:], history.Info)], Unsent: n[indexOf(outcomes[:], history.Unsent)],
	}
}

// identity judges the record itself: scheduled = ok + fail + info + unsent, as
// many lines as the footer counts, and unique ids. A breach says that the
// harness is wrong, not the system, so the verdict is Unknown.
func (j *judging) identity() Result {
	r := Result{Name: "identity", Verdict: Pass, Ops: int(j.c.n), Keys: j.keys, Violations: []Violation{}}
	unknown := func(format string, args ...any) {
		r.Verdict = Unknown
		r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...))
	}
	if j.repeated > 0 {
		unknown("invalid run: %d operation ids occur more than once, the first is %s", j.repeated, j.firstRepeated)
	}
	footer := j.rest.Footer
	if footer == nil {
		unknown("the history has no footer: recording was cut short, %d unreadable lines at the end were skipped", j.rest.Skipped)
		return r
	}
	if err := footer.Identity(); err != nil {
		unknown("invalid run: %v", err)
	}
	for _, phase := range []history.Phase{history.Warmup, history.Load, history.Probe, history.Drain, history.Audit} {
		if have, want := j.c.counts.of(phase), footer.Counts[phase]; have != want {
			unknown("invalid run: phase %s: the file holds %v, its footer counts %v", phase, have, want)
		}
	}
	return r
}
