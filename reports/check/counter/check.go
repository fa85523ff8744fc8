package counter

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// Check decides one counter. It changes nothing and keeps nothing of ops; any
// number of calls may run at once. O(n log n), and a bounded search where adds
// of unknown outcome and of different amounts fill gaps.
//
// Every answer is held against bounds, as Jepsen's counter checker does: adds
// acknowledged before it was asked for are in it, adds called after it returned
// are not. If all adds have one sign the counter never goes back, so an answer
// also bounds those asked for later.
//
// If all adds are of one amount, a value is a place in the order: the nth add
// makes n times the amount. Told adds have their places; each other place up to
// the largest value seen needs one of the other adds, and each of these has a
// first place, after all that was shown before it was called, and a last one,
// before all that was asked for after it was acknowledged. Taking for each
// place in turn the add whose last place comes first finds an order if there is
// one: F. Glover, "Maximum matching in a convex bipartite graph", Naval
// Research Logistics Quarterly 14(3), 1967.
func Check(ops []Op) Result {
	c := checker{ops: ops, sign: 1, untold: make([]bool, len(ops))}
	if !c.amounts() {
		return Result{}
	}
	c.sort()
	c.bounds()
	switch {
	case c.mixed:
	case c.one:
		c.places()
		c.Exact = true
	default:
		c.Exact = c.tiles()
	}
	if len(c.Violations) > 0 {
		c.Exact = true
	}
	return c.Result
}

type checker struct {
	Result
	ops    []Op
	untold []bool // by operation: nothing is told, or what is told is at fault already

	sign       int64 // -1 if all adds are negative: then everything is turned round
	mixed, one bool  // adds of both signs; all of one amount
	unit       int64 // greatest common divisor of all amounts, 1 if there are none
	all        [2]int64

	answers          []int32 // in order of Call: what was told
	told             []int32 // the same in order of Return
	called, returned []int32 // adds
}

func (c *checker) add(i int32) int64   { return c.sign * c.ops[i].Add }
func (c *checker) value(i int32) int64 { return c.sign * c.ops[i].Value }

// base is the counter that an answer says it found: of an add before the
// addition.
func (c *checker) base(i int32) int64 { return c.value(i) - c.add(i) }

// amounts looks at what is added. It returns false if sums may not fit.
func (c *checker) amounts() bool {
	var up, down bool
	var first int64
	c.one = true
	for i := range c.ops {
		op := &c.ops[i]
		for _, n := range [2]int64{op.Add, op.Value} {
			if n > math.MaxInt64/4 || n < -math.MaxInt64/4 {
				return false
			}
		}
		switch {
		case op.Add > 0:
			up = true
			c.all[1] += op.Add
		case op.Add < 0:
			down = true
			c.all[0] += op.Add
		default:
			continue
		}
		if c.all[1] > math.MaxInt64/4 || c.all[0] < -math.MaxInt64/4 {
			return false
		}
		c.unit = gcd(c.unit, op.Add)
		if first == 0 {
			first = op.Add
		}
		c.one = c.one && op.Add == first
	}
	c.mixed = up && down
	if down && !up {
		c.sign = -1
		c.all[0], c.all[1] = 0, -c.all[0]
	}
	c.unit = max(c.unit, 1)
	return true
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return max(a, -a)
}

func (c *checker) sort() {
	n := len(c.ops)
	room := make([]int32, 3*n)
	c.called, c.returned, c.answers = room[:0:n], room[n:n:2*n], room[2*n:2*n:3*n]
	for i := range c.ops {
		op, n := &c.ops[i], int32(i)
		if op.Add != 0 {
			c.called = append(c.called, n)
			if !op.Open {
				c.returned = append(c.returned, n)
			}
		}
		if op.Told && !op.Open {
			c.answers = append(c.answers, n)
		} else {
			c.untold[i] = true
		}
	}
	c.told = slices.Clone(c.answers)
	c.byCall(c.answers)
	c.byCall(c.called)
	c.byReturn(c.told)
	c.byReturn(c.returned)
}

