package scenarios

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"statequake/chaos"
	"statequake/fixtures"
	"statequake/history"
	"statequake/loadgen"
)

const (
	// ownerEvery is how often the nodes are asked who owns the hottest key: a
	// request to each, which must not count.
	ownerEvery = 2 * time.Second

	// staleSample is how old the last sample of a store may be that is still up.
	staleSample = 5 * sampleEvery / 2

	// shownFaults is how many faults a Status tells of at most; those by hand that
	// come when there is no room are left out.
	shownFaults = 200

	// shownFindings is how many of the violations found so far a Status holds.
	shownFindings = 10
)

// Status is the state of a run, for whoever watches it. It shares nothing with
// the run. Instants are on the run clock.
type Status struct {
	At      time.Duration // of this status
	Phase   string        // starting, warmup, load, recovery, drain, audit, stopping
	Elapsed time.Duration // in warmup and load: since the first operation was due; else since the phase began
	Total   time.Duration // of warmup and load together; otherwise how long the phase may take
	Load    loadgen.Stats
	Aborted string // which condition of the scenario's abort was met, in words

	// Requested is how many operations were due in the last complete second of
	// the run clock, the one that Load.AchievedRate is about; 0 in a closed loop,
	// and for a script, whose schedule is its own.
	Requested float64
	// Due counts the operations due at an instant or before it; nil where nothing
	// says how many those are.
	Due func(until time.Duration) int64
	// LoadEnd is when the last operation is due; 0 before the load.
	LoadEnd time.Duration

	Faults    []FaultStatus // those of the scenario in its order, then those by hand
	Nodes     []NodeStatus  // those of the system in its order, then its store
	Generator history.Sample

	Looked     bool      // violations are looked for before the end: the scenario has Abort.Violation
	Violations int       // found so far
	Findings   []Finding // the first ones of them, at most 10
}

// FaultStatus is what is known of a fault so far.
type FaultStatus struct {
	Name, Kind, Action string
	Targets            []string       // once it was requested
	When               string         // what starts it, in words
	Due                *time.Duration // when it starts; nil if an event decides
	Lasts              time.Duration  // from its injection until it is undone; 0 if it is not undone, such as a kill
	Active             bool           // from its request until its targets are back, or nobody waits for them any longer

	Requested, Injected, Recovered *time.Duration // as history.Fault has them
	Proof                          history.Proof  // "" until there is evidence
	Detail                         string         // of the evidence, in words
}

// Waits tells whether the fault has not been requested yet.
func (f *FaultStatus) Waits() bool { return f.Requested == nil }

// NodeStatus is what is known of a node at an instant.
type NodeStatus struct {
	Name       string
	State      string  // up, down, held, paused, restarting, or "" if it is not a process of ours
	CPU        float64 // in CPUs, between its last two samples; -1 if unknown
	CPUSeconds float64 // used by the process that runs now, at its last sample
	RSS        int64   // bytes, at its last sample; 0 if unknown
	Hottest    bool    // it owned the hottest key when that was last asked
}

// live is what a Status needs beside what the run has anyway. Its methods may be
// called concurrently. The zero value knows nothing.
type live struct {
	mu         sync.Mutex
	faults     []FaultStatus
	samples    map[string][2]history.Sample // by node: the last one, and the one before it
	order      []string                     // of the nodes in samples
	owner      string                       // of the hottest key
	arrivals   loadgen.Arrivals             // nil: unknown
	start, end time.Duration                // of the load
}

// begin says what is going to happen from the instant start on.
func (l *live) begin(faults []*chaos.Fault, due func(*chaos.Fault) (time.Duration, bool), arrivals loadgen.Arrivals, start, warmup, duration time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrivals, l.start, l.end = arrivals, start, start+warmup+duration
	for _, f := range faults {
		s := FaultStatus{Name: f.Name, Kind: f.Kind, Action: f.Action, When: whenWords(f.Trigger), Lasts: f.Duration}
		if at, ok := due(f); ok {
			s.Due = &at
		}
		l.faults = append(l.faults, s)
	}
}

// whenWords says what starts a fault.
func whenWords(t chaos.Trigger) string {
	switch t := t.(type) {
	case chaos.At:
		return "at " + short(time.Duration(t))
	case chaos.Within:
		return fmt.Sprintf("within %s to %s", short(t.From), short(t.To))
	case chaos.AfterAcks:
		return fmt.Sprintf("after %d acks", int64(t))
	case chaos.OnFile:
		return fmt.Sprintf("on %s %d of %s", t.Op, t.Nth, t.Path)
	case chaos.While:
		return "while " + string(t)
	}
	return "by hand"
}

// fault notes an event in the life of a fault.
func (l *live) fault(ev history.Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.faults, func(f FaultStatus) bool { return f.Name == ev.Name })
	if i < 0 {
		if len(l.faults) == shownFaults {
			return
		}
		i = len(l.faults)
		l.faults = append(l.faults, FaultStatus{Name: ev.Name, When: "by hand"})
	}
	f := &l.faults[i]
	f.Kind, f.Action = ev.Kind, ev.Action
	if len(ev.Targets) > 0 {
		f.Targets = ev.Targets
	}
	at := ev.At
	switch ev.Event {
	case history.Requested:
		f.Requested = &at
	case history.Injected:
		f.Injected = &at
	case history.Evidence:
		f.Proof, f.Detail = ev.Proof, ev.Detail
		if f.Requested == nil { // what was not asked for, such as a node that ended on its own
			f.Requested = &at
		}
	case history.Recovered:
		f.Recovered = &at
	}
}

