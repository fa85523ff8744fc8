package loadgen

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// pace calls due once for every operation of an arrival process at the instant
// it is due, late ones at once, and returns at end or when ctx is done. Instants
// count from start on the run clock now. It returns how many operations it
// handed out and the instant at which it stopped: end, or earlier if ctx was
// done, and then everything handed out was due before it.
//
// due must not block: whatever it waits for makes the next operation late.
//
// The loop has its thread to itself and lets the kernel wake it exactly: Go's
// timers overshoot by about 1 ms when the process is idle, nanosleep with a
// timer slack of 1 ns by 20 to 30 us.
func pace(ctx context.Context, now func() time.Duration, start, end time.Duration, arrivals Arrivals, due func(n int64, at time.Duration)) (n int64, stop time.Duration) {
	defer exact()()
	for {
		at := arrivals.At(n)
		if !sleepUntil(ctx, now, start+min(at, end)) {
			stop = now() - start
			if n > 0 {
				stop = max(stop, arrivals.At(n-1)+1)
			}
			return n, min(stop, end)
		}
		if at >= end {
			return n, end
		}
		due(n, at)
		n++
	}
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
