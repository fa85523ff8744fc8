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

// sweep calls bad(a, b) for every b that was sent strictly after an operation
// with a larger point had returned; of those, a has the largest. It sorts obs.
// O(n log n).
func sweep(obs []observation, bad func(a, b *observation)) {
	returned := slices.Clone(obs)
	slices.SortFunc(returned, func(a, b observation) int { return cmp.Compare(a.returned, b.returned) })
	slices.SortFunc(obs, func(a, b observation) int { return cmp.Compare(a.sent, b.sent) })
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

// observations places every operation of the key that S places.
func (k *key) observations() []observation {
	obs := make([]observation, 0, len(k.ops))
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
	for _, i := range k.ops {
		if op := &k.run.Ops[i]; k.pos[i] > 0 && (op.Outcome == history.Info || sentAgain(op)) {
			obs = append(obs, observation{op: op, point: point{pos: int64(k.pos[i])}, sent: op.Sent, returned: k.doneBy(i)})
		}
	}
	return obs
}

// order judges that S respects real time, for the durable contract.
func (k *key) order() { sweep(k.observations(), k.misplaced) }

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
