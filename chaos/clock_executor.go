package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"time"

	"statequake/chaos/clock"
	"statequake/history"
)

// Clocks executes TimeChaos on the nodes that it starts. Its methods may be
// called concurrently.
//
// A node's clocks are off by the sum of the offsets of the faults in progress,
// those of a process that is started meanwhile from its first instruction on.
// They have to be about the same clocks: of two that are not, the later one is
// not carried out.
type Clocks struct {
	Now func() time.Duration // run clock

	// Here lets Start's functions start nodes on the thread that calls them, in
	// its namespaces: see clock.StartHere.
	Here bool

	mu    sync.Mutex
	nodes map[string]*clockNode
}

// clockNode is a node whose clocks can be moved.
type clockNode struct {
	mu      sync.Mutex
	clock   *clock.Clock // of the process started last; nil before the first one
	pid     int
	moves   []move
	changes int           // starts and moves so far
	started chan struct{} // closed and replaced when a process is started
}

// move is what a fault in progress does.
type move struct {
	offset time.Duration
	clocks clock.Clocks
}

// clockState is a clockNode at an instant.
type clockState struct {
	pid     int
	offset  time.Duration
	moves   int
	changes int
	started <-chan struct{}
}

func (c *Clocks) node(name string) *clockNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes == nil {
		c.nodes = map[string]*clockNode{}
	}
	if c.nodes[name] == nil {
		c.nodes[name] = &clockNode{started: make(chan struct{})}
	}
	return c.nodes[name]
}

// Start returns how a node's process is started, each time. The error is
// clock.ErrUnavailable if this machine does not let clocks be moved.
func (c *Clocks) Start(name string) func(*exec.Cmd) error {
	n, start := c.node(name), clock.Start
	if c.Here {
		start = clock.StartHere
	}
	return func(cmd *exec.Cmd) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		started, err := start(cmd, n.offset(), n.clocks())
		if err != nil {
			return err
		}
		if n.clock != nil {
			n.clock.Close()
		}
		n.clock, n.pid = started, cmd.Process.Pid
		n.changes++
		close(n.started)
		n.started = make(chan struct{})
		return nil
	}
}

// Close frees what it takes to move clocks. They stay as they are.
func (c *Clocks) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, n := range c.nodes {
		n.mu.Lock()
		if n.clock != nil {
			errs = append(errs, n.clock.Close())
		}
		n.mu.Unlock()
	}
	return errors.Join(errs...)
}

// Inject moves the clocks for the duration, counted from when they were moved.
// Evidence comes from the Date header of the node's answers; a node that is
// down is waited for until the fault is over.
func (c *Clocks) Inject(ctx context.Context, in Injection) ([]Evidence, error) {
	found := make([]Evidence, len(in.Targets))
	errs := make([]error, len(in.Targets))
	var moving sync.WaitGroup
	for i, t := range in.Targets {
		moving.Go(func() {
			found[i], errs[i] = c.inject(ctx, in, t)
			found[i].Detail = t.Name + ": " + found[i].Detail
		})
	}
	moving.Wait()
	return found, errors.Join(errs...)
}