func (c *checker) byCall(ops []int32) {
	sortUnlessSorted(ops, func(a, b int32) int { return cmp.Compare(c.ops[a].Call, c.ops[b].Call) })
}

func (c *checker) byReturn(ops []int32) {
	sortUnlessSorted(ops, func(a, b int32) int { return cmp.Compare(c.ops[a].Return, c.ops[b].Return) })
}

// sortUnlessSorted is stable. Histories are in order of return.
func sortUnlessSorted(ops []int32, compare func(a, b int32) int) {
	if !slices.IsSortedFunc(ops, compare) {
		slices.SortStableFunc(ops, compare)
	}
}

// found reports an answer and takes it away.
func (c *checker) found(kind Kind, op, other int32, low, high int64) {
	if c.sign < 0 {
		low, high = -high, -low
	}
	c.Violations = append(c.Violations, Violation{kind, op, other, low, high})
	c.untold[op] = true
}

// bounds judges every answer by the adds before and during it, and by the
// answers before it.
func (c *checker) bounds() {
	// sums of what is added, down and up
	type sums [2]int64
	add := func(s *sums, i int32) {
		if n := c.add(i); n < 0 {
			s[0] += n
		} else {
			s[1] += n
		}
	}
	// By the time an answer returned, in the order of c.told.
	sent := make([]sums, len(c.ops))
	var now sums
	called := c.called
	for _, i := range c.told {
		for ; len(called) > 0 && c.ops[called[0]].Call <= c.ops[i].Return; called = called[1:] {
			add(&now, called[0])
		}
		sent[i] = now
	}
	now = sums{}
	returned, told := c.returned, c.told
	shown := None // the answer with the largest value
	for _, i := range c.answers {
		op := &c.ops[i]
		for ; len(returned) > 0 && c.ops[returned[0]].Return < op.Call; returned = returned[1:] {
			add(&now, returned[0])
		}
		for ; len(told) > 0 && c.ops[told[0]].Return < op.Call; told = told[1:] {
			if t := told[0]; !c.untold[t] && (shown == None || c.value(t) > c.value(shown)) {
				shown = t
			}
		}
		v, own := c.value(i), c.add(i)
		// What op itself adds is in its value: called, and not before it.
		low, high := sent[i][0]+now[1]+max(own, 0), sent[i][1]+now[0]+min(own, 0)
		before := None // an answer given before op was asked for that shows more
		if !c.mixed && shown != None && c.base(i) < c.value(shown) {
			before = shown
		}
		switch {
		case v < c.all[0]+max(own, 0) || v > c.all[1]+min(own, 0):
			c.found(Phantom, i, None, low, high)
		case v%c.unit != 0:
			c.found(WrongResult, i, None, low, high)
		case v < sent[i][0]+max(own, 0) || v > sent[i][1]+min(own, 0):
			c.found(FutureRead, i, None, low, high)
		case v < low || v > high:
			kind := StaleRead
			if op.Final {
				kind = Lost
			}
			c.found(kind, i, before, low, high)
		case before != None:
			c.found(StaleRead, i, before, low, high)
		}
	}
}

// gap is what lies between two values that were shown and no told add made.
type gap struct {
	size   int64
	by     int32         // the answer that shows its end
	latest time.Duration // adds called later cannot be in it: what shows its end had returned
}

