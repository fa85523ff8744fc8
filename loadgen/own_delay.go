package loadgen

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// ownDelay measures how much of an operation's latency may be the generator's
// own: its send lag, and the time that a goroutine which is ready to run, as one
// whose answer has come, waits for its turn. Safe for concurrent use.
type ownDelay struct {
	mu              sync.Mutex
	lag, wake       *hdrhistogram.Histogram
	lagMax, wakeMax time.Duration
}

func newOwnDelay() *ownDelay { return &ownDelay{lag: newHistogram(), wake: newHistogram()} }

// lagged adds a send lag.
func (d *ownDelay) lagged(by time.Duration) {
	d.mu.Lock()
	observe(d.lag, by)
	d.lagMax = max(d.lagMax, by)
	d.mu.Unlock()
}

// woke adds how late a goroutine ran that had nothing to do but to wake.
func (d *ownDelay) woke(late time.Duration) {
	d.mu.Lock()
	observe(d.wake, late)
	d.wakeMax = max(d.wakeMax, late)
	d.mu.Unlock()
}

// take returns what there was since the call before: the sum of the 99th
// percentiles and the sum of the maxima of both delays.
func (d *ownDelay) take() (p99, most time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, part := range []struct {
		h   *hdrhistogram.Histogram
		max *time.Duration
	}{{d.lag, &d.lagMax}, {d.wake, &d.wakeMax}} {
		p99 += min(time.Duration(part.h.ValueAtQuantile(99)), *part.max)
		most += *part.max
		part.h.Reset()
		*part.max = 0
	}
	return p99, most
}

// TakeOwnDelay returns how much of an operation's latency may have been the
// generator's own since the call before: the 99th percentile and the largest of
// its send lag, each with that of the lateness of a goroutine that has nothing to
// do but to wake every 10 ms. Both are 0 if there was nothing. One caller alone
// should use it.
func (g *Generator) TakeOwnDelay() (p99, most time.Duration) { return g.sender.meter.own.take() }
