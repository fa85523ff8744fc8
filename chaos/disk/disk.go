package disk

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// cacheFor is how long the kernel may answer for names and attributes.
	cacheFor = 100 * time.Millisecond

	// unmountWithin is how long Unmount waits for open files to be closed.
	unmountWithin = 2 * time.Second
)

// Options of a disk.
type Options struct {
	Now       func() time.Duration // run clock; nil: since Mount
	PowerLoss bool                 // remember what is stable, for Freeze and Crash
	Strict    bool                 // names become stable with fsync of their directory only
}

// Disk is one mounted file system. Its methods may be called concurrently.
type Disk struct {
	mountpoint, backing string
	options             Options
	server              *fuse.Server
	root                *node
	shadow              *shadow // nil without PowerLoss
	probes              *probes
	counts              [methodCount]atomic.Int64
	mounted             atomic.Bool
	ending              chan struct{} // closed: no more delays
	end                 sync.Once

	active atomic.Pointer[active] // nil: nothing is to be injected
	mu     sync.Mutex             // for changes of active

	// gate is held for reading by every operation while it takes effect.
	gate     sync.RWMutex
	frozen   atomic.Bool
	frozenAt time.Duration
	refused  atomic.Int64 // operations since then
}

// active is what operations have to look at. It is never changed, but replaced.
type active struct {
	effects  []*Applied
	triggers []*trigger
	quotas   []*Quota
}

// Mount mounts a pass-through to the directory backing at the directory
// mountpoint. The disk keeps files of its own beside backing, under its name
// with .shadow and .probe appended. Do it in a private mount namespace, or the
// mount outlives a process that is killed. It needs /dev/fuse, and the
// right to mount; fusermount is not used.
func Mount(mountpoint, backing string, options Options) (*Disk, error) {
	start := time.Now()
	if options.Now == nil {
		options.Now = func() time.Duration { return time.Since(start) }
	}
	backing, err := filepath.Abs(backing)
	if err != nil {
		return nil, err
	}
	d := &Disk{mountpoint: mountpoint, backing: backing, options: options, ending: make(chan struct{})}
	if err := d.mount(); err != nil {
		d.cleanUp()
		return nil, fmt.Errorf("mount disk %s: %w", mountpoint, err)
	}
	return d, nil
}

func (d *Disk) mount() error {
	var err error
	if d.options.PowerLoss {
		if d.shadow, err = newShadow(d.backing+".shadow", d.options.Strict); err != nil {
			return err
		}
	}
	if d.probes, err = newProbes(d); err != nil {
		return err
	}
	root, attr, errno := d.open(unix.AT_FDCWD, d.backing)
	if errno != 0 {
		return fmt.Errorf("open %s: %w", d.backing, errno)
	}
	d.root = root
	timeout := cacheFor
	// The library opens /dev/fuse for children to inherit. One that did would
	// keep the file system waiting for an answer when this process is killed,
	// and could not end itself.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	d.server, err = fs.Mount(d.mountpoint, root, &fs.Options{
		MountOptions: fuse.MountOptions{
			FsName: "statequake", Name: "statequake",
			AllowOther:        true,
			Options:           []string{"default_permissions"},
			DirectMountStrict: true,
			MaxWrite:          1 << 20,
		},
		EntryTimeout:    &timeout,
		AttrTimeout:     &timeout,
		NullPermissions: true,
		RootStableAttr:  &fs.StableAttr{Ino: attr.Ino, Gen: 1},
	})
	if err != nil {
		return err
	}
	d.mounted.Store(true)
	if err := eachFUSE("/proc/self/fd", syscall.CloseOnExec); err != nil {
		return errors.Join(err, d.Unmount())
	}
	if d.shadow != nil {
		if err := d.probes.prepareLoss(); err != nil {
			return errors.Join(err, d.Unmount())
		}
	}
	return nil
}

