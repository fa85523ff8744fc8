package reports

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"statequake/history"
	"statequake/reports/check"
	"statequake/reports/recovery"
	"statequake/reports/stats"
	"statequake/reports/trace"
)

// version is that of verdict.json.
const version = 1

// Verdict is all that is known about a run, as verdict.json holds it. Times are
// nanoseconds; instants are on the harness's monotonic clock since the start of
// the run. A value that is null is unknown.
type Verdict struct {
	Version int           `json:"version"`
	Verdict check.Verdict `json:"verdict"`
	// Reasons are sentences that say why the verdict is not a plain pass, and what
	// else a reader must know about it.
	Reasons []string `json:"reasons"`

	Scenario string `json:"scenario"`
	Claim    string `json:"claim"`
	Seed     int64  `json:"seed"`
	Runs     int    `json:"runs"` // that the verdict is about, 1
	System   System `json:"system"`

	Load           Load               `json:"load"`
	Latency        stats.Latency      `json:"latency_ns"`
	AnsweredWithin map[string]float64 `json:"answered_within"`
	Throughput     stats.Throughput   `json:"throughput_per_s"`
	FindMax        *stats.FindMax     `json:"find_max,omitempty"` // of a search for the highest rate

	Checks       []check.Result `json:"checks"`
	LostAcks     *int           `json:"lost_acks"` // acknowledged writes that are gone, those the contract allows too
	Faults       []Fault        `json:"faults"`
	Expectations []Expectation  `json:"expectations"`

	Resources          map[string]stats.Resources `json:"resources"` // by node
	GeneratorResources stats.Resources            `json:"generator_resources"`

	Machine    Machine `json:"machine"`
	Statequake string  `json:"statequake"`          // version that made the run
	Isolation  string  `json:"isolation,omitempty"` // how the run was kept apart from the rest of the machine

	dir  string // the run directory, for the terminal only: what is written does not depend on it
	plan string // the resolved scenario

	// For the charts.
	run    *trace.Run
	keys   *recovery.Keys
	curves stats.Curves

	evidence *history.Run // operations that the first violations can be told by, and all faults
	excerpts []excerpt

	byHand []string // names of faults that the scenario does not have
	script string   // path of the k6 script that was run by hand, without a scenario; "" for a scenario
}

// System is the system under test.
type System struct {
	Name    string        `json:"name"`
	Version string        `json:"version"`
	Nodes   int           `json:"nodes"`
	Store   string        `json:"store,omitempty"`     // of the reference runtime: "etcd" or "postgres"; empty for one's own system
	Network string        `json:"network,omitempty"`   // what faults of the network met: "streams" or "packets"; empty without any
	Ack     string        `json:"ack"`                 // the contract it is judged by
	Window  time.Duration `json:"window_ns,omitempty"` // of ack: memory
	Bug     string        `json:"bug,omitempty"`       // planted on purpose
	Reveals string        `json:"reveals,omitempty"`   // kind of violation that the scenario says the bug must show
	URL     string        `json:"url,omitempty"`
}

// Load is what the generator did in the load phase.
type Load struct {
	Scheduled int64 `json:"scheduled"`
	OK        int64 `json:"ok"`
	Fail      int64 `json:"fail"`
	Info      int64 `json:"info"`
	Unsent    int64 `json:"unsent"`

	RequestedRate *float64      `json:"requested_rate_per_s"` // null for a closed loop
	AchievedRate  float64       `json:"achieved_rate_per_s"`
	Start         time.Duration `json:"start_ns"`
	Duration      time.Duration `json:"duration_ns"`       // shorter than asked for if the load was stopped early
	Stopped       string        `json:"stopped,omitempty"` // why somebody stopped it early; empty if a condition of the scenario's abort did

	SendLag          SendLag       `json:"send_lag_ns"`
	Generator        stats.Fitness `json:"generator"`
	GeneratorReasons []string      `json:"generator_reasons,omitempty"`
}

// SendLag is how much later than scheduled the generator got to operations.
type SendLag struct {
	P50 *time.Duration `json:"p50"`
	P99 *time.Duration `json:"p99"`
	Max *time.Duration `json:"max"`
}

// Fault is one fault with its evidence, and how the system came back from it.
type Fault struct {
	recovery.Fault
	Recovery *recovery.Recovery `json:"recovery"` // null if it was not injected
}

// Judge reads a run directory and judges it. The verdict depends on the
// directory's scenario.yaml, history.jsonl, faults.jsonl and samples.jsonl
// only. A torn history, as an interrupted run leaves it, is judged too; its
// verdict is not pass.
//
// It returns an error if the directory cannot be read as a run.
func Judge(dir string) (*Verdict, error) {
	plan, err := readScenario(dir)
	if err != nil {
		return nil, err
	}
	contract := check.Options{Ack: plan.System.Ack, Window: plan.System.Window, Witness: plan.witnessed()}
	checks := check.New(contract)
	defer checks.Close()
	measured := &trace.Run{}
	record, err := history.ReadRun(dir, func(op *history.Op) error {
		measured.Ops.Add(op)
		return checks.Add(op)
	})
	if err != nil {
		return nil, err
	}
	measured.Faults, measured.Samples, measured.Footer = record.Faults, record.Samples, record.Footer
	found, err := checks.Judge(check.Rest{Faults: record.Faults, Footer: record.Footer, Skipped: record.Skipped})
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", dir, err)
	}
	if err := checks.Close(); err != nil { // what follows needs the memory
		return nil, fmt.Errorf("check %s: %w", dir, err)
	}
	v, err := judge(dir, plan, found, measured, record.Skipped)
	if err != nil {
		return nil, err
	}
	again := func(fn func(*history.Op) error) error {
		_, err := history.ReadRun(dir, fn)
		return err
	}
	return v, v.explain(again, record.Faults, record.Footer, contract)
}