// tiles judges adds of one sign by the values that they were answered with:
// each goes from its base to its value, no two overlap, and other adds fill the
// gaps between them. It reports whether that decides the counter.
func (c *checker) tiles() bool {
	var shown, others []int32
	for _, i := range c.answers {
		if !c.untold[i] {
			shown = append(shown, i)
		}
	}
	slices.SortStableFunc(shown, func(a, b int32) int {
		return cmp.Or(cmp.Compare(c.base(a), c.base(b)), cmp.Compare(c.value(a), c.value(b)))
	})
	var reached int64
	holder := None // the add that reached it
	var gaps []gap
	for _, i := range shown {
		base := c.base(i)
		if base < reached {
			c.found(NotLinearizable, i, holder, 0, 0)
			continue
		}
		if base > reached {
			gaps = append(gaps, gap{size: base - reached, by: i})
		}
		reached = c.value(i)
		if c.ops[i].Add != 0 {
			holder = i
		}
	}
	c.latest(shown, gaps)
	decided := true
	for _, i := range c.called {
		if c.untold[i] {
			others = append(others, i)
			decided = decided && (c.ops[i].Open || c.ops[i].Told)
		}
	}
	f := filler{checker: c, gaps: gaps, failed: map[string]bool{}, steps: maxSteps}
	for _, i := range others {
		if n := c.add(i); !slices.Contains(f.amounts, n) {
			f.amounts = append(f.amounts, n)
		}
	}
	switch f.fill(0, others, make([]int, len(f.amounts))) {
	case impossible:
		c.found(NotLinearizable, gaps[f.deepest].by, None, 0, 0)
	case exhausted:
		return false
	}
	return decided
}

// latest sets until when adds may have been called that are in a gap.
func (c *checker) latest(shown []int32, gaps []gap) {
	earliest := time.Duration(math.MaxInt64)
	for _, i := range slices.Backward(shown) {
		if c.untold[i] {
			continue
		}
		earliest = min(earliest, c.ops[i].Return)
		if n := len(gaps); n > 0 && gaps[n-1].by == i {
			gaps[n-1].latest = earliest
			gaps = gaps[:n-1]
		}
	}
}

// maxSteps bounds the search for adds that fill gaps, which is a knapsack
// problem. It takes a step for every amount that it tries.
const maxSteps = 200_000

type filling int

const (
	possible filling = iota
	impossible
	exhausted
)

// filler looks for adds of unknown outcome that make up the gaps. A later gap
// may have all that an earlier one may, so what is left of each amount is all
// that matters for the gaps to come.
type filler struct {
	*checker
	gaps    []gap
	amounts []int64
	failed  map[string]bool // what was left before a gap, in vain
	steps   int
	deepest int // the first gap that was never filled
}

// fill fills gaps[n:] with adds, those not yet called in order of Call, and
// those that are left of every amount.
func (f *filler) fill(n int, waiting []int32, left []int) filling {
	f.deepest = max(f.deepest, min(n, len(f.gaps)-1))
	if n == len(f.gaps) {
		return possible
	}
	left = slices.Clone(left)
	for ; len(waiting) > 0 && f.ops[waiting[0]].Call <= f.gaps[n].latest; waiting = waiting[1:] {
		left[slices.Index(f.amounts, f.add(waiting[0]))]++
	}
	at := binary.AppendUvarint(nil, uint64(n))
	for _, k := range left {
		at = binary.AppendUvarint(at, uint64(k))
	}
	if f.failed[string(at)] {
		return impossible
	}
	result := f.take(n, waiting, left, 0, f.gaps[n].size)
	if result == impossible {
		f.failed[string(at)] = true
	}
	return result
}

// take makes up size from amounts[a:] for gap n, and then fills the others.
func (f *filler) take(n int, waiting []int32, left []int, a int, size int64) filling {
	if f.steps--; f.steps < 0 {
		return exhausted
	}
	if size == 0 {
		return f.fill(n+1, waiting, left)
	}
	if a == len(f.amounts) {
		return impossible
	}
	most := int(min(int64(left[a]), size/f.amounts[a]))
	left[a] -= most
	defer func() { left[a] += most }()
	for ; ; most-- {
		if result := f.take(n, waiting, left, a+1, size-int64(most)*f.amounts[a]); result != impossible || most == 0 {
			return result
		}
		left[a]++
	}
}

