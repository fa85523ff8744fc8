package chaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"statequake/chaos/disk"
	"statequake/chaos/process"
	"statequake/history"
)

// Disks executes PowerLoss, IOChaos and DiskFull, and waits for operations on
// files, by the file systems that it mounts at the nodes' data directories. Set
// the fields, then call the methods, concurrently if need be.
//
// Nobody in this process may open files below the data directories until Close.
type Disks struct {
	Dir       func(node string) string // data directory; what it holds is beside it, with .disk appended
	PowerLoss bool                     // disks can lose what was not synced; that takes time and space
	Strict    bool                     // as in Power; the same for all faults
	Now       func() time.Duration     // run clock
	Processes *process.Injector

	mu    sync.Mutex
	nodes map[string]*nodeDisk
}

// nodeDisk is the disk of a node.
type nodeDisk struct {
	dir   string
	power sync.Mutex // held while the power is off

	mu       sync.Mutex
	disk     *disk.Disk // the one mounted last
	attached []*attachment
	errors   []*period // in which its operations failed or met wrong bytes
}

// attachment is what has to be put on the disk again when it is mounted again.
type attachment struct {
	put    func(*disk.Disk) (remove func(), err error)
	remove func()
}

// period is on the run clock, both ends included.
type period struct {
	from, to time.Duration
	over     bool
}

// failing tells whether a fault makes programs err that see it.
func failing(s Spec) bool {
	io, ok := s.(IO)
	return !ok || io.Latency == 0
}

// CheckDisk reports what of a fault no Disks can do; the error begins with the
// path of the field.
func CheckDisk(s Spec) error {
	io, ok := s.(IO)
	if !ok {
		return nil
	}
	if err := effectOnFiles(io).Check(); err != nil {
		return fmt.Errorf("spec.%w", err)
	}
	return nil
}

func effectOnFiles(io IO) disk.Effect {
	e := disk.Effect{Methods: io.Methods, Path: io.Path, Percent: int(math.Round(100 * io.Share)), Latency: io.Latency, Errno: io.Errno}
	if m := io.Mistake; m != nil {
		e.Mistake = &disk.Mistake{Random: m.Random, MaxOccurrences: int(m.MaxOccurrences), MaxLength: int(m.MaxLength)}
	}
	return e
}

func (d *Disks) node(name string) *nodeDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nodes == nil {
		d.nodes = map[string]*nodeDisk{}
	}
	if d.nodes[name] == nil {
		d.nodes[name] = &nodeDisk{dir: d.Dir(name)}
	}
	return d.nodes[name]
}

func (d *Disks) options() disk.Options {
	return disk.Options{Now: d.Now, PowerLoss: d.PowerLoss, Strict: d.Strict}
}

// Mount mounts the disk of a node, which has to be down, at its data directory.
// If that was done before it does nothing.
func (d *Disks) Mount(name string) error {
	n := d.node(name)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.disk != nil {
		return nil
	}
	for _, dir := range []string{n.dir, n.backing()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	var err error
	n.disk, err = disk.Mount(n.dir, n.backing(), d.options())
	return err
}

func (n *nodeDisk) backing() string { return n.dir + ".disk" }

// Close unmounts all disks and leaves their files in the data directories. The
// nodes have to be down.
func (d *Disks) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, n := range d.nodes {
		n.mu.Lock()
		if n.disk != nil {
			errs = append(errs, n.disk.Unmount(), os.Remove(n.dir), os.Rename(n.backing(), n.dir))
		}
		n.mu.Unlock()
	}
	return errors.Join(errs...)
}

// Excused tells whether a node that ended by itself at that instant did so
// while a fault let its operations fail, or gave it wrong bytes, or before it
// was back from that.
func (d *Disks) Excused(node string, at time.Duration) bool {
	n := d.node(node)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.errors {
		if p.from <= at && (!p.over || at <= p.to) {
			return true
		}
	}
	return false
}

// attach puts something on the disk, now and whenever it is mounted again,
// until detach.
func (n *nodeDisk) attach(put func(*disk.Disk) (remove func(), err error)) (detach func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.disk == nil {
		return nil, fmt.Errorf("no disk is mounted at %s", n.dir)
	}
	a := &attachment{put: put}
	if a.remove, err = put(n.disk); err != nil {
		return nil, err
	}
	n.attached = append(n.attached, a)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		for i, other := range n.attached {
			if other == a {
				n.attached = append(n.attached[:i:i], n.attached[i+1:]...)
			}
		}
		a.remove()
	}, nil
}

