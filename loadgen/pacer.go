package loadgen

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// pacer tells when the operations of an arrival process are due, one after the
// other. It is for one goroutine at a time.
//
// Whoever waits has its thread to itself (see exact) and lets the kernel wake it:
// Go's timers overshoot by about 1 ms when the process is idle, nanosleep with a
// timer slack of 1 ns by 20 to 30 us.
type pacer struct {
	now        func() time.Duration // run clock
	start, end time.Duration        // start on the run clock, end after it
	arrivals   Arrivals

	next int64         // the operation to wait for
	stop time.Duration // instant after start at which arrivals stopped, once wait was false: end, or earlier if ctx was done; everything taken was due before it
}

// wait returns true when the next operation is due, at once if it is late; false
// at the end of the arrivals, or when ctx is done.
func (p *pacer) wait(ctx context.Context) bool {
	at := p.arrivals.At(p.next)
	if !sleepUntil(ctx, p.now, p.start+min(at, p.end)) {
		p.stop = p.now() - p.start
		if p.next > 0 {
			p.stop = max(p.stop, p.arrivals.At(p.next-1)+1)
		}
		p.stop = min(p.stop, p.end)
		return false
	}
	if at >= p.end {
		p.stop = p.end
		return false
	}
	return true
}

// take takes the operation that is due.
func (p *pacer) take() (n int64, at time.Duration) {
	n = p.next
	p.next++
	return n, p.arrivals.At(n)
}

// exact gives the caller its thread to itself, with a timer slack of 1 ns, until
// it calls undo.
func exact() (undo func()) {
	runtime.LockOSThread()
	// Where a sandbox forbids it the pace is coarser, and the send lag shows it.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return func() {
		unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // back to the default
		// The thread must live on: leaving it locked would end it with this
		// goroutine, and the kernel then signals the children that some earlier
		// goroutine started from it with a parent-death signal.
		runtime.UnlockOSThread()
	}
}

// sleepUntil sleeps to an instant on the run clock now, not at all if it is past,
// and reports whether ctx is still alive.
func sleepUntil(ctx context.Context, now func() time.Duration, instant time.Duration) bool {
	// Short enough naps to notice ctx.
	const nap = 5 * time.Millisecond
	for {
		if ctx.Err() != nil {
			return false
		}
		left := instant - now()
		if left <= 0 {
			return true
		}
		// An interrupted sleep is only a short one.
		pause := unix.NsecToTimespec(int64(min(left, nap)))
		_ = unix.Nanosleep(&pause, nil)
	}
}
