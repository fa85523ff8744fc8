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
// answers. overlaps counts the operations that came to the node before their
// client's last one had been answered, or after a later one of it.
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
			overlaps++
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
	c.Endpoints, c.Codec, c.Tag, c.Workload, c.Record = endpoints(node), testCodec{}, "7f3a", w, rec.record
	if c.Now == nil {
		c.Now = clock()
	}
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
	mu.Lock()
	defer mu.Unlock()
	return rec.ops, overlaps
}

// TestSessionsAreSequential: while one client's operation is stalled, what it
// does next waits, in order, and the wait is latency; all others go on. Then the
// whole system stalls, with one operation of every client in it.
func TestSessionsAreSequential(t *testing.T) {
	const stalled = 63 // operation of client 3
	now := clock()
	var mu sync.Mutex
	seen, held := 0, 0
	var released time.Duration
	goOn, allHeld := make(chan struct{}), make(chan struct{})
	await := func(c chan struct{}, what string) {
		select {
		case <-c:
		case <-time.After(10 * time.Second):
			t.Errorf("after 10 s still waiting for %s", what)
		}
	}
	ops, overlaps := sessionsOf(t, context.Background(), Config{Timeout: 30 * time.Second, MaxConns: 20, Now: now}, func(n int64) {
		switch {
		case n == stalled:
			await(goOn, "the operations of other clients")
		case n > stalled && n <= stalled+120 && n%20 != 3:
			mu.Lock()
			if seen++; seen == 114 { // six for each of the others
				released = now()
				close(goOn)
			}
			mu.Unlock()
		case n >= 300 && n < 320:
			mu.Lock()
			if held++; held == 20 {
				close(allHeld)
			}
			mu.Unlock()
			await(allHeld, "an operation of every client at once")
		}
	})
	if overlaps > 0 {
		t.Errorf("%d operations were sent beside another one of their client, or out of order", overlaps)
	}
	waited := 0
	for _, op := range ops {
		if op.Outcome != history.OK {
			t.Fatalf("operation %d: %s %s", op.N, op.Outcome, op.Error)
		}
		if op.Client == 3 && op.N > stalled && op.Scheduled < released {
			waited++
			if op.Sent < released || op.Latency() < released-op.Scheduled {
				t.Errorf("operation %d of the stalled client was sent at %v and took %v; due at %v, released at %v", op.N, op.Sent, op.Latency(), op.Scheduled, released)
			}
		}
	}
	if waited < 5 {
		t.Errorf("%d operations waited for the stalled client", waited)
	}
}

// What waits for its client longer than its timeout is recorded as unsent, and a
// stop leaves nothing unrecorded.
func TestSessionsThatEnd(t *testing.T) {
	ops, _ := sessionsOf(t, context.Background(), Config{Timeout: 100 * time.Millisecond, MaxConns: 40, Retry: Retry{Duplicate: 0.5}}, func(n int64) {
		if n%20 == 3 { // longer than the timeout, twice as long as until the next one
			time.Sleep(300 * time.Millisecond)
		}
	})
	unsent := 0
	for _, op := range ops {
		if op.Outcome == history.Unsent {
			unsent++
			if !strings.Contains(op.Error, "its client was not done") {
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