func (c *Clocks) inject(ctx context.Context, in Injection, t Node) (found Evidence, err error) {
	found.Proof = history.Mismatch
	spec := in.Fault.Spec.(Clock)
	clocks, err := clock.ParseClocks(spec.Clocks)
	if err != nil {
		found.Detail = err.Error()
		return found, nil
	}
	n := c.node(t.Name)
	m := move{spec.Offset, clocks}
	pid, moveErr := n.begin(m)
	if moveErr != nil && !errors.Is(moveErr, clock.ErrGone) {
		found.Detail = moveErr.Error()
		return found, nil
	}
	defer func() { err = n.end(m) }()
	ctx, cancel := context.WithTimeout(ctx, in.Fault.Duration)
	defer cancel()
	in.Struck()

	var ev clock.Evidence
	if clocks&clock.Realtime != 0 {
		pid, ev = n.confirm(ctx, t, c.Now)
	} else {
		ev = clock.Evidence{Proof: history.Inconclusive, Detail: fmt.Sprintf("%v moved by %v, which nobody else can see: answers show CLOCK_REALTIME alone", clocks, spec.Offset)}
	}
	found.Proof, found.Detail = ev.Proof, ev.Detail
	switch {
	case ev.Proof == history.Mismatch && moveErr != nil:
		found.Detail += "; " + moveErr.Error()
		return found, nil
	case ev.Proof == history.Mismatch:
		return found, nil
	case ev.Proof == history.Confirmed:
		found.Seen, found.At = true, ev.At
		in.Seen(ev.At)
	}
	found.Recovered = func(ctx context.Context) (time.Duration, string, bool) { return n.recovered(ctx, t, c.Now) }

	for {
		now := n.state()
		if now.pid == pid || clocks&clock.Realtime == 0 {
			select {
			case <-now.started:
				continue
			case <-ctx.Done():
				return found, nil
			}
		}
		// Another process runs now.
		pid, ev = n.confirm(ctx, t, c.Now)
		found.Detail += fmt.Sprintf("; of pid %d, started meanwhile: %s", pid, ev.Detail)
		if ev.Proof == history.Mismatch {
			found.Proof = history.Mismatch
		}
	}
}

// begin adds a move to those in force. After ErrGone it is in force for the
// next process, after another error it is not.
func (n *clockNode) begin(m move) (pid int, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.clock == nil:
		return 0, errors.New("it was not started so that its clocks can be moved")
	case len(n.moves) > 0 && n.clocks() != m.clocks:
		return 0, fmt.Errorf("another fault moves %v already, and these clocks cannot be moved by other offsets at the same time: %v", n.clocks(), m.clocks)
	}
	n.moves = append(n.moves, m)
	err = n.set()
	if err != nil && !errors.Is(err, clock.ErrGone) {
		n.moves = n.moves[:len(n.moves)-1]
	}
	return n.pid, err
}

// end takes a move back.
func (n *clockNode) end(m move) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.Index(n.moves, m)
	n.moves = slices.Delete(n.moves, i, i+1)
	err := n.set()
	if errors.Is(err, clock.ErrGone) { // and its clocks with it
		return nil
	}
	return err
}

// set, offset and clocks are called with mu held.
func (n *clockNode) set() error {
	n.changes++
	return n.clock.Set(n.offset(), n.clocks())
}

func (n *clockNode) offset() (sum time.Duration) {
	for _, m := range n.moves {
		sum += m.offset
	}
	return sum
}

func (n *clockNode) clocks() clock.Clocks {
	if len(n.moves) == 0 {
		return 0
	}
	return n.moves[0].clocks
}

func (n *clockNode) state() clockState {
	n.mu.Lock()
	defer n.mu.Unlock()
	return clockState{n.pid, n.offset(), len(n.moves), n.changes, n.started}
}

// confirm asks the node what time it is until the answers tell whether its
// clock is off as it should be, or ctx ends. pid is the process that they are
// about.
func (n *clockNode) confirm(ctx context.Context, t Node, now func() time.Duration) (pid int, ev clock.Evidence) {
	for {
		before := n.state()
		ev = clock.Confirm(ctx, cmp.Or(t.ReadyURL, "http://"+t.Addr+"/"), before.offset, now)
		if n.state().changes != before.changes {
			ev.Again, ev.Proof = true, history.Inconclusive
			ev.Detail += "; but its clock was moved, or it was started, meanwhile"
		}
		if !ev.Again {
			return before.pid, ev
		}
		select {
		case <-ctx.Done():
			return before.pid, ev
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// recovered waits until no fault moves the node's clocks, and it is ready and
// its clock right.
func (n *clockNode) recovered(ctx context.Context, t Node, now func() time.Duration) (at time.Duration, detail string, ok bool) {
	for {
		word, ok := awaitReady(ctx, t)
		if !ok {
			return 0, "", false
		}
		before := n.state()
		if before.moves == 0 {
			_, ev := n.confirm(ctx, t, now)
			if ev.Proof == history.Confirmed && n.state().moves == 0 {
				return ev.At, t.Name + " " + word + "; " + ev.Detail, true
			}
		}
		select {
		case <-ctx.Done():
			return 0, "", false
		case <-time.After(20 * time.Millisecond):
		}
	}
}
