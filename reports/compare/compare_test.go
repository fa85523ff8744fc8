package compare

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"statequake/reports/check"
	"statequake/reports/stats"
)

// figures are the values of a made-up run that passed.
type figures struct {
	throughput                         float64
	p50, p99, p99Faults, outage, cpuOp float64 // nanoseconds
}

// typical is the quickstart in the middle of testdata/quickstart.csv.
var typical = figures{500, 1.65e6, 2.2e8, 5.7e8, 6e8, 2.35e6}

func (f figures) run() Run {
	var v verdict
	v.Version, v.Verdict, v.Scenario, v.System.Ack = verdictVersion, check.Pass, "quickstart", check.Durable
	v.Load.OK, v.Load.Duration = 10000, 20*time.Second
	v.Throughput.All = &f.throughput
	v.Latency.All = stats.Summary{P50: time.Duration(f.p50), P99: time.Duration(f.p99), N: 10000}
	v.Latency.DuringFaults = stats.Summary{P99: time.Duration(f.p99Faults), N: 600}
	v.LostAcks = new(int)
	v.Faults = make([]fault, 1)
	if err := json.Unmarshal(fmt.Appendf(nil, `{"recovery": {"outage_ns": {"max": %d}}}`, int64(f.outage)), &v.Faults[0]); err != nil {
		panic(err)
	}
	v.Resources = map[string]stats.Resources{"n1": {CPU: f.cpuOp * 10000 / 1e9}}
	return Run{Name: "run", verdict: v}
}

// side makes a side of n runs.
func side(path string, n int, f func(i int) figures) *Side {
	s := &Side{Path: path}
	for i := range n {
		run := f(i).run()
		run.Name = fmt.Sprintf("run-%d", i+1)
		s.Runs = append(s.Runs, run)
	}
	return s
}

// noise multiplies figures by log-normal noise with the spreads of the 30 runs
// in testdata/quickstart.csv. The two p99 and the outage follow one cause there
// (whether the killed node led the store); here they are independent, which is
// harder.
func noise(random *rand.Rand, f figures) figures {
	by := func(v, spread float64) float64 { return v * math.Exp(spread*random.NormFloat64()) }
	return figures{by(f.throughput, 0.0006), by(f.p50, 0.113), by(f.p99, 0.93), by(f.p99Faults, 0.50), by(f.outage, 0.47), by(f.cpuOp, 0.051)}
}

// slower makes everything that a node does take by times longer. The load is
// open: its rate does not change.
func (f figures) slower(by float64) figures {
	return figures{f.throughput, f.p50 * by, f.p99 * by, f.p99Faults * by, f.outage * by, f.cpuOp * by}
}

func mustCompare(t *testing.T, base, head *Side, cfg Config) *Report {
	t.Helper()
	return mustCompareAll(t, base, []*Side{head}, cfg).Heads[0]
}

