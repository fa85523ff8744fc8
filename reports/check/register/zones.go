package register

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"
)

const (
	always = time.Duration(math.MinInt64) // from when the initial value is known
	never  = time.Duration(math.MaxInt64)
)

// Check decides one register. It changes nothing and keeps nothing of ops; any
// number of calls may run at once.
func Check(ops []Op) Result {
	r := Result{Twice: [2]int32{None, None}}
	writes, twice := writesOf(ops)
	if twice[0] != None {
		r.Twice = twice
		return r
	}
	if !legal(ops, writes) {
		c := checker{ops: ops, writes: writes, gone: make([]bool, len(ops))}
		c.readsOfNothing()
		c.measure()
		c.staleReads()
		c.overlaps()
		r.Violations = c.violations
	}
	return r
}

// writesOf returns the write of every value, and two writes of one value or
// one of the initial value.
func writesOf(ops []Op) (writes []int32, twice [2]int32) {
	var most int32
	for i := range ops {
		if op := &ops[i]; op.Write {
			most = max(most, op.Value)
		}
	}
	writes = make([]int32, most+1)
	for v := range writes {
		writes[v] = None
	}
	for i := range ops {
		op := &ops[i]
		switch {
		case !op.Write:
		case op.Value <= 0:
			return writes, [2]int32{int32(i), None}
		case writes[op.Value] != None:
			return writes, [2]int32{writes[op.Value], int32(i)}
		default:
			writes[op.Value] = int32(i)
		}
	}
	return writes, [2]int32{None, None}
}

// span is the zone of a value. Something of it had returned by known, and
// something was yet to be called until last.
type span struct{ known, last time.Duration }

// legal reports whether nothing is wrong, which is what mostly is the case: the
// test without the names of what is at fault.
func legal(ops []Op, writes []int32) bool {
	zones := make([]span, len(writes))
	for v := range zones {
		zones[v] = span{never, always}
	}
	for i := range ops {
		op := &ops[i]
		returned := op.Return
		switch {
		case !op.Write && (op.Value < 0 || int(op.Value) >= len(writes)):
			return false
		case op.Write && op.Open:
			returned = never
		case !op.Write && op.Value != 0:
			w := writes[op.Value]
			if w == None || op.Return < ops[w].Call {
				return false
			}
		}
		z := &zones[op.Value]
		z.known, z.last = min(z.known, returned), max(z.last, op.Call)
	}
	zones[0].known = always
	forward := make([]span, 0, len(zones))
	sorted := true
	for _, z := range zones {
		if z.known < z.last {
			sorted = sorted && (len(forward) == 0 || forward[len(forward)-1].known <= z.known)
			forward = append(forward, z)
		}
	}
	if !sorted {
		slices.SortFunc(forward, func(a, b span) int { return cmp.Compare(a.known, b.known) })
	}
	for i := 1; i < len(forward); i++ {
		if forward[i].known < forward[i-1].last {
			return false
		}
	}
	// Forward zones are disjoint now, so the one that a backward zone may lie
	// in is the last to begin before it. Values come about in order of time, so
	// it is mostly next to the one before.
	next := 0
	for _, z := range zones {
		if z.known < z.last || z.known == never {
			continue
		}
		for steps := 0; next < len(forward) && forward[next].known < z.last; next++ {
			if steps++; steps > 16 {
				next += sort.Search(len(forward)-next, func(i int) bool { return forward[next+i].known >= z.last })
				break
			}
		}
		for steps := 0; next > 0 && forward[next-1].known >= z.last; next-- {
			if steps++; steps > 16 {
				next = sort.Search(next, func(i int) bool { return forward[i].known >= z.last })
				break
			}
		}
		if next > 0 && z.known < forward[next-1].last {
			return false
		}
	}
	return true
}

// zone is a span with the operations that made it. A value of which nothing
// had returned may come after everything: its known is never.
type zone struct {
	span
	Value
}

// checker names what is wrong.
type checker struct {
	ops        []Op
	writes     []int32
	gone       []bool // reads that are at fault, by operation
	zones      []zone // by value
	violations []Violation
}

var noValue = Value{None, None, None}

// readsOfNothing finds reads of what was not there.
func (c *checker) readsOfNothing() {
	for i := range c.ops {
		op := &c.ops[i]
		if op.Write || op.Value == 0 {
			continue
		}
		w := None
		if op.Value > 0 && int(op.Value) < len(c.writes) {
			w = c.writes[op.Value]
		}
		switch {
		case w == None:
			c.violations = append(c.violations, Violation{Phantom, int32(i), noValue, noValue})
		case op.Return < c.ops[w].Call:
			c.violations = append(c.violations, Violation{FutureRead, int32(i), Value{w, None, None}, noValue})
		default:
			continue
		}
		c.gone[i] = true
	}
}

