package loadgen

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"statequake/history"
)

const defaultMaxConns = 1024

// Config says what a Generator sends, when and where.
type Config struct {
	Endpoints []Endpoint
	Codec     Codec
	Workload  Source // fresh, for this Generator alone

	// Driver is what schedules and carries the operations. "http" (also ""): this
	// package's own pacer and connections. "vegeta": the workers of vegeta's
	// Attacker and the connections of net/http, open loop only. Operations, their
	// due times, retries, outcomes and records are the same with both; only an
	// operation that waits for a worker beyond its timeout is recorded as unsent
	// when a worker comes to it, not at the timeout.
	Driver string

	// Either Arrivals (open loop) or Clients (closed loop): so many clients each
	// send their next operation when the last one is complete and they have thought.
	Arrivals Arrivals
	Clients  int
	Think    Think // of clients

	// Operations become due in [0, Warmup+Duration) after Start; those due before
	// Warmup are in the phase warmup, the others in the phase load.
	Start            time.Duration // on the run clock
	Warmup, Duration time.Duration

	Timeout  time.Duration // of an operation from its sending, retries included; in the open loop also for its wait to be sent
	Retry    Retry
	Route    string // where an operation goes first: "spread" (also ""): to the endpoints in turn; "owner": to the node that last executed one of its key
	MaxConns int    // open loop: connections in all, 0 means 1,024; with the driver vegeta operations at a time, and a duplicate takes one connection more; a closed loop needs one per client, two with duplicates
	MaxBody  int    // bytes of an answer's body, 0 means 8 MiB; longer ones are info

	Seed   int64                // decides with n which operations are duplicated, and how long clients think
	Tag    string               // of the run, first part of every op id
	Now    func() time.Duration // run clock: monotonic, concurrent-safe
	Record func(*history.Op)    // called once per operation when it is complete, concurrently; the callee must not keep the op. A slow one costs connections, it does not delay the pacer
}

// Retry says when an operation is sent more than once. All its attempts carry the
// same op id, and each goes to the next endpoint.
//
// Attempts whose connection was refused do not count: they had no effect, and
// are repeated at once on every endpoint, then after 20 to 200 ms, until the
// timeout.
type Retry struct {
	Max       int     // retries after attempts that may have had an effect; twice as many after answers of status 5xx or 429 without effect
	Duplicate float64 // share of the operations, 0 to 1, that are sent twice at the same time on purpose
}

// Source makes the operations of a load: a Workload, or Fixed.
type Source interface {
	// Next returns the next operation: N from 0 on, Entity, Key, Name, Args, and
	// Version -1. One goroutine at a time calls it.
	Next() history.Op
	// Sessions is the number of clients that do one thing after the other, to
	// which the operations belong; 0 if they belong to nobody.
	Sessions() int
	taken() bool // whether Next was called
}

// Result is what a driver did.
type Result struct {
	// Scheduled counts the operations that became due, by phase: computed from
	// the arrival function up to the instant at which arrivals stopped, and not
	// from what was recorded. A closed loop counts the operations handed out.
	Scheduled map[history.Phase]int64
	Stopped   string // why the load ended early, "" if it did not

	Thresholds []history.Threshold // of a script
}

// Generator drives a workload. Use New.
type Generator struct {
	c      Config
	sender *sender
	attack *attack // of the driver vegeta, else nil
	once   sync.Once
}