// mountAgain mounts the disk with all that is attached to it.
func (n *nodeDisk) mountAgain(options disk.Options) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	again, err := disk.Mount(n.dir, n.backing(), options)
	if err != nil {
		return err
	}
	n.disk = again
	for _, a := range n.attached {
		remove, err := a.put(again)
		if err != nil {
			return err
		}
		a.remove = remove
	}
	return nil
}

func (n *nodeDisk) current() *disk.Disk {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.disk
}

// OnFile is what Config wants.
func (d *Disks) OnFile(ctx context.Context, on OnFile, nodes []Node) (release func(), err error) {
	glob := on.Path
	if !strings.Contains(glob, "/") {
		glob = "**/" + glob
	}
	var count atomic.Int64
	reached, let := make(chan struct{}), make(chan struct{})
	release = sync.OnceFunc(func() { close(let) })
	trigger := disk.Trigger{Method: on.Op, Path: glob, Nth: on.Nth, Count: &count, Func: func() {
		close(reached)
		<-let
	}}
	for _, t := range nodes {
		detach, err := d.node(t.Name).attach(func(on *disk.Disk) (func(), error) { return on.On(trigger) })
		if err != nil {
			release()
			return nil, err
		}
		defer detach()
	}
	select {
	case <-reached:
		return release, nil
	case <-ctx.Done():
		release()
		return nil, fmt.Errorf("there were %d before the run ended", count.Load())
	}
}

// Inject carries out a PowerLoss, an IOChaos or a DiskFull.
//
// PowerLoss stops the targets' processes, so that none of them sees an error
// that a loss of power would not leave it time for, freezes all disks at one
// instant, kills the processes, puts the disks back to what was synced, and
// lets the nodes start again. It does not care for ctx: the power has to come
// back.
//
// The others last for the fault's duration, counted from when they are in
// force, also on a disk that loses its power meanwhile. Processes that end by
// that are part of the evidence, not a failure of it.
func (d *Disks) Inject(ctx context.Context, in Injection) ([]Evidence, error) {
	if spec, ok := in.Fault.Spec.(Power); ok {
		return d.losePower(context.WithoutCancel(ctx), in, spec)
	}
	found := make([]Evidence, len(in.Targets))
	var disturbing sync.WaitGroup
	for i, t := range in.Targets {
		disturbing.Go(func() {
			found[i] = d.disturb(ctx, in, t, func(on *disk.Disk) (effect, error) {
				switch spec := in.Fault.Spec.(type) {
				case Full:
					q := on.Fill(spec.Free)
					return effect{q.Evidence, q.Undo, func() string {
						return fmt.Sprintf("%d of the node's operations found no space", q.Denied())
					}}, nil
				case IO:
					a, err := on.Apply(effectOnFiles(spec), in.Seed+uint64(i))
					if err != nil {
						return effect{}, err
					}
					return effect{a.Evidence, a.Undo, func() string { return a.Count().String() }}, nil
				}
				return effect{}, fmt.Errorf("a disk cannot do %s", in.Fault.Kind)
			})
			found[i].Detail = t.Name + ": " + found[i].Detail
		})
	}
	disturbing.Wait()
	return found, nil
}

// losePower is Inject of a PowerLoss.
func (d *Disks) losePower(ctx context.Context, in Injection, spec Power) ([]Evidence, error) {
	found := make([]Evidence, len(in.Targets))
	errs := make([]error, len(in.Targets))
	releases := make([]func(), len(in.Targets))
	disks := make([]*disk.Disk, len(in.Targets))
	for i, t := range in.Targets {
		// The targets are always in the order of the nodes, so two faults
		// cannot wait for each other here; but the other one may wait for the
		// end of a process that waits in the operation that triggered this one.
		if n := d.node(t.Name); !n.power.TryLock() {
			in.Struck()
			n.power.Lock()
		}
		disks[i] = d.node(t.Name).current()
		releases[i] = d.Processes.Hold(t.Node)
	}
	for _, t := range in.Targets {
		_ = t.Kill(syscall.SIGSTOP) // where there is no process, Kill will say so
	}
	for _, t := range in.Targets {
		awaitStop(t)
	}
	disk.Freeze(disks...)
	in.Struck()
	var cutting sync.WaitGroup
	for i, t := range in.Targets {
		frozen := disks[i].PowerEvidence()
		found[i].Seen, found[i].At = frozen.Proof == history.Confirmed, frozen.At
		if found[i].Seen {
			in.Seen(frozen.At)
		}
		cutting.Go(func() {
			n := d.node(t.Name)
			defer n.power.Unlock()
			killed := d.Processes.Kill(ctx, t.Node, 0, func(time.Duration) {})
			err := disks[i].Unmount()
			var detail string
			if err != nil {
				detail = "; " + err.Error()
			}
			if _, err = disks[i].Crash(spec.Torn, in.Seed+uint64(i)); err == nil {
				err = n.mountAgain(d.options())
			}
			lost := disks[i].PowerEvidence()
			found[i].Proof = lost.Proof
			if killed.Proof != history.Confirmed && lost.Proof != history.Mismatch {
				found[i].Proof = killed.Proof
			}
			found[i].Detail = killed.Detail + "; " + lost.Detail + detail
			found[i].Recovered = func(ctx context.Context) (time.Duration, string, bool) {
				return d.Processes.Recovered(ctx, killed)
			}
			if err != nil {
				errs[i] = err // the node stays down: it has no disk
				return
			}
			releases[i]()
		})
	}
	cutting.Wait()
	return found, errors.Join(errs...)
}

