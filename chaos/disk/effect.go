package disk

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// method is an operation of the file system by its name in Chaos Mesh.
type method int

const (
	mLookup method = iota
	mGetattr
	mSetattr
	mReadlink
	mMknod
	mMkdir
	mUnlink
	mRmdir
	mSymlink
	mRename
	mLink
	mOpen
	mRead
	mWrite
	mFlush
	mRelease
	mFsync
	mOpendir
	mReaddir
	mFsyncdir
	mStatfs
	mSetxattr
	mGetxattr
	mListxattr
	mRemovexattr
	mCreate
	mFallocate
	methodCount
)

var methods = [methodCount]string{
	"lookup", "getattr", "setattr", "readlink", "mknod", "mkdir", "unlink",
	"rmdir", "symlink", "rename", "link", "open", "read", "write", "flush",
	"release", "fsync", "opendir", "readdir", "fsyncdir", "statfs", "setxattr",
	"getxattr", "listxattr", "removexattr", "create", "fallocate",
}

func parseMethod(name string) (method, error) {
	i := slices.Index(methods[:], name)
	if i < 0 {
		return 0, fmt.Errorf("unknown method %q; have %s", name, strings.Join(methods[:], ", "))
	}
	return method(i), nil
}

// Effect is a fault of operations, as an IOChaos of Chaos Mesh tells it.
type Effect struct {
	Methods []string // see methods; empty: all
	Path    string   // glob, relative to the mount; ** stands for any number of directories; "": all
	Percent int      // of the operations, 0 to 100

	Latency time.Duration // before the operation, in addition to what it takes
	Errno   syscall.Errno // instead of the operation; 0: it is executed
	Mistake *Mistake      // in what is read or written; alone
}

// Mistake puts wrong bytes into what is read or written.
type Mistake struct {
	Random         bool // fill with random bytes; else with zeros
	MaxOccurrences int  // places per operation, 1 to this
	MaxLength      int  // bytes per place, 1 to this
}

// Count is what an effect did to the node's operations, not to probes.
type Count struct {
	Seen     int64            // operations that it was meant for
	Errors   map[string]int64 // per method
	Delays   map[string]int64 // per method
	Mistakes map[string]int64 // per method
	Delayed  time.Duration    // sum of the delays
	Waiting  int64            // operations, probes too, that are being delayed now
}

// Applied is an effect in force.
type Applied struct {
	Effect
	disk    *Disk
	methods uint64 // bits
	done    chan struct{}
	undo    sync.Once
	waiting atomic.Int64

	mu    sync.Mutex
	rand  *rand.Rand
	count Count
}

// Apply puts an effect in force until Undo. Which operations it hits is drawn
// from seed. Effects add up: delays in sum, the error of the earliest.
func (d *Disk) Apply(e Effect, seed uint64) (*Applied, error) {
	bits, err := e.check()
	if err != nil {
		return nil, err
	}
	a := &Applied{Effect: e, disk: d, methods: bits, done: make(chan struct{}),
		rand:  rand.New(rand.NewPCG(seed, 1)),
		count: Count{Errors: map[string]int64{}, Delays: map[string]int64{}, Mistakes: map[string]int64{}},
	}
	if a.methods&(1<<mRead) != 0 {
		d.dropCache()
	}
	d.change(func(act *active) { act.effects = append(act.effects, a) })
	return a, nil
}

// Check reports what Apply would refuse, the field first.
func (e Effect) Check() error {
	_, err := e.check()
	return err
}

// check returns the methods as bits.
func (e Effect) check() (bits uint64, err error) {
	for _, name := range e.Methods {
		m, err := parseMethod(name)
		if err != nil {
			return 0, fmt.Errorf("methods: %w", err)
		}
		bits |= 1 << m
	}
	if len(e.Methods) == 0 {
		bits = 1<<methodCount - 1
	}
	const data = 1<<mRead | 1<<mWrite
	switch {
	case e.Percent < 0 || e.Percent > 100:
		return 0, fmt.Errorf("percent: %d is not from 0 to 100", e.Percent)
	case e.Latency < 0:
		return 0, fmt.Errorf("latency: %v is negative", e.Latency)
	case e.Latency == 0 && e.Errno == 0 && e.Mistake == nil:
		return 0, fmt.Errorf("effect: has no latency, errno or mistake")
	case e.Mistake != nil && (e.Latency > 0 || e.Errno != 0):
		return 0, fmt.Errorf("mistake: goes with neither latency nor errno\nhint: apply two effects")
	case e.Errno == syscall.ENOSYS:
		return 0, fmt.Errorf("errno: after ENOSYS the kernel never asks for that method again")
	case e.Mistake != nil && (e.Mistake.MaxOccurrences < 1 || e.Mistake.MaxLength < 1):
		return 0, fmt.Errorf("mistake: maxOccurrences and maxLength are to be 1 or more")
	case e.Mistake != nil && bits&data == 0:
		return 0, fmt.Errorf("mistake: has no effect with %s\nhint: it needs read or write", strings.Join(e.Methods, ", "))
	}
	return bits, checkGlob(e.Path)
}

