package loadgen

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"statequake/history"
)

// sessionsOf runs counters for a second at 400/s as operations of 20 clients.
// hold is called by the node with the number of every operation, before it
// answers.
func sessionsOf(t *testing.T, ctx context.Context, c Config, hold func(n int64)) (ops []history.Op, overlaps int) {
	t.Helper()
	const clients = 20
	w := newTestWorkload(t, WorkloadConfig{Name: "counter", Keys: 5, Seed: 42, Sessions: clients})
	var mu sync.Mutex
	open, order := map[int64]int{}, map[int64]int64{}
	node := startNode(t, "n1", func(conn net.Conn, id string, nth int) bool {
		n, err := strconv.ParseInt(strings.TrimLeft(id[len("7f3a-"):], "lw"), 10, 64)
		if err != nil {
			t.Errorf("op id %s", id)
		}
		mu.Lock()
		if open[n%clients]++; open[n%clients] > 1 {
			overlaps++
		}
		if last, ok := order[n%clients]; ok && last > n {
			t.Errorf("operation %d of client %d was sent after operation %d", n, n%clients, last)
		}
		order[n%clients] = n
		mu.Unlock()
		hold(n)
		mu.Lock()
		open[n%clients]--
		mu.Unlock()
		return okAnswer(conn, id, nth)
	})
	rec := &recorder{}
	c.Endpoints, c.Codec, c.Tag, c.Workload, c.Now, c.Record = endpoints(node), testCodec{}, "7f3a", w, clock(), rec.record
	c.Arrivals, c.Duration = Constant(400), time.Second
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Run(ctx); err != nil { // the identity included
		t.Fatal(err)
	}
	slices.SortFunc(rec.ops, func(a, b history.Op) int { return int(a.N - b.N) })
	last := map[int]history.Op{}
	for _, op := range rec.ops {
		if op.Client != int(op.N%clients) {
			t.Fatalf("operation %d is of client %d", op.N, op.Client)
		}
		if before, ok := last[op.Client]; ok && op.Outcome != history.Unsent && op.Sent < before.Returned {
			t.Errorf("client %d sent operation %d at %v, before the last one ended at %v", op.Client, op.N, op.Sent, before.Returned)
		}
		if op.Outcome != history.Unsent {
			last[op.Client] = op
		}
	}
	return rec.ops, overlaps
}

// TestSessionsAreSequential: when one client's operation is stalled, what is due
// next waits for it, in order, and the wait is latency; nobody else waits. Then
// the whole system stalls, and all of that holds again.
func TestSessionsAreSequential(t *testing.T) {
	const stalled, stall = 63, 400 * time.Millisecond // operation of client 3, due at 157.5 ms
	var began time.Time
	var once sync.Once
	ops, overlaps := sessionsOf(t, context.Background(), Config{Timeout: 5 * time.Second, MaxConns: 20}, func(n int64) {
		once.Do(func() { began = time.Now() })
		if n == stalled {
			time.Sleep(stall)
		}
		if at := time.Since(began); at > 700*time.Millisecond && at < 800*time.Millisecond {
			time.Sleep(800*time.Millisecond - at)
		}
	})
	if overlaps > 0 {
		t.Errorf("%d operations were sent beside another one of their client", overlaps)
	}
	waited := 0
	for _, op := range ops {
		if op.Outcome != history.OK {
			t.Fatalf("operation %d: %s %s", op.N, op.Outcome, op.Error)
		}
		during := op.Scheduled > 160*time.Millisecond && op.Scheduled < 500*time.Millisecond
		switch {
		case during && op.Client == 3:
			waited++
			// Due at most 50 ms one after the other, sent when the stall ends.
			if want := 157500*time.Microsecond + stall - op.Scheduled; op.Latency() < want {
				t.Errorf("operation %d of the stalled client took %v, waited %v at least", op.N, op.Latency(), want)
			}
		case during && op.Latency() > stall/2:
			t.Errorf("operation %d of client %d took %v, although only client 3 was stalled", op.N, op.Client, op.Latency())
		}
	}
	if waited != 7 && waited != 6 {
		t.Errorf("%d operations waited for the stalled client", waited)
	}
}

// What waits for its client longer than its timeout is recorded as unsent, and a
// stop leaves nothing unrecorded.
func TestSessionsThatEnd(t *testing.T) {
	ops, _ := sessionsOf(t, context.Background(), Config{Timeout: 100 * time.Millisecond, MaxConns: 40, Retry: Retry{Duplicate: 0.5}}, func(n int64) {
		if n%20 == 3 {
			time.Sleep(300 * time.Millisecond)
		}
	})
	unsent := 0
	for _, op := range ops {
		if op.Outcome == history.Unsent {
			unsent++
			if op.Client != 3 || !strings.Contains(op.Error, "its client was not done") {
				t.Errorf("operation %d: %s", op.N, op.Error)
			}
		}
	}
	if len(ops) != 400 || unsent < 3 {
		t.Errorf("%d operations recorded, %d unsent", len(ops), unsent)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(300*time.Millisecond, func() { cancel(errors.New("enough")) })
	ops, _ = sessionsOf(t, ctx, Config{Timeout: time.Second, MaxConns: 20}, func(n int64) {
		if n%20 == 3 {
			time.Sleep(200 * time.Millisecond)
		}
	})
	stopped := 0
	for _, op := range ops {
		if op.Outcome == history.Unsent {
			stopped++
		}
	}
	if len(ops) > 300 || stopped == 0 {
		t.Errorf("after a stop %d operations, %d unsent", len(ops), stopped)
	}
}

func TestSessionsAreRefused(t *testing.T) {
	w := func() *Workload { return newTestWorkload(t, WorkloadConfig{Name: "shop", Keys: 5, Sessions: 30}) }
	for want, c := range map[string]Config{
		"a closed loop has none":                       {Clients: 30},
		"driver vegeta has no sessions":                {Arrivals: Constant(1), Driver: "vegeta"},
		"max conns: 29 is less than the 30":            {Arrivals: Constant(1), MaxConns: 29},
		"max conns: 59 is less than the 60 that sessi": {Arrivals: Constant(1), MaxConns: 59, Retry: Retry{Duplicate: 0.01}},
	} {
		c.Endpoints, c.Codec, c.Tag, c.Workload, c.Now = []Endpoint{{Node: "n1", Addr: "127.0.0.1:1"}}, testCodec{}, "7f3a", w(), clock()
		c.Record, c.Timeout, c.Duration = func(*history.Op) {}, time.Second, time.Second
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