// effect is something that is in force on a disk.
type effect struct {
	evidence func() disk.Evidence
	undo     func()
	count    func() string
}

// disturb holds an effect on the disk of a target for the fault's duration.
func (d *Disks) disturb(ctx context.Context, in Injection, t Node, put func(*disk.Disk) (effect, error)) Evidence {
	ctx, cancel := context.WithTimeout(ctx, in.Fault.Duration)
	defer cancel()
	n := d.node(t.Name)
	var effects []effect // of each mounting; appended with n.mu held
	detach, err := n.attach(func(on *disk.Disk) (func(), error) {
		e, err := put(on)
		if err == nil {
			effects = append(effects, e)
		}
		return e.undo, err
	})
	if err != nil {
		return Evidence{Proof: history.Inconclusive, Detail: err.Error()}
	}
	during := &period{from: d.Now()}
	n.mu.Lock()
	probe := effects[0].evidence
	if failing(in.Fault.Spec) {
		n.errors = append(n.errors, during)
	}
	n.mu.Unlock()
	in.Struck()
	pid := t.PID()
	probed := make(chan disk.Evidence, 1)
	go func() { probed <- probe() }()
	ends := make(chan int, 1)
	go func() { ends <- countEnds(ctx, t, pid) }()

	var ev disk.Evidence
	select {
	case ev = <-probed:
		if ev.Proof == history.Confirmed {
			in.Seen(ev.At)
		}
		<-ctx.Done()
		detach()
	case <-ctx.Done():
		detach() // which ends what the probe waits for
		ev = <-probed
		if ev.Proof != history.Confirmed {
			ev.Proof = history.Inconclusive
			ev.Detail += "; but the fault was over before the probe"
		}
	}
	found := Evidence{Seen: ev.Proof == history.Confirmed, At: ev.At, Proof: ev.Proof, Detail: ev.Detail}
	n.mu.Lock()
	for i, e := range effects {
		if i > 0 {
			found.Detail += "; then its disk was mounted again"
		}
		found.Detail += "; " + e.count()
	}
	during.to, during.over = d.Now(), true
	n.mu.Unlock()
	if ended := <-ends; ended > 0 {
		found.Detail += fmt.Sprintf("; its process ended %d times meanwhile", ended)
	}
	found.Recovered = func(ctx context.Context) (time.Duration, string, bool) {
		word, ok := awaitReady(ctx, t)
		at := d.Now()
		n.mu.Lock()
		during.to = at
		n.mu.Unlock()
		if now := t.PID(); now != pid {
			word += fmt.Sprintf(" as pid %d, which had been %d", now, pid)
		}
		return at, t.Name + " " + word, ok
	}
	return found
}

// countEnds counts how often the node's process ends until ctx is over, not
// those that are started and end between two looks.
func countEnds(ctx context.Context, t Node, pid int) (ends int) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		now := t.PID()
		if pid != 0 && now != pid {
			ends++
		}
		pid = now
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ends
		}
	}
}

// stopWithin is how long a process may take to begin to stop. One whose only
// thread waits in a file operation does not before that ends.
const stopWithin = 500 * time.Millisecond

// awaitStop returns when a thread of the node's process has stopped after
// SIGSTOP: then none runs code of its own any more, not even with the error of
// an operation in which it waits. Until then the others might.
func awaitStop(t Node) {
	id, ok := process.Identify(t.PID())
	for end := time.Now().Add(stopWithin); ok && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if look, err := id.Look(); err != nil || look.Gone || look.Stopped > 0 {
			return
		}
	}
}
