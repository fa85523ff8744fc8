package check

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"statequake/history"
)

// never is the return of an operation that may take effect at any time.
const never = time.Duration(math.MaxInt64)

// point is the place of an operation in the order that S gives: a write at
// position i has the point (i, write), a read of version v comes after that
// write and before the next, at (v, read).
type point struct {
	pos  int64
	read bool
}

func (p point) less(q point) bool {
	return p.pos < q.pos || p.pos == q.pos && !p.read && q.read
}

// observation is an operation with its point and its interval.
type observation struct {
	op *history.Op
	point
	sent, returned time.Duration
}

// seenBy is when the effect of an operation was certainly there, and the place
// of the operation.
type seenBy struct {
	returned time.Duration
	place    int64 // of the operation, then the largest so far
}

// place is a number in the order of points.
func (p point) place() int64 {
	if p.read {
		return 2*p.pos + 1
	}
	return 2 * p.pos
}

// sweep calls bad(a, b) for every b that was sent strictly after an operation
// with a larger point had returned; of those, a has the largest. It may sort obs.
// O(n log n); if there is no such b, and obs is in order of return, O(n) where
// intervals are short.
func (w *auditor) sweep(obs []observation, bad func(a, b *observation)) {
	seen := w.mem.seen[:0]
	sorted := true
	for i := range obs {
		o := &obs[i]
		sorted = sorted && (i == 0 || obs[i-1].returned <= o.returned)
		seen = append(seen, seenBy{o.returned, o.place()})
	}
	w.mem.seen = seen
	if !sorted {
		slices.SortFunc(seen, func(a, b seenBy) int { return cmp.Compare(a.returned, b.returned) })
	}
	for i := 1; i < len(seen); i++ {
		seen[i].place = max(seen[i].place, seen[i-1].place)
	}
	n := 0 // seen[:n] had returned
	for i := range obs {
		o := &obs[i]
		n = before(seen, n, o.sent)
		if n > 0 && o.place() < seen[n-1].place {
			misplaced(obs, bad)
			return
		}
	}
}

// before returns how many of seen, which is sorted, returned before sent; it is
// fast if that is near n.
func before(seen []seenBy, n int, sent time.Duration) int {
	low, high := n, n // seen[:low] is before, seen[high:] is not
	for step := 1; high < len(seen) && seen[high].returned < sent; step *= 2 {
		low, high = high+1, min(high+step, len(seen))
	}
	for step := 1; low > 0 && seen[low-1].returned >= sent; step *= 2 {
		low, high = max(low-step, 0), low-1
	}
	for low < high {
		mid := int(uint(low+high) >> 1)
		if seen[mid].returned < sent {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// misplaced does what sweep says, and sorts obs.
func misplaced(obs []observation, bad func(a, b *observation)) {
	returned := slices.Clone(obs)
	slices.SortStableFunc(returned, func(a, b observation) int { return cmp.Compare(a.returned, b.returned) })
	slices.SortStableFunc(obs, func(a, b observation) int { return cmp.Compare(a.sent, b.sent) })
	var a *observation
	next := 0
	for i := range obs {
		b := &obs[i]
		for next < len(returned) && returned[next].returned < b.sent {
			if a == nil || a.less(returned[next].point) {
				a = &returned[next]
			}
			next++
		}
		if a != nil && b.less(a.point) {
			bad(a, b)
		}
	}
}

// observations places every operation of the key that S places. They are valid
// until the next call.
func (k *key) observations() []observation {
	obs := k.mem.obs[:0]
	for i := range k.replies {
		r := &k.replies[i]
		o := observation{op: r.op, sent: r.op.Sent, returned: r.op.Returned}
		switch {
		case r.pos > 0:
			o.point = point{pos: int64(r.pos)}
		case r.same && !r.write:
			o.point = point{pos: r.op.Version, read: true}
		default:
			continue
		}
		obs = append(obs, o)
	}
	for i, op := range k.ops {
		if k.pos[i] > 0 && (op.Outcome == history.Info || sentAgain(op)) {
			obs = append(obs, observation{op: op, point: point{pos: int64(k.pos[i])}, sent: op.Sent, returned: k.doneBy(i)})
		}
	}
	k.mem.obs = obs
	return obs
}

// order judges that S respects real time, for the durable contract.
func (k *key) order() { k.sweep(k.observations(), k.misplaced) }

// misplaced reports that b, sent after a had returned, comes before it.
func (k *key) misplaced(a, b *observation) {
	switch {
	case b.read:
		k.found(StaleRead, fmt.Sprintf("%s, sent at %s, was answered by %s with version %d, but %s",
			opName(b.op), seconds(b.sent), who(b.op), b.pos, showed(a)), a.op, b.op)
	case a.read:
		k.found(FutureRead, fmt.Sprintf("%s; that contains %s at position %d, which was sent only at %s",
			showed(a), opName(b.op), b.pos, seconds(b.sent)), a.op, b.op)
	default:
		k.found(Reordered, fmt.Sprintf("%s; %s was sent only then, at %s, and yet is applied before it, at position %d",
			showed(a), opName(b.op), seconds(b.sent), b.pos), a.op, b.op)
	}
}

// showed says what was known once a had returned.
func showed(a *observation) string {
	if a.read {
		return fmt.Sprintf("%s had been answered by %s with version %d by %s", opName(a.op), who(a.op), a.pos, seconds(a.returned))
	}
	return fmt.Sprintf("%s (position %d) had been acknowledged by %s by %s", opName(a.op), a.pos, who(a.op), seconds(a.returned))
}
