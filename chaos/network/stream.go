package network

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// joint is a connection through a link: the caller's with the proxy, and the
// proxy's with the called.
type joint struct {
	ends  [2]*net.TCPConn
	hosts [2]int
	probe bool          // it is the observer's
	over  chan struct{} // closed when nothing passes any more
}

// reset ends the connection of one side as if the other had reset it.
func (j *joint) reset(side int) {
	j.ends[side].SetLinger(0)
	j.ends[side].Close()
}

// pump carries what one end of a joint sends to the other one. While the path
// has no effect and nothing waits, it writes what it reads; otherwise a second
// goroutine writes each piece when it is due.
type pump struct {
	l     *Links
	joint *joint
	from  int // side that sends
	lane  *stream
	back  *stream

	mu      sync.Mutex
	room    *sync.Cond
	waiting []piece
	held    int  // bytes of waiting, and of the piece that is being written
	writing bool // the second goroutine is at work
	last    time.Duration
	broken  bool // the receiving end is gone
}

// piece is what waits: bytes, or the end of the stream if err is set.
type piece struct {
	due  time.Duration // since the links' start
	data []byte
	err  error // io.EOF: the sender has no more; else its connection broke
}

// buffers are taken while there is something to read: a connection on which
// nothing happens holds none.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// run returns when the stream has ended and what was sent of it has been
// written, or cannot be.
func (p *pump) run() {
	src, err := p.joint.ends[p.from].SyscallConn()
	if err != nil {
		p.end(err)
		return
	}
	for {
		var buffer *[32 << 10]byte
		var n int
		var fault error
		err := src.Read(func(fd uintptr) bool {
			buffer = buffers.Get().(*[32 << 10]byte)
			for {
				if n, fault = unix.Read(int(fd), buffer[:]); fault != unix.EINTR {
					break
				}
			}
			if fault == unix.EAGAIN {
				buffers.Put(buffer)
				buffer = nil
			}
			return fault != unix.EAGAIN
		})
		if err == nil {
			err = fault
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		if n > 0 {
			if !p.joint.probe {
				p.lane.bytes.Add(int64(n))
			}
			p.send(buffer[:n])
		}
		if buffer != nil {
			buffers.Put(buffer)
		}
		if err != nil {
			p.end(err)
			return
		}
	}
}

// send passes bytes on, or lets them wait. It waits itself while too many do.
func (p *pump) send(b []byte) {
	p.mu.Lock()
	if p.broken {
		p.mu.Unlock()
		return
	}
	if !p.writing && p.lane.filters.Load() == nil {
		p.mu.Unlock()
		p.write(b)
		return
	}
	defer p.mu.Unlock()
	for len(b) > 0 {
		n := len(b)
		if p.lane.limited() {
			n = min(n, frameMax)
		}
		for p.held >= linkHeld && !p.broken {
			p.room.Wait()
		}
		if p.broken {
			return
		}
		p.add(piece{data: append([]byte(nil), b[:n]...)})
		b = b[n:]
	}
}

// add lets a piece wait for its time. It is called with mu held.
func (p *pump) add(what piece) {
	now := time.Since(p.l.start)
	p.last = max(p.last, now+p.lane.late(now, len(what.data)))
	what.due = p.last
	p.waiting = append(p.waiting, what)
	p.held += len(what.data)
	if !p.writing {
		p.writing = true
		p.l.serving.Go(p.release)
	}
}

// end passes the end of the stream on, behind what waits, and returns when that
// is done.
func (p *pump) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.writing && p.lane.filters.Load() == nil {
		p.finish(err)
		return
	}
	p.add(piece{err: err})
	for p.writing {
		p.room.Wait()
	}
}

// finish ends the receiving end's connection as the sending one's ended.
func (p *pump) finish(err error) {
	to := 1 - p.from
	if errors.Is(err, io.EOF) {
		p.joint.ends[to].CloseWrite() // fails if it is gone
		return
	}
	p.joint.reset(to)
}

// release writes what waits when it is due and the path is open, until nothing
// is left.
func (p *pump) release() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		p.mu.Lock()
		if len(p.waiting) == 0 {
			p.writing = false
			p.waiting = nil
			p.room.Broadcast()
			p.mu.Unlock()
			return
		}
		next := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.mu.Unlock()

		if !p.await(timer, next.due) && next.err == nil {
			next.err = p.l.ctx.Err()
		}
		if next.err != nil {
			p.finish(next.err)
		} else {
			p.write(next.data)
		}
		p.mu.Lock()
		p.held -= len(next.data)
		p.room.Broadcast()
		p.mu.Unlock()
	}
}

// await waits until a piece is due and the path open; false if the links are
// closed before. A path without effects holds nothing back.
func (p *pump) await(timer *time.Timer, due time.Duration) bool {
	for {
		shut, _, changed := p.lane.state()
		if p.lane.filters.Load() == nil {
			return p.l.ctx.Err() == nil
		}
		var late <-chan time.Time
		if !shut {
			wait := due - time.Since(p.l.start)
			if wait <= 0 {
				return p.l.ctx.Err() == nil
			}
			timer.Reset(wait)
			late = timer.C
		}
		select {
		case <-late:
		case <-changed:
		case <-p.l.ctx.Done():
			return false
		}
	}
}

// write writes to the receiving end. If that is gone, the sending end is told,
// on the way back.
func (p *pump) write(b []byte) {
	p.mu.Lock()
	broken := p.broken
	p.mu.Unlock()
	if broken {
		return
	}
	if _, err := p.joint.ends[1-p.from].Write(b); err == nil {
		return
	}
	p.mu.Lock()
	p.broken = true
	p.room.Broadcast()
	p.mu.Unlock()
	p.l.serving.Go(func() {
		ctx, cancel := context.WithCancel(p.l.ctx)
		defer cancel()
		go func() {
			select {
			case <-p.joint.over:
				cancel()
			case <-ctx.Done():
			}
		}()
		if p.back.open(ctx) == nil {
			p.joint.reset(p.from)
		}
	})
}
