package chaos

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"statequake/chaos/process"
	"statequake/history"
)

// Executor carries out faults of some kinds.
type Executor interface {
	// Inject lets a fault act on its targets for its duration, or until ctx
	// ends, undoes it, and returns what was observed, in the order of the
	// targets. It is called concurrently. Several faults at once on a node
	// compose: all of them act, and what they share (a process held down, a
	// path cut) is undone with the last of them.
	//
	// The error says that the fault could not be undone.
	Inject(ctx context.Context, in Injection) ([]Evidence, error)
}

// Injection is what an Executor is asked for.
type Injection struct {
	Fault   *Fault
	Targets []Node // at least one
	Peers   []Node // NetworkChaos: the other end; nil: everybody, the clients too
	Seed    uint64 // for what the executor draws; of the run's seed and the fault's name

	// Seen is told when a target was seen affected, on the run clock. The first
	// call counts.
	Seen func(at time.Duration)

	// Struck lets go of the file operation that triggered the fault, if one
	// did: the node waits in it. It is to be called as soon as the fault is in
	// force, more often if need be; the end of Inject lets go, too.
	Struck func()
}

// Evidence is what an observer other than the injector found out about a fault
// on one target.
type Evidence struct {
	Seen   bool          // its effect was seen
	At     time.Duration // then: when, on the run clock
	Proof  history.Proof
	Detail string // in words, with figures

	// Recovered waits until the target is back and returns when that was seen,
	// on the run clock, and a word on it; false if ctx ends before. Set if Seen.
	Recovered func(ctx context.Context) (at time.Duration, detail string, ok bool)
}

// processes executes PodChaos and ProcessPause.
type processes struct{ injector *process.Injector }

func (p processes) Inject(ctx context.Context, in Injection) ([]Evidence, error) {
	found := make([]Evidence, len(in.Targets))
	errs := make([]error, len(in.Targets))
	var injecting sync.WaitGroup
	for i, t := range in.Targets {
		node := t.Node
		node.Kill = func(sig syscall.Signal) error {
			// A thread that waits in a file operation can neither stop nor end.
			defer in.Struck()
			return t.Kill(sig)
		}
		injecting.Go(func() {
			var ev process.Evidence
			switch spec := in.Fault.Spec.(type) {
			case Kill:
				ev = p.injector.Kill(ctx, node, spec.Grace, in.Seen)
			case Fail:
				ev = p.injector.Fail(ctx, node, in.Fault.Duration, in.Seen)
			case Pause:
				ev, errs[i] = p.injector.Pause(ctx, node, in.Fault.Duration, in.Seen)
			}
			found[i] = Evidence{Seen: ev.Seen, At: ev.At, Proof: ev.Proof, Detail: ev.Detail,
				Recovered: func(ctx context.Context) (time.Duration, string, bool) { return p.injector.Recovered(ctx, ev) }}
		})
	}
	injecting.Wait()
	return found, errors.Join(errs...)
}
