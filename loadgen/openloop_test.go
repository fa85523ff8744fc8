package loadgen

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"statequake/history"
)

// A worker that wakes up late is the generator's doing, a wait for a free one is
// the system's.
func TestLagOfHTTP(t *testing.T) {
	const ms = time.Millisecond
	var at atomic.Int64
	node := startNode(t, "n1", func(conn net.Conn, id string, nth int) bool { return okAnswer(conn, id, nth) })
	g, rec := generator(t, Config{Endpoints: endpoints(node), Timeout: 10 * time.Second})
	s := g.sender
	s.now = func() time.Duration { return time.Duration(at.Load()) }
	l := &openLoop{s: s, ctx: t.Context(), max: 1, closed: true} // closed: a worker ends when the queue is empty
	handOut := func(due, now time.Duration) {
		at.Store(int64(now))
		l.pending.Add(1)
		l.due(&flight{op: history.Op{ID: "x", Entity: "counter", Key: "k", Name: "add", Phase: history.Load, Scheduled: due}, legs: 1, expires: time.Minute, handed: true})
	}
	lagged := func(count int64, longest time.Duration) {
		t.Helper()
		s.meter.lagMu.Lock()
		defer s.meter.lagMu.Unlock()
		if n := s.meter.lag.TotalCount(); n != count || s.meter.lagMax != longest {
			t.Errorf("%d send lags, the longest %v; want %d, %v", n, s.meter.lagMax, count, longest)
		}
	}

	free := &worker{tasks: make(chan task, 1)}
	l.idle, l.workers = []*worker{free}, 2 // the other one keeps the pace
	handOut(1*ms, 2*ms)
	lagged(0, 0) // it has not come to its worker
	at.Store(int64(6 * ms))
	l.work(free, <-free.tasks)
	lagged(1, 5*ms)

	handOut(7*ms, 14*ms) // no worker is free
	lagged(2, 7*ms)
	at.Store(int64(500 * ms))
	l.mu.Lock()
	queued := l.pop()
	l.mu.Unlock()
	l.work(free, queued)
	lagged(2, 7*ms)
	if c := rec.counts(); c.OK != 2 {
		t.Errorf("outcomes %v", c)
	}
}

// There are never more operations on their way than connections allowed, and with
// one connection the pace is still kept.
func TestMaxConns(t *testing.T) {
	for _, conns := range []int{1, 3} {
		var sending, most atomic.Int64
		node := startNode(t, "n1", func(conn net.Conn, id string, nth int) bool {
			n := sending.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(2 * time.Millisecond)
			sending.Add(-1)
			return okAnswer(conn, id, nth)
		})
		g, rec := generator(t, Config{Endpoints: endpoints(node), Arrivals: Constant(400 * float64(conns)), MaxConns: conns, Timeout: 10 * time.Second})
		runAll(t, t.Context(), g, rec)
		if c := rec.counts(); c.OK != int64(120*conns) {
			t.Errorf("%d connections: outcomes %v", conns, c)
		}
		if got := most.Load(); got != int64(conns) {
			t.Errorf("%d connections: at most %d operations were sent at a time", conns, got)
		}
	}
}
