package recovery

import (
	"math"
	"time"

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

// Late tells whether operation i of the run was answered ok, but late. Audits and
// what else is no traffic are judged as the load is.
func (k *Keys) Late(i int) bool { return i/64 < len(k.late) && k.late[i/64]>>(i%64)&1 != 0 }

func (m *measurement) availability() *Keys {
	k := &Keys{Slow: m.load.alone, late: m.late}
	whole := stats.Window{From: math.MinInt64, To: math.MaxInt64}
	for key, bad := range m.badKeys {
		if !bad {
			continue
		}
		switch worst := m.outage(m.byKey(int32(key)), whole); {
		case worst.dead:
			k.Out = append(k.Out, KeyOutage{Key: int32(key), Dead: true})
		case worst.bad:
			k.Out = append(k.Out, KeyOutage{Key: int32(key), Length: worst.length, Sparse: worst.sparse})
		}
	}
	return k
}
