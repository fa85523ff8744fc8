package k6

import (
	"context"
	"slices"
	"sync"
	"time"

	"statequake/loadgen"
	"statequake/loadgen/script"
)

// pacerConfig says when operations are due.
type pacerConfig struct {
	rate     float64       // per second, evenly spaced
	duration time.Duration // from the first next
	timeout  time.Duration // how late an operation may be taken
}

// pacer hands out the operations of an arrival process when they are due,
// whatever the virtual users do: one that waits for a free user waits in a queue,
// and that is part of its latency. Its methods may be called concurrently.
type pacer struct {
	s    *session
	name string
	c    pacerConfig

	mu      sync.Mutex
	started bool
	start   time.Duration // on the run clock
	stop    chan struct{} // closed when the arrivals have ended
	at      time.Duration // they ended there, after start; what was due before it and not handed out is unsent
	halted  time.Duration // a virtual user was told to end; 0 if none was
	queue   []*Slot
	waiting []chan *Slot
	taken   map[int64]*Slot // handed to a user that did not use it yet
	n       int64           // handed out
	closed  bool
}

// Slot is one operation that is due.
type Slot struct {
	N   int64   `js:"n"`   // its number, from 0
	Due float64 `js:"due"` // ms since the first one
	Lag float64 `js:"lag"` // ms that this process was late to hand it out

	p   *pacer
	due time.Duration // on the run clock
}

// next waits for the next operation. It is nil when there is none any more, or
// ctx is done. expired is called for each operation that nobody came for in time.
func (p *pacer) next(ctx context.Context, expired func()) *Slot {
	p.begin()
	for {
		slot := p.take(ctx)
		if slot == nil || p.s.now() < slot.due+p.c.timeout {
			return slot
		}
		p.drop(slot, "no virtual user was free before its timeout")
		expired()
	}
}

// begin starts the arrivals, the first time.
func (p *pacer) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started {
		return
	}
	p.started, p.start, p.stop = true, p.s.now(), make(chan struct{})
	if conn, _ := p.s.conn(); conn != nil {
		_ = conn.Begin(p.start) // a harness that is gone ends this process
	}
	go func() {
		_, at := loadgen.Pace(p.s.ctx, p.s.now, p.start, p.c.duration, loadgen.Constant(p.c.rate), p.push)
		p.mu.Lock()
		p.at = at
		for _, w := range p.waiting {
			close(w)
		}
		p.waiting = nil
		close(p.stop)
		p.mu.Unlock()
	}()
}

// push hands out one operation.
func (p *pacer) push(n int64, at time.Duration) {
	slot := p.slot(n, at)
	lag := p.s.now() - slot.due
	slot.Lag = ms(lag)
	p.s.own.Lagged(lag)
	p.s.own.Handed(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n = n + 1
	if len(p.waiting) > 0 {
		p.waiting[0] <- slot // has room for it
		p.waiting = p.waiting[1:]
		return
	}
	p.queue = append(p.queue, slot)
}

func (p *pacer) slot(n int64, at time.Duration) *Slot {
	return &Slot{N: n, Due: ms(at), p: p, due: p.start + at}
}

// take waits for the oldest operation in the queue.
func (p *pacer) take(ctx context.Context) *Slot {
	p.mu.Lock()
	if ctx.Err() != nil || p.closed {
		p.halt()
		p.mu.Unlock()
		return nil
	}
	if len(p.queue) > 0 {
		slot := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.taken[slot.N] = slot
		p.mu.Unlock()
		return slot
	}
	select {
	case <-p.stop:
		p.mu.Unlock()
		return nil
	default:
	}
	ready := make(chan *Slot, 1)
	p.waiting = append(p.waiting, ready)
	p.mu.Unlock()
	select {
	case slot := <-ready: // nil at the end
		if slot != nil {
			p.mu.Lock()
			p.taken[slot.N] = slot
			p.mu.Unlock()
		}
		return slot
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		p.halt()
		p.waiting = slices.DeleteFunc(p.waiting, func(w chan *Slot) bool { return w == ready })
		select {
		case slot := <-ready: // meanwhile
			if slot != nil {
				p.queue = slices.Insert(p.queue, 0, slot)
			}
		default:
		}
		return nil
	}
}

// halt notes that a virtual user is told to end: from then on nobody may be
// there to take what is due. The caller holds mu.
func (p *pacer) halt() {
	if p.halted == 0 && p.started {
		p.halted = p.s.now() - p.start
	}
}

// use marks a slot as used; false if it was used before.
func (p *pacer) use(slot *Slot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.taken[slot.N]
	delete(p.taken, slot.N)
	return ok
}

// drop reports a slot that was taken as unsent.
func (p *pacer) drop(slot *Slot, why string) {
	if !p.use(slot) {
		return
	}
	p.s.own.Handed(-1)
	p.report(slot, why)
}

func (p *pacer) report(slot *Slot, why string) {
	p.s.unsent(script.Call{Entity: unsentEntity, Key: p.name, Op: "next", Due: slot.due, Unsent: why})
}

// finish ends the arrivals and reports what was due and not sent.
func (p *pacer) finish() {
	p.mu.Lock()
	started := p.started
	p.mu.Unlock()
	if !started {
		return
	}
	<-p.stop // the session's context is done
	p.mu.Lock()
	p.closed = true
	end := p.at
	if p.halted > 0 {
		end = min(end, p.halted)
	}
	queue := p.queue
	p.queue = nil
	for n, count := p.n, loadgen.Constant(p.c.rate).Count(end); n < count; n++ {
		slot := p.slot(n, loadgen.Constant(p.c.rate).At(n))
		queue = append(queue, slot)
		p.s.own.Handed(1)
	}
	taken := p.taken
	p.taken = map[int64]*Slot{}
	p.mu.Unlock()
	for _, slot := range queue {
		p.s.own.Handed(-1)
		if slot.due < p.start+end {
			p.report(slot, "no virtual user was free before the test ended")
		}
	}
	for _, slot := range taken {
		p.s.own.Handed(-1)
		p.report(slot, "a virtual user took it from the pacer and sent nothing")
	}
}

// unsentEntity stands for the entity of what was never sent: nobody knows which
// one the script would have chosen.
const unsentEntity = "k6"

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
