package compare

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"statequake/reports/check"
	"statequake/reports/stats"
)

// Pairing says whether run i of base belongs to run i of head.
type Pairing int

const (
	Auto     Pairing = iota // paired if both sides have the same number of runs, more than one
	Paired                  // the sides must have the same number of runs
	Unpaired                // the order of runs means nothing
)

// Config says how to compare.
type Config struct {
	Pairing Pairing
	// Alpha is the largest chance to call any head a regression in any metric that
	// gates if base and heads are equal, and the largest to call one head no worse
	// in all of them if it is worse in one by the margin or more; in [0.0001, 0.5),
	// 0 means DefaultAlpha.
	Alpha   float64
	Budgets Budgets
	Gate    *Gate // nil if only a violation of correctness decides the exit code
}

// DefaultAlpha stops one of fifty changes that make no difference, and lets
// DefaultPairs decide, whichever metrics are tested: that all of nine pairs look
// worse by chance has a probability of 1/512, a tenth of DefaultAlpha.
const DefaultAlpha = 0.02

// DefaultPairs is the number of pairs that is recommended: two more than the least
// with which anything can be decided on five metrics, so that one bad pair does
// not hide a regression.
const DefaultPairs = 10

// power is the chance to decide for which Metric.Needed is stated.
const power = 0.8

// maxNeeded is the largest number of runs that is worth stating.
const maxNeeded = 1000

// Outcome is the result of a comparison, and of one metric.
type Outcome string

const (
	NoWorse      Outcome = "no worse"     // head is within the margin, with confidence
	Regression   Outcome = "regression"   // head is worse, with confidence, and by the margin or more
	Inconclusive Outcome = "inconclusive" // the runs do not decide
	Violation    Outcome = "violation"    // head broke its contract; of a comparison only
)

// Report is the comparison of one head with base.
type Report struct {
	Outcome Outcome `json:"outcome"`
	Base    Counted `json:"-"` // that of the comparison
	Head    Counted `json:"head"`
	Paired  bool    `json:"paired"`
	Pairs   int     `json:"pairs"` // of which both runs are usable; 0 if unpaired

	Alpha  float64 `json:"-"`           // see Config
	Tested int     `json:"tested"`      // metrics of this head that share alpha
	Tail   float64 `json:"alpha_end"`   // alpha / tests of all heads: the chance that the better end of an interval is wrong; that of the worse end is alpha
	Least  int     `json:"runs_needed"` // runs a side below which nothing can be decided at that level

	Metrics    []Metric `json:"metrics"`
	Violations []string `json:"violations"` // of correctness, in head
	Notes      []string `json:"notes"`      // what else a reader must know

	samples []sample // of the metrics that were measured, until they are tested
}

// Counted says what became of the runs of a side.
type Counted struct {
	Path       string `json:"path"`
	Runs       int    `json:"runs"`
	Usable     int    `json:"usable"`     // passed, so that their figures are compared
	Violations int    `json:"violations"` // broke their contract
	Unknown    int    `json:"unknown"`    // prove nothing, or were never judged

	Load *SideLoad `json:"load,omitempty"` // nil without usable runs
}

// SideLoad says how well the load generators of the usable runs of a side kept
// up.
type SideLoad struct {
	Requested *float64      `json:"requested_rate_per_s"` // of all runs together, per run; nil if one has a closed loop
	Achieved  float64       `json:"achieved_rate_per_s"`  // likewise
	Unsent    int64         `json:"unsent"`               // sum
	LagP50    time.Duration `json:"send_lag_p50_ns"`      // median of the runs in which it is known; 0 if there is none
	LagP99    time.Duration `json:"send_lag_p99_ns"`      // largest
	LagMax    time.Duration `json:"send_lag_max_ns"`      // largest
}

