package loadgen

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// attack is the open loop of the vegeta driver: vegeta's Attacker decides which
// of its workers takes which hit, and spawns them; everything that a history
// needs is decided here. Vegeta alone stamps a hit when a worker takes it, so
// that whatever waited for a worker looks fast. Here hit number n is operation
// n, and its due time a function of n.
//
// It is the pacer and the http.RoundTripper of one Attacker, whose own targets
// and results mean nothing.
type attack struct {
	s          *sender
	start, end time.Duration // start on the run clock, end after it
	arrivals   Arrivals
	flight     func(n int64, at time.Duration) *flight // makes operation n; called in order
	max        int                                     // workers

	mu      sync.Mutex
	ctx     context.Context // nil before run
	next    int64           // the operation to make next
	made    map[int64]*flight
	counted int64 // operations counted as dispatched: those below it
	busy    int
	freed   time.Duration // run-clock instant at which the workers last ceased to be all busy
	idle    []int         // client ids not in use
	clients int           // client ids given out so far

	once sync.Once
	stop time.Duration // instant after start at which arrivals stopped
}

// run is openLoop.run by other means.
func (a *attack) run(ctx context.Context) (stop time.Duration) {
	a.mu.Lock()
	a.ctx = ctx
	a.mu.Unlock()
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { a.s.meter.watch(done) })

	attacker := vegeta.NewAttacker(
		vegeta.Workers(min(vegeta.DefaultWorkers, uint64(a.max))),
		vegeta.MaxWorkers(uint64(a.max)),
		vegeta.Client(&http.Client{Transport: a}),
	)
	a.stop = a.end
	// Pace does not see the end of ctx while vegeta waits for a worker. When it
	// does it ends the attack, at most one operation later: no worker is free
	// before Run could return anyway.
	release := context.AfterFunc(ctx, a.halt)
	for range attacker.Attack(anyTarget, a, 0, "") {
	}
	release()
	if ctx.Err() != nil {
		a.halt()
	}

	n := a.next // all hits are complete
	if n > 0 {
		a.stop = max(a.stop, a.arrivals.At(n-1)+1)
	}
	// Due before the stop, but vegeta had not come to them.
	for count := a.arrivals.Count(a.stop); n < count; n++ {
		f := a.flight(n, a.arrivals.At(n))
		f.handed = n < a.counted
		f.legs = 1
		a.s.send(ctx, f, 0, 0)
	}
	close(done)
	watch.Wait()
	a.s.wire.close()
	return a.stop
}

// halt notes the first instant at which ctx is known to be done.
func (a *attack) halt() {
	a.once.Do(func() { a.stop = min(a.s.now()-a.start, a.end) })
}

// anyTarget satisfies vegeta; RoundTrip sends something else.
func anyTarget(t *vegeta.Target) error {
	t.Method, t.URL = http.MethodGet, "http://operation.invalid/"
	return nil
}

// Pace returns when operation number hits is due, or with true at the end of the
// load or of ctx. It does all the waiting itself: vegeta's own sleep overshoots
// by half a millisecond, and would not end with ctx.
func (a *attack) Pace(_ time.Duration, hits uint64) (wait time.Duration, stop bool) {
	at := a.arrivals.At(int64(hits))
	if !a.await(a.start + min(at, a.end)) {
		a.halt()
		return 0, true
	}
	return 0, at >= a.end
}

func (a *attack) await(instant time.Duration) bool {
	if instant <= a.s.now() {
		return a.ctx.Err() == nil
	}
	defer exact()()
	return sleepUntil(a.ctx, a.s.now, instant)
}

// Rate is for vegeta's reports only, which nobody asks for.
func (a *attack) Rate(time.Duration) float64 { return 0 }

// RoundTrip carries the operation of one hit through to its end. Its answer is
// always the same: outcomes are recorded, not told to vegeta.
func (a *attack) RoundTrip(req *http.Request) (*http.Response, error) {
	now := a.s.now()
	n, err := strconv.ParseInt(req.Header.Get("X-Vegeta-Seq"), 10, 64)
	if err != nil {
		return nil, err
	}
	f := a.take(n, now)
	var legs sync.WaitGroup
	for leg, count := 1, f.legs; leg < count; leg++ {
		legs.Go(func() { a.send(f, leg) })
	}
	a.send(f, 0)
	legs.Wait()
	a.free()
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: req}, nil
}

// take returns the operation of hit n, which reached its worker now. Hits come
// in any order, operations are made in theirs.
func (a *attack) take(n int64, now time.Duration) *flight {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ; a.next <= n; a.next++ {
		a.made[a.next] = a.flight(a.next, a.arrivals.At(a.next))
	}
	f := a.made[n]
	delete(a.made, n)
	f.handed = true
	a.count(n + 1)
	// As long as all workers are busy the wait for one is the system's doing.
	a.s.meter.lagged(now - max(f.op.Scheduled, a.freed))
	a.busy++
	return f
}

// free notes that a worker is done with its hit.
func (a *attack) free() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.s.now()
	if a.busy == a.max {
		a.freed = now
		a.countDue(now)
	}
	a.busy--
}

// tally counts what waits for a worker now. Safe for concurrent use with run.
func (a *attack) tally() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy == a.max {
		a.countDue(a.s.now())
	}
}

// countDue counts all operations due before now as dispatched: to the queue for
// a worker, so to speak, that vegeta's blocked loop stands for. The caller holds
// mu and has taken now before.
func (a *attack) countDue(now time.Duration) {
	if a.ctx.Err() == nil { // so now is not after the stop
		a.count(a.arrivals.Count(min(now-a.start, a.end)))
	}
}

// count counts the operations below n as dispatched. The caller holds mu.
func (a *attack) count(n int64) {
	if n > a.counted {
		a.s.meter.dispatched(0, n-a.counted)
		a.counted = n
	}
}

// send sends one copy as a client that has nothing else to do: vegeta does not
// tell its workers apart.
func (a *attack) send(f *flight, leg int) {
	a.mu.Lock()
	client := a.clients
	if last := len(a.idle) - 1; last >= 0 {
		client = a.idle[last]
		a.idle = a.idle[:last]
	} else {
		a.clients++
	}
	a.mu.Unlock()
	a.s.send(a.ctx, f, leg, client)
	a.mu.Lock()
	a.idle = append(a.idle, client)
	a.mu.Unlock()
}
