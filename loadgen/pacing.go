package loadgen

import (
	"context"
	"time"
)

// PacingError is how late the pacer of this process hands out operations that
// cost nothing: what the machine adds to every send lag.
type PacingError struct {
	N             int64
	P50, P99, Max time.Duration
}

// MeasurePacing paces 1,000 operations a second for d, in which nothing is sent.
func MeasurePacing(d time.Duration) PacingError {
	began := time.Now()
	now := func() time.Duration { return time.Since(began) }
	m := newMeter(now)
	p := pacer{now: now, end: d, arrivals: Constant(1000)}
	defer exact()()
	for p.wait(context.Background()) {
		_, at := p.take()
		m.lagged(now() - at)
	}
	s := m.stats()
	return PacingError{N: p.next, P50: s.LagP50, P99: s.LagP99, Max: s.LagMax}
}
