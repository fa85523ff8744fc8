package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"statequake/history"
	"statequake/loadgen"
)

// Abort is when a run is given up: chaos tools call it a stop condition. One
// condition that is met is enough.
type Abort struct {
	// ErrorRate aborts when at least this share of the operations that were
	// decided in the last Window was not answered ok; 0 is no limit. An operation
	// is decided when it is answered or given up, at the latest load.timeout after
	// it was due.
	ErrorRate Percent
	Window    time.Duration // 0 without ErrorRate

	DiskFree int64         // bytes: aborts when the file system of the run directory has fewer free; 0 is no limit
	Duration time.Duration // of the whole run, from its start; 0 is no limit

	// Violation aborts when a key that the load is done with is found to break
	// the contract. Only runs that have it read keys back before the end.
	Violation bool
}

// DefaultDiskFree is the Abort.DiskFree of a scenario that says nothing of it.
const DefaultDiskFree = 256 << 20

const (
	defaultWindow = 5 * time.Second

	// abortEvery is how often the conditions are looked at.
	abortEvery = 100 * time.Millisecond
	// slots is into how many parts the window of the error rate is divided, which
	// is how exact its ends are.
	slots = 50
)

func (p *parser) abort(root object) Abort {
	o := root.object("abort", "error_rate", "window", "disk_free", "duration", "violation")
	a := Abort{
		ErrorRate: Percent(o.number("error_rate", "%", 0, 0.1, 100, "50%")),
		DiskFree:  o.size("disk_free", DefaultDiskFree, 0, 1<<50),
		Duration:  o.duration("duration", 0, time.Second, 24*time.Hour),
		Violation: o.choice("violation", "false", "value", []string{"true", "false"}) == "true",
	}
	window := o.duration("window", defaultWindow, time.Second, 10*time.Minute)
	switch {
	case o.has("error_rate"):
		a.Window = window
	case o.has("window"):
		o.refuse("window", "error_rate: 50% aborts when half of the operations of a window fail", "has no effect without abort.error_rate")
	}
	return a
}

// size reads a number of bytes from least to most, both included: 1MB is 10^6,
// 1MiB 2^20.
func (o object) size(name string, def, least, most int64) int64 {
	v, ok := o.scalar(name)
	if !ok {
		return def
	}
	read := units.FromHumanSize
	if strings.Contains(strings.ToLower(v), "ib") {
		read = units.RAMInBytes
	}
	n, err := read(v)
	if err != nil {
		o.refuse(name, "write 256MiB", "%q is not a size", shorten(v))
		return def
	}
	if n < least || n > most {
		o.refuse(name, "", "%s is out of range (%s to %s)", v, bytesText(least), bytesText(most))
		return def
	}
	return n
}

// bytesText writes a size in the largest binary unit in which it is whole, so
// that size reads the same number again.
func bytesText(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n != 0 && n%u.size == 0 {
			return fmt.Sprintf("%d%s", n/u.size, u.name)
		}
	}
	return fmt.Sprint(n)
}

// resolved is the abort conditions as abort reads them.
func (a Abort) resolved() map[string]any {
	r := map[string]any{"disk_free": bytesText(a.DiskFree)}
	if a.ErrorRate > 0 {
		r["error_rate"], r["window"] = decimal(float64(a.ErrorRate))+"%", a.Window.String()
	}
	if a.Duration > 0 {
		r["duration"] = a.Duration.String()
	}
	if a.Violation {
		r["violation"] = true
	}
	return r
}

