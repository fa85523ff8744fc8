// Package shrink searches for the smallest scenario that a predicate accepts.
package shrink

import (
	"cmp"
	"context"
	"slices"
	"time"

	"statequake/scenarios"
)

// Candidate is a scenario that is smaller than the smallest accepted so far.
type Candidate struct {
	Scenario *scenarios.Scenario // whole and legal: its text parses to it
	Change   string              // against the smallest so far, in words
}

// Accept reports whether a candidate still shows what is searched for. It may
// be wrong now and then: a candidate that it rejects is not tried again, one
// that it accepts is what the search goes on from. An error ends the search.
type Accept func(context.Context, Candidate) (bool, error)

// Search returns the smallest scenario that accept takes, from s, which it is
// not asked about. It asks about one candidate at a time.
//
// The list of faults is reduced by the algorithm ddmin of A. Zeller and R.
// Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE
// Transactions on Software Engineering 28(2), 2002; each number by bisection;
// what saves most time first, and all of it again until nothing more is accepted.
// So if accept always says the same of the same scenario, the result is
// 1-minimal: without one of its faults, and what runs while that does, or with one
// of its numbers one step lower, it is not accepted.
//
// With an error, that of accept or of ctx, Search returns the smallest scenario
// accepted until then.
func Search(ctx context.Context, s *scenarios.Scenario, accept Accept) (*scenarios.Scenario, error) {
	x := &search{smallest: s, accept: accept, rejected: map[string]bool{}}
	for first := true; ; first = false {
		changed, err := x.pass(ctx, first)
		if err != nil || !changed {
			return x.smallest, err
		}
	}
}

type search struct {
	smallest *scenarios.Scenario
	accept   Accept
	rejected map[string]bool // by text
}

// try asks about a candidate and makes it the smallest if it is accepted. One
// that is not legal is rejected.
func (x *search) try(ctx context.Context, text string, c *scenarios.Scenario) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, context.Cause(ctx)
	}
	legal, key := whole(c)
	if legal == nil || x.rejected[key] {
		return false, nil
	}
	ok, err := x.accept(ctx, Candidate{legal, text})
	if err != nil {
		return false, err
	}
	if ok {
		x.smallest = legal
	} else {
		x.rejected[key] = true
	}
	return ok, nil
}

// pass tries everything once and reports whether something was accepted. The
// first one hopes for much: it tries the smallest size of a number first. Later
// ones look whether one step is possible now.
func (x *search) pass(ctx context.Context, first bool) (changed bool, err error) {
	if changed, err = x.faults(ctx); err != nil {
		return changed, err
	}
	done := map[string]bool{}
	for {
		d, ok := x.dearest(done)
		if !ok {
			return changed, nil
		}
		done[d.name] = true
		smaller, err := x.number(ctx, d, first)
		changed = changed || smaller
		if err != nil {
			return changed, err
		}
	}
}

// dearest is the number, of those not done, whose smallest size saves most time.
func (x *search) dearest(done map[string]bool) (number, bool) {
	var left []number
	saving := map[string]time.Duration{}
	for _, d := range numbers(x.smallest) {
		sizes := d.sizes()
		if done[d.name] || len(sizes) == 0 {
			continue
		}
		_, c := d.change(x.smallest, sizes[0])
		saving[d.name] = cost(x.smallest) - cost(c)
		left = append(left, d)
	}
	if len(left) == 0 {
		return number{}, false
	}
	slices.SortStableFunc(left, func(a, b number) int { return cmp.Compare(saving[b.name], saving[a.name]) })
	return left[0], true
}

// number makes one number as small as is accepted, by bisection.
func (x *search) number(ctx context.Context, d number, first bool) (changed bool, err error) {
	sizes, from := d.sizes(), x.smallest
	try := func(i int) (bool, error) {
		text, c := d.change(from, sizes[i])
		return x.try(ctx, text, c)
	}
	low, high := -1, len(sizes) // sizes up to low are too small; high is accepted, the present one
	if !first {
		ok, err := try(high - 1)
		if err != nil || !ok {
			return false, err
		}
		high--
	}
	next := 0 // then the middle
	for high-low > 1 {
		ok, err := try(next)
		if err != nil {
			return high < len(sizes), err
		}
		if ok {
			high = next
		} else {
			low = next
		}
		next = (low + high) / 2
	}
	return high < len(sizes), nil
}

// faults is ddmin on the list of faults.
func (x *search) faults(ctx context.Context) (changed bool, err error) {
	try := func(keep []int) (bool, error) {
		return x.try(ctx, droppedText(x.smallest, keep), withFaults(x.smallest, keep))
	}
	if len(x.smallest.Faults) == 0 {
		return false, nil
	}
	if ok, err := try(nil); err != nil || ok {
		return ok, err
	}
	for parts := 2; len(x.smallest.Faults) >= 2; {
		n := len(x.smallest.Faults)
		parts = min(parts, n)
		type sublist struct {
			keep []int
			part bool // else it is what a part leaves
		}
		var lists []sublist
		for i := range parts {
			part := indices(x.smallest)[i*n/parts : (i+1)*n/parts]
			lists = append(lists, sublist{part, true}, sublist{without(indices(x.smallest), part...), false})
		}
		slices.SortStableFunc(lists, func(a, b sublist) int {
			return cmp.Compare(cost(withFaults(x.smallest, a.keep)), cost(withFaults(x.smallest, b.keep)))
		})
		accepted := false
		for _, l := range lists {
			ok, err := try(l.keep)
			if err != nil {
				return changed, err
			}
			if ok {
				accepted, changed = true, true
				if l.part {
					parts = 2
				} else {
					parts = max(parts-1, 2)
				}
				break
			}
		}
		switch {
		case accepted:
		case parts == n:
			return changed, nil
		default:
			parts *= 2
		}
	}
	return changed, nil
}

// whole is a scenario as a reader of its text sees it, with that text; nil if it
// is not legal.
func whole(s *scenarios.Scenario) (*scenarios.Scenario, string) {
	text, err := s.Resolved(scenarios.Facts{})
	if err != nil {
		return nil, ""
	}
	legal, err := scenarios.Parse("scenario.yaml", text, scenarios.Options{})
	if err != nil {
		return nil, ""
	}
	return legal, string(text)
}

// cost is about how long a run takes, of which only the order counts: starting a
// node takes some hundred milliseconds. What the number of keys and operations
// costs is nothing beside that.
func cost(s *scenarios.Scenario) time.Duration {
	return s.Load.Warmup + s.Load.Duration + time.Duration(s.System.Nodes)*300*time.Millisecond
}

func indices(s *scenarios.Scenario) []int {
	all := make([]int, len(s.Faults))
	for i := range all {
		all[i] = i
	}
	return all
}

func without(all []int, gone ...int) []int {
	return slices.DeleteFunc(slices.Clone(all), func(i int) bool { return slices.Contains(gone, i) })
}
