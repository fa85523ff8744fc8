package check

import (
	"statequake/history"
	"statequake/history/model"
)

// MayWrite reports whether op can have had an effect, by its outcome and by what
// the model says of it on an empty state. What has no model may.
func MayWrite(op *history.Op) bool {
	if op.Outcome == history.Fail || op.Outcome == history.Unsent || op.Name == witnessOp || refusedForGood(op) {
		return false
	}
	state, ok := model.For(op.Entity)
	if !ok || sentAgain(op) {
		return true
	}
	result, wrote, err := state.Apply(op.Name, op.Args, op.ID)
	return err != nil || wrote || rejected(result)
}

// Acknowledged reports whether op was answered as a write that has its effect.
func Acknowledged(op *history.Op) bool { return accepted(op) && MayWrite(op) }
