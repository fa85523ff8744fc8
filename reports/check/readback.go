package check

import (
	"time"

	"statequake/history"
)

// Reasons that more than one check gives.
const (
	tornText    = "operations in flight when recording was cut short are not in the history"
	refusedText = "operations that the model of the entity type refuses"
	unreadText  = "keys that no audit read after everything else on them had been answered, so that nobody knows what is left"
)

// touched reports whether anything sent to a key was answered ok, or may have
// had an effect.
func touched(ops []*history.Op) bool {
	for _, op := range ops {
		if o := op.Outcome; o == history.OK || o == history.Info {
			return true
		}
	}
	return false
}

// readBack reports whether the last audit read a key, when every acknowledgement
// that it gave had returned. It is for runs without a witness, whose audit sends the
// reads of the workload.
func readBack(ops []*history.Op) bool {
	acknowledged, audited, unanswered := always, always, always
	for _, op := range ops {
		switch {
		case op.Outcome != history.OK && op.Phase == history.Audit:
			unanswered = max(unanswered, tried(op))
		case op.Outcome != history.OK:
		case op.Phase != history.Audit:
			acknowledged = max(acknowledged, op.Returned)
		case op.Name != history.WitnessOp:
			audited = max(audited, op.Sent)
		}
	}
	return audited > acknowledged && audited >= unanswered
}

// tried is when an audit was sent. One that was not to be sent any more came last.
func tried(op *history.Op) time.Duration {
	if op.Outcome == history.Unsent {
		return never
	}
	return op.Sent
}
