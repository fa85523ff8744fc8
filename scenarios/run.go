package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"statequake/chaos"
	"statequake/chaos/process"
	"statequake/fixtures"
	"statequake/fixtures/lease"
	"statequake/history"
	"statequake/loadgen"
)

// Bounds of the parts of a run that are not the load.
const (
	leadTime     = 100 * time.Millisecond // from the last preparation to the first operation
	recoverLimit = 30 * time.Second       // for the system to be ready again after the load
	auditLimit   = 30 * time.Second       // for all keys to be read back
	stopLimit    = 500 * time.Millisecond // for the nodes to end by themselves
	sampleEvery  = time.Second
	statusEvery  = 200 * time.Millisecond
)

// drainTimes are how long a workload's timers may take after the load, by its
// name: 2 s until a transfer is resumed and 1.5 s until an approval expires, 2 s
// for which the checkers let a timer be late, and a little more.
var drainTimes = map[string]time.Duration{
	"ledger":   4500 * time.Millisecond,
	"shop":     4500 * time.Millisecond,
	"approval": 4 * time.Second,
}

// RunOptions says where and how a scenario runs.
type RunOptions struct {
	Dir       string       // run directory: new, or empty
	Binary    string       // the statequake program, for the nodes of the reference runtime
	Tag       string       // first part of every operation id, 4 hexadecimal digits
	Version   string       // of statequake
	Isolation string       // how the run is kept apart from the rest of the machine, in words
	KeepData  bool         // keep the nodes' data directories
	Watch     func(Status) // is called five times a second, by one goroutine, and once more at the end of an aborted run

	// Observe sees every operation that is complete, of any phase, before it is
	// recorded. It is called concurrently and must not keep the operation.
	Observe func(*history.Op)
	// Owners has the nodes asked, every 2 s, who owns the hottest key, for Status.
	Owners bool

	// Judge says what is certainly wrong with a key by all operations on it, the
	// last of which reads it back. A scenario with Abort.Violation needs it. It
	// is called by one goroutine at a time, during the load.
	Judge func(ops []history.Op) []Finding
}

// Run runs a scenario and records it in a run directory. When ctx ends, the
// load stops, the faults are healed and what was recorded is audited, so that
// it can be judged; so it is when a condition of the scenario's abort is met. An
// error means that there was no run, or that its record is not complete; what was
// recorded stays.
func Run(ctx context.Context, s *Scenario, opt RunOptions) error {
	if s.Abort.Violation && opt.Judge == nil {
		return errors.New("abort.violation: nobody is there to judge")
	}
	script, err := findScript(s, opt.Binary)
	if err != nil {
		return err
	}
	if err := room(opt.Dir, s.Abort.DiskFree); err != nil {
		return err
	}
	if err := makeRunDir(opt.Dir); err != nil {
		return err
	}
	// Without a lock nobody can prove later that this run is dead; it is none the
	// worse for that.
	alive, err := lease.Take(opt.Dir, opt.KeepData)
	if err == nil {
		defer alive.End()
		if err := os.Setenv(lease.Variable, alive.Token); err != nil { // all that is started inherits it
			return err
		}
	}
	kept, err := keepSchedule(s, opt.Dir)
	if err != nil {
		return err
	}
	text, err := kept.Resolved(Facts{Machine: ThisMachine(), Version: opt.Version, Isolation: opt.Isolation, RunTag: opt.Tag})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(opt.Dir, "scenario.yaml"), text, 0o644); err != nil {
		return fmt.Errorf("write the scenario: %w", err)
	}
	create := history.Create
	if s.Record.Compress {
		create = history.CreateCompressed
	}
	record, err := create(opt.Dir)
	if err != nil {
		return err
	}
	defer record.Abort() // does nothing after Close
	r := &run{scenario: s, opt: opt, script: script, record: record, began: time.Now()}
	return r.run(ctx)
}

// makeRunDir makes a directory that holds nothing yet.
func makeRunDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("run directory %s is not empty (it holds %s)\nhint: name a new one with --out", dir, entries[0].Name())
	}
	return nil
}