// sample notes the resources of a node.
func (l *live) sample(s history.Sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.samples == nil {
		l.samples = map[string][2]history.Sample{}
	}
	last, known := l.samples[s.Node]
	if !known {
		l.order = append(l.order, s.Node)
	}
	l.samples[s.Node] = [2]history.Sample{s, last[0]}
}

func (l *live) owned(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owner = node
}

// fill completes a status. active names the faults in progress, nodes are those
// of the system, none before it has started.
func (l *live) fill(st *Status, active []string, nodes []*fixtures.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.faults {
		f := &l.faults[i]
		f.Active = slices.ContainsFunc(active, func(a string) bool { return strings.HasPrefix(a, f.Name+" ") })
	}
	st.Faults = slices.Clone(l.faults)
	st.LoadEnd = l.end
	if arrivals, start, end := l.arrivals, l.start, l.end; arrivals != nil {
		st.Due = func(until time.Duration) int64 { return arrivals.Count(min(until+1, end) - start) }
		second := st.At.Truncate(time.Second)
		st.Requested = float64(st.Due(second-1) - st.Due(second-time.Second-1))
	}
	for _, n := range nodes {
		node := l.node(n.Name)
		if n.Process != nil {
			node.State = string(n.Process.State())
			if node.State == string(fixtures.Up) && l.restarting(n.Name) {
				node.State = "restarting"
			}
		}
		st.Nodes = append(st.Nodes, node)
	}
	for _, name := range l.order {
		s := l.samples[name][0]
		if name == generatorNode {
			st.Generator = s
			continue
		}
		if slices.ContainsFunc(nodes, func(n *fixtures.Node) bool { return n.Name == name }) {
			continue
		}
		node := l.node(name)
		node.State = string(fixtures.Down)
		if st.At-s.At < staleSample {
			node.State = string(fixtures.Up)
		}
		st.Nodes = append(st.Nodes, node)
	}
}

// generatorNode names the samples of the load generator.
const generatorNode = "generator"

// node is what the samples tell of a node. It is called with mu held.
func (l *live) node(name string) NodeStatus {
	n := NodeStatus{Name: name, CPU: -1, Hottest: name == l.owner}
	s, ok := l.samples[name]
	if !ok {
		return n
	}
	last, before := s[0], s[1]
	n.CPUSeconds, n.RSS = last.CPU, last.RSS
	if took := last.At - before.At; before.Node != "" && before.PID == last.PID && took > 0 && last.CPU >= before.CPU {
		n.CPU = (last.CPU - before.CPU) / took.Seconds()
	}
	return n
}

// restarting tells whether a fault took the node away and it was not seen back
// yet. It is called with mu held.
func (l *live) restarting(node string) bool {
	return slices.ContainsFunc(l.faults, func(f FaultStatus) bool {
		return f.Active && (f.Kind == chaos.PodChaos || f.Kind == chaos.PowerLoss) && f.Injected != nil && f.Proof != "" && slices.Contains(f.Targets, node)
	})
}

// watchOwner asks who owns the hottest key until ctx ends.
func (r *run) watchOwner(ctx context.Context) {
	tick := time.NewTicker(ownerEvery)
	defer tick.Stop()
	for {
		owner := ""
		if names, err := r.system.resolve(ctx, chaos.OwnerOfLabel, "hottest"); err == nil && len(names) == 1 {
			owner = names[0]
		}
		r.live.owned(owner)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// status is the state of the run now.
func (r *run) status() Status {
	r.mu.Lock()
	now := r.now()
	st := Status{At: now, Phase: r.phase, Elapsed: max(0, now-r.since), Total: r.total, Aborted: r.aborted}
	if r.phase == "load" && st.Elapsed < r.scenario.Load.Warmup {
		st.Phase = "warmup"
	}
	generator, faults, nodes := r.generator, r.faults, r.nodes
	r.mu.Unlock()

	found, _ := r.early.state()
	st.Looked, st.Violations = r.early != nil, len(found)
	st.Findings = found[:min(len(found), shownFindings)]
	var active []string
	if generator != nil {
		st.Load, active = generator.Stats(), faults.Active()
	}
	r.live.fill(&st, active, nodes)
	return st
}

// recordFault records an event of a fault and shows it.
func (r *run) recordFault(ev history.Fault) {
	r.record.Fault(ev)
	r.live.fault(ev)
}

// recordSample records a sample and shows it.
func (r *run) recordSample(s history.Sample) {
	r.record.Sample(s)
	r.live.sample(s)
}

// recordOp records an operation that is complete, of any phase.
func (r *run) recordOp(op *history.Op) {
	if r.opt.Observe != nil {
		r.opt.Observe(op)
	}
	r.record.Op(op)
}
