package chaos

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
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
// required, Resolve if a selector uses OwnerOfLabel or RoleLabel.
type Config struct {
	Faults []*Fault // names are unique
	Nodes  []Node
	Seed   int64 // fixes which of the selected nodes a fault hits

	// Resolve names the nodes that have a value of OwnerOfLabel or RoleLabel
	// at this instant. It is called concurrently.
	Resolve func(ctx context.Context, label, value string) ([]string, error)

	Now    func() time.Duration // run clock
	Start  time.Duration        // instant of the run clock from which the faults' At count
	Record func(history.Fault)  // called concurrently

	RecoverWithin time.Duration // how long a node may take to be back after a fault; 0 means 30 s
}

// Nemesis injects faults on schedule.
type Nemesis struct {
	config   Config
	injector *process.Injector

	mu     sync.Mutex
	active []*injection
}

// injection is a fault in progress.
type injection struct {
	fault   *Fault
	targets []Node
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
	return &Nemesis{config: config, injector: &process.Injector{Now: config.Now}}
}

// Run injects each fault when it is due and returns when all are over: undone
// and, if the nodes come back within RecoverWithin, seen as recovered. When ctx
// ends, faults that are not yet due are left out and the others are undone at
// once; Run still waits for the recovery.
//
// For each fault it records: requested; injected, at the instant at which the
// first target was seen affected; evidence, over all targets; and recovered, at
// the instant at which the last target was seen back. A fault that was not seen
// has no injected event, a node that does not come back no recovered event.
//
// The error says that a fault could not be undone.
func (n *Nemesis) Run(ctx context.Context) error {
	errs := make([]error, len(n.config.Faults))
	var running sync.WaitGroup
	for i, f := range n.config.Faults {
		running.Go(func() {
			timer := time.NewTimer(n.config.Start + f.At - n.config.Now())
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			if ctx.Err() == nil {
				errs[i] = n.run(ctx, f)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
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

// run is the life of one fault.
func (n *Nemesis) run(ctx context.Context, f *Fault) error {
	in := &injection{fault: f}
	var err error
	in.targets, err = n.targets(ctx, f)
	request := in.event(history.Requested, n.config.Now())
	if len(in.targets) > 0 {
		request.Roles = n.roles(ctx, request.Targets)
		request.At = n.config.Now()
	}
	n.config.Record(request)
	if err != nil || len(in.targets) == 0 {
		ev := in.event(history.Evidence, n.config.Now())
		ev.Proof, ev.Detail = history.Inconclusive, "selector matched no node"
		if err != nil {
			ev.Detail = err.Error()
		}
		n.config.Record(ev)
		return nil
	}

	n.begin(in)
	defer n.end(in)
	var first sync.Once
	seen := func(at time.Duration) {
		first.Do(func() {
			ev := in.event(history.Injected, at)
			ev.Roles = request.Roles
			n.config.Record(ev)
		})
	}
	found := make([]process.Evidence, len(in.targets))
	errs := make([]error, len(in.targets))
	var injecting sync.WaitGroup
	for i, t := range in.targets {
		injecting.Go(func() {
			switch {
			case f.Kind == ProcessPause:
				found[i], errs[i] = n.injector.Pause(ctx, t.Node, f.Duration, seen)
			case f.Action == PodFailure:
				found[i] = n.injector.Fail(ctx, t.Node, f.Duration, seen)
			default:
				found[i] = n.injector.Kill(ctx, t.Node, f.Grace, seen)
			}
		})
	}
	injecting.Wait()

	ev := in.event(history.Evidence, n.config.Now())
	ev.Proof, ev.Detail = conclude(found)
	n.config.Record(ev)
	if slices.ContainsFunc(found, func(e process.Evidence) bool { return e.Seen }) {
		n.recover(ctx, in, found)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("undo fault %s: %w", f.Name, err)
	}
	return nil
}

// recover waits for the targets that were affected and records that they are
// back.
func (n *Nemesis) recover(ctx context.Context, in *injection, found []process.Evidence) {
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
			b.at, b.detail, b.ok = n.injector.Recovered(ctx, e)
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
func conclude(found []process.Evidence) (history.Proof, string) {
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
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	names, err := f.selector.match(ctx, n.config.Nodes, n.config.Resolve)
	if err != nil {
		return nil, err
	}
	hash := fnv.New64a()
	hash.Write([]byte(f.Name))
	names = f.selector.take(names, rand.New(rand.NewPCG(uint64(n.config.Seed), hash.Sum64())))
	var targets []Node
	for _, node := range n.config.Nodes {
		if slices.Contains(names, node.Name) {
			targets = append(targets, node)
		}
	}
	return targets, nil
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
