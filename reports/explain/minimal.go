package explain

import (
	"maps"
	"slices"
	"time"

	"statequake/history"
	"statequake/reports/check"
)

// Budget bounds the search for minimal histories: so many operations may be
// judged in all, a million of which take a few seconds. It is no length of time,
// so that the same run always gives the same histories.
type Budget int

// What a judgement costs beside its operations: by itself, for every id that a
// witness holds, and if Porcupine is asked, who may take long.
const (
	judging         = 50
	bytesPerID      = 10
	askingPorcupine = 20_000
	porcupineTime   = 500 * time.Millisecond
)

// Excerpt is a part of a run on which the check that found a violation finds
// it again.
type Excerpt struct {
	// Run holds the operations in the order of recording, and every fault
	// event of the run. Without a Footer it is torn: what it does not hold may
	// have happened.
	Run *history.Run
	// Minimal says that none of the operations that the violation does not name
	// can go; else the budget was used up before that was known.
	Minimal bool
}

// Minimal finds the smallest excerpt that it can for a violation that the named
// check found. run holds at least what Related gives for it, and without a Footer
// perhaps less; it is not changed. The result is false if the check does not find
// the violation in these operations alone, or the budget is used up before it has.
//
// An excerpt is as good as the run: what it is found to violate, the run
// violates too. A torn history may lack anything, so the witness and the
// register check judge any part of one. What they find only in a whole history,
// and what other checks find, is searched for in histories that lack nothing
// but operations without effect and those sent after everything that shows the
// violation. A removal must not bring about a violation that was not there.
//
// Greedy removal of ever smaller parts: after A. Zeller and R. Hildebrandt,
// "Simplifying and isolating failure-inducing input", IEEE TSE 28(2), 2002.
func Minimal(run *history.Run, opt check.Options, name string, v check.Violation, budget *Budget) (Excerpt, bool) {
	each := func(fn func(*history.Op) error) error {
		for i := range run.Ops {
			if err := fn(&run.Ops[i]); err != nil {
				return err
			}
		}
		return nil
	}
	all, _, err := Related(each, []check.Violation{v}, len(run.Ops))
	if err != nil {
		return Excerpt{}, false
	}
	s := &search{faults: run.Faults, opt: opt, name: name, v: v, budget: budget, torn: true}
	if name == "porcupine" {
		s.opt.PorcupineTime = porcupineTime
	} else {
		s.opt.PorcupineMaxOps = -1
	}
	switch name {
	case "witness", "register":
		named := slices.DeleteFunc(slices.Clone(all), func(op history.Op) bool { return !slices.Contains(v.Ops, op.ID) })
		for _, start := range [][]history.Op{named, all} {
			if counts, ok := s.judge(start); ok && (len(start) == len(all) || total(counts) == 1) {
				return s.reduce(start, counts)
			}
		}
	default:
		last := s.lastNamed(all)
		s.removable = func(op *history.Op) bool { return !check.MayWrite(op) || op.Sent > last }
	}
	if run.Footer == nil {
		return Excerpt{}, false
	}
	s.torn = false
	counts, ok := s.judge(all)
	if !ok {
		return Excerpt{}, false
	}
	return s.reduce(all, counts)
}

// search looks for a smaller history.
type search struct {
	faults    []history.Fault
	opt       check.Options
	name      string // of the check
	v         check.Violation
	budget    *Budget
	torn      bool
	removable func(*history.Op) bool // nil: every one that the violation does not name
}

// judged is a kind of violation that a check finds.
type judged struct{ check, kind string }

// judge reports whether the check finds the violation in ops, and how many of
// each kind every check finds. It is false if there is no budget for it.
func (s *search) judge(ops []history.Op) (map[judged]int, bool) {
	cost := Budget(len(ops) + judging)
	for i := range ops {
		if ops[i].Name == history.WitnessOp {
			cost += Budget(len(ops[i].Result) / bytesPerID)
		}
	}
	if s.name == "porcupine" {
		cost += askingPorcupine
	}
	if *s.budget < cost {
		*s.budget = 0
		return nil, false
	}
	*s.budget -= cost
	found := false
	counts := map[judged]int{}
	for _, r := range check.Run(s.run(ops), s.opt) {
		for kind, n := range r.Kinds {
			counts[judged{r.Name, kind}] += n
		}
		found = found || r.Name == s.name && slices.ContainsFunc(r.Violations, s.same)
	}
	return counts, found
}

// same reports whether v is the violation: it may name fewer operations.
func (s *search) same(v check.Violation) bool {
	return v.Kind == s.v.Kind && v.Entity == s.v.Entity && v.Key == s.v.Key && len(v.Ops) > 0 &&
		!slices.ContainsFunc(v.Ops, func(id string) bool { return !slices.Contains(s.v.Ops, id) })
}

func (s *search) run(ops []history.Op) *history.Run {
	run := &history.Run{Ops: ops, Faults: s.faults}
	if !s.torn {
		run.Footer = history.FooterOf(ops)
	}
	return run
}

// reduce removes operations from ops, in which counts was found, as long as
// the violation stays.
func (s *search) reduce(ops []history.Op, counts map[judged]int) (Excerpt, bool) {
	for size := max(len(ops)/2, 1); ; size = max(size/2, 1) {
		removed := false
		// What came last is removed first: reads before the writes that they saw.
		for end := len(ops); end > 0; end -= size {
			from := max(end-size, 0)
			rest := slices.Clone(ops[:from])
			for i := from; i < end; i++ {
				if slices.Contains(s.v.Ops, ops[i].ID) || s.removable != nil && !s.removable(&ops[i]) {
					rest = append(rest, ops[i])
				}
			}
			rest = append(rest, ops[end:]...)
			if len(rest) == len(ops) {
				continue
			}
			if found, ok := s.judge(rest); ok && !more(found, counts) {
				ops, counts, removed = rest, found, true
			}
			if *s.budget == 0 {
				return Excerpt{Run: s.run(ops)}, true
			}
		}
		if size == 1 && !removed {
			return Excerpt{Run: s.run(ops), Minimal: true}, true
		}
	}
}

// more reports whether of some kind there is more in a than in b.
func more(a, b map[judged]int) bool {
	for kind, n := range a {
		if n > b[kind] {
			return true
		}
	}
	return false
}

func total(counts map[judged]int) int {
	n := 0
	for c := range maps.Values(counts) {
		n += c
	}
	return n
}

// lastNamed is when the last operation that the violation names had returned.
func (s *search) lastNamed(ops []history.Op) time.Duration {
	var last time.Duration
	for i := range ops {
		if slices.Contains(s.v.Ops, ops[i].ID) {
			last = max(last, ops[i].Returned)
		}
	}
	return last
}
