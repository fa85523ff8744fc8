package loadgen

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"statequake/history"
)

// Stats is what a Generator did so far. Durations from histograms are exact to
// 1 %, maxima are exact.
type Stats struct {
	Dispatched int64 // operations handed out to be sent
	OK         int64
	Fail       int64
	Info       int64
	Unsent     int64
	InFlight   int64 // handed out and not complete, those waiting for a connection included

	// Over the last complete second of the run clock; the percentiles are of the
	// latencies of the operations that were answered ok in it, 0 if none was.
	AchievedRate float64 // operations answered ok, per second
	P50, P99     time.Duration

	// Send lag is the delay of the generator itself: from the instant an
	// operation was due to the instant at which its worker, awake, was about to
	// send it. The wait for a free connection is the system's doing and left out:
	// the lag of an operation that finds none ends when it joins the queue. The
	// driver vegeta has no queue: there the lag counts from the instant one of
	// the workers was free again, if that is later than the due time. Closed loops
	// have none.
	LagP50, LagP99, LagMax time.Duration
	// StallMax is the longest time that a goroutine with nothing to do but to
	// wake every 10 ms was late.
	StallMax time.Duration
}

// meter counts. Safe for concurrent use.
type meter struct {
	now    func() time.Duration
	shards [meterShards]meterShard

	mu    sync.Mutex
	stall time.Duration

	// Apart from mu: whoever waits for this one makes an operation late.
	lagMu  sync.Mutex
	lag    *hdrhistogram.Histogram
	lagMax time.Duration

	own *ownDelay
}

const meterShards = 8

// meterShard counts for some of the clients, so that clients at work on other
// CPUs do not wait for each other.
type meterShard struct {
	handed atomic.Int64

	mu       sync.Mutex
	flown    int64 // of those handed out, the complete ones
	outcomes history.Counts
	recorded map[history.Phase]*int64
	last     [2]window // an operation that was answered in a second is counted in the next one at times
	_        [64]byte  // the next one is on another cache line
}

// window holds the latencies of the operations answered ok in one second of the
// run clock.
type window struct {
	second  int64
	latency *hdrhistogram.Histogram // nil: none in any second
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(time.Hour), 2)
}

func newMeter(now func() time.Duration) *meter {
	return &meter{now: now, lag: newHistogram(), own: newOwnDelay()}
}

// observe records a duration; those beyond an hour count as an hour.
func observe(h *hdrhistogram.Histogram, d time.Duration) {
	h.RecordValue(int64(min(max(d, 0), time.Hour))) // in range, so it cannot fail
}

func (m *meter) lagged(d time.Duration) {
	m.lagMu.Lock()
	observe(m.lag, d)
	m.lagMax = max(m.lagMax, d)
	m.lagMu.Unlock()
	m.own.lagged(d)
}

// dispatched counts n more operations as handed out. client may be any.
func (m *meter) dispatched(client int, n int64) { m.shards[client%meterShards].handed.Add(n) }

// complete counts an operation that is about to be recorded.
func (m *meter) complete(op *history.Op, dispatched bool) {
	s := &m.shards[op.Client%meterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.recorded[op.Phase]
	if n == nil {
		if s.recorded == nil {
			s.recorded = map[history.Phase]*int64{}
		}
		n = new(int64)
		s.recorded[op.Phase] = n
	}
	*n++
	s.outcomes.Add(op.Outcome)
	if dispatched {
		s.flown++
	}
	if op.Outcome == history.OK {
		second := int64(op.Returned / time.Second)
		w := &s.last[second%2]
		switch {
		case w.latency == nil:
			w.latency, w.second = newHistogram(), second
		case w.second < second:
			w.latency.Reset()
			w.second = second
		case w.second > second: // two seconds late: nobody asks for it any more
			return
		}
		observe(w.latency, op.Latency())
	}
}

// recorded is the number of operations counted as complete, by phase.
func (m *meter) recorded() map[history.Phase]int64 {
	sum := map[history.Phase]int64{}
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		for phase, n := range s.recorded {
			sum[phase] += *n
		}
		s.mu.Unlock()
	}
	return sum
}

// watch measures stalls until done is closed.
func (m *meter) watch(done <-chan struct{}) {
	const period = 10 * time.Millisecond
	tick := time.NewTicker(period)
	defer tick.Stop()
	for last, over := m.now(), false; !over; {
		select {
		case <-done:
			over = true // a stall that ends at the end counts, too
		case <-tick.C:
		}
		now := m.now()
		m.mu.Lock()
		m.stall = max(m.stall, now-last-period)
		m.mu.Unlock()
		m.own.woke(now - last - period)
		last = now
	}
}

func (m *meter) stats() Stats {
	var s Stats
	before := int64(m.now()/time.Second) - 1
	latency := newHistogram()
	for i := range m.shards {
		shard := &m.shards[i]
		shard.mu.Lock()
		s.OK += shard.outcomes.OK
		s.Fail += shard.outcomes.Fail
		s.Info += shard.outcomes.Info
		s.Unsent += shard.outcomes.Unsent
		s.InFlight -= shard.flown
		for _, w := range shard.last {
			if w.latency != nil && w.second == before {
				latency.Merge(w.latency)
			}
		}
		shard.mu.Unlock()
	}
	for i := range m.shards { // after what is complete, so that no fewer can be in flight
		s.Dispatched += m.shards[i].handed.Load()
	}
	s.InFlight += s.Dispatched
	if n := latency.TotalCount(); n > 0 {
		s.AchievedRate = float64(n)
		s.P50 = time.Duration(latency.ValueAtQuantile(50))
		s.P99 = time.Duration(latency.ValueAtQuantile(99))
	}
	m.mu.Lock()
	s.StallMax = m.stall
	m.mu.Unlock()
	m.lagMu.Lock()
	defer m.lagMu.Unlock()
	s.LagMax = m.lagMax
	// A bucket is named by its highest value, which may lie above the maximum.
	s.LagP50 = min(time.Duration(m.lag.ValueAtQuantile(50)), m.lagMax)
	s.LagP99 = min(time.Duration(m.lag.ValueAtQuantile(99)), m.lagMax)
	return s
}
