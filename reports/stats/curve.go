package stats

import (
	"math"
	"time"
)

// Curve is a latency distribution for an axis of percentiles: those from 50 to
// 99.9999, with curveSteps between 90 and 99 as between 99 and 99.9. Latencies are
// as in Summary. Of n operations a percentile beyond 100 - 50/n is the maximum,
// which says nothing about the percentile: the curve ends there. That of no
// operation is empty.
type Curve struct {
	N       int64
	Percent []float64
	Latency []time.Duration
}

// Curves are the distributions of the Latency of the same name.
type Curves struct{ All, Steady, DuringFaults Curve }

const (
	curveSteps = 20
	curveNines = 6 // the last percentile is 1 - 10^-6
)

func (h *histogram) curve() Curve {
	c := Curve{N: h.hdr.TotalCount()}
	if c.N == 0 {
		return c
	}
	last := 100 - 50/float64(c.N)
	add := func(percent float64) {
		if percent < last {
			c.Percent = append(c.Percent, percent)
		}
	}
	add(50)
	for i := range curveNines*curveSteps + 1 {
		percent := 100 * (1 - math.Pow(10, -float64(i)/curveSteps))
		if i%curveSteps == 0 { // 90, 99 and so on are no matter of rounding
			percent = 100 - math.Pow10(2-i/curveSteps)
		}
		if percent > 50 {
			add(percent)
		}
	}
	for _, v := range h.hdr.ValueAtPercentilesSlice(c.Percent) {
		c.Latency = append(c.Latency, min(time.Duration(v), h.max))
	}
	if last <= 100*(1-math.Pow10(-curveNines)) {
		c.Percent, c.Latency = append(c.Percent, last), append(c.Latency, h.max)
	}
	return c
}
