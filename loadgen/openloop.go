package loadgen

import (
	"context"
	"sync"
	"time"
)

// openLoop sends operations when they are due, whatever became of the ones
// before: to a connection that is free, else to a new one, else to a queue. The
// wait in the queue counts as latency.
//
// The worker whose turn it is to keep the pace waits until an operation is due,
// passes the turn on and sends the operation itself: nobody else has to wake up
// for it, and the next one has the time until its own operation is due. (Leader
// and followers: Schmidt et al., Pattern-Oriented Software Architecture 2, 2000.)
type openLoop struct {
	s   *sender
	ctx context.Context
	max int // workers that send at a time; one more keeps the pace

	flight func(n int64, at time.Duration) *flight // as run has it
	pace   pacer                                   // of the worker whose turn it is
	over   chan struct{}                           // closed when arrivals have stopped

	mu      sync.Mutex
	idle    []*worker // the last used one at the end
	workers int
	queue   []task // in order of due time, and so of expiry
	closed  bool

	pending  sync.WaitGroup // operations that are not yet recorded
	sessions []session      // clients that wait for their own answers; nil: nobody does
}

// task is one copy of an operation, or without one the turn to keep the pace.
type task struct {
	f      *flight
	leg    int
	queued bool // it found no worker free
}

// worker is a goroutine that sends one operation at a time, over one connection
// at a time.
type worker struct {
	id    int
	tasks chan task // room for one: an idle worker never blocks the pacer
}

// run sends what arrives from start to end and returns when all of it is
// recorded. flight makes operation n, due at that instant after start; it is
// called for n = 0, 1, ... by one goroutine. run returns the instant after start
// at which arrivals stopped: end, or earlier if ctx was done. Exactly the
// operations due before it are recorded.
func (l *openLoop) run(ctx context.Context, start, end time.Duration, arrivals Arrivals, flight func(n int64, at time.Duration) *flight) (stop time.Duration) {
	l.ctx = ctx
	done := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() { l.reap(done) })
	helpers.Go(func() { l.s.meter.watch(done) })

	l.pace, l.over = pacer{now: l.s.now, start: start, end: end, arrivals: arrivals}, make(chan struct{})
	l.flight = flight
	l.mu.Lock()
	l.spawn(task{})
	l.mu.Unlock()
	<-l.over

	l.pending.Wait()
	close(done)
	helpers.Wait()
	l.close()
	return l.pace.stop
}

// keep has the turn: it starts operations when they are due. It returns an
// operation for the caller to send, after it has passed the turn on; or false
// when arrivals have stopped.
func (l *openLoop) keep() (task, bool) {
	defer exact()()
	for l.pace.wait(l.ctx) {
		n, at := l.pace.take()
		f := l.flight(n, at)
		l.s.meter.dispatched(0, 1)
		f.handed = true
		l.pending.Add(1) // before whoever has the turn next can be done with it
		if f.legs == 1 && l.sessions == nil && l.pace.left() >= handOver && l.passTurn() {
			return task{f: f}, true
		}
		l.due(f)
	}
	// Due before the stop, but the pacer was late.
	for n, count := l.pace.next, l.pace.arrivals.Count(l.pace.stop); n < count; n++ {
		l.pending.Add(1)
		l.due(l.flight(n, l.pace.arrivals.At(n)))
	}
	close(l.over)
	return task{}, false
}

// passTurn passes the turn on to a worker that has nothing to do, and reports
// whether there is one.
func (l *openLoop) passTurn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch last := len(l.idle) - 1; {
	case last >= 0:
		l.idle[last].tasks <- task{}
		l.idle = l.idle[:last]
	case l.workers <= l.max:
		l.spawn(task{})
	default:
		return false
	}
	return true
}

// spawn starts a worker. The caller holds mu.
func (l *openLoop) spawn(t task) {
	w := &worker{id: l.workers, tasks: make(chan task, 1)}
	l.workers++
	go l.work(w, t)
}

// due starts an operation, which is pending, or has it wait for its client.
func (l *openLoop) due(f *flight) {
	if l.sessions != nil {
		f.session = &l.sessions[f.op.Client]
		now := l.s.now()
		if f.session.due(f, l.start) && f.handed {
			l.s.meter.lagged(now - f.op.Scheduled)
		}
		return
	}
	l.start(f)
}

// start hands out all copies of an operation.
func (l *openLoop) start(f *flight) {
	for leg, legs := 0, f.legs; leg < legs; leg++ {
		l.hand(task{f: f, leg: leg})
	}
}

func (l *openLoop) hand(t task) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch last := len(l.idle) - 1; {
	case l.ctx.Err() != nil: // stopped: it will only be recorded, and not by the pacer
		t.queued = true
		l.queue = append(l.queue, t)
	case last >= 0:
		l.idle[last].tasks <- t
		l.idle = l.idle[:last]
	case l.workers <= l.max:
		l.spawn(t)
	default:
		l.lagged(t)
		t.queued = true
		l.queue = append(l.queue, t)
	}
}

// lagged counts the send lag of the first copy of an operation that was handed
// out in the course of the load: when it is about to be sent, or has to queue. Of
// one that waits for its client it was counted when that began.
func (l *openLoop) lagged(t task) {
	if t.leg == 0 && t.f.handed && !t.queued && !t.f.waited {
		l.s.meter.lagged(l.s.now() - t.f.op.Scheduled)
	}
}

func (l *openLoop) work(w *worker, t task) {
	for ok := true; ok; t, ok = l.next(w) {
		if t.f == nil {
			if t, ok = l.keep(); !ok {
				return // or there would be one worker too many
			}
		}
		l.lagged(t)
		l.send(t, w.id)
	}
}

func (l *openLoop) send(t task, client int) {
	if l.s.send(l.ctx, t.f, t.leg, client) {
		l.pending.Done()
	}
}

// next waits for the worker's next task; false means that there is none to come.
func (l *openLoop) next(w *worker) (task, bool) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return task{}, false
	}
	if len(l.queue) > 0 {
		defer l.mu.Unlock()
		return l.pop(), true
	}
	l.idle = append(l.idle, w)
	l.mu.Unlock()
	t, ok := <-w.tasks
	return t, ok
}

// pop takes the oldest task off the queue. The caller holds mu.
func (l *openLoop) pop() task {
	t := l.queue[0]
	l.queue[0] = task{}
	l.queue = l.queue[1:]
	return t
}

// reap ends queued operations that can no longer be sent, until done is closed.
func (l *openLoop) reap(done <-chan struct{}) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		for {
			l.mu.Lock()
			if len(l.queue) == 0 || (l.ctx.Err() == nil && l.s.now() < l.queue[0].f.expires) {
				l.mu.Unlock()
				break
			}
			t := l.pop()
			l.mu.Unlock()
			l.send(t, 0) // too late, so it is only recorded
		}
	}
}

// close ends the workers, all of them idle or about to be, and their connections.
func (l *openLoop) close() {
	l.mu.Lock()
	l.closed = true
	for _, w := range l.idle {
		close(w.tasks)
	}
	l.mu.Unlock()
	l.s.wire.close()
}