// run is one run under way.
type run struct {
	scenario *Scenario
	opt      RunOptions
	script   Script
	record   *history.Writer
	began    time.Time
	held     bool // a cluster for faults by hand, without a load

	equipment equipment
	processes *process.Injector // shared by all executors
	system    system
	workload  *loadgen.Workload
	generator generator
	prober    *loadgen.Prober
	faults    *chaos.Nemesis
	endpoints []loadgen.Endpoint
	errors    errorRate
	early     *early // nil: nothing is audited before the end
	live      live

	mu      sync.Mutex
	phase   string
	since   time.Duration // the phase began, or the first operation was due
	total   time.Duration
	aborted string           // why, if it was
	nodes   []*fixtures.Node // once they have started, also those that are down
}

// now is the run clock.
func (r *run) now() time.Duration { return time.Since(r.began) }

func (r *run) run(ctx context.Context) error {
	s := r.scenario
	recording, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // a load that is not recorded is of no use
		select {
		case <-r.record.Failed():
			cancel(fmt.Errorf("record the run: %w", r.record.Err()))
		case <-recording.Done():
		}
	}()

	var err error
	if r.workload, err = loadgen.NewWorkload(s.Load.Workload.Config(s.Seed)); err != nil {
		return err
	}
	r.early = r.newEarly()
	r.enter("starting", r.now(), recoverLimit)
	watching, stopWatching := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { r.watch(watching) })
	defer background.Wait()
	defer stopWatching()
	var guard sync.WaitGroup
	guard.Go(func() { r.watchAbort(recording, cancel) })
	defer guard.Wait()
	defer cancel(nil)

	r.processes = &process.Injector{Now: r.now}
	if err = r.openMeans(recording); err == nil {
		r.system, err = r.start(recording)
	}
	if err != nil {
		err = errors.Join(err, r.equipment.close())
		r.removeData()
		return err
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			r.stopCluster()
		}
	}
	defer stop()
	for _, n := range r.system.Nodes() {
		r.endpoints = append(r.endpoints, r.equipment.endpoint(n))
	}
	r.mu.Lock()
	r.nodes = r.system.Nodes()
	r.mu.Unlock()
	background.Go(func() { r.sample(watching) })
	if r.opt.Owners {
		background.Go(func() { r.watchOwner(watching) })
	}

	result, probed, err := r.load(recording)
	if err != nil {
		return err
	}
	r.drain(recording)
	cancel(nil) // what is left is bounded, and stopping it would leave less to judge
	guard.Wait()
	r.audit(append(r.touched(), probed...))
	r.enter("stopping", r.now(), stopLimit)
	r.ownExits()
	stop()
	stopWatching()
	background.Wait()

	if err := r.record.Err(); err != nil {
		return fmt.Errorf("record the run: %w", err)
	}
	if err := r.record.Close(history.Footer{
		Scheduled: result.Scheduled, End: r.now(), Stopped: result.Stopped, Aborted: r.aborted, Thresholds: result.Thresholds,
	}); err != nil {
		return fmt.Errorf("record the run: %w", err)
	}
	return nil
}