// other is an add without a value, all adds being of one amount.
type other struct {
	op          int32
	first, last int64 // places that it may have, both included
	lastBy      int32 // the answer that shows last, or None
}

// places judges adds of one amount by the places that they have.
func (c *checker) places() {
	place := func(i int32) int64 { return c.value(i) / c.unit }
	var most int64
	for _, i := range c.answers {
		if !c.untold[i] {
			most = max(most, place(i))
		}
	}
	taken := make([]int32, most+1)
	for p := range taken {
		taken[p] = None
	}
	for _, i := range c.answers {
		switch {
		case c.untold[i] || c.ops[i].Add == 0:
		case taken[place(i)] != None:
			c.found(NotLinearizable, i, taken[place(i)], 0, 0)
		default:
			taken[place(i)] = i
		}
	}
	waiting := c.others(place)
	var free queue
	for p := int64(1); p <= most; p++ {
		for ; len(waiting) > 0 && waiting[0].first <= p; waiting = waiting[1:] {
			heap.Push(&free, waiting[0])
		}
		if taken[p] != None {
			continue
		}
		for len(free) > 0 && free[0].last < p {
			c.tooLate(heap.Pop(&free).(other))
		}
		if len(free) == 0 {
			c.unreached(p, place)
			return
		}
		heap.Pop(&free)
	}
	for _, o := range append(waiting, free...) {
		if o.lastBy != None {
			c.tooLate(o)
		}
	}
}

// others returns the adds without a place, in order of Call, which is also that
// of their first places.
func (c *checker) others(place func(int32) int64) []other {
	var all []other
	told := c.told
	var shown int64
	for _, i := range c.called {
		if !c.untold[i] {
			continue
		}
		for ; len(told) > 0 && c.ops[told[0]].Return < c.ops[i].Call; told = told[1:] {
			if t := told[0]; !c.untold[t] {
				shown = max(shown, place(t))
			}
		}
		all = append(all, other{i, shown + 1, math.MaxInt64, None})
	}
	// Whatever was answered is acknowledged, but an answer at fault must not
	// make another one.
	byReturn := make([]int, 0, len(all))
	for n, o := range all {
		if op := &c.ops[o.op]; !op.Open && !op.Told {
			byReturn = append(byReturn, n)
		}
	}
	slices.SortStableFunc(byReturn, func(a, b int) int { return cmp.Compare(c.ops[all[a].op].Return, c.ops[all[b].op].Return) })
	answers := c.answers
	last, lastBy := int64(math.MaxInt64), None
	for _, n := range slices.Backward(byReturn) {
		o := &all[n]
		for ; len(answers) > 0 && c.ops[answers[len(answers)-1]].Call > c.ops[o.op].Return; answers = answers[:len(answers)-1] {
			if a := answers[len(answers)-1]; !c.untold[a] && c.base(a)/c.unit < last {
				last, lastBy = c.base(a)/c.unit, a
			}
		}
		o.last, o.lastBy = last, lastBy
	}
	return all
}

// tooLate reports an acknowledged add for which no place was left before an
// answer to something that was asked for later.
func (c *checker) tooLate(o other) { c.found(NotLinearizable, o.lastBy, o.op, 0, 0) }

// unreached reports that no add could have place p, by the first answer that
// shows it.
func (c *checker) unreached(p int64, place func(int32) int64) {
	for _, i := range c.told {
		if !c.untold[i] && place(i) >= p {
			c.found(NotLinearizable, i, None, 0, 0)
			return
		}
	}
}

// queue is a heap of adds, the one whose last place comes first on top, and of
// equal ones the one that was called first.
type queue []other

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	return q[i].last < q[j].last || q[i].last == q[j].last && q[i].first < q[j].first
}
func (q *queue) Push(o any) { *q = append(*q, o.(other)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	o := (*q)[last]
	*q = (*q)[:last]
	return o
}