// New checks the config and returns a Generator for one Run. Nothing is sent yet.
func New(c Config) (*Generator, error) {
	t := target{c.Endpoints, c.Codec, c.Timeout, c.Tag, c.Now, c.Record, c.MaxBody}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	if rate, ok := c.Arrivals.(Constant); ok {
		if err := rate.check(); err != nil {
			return nil, fmt.Errorf("load: arrivals: %w", err)
		}
	}
	switch {
	case c.Workload == nil:
		return nil, errors.New("load: workload must be set")
	case c.Workload.taken():
		return nil, errors.New("load: workload: operations were taken from it already")
	case (c.Arrivals == nil) == (c.Clients <= 0):
		return nil, fmt.Errorf("load: want either arrivals or clients (have %d clients)", c.Clients)
	case c.Think.Mean < 0 || c.Think.Mean > 0 && c.Clients == 0:
		return nil, fmt.Errorf("load: think time %v must not be negative, and is for clients (have %d)", c.Think.Mean, c.Clients)
	case c.Warmup < 0 || c.Duration <= 0:
		return nil, fmt.Errorf("load: warmup %v must not be negative, duration %v must be positive", c.Warmup, c.Duration)
	case c.Retry.Max < 0 || c.Retry.Max > maxRetries:
		return nil, fmt.Errorf("load: retry.max: %d is outside 0 to %d", c.Retry.Max, maxRetries)
	case !(c.Retry.Duplicate >= 0 && c.Retry.Duplicate <= 1):
		return nil, fmt.Errorf("load: retry.duplicate: %v is outside 0 to 1", c.Retry.Duplicate)
	case c.Route != "" && c.Route != "spread" && c.Route != "owner":
		return nil, fmt.Errorf("load: unknown route %q; have spread, owner", c.Route)
	case c.Driver != "" && c.Driver != "http" && c.Driver != "vegeta":
		return nil, fmt.Errorf("load: unknown driver %q; have http, vegeta", c.Driver)
	case c.Driver == "vegeta" && c.Clients > 0:
		return nil, errors.New("load: driver vegeta has no closed loop")
	case c.MaxConns < 0:
		return nil, fmt.Errorf("load: max conns: %d is negative", c.MaxConns)
	case c.Workload.Sessions() > 0 && c.Clients > 0:
		return nil, errors.New("load: sessions have a client for every operation, so a closed loop has none to send it")
	case c.Workload.Sessions() > 0 && c.Driver == "vegeta":
		return nil, errors.New("load: driver vegeta has no sessions")
	}
	if c.MaxConns == 0 {
		c.MaxConns = defaultMaxConns
	}
	if need := ConnsOf(c.Workload.Sessions(), c.Retry.Duplicate); need > c.MaxConns {
		return nil, fmt.Errorf("load: max conns: %d is less than the %d that sessions need", c.MaxConns, need)
	}
	if c.Clients > 0 {
		c.MaxConns = 2 * c.Clients
	}
	g := &Generator{c: c, sender: t.sender(c.MaxConns)}
	g.sender.retries = c.Retry.Max
	if c.Route == "owner" {
		g.sender.owners = newOwners(c.Endpoints)
	}
	if c.Driver == "vegeta" {
		conns := c.MaxConns
		if c.Retry.Duplicate > 0 {
			conns *= 2
		}
		g.sender.wire = newNetHTTP(c.Endpoints, conns, c.MaxBody)
		g.attack = &attack{
			s: g.sender, start: c.Start, end: c.Warmup + c.Duration, arrivals: c.Arrivals,
			flight: g.flight, max: c.MaxConns, made: map[int64]*flight{},
		}
	}
	return g, nil
}

// maxRetries is as good as no limit; the timeout comes first.
const maxRetries = 1_000_000

// Run sends the workload and returns when every operation is recorded, at most
// the timeout (and the time Record takes) after the end of the load.
//
// When ctx is done the load ends there: nothing new is sent, retries included;
// answers on their way are awaited within the timeout; what was due and not sent
// is recorded as unsent. That is no error, Result.Stopped tells it.
//
// The error says that the generator itself is at fault: the operations recorded
// are not those scheduled.
func (g *Generator) Run(ctx context.Context) (Result, error) {
	first := false
	g.once.Do(func() { first = true })
	if !first {
		return Result{}, errors.New("load: a Generator runs only once")
	}
	end := g.c.Warmup + g.c.Duration
	var scheduled map[history.Phase]int64
	var stop time.Duration
	if g.c.Clients > 0 {
		scheduled, stop = g.closedLoop(ctx, end)
	} else {
		if g.attack != nil {
			stop = g.attack.run(ctx)
		} else {
			loop := &openLoop{s: g.sender, max: g.c.MaxConns, sessions: sessions(g.c.Workload.Sessions())}
			stop = loop.run(ctx, g.c.Start, end, g.c.Arrivals, g.flight)
		}
		warmup := g.c.Arrivals.Count(min(stop, g.c.Warmup))
		scheduled = map[history.Phase]int64{
			history.Warmup: warmup,
			history.Load:   g.c.Arrivals.Count(stop) - warmup,
		}
	}
	r := Result{Scheduled: scheduled}
	if stop < end {
		r.Stopped = fmt.Sprintf("stopped at %v of %v: %v", max(stop, 0).Round(time.Millisecond), end, context.Cause(ctx))
	} else if ctx.Err() != nil {
		r.Stopped = fmt.Sprintf("stopped while the last operations were in flight: %v", context.Cause(ctx))
	}
	if err := g.sender.identity(scheduled); err != nil {
		return r, fmt.Errorf("load: %w", err)
	}
	return r, nil
}

