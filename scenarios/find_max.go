package scenarios

import (
	"context"
	"fmt"
	"sync"
	"time"

	"statequake/history"
	"statequake/loadgen"
)

const (
	// climbEvery is how often it is looked whether a level broke the bound.
	climbEvery = 100 * time.Millisecond
	// climbGrace is how long the record of an operation may take.
	climbGrace = 250 * time.Millisecond
)

// climb watches a search for the highest rate, and ends the load when the bound
// was broken in two levels in a row: a system that is driven on and on beyond
// what it bears shows nothing more. What the search found is judged later, from
// the history. Its methods may be called concurrently.
type climb struct {
	FindMax
	levels   []float64
	start    time.Duration // of the measured load, on the run clock
	warmup   time.Duration
	arrivals loadgen.Arrivals

	mu     sync.Mutex
	good   []int64 // of each level: operations that were answered ok within the bound
	failed []int64 // and those that were not answered ok
}

func newClimb(l *Load, arrivals loadgen.Arrivals, start time.Duration) *climb {
	f := l.Arrivals.FindMax
	levels := f.Levels()[:min(len(f.Levels()), int(l.Duration/f.Every))] // whole ones
	return &climb{
		FindMax: *f, levels: levels, start: start, warmup: l.Warmup, arrivals: arrivals,
		good: make([]int64, len(levels)), failed: make([]int64, len(levels)),
	}
}

// record counts an operation that is complete.
func (c *climb) record(op *history.Op) {
	at := op.Scheduled - c.start
	level := int(at / c.Every)
	if op.Phase != history.Load || at%c.Every < c.Settle || level >= len(c.levels) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case op.Outcome != history.OK:
		c.failed[level]++
	case op.Latency() <= c.Bound:
		c.good[level]++
	}
}

// broke reports whether the bound was broken in a level. It is certain from Bound
// after the end of the level on: what was not answered by then is too late.
func (c *climb) broke(level int) bool {
	end := c.warmup + time.Duration(level+1)*c.Every
	due := c.arrivals.Count(end) - c.arrivals.Count(end-c.Every+c.Settle)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken(c.good[level], due) || c.failed[level]*100 > due
}

// watch waits until the bound is broken in two levels in a row, and then calls
// end with the reason. It returns when ctx ends.
func (c *climb) watch(ctx context.Context, now func() time.Duration, end context.CancelCauseFunc) {
	tick := time.NewTicker(climbEvery)
	defer tick.Stop()
	for level, row := 0, 0; level < len(c.levels); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if now() < c.start+time.Duration(level+1)*c.Every+c.Bound+climbGrace {
			continue
		}
		if row++; !c.broke(level) {
			row = 0
		}
		if row == 2 {
			end(fmt.Errorf("find_max: %s was above %s at %.0f/s and at %.0f/s", c.Percentile, short(c.Bound), c.levels[level-1], c.levels[level]))
			return
		}
		level++
	}
}
