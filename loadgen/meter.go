package loadgen

import (
	"sync"
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
	now func() time.Duration

	mu       sync.Mutex
	handed   int64
	flying   int64
	outcomes map[history.Outcome]int64
	recorded map[history.Phase]int64
	second   int64                   // the window is this second of the run clock
	window   *hdrhistogram.Histogram // latencies of ok operations
	rate     float64                 // of the second before
	p50, p99 time.Duration
	stall    time.Duration

	// Apart from mu: whoever waits for this one makes an operation late.
	lagMu  sync.Mutex
	lag    *hdrhistogram.Histogram
	lagMax time.Duration

	own *ownDelay
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(time.Hour), 2)
}

func newMeter(now func() time.Duration) *meter {
	return &meter{
		now: now, outcomes: map[history.Outcome]int64{}, recorded: map[history.Phase]int64{},
		window: newHistogram(), lag: newHistogram(), own: newOwnDelay(),
	}
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

// dispatched counts n more operations as handed out.
func (m *meter) dispatched(n int64) {
	m.mu.Lock()
	m.handed += n
	m.flying += n
	m.mu.Unlock()
}

// complete counts an operation that is about to be recorded.
func (m *meter) complete(op *history.Op, dispatched bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recorded[op.Phase]++
	m.outcomes[op.Outcome]++
	if dispatched {
		m.flying--
	}
	m.roll()
	if op.Outcome == history.OK {
		observe(m.window, op.Latency())
	}
}

// roll closes the window if its second is over.
func (m *meter) roll() {
	second := int64(m.now() / time.Second)
	if second == m.second {
		return
	}
	m.rate, m.p50, m.p99 = 0, 0, 0
	if second == m.second+1 {
		m.rate = float64(m.window.TotalCount())
		m.p50 = time.Duration(m.window.ValueAtQuantile(50))
		m.p99 = time.Duration(m.window.ValueAtQuantile(99))
	}
	m.second = second
	m.window.Reset()
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
	m.mu.Lock()
	m.roll()
	s := Stats{
		Dispatched: m.handed, InFlight: m.flying,
		OK: m.outcomes[history.OK], Fail: m.outcomes[history.Fail],
		Info: m.outcomes[history.Info], Unsent: m.outcomes[history.Unsent],
		AchievedRate: m.rate, P50: m.p50, P99: m.p99, StallMax: m.stall,
	}
	m.mu.Unlock()
	m.lagMu.Lock()
	defer m.lagMu.Unlock()
	s.LagMax = m.lagMax
	// A bucket is named by its highest value, which may lie above the maximum.
	s.LagP50 = min(time.Duration(m.lag.ValueAtQuantile(50)), m.lagMax)
	s.LagP99 = min(time.Duration(m.lag.ValueAtQuantile(99)), m.lagMax)
	return s
}