// room returns an error if the file system of a directory, which need not be
// there yet, has fewer than least bytes free.
func room(dir string, least int64) error {
	if least == 0 {
		return nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	for {
		free, err := freeBytes(dir)
		switch {
		case errors.Is(err, os.ErrNotExist) && dir != filepath.Dir(dir):
			dir = filepath.Dir(dir)
			continue
		case err != nil:
			return nil // making the directory will tell
		case free < least:
			return fmt.Errorf("run directory: %s are free on its file system, and a run is aborted below %s\nhint: make room, name another file system with --out, or lower the limit with --set abort.disk_free=",
				units.BytesSize(float64(free)), bytesText(least))
		}
		return nil
	}
}

// freeBytes is what an ordinary user can still write to the file system of a path.
func freeBytes(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// aborted is the cause of a context that ended because a condition was met.
type aborted struct{ reason string }

func (a *aborted) Error() string { return a.reason }

// watchAbort looks at the conditions until ctx ends, and cancels it with an
// *aborted as its cause when one is met.
func (r *run) watchAbort(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(abortEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		reason := r.condition()
		if reason == "" {
			continue
		}
		reason = fmt.Sprintf("aborted after %.1f s: %s", r.now().Seconds(), reason)
		r.mu.Lock()
		r.aborted = reason
		r.mu.Unlock()
		cancel(&aborted{reason})
		return
	}
}

// condition says which condition is met; "" if none is.
func (r *run) condition() string {
	a := r.scenario.Abort
	if now := r.now(); a.Duration > 0 && now >= a.Duration {
		return fmt.Sprintf("the run has reached its longest duration, %s", short(a.Duration))
	}
	if a.DiskFree > 0 {
		// A file system that does not answer fills nothing up.
		if free, err := freeBytes(r.opt.Dir); err == nil && free < a.DiskFree {
			return fmt.Sprintf("%s are free on the file system of the run directory, limit %s", units.BytesSize(float64(free)), bytesText(a.DiskFree))
		}
	}
	if a.ErrorRate > 0 {
		if share, ok := r.errors.share(r.now()); ok && share >= a.ErrorRate.Share() {
			return fmt.Sprintf("%.0f %% of the operations of the last %s were not answered ok, limit %s %%", 100*share, short(a.Window), decimal(float64(a.ErrorRate)))
		}
	}
	return r.early.violation()
}

// errorRate is the share of the operations decided in a sliding window that
// were not answered ok. It counts by the instant of the decision and not by the
// due time: of what was due in the last 5 s a system that answers nothing at all
// has, with a timeout of 10 s, failed nothing yet.
//
// Its methods may be called concurrently. The zero value knows of no load.
type errorRate struct {
	mu       sync.Mutex
	window   time.Duration
	timeout  time.Duration
	start    time.Duration // of the load, on the run clock
	length   time.Duration // of the load
	arrivals loadgen.Arrivals
	decided  ring // operations by the instant of their decision
	recorded ring // operations by their due time
}

// begin says that operations are due from start on, on the run clock, for so
// long; without a window there is no share. arrivals is nil in a closed loop, in
// which none waits to be sent.
func (e *errorRate) begin(start, length, window, timeout time.Duration, arrivals loadgen.Arrivals) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.window, e.timeout, e.start, e.length, e.arrivals = window, timeout, start, length, arrivals
	if window == 0 {
		return
	}
	width := window / slots
	e.decided = newRing(width, window)
	// An operation is recorded at most two timeouts after it was due: one for its
	// wait, one for its answer.
	e.recorded = newRing(width, window+3*timeout)
}

// end says that the load ended at an instant, before its time: no more operations
// become due.
func (e *errorRate) end(now time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.length = min(e.length, max(0, now-e.start))
}

// record counts an operation that is complete at the instant now.
func (e *errorRate) record(op *history.Op, now time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.window == 0 {
		return
	}
	overdue := op.Scheduled + e.timeout
	e.decided.add(min(now, overdue), op.Outcome == history.OK && op.Returned <= overdue)
	e.recorded.add(op.Scheduled, true)
}

// share is the share at an instant; false before the load is one window old,
// and when no operation was decided.
func (e *errorRate) share(now time.Duration) (share float64, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.window == 0 || now < e.start+e.window {
		return 0, false
	}
	good, bad := e.decided.before(now)
	bad += e.open(now)
	if good+bad == 0 {
		return 0, false
	}
	return float64(bad) / float64(good+bad), true
}

// open is how many operations that became overdue in the window are not
// recorded yet.
func (e *errorRate) open(now time.Duration) int64 {
	if e.arrivals == nil {
		return 0
	}
	until := (now - e.timeout).Truncate(e.recorded.width) // where a slot begins
	due := func(at time.Duration) int64 { return e.arrivals.Count(min(at-e.start, e.length)) }
	recorded, _ := e.recorded.before(until - 1)
	return max(0, due(until)-due(until-slots*e.recorded.width)-recorded)
}

// ring counts what happened in the slots of a sliding window.
type ring struct {
	width time.Duration
	slots []slot
}

// slot covers [n*width, (n+1)*width).
type slot struct {
	n         int64
	good, bad int64
}

func newRing(width, length time.Duration) ring {
	return ring{width, make([]slot, length/width+1)}
}

// add counts one at an instant, unless that is older than what the ring holds.
func (r ring) add(at time.Duration, good bool) {
	n := int64(at / r.width)
	s := &r.slots[n%int64(len(r.slots))]
	if s.n > n {
		return
	}
	if s.n < n {
		*s = slot{n: n}
	}
	if good {
		s.good++
	} else {
		s.bad++
	}
}

// before sums up the window's slots, the last of which holds the instant at.
func (r ring) before(at time.Duration) (good, bad int64) {
	last := int64(at / r.width)
	for n := max(0, last-slots+1); n <= last; n++ {
		if s := r.slots[n%int64(len(r.slots))]; s.n == n {
			good, bad = good+s.good, bad+s.bad
		}
	}
	return good, bad
}
