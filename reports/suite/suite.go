package suite

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"statequake/reports"
	"statequake/reports/check"
	"statequake/reports/stats"
)

// Outcome is what became of a planned run.
type Outcome string

const (
	Pass      Outcome = "pass"
	Violation Outcome = "violation"
	Unknown   Outcome = "unknown"    // it proves nothing
	Stopped   Outcome = "stopped"    // somebody ended it early; it proves nothing about the whole
	Missed    Outcome = "missed"     // no violation, but an expectation was not met
	Failed    Outcome = "no verdict" // there was a run, or the attempt, and nothing that it was judged by
	NotRun    Outcome = "not run"    // its turn has not come
	CannotRun Outcome = "cannot run" // the machine lacks what it needs
	Skipped   Outcome = "skipped"    // the same, and it was accepted beforehand
)

// outcomes are all there are, the gravest first.
var outcomes = []Outcome{Violation, Failed, Unknown, CannotRun, Stopped, NotRun, Missed, Skipped, Pass}

// exitCode is that of a command that ran it.
func (o Outcome) exitCode() int {
	switch o {
	case Violation:
		return 1
	case Failed:
		return 3
	case Missed:
		return 4
	case Pass, Skipped:
		return 0
	}
	return 2
}

// Summary is what is known of a suite, as suite.json holds it. What is null is
// unknown.
type Summary struct {
	Version int           `json:"version"`
	Verdict check.Verdict `json:"verdict"`   // pass only if every run passed, skipped ones aside, and there is one
	Exit    int           `json:"exit_code"` // that statequake run ends with
	Says    string        `json:"says"`      // the verdict in words

	Suite      string          `json:"suite"`
	Claim      string          `json:"claim"`
	Statequake string          `json:"statequake"`
	Machine    reports.Machine `json:"machine"` // of the first run with a verdict
	Command    []string        `json:"command"`
	Counts     map[Outcome]int `json:"counts"` // of planned runs by outcome
	Scenarios  []Scenario      `json:"scenarios"`

	planned int // runs
}

// Scenario is one scenario over all its runs.
type Scenario struct {
	Name    string          `json:"name"`
	Source  string          `json:"source"`
	Claim   string          `json:"claim"`
	System  *reports.System `json:"system"`  // of the first run with a verdict
	Outcome Outcome         `json:"outcome"` // the gravest of its runs
	Counts  map[Outcome]int `json:"counts"`

	// Over runs without a violation that prove something: others may have been
	// fast by doing less.
	Requested  *Spread `json:"requested_rate_per_s"`
	Achieved   *Spread `json:"achieved_rate_per_s"`
	P50        *Spread `json:"p50_ns"`
	P99        *Spread `json:"p99_ns"`
	Throughput *Spread `json:"throughput_per_s"`
	Knee       *Spread `json:"knee_rate_per_s"` // of load.arrivals.find_max

	// Over all runs with a verdict.
	OutageMax *time.Duration `json:"outage_max_ns"` // the longest
	KeysDead  int            `json:"keys_dead"`     // that never answered again
	LostAcks  *int           `json:"lost_acks"`     // together; null if a run does not know
	Generator stats.Fitness  `json:"generator"`     // the worst; empty without a verdict

	Runs []Run `json:"runs"`

	faults bool // a run has some
}