// identity checks that exactly the operations scheduled were recorded.
func (s *sender) identity(scheduled map[history.Phase]int64) error {
	recorded := s.meter.recorded()
	for phase, n := range scheduled {
		if got := recorded[phase]; got != n {
			return fmt.Errorf("identity: %d operations of phase %s were scheduled, %d recorded", n, phase, got)
		}
	}
	return nil
}

// Stats returns the state of the run. Safe for concurrent use.
func (g *Generator) Stats() Stats {
	if g.attack != nil {
		g.attack.tally()
	}
	return g.sender.meter.stats()
}

// flight makes the next operation, due at that instant after Start.
func (g *Generator) flight(n int64, at time.Duration) *flight {
	f := &flight{op: g.c.Workload.Next()}
	g.prepare(f, n, at)
	return f
}

// prepare makes f, which holds operation n, its flight, due at that instant after
// Start.
func (g *Generator) prepare(f *flight, n int64, at time.Duration) {
	f.renew()
	op := &f.op
	op.Phase = history.Load
	if at < g.c.Warmup {
		op.Phase = history.Warmup
	}
	op.ID = opID(g.c.Tag, op.Phase, n)
	op.Scheduled = g.c.Start + at
	f.expires = op.Scheduled + g.c.Timeout
	f.route = int(n % int64(len(g.c.Endpoints)))
	if g.sender.owners != nil {
		f.route = g.sender.owners.route(op.Entity, op.Key, f.route)
	}
	if chance(g.c.Seed, n) < g.c.Retry.Duplicate {
		f.legs = 2
	}
}

// closedLoop runs the clients and returns how many operations they were handed
// and the instant after Start at which that ended: end, or earlier if ctx was
// done.
func (g *Generator) closedLoop(ctx context.Context, end time.Duration) (scheduled map[history.Phase]int64, stop time.Duration) {
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { g.sender.meter.watch(done) })
	stop = end

	var mu sync.Mutex // one sequence for all clients, so that op n does not depend on who sends it
	var n, warmup int64
	next := func(client int, f *flight) bool {
		mu.Lock()
		at := g.c.Now() - g.c.Start
		if ctx.Err() != nil {
			stop = min(stop, at)
			mu.Unlock()
			return false
		}
		if at >= end {
			mu.Unlock()
			return false
		}
		f.op = g.c.Workload.Next()
		number := n
		n++
		if at < g.c.Warmup {
			warmup = n
		}
		mu.Unlock()
		g.prepare(f, number, at)
		f.handed = true
		g.sender.meter.dispatched(client, 1)
		return true
	}

	var clients sync.WaitGroup
	for client := range g.c.Clients {
		clients.Go(func() {
			rest(ctx, g.c.Start-g.c.Now())
			for f := new(flight); next(client, f); {
				var second sync.WaitGroup
				if f.legs == 2 {
					second.Go(func() { g.sender.send(ctx, f, 1, client) })
				}
				g.sender.send(ctx, f, 0, client)
				second.Wait()
				if g.c.Think.Mean > 0 {
					rest(ctx, min(g.c.Think.After(g.c.Seed, f.op.N), g.c.Start+end-g.c.Now()))
				}
			}
		})
	}
	clients.Wait()
	close(done)
	watch.Wait()
	g.sender.wire.close()
	return map[history.Phase]int64{history.Warmup: warmup, history.Load: n - warmup}, stop
}
