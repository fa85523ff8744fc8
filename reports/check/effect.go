package check

import "statequake/history"

// MayWrite reports whether op can have had an effect, by its outcome and by what
// the model says of it on an empty state. What has no model may.
func MayWrite(op *history.Op) bool {
	if op.Outcome == history.Fail || op.Outcome == history.Unsent || op.Name == history.WitnessOp || refusedForGood(op) {
		return false
	}
	c, _ := classify(op)
	return c != reads || sentAgain(op)
}

// Acknowledged reports whether op was answered as a write that has its effect.
func Acknowledged(op *history.Op) bool { return accepted(op) && MayWrite(op) }