// load drives the workload, the prober and the faults, and waits until the
// system is ready again. It returns what the prober touched.
func (r *run) load(ctx context.Context) (loadgen.Result, []loadgen.EntityKey, error) {
	s, l := r.scenario, r.scenario.Load
	keys, err := r.system.probes(ctx, s.Probe.Keys)
	if err != nil {
		return loadgen.Result{}, nil, fmt.Errorf("place the probes: %w", err)
	}
	start := r.now() + leadTime
	arrivals, err := l.process(s.Seed)
	if err != nil {
		return loadgen.Result{}, nil, err
	}
	var search *climb
	if l.Arrivals.FindMax != nil {
		search = newClimb(&l, arrivals, start+l.Warmup)
	}
	var acks atomic.Int64
	recordOp := func(op *history.Op) {
		if op.Outcome == history.OK {
			acks.Add(1)
		}
		r.errors.record(op, r.now())
		if r.early != nil {
			r.early.record(op)
		}
		if search != nil {
			search.record(op)
		}
		r.recordOp(op)
	}
	var generator generator
	if l.Driver == "k6" {
		arrivals = nil // the script's, whatever its pacer may use
		generator, start, err = r.startScript(ctx, recordOp)
	} else {
		generator, err = loadgen.New(loadgen.Config{
			Driver: l.Driver, Endpoints: r.endpoints, Codec: r.system.codec, Workload: r.workload, Arrivals: arrivals, Clients: l.Arrivals.Clients, Think: l.Arrivals.Think,
			Start: start, Warmup: l.Warmup, Duration: l.Duration, Timeout: l.Timeout,
			Retry: loadgen.Retry{Max: l.Retry.Max, Duplicate: l.Retry.Duplicate.Share()}, Route: l.Route, MaxConns: l.MaxConns,
			Seed: s.Seed, Tag: r.opt.Tag, Now: r.now, Record: recordOp,
		})
	}
	if err != nil {
		return loadgen.Result{}, nil, err
	}
	prober, err := loadgen.NewProber(loadgen.ProberConfig{
		Endpoints: r.endpoints, Codec: r.system.codec, Keys: keys, Every: s.Probe.Every,
		Start: start, Timeout: l.Timeout, Tag: r.opt.Tag, Now: r.now, Record: r.recordOp,
	})
	if err != nil {
		return loadgen.Result{}, nil, err
	}
	plans := make([]*chaos.Fault, len(s.Faults))
	for i, f := range s.Faults {
		plans[i] = f.Plan
	}
	faults := chaos.New(chaos.Config{
		Faults: plans, Nodes: r.targets(), Seed: s.Seed, Resolve: r.system.resolve,
		Executors: r.equipment.executors(), Processes: r.processes,
		Acks: acks.Load, OnFile: r.equipment.onFile(),
		Now: r.now, Start: start + l.Warmup, Record: r.recordFault,
	})
	r.mu.Lock()
	r.generator, r.prober, r.faults = generator, prober, faults
	r.mu.Unlock()
	r.live.begin(plans, faults.Due, arrivals, start, l.Warmup, l.Duration)
	r.enter("load", start, l.Warmup+l.Duration)
	r.errors.begin(start, l.Warmup+l.Duration, s.Abort.Window, l.Timeout, arrivals)

	probing, stopProbing := context.WithCancel(context.Background())
	defer stopProbing()
	injecting, heal := context.WithCancel(ctx)
	defer heal()
	var beside sync.WaitGroup
	var probeErr, faultErr error
	beside.Go(func() { _, probeErr = prober.Run(probing) })
	auditing, stopAuditing := context.WithCancel(ctx)
	defer stopAuditing()
	if r.early != nil {
		beside.Go(func() { r.early.run(auditing) })
	}
	injected := make(chan struct{})
	go func() {
		defer close(injected)
		faultErr = faults.Run(injecting)
	}()
	healByHand := r.takeByHand(faults, start+l.Warmup)
	loading, endLoad := context.WithCancelCause(ctx)
	if search != nil {
		beside.Go(func() { search.watch(loading, r.now, endLoad) })
	}
	result, err := generator.Run(loading)
	endLoad(nil)
	r.errors.end(r.now())
	stopAuditing() // one that waits for a stopped node ends once that is healed

	r.enter("recovery", r.now(), recoverLimit)
	heal()
	healByHand()
	<-injected
	ready, cancel := context.WithTimeout(context.Background(), recoverLimit)
	readyErr := r.system.Ready(ready)
	cancel()
	stopProbing()
	beside.Wait()
	var met *aborted
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.As(cause, &met) {
		err = errors.Join(cause, err)
	}
	if readyErr != nil {
		r.notReady(readyErr)
	}
	return result, prober.Touched(), errors.Join(err, faultErr, probeErr)
}

// notReady records that the system was not ready again after the load. What it
// still answers is audited.
func (r *run) notReady(err error) {
	problem, _, _ := strings.Cut(err.Error(), "; its log ends with") // which is beside the record
	r.recordFault(history.Fault{
		Name: "not-ready", Kind: "NotReady", Event: history.Evidence, At: r.now(),
		Proof: history.Mismatch, Detail: "after the load the system was not ready within " + recoverLimit.String() + ": " + problem,
	})
}

