package check

import (
	"fmt"

	"statequake/history"
)

// count adds an operation to the counts of its phase.
func count(counts map[history.Phase]history.Counts, op *history.Op) {
	c := counts[op.Phase]
	switch op.Outcome {
	case history.OK:
		c.OK++
	case history.Fail:
		c.Fail++
	case history.Info:
		c.Info++
	case history.Unsent:
		c.Unsent++
	}
	counts[op.Phase] = c
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
		if have, want := j.c.counts[phase], footer.Counts[phase]; have != want {
			unknown("invalid run: phase %s: the file holds %v, its footer counts %v", phase, have, want)
		}
	}
	return r
}
