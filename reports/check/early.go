package check

import (
	"statequake/history"
	"statequake/history/model"
)

// Early judges one key of a run that goes on: by all operations that will ever
// be sent to it by the load, which are complete, and an audit that was sent after
// the last of them had returned. It returns only what is a violation whatever
// comes later.
//
// Under ack memory that is what no change of epoch explains: Duplicated and
// Phantom. Nothing is said of keys whose operations cause others, on which the
// operations of other keys may have effects, nor of what takes a search.
func Early(ops []history.Op, opt Options) []Violation {
	for i := range ops {
		op := &ops[i]
		if model.Action(op.Entity) || len(model.Derived(op.Entity, op.Key, op.Name, op.Args, op.ID)) > 0 {
			return nil
		}
	}
	opt.PorcupineMaxOps = -1
	var certain []Violation
	// What has happened so far is a whole run of one key.
	for _, r := range Run(&history.Run{Ops: ops, Footer: &history.Footer{}}, opt) {
		if r.Name != "witness" && r.Name != "register" {
			continue
		}
		for _, v := range r.Violations {
			if opt.Ack == Durable || v.Kind == Duplicated || v.Kind == Phantom {
				certain = append(certain, v)
			}
		}
	}
	return certain
}
