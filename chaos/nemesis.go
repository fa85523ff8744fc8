package chaos

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"statequake/chaos/process"
	"statequake/history"
)

const (
	// defaultRecoverWithin bounds the wait for a node to be back.
	defaultRecoverWithin = 30 * time.Second

	// resolveWithin bounds the look-up of labels at the instant of injection.
	resolveWithin = 2 * time.Second
)

// roles are looked up for the record: which role a fault met.
var roles = []string{"store-leader", "store-follower"}

// Node is a node of the system under test.
type Node struct {
	process.Node
	Labels map[string]string // NodeLabel at least
}

// Config says what a Nemesis does to whom. Faults, Nodes, Now and Record are
// required; Resolve if a selector uses OwnerOfLabel or RoleLabel other than
// Minority and Majority; Acks and OnFile if a fault has such a trigger.
type Config struct {
	Faults []*Fault // names are unique
	Nodes  []Node
	Seed   int64 // fixes which of the selected nodes a fault hits, and when Within starts it

	// Executors carry out faults, by kind. PodChaos and ProcessPause have one
	// if none is given.
	Executors map[string]Executor

	// Processes is shared with executors that kill or hold nodes, too, so that
	// the last fault to end is the one that lets a node start; nil: nobody does.
	Processes *process.Injector

	// Resolve names the nodes that have a value of OwnerOfLabel or RoleLabel
	// at this instant. It is called concurrently.
	Resolve func(ctx context.Context, label, value string) ([]string, error)

	// Acks is how many operations were acknowledged so far. It is called
	// concurrently, and every millisecond while a fault waits for it.
	Acks func() int64

	// OnFile waits for the Nth operation on files of the nodes, counted over
	// all of them from the call on, and keeps it from going on until release is
	// called, once. If ctx ends before, it returns an error. It is called
	// concurrently.
	OnFile func(ctx context.Context, on OnFile, nodes []Node) (release func(), err error)

	Now    func() time.Duration // run clock
	Start  time.Duration        // instant of the run clock from which triggers count
	Record func(history.Fault)  // called concurrently

	RecoverWithin time.Duration // how long a node may take to be back after a fault; 0 means 30 s
}

// Nemesis injects faults on schedule.
type Nemesis struct {
	config Config
	lives  map[string]*life // by the name of the fault
	*activity
}

// activity is what a Nemesis does at present.
type activity struct {
	mu     sync.Mutex
	active []*injection
	taken  map[string]bool // names of faults, those by hand too
}

// injection is a fault in progress.
type injection struct {
	fault   *Fault
	targets []Node
}

// life is what faults that wait for another one see of it.
type life struct {
	seen, over         chan struct{} // closed
	seenOnce, overOnce sync.Once
}

func newLife() *life { return &life{seen: make(chan struct{}), over: make(chan struct{})} }

func (l *life) isSeen() { l.seenOnce.Do(func() { close(l.seen) }) }
func (l *life) isOver() { l.overOnce.Do(func() { close(l.over) }) }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// New makes a Nemesis; nothing happens before Run.
func New(config Config) *Nemesis {
	if config.RecoverWithin == 0 {
		config.RecoverWithin = defaultRecoverWithin
	}
	if config.Resolve == nil {
		config.Resolve = func(_ context.Context, label, _ string) ([]string, error) {
			return nil, fmt.Errorf("this system does not tell %s", label)
		}
	}
	if config.Processes == nil {
		config.Processes = &process.Injector{Now: config.Now}
	}
	local := processes{config.Processes}
	executors := map[string]Executor{PodChaos: local, ProcessPause: local}
	maps.Copy(executors, config.Executors)
	config.Executors = executors

	n := &Nemesis{config: config, lives: map[string]*life{}, activity: &activity{taken: map[string]bool{}}}
	for _, f := range config.Faults {
		n.lives[f.Name], n.taken[f.Name] = newLife(), true
	}
	return n
}