// Spread is a figure over runs.
type Spread struct {
	N      int     `json:"n"`
	Median float64 `json:"median"` // of an even number the mean of the middle two
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Run is one planned run.
type Run struct {
	Run     int      `json:"run"` // from 1
	Seed    int64    `json:"seed"`
	Dir     string   `json:"dir"` // seen from that of the suite
	Outcome Outcome  `json:"outcome"`
	Says    string   `json:"says"`    // in words
	Reasons []string `json:"reasons"` // as in its verdict.json

	// Null and empty without a verdict.
	Requested  *float64       `json:"requested_rate_per_s"`
	Achieved   *float64       `json:"achieved_rate_per_s"`
	P50        *time.Duration `json:"p50_ns"` // of all operations of the load that were answered ok
	P99        *time.Duration `json:"p99_ns"`
	Throughput *float64       `json:"throughput_per_s"`
	Knee       *float64       `json:"knee_rate_per_s"`
	OutageMax  *time.Duration `json:"outage_max_ns"`
	KeysDead   int            `json:"keys_dead"`
	LostAcks   *int           `json:"lost_acks"`
	Generator  stats.Fitness  `json:"generator"`
	Load       time.Duration  `json:"load_ns"` // how long the load lasted

	judged bool
	log    string // file with what it printed, empty if there is none
}

// Load reads the plan in dir and all that is there of its runs.
func Load(dir string) (*Summary, error) {
	plan, err := ReadPlan(dir)
	if err != nil {
		return nil, err
	}
	s := &Summary{
		Version: version, Suite: plan.Suite, Claim: plan.Claim, Statequake: plan.Statequake, Command: plan.Command,
		Counts: map[Outcome]int{}, Scenarios: []Scenario{},
	}
	for i := range plan.Scenarios {
		p := &plan.Scenarios[i]
		sc := Scenario{Name: p.Name, Source: p.Source, Claim: p.Claim, Counts: map[Outcome]int{}}
		for n := 1; n <= plan.Runs; n++ {
			r, v, err := plan.load(dir, p, n)
			if err != nil {
				return nil, err
			}
			if v != nil && sc.System == nil {
				sc.System = &v.System
			}
			if v != nil && s.Machine == (reports.Machine{}) {
				s.Machine = v.Machine
			}
			sc.faults = sc.faults || v != nil && len(v.Faults) > 0
			sc.Runs = append(sc.Runs, *r)
			sc.Counts[r.Outcome]++
			s.Counts[r.Outcome]++
			s.planned++
		}
		sc.measure()
		s.Scenarios = append(s.Scenarios, sc)
	}
	s.decide()
	return s, nil
}

// load reads one run; the verdict is nil if there is none.
func (p *Plan) load(dir string, s *Planned, n int) (*Run, *reports.Verdict, error) {
	r := &Run{Run: n, Seed: s.Seed + int64(n-1), Dir: p.Dir(s, n), Reasons: []string{}}
	if exists(filepath.Join(dir, p.Log(s, n))) {
		r.log = p.Log(s, n)
	}
	v, err := reports.Read(filepath.Join(dir, r.Dir))
	switch {
	case err == nil:
		r.judge(v)
		return r, v, nil
	case !missing(err):
		r.Outcome, r.Says = Failed, err.Error()
	case s.CannotRun != "" && s.Skipped:
		r.Outcome, r.Says = Skipped, "skipped, since it cannot run here: "+s.CannotRun
	case s.CannotRun != "":
		r.Outcome, r.Says = CannotRun, "cannot run here: "+s.CannotRun
	case r.log == "" && !exists(filepath.Join(dir, r.Dir, "scenario.yaml")):
		r.Outcome, r.Says = NotRun, "not run yet"
	default:
		r.Outcome, r.Says = Failed, "no verdict: "+p.lastWords(dir, s, n)
	}
	return r, nil, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lastWords is what a run without a verdict said last.
func (p *Plan) lastWords(dir string, s *Planned, n int) string {
	data, _ := os.ReadFile(filepath.Join(dir, p.Log(s, n)))
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	for _, line := range slices.Backward(lines) {
		if problem, ok := strings.CutPrefix(line, "statequake: "); ok && !strings.HasPrefix(problem, "running without namespaces") {
			return problem
		}
	}
	return "it was cut short"
}

// judge fills in what the run's verdict says.
func (r *Run) judge(v *reports.Verdict) {
	var knee *float64
	if v.FindMax != nil {
		knee = v.FindMax.OfSystem()
	}
	r.judged, r.Reasons, r.Says = true, v.Reasons, v.Headline()
	r.Requested, r.Achieved, r.Throughput, r.Knee = v.Load.RequestedRate, &v.Load.AchievedRate, v.Throughput.All, knee
	r.OutageMax, r.KeysDead = v.LongestOutage()
	r.LostAcks, r.Generator, r.Load = v.LostAcks, v.Load.Generator, v.Load.Duration
	if all := v.Latency.All; all.N > 0 {
		r.P50, r.P99 = &all.P50, &all.P99
	}
	switch code := v.ExitCode(); {
	case code == 1:
		r.Outcome = Violation
	case code == 2:
		r.Outcome = Unknown
	case v.Load.Stopped != "":
		r.Outcome, r.Says = Stopped, "it was stopped early; until then, "+r.Says
	case code == 4:
		r.Outcome = Missed
	default:
		r.Outcome = Pass
	}
}

// usable reports whether the run's figures can be believed.
func (r *Run) usable() bool { return r.Outcome == Pass || r.Outcome == Missed }

// measure sums up the runs.
func (s *Scenario) measure() {
	s.Outcome = gravest(s.Counts)
	var requested, achieved, p50, p99, throughput, knee []float64
	add := func(to *[]float64, v *float64) {
		if v != nil {
			*to = append(*to, *v)
		}
	}
	addTime := func(to *[]float64, v *time.Duration) {
		if v != nil {
			*to = append(*to, float64(*v))
		}
	}
	lost, lostKnown, judged := 0, true, false
	for i := range s.Runs {
		r := &s.Runs[i]
		if r.usable() {
			add(&requested, r.Requested)
			add(&achieved, r.Achieved)
			addTime(&p50, r.P50)
			addTime(&p99, r.P99)
			add(&throughput, r.Throughput)
			add(&knee, r.Knee)
		}
		if !r.judged {
			continue
		}
		judged = true
		s.KeysDead += r.KeysDead
		if r.OutageMax != nil && (s.OutageMax == nil || *r.OutageMax > *s.OutageMax) {
			s.OutageMax = r.OutageMax
		}
		if r.LostAcks == nil {
			lostKnown = false
		} else {
			lost += *r.LostAcks
		}
		if graver(r.Generator, s.Generator) {
			s.Generator = r.Generator
		}
	}
	if judged && lostKnown {
		s.LostAcks = &lost
	}
	s.Requested, s.Achieved, s.P50, s.P99 = spread(requested), spread(achieved), spread(p50), spread(p99)
	s.Throughput, s.Knee = spread(throughput), spread(knee)
}

// graver reports whether a says worse of a load generator than b.
func graver(a, b stats.Fitness) bool {
	order := []stats.Fitness{"", stats.Valid, stats.Degraded, stats.Invalid}
	return slices.Index(order, a) > slices.Index(order, b)
}

// gravest is the gravest outcome of those counted, NotRun without any.
func gravest(counts map[Outcome]int) Outcome {
	for _, o := range outcomes {
		if counts[o] > 0 {
			return o
		}
	}
	return NotRun
}

// spread returns nil for no values.
func spread(values []float64) *Spread {
	n := len(values)
	if n == 0 {
		return nil
	}
	slices.Sort(values)
	return &Spread{N: n, Median: (values[(n-1)/2] + values[n/2]) / 2, Min: values[0], Max: values[n-1]}
}

// exitOrder are exit codes, the one that wins first.
var exitOrder = []int{1, 3, 2, 4, 0}

// decide sets the verdict of the suite.
func (s *Summary) decide() {
	s.Exit = 0
	for o, n := range s.Counts {
		if n > 0 && slices.Index(exitOrder, o.exitCode()) < slices.Index(exitOrder, s.Exit) {
			s.Exit = o.exitCode()
		}
	}
	nothing := s.planned == 0 || s.Counts[Skipped] == s.planned
	if nothing {
		s.Exit = 2
	}
	switch s.Exit {
	case 0, 4:
		s.Verdict = check.Pass
	case 1:
		s.Verdict = check.Violated
	default:
		s.Verdict = check.Unknown
	}
	s.Says = s.words(nothing)
}

// words is the verdict in a sentence, without its first capital and its period.
func (s *Summary) words(nothing bool) string {
	switch {
	case s.planned == 0:
		return "the suite has no scenario, so it proves nothing"
	case nothing:
		return "every scenario was skipped, so the suite proves nothing"
	}
	all := reports.Plural(int64(s.planned), "run")
	if len(s.Scenarios) != s.planned {
		all += " of " + reports.Plural(int64(len(s.Scenarios)), "scenario")
	}
	if s.Counts[Pass] == s.planned {
		if s.planned == 1 {
			return "the one run passed"
		}
		return "all " + all + " passed"
	}
	var parts []string
	for _, o := range outcomes {
		n := s.Counts[o]
		if n == 0 {
			continue
		}
		text := reports.Count(int64(n)) + " " + o.did(n)
		if o != Pass {
			text += " (" + strings.Join(s.with(o), ", ") + ")"
		}
		parts = append(parts, text)
	}
	return "of " + all + " " + strings.Join(parts, ", ")
}

// did says what n runs did.
func (o Outcome) did(n int) string {
	one := map[Outcome]string{
		Pass: "passed", Violation: "broke the contract", Unknown: "proves nothing", Stopped: "was stopped early", Missed: "missed an expectation",
		Failed: "has no verdict", NotRun: "was not run", CannotRun: "cannot run here", Skipped: "was skipped",
	}[o]
	if n == 1 {
		return one
	}
	for _, change := range [][2]string{{"was ", "were "}, {"has ", "have "}, {"proves ", "prove "}} {
		if rest, ok := strings.CutPrefix(one, change[0]); ok {
			return change[1] + rest
		}
	}
	return one
}

// shownNames is how many scenarios a sentence names.
const shownNames = 4

// with names the scenarios that have an outcome.
func (s *Summary) with(o Outcome) []string {
	var names []string
	for i := range s.Scenarios {
		if s.Scenarios[i].Counts[o] > 0 {
			names = append(names, s.Scenarios[i].Name)
		}
	}
	if more := len(names) - shownNames; more > 1 {
		names = append(names[:shownNames:shownNames], fmt.Sprintf("and %d more", more))
	}
	return names
}

// ExitCode is that of a command that ran the suite: of the runs' exit codes the
// first of 1, 3, 2, 4, 0. A run without a verdict counts as 3; one that was not
// made, was stopped, or cannot be made here as 2; a skipped one as 0. It is 2 if
// there is nothing else.
func (s *Summary) ExitCode() int { return s.Exit }

// Find returns the run of a scenario, counted from 1, nil if it was not planned.
func (s *Summary) Find(scenario string, run int) *Run {
	for i := range s.Scenarios {
		if sc := &s.Scenarios[i]; sc.Name == scenario && run >= 1 && run <= len(sc.Runs) {
			return &sc.Runs[run-1]
		}
	}
	return nil
}

// Write writes suite.json, summary.html, summary.md and junit.xml into dir. Each
// file is replaced as a whole or not at all; suite.json comes last.
func (s *Summary) Write(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode suite.json: %w", err)
	}
	page, err := s.html()
	if err != nil {
		return err
	}
	tests, err := s.junit()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"summary.html", page}, {"summary.md", s.markdown()}, {"junit.xml", tests}, {"suite.json", append(data, '\n')}} {
		if err := reports.Replace(filepath.Join(dir, f.name), f.data); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	return nil
}

// worstFirst are the runs that are not a plain pass, the gravest first.
func (s *Summary) worstFirst() []notPlain {
	var all []notPlain
	for i := range s.Scenarios {
		for j := range s.Scenarios[i].Runs {
			if r := &s.Scenarios[i].Runs[j]; r.Outcome != Pass {
				all = append(all, notPlain{&s.Scenarios[i], r})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b notPlain) int {
		return cmp.Compare(slices.Index(outcomes, a.Outcome), slices.Index(outcomes, b.Outcome))
	})
	return all
}

// notPlain is a run that is not a plain pass.
type notPlain struct {
	of *Scenario
	*Run
}
