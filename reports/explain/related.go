package explain

import (
	"bytes"

	"statequake/history"
	"statequake/history/model"
	"statequake/reports/check"
)

// Each calls fn with every operation of a history, in the order of recording,
// and returns the first error of fn or of reading. fn does not keep the Op.
type Each func(fn func(*history.Op) error) error

// place names an entity.
type place struct{ entity, key string }

// Related copies the operations that a violation can depend on: all of its key,
// all of the keys of the operations that it names, and all that may cause an
// operation on one of them. Beyond the first most, it copies only those that a
// violation names; whole says whether all are there. It does not read the history
// without violations, and reads it twice only if these name operations on other
// keys than theirs.
func Related(each Each, violations []check.Violation, most int) (related []history.Op, whole bool, err error) {
	if len(violations) == 0 {
		return nil, true, nil
	}
	named, keys := map[string]bool{}, map[place]bool{}
	for i := range violations {
		keys[place{violations[i].Entity, violations[i].Key}] = true
		for _, id := range violations[i].Ops {
			named[id] = true
		}
	}
	for known := 0; known < len(keys) && err == nil; {
		known, related, whole = len(keys), nil, true
		err = each(func(op *history.Op) error {
			if named[op.ID] {
				keys[place{op.Entity, op.Key}] = true
			}
			wanted := keys[place{op.Entity, op.Key}]
			if !wanted {
				for _, e := range effects(op) {
					wanted = wanted || keys[place{e.Entity, e.Key}]
				}
			}
			switch {
			case !wanted:
			case len(related) < most || named[op.ID]:
				// A reader allots raw values in blocks, of which a few would keep many.
				kept := *op
				kept.Args, kept.Result = bytes.Clone(op.Args), bytes.Clone(op.Result)
				related = append(related, kept)
			default:
				whole = false
			}
			return nil
		})
	}
	return related, whole, err
}

func effects(op *history.Op) []model.Effect {
	return model.Derived(op.Entity, op.Key, op.Name, op.Args, op.ID)
}
