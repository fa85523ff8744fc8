package loadgen

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"time"
)

// Replay is a recorded schedule: after the warmup operations are due at its
// instants, and none after the last. During the warmup they come evenly, at the
// schedule's own rate on average. Use NewReplay.
type Replay struct {
	warmup   time.Duration
	filling  Constant // in the warmup
	before   int64    // operations of the warmup
	instants []time.Duration
	speed    float64
}

// NewReplay returns a schedule whose instants count from its first one, and are
// divided by speed. They must not decrease; the callee keeps them.
func NewReplay(warmup time.Duration, instants []time.Duration, speed float64) (*Replay, error) {
	switch {
	case warmup < 0:
		return nil, fmt.Errorf("replay: warmup %v is negative", warmup)
	case len(instants) == 0:
		return nil, errors.New("replay: the schedule is empty")
	case !(speed > 0 && speed <= math.MaxFloat64):
		return nil, fmt.Errorf("replay: speed %v is not positive", speed)
	}
	for i, at := range instants[1:] {
		if at < instants[i] {
			return nil, fmt.Errorf("replay: instant %d is %v, before the one before it, %v", i+1, at, instants[i])
		}
	}
	r := &Replay{warmup: warmup, instants: instants, speed: speed}
	if warmup > 0 {
		r.filling = Constant(0.5 / warmup.Seconds()) // one operation, where there is no average
		if length := r.instant(len(instants) - 1); length > 0 {
			r.filling = max(r.filling, Constant(min(float64(len(instants)-1)/length.Seconds(), maxRate)))
		}
		r.before = r.filling.Count(warmup)
	}
	return r, nil
}

// instant is when instant i of the schedule is, after the warmup.
func (r *Replay) instant(i int) time.Duration {
	at := r.instants[i] - r.instants[0]
	if r.speed == 1 {
		return at
	}
	ns := float64(at) / r.speed
	if !(ns < float64(math.MaxInt64-r.warmup)) {
		return math.MaxInt64 - r.warmup
	}
	return time.Duration(ns)
}

// At is when operation n is due: the largest duration, which is never, behind the
// last one.
func (r *Replay) At(n int64) time.Duration {
	switch i := n - r.before; {
	case i < 0:
		return r.filling.At(n)
	case i >= int64(len(r.instants)):
		return math.MaxInt64
	default:
		return r.warmup + r.instant(int(i))
	}
}

// Count agrees with At to the nanosecond.
func (r *Replay) Count(until time.Duration) int64 {
	if until <= r.warmup {
		return r.filling.Count(until)
	}
	return r.before + int64(sort.Search(len(r.instants), func(i int) bool { return r.warmup+r.instant(i) >= until }))
}

// Think is how long a client of a closed loop waits from an answer to its next
// operation: the same time always, or an exponentially distributed one that is a
// function of the seed and of the number of the operation that was answered.
type Think struct {
	Mean        time.Duration
	Exponential bool
}

// After is the pause after operation n.
func (t Think) After(seed, n int64) time.Duration {
	if !t.Exponential {
		return t.Mean
	}
	const stream = 0x51a7c3d9 // apart from what else depends on the seed
	return time.Duration(-math.Log1p(-chance(seed^stream, n)) * float64(t.Mean))
}
