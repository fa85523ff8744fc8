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
	n, _ := pace(context.Background(), now, 0, d, Constant(1000), func(_ int64, at time.Duration) { m.lagged(now() - at) })
	s := m.stats()
	return PacingError{N: n, P50: s.LagP50, P99: s.LagP99, Max: s.LagMax}
}