// Metric is the comparison of one figure. What is unknown is null.
type Metric struct {
	Name   string `json:"name"`
	What   string `json:"what"`
	Unit   unit   `json:"unit"`   // of the medians: ns, per_s or ops
	Better string `json:"better"` // higher or lower

	Base *float64 `json:"base_median"` // over usable runs
	Head *float64 `json:"head_median"`

	// Scale is ratio, for head/base by logarithms, or difference, for head-base
	// in Unit, if a value is 0. Estimate is the Hodges-Lehmann estimate, Low and
	// High its confidence interval, both ends in it; see Report.Tail.
	Scale    string   `json:"scale"`
	Estimate *float64 `json:"estimate"`
	Low      *float64 `json:"low"`
	High     *float64 `json:"high"`

	P     *float64 `json:"p"`      // one-sided, of equal sides, against a worse head
	PHolm *float64 `json:"p_holm"` // corrected for the number of tests of all heads; null if the metric only informs

	Margin   float64 `json:"margin"` // 0.05: head may be worse by 5 %
	Decision Outcome `json:"decision"`
	Reason   string  `json:"reason,omitempty"` // why it is not a plain "no worse"
	// Needed is about how many runs a side would decide with a chance of 80 %,
	// if the estimate and the spread of these runs are true; null if it is more
	// than 1000 or nothing is known of the spread.
	Needed *int `json:"runs_needed"`

	Limit       string `json:"limit,omitempty"` // absolute, from the gate file
	WithinLimit *bool  `json:"within_limit,omitempty"`

	Gates    bool `json:"gates"`    // false if it only informs, and so does not share alpha
	Measured bool `json:"measured"` // in every usable run, of which each side has one or more
}

// compare begins the comparison of one head with base: what follows is to test
// its samples, once it is known how many tests share alpha.
func compare(base, head *Side, cfg Config) (*Report, error) {
	n := len(head.Runs)
	if cfg.Pairing == Paired && len(base.Runs) != n {
		return nil, fmt.Errorf("%s: %d runs cannot be paired with the %d of %s\nhint: --paired=false compares them unpaired", head.Path, n, len(base.Runs), base.Path)
	}
	r := &Report{
		Base: base.count(), Head: head.count(), Alpha: cfg.Alpha,
		Paired:  cfg.Pairing == Paired || cfg.Pairing == Auto && len(base.Runs) == n && n > 1,
		Metrics: []Metric{}, Violations: []string{}, Notes: []string{},
	}
	b, h := base.usable(), head.usable()
	if r.Paired {
		b, h = pairs(base, head)
		r.Pairs = len(b)
	}
	r.measure(b, h, cfg)
	r.Violations = append(r.Violations, head.Violated()...)
	r.note(base, head)
	return r, nil
}

// measure takes the samples of the metrics from usable runs, which correspond if
// the comparison is paired.
func (r *Report) measure(base, head []*Run, cfg Config) {
	for _, m := range metrics {
		s := newSample(m, base, head, cfg.Budgets[m.name])
		if !s.measured {
			if limit := s.budget.limit(m); limit != "" {
				// A limit that cannot be checked is not kept.
				r.Metrics = append(r.Metrics, s.unmeasured(limit))
			} else if _, named := cfg.Budgets[m.name]; named && !s.budget.Informs {
				r.Notes = append(r.Notes, fmt.Sprintf("The gate names %s, which no run has measured.", m.name))
			}
			continue
		}
		r.samples = append(r.samples, s)
		if s.tested() {
			r.Tested++
		}
	}
}

// test decides on every metric. tail is the chance to call one of them a
// regression if the sides are equal.
func (r *Report) test(tail float64) {
	r.Tail = tail
	r.Least = least(r.Paired, tail)
	for _, s := range r.samples {
		r.Metrics = append(r.Metrics, s.decide(r.Paired, chances{regression: tail, noWorse: r.Alpha}, r.Least))
	}
	slices.SortStableFunc(r.Metrics, func(a, b Metric) int {
		return slices.Index(metricNames(), a.Name) - slices.Index(metricNames(), b.Name)
	})
}

// decide makes one outcome of violations and of the metrics that gate.
func (r *Report) decide() {
	gates := 0
	has := func(o Outcome) bool {
		return slices.ContainsFunc(r.Metrics, func(m Metric) bool { return m.Gates && m.Decision == o })
	}
	for _, m := range r.Metrics {
		if m.Gates {
			gates++
		}
	}
	switch {
	case len(r.Violations) > 0:
		r.Outcome = Violation
	case has(Regression):
		r.Outcome = Regression
	case has(Inconclusive) || gates == 0:
		r.Outcome = Inconclusive
	default:
		r.Outcome = NoWorse
	}
}