// targets are the nodes as faults see them.
func (r *run) targets() []chaos.Node {
	var nodes []chaos.Node
	if !r.system.started {
		return nil
	}
	for _, n := range r.system.Nodes() {
		nodes = append(nodes, chaos.Node{
			Node:   process.Node{Name: n.Name, Addr: n.Addr, ReadyURL: n.ReadyURL, PID: n.PID, Kill: n.Kill, Hold: n.Hold},
			Labels: n.Labels,
		})
	}
	return nodes
}

// drain waits for the timers of the workload, unless ctx ends: then those that
// are left are for the checkers to excuse.
func (r *run) drain(ctx context.Context) {
	wait, ok := drainTimes[r.scenario.Load.Workload.Name]
	if !ok {
		return
	}
	r.enter("drain", r.now(), wait)
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

// audit reads every key back. Keys that cannot be read stay out of the history,
// which makes their verdict unknown.
func (r *run) audit(keys []loadgen.EntityKey) {
	r.enter("audit", r.now(), auditLimit)
	ctx, cancel := context.WithTimeout(context.Background(), auditLimit)
	defer cancel()
	_, first := r.early.state()
	// What the audit did not get is in the history, and so in the verdict.
	_ = loadgen.Audit(ctx, loadgen.AuditConfig{
		Endpoints: r.endpoints, Codec: r.system.codec, Keys: keys, Op: r.system.audit, Timeout: r.scenario.Load.Timeout, Tag: r.opt.Tag, Now: r.now,
		Record: r.recordOp, First: first,
	})
}

// ownExits records the ends of nodes that no fault asked for, one event for a
// node.
func (r *run) ownExits() {
	for node, exits := range r.system.OwnExits() {
		exits = slices.DeleteFunc(exits, func(e fixtures.Exit) bool { return r.equipment.excused(node, e.At) }) // told of by the evidence of the fault
		if len(exits) == 0 {
			continue
		}
		first, last := exits[0], exits[len(exits)-1]
		detail := fmt.Sprintf("%s (pid %d) ended on its own: %s", node, first.PID, first.Status)
		if len(exits) > 1 {
			detail += fmt.Sprintf("; so it did %d times, the last one: %s", len(exits), last.Status)
		}
		r.recordFault(history.Fault{
			Name: "own-exit-" + node, Kind: "OwnExit", Event: history.Evidence, At: first.At, Targets: []string{node},
			Proof: history.Mismatch, Detail: detail,
		})
	}
}

func (r *run) stopCluster() {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	// A node that had to be killed is gone all the same, and its log tells why.
	_ = r.system.Stop(ctx)
	// What was recorded is not touched by this.
	_ = r.equipment.close()
	r.removeData()
}

// removeData removes what the nodes wrote, unless it is to be kept.
func (r *run) removeData() {
	if !r.opt.KeepData {
		_ = os.RemoveAll(filepath.Join(r.opt.Dir, "data"))
	}
}

// sample records the resources of the nodes and of this process, and those of
// this process once more when ctx ends: what befell the generator since the last
// time must not go unseen.
func (r *run) sample(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		for _, s := range r.system.Sample() {
			r.recordSample(s)
		}
		if r.driven() {
			r.recordSample(r.self())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.recordSample(r.self())
			return
		}
	}
}

// self is a sample of the generator, that is of this process.
func (r *run) self() history.Sample {
	s := loadgen.OwnSample(r.now())
	r.mu.Lock()
	g, p := r.generator, r.prober
	r.mu.Unlock()
	if g != nil {
		st := g.Stats()
		s.LagP50, s.LagP99, s.LagMax, s.Dispatched = st.LagP50, st.LagP99, st.LagMax, st.Dispatched
		s.StallMax = max(st.StallMax, p.StallMax()) // outages are measured by probes, also after the load
		if g, ok := g.(*loadgen.Generator); ok {
			s.OwnDelayP99, s.OwnDelayMax = g.TakeOwnDelay()
		}
	}
	return s
}

func (r *run) enter(phase string, since, total time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase, r.since, r.total = phase, since, total
}

// watch reports the state of the run until ctx ends.
func (r *run) watch(ctx context.Context) {
	if r.opt.Watch == nil {
		return
	}
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.opt.Watch(r.status())
		case <-ctx.Done():
			if st := r.status(); st.Aborted != "" { // perhaps since the last one
				r.opt.Watch(st)
			}
			return
		}
	}
}
