package recovery

import (
	"math"
	"time"

	"statequake/history"
	"statequake/reports/stats"
)

// Keys is how available the keys of a run were, from its first operation to its
// last, whether a fault explains it or not. What is bad is said at Recovery;
// without a fault, everything up to the end of the load tells what is usual.
type Keys struct {
	// Slow is how long after it was sent an ok answer of the load is always late.
	// It is shorter while most others are late, too.
	Slow time.Duration
	// Out are the keys with a bad operation of warmup, load or probes, by Key.
	Out []KeyOutage

	late []uint64 // a bit for every operation
}

// KeyOutage is the worst outage of one key; see Outage.
type KeyOutage struct {
	Key    int32         // index into trace.Ops.Keys
	Length time.Duration // of what is proven, if Sparse; 0 if Dead
	Sparse bool          // nobody knows when it was well again
	Dead   bool          // it was asked again, and never answered ok until the end of the run
}

// Late tells whether operation i of the run was answered ok, and late.
func (k *Keys) Late(i int) bool { return i/64 < len(k.late) && k.late[i/64]>>(i%64)&1 != 0 }

func (m *measurement) availability() *Keys {
	k := &Keys{Slow: m.load.alone, late: make([]uint64, (m.Ops.Len()+63)/64)}
	for i := range m.Ops.Len() {
		if op, kind := m.at(int32(i)); kind.Outcome == history.OK && traffic(kind) && m.bad(op, kind) {
			k.late[i/64] |= 1 << (i % 64)
		}
	}
	whole := stats.Window{From: math.MinInt64, To: math.MaxInt64}
	for key := range int32(len(m.ends)) {
		switch worst := m.outage(m.byKey(key), whole); {
		case worst.dead:
			k.Out = append(k.Out, KeyOutage{Key: key, Dead: true})
		case worst.bad:
			k.Out = append(k.Out, KeyOutage{Key: key, Length: worst.length, Sparse: worst.sparse})
		}
	}
	return k
}