// Undo ends the effect, and its delays. Wrong bytes that were written stay. A
// second call does nothing.
func (a *Applied) Undo() {
	a.undo.Do(func() {
		a.disk.change(func(act *active) { act.effects = without(act.effects, a) })
		close(a.done)
		if a.Mistake != nil {
			a.disk.dropCache()
		}
	})
}

// Count returns what the effect did so far.
func (a *Applied) Count() Count {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.count
	c.Waiting = a.waiting.Load()
	c.Errors, c.Delays, c.Mistakes = maps.Clone(c.Errors), maps.Clone(c.Delays), maps.Clone(c.Mistakes)
	return c
}

// hits draws whether the effect disturbs an operation.
func (a *Applied) hits(m method, path string, probe bool) bool {
	if a.methods&(1<<m) == 0 || !matches(a.Path, path) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !probe {
		a.count.Seen++
	}
	return a.rand.IntN(100) < a.Percent
}

// disturb delays an operation and returns the error to answer with.
func (act *active) disturb(m method, path string, probe bool) (errno syscall.Errno) {
	if act == nil {
		return 0
	}
	for _, a := range act.effects {
		if a.Latency == 0 && a.Errno == 0 || !a.hits(m, path, probe) {
			continue
		}
		if a.Latency > 0 {
			start := time.Now()
			a.waiting.Add(1)
			timer := time.NewTimer(a.Latency)
			select {
			case <-timer.C:
			case <-a.done:
				timer.Stop()
			case <-a.disk.ending:
				timer.Stop()
			}
			a.waiting.Add(-1)
			a.note(probe, func(c *Count) {
				c.Delays[methods[m]]++
				c.Delayed += time.Since(start)
			})
		}
		if a.Errno != 0 && errno == 0 {
			errno = a.Errno
			a.note(probe, func(c *Count) { c.Errors[methods[m]]++ })
		}
	}
	return errno
}

func (a *Applied) note(probe bool, add func(*Count)) {
	if probe {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	add(&a.count)
}

// corrupt puts the mistakes in force into data. It returns data itself, or a
// copy if there were any.
func (act *active) corrupt(m method, path string, probe bool, data []byte) []byte {
	if act == nil || len(data) == 0 {
		return data
	}
	for _, a := range act.effects {
		if a.Mistake == nil || !a.hits(m, path, probe) {
			continue
		}
		data = slices.Clone(data)
		a.mu.Lock()
		for range 1 + a.rand.IntN(a.Mistake.MaxOccurrences) {
			from := a.rand.IntN(len(data))
			end := min(len(data), from+1+a.rand.IntN(a.Mistake.MaxLength))
			for i := from; i < end; i++ {
				data[i] = 0
				if a.Mistake.Random {
					data[i] = byte(a.rand.Uint32())
				}
			}
		}
		a.mu.Unlock()
		a.note(probe, func(c *Count) { c.Mistakes[methods[m]]++ })
	}
	return data
}

// Quota is a limit on the space of a disk.
type Quota struct {
	disk   *Disk
	free   atomic.Int64
	denied atomic.Int64
}

// Fill leaves so many bytes free: what makes files longer in sum by more than
// that fails with ENOSPC, until Undo. It counts sizes, with holes, and
// removed and truncated files give their bytes back. A write that does not fit
// as a whole writes nothing. Of several quotas all hold.
func (d *Disk) Fill(free int64) *Quota {
	q := &Quota{disk: d}
	q.free.Store(free)
	d.change(func(a *active) { a.quotas = append(a.quotas, q) })
	return q
}

// Undo ends the quota.
func (q *Quota) Undo() {
	q.disk.change(func(a *active) { a.quotas = without(a.quotas, q) })
}

// Denied is how many operations of the node failed with ENOSPC so far.
func (q *Quota) Denied() int64 { return q.denied.Load() }

// take takes bytes off the quotas, or gives them back if negative.
func (d *Disk) take(bytes int64, probe bool) syscall.Errno {
	act := d.active.Load()
	if act == nil {
		return 0
	}
	for i, q := range act.quotas {
		if left := q.free.Add(-bytes); left < 0 && bytes > 0 {
			for _, taken := range act.quotas[:i+1] {
				taken.free.Add(bytes)
			}
			if !probe {
				q.denied.Add(1)
			}
			return syscall.ENOSPC
		}
	}
	return 0
}

// limited reports whether a quota holds.
func (d *Disk) limited() bool {
	act := d.active.Load()
	return act != nil && len(act.quotas) > 0
}

// checkGlob reports a pattern that can never match.
func checkGlob(glob string) error {
	if _, err := path.Match(glob, ""); err != nil {
		return fmt.Errorf("path: %q: %w", glob, err)
	}
	return nil
}

// matches reports whether a glob matches a path; both relative.
func matches(glob, name string) bool {
	if glob == "" {
		return true
	}
	return matchParts(strings.Split(strings.Trim(glob, "/"), "/"), strings.Split(name, "/"))
}

func matchParts(globs, names []string) bool {
	for len(globs) > 0 {
		if globs[0] == "**" {
			for skip := range len(names) + 1 {
				if matchParts(globs[1:], names[skip:]) {
					return true
				}
			}
			return false
		}
		if len(names) == 0 {
			return false
		}
		if ok, err := path.Match(globs[0], names[0]); err != nil || !ok {
			return false
		}
		globs, names = globs[1:], names[1:]
	}
	return len(names) == 0
}
