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
// One goroutine keeps the pace and hands each operation to a worker. That a worker
// has to wake up for it is part of the send lag. Workers that keep the pace by
// turns and send themselves were tried: every turn takes another thread and its
// share of GOMAXPROCS into a sleep, and two such loops left the workers of two
// CPUs waiting for hundreds of milliseconds.
type openLoop struct {
	s   *sender
	ctx context.Context
	max int // workers

	mu      sync.Mutex
	idle    []*worker // the last used one at the end
	workers int
	queue   []task // in order of due time, and so of expiry
	closed  bool

	pending  sync.WaitGroup // operations that are not yet recorded
	sessions []session      // clients that wait for their own answers; nil: nobody does
}

// task is one copy of an operation.
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

	p := pacer{now: l.s.now, start: start, end: end, arrivals: arrivals}
	paced := make(chan struct{})
	go func() { // a goroutine of its own, so that the caller's thread stays as it is
		defer close(paced)
		defer exact()()
		for p.wait(ctx) {
			f := flight(p.take())
			l.s.meter.dispatched(0, 1)
			f.handed = true
			l.due(f)
		}
		// Due before the stop, but the pacer was late.
		for n, count := p.next, arrivals.Count(p.stop); n < count; n++ {
			l.due(flight(n, arrivals.At(n)))
		}
	}()
	<-paced

	l.pending.Wait()
	close(done)
	helpers.Wait()
	l.close()
	return p.stop
}

// due starts an operation, or has it wait for its client.
func (l *openLoop) due(f *flight) {
	l.pending.Add(1)
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
	case l.workers < l.max:
		w := &worker{id: l.workers, tasks: make(chan task, 1)}
		l.workers++
		go l.work(w, t)
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