// Unmount unmounts the disk, lazily if files are still open after 2 s; then
// the error says so. What was written stays, unless the disk was frozen
// and Crash is called. A second call does nothing.
func (d *Disk) Unmount() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.mounted.Load() {
		return nil
	}
	d.active.Store(nil)
	d.endDelays()

	deadline := time.Now().Add(unmountWithin)
	err := unix.Unmount(d.mountpoint, 0)
	for err == unix.EBUSY && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
		err = unix.Unmount(d.mountpoint, 0)
	}
	if err != nil {
		if lazy := unix.Unmount(d.mountpoint, unix.MNT_DETACH); lazy != nil {
			return fmt.Errorf("unmount disk %s: %w", d.mountpoint, lazy)
		}
		d.mounted.Store(false)
		return fmt.Errorf("unmount disk %s: %w; it was detached and ends with its last open file", d.mountpoint, err)
	}
	d.mounted.Store(false)
	d.server.Wait()
	if !d.frozen.Load() {
		d.cleanUp()
	}
	return nil
}

func (d *Disk) endDelays() { d.end.Do(func() { close(d.ending) }) }

// cleanUp removes the disk's own files.
func (d *Disk) cleanUp() {
	if d.shadow != nil {
		d.shadow.close()
	}
	if d.probes != nil {
		d.probes.close()
	}
}

// Freeze cuts the power of several disks at one instant, which it returns on
// the run clock: what an operation did before that has happened on its disk, and every
// operation after it fails with EIO and changes nothing. It waits for
// operations that are under way, but not for their injected delays. A disk
// stays frozen until it is unmounted. Freeze may be called from a trigger.
func Freeze(disks ...*Disk) (at time.Duration) {
	for _, d := range disks {
		d.endDelays()
	}
	for _, d := range disks {
		d.gate.Lock()
	}
	for _, d := range disks {
		at = d.options.Now()
		if !d.frozen.Swap(true) {
			d.frozenAt = at
		}
	}
	for _, d := range disks {
		d.gate.Unlock()
	}
	for _, d := range disks {
		if d.mounted.Load() {
			d.probes.seeFrozen()
		}
	}
	return at
}

// Loss is what a crash took away.
type Loss struct {
	Files        int // with changed pages or size
	PagesDropped int // back to their content at the last sync
	PagesKept    int // torn: not synced, but kept
	Names        int // created, removed or changed, and now as before
	Took         time.Duration
}