// sample holds the values of one metric. Those that were not measured are left
// out of base and head, which then are incomplete.
type sample struct {
	metric
	budget     Budget
	base, head []float64
	measured   bool // in any run
	gap        string
}

func newSample(m metric, base, head []*Run, budget Budget) sample {
	s := sample{metric: m, budget: budget}
	if budget.Margin != nil {
		s.margin = *budget.Margin
	}
	collect := func(runs []*Run, side string) []float64 {
		var values []float64
		for _, run := range runs {
			if v := m.value(&run.verdict); !math.IsNaN(v) {
				values = append(values, v)
			}
		}
		s.measured = s.measured || len(values) > 0
		if len(values) < len(runs) && s.gap == "" {
			s.gap = fmt.Sprintf("measured in %d of %d usable runs of %s", len(values), len(runs), side)
		}
		return values
	}
	s.base = collect(base, "base")
	s.head = collect(head, "head")
	return s
}

// zero reports whether every value is 0: nothing to test.
func (s *sample) zero() bool {
	nonzero := func(v float64) bool { return v != 0 }
	return !slices.ContainsFunc(s.base, nonzero) && !slices.ContainsFunc(s.head, nonzero)
}

// whole reports whether every usable run has a value, and each side one.
func (s *sample) whole() bool { return s.gap == "" && len(s.base) > 0 && len(s.head) > 0 }

// tested reports whether the metric takes part in the tests, and so shares
// alpha: it gates, and not all of its values are 0. A metric of zeros cannot be
// called worse by chance.
func (s *sample) tested() bool { return s.whole() && !s.zero() && !s.budget.Informs }

func (s *sample) result() Metric {
	result := Metric{
		Name: s.name, What: s.what, Unit: s.unit, Better: "lower", Scale: "ratio", Margin: s.margin,
		Base: known(median(s.base)), Head: known(median(s.head)), Decision: Inconclusive,
		Gates: !s.budget.Informs, Measured: s.whole(),
	}
	if s.higher {
		result.Better = "higher"
	}
	return result
}

// unmeasured is the result of a metric that no run has, but the budget limits.
func (s *sample) unmeasured(limit string) Metric {
	result := s.result()
	no := false
	result.Limit, result.WithinLimit = limit, &no
	result.Reason = "not measured, so the limit " + limit + " cannot be checked"
	return result
}

// chances are those of an error in one metric. That of a regression is a share of
// alpha, since one metric is enough for the comparison to end with it. That of no
// worse is alpha: the comparison ends with it only if every metric does, so an
// error takes one in the very metric that is worse (an intersection-union test,
// Berger 1982).
type chances struct{ regression, noWorse float64 }

// decide compares the values of the metric; least is the number of runs a side
// that a regression takes.
func (s *sample) decide(paired bool, wrong chances, least int) Metric {
	result := s.result()
	s.test(&result, paired, wrong, least)
	if limit := s.budget.limit(s.metric); limit != "" {
		result.Limit = limit
		if len(s.head) > 0 {
			within := s.budget.allows(median(s.head))
			result.WithinLimit = &within
			if !within {
				result.Decision, result.Needed = Regression, nil
				result.Reason = fmt.Sprintf("the median of head, %s, breaks the limit %s", s.unit.format(median(s.head)), limit)
			}
		}
	}
	return result
}