// measure sets the zones by what is not at fault.
func (c *checker) measure() {
	c.zones = make([]zone, len(c.writes))
	for v := range c.zones {
		c.zones[v] = zone{span{never, always}, Value{c.writes[v], None, None}}
		if w := c.writes[v]; w != None {
			z := &c.zones[v]
			z.last, z.LastOf = c.ops[w].Call, w
			if !c.ops[w].Open {
				z.known, z.KnownBy = c.ops[w].Return, w
			}
		}
	}
	c.zones[0].known = always
	for i := range c.ops {
		op := &c.ops[i]
		if op.Write || c.gone[i] {
			continue
		}
		z := &c.zones[op.Value]
		if op.Return < z.known {
			z.known, z.KnownBy = op.Return, int32(i)
		}
		if op.Call > z.last {
			z.last, z.LastOf = op.Call, int32(i)
		}
	}
}

// acknowledged is when the write of a value had returned, or never.
func (c *checker) acknowledged(z *zone) time.Duration {
	if z.Write == None || c.ops[z.Write].Open {
		return never
	}
	return c.ops[z.Write].Return
}

// staleReads finds every read of a value after another, whose write was called
// when the value read was known already, was known in its turn.
func (c *checker) staleReads() {
	var reads []int32
	for i := range c.ops {
		if !c.ops[i].Write && !c.gone[i] {
			reads = append(reads, int32(i))
		}
	}
	slices.SortStableFunc(reads, func(a, b int32) int { return cmp.Compare(c.ops[a].Call, c.ops[b].Call) })
	newestKnown := c.newest(func(z *zone) time.Duration { return z.known })
	newestAcknowledged := c.newest(c.acknowledged)
	found := false
	for _, i := range reads {
		op := &c.ops[i]
		of := &c.zones[op.Value]
		known, acknowledged := newestKnown(op.Call), newestAcknowledged(op.Call)
		switch {
		case op.Final && acknowledged != nil && c.ops[acknowledged.Write].Call > of.known:
			newer := acknowledged.Value
			newer.KnownBy = newer.Write
			c.violations = append(c.violations, Violation{Lost, i, of.Value, newer})
		case known != nil && c.ops[known.Write].Call > of.known:
			c.violations = append(c.violations, Violation{StaleRead, i, of.Value, known.Value})
		default:
			continue
		}
		c.gone[i], found = true, true
	}
	if found {
		c.measure()
	}
}

// newest returns a function of an instant that must not go back. Of the values
// that were there before it, by at, it returns the one whose write was called
// last, nil if there was none but the initial one.
func (c *checker) newest(at func(*zone) time.Duration) func(time.Duration) *zone {
	order := make([]*zone, 0, len(c.zones))
	for v := range c.zones[1:] {
		if z := &c.zones[1+v]; z.Write != None && at(z) != never {
			order = append(order, z)
		}
	}
	slices.SortStableFunc(order, func(a, b *zone) int { return cmp.Compare(at(a), at(b)) })
	var found *zone
	return func(now time.Duration) *zone {
		for len(order) > 0 && at(order[0]) < now {
			if found == nil || c.ops[order[0].Write].Call > c.ops[found.Write].Call {
				found = order[0]
			}
			order = order[1:]
		}
		return found
	}
}

// overlaps finds the pairs of values of which each must come before the other:
// two forward zones that overlap, or another zone inside a forward one. Every
// value is reported once at most. The initial value is in none of them: what
// reads it after another was known is stale, and so taken away.
func (c *checker) overlaps() {
	var forward, backward []*zone
	for v := range c.zones {
		z := &c.zones[v]
		switch {
		case z.known < z.last:
			forward = append(forward, z)
		case z.known != never:
			backward = append(backward, z)
		}
	}
	slices.SortStableFunc(forward, func(a, b *zone) int { return cmp.Compare(a.known, b.known) })
	slices.SortStableFunc(backward, func(a, b *zone) int { return cmp.Compare(a.last, b.last) })
	longest := func(a, b *zone) *zone {
		if a == nil || b.last > a.last {
			return b
		}
		return a
	}
	pair := func(a, b *zone) {
		c.violations = append(c.violations, Violation{NotLinearizable, None, a.Value, b.Value})
	}
	var reach *zone
	for _, z := range forward {
		if reach != nil && z.known < reach.last {
			pair(reach, z)
		}
		reach = longest(reach, z)
	}
	reach = nil
	next := 0
	for _, z := range backward {
		for ; next < len(forward) && forward[next].known < z.last; next++ {
			reach = longest(reach, forward[next])
		}
		if reach != nil && z.known < reach.last {
			pair(reach, z)
		}
	}
}