// judge makes the verdict of what the checks found and what was measured.
// skipped is the number of unreadable ends of the record.
func judge(dir string, plan *scenario, checks []check.Result, run *trace.Run, skipped int) (*Verdict, error) {
	var lost []recovery.Lost
	lostKnown := false
	for _, r := range checks {
		for _, l := range r.LostAcks {
			lost = append(lost, recovery.Lost{Entity: l.Entity, Key: l.Key, Returned: l.Returned})
		}
		if r.Name == "witness" {
			lostKnown = r.Verdict != check.Unknown
		}
	}

	window, _ := stats.LoadWindow(run, plan.Load.Warmup, plan.Load.Duration)
	combined := recovery.Faults(run.Faults)
	recoveries, keys := recovery.Measure(recovery.Run{
		Ops: &run.Ops, Faults: combined, Load: window, Lost: lost, LostKnown: lostKnown,
	})
	faults := []Fault{}
	var disturbed []stats.Window
	for i, f := range combined {
		faults = append(faults, Fault{Fault: f, Recovery: recoveries[i]})
		if recoveries[i] != nil {
			disturbed = append(disturbed, recoveries[i].Window)
		}
	}
	for _, f := range plan.Faults {
		if !slices.ContainsFunc(combined, func(c recovery.Fault) bool { return c.Name == f.Name }) {
			faults = append(faults, Fault{Fault: recovery.Fault{
				Name: f.Name, Kind: f.Chaos.Kind, Action: f.Chaos.Spec.Action, Targets: []string{},
				Evidence: recovery.Evidence{Verdict: history.Inconclusive, Detail: "never requested"},
			}})
		}
	}

	measure := stats.Config{
		Load: window, Faults: disturbed, Closed: plan.Load.Arrivals.Closed.Clients > 0, Answered: answered(plan.Expect),
	}
	var found *stats.FindMax
	if plan.search != nil {
		found = plan.search.FindMax(run, window)
		if until, ok := found.Trusted(); ok {
			measure.Trusted = &until
		}
	}
	s := stats.Measure(run, measure)
	v := &Verdict{
		Version: version, Scenario: plan.Name, Claim: plan.Claim, Seed: plan.Seed, Runs: 1,
		System: System{
			Name: plan.System.Name, Version: plan.System.Version, Nodes: plan.System.Nodes, Store: plan.System.Store, Network: plan.System.Network, Ack: plan.System.Ack,
			Window: plan.System.Window, Bug: plan.System.Bug, Reveals: plan.Reveals, URL: string(plan.System.URL),
		},
		Load: Load{
			Scheduled: s.Scheduled, OK: s.Counts.OK, Fail: s.Counts.Fail, Info: s.Counts.Info, Unsent: s.Counts.Unsent,
			RequestedRate: s.RequestedRate, AchievedRate: s.AchievedRate, Start: window.From, Duration: window.Length(),
			SendLag:   SendLag{s.Generator.LagP50, s.Generator.LagP99, s.Generator.LagMax},
			Generator: s.Generator.Verdict, GeneratorReasons: s.Generator.Reasons,
		},
		Latency: s.Latency, AnsweredWithin: s.AnsweredWithin, Throughput: s.Throughput, FindMax: found,
		Checks: checks, Faults: faults,
		Resources: s.Resources, GeneratorResources: s.GeneratorResources,
		Machine: plan.Machine, Statequake: plan.Resolved.Statequake, Isolation: plan.Resolved.Isolation,
		dir: dir, run: run, plan: plan.text, keys: keys, curves: s.Curves,
	}
	// A search ends by itself, and says so where its levels are.
	if run.Footer != nil && run.Footer.Aborted == "" && (found == nil || !found.Ended()) {
		v.Load.Stopped = run.Footer.Stopped
	}
	v.byHand = plan.unplanned(combined)
	if plan.System.HTTP == nil && plan.System.URL != "" {
		v.script = plan.Load.Driver.Script
	}
	if reason := plan.undriven(run.Footer, s.Counts.Unsent); reason != "" {
		v.Load.GeneratorReasons = append(slices.Clip(v.Load.GeneratorReasons), reason)
	}
	e := evaluation{stats: s, faults: faults, lost: -1, findMax: found}
	if lostKnown {
		e.lost = len(lost)
		v.LostAcks = &e.lost
	}
	expected, err := e.evaluate(plan.Expect)
	if err != nil {
		return nil, err
	}
	v.Expectations = append(expected, thresholds(run.Footer)...)
	v.decide(run.Footer, skipped)
	return v, nil
}

