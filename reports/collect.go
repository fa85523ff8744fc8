package reports

import "statequake/history"

// collect reads the history once more, if violations are listed, and keeps the
// operations that they name: each calls a function with every operation and
// returns its first error.
func (v *Verdict) collect(each func(func(*history.Op) error) error) error {
	v.evidence = &history.Run{}
	named := map[string]bool{}
	for _, violation := range allViolations(v) {
		for _, id := range violation.Ops {
			named[id] = true
		}
	}
	if len(named) == 0 {
		return nil
	}
	return each(func(op *history.Op) error {
		if named[op.ID] {
			v.evidence.Ops = append(v.evidence.Ops, *op)
		}
		return nil
	})
}
