package loadgen

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"statequake/history"
	"statequake/history/model"
)

// ClientConfig says where a Client sends operations.
type ClientConfig struct {
	Endpoints []Endpoint
	Codec     Codec
	Timeout   time.Duration // of an operation from its sending, retries included; also for its wait to be sent
	Retry     Retry
	Route     string // as in Config
	MaxConns  int    // operations on their way at a time, 0 means 1,024; the others wait, and that is part of their latency
	MaxBody   int    // as in Config

	Seed   int64                // decides with n which operations are duplicated
	Now    func() time.Duration // run clock: monotonic, concurrent-safe
	Record func(*history.Op)    // called once per operation when it is complete, concurrently; the callee must not keep it
}

// Client sends operations that somebody else decides on, by the rules of the
// driver http: the same retries, outcomes and records. Its methods may be called
// concurrently. A Client must be closed.
type Client struct {
	c      ClientConfig
	sender *sender
	free   chan struct{} // holds one for every operation on its way
	done   chan struct{}
	watch  sync.WaitGroup

	pending sync.WaitGroup // operations on their way
}

// NewClient checks the config and returns a Client. Nothing is sent yet.
func NewClient(c ClientConfig) (*Client, error) {
	t := target{c.Endpoints, c.Codec, c.Timeout, "client", c.Now, c.Record, c.MaxBody}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	switch {
	case c.Retry.Max < 0 || c.Retry.Max > maxRetries:
		return nil, fmt.Errorf("client: retry.max: %d is outside 0 to %d", c.Retry.Max, maxRetries)
	case !(c.Retry.Duplicate >= 0 && c.Retry.Duplicate <= 1):
		return nil, fmt.Errorf("client: retry.duplicate: %v is outside 0 to 1", c.Retry.Duplicate)
	case c.Route != "" && c.Route != "spread" && c.Route != "owner":
		return nil, fmt.Errorf("client: unknown route %q; have spread, owner", c.Route)
	case c.MaxConns < 0:
		return nil, fmt.Errorf("client: max conns: %d is negative", c.MaxConns)
	}
	c.MaxConns = cmp.Or(c.MaxConns, defaultMaxConns)
	conns := c.MaxConns
	if c.Retry.Duplicate > 0 {
		conns *= 2
	}
	client := &Client{c: c, sender: t.sender(conns), free: make(chan struct{}, c.MaxConns), done: make(chan struct{})}
	client.sender.retries = c.Retry.Max
	if c.Route == "owner" {
		client.sender.owners = newOwners(c.Endpoints)
	}
	client.watch.Go(func() { client.sender.meter.watch(client.done) })
	return client, nil
}

// OpID is the id of operation n of a phase in the run that has the tag.
func OpID(tag string, phase history.Phase, n int64) string { return opID(tag, phase, n) }

// Invoke carries an operation through to its end, records it and returns it
// complete. ID, N, Phase, Client, Entity, Key, Name, Args and Scheduled must be
// set; Scheduled may be past. An operation that is still not sent when the timeout
// is over since then is unsent.
//
// When ctx is done nothing new is sent, retries included; an answer on its way is
// awaited within the timeout.
func (c *Client) Invoke(ctx context.Context, op history.Op) history.Op {
	op.Version = -1
	f := &flight{op: op, legs: 1, expires: op.Scheduled + c.c.Timeout, handed: true}
	f.route = int(op.N % int64(len(c.c.Endpoints)))
	if c.sender.owners != nil {
		f.route = c.sender.owners.route(op.Entity, op.Key, f.route)
	}
	if chance(c.c.Seed, op.N) < c.c.Retry.Duplicate {
		f.legs = 2
	}
	c.sender.meter.dispatched(op.Client, 1)
	c.pending.Add(1)
	defer c.pending.Done()
	if c.wait(ctx, f.expires) {
		defer func() { <-c.free }()
	}
	var second sync.WaitGroup
	if f.legs == 2 {
		second.Go(func() { c.sender.send(ctx, f, 1, op.Client) })
	}
	c.sender.send(ctx, f, 0, op.Client)
	second.Wait()
	return *f.best
}

// wait waits for the right to send until an instant of the run clock; false if
// that does not come.
func (c *Client) wait(ctx context.Context, until time.Duration) bool {
	select {
	case c.free <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(until - c.c.Now())
	defer timer.Stop()
	select {
	case c.free <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// Unsent records an operation that was due and that nobody came to send. It
// needs the same fields as for Invoke, and Error, which says why.
func (c *Client) Unsent(op history.Op) {
	op.Outcome, op.Version = history.Unsent, -1
	c.sender.meter.complete(&op, false)
	c.c.Record(&op)
}

// Stats returns the state of the client.
func (c *Client) Stats() Stats { return c.sender.meter.stats() }

// Identity returns an error unless exactly so many operations of each phase were
// recorded.
func (c *Client) Identity(scheduled map[history.Phase]int64) error {
	return c.sender.identity(scheduled)
}

// Close waits for the operations on their way and closes the connections. No
// operation may be added any more.
func (c *Client) Close() {
	c.pending.Wait()
	close(c.done)
	c.watch.Wait()
	c.sender.wire.close()
}

// Pace calls due once for every operation of an arrival process at the instant it
// is due, counted from start on the run clock now, late ones at once. It returns
// at end, also counted from start, or when ctx is done: how many it handed out and
// the instant at which it stopped, which is after all of those. due must not
// block.
func Pace(ctx context.Context, now func() time.Duration, start, end time.Duration, arrivals Arrivals, due func(n int64, at time.Duration)) (n int64, stop time.Duration) {
	p := pacer{now: now, start: start, end: end, arrivals: arrivals}
	done := make(chan struct{})
	go func() { // a goroutine of its own, so that the caller's thread stays as it is
		defer close(done)
		defer exact()()
		for p.wait(ctx) {
			due(p.take())
		}
	}()
	<-done
	return p.next, p.stop
}

// Touches returns the entities that an operation is about: the one that it is
// sent to or, of an action, those that the action calls.
func Touches(op *history.Op) []EntityKey {
	if !model.Action(op.Entity) {
		return []EntityKey{{op.Entity, op.Key}}
	}
	var keys []EntityKey
	for _, effect := range model.Derived(op.Entity, op.Key, op.Name, op.Args, op.ID) {
		if key := (EntityKey{effect.Entity, effect.Key}); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Own watches this process as a load generator whose operations somebody else
// sends. Its methods may be called concurrently.
type Own struct {
	m    *meter
	done chan struct{}
	once sync.Once
}

// WatchOwn begins to watch for times in which this process does not get to run,
// until End.
func WatchOwn(now func() time.Duration) *Own {
	o := &Own{m: newMeter(now), done: make(chan struct{})}
	go o.m.watch(o.done)
	return o
}

// Handed counts n more operations as handed out.
func (o *Own) Handed(n int64) { o.m.dispatched(0, n) }

// Lagged counts how late one operation was handed out.
func (o *Own) Lagged(lag time.Duration) { o.m.lagged(lag) }

// Sample is what was seen so far, with the resources of this process.
func (o *Own) Sample() history.Sample {
	s, st := OwnSample(o.m.now()), o.m.stats()
	s.LagP50, s.LagP99, s.LagMax, s.StallMax, s.Dispatched = st.LagP50, st.LagP99, st.LagMax, st.StallMax, st.Dispatched
	return s
}

// End ends the watch.
func (o *Own) End() { o.once.Do(func() { close(o.done) }) }