func (s *sample) test(result *Metric, paired bool, wrong chances, least int) {
	switch {
	case s.gap != "":
		result.Reason = s.gap
		return
	case len(s.base) == 0 || len(s.head) == 0:
		result.Reason = "no usable run on one side"
		return
	}

	// Worse is positive from here on, whichever direction is better.
	sign := 1.0
	if s.higher {
		sign = -1
	}
	scaled := func(v float64) float64 { return sign * math.Log(v) }
	limit := math.Log1p(s.margin)
	if min(slices.Min(s.base), slices.Min(s.head)) <= 0 {
		result.Scale = "difference"
		scaled = func(v float64) float64 { return sign * v }
		limit = s.margin * *result.Base
	}
	base, head := each(s.base, scaled), each(s.head, scaled)

	var worse shift
	var p, spread float64
	if paired {
		differences := make([]float64, len(base))
		for i := range base {
			differences[i] = head[i] - base[i]
		}
		worse, spread = pairedShift(differences, wrong.regression, wrong.noWorse), variance(differences)
		p = signFlip(differences)
	} else {
		worse, spread = twoSampleShift(base, head, wrong.regression, wrong.noWorse), variance(base)+variance(head)
		p = medianShift(base, head)
	}
	// Back to head/base, or head-base.
	back := func(v float64) *float64 {
		v *= sign
		if result.Scale == "ratio" {
			v = math.Exp(v)
		}
		return known(v)
	}
	result.Estimate = back(worse.estimate)
	if !s.zero() && len(base)+len(head) > 2 {
		result.P = &p
	}
	result.Needed = needed(worse.estimate, limit, spread, wrong, max(least, min(len(base), len(head))+1))
	if !worse.bounded {
		result.Reason = tooFew(paired, len(base), len(head), least)
		if min(len(base), len(head)) < 2 {
			result.Needed = &least // one run tells nothing about the spread
		}
		return
	}
	result.Low, result.High = back(worse.low), back(worse.high)
	if s.higher {
		result.Low, result.High = result.High, result.Low
	}
	switch {
	case worse.high < limit || worse.high <= 0 && limit == 0:
		result.Decision, result.Needed = NoWorse, nil
	case worse.low > 0 && worse.estimate >= limit:
		result.Decision, result.Needed = Regression, nil
		result.Reason = "the whole interval is on the worse side, and the estimate is not within the margin"
	case worse.low > 0:
		result.Reason = "it is worse, but perhaps by less than the margin"
	default:
		result.Reason = "the interval holds both no change and more than the margin"
		if worse.estimate >= limit {
			result.Reason = "the estimate is beyond the margin, but the interval holds no change"
		}
	}
}

func tooFew(paired bool, base, head, least int) string {
	if paired {
		return fmt.Sprintf("%s of usable runs, %d are needed for an interval at this level", plural(base, "pair"), least)
	}
	return fmt.Sprintf("%d against %d usable runs, %d a side are needed for an interval at this level", base, head, least)
}

// needed is about how many runs a side bring the interval's end to the side of
// the bound on which the estimate is, with the chance power, from the variance
// of a difference: that of the normal approximation, with the asymptotic
// efficiency 3/pi of the rank tests.
func needed(estimate, limit, variance float64, wrong chances, least int) *int {
	distance, tail := limit-estimate, wrong.noWorse // to be shown no worse
	if estimate >= limit {
		distance, tail = estimate, wrong.regression // to be shown worse
	}
	z := normalQuantile(1-tail) + normalQuantile(power)
	n := math.Ceil(z * z * variance / (distance * distance) * math.Pi / 3)
	if !(n <= maxNeeded) { // NaN too
		return nil
	}
	least = max(least, int(n))
	return &least
}

// least is the number of runs a side below which no interval has an end that is
// wrong with at most the probability tail.
func least(paired bool, tail float64) int {
	for n := 1; ; n++ {
		if paired && signedRankRank(n, tail) > 0 || !paired && mannWhitneyRank(n, n, tail) > 0 {
			return n
		}
	}
}

func each(values []float64, f func(float64) float64) []float64 {
	mapped := make([]float64, len(values))
	for i, v := range values {
		mapped[i] = f(v)
	}
	return mapped
}

// known is v, or nil if it is not a finite number.
func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func (s *Side) count() Counted {
	c := Counted{Path: s.Path, Runs: len(s.Runs)}
	for i := range s.Runs {
		switch run := &s.Runs[i]; {
		case run.usable():
			c.Usable++
		case run.violated():
			c.Violations++
		default:
			c.Unknown++
		}
	}
	c.Load = s.load()
	return c
}

func (s *Side) load() *SideLoad {
	usable := s.usable()
	if len(usable) == 0 {
		return nil
	}
	l := new(SideLoad)
	requested, open := 0.0, true
	var p50 []time.Duration
	for _, run := range usable {
		load := &run.verdict.Load
		l.Achieved += load.AchievedRate / float64(len(usable))
		l.Unsent += load.Unsent
		if load.RequestedRate != nil {
			requested += *load.RequestedRate / float64(len(usable))
		} else {
			open = false
		}
		if lag := load.SendLag; lag.P50 != nil && lag.P99 != nil && lag.Max != nil {
			p50 = append(p50, *lag.P50)
			l.LagP99, l.LagMax = max(l.LagP99, *lag.P99), max(l.LagMax, *lag.Max)
		}
	}
	if open {
		l.Requested = &requested
	}
	if len(p50) > 0 {
		slices.Sort(p50)
		l.LagP50 = p50[(len(p50)-1)/2]
	}
	return l
}