// decide sets the verdict and its reasons.
func (v *Verdict) decide(footer *history.Footer, skipped int) {
	var violations []string // what the system did wrong
	var unknowns []string   // what keeps the run from proving anything
	var notes []string      // what else to know
	unknown := func(format string, args ...any) { unknowns = append(unknowns, fmt.Sprintf(format, args...)) }

	if footer != nil && footer.Aborted != "" {
		unknown("The run was %s.", footer.Aborted)
	}
	for _, r := range v.Checks {
		switch r.Verdict {
		case check.Pass:
		case check.Violated:
			violations = append(violations, fmt.Sprintf("The %s check found %s.", r.Name, kinds(r)))
		default:
			unknown("The %s check is undecided: %s.", r.Name, strings.Join(r.Reasons, "; "))
		}
	}
	if len(v.Checks) == 0 {
		unknown("No check applies to this run.")
	}
	if v.Load.OK == 0 {
		unknown("No operation of the load was answered ok: an empty history proves nothing.")
	}
	if skipped > 0 && footer != nil {
		unknown("The last line of %s could not be read.", plural(int64(skipped), "file"))
	}
	for i := range v.Faults {
		f := &v.Faults[i]
		switch {
		case slices.Contains(observed, f.Kind):
			unknown("By itself, not by a fault of the scenario: %s.", f.Evidence.Detail)
		case f.Requested == nil && f.Injected == nil:
			unknown("The fault %s was planned, but never requested.", f.Name)
		case f.Injected == nil:
			unknown("The fault %s was requested at %s, but never injected%s.", f.Name, instant(*f.Requested), because(f.Evidence.Detail))
		case f.Evidence.Verdict != history.Confirmed:
			unknown("The fault %s is not proven: its evidence is %s%s.", f.Name, f.Evidence.Verdict, because(f.Evidence.Detail))
		case f.Recovered == nil:
			notes = append(notes, fmt.Sprintf("The fault %s was not seen to end.", f.Name))
		}
	}
	if len(v.byHand) > 0 {
		notes = append(notes, fmt.Sprintf("Injected by hand, and no part of the scenario that a replay runs: %s.", strings.Join(v.byHand, ", ")))
	}
	if v.Load.Generator == stats.Invalid {
		unknowns = append(unknowns, v.Load.GeneratorReasons...)
	} else {
		notes = append(notes, v.Load.GeneratorReasons...)
	}
	if v.FindMax != nil && v.FindMax.LimitedBy == stats.LimitGenerator {
		notes = append(notes, fmt.Sprintf("The search for the highest rate is %s.", kneeText(v.FindMax)))
	}
	if v.Load.Stopped != "" {
		notes = append(notes, fmt.Sprintf("The load was stopped early (%s); what had happened by then is judged.", v.Load.Stopped))
	}
	for _, x := range v.Expectations {
		if !x.Met {
			notes = append(notes, fmt.Sprintf("The expectation %s is missed: %s, limit %s.", x.Name, x.measured(), x.Limit))
		}
	}

	v.Verdict = check.Overall(v.Checks)
	if v.Verdict == check.Pass && len(unknowns) > 0 {
		v.Verdict = check.Unknown
	}
	v.Reasons = slices.Concat(violations, unknowns, notes)
	if v.Reasons == nil {
		v.Reasons = []string{} // null would mean unknown
	}
}

// ExitCode is the exit code of a command that judged the run: 1 for a
// violation, else 2 for an unknown verdict, else 4 for a missed expectation,
// else 0.
func (v *Verdict) ExitCode() int {
	switch {
	case v.Verdict == check.Violated:
		return 1
	case v.Verdict != check.Pass:
		return 2
	case v.missed() > 0:
		return 4
	}
	return 0
}

// missed is the number of expectations that the run did not meet.
func (v *Verdict) missed() int {
	n := 0
	for _, x := range v.Expectations {
		if !x.Met {
			n++
		}
	}
	return n
}

// kinds says in words what a check found, the commonest kind first.
func kinds(r check.Result) string {
	names := slices.SortedFunc(maps.Keys(r.Kinds), func(a, b string) int {
		if r.Kinds[a] != r.Kinds[b] {
			return r.Kinds[b] - r.Kinds[a]
		}
		return strings.Compare(a, b)
	})
	if len(names) == 1 {
		return fmt.Sprintf("%s of kind %s", plural(int64(r.Total), "violation"), names[0])
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %s", count(int64(r.Kinds[name])), name)
	}
	return fmt.Sprintf("%s: %s", plural(int64(r.Total), "violation"), strings.Join(names, ", "))
}

func because(detail string) string {
	if detail == "" {
		return ""
	}
	return ": " + strings.TrimSuffix(detail, ".")
}

// measured is the measured value in words.
func (x Expectation) measured() string {
	if x.Measured == nil {
		return "it could not be measured"
	}
	return "measured " + *x.Measured
}