// Run injects each fault when its trigger says so and returns when all are
// over: undone and, if the nodes come back within RecoverWithin, seen as
// recovered. When ctx ends, the others are undone at once; Run still waits for
// the recovery. Of the faults that have not started then, those that wait for
// an instant are left out; those that wait for an event that did not come are
// recorded as requested, with evidence that is inconclusive.
//
// For each fault it records: requested; injected, at the instant at which the
// first target was seen affected; evidence, over all targets; and recovered, at
// the instant at which the last target was seen back. A fault that was not seen
// has no injected event, a node that does not come back no recovered event.
//
// The error is that of CheckTriggers, and then nothing was injected; or it says
// that a fault could not be undone.
func (n *Nemesis) Run(ctx context.Context) error {
	if err := CheckTriggers(n.config.Faults); err != nil {
		return err
	}
	errs := make([]error, len(n.config.Faults))
	var running sync.WaitGroup
	for i, f := range n.config.Faults {
		running.Go(func() { errs[i] = n.live(ctx, f) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// live waits for a fault's trigger and injects it.
func (n *Nemesis) live(ctx context.Context, f *Fault) error {
	self := n.lives[f.Name]
	defer self.isOver()
	start, instant := n.Due(f)
	if !instant {
		start = n.config.Start
	}
	if !n.wait(ctx, start) {
		switch f.Trigger.(type) {
		case AfterAcks, OnFile, While:
			n.missed(f, "the run ended before the schedule began")
		}
		return nil
	}

	switch t := f.Trigger.(type) {
	case AfterAcks:
		if n.config.Acks == nil {
			n.missed(f, "nobody counts acknowledgements")
			return nil
		}
		before := n.config.Acks()
		for n.config.Acks()-before < int64(t) {
			if !n.wait(ctx, n.config.Now()+time.Millisecond) {
				n.missed(f, fmt.Sprintf("the run ended after %d of %d acknowledgements", n.config.Acks()-before, t))
				return nil
			}
		}
	case OnFile:
		return n.liveOnFile(ctx, f, t)
	case While:
		other := n.lives[string(t)]
		select {
		case <-other.seen:
		case <-other.over:
		case <-ctx.Done():
		}
		switch {
		case !closed(other.seen):
			n.missed(f, fmt.Sprintf("fault %s was not seen injected", t))
			return nil
		case closed(other.over), ctx.Err() != nil:
			n.missed(f, fmt.Sprintf("fault %s was over at once", t))
			return nil
		}
		var end context.CancelFunc
		ctx, end = context.WithCancel(ctx)
		defer end()
		go func() {
			select {
			case <-other.over:
				end()
			case <-ctx.Done():
			}
		}()
	}
	targets, err := n.targets(ctx, f)
	return n.run(ctx, f, targets, err, func() {})
}

// liveOnFile is live for a fault that a file operation triggers.
func (n *Nemesis) liveOnFile(ctx context.Context, f *Fault, on OnFile) error {
	if n.config.OnFile == nil {
		n.missed(f, "nobody watches the files of the nodes")
		return nil
	}
	targets, err := n.targets(ctx, f)
	if err != nil || len(targets) == 0 {
		return n.run(ctx, f, nil, err, func() {})
	}
	release, err := n.config.OnFile(ctx, on, targets)
	if err != nil {
		n.missed(f, fmt.Sprintf("%s %d of %s did not come: %v", on.Op, on.Nth, on.Path, err))
		return nil
	}
	release = sync.OnceFunc(release)
	defer release()
	return n.run(ctx, f, targets, nil, release)
}

// wait waits until the run clock shows until; false if ctx ends before.
func (n *Nemesis) wait(ctx context.Context, until time.Duration) bool {
	timer := time.NewTimer(until - n.config.Now())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// missed records a fault that could not start: the run did not test what it
// says.
func (n *Nemesis) missed(f *Fault, why string) {
	in := &injection{fault: f}
	n.config.Record(in.event(history.Requested, n.config.Now()))
	n.inconclusive(in, why)
}

func (n *Nemesis) inconclusive(in *injection, why string) {
	ev := in.event(history.Evidence, n.config.Now())
	ev.Proof, ev.Detail = history.Inconclusive, why
	n.config.Record(ev)
}

// Active names the faults in progress and their targets, as in "kill-owner n2",
// in the order of injection: from the request until the recovery. It may be
// called at any time.
func (n *Nemesis) Active() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []string
	for _, in := range n.active {
		list = append(list, in.fault.Name+" "+strings.Join(in.names(), ","))
	}
	return list
}

// Due is when a fault of the schedule starts, on the run clock; false if an event
// decides. It may be called at any time.
func (n *Nemesis) Due(f *Fault) (time.Duration, bool) {
	switch t := f.Trigger.(type) {
	case nil: // at once
		return n.config.Start, true
	case At:
		return n.config.Start + time.Duration(t), true
	case Within:
		return n.config.Start + t.instant(n.random(f, "within")), true
	}
	return 0, false
}

// run is the life of one fault from its request on. struck lets go of the
// operation that triggered it.
func (n *Nemesis) run(ctx context.Context, f *Fault, targets []Node, err error, struck func()) error {
	in := &injection{fault: f, targets: targets}
	request := in.event(history.Requested, n.config.Now())
	if len(targets) > 0 {
		request.Roles = n.roles(ctx, request.Targets)
		request.At = n.config.Now()
	}
	n.config.Record(request)
	var peers []Node
	if err == nil && len(targets) > 0 && f.peers != nil {
		peers, err = n.choose(ctx, f, f.peers)
		if err == nil && len(peers) == 0 {
			err = errors.New("target matched no node")
		}
	}
	executor := n.config.Executors[f.Kind]
	switch {
	case err != nil:
		n.inconclusive(in, err.Error())
		return nil
	case len(targets) == 0:
		n.inconclusive(in, "selector matched no node")
		return nil
	case executor == nil:
		n.inconclusive(in, "nobody executes "+f.Kind)
		return nil
	}

	n.begin(in)
	defer n.end(in)
	var first sync.Once
	found, err := executor.Inject(ctx, Injection{
		Fault: f, Targets: targets, Peers: peers, Seed: n.random(f, "executor").Uint64(), Struck: struck,
		Seen: func(at time.Duration) {
			first.Do(func() {
				ev := in.event(history.Injected, at)
				ev.Roles = request.Roles
				n.config.Record(ev)
				n.lives[f.Name].isSeen()
			})
		},
	})
	struck()
	if f.Duration > 0 {
		n.lives[f.Name].isOver()
	}

	ev := in.event(history.Evidence, n.config.Now())
	ev.Proof, ev.Detail = conclude(found)
	n.config.Record(ev)
	if slices.ContainsFunc(found, func(e Evidence) bool { return e.Seen }) {
		n.recover(ctx, in, found)
	}
	if err != nil {
		return fmt.Errorf("undo fault %s: %w", f.Name, err)
	}
	return nil
}

// recover waits for the targets that were affected and records that they are
// back.
func (n *Nemesis) recover(ctx context.Context, in *injection, found []Evidence) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.config.RecoverWithin)
	defer cancel()
	type back struct {
		at     time.Duration
		detail string
		ok     bool
	}
	backs := make([]back, len(found))
	var waiting sync.WaitGroup
	for i, e := range found {
		if !e.Seen {
			continue
		}
		waiting.Go(func() {
			b := &backs[i]
			b.at, b.detail, b.ok = e.Recovered(ctx)
		})
	}
	waiting.Wait()

	ev := in.event(history.Recovered, 0)
	var details []string
	for i, b := range backs {
		if !found[i].Seen {
			continue
		}
		if !b.ok {
			return
		}
		ev.At = max(ev.At, b.at)
		details = append(details, b.detail)
	}
	ev.Detail = strings.Join(details, "; ")
	n.config.Record(ev)
}

// conclude is the verdict over all targets: the worst one.
func conclude(found []Evidence) (history.Proof, string) {
	proof := history.Confirmed
	var details []string
	for _, e := range found {
		details = append(details, e.Detail)
		if e.Proof == history.Mismatch || proof == history.Confirmed {
			proof = e.Proof
		}
	}
	return proof, strings.Join(details, "; ")
}

// targets are the nodes that a fault hits now.
func (n *Nemesis) targets(ctx context.Context, f *Fault) ([]Node, error) {
	return n.choose(ctx, f, &f.selector)
}

// choose returns the nodes that a selector of the fault takes now.
func (n *Nemesis) choose(ctx context.Context, f *Fault, s *selector) ([]Node, error) {
	names, err := n.match(ctx, f, s)
	if err != nil {
		return nil, err
	}
	names = s.take(names, n.random(f, ""))
	var targets []Node
	for _, node := range n.config.Nodes {
		if slices.Contains(names, node.Name) {
			targets = append(targets, node)
		}
	}
	return targets, nil
}

// match returns the names of the nodes that a selector of the fault matches
// now, sorted.
func (n *Nemesis) match(ctx context.Context, f *Fault, s *selector) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	return s.match(ctx, n.config.Nodes, func(ctx context.Context, label, value string) ([]string, error) {
		if label == RoleLabel && (value == Minority || value == Majority) {
			return half(n.config.Nodes, value, n.random(f, "half")), nil
		}
		return n.config.Resolve(ctx, label, value)
	})
}

// random is the source of one purpose of a fault: the same whatever else was
// drawn.
func (n *Nemesis) random(f *Fault, purpose string) *rand.Rand {
	hash := fnv.New64a()
	hash.Write([]byte(f.Name))
	if purpose != "" {
		hash.Write([]byte("/" + purpose)) // no name has a slash
	}
	return rand.New(rand.NewPCG(uint64(n.config.Seed), hash.Sum64()))
}

// roles finds out which targets have which role. A role that the system does
// not know, or not now, is left out.
func (n *Nemesis) roles(ctx context.Context, targets []string) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	var found map[string]string
	for _, role := range roles {
		names, err := n.config.Resolve(ctx, RoleLabel, role)
		if err != nil {
			continue
		}
		for _, name := range names {
			if slices.Contains(targets, name) {
				if found == nil {
					found = map[string]string{}
				}
				found[name] = role
			}
		}
	}
	return found
}

func (n *Nemesis) begin(in *injection) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.active = append(n.active, in)
}

func (n *Nemesis) end(in *injection) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.active = slices.DeleteFunc(n.active, func(other *injection) bool { return other == in })
}

func (in *injection) names() []string {
	var names []string
	for _, t := range in.targets {
		names = append(names, t.Name)
	}
	return names
}

func (in *injection) event(kind history.EventKind, at time.Duration) history.Fault {
	return history.Fault{
		Name:    in.fault.Name,
		Kind:    in.fault.Kind,
		Action:  in.fault.Action,
		Event:   kind,
		At:      at,
		Targets: in.names(),
	}
}
