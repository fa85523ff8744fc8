package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"statequake/chaos/network"
	"statequake/history"
)

// holdWithin is how long a connection may take that is to be seen through a
// partition; without one there is less evidence.
const holdWithin = 500 * time.Millisecond

// Net is what joins the nodes: a network.Switch or network.Links.
type Net interface {
	Apply(paths []network.Path, e network.Effect, seed uint64) (undo func(), err error)
	Confirm(ctx context.Context, paths []network.Path, e network.Effect) network.Evidence
	Hold(ctx context.Context, p network.Path) (*network.Held, error)
}

// Networks executes NetworkChaos on the paths between the hosts of a Net. Set
// the fields, then call Inject, concurrently if need be.
type Networks struct {
	Net   Net
	Nodes []string             // all nodes; each is a host of that name
	Now   func() time.Duration // run clock

	// Carried is how much of what the system sends passed a path so far. Where
	// it says that of no path between two nodes, the system knows another way,
	// and a fault between its nodes is none. nil: there is no other way.
	Carried func(network.Path) int64
}

// Inject holds the effect for the fault's duration from when it was applied. The
// evidence of a target is that of all its paths, each probed by itself; with a
// partition of both directions also that a TCP connection to one of the peers
// stayed established.
func (n *Networks) Inject(ctx context.Context, in Injection) ([]Evidence, error) {
	spec := in.Fault.Spec.(Network)
	effect := effectOf(spec)
	perTarget, all := n.paths(spec.Direction, in.Targets, in.Peers)
	if len(all) == 0 {
		return nothing(in.Targets, "there is no path to any other host"), nil
	}
	if n.bypassed(all) {
		return nothing(in.Targets, "nothing of the system has passed a path between two nodes so far: it does not use its proxies"), nil
	}
	held := make([]*network.Held, len(in.Targets))
	if effect.Drop && spec.Direction == "both" {
		held = n.hold(ctx, perTarget)
	}
	undo, err := n.Net.Apply(all, effect, in.Seed)
	if err != nil {
		for _, h := range held {
			if h != nil {
				h.Close()
			}
		}
		return nothing(in.Targets, err.Error()), nil
	}
	defer undo()
	in.Struck()
	ctx, cancel := context.WithTimeout(ctx, in.Fault.Duration)
	defer cancel()
	proofs := n.confirm(ctx, all, effect, func(at time.Time) { in.Seen(n.clock(at)) })
	<-ctx.Done()

	found := make([]Evidence, len(in.Targets))
	told := map[network.Path]bool{}
	for i, t := range in.Targets {
		found[i] = n.evidence(t, perTarget[i], proofs, told)
		n.established(&found[i], perTarget[i], held[i])
	}
	return found, nil
}

// nothing is the evidence of a fault that did not happen.
func nothing(targets []Node, why string) []Evidence {
	found := make([]Evidence, len(targets))
	for i, t := range targets {
		found[i] = Evidence{Proof: history.Inconclusive, Detail: t.Name + ": " + why}
	}
	return found
}

// clock is an instant on the run clock.
func (n *Networks) clock(at time.Time) time.Duration { return n.Now() - time.Since(at) }

// bypassed tells whether paths between nodes are meant and the system has used
// none of that kind.
func (n *Networks) bypassed(paths []network.Path) bool {
	between := func(p network.Path) bool { return p.From != network.Client && p.To != network.Client }
	if n.Carried == nil || !slices.ContainsFunc(paths, between) {
		return false
	}
	for _, from := range n.Nodes {
		for _, to := range n.Nodes {
			if n.Carried(network.Path{From: from, To: to}) > 0 {
				return false
			}
		}
	}
	return true
}

// CheckStreams reports what of a fault needs packets, which Links do not have;
// the error begins with the path of the field.
func CheckStreams(s Spec) error {
	spec, ok := s.(Network)
	if !ok {
		return nil
	}
	for _, packets := range []struct {
		needs bool
		field string
	}{
		{spec.Loss != nil, "loss"}, {spec.Duplicate != nil, "duplicate"}, {spec.Corrupt != nil, "corrupt"},
		{spec.Delay != nil && spec.Delay.Reorder != nil, "delay.reorder"},
	} {
		if packets.needs {
			return fmt.Errorf("spec.%s: is what happens to packets, and streams have none", packets.field)
		}
	}
	return nil
}

// CheckPackets reports what of a fault a Switch cannot do, likewise.
func CheckPackets(s Spec) error {
	if spec, ok := s.(Network); ok && spec.Partition != nil && spec.Partition.Reject {
		return errors.New("spec.partitionBehavior: reject answers connections, and a switch forwards packets only")
	}
	return nil
}

