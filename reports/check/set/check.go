package set

import (
	"cmp"
	"math"
	"slices"
	"time"
)

const never = time.Duration(math.MaxInt64)

// element is what the reads say of one element, as indexes of operations.
type element struct {
	add                   int32
	knownBy               int32         // first to return of its acknowledged add and the reads that have it
	known                 time.Duration // when; never
	lastPresent, lastGone int32         // the last called of the reads that have it, and of those that miss it
	found                 bool          // something is wrong with it
}

// Check decides one set. It changes nothing and keeps nothing of ops; any
// number of calls may run at once.
func Check(ops []Op) Result {
	c := checker{ops: ops, Result: Result{Twice: [2]int32{None, None}}}
	if !c.adds() {
		return c.Result
	}
	c.look()
	c.lastSeen()
	c.outcomes()
	if len(c.Violations) == 0 {
		c.order()
	}
	return c.Result
}

type checker struct {
	Result
	ops      []Op
	elements []element
	reads    []int32 // in order of their calls
	seen     []int32 // by element: mark of the read that has it
	mark     int32
}

// adds finds the add of every element. It returns false if one has two.
func (c *checker) adds() bool {
	most := int32(-1)
	for i := range c.ops {
		if op := &c.ops[i]; op.Read {
			c.reads = append(c.reads, int32(i))
		} else {
			most = max(most, op.Element)
		}
	}
	slices.SortStableFunc(c.reads, func(a, b int32) int { return cmp.Compare(c.ops[a].Call, c.ops[b].Call) })
	c.elements = make([]element, most+1)
	c.seen = make([]int32, most+1)
	for e := range c.elements {
		c.elements[e] = element{None, None, never, None, None, false}
	}
	for i := range c.ops {
		op := &c.ops[i]
		if op.Read {
			continue
		}
		e := &c.elements[op.Element]
		if e.add != None {
			c.Twice = [2]int32{e.add, int32(i)}
			return false
		}
		e.add = int32(i)
		c.Attempted++
		if !op.Open {
			c.Acknowledged++
			e.known, e.knownBy = op.Return, int32(i)
		}
	}
	return true
}

func (c *checker) found(kind Kind, op, other, e int32) {
	c.Violations = append(c.Violations, Violation{kind, op, other, e})
}

// added reports whether somebody tried to add e.
func (c *checker) added(e int32) bool {
	return e >= 0 && int(e) < len(c.elements) && c.elements[e].add != None
}

// look goes through what every read has.
func (c *checker) look() {
	for _, r := range c.reads {
		read := &c.ops[r]
		c.mark++
		var duplicated, phantom, future bool
		for _, n := range read.Elements {
			if !c.added(n) {
				if !phantom {
					c.found(Phantom, r, None, n)
				}
				phantom = true
				continue
			}
			if c.seen[n] == c.mark {
				if !duplicated {
					c.found(Duplicated, r, None, n)
				}
				duplicated = true
				continue
			}
			c.seen[n] = c.mark
			e := &c.elements[n]
			if read.Return < c.ops[e.add].Call {
				if !future {
					c.found(FutureRead, r, e.add, n)
				}
				future = true
				continue
			}
			e.lastPresent = r
			if read.Return < e.known {
				e.known, e.knownBy = read.Return, r
			}
		}
	}
}

// lastSeen finds for every element the last read that misses it. It goes back
// in time with what all later reads have, which is no more than the last of
// them, so that it looks at nothing more often than reads do.
func (c *checker) lastSeen() {
	inAll := make([]int32, 0, c.Attempted)
	for e := range c.elements {
		if c.elements[e].add != None {
			inAll = append(inAll, int32(e))
		}
	}
	for _, r := range slices.Backward(c.reads) {
		c.mark++
		for _, n := range c.ops[r].Elements {
			if c.added(n) {
				c.seen[n] = c.mark
			}
		}
		kept := inAll[:0]
		for _, n := range inAll {
			if c.seen[n] == c.mark {
				kept = append(kept, n)
			} else {
				c.elements[n].lastGone = r
			}
		}
		inAll = kept
	}
}

// outcomes says what became of every element.
func (c *checker) outcomes() {
	var stable, lost []time.Duration
	for n := range c.elements {
		e := &c.elements[n]
		if e.add == None {
			continue
		}
		missed := e.lastGone != None && c.ops[e.lastGone].Call > e.known
		gone := e.lastGone != None && (e.lastPresent == None || c.after(e.lastGone, e.lastPresent))
		switch {
		case missed && gone:
			c.Lost++
			var latency time.Duration
			if e.lastPresent != None {
				latency = max(0, c.ops[e.lastPresent].Call+1-e.known)
			}
			lost = append(lost, latency)
			c.found(Lost, e.lastGone, e.knownBy, int32(n))
		case e.lastPresent != None && !gone:
			c.Stable++
			var latency time.Duration
			if missed {
				latency = c.ops[e.lastGone].Call + 1 - e.known
				c.Stale++
				c.found(StaleRead, e.lastGone, e.knownBy, int32(n))
			}
			stable = append(stable, latency)
		default:
			c.NeverRead++
		}
	}
	c.StableLatency, c.LostLatency = latency(stable), latency(lost)
}

// after reports whether read a was called after read b.
func (c *checker) after(a, b int32) bool {
	return cmp.Or(cmp.Compare(c.ops[a].Call, c.ops[b].Call), cmp.Compare(a, b)) > 0
}

func latency(all []time.Duration) Latency {
	if len(all) == 0 {
		return Latency{}
	}
	slices.Sort(all)
	return Latency{P50: all[len(all)/2], Max: all[len(all)-1], N: len(all)}
}

// order tests what is left when no single element is at fault: the reads must
// form a chain of sets, and elements must have been added in the order in which
// the chain has them.
func (c *checker) order() {
	chain := slices.Clone(c.reads)
	slices.SortStableFunc(chain, func(a, b int32) int { return cmp.Compare(len(c.ops[a].Elements), len(c.ops[b].Elements)) })
	first := make([]int32, len(c.elements)) // place in the chain of the first read that has it
	for e := range first {
		first[e] = math.MaxInt32
	}
	for place, r := range chain {
		c.mark++
		for _, n := range c.ops[r].Elements {
			c.seen[n] = c.mark
			first[n] = min(first[n], int32(place))
		}
		if place == 0 {
			continue
		}
		for _, n := range c.ops[chain[place-1]].Elements {
			if c.seen[n] != c.mark {
				c.found(NotLinearizable, chain[place-1], r, n)
				return
			}
		}
	}
	// An add that had returned when another was called must not come later in
	// the chain.
	var called, returned []int32
	for e := range c.elements {
		if a := c.elements[e].add; a != None {
			called = append(called, a)
			if !c.ops[a].Open {
				returned = append(returned, a)
			}
		}
	}
	slices.SortStableFunc(called, func(a, b int32) int { return cmp.Compare(c.ops[a].Call, c.ops[b].Call) })
	slices.SortStableFunc(returned, func(a, b int32) int { return cmp.Compare(c.ops[a].Return, c.ops[b].Return) })
	latest := None
	for _, a := range called {
		for ; len(returned) > 0 && c.ops[returned[0]].Return < c.ops[a].Call; returned = returned[1:] {
			if latest == None || first[c.ops[returned[0]].Element] > first[c.ops[latest].Element] {
				latest = returned[0]
			}
		}
		e := c.ops[a].Element
		if latest != None && first[c.ops[latest].Element] > first[e] {
			c.found(NotLinearizable, chain[first[e]], latest, e)
		}
	}
}