// Crash puts the backing directory back to its stable state, after the disk
// was frozen and unmounted. Every page that was not synced is kept with the
// probability torn from 0 to 1, drawn from seed, and likewise the new size of
// every file: 0 keeps nothing that was not synced. Afterwards the directory can be mounted again.
func (d *Disk) Crash(torn float64, seed uint64) (Loss, error) {
	switch {
	case d.shadow == nil:
		return Loss{}, fmt.Errorf("crash disk %s: it was mounted without PowerLoss", d.mountpoint)
	case !d.frozen.Load():
		return Loss{}, fmt.Errorf("crash disk %s: it is not frozen", d.mountpoint)
	case d.mounted.Load():
		return Loss{}, fmt.Errorf("crash disk %s: it is still mounted", d.mountpoint)
	case torn < 0 || torn > 1:
		return Loss{}, fmt.Errorf("crash disk %s: probability %v is not from 0 to 1", d.mountpoint, torn)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	start := time.Now()
	loss, err := d.shadow.crash(torn, rand.New(rand.NewPCG(seed, 0)), d.probes.lossIno)
	if err == nil {
		d.probes.seeLoss(&loss)
	}
	d.cleanUp()
	if err != nil {
		return loss, fmt.Errorf("crash disk %s: %w", d.mountpoint, err)
	}
	loss.Took = time.Since(start)
	return loss, nil
}

// Calls tells how often the disk was asked, per method of Chaos Mesh. Probes
// do not count.
func (d *Disk) Calls() map[string]int64 {
	calls := map[string]int64{}
	for m := range d.counts {
		if n := d.counts[m].Load(); n > 0 {
			calls[methods[m]] = n
		}
	}
	return calls
}

// Trigger calls Func at the Nth operation (1 is the next one) of a method
// on a path.
type Trigger struct {
	Method string // of Chaos Mesh, such as write or fsync
	Path   string // glob as in Effect; "": all
	Nth    int
	After  bool // after it took effect, though not answered yet; else before

	// Count is shared by triggers that count together, on other disks or one
	// after the other; nil: this one counts alone.
	Count *atomic.Int64

	// Func runs on the operation's thread, once. If it freezes the disk, the
	// operation fails with EIO; with After its effect has happened then. An
	// effect that is applied meanwhile meets the operation, too, without After.
	// Func must not wait for the end of the process that asked, which waits for
	// this answer.
	Func func()
}

type trigger struct {
	Trigger
	method method
}

// On arms a trigger and returns how to disarm it.
func (d *Disk) On(t Trigger) (disarm func(), err error) {
	m, err := parseMethod(t.Method)
	if err != nil {
		return nil, err
	}
	if err := checkGlob(t.Path); err != nil {
		return nil, err
	}
	if t.Nth < 1 || t.Func == nil {
		return nil, fmt.Errorf("trigger on %s: needs Nth of 1 or more and Func", t.Method)
	}
	if t.Count == nil {
		t.Count = new(atomic.Int64)
	}
	armed := &trigger{Trigger: t, method: m}
	d.change(func(a *active) { a.triggers = append(a.triggers, armed) })
	return func() {
		d.change(func(a *active) { a.triggers = without(a.triggers, armed) })
	}, nil
}

// change replaces what is active.
func (d *Disk) change(edit func(*active)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := active{}
	if now := d.active.Load(); now != nil {
		next.effects = append(next.effects, now.effects...)
		next.triggers = append(next.triggers, now.triggers...)
		next.quotas = append(next.quotas, now.quotas...)
	}
	edit(&next)
	if len(next.effects)+len(next.triggers)+len(next.quotas) == 0 {
		d.active.Store(nil)
		return
	}
	d.active.Store(&next)
}

func without[T comparable](list []T, gone T) []T {
	var rest []T
	for _, item := range list {
		if item != gone {
			rest = append(rest, item)
		}
	}
	return rest
}

// do runs one operation: past triggers and effects, and not while or after the
// disk freezes. Names are relative to n; "" is n itself.
func (d *Disk) do(m method, n *node, name string, op func() syscall.Errno) syscall.Errno {
	act := d.active.Load()
	var path string
	var probe bool
	if act != nil {
		path, probe = n.path(name)
	} else {
		probe = n.probe
	}
	if !probe {
		d.counts[m].Add(1)
	}
	fire := act.firing(m, path, probe)
	for _, t := range fire {
		if !t.After {
			t.Func()
			act = d.active.Load()
		}
	}
	errno := act.disturb(m, path, probe)
	if errno != 0 && !d.frozen.Load() {
		return errno
	}
	d.gate.RLock()
	if d.frozen.Load() {
		d.gate.RUnlock()
		d.refused.Add(1)
		return syscall.EIO
	}
	errno = op()
	d.gate.RUnlock()
	for _, t := range fire {
		if t.After {
			t.Func()
			if d.frozen.Load() {
				errno = cmp.Or(errno, syscall.EIO)
			}
		}
	}
	return errno
}

// firing returns the triggers whose operation this is.
func (a *active) firing(m method, path string, probe bool) []*trigger {
	if a == nil || probe {
		return nil
	}
	var fire []*trigger
	for _, t := range a.triggers {
		if t.method == m && matches(t.Path, path) && t.Count.Add(1) == int64(t.Nth) {
			fire = append(fire, t)
		}
	}
	return fire
}

// removeDir removes a directory of the disk's own.
func removeDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove what an earlier disk left: %w", err)
	}
	return nil
}