// effectOf is the effect that a spec asks for.
func effectOf(spec Network) (e network.Effect) {
	if p := spec.Partition; p != nil {
		e.Drop, e.Reject = !p.Reject, p.Reject
	}
	if d := spec.Delay; d != nil {
		e.Latency, e.Jitter, e.DelayCorrelation = d.Latency, d.Jitter, d.Correlation
		if r := d.Reorder; r != nil {
			e.Reorder, e.ReorderCorrelation, e.Gap = r.Share, r.Correlation, r.Gap
		}
	}
	for _, random := range []struct {
		given              *Random
		share, correlation *float64
	}{
		{spec.Loss, &e.Loss, &e.LossCorrelation},
		{spec.Duplicate, &e.Duplicate, &e.DuplicateCorrelation},
		{spec.Corrupt, &e.Corrupt, &e.CorruptCorrelation},
	} {
		if random.given != nil {
			*random.share, *random.correlation = random.given.Share, random.given.Correlation
		}
	}
	if b := spec.Bandwidth; b != nil {
		e.Rate, e.Limit, e.Buffer = b.BytesPerS, b.Limit, b.Buffer
	}
	return e
}

// paths are those of each target, and all of them, each once.
func (n *Networks) paths(direction string, targets, peers []Node) (perTarget [][]network.Path, all []network.Path) {
	others := append([]string{network.Client}, n.Nodes...)
	if peers != nil {
		others = nil
		for _, p := range peers {
			others = append(others, p.Name)
		}
	}
	for _, t := range targets {
		var own []network.Path
		for _, other := range others {
			if other == t.Name {
				continue
			}
			if direction != "from" {
				own = append(own, network.Path{From: t.Name, To: other})
			}
			if direction != "to" {
				own = append(own, network.Path{From: other, To: t.Name})
			}
		}
		perTarget = append(perTarget, own)
		for _, p := range own {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return perTarget, all
}

// hold connects each target to a peer; nil where that was not possible in time.
func (n *Networks) hold(ctx context.Context, perTarget [][]network.Path) []*network.Held {
	ctx, cancel := context.WithTimeout(ctx, holdWithin)
	defer cancel()
	held := make([]*network.Held, len(perTarget))
	var holding sync.WaitGroup
	for i, paths := range perTarget {
		if len(paths) == 0 {
			continue
		}
		holding.Go(func() {
			if h, err := n.Net.Hold(ctx, paths[0]); err == nil {
				held[i] = h
			}
		})
	}
	holding.Wait()
	return held
}

// confirm observes the effect on each path until it is there or ctx ends. seen
// is told of each path on which it is.
func (n *Networks) confirm(ctx context.Context, paths []network.Path, e network.Effect, seen func(at time.Time)) map[network.Path]network.Evidence {
	proofs := map[network.Path]network.Evidence{}
	var mu sync.Mutex
	var confirming sync.WaitGroup
	for _, p := range paths {
		confirming.Go(func() {
			ev := n.Net.Confirm(ctx, []network.Path{p}, e)
			if ev.Proof == history.Confirmed {
				seen(ev.At)
			}
			mu.Lock()
			defer mu.Unlock()
			proofs[p] = ev
		})
	}
	confirming.Wait()
	return proofs
}

// evidence is that of a target: the worst of its paths. It tells of paths that
// were not told of before.
func (n *Networks) evidence(target Node, paths []network.Path, proofs map[network.Path]network.Evidence, told map[network.Path]bool) Evidence {
	if len(paths) == 0 {
		return nothing([]Node{target}, "there is no path to any other host")[0]
	}
	found := Evidence{Proof: history.Confirmed}
	var details []string
	for _, p := range paths {
		ev := proofs[p]
		if at := n.clock(ev.At); ev.Proof == history.Confirmed && (!found.Seen || at < found.At) {
			found.Seen, found.At = true, at
		}
		if ev.Proof == history.Mismatch || found.Proof == history.Confirmed {
			found.Proof = ev.Proof
		}
		if !told[p] {
			told[p] = true
			details = append(details, ev.Detail)
		}
	}
	if details == nil {
		details = []string{target.Name + ": on paths told of before"}
	}
	found.Detail = strings.Join(details, "; ")
	found.Recovered = func(ctx context.Context) (time.Duration, string, bool) {
		ev := n.Net.Confirm(ctx, paths, network.Effect{})
		if ev.Proof != history.Confirmed {
			return 0, "", false
		}
		word, ok := awaitReady(ctx, target)
		return n.Now(), ev.Detail + "; " + target.Name + " " + word, ok
	}
	return found
}

// established adds what became of a connection over the first of a target's
// paths, and closes it. A partition is silent: whoever learns of it by a reset
// met something else.
func (n *Networks) established(found *Evidence, paths []network.Path, h *network.Held) {
	if h == nil {
		return
	}
	defer h.Close()
	ends := paths[0].From + " and " + paths[0].To
	if h.Established() {
		found.Detail += "; a TCP connection of " + ends + " stayed established"
		return
	}
	found.Proof = history.Mismatch
	found.Detail += "; but a TCP connection of " + ends + " ended"
}