func mustCompareAll(t *testing.T, base *Side, heads []*Side, cfg Config) *Comparison {
	t.Helper()
	c, err := Compare(base, heads, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// exits are the exit codes of a comparison of two sides with the gate without a
// file, and without a gate.
func exits(t *testing.T, base, head *Side) [2]int {
	t.Helper()
	gated := mustCompareAll(t, base, []*Side{head}, Config{Gate: &Gate{File: DefaultGate}})
	free := mustCompareAll(t, base, []*Side{head}, Config{})
	if gated.Outcome != free.Outcome {
		t.Errorf("the gate changes the outcome from %s to %s", free.Outcome, gated.Outcome)
	}
	return [2]int{gated.ExitCode, free.ExitCode}
}

func outcome(r *Report, name string) Metric {
	i := slices.IndexFunc(r.Metrics, func(m Metric) bool { return m.Name == name })
	if i < 0 {
		return Metric{}
	}
	return r.Metrics[i]
}

// quickstart reads the figures of 30 runs of one build of the quickstart.
func quickstart(t *testing.T) []figures {
	f, err := os.Open("testdata/quickstart.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var all []figures
	for _, row := range rows[1:] {
		v := make([]float64, len(row))
		for i, cell := range row {
			if v[i], err = strconv.ParseFloat(cell, 64); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, figures{v[0], v[1], v[2], v[3], v[4], v[5] / v[6] * 1e9})
	}
	if len(all) != 30 {
		t.Fatalf("%d runs", len(all))
	}
	return all
}

// rates compares n times and returns the share of each outcome.
func rates(t *testing.T, n int, sides func() (base, head *Side), cfg Config) map[Outcome]float64 {
	t.Helper()
	share := map[Outcome]float64{}
	for range n {
		base, head := sides()
		share[mustCompare(t, base, head, cfg).Outcome] += 1 / float64(n)
	}
	return share
}

// Equal builds, ten pairs: false regressions stay below alpha.
func TestEqualBuilds(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	simulated := func() (*Side, *Side) {
		one := func(int) figures { return noise(random, typical) }
		return side("base", 10, one), side("head", 10, one)
	}
	// Fewer, since all ways to deal 20 runs to two sides take their time.
	unpaired := func() (*Side, *Side) {
		one := func(int) figures { return noise(random, typical) }
		return side("base", 8, one), side("head", 8, one)
	}
	// Ten of the fifteen pairs of neighbours, with labels flipped by coin.
	real := quickstart(t)
	flipped := func() (*Side, *Side) {
		pairs := random.Perm(15)
		coin := random.Uint64()
		of := func(i int, head uint64) figures { return real[2*pairs[i]+int(coin>>i&1^head)] }
		return side("base", 10, func(i int) figures { return of(i, 0) }), side("head", 10, func(i int) figures { return of(i, 1) })
	}
	for _, tt := range []struct {
		name  string
		sides func() (*Side, *Side)
		cfg   Config
		least float64 // a rate of 0 would mean that the test cannot fail
		most  float64
	}{
		{"simulated, paired", simulated, Config{}, 0.004, DefaultAlpha},
		{"simulated, unpaired", unpaired, Config{Pairing: Unpaired}, 0.004, DefaultAlpha},
		{"a machine that drifts", drifting(random), Config{}, 0.004, DefaultAlpha},
		{"real runs, labels flipped", flipped, Config{}, 0.001, DefaultAlpha},
		{"simulated, less careful", simulated, Config{Alpha: 0.10}, 0.03, 0.10},
	} {
		got := rates(t, 2000, tt.sides, tt.cfg)
		t.Logf("%s: of 2000 comparisons of equal builds %.2f %% regression, %.1f %% inconclusive, %.1f %% no worse",
			tt.name, 100*got[Regression], 100*got[Inconclusive], 100*got[NoWorse])
		if got[Regression] > tt.most || got[Regression] < tt.least {
			t.Errorf("%s: false regressions %v, want %v to %v", tt.name, got[Regression], tt.least, tt.most)
		}
	}
}

// drifting makes equal sides on a machine that is noisy in every way that a
// comparison meets: it slows down by 2 % from run to run, one disturbance lasts over
// several runs, tails are heavy (Student's t with two degrees of freedom), and
// each tenth run is an accident. The order within a pair is that of statequake ab:
// by coin.
func drifting(random *rand.Rand) func() (base, head *Side) {
	return func() (*Side, *Side) {
		disturbed := 0.0
		run := 0
		one := func() figures {
			disturbed = 0.7*disturbed + 0.05*random.NormFloat64()
			by := math.Exp(0.02*float64(run) + disturbed)
			run++
			if random.IntN(10) == 0 {
				by *= 1 + 3*random.Float64()
			}
			heavy := func(v, spread float64) float64 {
				return v * by * math.Exp(min(spread*random.NormFloat64()/math.Sqrt(random.ExpFloat64()), 5))
			}
			f := typical
			return figures{f.throughput / by, heavy(f.p50, 0.03), heavy(f.p99, 0.2), heavy(f.p99Faults, 0.2), heavy(f.outage, 0.1), heavy(f.cpuOp, 0.02)}
		}
		var runs [2][10]figures
		for pair := range 10 {
			first := random.IntN(2)
			runs[first][pair] = one()
			runs[1-first][pair] = one()
		}
		return side("base", 10, func(i int) figures { return runs[0][i] }), side("head", 10, func(i int) figures { return runs[1][i] })
	}
}

// A head that is worse in one metric by the margin is called no worse in all of
// them with at most the chance alpha.
func TestFalseNoWorse(t *testing.T) {
	random := rand.New(rand.NewPCG(41, 42))
	calm := func(f figures) figures { // all but p50 are no worse beyond doubt
		f.p50 *= math.Exp(0.02 * random.NormFloat64())
		return f
	}
	got := rates(t, 4000, func() (*Side, *Side) {
		worse := typical
		worse.p50 *= 1.05
		return side("base", 10, func(int) figures { return calm(typical) }), side("head", 10, func(int) figures { return calm(worse) })
	}, Config{})
	t.Logf("p50 worse by its margin: of 4000 comparisons %.2f %% no worse", 100*got[NoWorse])
	if got[NoWorse] > DefaultAlpha+0.005 || got[NoWorse] < 0.01 { // 19/1024, and two standard errors
		t.Errorf("no worse %v, want about 0.0186", got[NoWorse])
	}
}

// Nodes slowed by 20 %, ten pairs: mostly a regression, and never no worse.
func TestSlowedBuild(t *testing.T) {
	random := rand.New(rand.NewPCG(21, 22))
	for _, tt := range []struct {
		by    float64
		least float64
	}{{1.2, 0.9}, {1.5, 0.95}} {
		got := rates(t, 500, func() (*Side, *Side) {
			return side("base", 10, func(int) figures { return noise(random, typical) }),
				side("head", 10, func(int) figures { return noise(random, typical.slower(tt.by)) })
		}, Config{})
		t.Logf("slower by %v: %v", tt.by, got)
		if got[Regression] < tt.least {
			t.Errorf("slower by %v: found in %v of comparisons, want %v", tt.by, got[Regression], tt.least)
		}
		if got[NoWorse] > 0 {
			t.Errorf("slower by %v: no worse in %v of comparisons", tt.by, got[NoWorse])
		}
	}
}

// The gate can fail: it tells a slower head from an equal one, and from one that
// it cannot judge.
func TestGate(t *testing.T) {
	same := func(int) figures { return typical }
	for _, tt := range []struct {
		name        string
		head        *Side
		gated, free int
	}{
		{"equal", side("head", 9, same), 0, 0},
		{"slower by 20 %", side("head", 9, func(int) figures { return typical.slower(1.2) }), 4, 0},
		{"slower by 20 %, eight runs", side("head", 8, func(int) figures { return typical.slower(1.2) }), 4, 0}, // unpaired
		{"slower by 20 %, two runs", side("head", 2, func(int) figures { return typical.slower(1.2) }), 5, 0},
	} {
		if got := exits(t, side("base", 9, same), tt.head); got != [2]int{tt.gated, tt.free} {
			t.Errorf("%s: exit codes with and without the gate %v, want %d and %d", tt.name, got, tt.gated, tt.free)
		}
	}
}

// needed runs decide with a chance of about 80 %.
func TestNeeded(t *testing.T) {
	const deviation = 0.051
	wrong := chances{regression: DefaultAlpha / 6, noWorse: DefaultAlpha}
	// log 1.05 = 0.0488, deviation of a difference 0.051 sqrt 2 = 0.0721, z =
	// 2.05 + 0.84: (2.90 x 0.0721 / 0.0488)^2 x pi/3 = 19.2
	n := needed(0, math.Log(1.05), 2*deviation*deviation, wrong, 9)
	if n == nil || *n != 20 {
		t.Fatalf("needed %v, want 20", n)
	}
	// log 1.1 = 0.0953 worse, z = 2.71 + 0.84: (3.56 x 0.0721 / 0.0953)^2 x pi/3 = 7.6
	worse := needed(math.Log(1.10), math.Log(1.05), 2*deviation*deviation, wrong, 1)
	if worse == nil || *worse != 8 {
		t.Fatalf("needed %v for a regression, want 8", worse)
	}
	random := rand.New(rand.NewPCG(31, 32))
	decided := 0
	for range 1000 {
		d := make([]float64, *n)
		for i := range d {
			d[i] = deviation * (random.NormFloat64() - random.NormFloat64())
		}
		if pairedShift(d, wrong.regression, wrong.noWorse).high < math.Log(1.05) {
			decided++
		}
	}
	if decided < 750 || decided > 850 {
		t.Errorf("with %d pairs %d of 1000 decided, want about 800", *n, decided)
	}
	if n := needed(0.0487, math.Log(1.05), 0.01, wrong, 9); n != nil {
		t.Errorf("needed %d at the margin", *n)
	}
	if n := needed(0, math.Log(1.05), 0, wrong, 9); n == nil || *n != 9 {
		t.Errorf("needed %v without spread, want 9", n)
	}
}

// The three decisions at their bounds, on nine pairs without noise but for some. At
// the default alpha an interval of nine is from the smallest mean of two pairs to
// the sixth largest.
func TestDecisions(t *testing.T) {
	// pairs are nine: those given, and as many of the last as it takes.
	pairs := func(ratios ...float64) []float64 {
		for len(ratios) < 9 {
			ratios = append(ratios, ratios[len(ratios)-1])
		}
		return ratios
	}
	for _, tt := range []struct {
		name   string
		ratios []float64 // head/base of p50, pair by pair
		margin float64
		want   Outcome
	}{
		{"equal", pairs(1), 0.05, NoWorse},
		{"equal, no margin", pairs(1), 0, NoWorse},
		{"better", pairs(0.8), 0.05, NoWorse},
		{"worse within the margin", pairs(1.02, 1.03, 1.04, 1.02, 1.03, 1.04), 0.05, NoWorse},
		{"one pair beyond the margin", pairs(1.02, 1.03, 1.06, 1.02, 1.03, 1.04), 0.05, NoWorse},
		{"four pairs beyond the margin", pairs(1.07, 1.07, 1.07, 1.07, 1.02), 0.05, Inconclusive},
		{"worse, one pair at no change", pairs(1.0, 1.2), 0.05, Inconclusive},
		{"worse in all pairs", pairs(1.01, 1.2), 0.05, Regression},
		{"worse in all pairs by less than the margin", pairs(1.01, 1.2), 0.25, NoWorse},
		{"eight pairs", pairs(2)[:8], 0.05, Inconclusive},
	} {
		n := len(tt.ratios)
		base := side("base", n, func(i int) figures { return typical })
		head := side("head", n, func(i int) figures { f := typical; f.p50 *= tt.ratios[i]; return f })
		m := outcome(mustCompare(t, base, head, Config{Budgets: Budgets{"p50": {Margin: &tt.margin}}}), "p50")
		if m.Decision != tt.want {
			t.Errorf("%s: %s (%s)", tt.name, m.Decision, m.Reason)
		}
	}
}

// Higher throughput is better: the interval is of head/base, and the margin
// holds for base/head.
func TestThroughput(t *testing.T) {
	ratios := []float64{0.80, 0.81, 0.82, 0.83, 0.84, 0.85, 0.86, 0.87, 0.88}
	at := func(i int, ratio float64) figures { f := typical; f.throughput *= ratio; return f }
	base := side("base", 9, func(i int) figures { return at(i, 1) })
	head := side("head", 9, func(i int) figures { return at(i, ratios[i]) })
	m := outcome(mustCompare(t, base, head, Config{}), "throughput")
	near(t, "low", *m.Low, math.Sqrt(0.81*0.82), 1e-9) // the sixth smallest mean of two
	near(t, "high", *m.High, 0.88, 1e-9)
	if m.Decision != Regression {
		t.Errorf("lower throughput: %s", m.Decision)
	}
	if m := outcome(mustCompare(t, head, base, Config{}), "throughput"); m.Decision != NoWorse {
		t.Errorf("higher throughput: %s", m.Decision)
	}
}

// An outage of 0 has no logarithm.
func TestOutageOfZero(t *testing.T) {
	with := func(outages ...float64) *Side {
		return side("x", len(outages), func(i int) figures { f := typical; f.outage = outages[i]; return f })
	}
	none := with(0, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, tt := range []struct {
		name       string
		base, head *Side
		want       Outcome
	}{
		{"none and none", none, none, NoWorse},
		{"none and some", none, with(1e8, 2e8, 1e8, 1e8, 2e8, 3e8, 1e8, 2e8, 1e8), Regression},
		{"some and none", with(1e8, 2e8, 1e8, 1e8, 2e8, 3e8, 1e8, 2e8, 1e8), none, NoWorse},
		{"none and sometimes", none, with(1e8, 0, 0, 0, 0, 0, 0, 0, 0), Inconclusive},
		{"within the margin of a median of 100 ms", with(1e8, 0, 1e8, 1e8, 1e8, 1e8, 1e8, 1e8, 1e8), with(1e8, 5e6, 1.05e8, 1e8, 1e8, 1e8, 1e8, 1e8, 1e8), NoWorse},
	} {
		m := outcome(mustCompare(t, tt.base, tt.head, Config{}), "outage")
		if m.Decision != tt.want || m.Scale != "difference" {
			t.Errorf("%s: %s on the scale %s (%s)", tt.name, m.Decision, m.Scale, m.Reason)
		}
	}
}

// A dead key counts as out for the whole load of 20 s, however short the other
// outages are.
func TestDeadKey(t *testing.T) {
	run := typical.run()
	run.verdict.Faults[0].Recovery.KeysDead = 1
	if got := outage(&run.verdict); got != 20e9 {
		t.Errorf("outage %v ns, want 20 s", got)
	}
	run.verdict.Faults[0].Recovery.Outage.Max = nil
	if got := outage(&run.verdict); got != 20e9 {
		t.Errorf("outage %v ns, want 20 s", got)
	}
	run.verdict.Faults[0].Recovery.KeysDead = 0
	if got := outage(&run.verdict); !math.IsNaN(got) {
		t.Errorf("outage %v ns, want unknown", got)
	}
	run = typical.run()
	run.verdict.Faults = append(run.verdict.Faults, fault{}) // not injected
	if got := outage(&run.verdict); !math.IsNaN(got) {
		t.Errorf("outage %v ns with a fault that was not injected, want unknown", got)
	}
}

// Correctness is not a matter of statistics: one run of six is enough, whatever
// the figures say.
func TestViolation(t *testing.T) {
	same := func(int) figures { return typical }
	for name, spoil := range map[string]func(*verdict){
		"verdict":   func(v *verdict) { v.Verdict = check.Violated },
		"lost acks": func(v *verdict) { *v.LostAcks = 1 },
	} {
		base, head := side("base", 6, same), side("head", 6, same)
		spoil(&head.Runs[3].verdict)
		r := mustCompare(t, base, head, Config{})
		if got := exits(t, base, head); r.Outcome != Violation || got != [2]int{1, 1} || len(r.Violations) != 1 || !strings.HasPrefix(r.Violations[0], "run-4: ") {
			t.Errorf("%s in head: %s, exit %v, %q", name, r.Outcome, got, r.Violations)
		}
		if r.Pairs != 5 || r.Head.Violations != 1 {
			t.Errorf("%s in head: %d pairs, %+v", name, r.Pairs, r.Head)
		}
		if r := mustCompare(t, head, base, Config{}); r.Outcome != Inconclusive || r.Pairs != 5 {
			t.Errorf("%s in base: %s, %d pairs", name, r.Outcome, r.Pairs)
		}
	}
	// Under ack: memory losses are a metric, the seventh.
	base, head := side("base", 9, same), side("head", 9, same)
	for i := range head.Runs {
		base.Runs[i].verdict.System.Ack, head.Runs[i].verdict.System.Ack = check.Memory, check.Memory
		*head.Runs[i].verdict.LostAcks = 5 + i
	}
	if r := mustCompare(t, base, head, Config{}); r.Outcome != Regression || outcome(r, "lost_acks").Decision != Regression {
		t.Errorf("losses of ack: memory: %s, %+v", r.Outcome, outcome(r, "lost_acks"))
	}
}

// Nothing looks like success that was not measured.
func TestNothingMeasured(t *testing.T) {
	same := func(int) figures { return typical }
	unknown := side("head", 9, same)
	for i := range unknown.Runs {
		unknown.Runs[i].verdict.Verdict = check.Unknown
	}
	gap := side("head", 9, same)
	gap.Runs[2].verdict.Latency.DuringFaults.N = 0
	blank := side("blank", 9, same)
	for i := range blank.Runs {
		blank.Runs[i].verdict = verdict{Verdict: check.Pass}
	}
	for name, tt := range map[string]struct {
		base, head *Side
		warned     int // exit code of a gate that only warns of what is inconclusive
	}{
		"unknown head":   {side("base", 9, same), unknown, 5},
		"unknown base":   {unknown, side("head", 9, same), 5},
		"one run a side": {side("base", 1, same), side("head", 1, same), 0},
		"p99 once lost":  {side("base", 9, same), gap, 5},
		"no figures":     {blank, blank, 5},
	} {
		r := mustCompareAll(t, tt.base, []*Side{tt.head}, Config{Gate: &Gate{File: "gate.yaml", Warn: true}})
		if got := exits(t, tt.base, tt.head); r.Outcome != Inconclusive || got != [2]int{5, 0} || r.ExitCode != tt.warned {
			t.Errorf("%s: %s, exit %v, and %d with warnings, want %d", name, r.Outcome, got, r.ExitCode, tt.warned)
		}
	}
	// Zeros are not tested, so they do not count among the tests.
	if r := mustCompare(t, side("base", 9, same), side("head", 9, same), Config{}); r.Tested != 6 || outcome(r, "lost_acks").P != nil {
		t.Errorf("%d tests, lost_acks %+v", r.Tested, outcome(r, "lost_acks"))
	}
	// Zeros that are too few decide nothing.
	if m := outcome(mustCompare(t, side("base", 6, same), side("head", 6, same), Config{}), "lost_acks"); m.Decision != Inconclusive {
		t.Errorf("no lost acks in six pairs: %s", m.Decision)
	}
	r := mustCompare(t, side("base", 9, same), gap, Config{})
	if m := outcome(r, "p99_faults"); m.Reason != "measured in 8 of 9 usable runs of head" {
		t.Errorf("p99_faults: %q", m.Reason)
	}
}

// An absolute limit holds whatever base does.
func TestLimits(t *testing.T) {
	same := func(int) figures { return typical }
	for text, want := range map[string]Outcome{
		"outage: {max: 600ms}":     NoWorse, // the end is allowed
		"outage: {max: 599ms}":     Regression,
		"throughput: {min: 500/s}": NoWorse,
		"throughput: {min: 501/s}": Regression,
		"cpu_per_op: {max: 2ms}":   Regression,
		"lost_acks: {max: 0}":      NoWorse,
	} {
		cfg, err := ParseGate("b.yaml", fmt.Appendf(nil, "metrics: {%s}", text))
		if err != nil {
			t.Fatal(err)
		}
		r := mustCompare(t, side("base", 9, same), side("head", 9, same), cfg)
		if r.Outcome != want {
			t.Errorf("%s: %s, want %s", text, r.Outcome, want)
		}
	}
	// A limit on what was not measured is not kept.
	steady := func() *Side {
		s := side("x", 9, same)
		for i := range s.Runs {
			s.Runs[i].verdict.Faults = nil
		}
		return s
	}
	limit := 1e9
	r := mustCompare(t, steady(), steady(), Config{Budgets: Budgets{"outage": {Max: &limit}}})
	if m := outcome(r, "outage"); r.Outcome != Inconclusive || m.WithinLimit == nil || *m.WithinLimit {
		t.Errorf("limit on an outage without faults: %s, %+v", r.Outcome, m)
	}
	if r := mustCompare(t, steady(), steady(), Config{}); r.Outcome != NoWorse || outcome(r, "outage").Name != "" {
		t.Errorf("without faults: %s", r.Outcome)
	}
}

func TestPairing(t *testing.T) {
	same := func(int) figures { return typical }
	six, five := side("six", 6, same), side("five", 5, same)
	if r := mustCompare(t, six, five, Config{}); r.Paired {
		t.Error("6 and 5 runs are paired")
	}
	if _, err := Compare(six, []*Side{five}, Config{Pairing: Paired}); err == nil || !strings.Contains(err.Error(), "five: 5 runs cannot be paired with the 6 of six") {
		t.Errorf("6 and 5 runs: %v", err)
	}
	if r := mustCompare(t, six, six, Config{Pairing: Unpaired}); r.Paired || r.Pairs != 0 {
		t.Error("--paired=false pairs")
	}
	other := side("other", 6, same)
	other.Runs[5].verdict.Scenario = "steady"
	if _, err := Compare(six, []*Side{other}, Config{}); err == nil || !strings.Contains(err.Error(), `other (run-6): a run of scenario "steady", six (run-1) is of "quickstart"`) {
		t.Errorf("two scenarios: %v", err)
	}
	if r := mustCompare(t, six, six, Config{Alpha: 0.0001}); r.Least != 16 { // 2^-16 is less than 0.0001/6
		t.Errorf("alpha 0.0001 takes %d pairs", r.Least)
	}
	for _, alpha := range []float64{-1, 1e-20, 0.5, math.NaN()} {
		if _, err := Compare(six, []*Side{six}, Config{Alpha: alpha}); err == nil {
			t.Errorf("alpha %v is accepted", alpha)
		}
	}
}

// Noise that both runs of a pair share does not hide a change.
func TestPairsCancelNoise(t *testing.T) {
	drift := []float64{1, 1.4, 0.7, 1.1, 1.9, 0.8, 1.2, 0.9, 1.6}
	base := side("base", 9, func(i int) figures { f := typical; f.p50 *= drift[i]; return f })
	head := side("head", 9, func(i int) figures { f := typical; f.p50 *= drift[i] * (1.1 + 0.01*float64(i)); return f })
	if m := outcome(mustCompare(t, base, head, Config{}), "p50"); m.Decision != Regression {
		t.Errorf("paired: %s", m.Decision)
	}
	if m := outcome(mustCompare(t, base, head, Config{Pairing: Unpaired}), "p50"); m.Decision != Inconclusive {
		t.Errorf("unpaired: %s", m.Decision)
	}
}

func TestLoad(t *testing.T) {
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	runs := filepath.Join(dir, "runs")
	const passed = `{"version": 1, "verdict": "pass", "scenario": "s", "unheard_of": 1, "latency_ns": {"all": {"p50": null, "n": 0}}}`
	write(filepath.Join(runs, "2", verdictFile), passed)
	write(filepath.Join(runs, "1", "scenario.yaml"), "name: s\n") // killed before it was judged
	write(filepath.Join(runs, "plots", "p50.svg"), "")
	write(filepath.Join(runs, "3", verdictFile), passed)
	write(filepath.Join(runs, "notes.txt"), "")
	s, err := Load(runs)
	if err != nil {
		t.Fatal(err)
	}
	if c := s.count(); c.Runs != 3 || c.Usable != 2 || c.Unknown != 1 || s.Runs[0].Name != "1" || s.Runs[2].Name != "3" {
		t.Errorf("%+v of %+v", c, s.Runs)
	}
	if s, err := Load(filepath.Join(runs, "3")); err != nil || len(s.Runs) != 1 || s.Runs[0].Name != "3" {
		t.Errorf("one run: %+v, %v", s, err)
	}
	for name, want := range map[string]string{
		"":                                      "no verdict.json in it",
		"{":                                     "verdict.json: unexpected end",
		`{"version": 2, "verdict": "pass"}`:     "verdict.json: version 2, this program reads 1",
		`{"version": 1, "verdict": "splendid"}`: `verdict.json: verdict "splendid"; have pass, violation, unknown`,
		`{"version": 1, "load": {"ok": "all"}}`: "verdict.json: json: cannot unmarshal",
	} {
		bad := filepath.Join(t.TempDir(), "bad")
		write(filepath.Join(bad, "run", "other"), "")
		if name != "" {
			write(filepath.Join(bad, "run", verdictFile), name)
		}
		if _, err := Load(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	if _, err := Load(filepath.Join(dir, "nowhere")); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("no folder: %v", err)
	}
}

// What a path or a system says cannot steer a terminal or a web page.
func TestHostile(t *testing.T) {
	bad := side("<b>|\x1b[31m\n# x", 6, func(int) figures { return typical })
	bad.Runs[0].Name = "<script>\x07"
	bad.Runs[0].verdict.Verdict = check.Violated
	for i := range bad.Runs {
		bad.Runs[i].verdict.Scenario = "<i>\u202ex"
	}
	r := mustCompareAll(t, bad, []*Side{bad, bad}, Config{Gate: &Gate{File: "<u>\x1b"}})
	var text, markdown bytes.Buffer
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.Markdown(&markdown); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{text.String(), markdown.String()} {
		if strings.ContainsAny(out, "\x1b\x07\u202e") || strings.Contains(out, "\n# x") {
			t.Errorf("unsafe:\n%q", out)
		}
	}
	ours := strings.NewReplacer(`\<`, "", "<details>", "", "<summary>", "", "</summary>", "", "</details>", "")
	if strings.Contains(ours.Replace(markdown.String()), "<") {
		t.Errorf("HTML:\n%s", &markdown)
	}
}
