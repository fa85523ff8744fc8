package chaos

import (
	"context"
	"errors"
	"time"

	"statequake/chaos/stress"
	"statequake/history"
)

// Stresses executes StressChaos by workers beside the nodes. They share one
// machine, so each node feels them, target or not, and the load generator too.
// Faults at once each have workers of their own. The program has to call
// stress.Main first in main.
type Stresses struct {
	Now func() time.Duration // run clock
}

// Inject lets workers work for the duration, counted from the beginning of the
// observation that sees them. A duration of less than stress.MinWatch is too
// short for evidence.
func (s *Stresses) Inject(ctx context.Context, in Injection) ([]Evidence, error) {
	spec := in.Fault.Spec.(Stress)
	config := stress.Config{Now: s.Now}
	if c := spec.CPU; c != nil {
		config.CPU = stress.CPU{Workers: c.Workers, Load: c.Load}
	}
	if m := spec.Memory; m != nil {
		config.Memory = stress.Memory{Workers: m.Workers, Bytes: m.Bytes, Share: m.Share}
	}
	workers, err := stress.Start(ctx, config)
	if err != nil {
		return s.onMachine(in.Targets, stress.Evidence{Proof: history.Mismatch, Detail: err.Error()}, false), nil
	}
	in.Struck()
	ev, seen := s.work(ctx, workers, in)
	workers.Stop()
	if !workers.Gone() {
		err = errors.New("a worker is still there")
	}
	return s.onMachine(in.Targets, ev, seen), err
}

// work observes the workers while they work: as briefly as possible at first,
// so that they are seen, and then to the end.
func (s *Stresses) work(ctx context.Context, workers *stress.Stress, in Injection) (ev stress.Evidence, seen bool) {
	ctx, cancel := context.WithTimeout(ctx, in.Fault.Duration)
	defer cancel()
	ev = workers.Evidence(ctx, stress.MinWatch)
	if ev.Proof != history.Confirmed {
		return ev, false
	}
	in.Seen(ev.At)
	after := workers.Evidence(ctx, in.Fault.Duration) // or until ctx ends
	if after.Short {
		return ev, true
	}
	ev.Proof = after.Proof
	ev.Detail += "; after that " + after.Detail
	return ev, true
}

// onMachine is evidence about the machine as evidence about each of its nodes.
func (s *Stresses) onMachine(targets []Node, ev stress.Evidence, seen bool) []Evidence {
	found := make([]Evidence, len(targets))
	for i, t := range targets {
		detail := t.Name + ": " + ev.Detail
		if i > 0 {
			detail = t.Name + ": likewise, on the same machine"
		}
		found[i] = Evidence{Seen: seen, At: ev.At, Proof: ev.Proof, Detail: detail,
			Recovered: func(ctx context.Context) (time.Duration, string, bool) {
				word, ok := awaitReady(ctx, t)
				return s.Now(), "the workers are gone; " + t.Name + " " + word, ok
			}}
	}
	return found
}
