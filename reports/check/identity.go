package check

import (
	"fmt"

	"statequake/history"
)

// identity judges the record itself: scheduled = ok + fail + info + unsent, as
// many lines as the footer counts, and unique ids. A breach says that the
// harness is wrong, not the system, so the verdict is Unknown.
func identity(run *history.Run, ix *index) Result {
	r := Result{Name: "identity", Verdict: Pass, Ops: len(run.Ops), Keys: len(ix.keys), Violations: []Violation{}}
	unknown := func(format string, args ...any) {
		r.Verdict = Unknown
		r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...))
	}
	if n := len(ix.repeated); n > 0 {
		unknown("invalid run: %d operation ids occur more than once, the first is %s", n, ix.repeated[0])
	}
	if run.Footer == nil {
		unknown("the history has no footer: recording was cut short, %d unreadable lines at the end were skipped", run.Skipped)
		return r
	}
	if err := run.Footer.Identity(); err != nil {
		unknown("invalid run: %v", err)
	}
	counts := map[history.Phase]history.Counts{}
	for i := range run.Ops {
		c := counts[run.Ops[i].Phase]
		switch run.Ops[i].Outcome {
		case history.OK:
			c.OK++
		case history.Fail:
			c.Fail++
		case history.Info:
			c.Info++
		case history.Unsent:
			c.Unsent++
		}
		counts[run.Ops[i].Phase] = c
	}
	for _, phase := range []history.Phase{history.Warmup, history.Load, history.Probe, history.Drain, history.Audit} {
		if have, want := counts[phase], run.Footer.Counts[phase]; have != want {
			unknown("invalid run: phase %s: the file holds %v, its footer counts %v", phase, have, want)
		}
	}
	return r
}