func (s *Side) usable() []*Run {
	var runs []*Run
	for i := range s.Runs {
		if s.Runs[i].usable() {
			runs = append(runs, &s.Runs[i])
		}
	}
	return runs
}

// pairs are the runs of base and head whose partner is usable too.
func pairs(base, head *Side) (b, h []*Run) {
	for i := range base.Runs {
		if base.Runs[i].usable() && head.Runs[i].usable() {
			b, h = append(b, &base.Runs[i]), append(h, &head.Runs[i])
		}
	}
	return b, h
}

// oneScenario is the scenario that all judged runs are of.
func oneScenario(sides ...*Side) (string, error) {
	var first string
	var of string
	for _, side := range sides {
		for _, run := range side.Runs {
			switch name := run.verdict.Scenario; {
			case name == "":
			case first == "":
				first, of = name, side.Path+" ("+run.Name+")"
			case name != first:
				return "", fmt.Errorf("%s (%s): a run of scenario %q, %s is of %q: their figures cannot be compared", side.Path, run.Name, name, of, first)
			}
		}
	}
	return first, nil
}

// explain says how a run broke its contract.
func (r *Run) explain() string {
	var found []string
	for _, c := range r.verdict.Checks {
		if c.Verdict != check.Violated {
			continue
		}
		var kinds []string
		for _, kind := range slices.Sorted(maps.Keys(c.Kinds)) {
			kinds = append(kinds, fmt.Sprintf("%d %s", c.Kinds[kind], kind))
		}
		found = append(found, c.Name+" check: "+strings.Join(kinds, ", "))
	}
	if r.lost() {
		found = append(found, plural(*r.verdict.LostAcks, "acknowledged write")+" lost")
	}
	if len(found) == 0 {
		found = []string{"verdict violation"}
	}
	return r.Name + ": " + strings.Join(found, "; ")
}

// note collects what makes the comparison doubtful.
func (r *Report) note(base, head *Side) {
	note := func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }
	for _, c := range []struct {
		side string
		Counted
	}{{"base", r.Base}, {"head", r.Head}} {
		if c.Unknown > 0 {
			note("%s of %s left out: unknown or not judged.", plural(c.Unknown, "run"), c.side)
		}
		if c.Violations > 0 {
			note("%s of %s left out: correctness was violated.", plural(c.Violations, "run"), c.side)
		}
	}
	differ := func(what string, of func(*verdict) any) {
		seen := map[any]bool{}
		for _, run := range slices.Concat(base.usable(), head.usable()) {
			seen[of(&run.verdict)] = true
		}
		if len(seen) > 1 {
			note("The runs differ in %s.", what)
		}
	}
	differ("the machine they were made on", func(v *verdict) any { return v.Machine })
	differ("the contract they were judged by (ack)", func(v *verdict) any { return v.System.Ack })
	differ("the requested rate", func(v *verdict) any {
		if v.Load.RequestedRate == nil || v.FindMax != nil {
			return nil
		}
		return *v.Load.RequestedRate
	})
	if r.Paired {
		b, h := pairs(base, head)
		mixed := 0
		for i := range b {
			if b[i].verdict.Seed != h[i].verdict.Seed {
				mixed++
			}
		}
		if mixed > 0 {
			note("%d of %s are of runs with different seeds.", mixed, plural(r.Pairs, "pair"))
		}
	}
	for _, side := range []*Side{base, head} {
		if text := side.Knees(); text != "" {
			note("%s: %s.", side.Path, text)
		}
	}
	degraded := 0
	for _, run := range slices.Concat(base.usable(), head.usable()) {
		if run.verdict.Load.Generator == stats.Degraded {
			degraded++
		}
	}
	if degraded > 0 {
		note("The load generator was degraded in %s.", plural(degraded, "run"))
	}
}
