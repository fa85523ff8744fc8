package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"statequake/reports/compare"
)

// powerOf is the chance with which a change is found that counts as detectable.
const powerOf = 0.90

// effort says how much is computed.
type effort struct {
	draws     int // comparisons for an estimate
	resamples int // of the pairs, for an interval
	inner     int // comparisons for one resample
	verifying int // comparisons with figures that are made worse
}

var full = effort{draws: 20000, resamples: 200, inner: 2000, verifying: 4000}

// figures are those whose smallest detectable change is told.
var figures = []string{"p50", "p99", "throughput", "outage"}

// pair is two runs that followed each other, of one program unless it is a plant.
type pair struct {
	runs [2]compare.Run
	dirs [2]string
}

// loadPairs reads the pairs of all folders in dir that hold a base and a head, in
// order.
func loadPairs(dir string) ([]pair, error) {
	folders, err := filepath.Glob(filepath.Join(dir, "*", "base"))
	if err != nil {
		return nil, err
	}
	var pairs []pair
	var program string
	for _, folder := range folders { // sorted
		folder = filepath.Dir(folder)
		if r, err := readRecord(folder); err == nil {
			if program != "" && r.Program != program {
				return nil, fmt.Errorf("%s: its runs are of another program than those before it\nhint: remove %s", folder, dir)
			}
			program = r.Program
		}
		more, err := loadAB(folder)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, more...)
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("%s: no pairs of runs in it", dir)
	}
	return pairs, nil
}

// loadAB reads the pairs of one call of statequake ab.
func loadAB(dir string) ([]pair, error) {
	var sides [2]*compare.Side
	for i, name := range []string{"base", "head"} {
		side, err := compare.Load(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		sides[i] = side
	}
	if len(sides[0].Runs) != len(sides[1].Runs) {
		return nil, fmt.Errorf("%s: %d runs of base, %d of head", dir, len(sides[0].Runs), len(sides[1].Runs))
	}
	pairs := make([]pair, len(sides[0].Runs))
	for i := range pairs {
		for j, side := range sides {
			pairs[i].runs[j] = side.Runs[i]
			pairs[i].dirs[j] = filepath.Join(side.Path, side.Runs[i].Name)
		}
	}
	return pairs, nil
}

// usablePairs are those of which both runs passed. The others are left out by
// compare, too, and comparisons of fewer pairs are more careful.
func usablePairs(pairs []pair) []pair {
	return slices.DeleteFunc(slices.Clone(pairs), func(p pair) bool { return compared(p.runs[:1], p.runs[1:]).Pairs == 0 })
}

// compared is the comparison of pairs, with the defaults of statequake ab.
func compared(base, head []compare.Run) *compare.Report {
	c, err := compare.Compare(&compare.Side{Path: "base", Runs: base}, []*compare.Side{{Path: "head", Runs: head}}, compare.Config{Pairing: compare.Paired})
	if err != nil {
		panic(err) // the runs were compared before
	}
	return c.Heads[0]
}

// tally counts the outcomes of comparisons.
type tally struct {
	n                        int
	regression, inconclusive int
	metrics                  map[string]*metricTally
}

type metricTally struct {
	n                        int // comparisons that have the metric
	regression, inconclusive int
	// shifts are by how much more head has to be worse, as a logarithm, for the
	// comparison to call the metric a regression, one of each comparison.
	shifts []float64
}

func (t *tally) add(r *compare.Report) {
	t.n++
	count(r.Outcome, &t.regression, &t.inconclusive)
	for i := range r.Metrics {
		m := &r.Metrics[i]
		of := t.metrics[m.Name]
		if of == nil {
			of = &metricTally{}
			t.metrics[m.Name] = of
		}
		of.n++
		count(m.Decision, &of.regression, &of.inconclusive)
		of.shifts = append(of.shifts, shiftToRegression(m))
	}
}

func count(o compare.Outcome, regression, inconclusive *int) {
	switch o {
	case compare.Regression:
		*regression++
	case compare.Inconclusive:
		*inconclusive++
	}
}

// shiftToRegression is the logarithm of the factor by which all values of head
// would have to be worse for the metric to become a regression: until the better
// end of the interval is worse than no change, and the estimate at the margin.
// All three move by that logarithm, so that no search is needed.
func shiftToRegression(m *compare.Metric) float64 {
	if m.Scale != "ratio" || m.Low == nil || m.High == nil || m.Estimate == nil {
		return math.Inf(1)
	}
	better, estimate := math.Log(*m.Low), math.Log(*m.Estimate)
	if m.Better == "higher" {
		better, estimate = -math.Log(*m.High), -estimate
	}
	return max(-better, math.Log1p(m.Margin)-estimate) + beyond
}

// beyond is what the better end of an interval has to be worse than no change, as a
// logarithm: more than a value in whole nanoseconds is rounded by.
const beyond = 1e-6

// effect is a shift as a share of the figure: how much longer, or, of a figure of
// which higher is better, how much less.
func effect(name string, shift float64) float64 {
	if name == "throughput" {
		return -math.Expm1(-shift)
	}
	return math.Expm1(shift)
}

// flipped compares n times: k of the pairs, drawn without replacement, the labels
// of each flipped by coin. worse, if not nil, replaces the runs of the side that
// is called head.
func flipped(random *rand.Rand, pairs []pair, k, n int, worse map[string]compare.Run) *tally {
	t := &tally{metrics: map[string]*metricTally{}}
	base, head := make([]compare.Run, k), make([]compare.Run, k)
	for range n {
		for i, p := range random.Perm(len(pairs))[:k] {
			coin := random.IntN(2)
			base[i], head[i] = pairs[p].runs[coin], pairs[p].runs[1-coin]
			if worse != nil {
				head[i] = worse[pairs[p].dirs[1-coin]]
			}
		}
		t.add(compared(base, head))
	}
	return t
}

// power is what equal sides tell of the comparisons of ten pairs.
type power struct {
	tally    *tally // by flipped labels
	smallest map[string]float64

	// Intervals of 95 %, by resampling the pairs; zero if they were not asked for.
	regression [2]float64
	between    map[string][2]float64
}

// detect says what can be found, without intervals.
func (e effort) detect(pairs []pair) *power {
	p := &power{tally: flipped(seeded(1), pairs, compare.DefaultPairs, e.draws, nil), smallest: map[string]float64{}}
	for _, name := range figures {
		p.smallest[name] = p.tally.smallest(name)
	}
	return p
}

// smallest is the shift of a metric that a comparison finds with the chance
// powerOf; infinite if there is none.
func (t *tally) smallest(name string) float64 {
	m := t.metrics[name]
	if m == nil || len(m.shifts) == 0 {
		return math.Inf(1)
	}
	return quantile(m.shifts, powerOf)
}

// intervals resamples the pairs with replacement (percentile bootstrap, Efron and
// Tibshirani 1993, chapter 13): the flips are many, but the pairs are few, and it
// is they that limit what is known.
func (e effort) intervals(p *power, pairs []pair) {
	rates := make([]float64, e.resamples)
	shifts := map[string][]float64{}
	for _, name := range figures {
		shifts[name] = make([]float64, e.resamples)
	}
	each(e.resamples, func(b int) {
		random := seeded(uint64(100 + b))
		again := make([]pair, len(pairs))
		for i := range again {
			again[i] = pairs[random.IntN(len(pairs))]
		}
		t := flipped(random, again, compare.DefaultPairs, e.inner, nil)
		rates[b] = share(t.regression, t.n)
		for _, name := range figures {
			shifts[name][b] = t.smallest(name)
		}
	})
	ends := func(values []float64) [2]float64 {
		return [2]float64{quantile(values, 0.025), quantile(values, 0.975)}
	}
	p.regression, p.between = ends(rates), map[string][2]float64{}
	for name, values := range shifts {
		p.between[name] = ends(values)
	}
}

// verify is the share of comparisons in which the metric is called a regression if
// its value in every run of head is worse by the shift: read from verdict.json
// files that say so.
func (e effort) verify(pairs []pair, name string, shift float64) (float64, error) {
	dir, err := os.MkdirTemp("", "noise-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	worse := map[string]compare.Run{}
	for _, p := range pairs {
		for _, from := range p.dirs {
			if err := worsen(filepath.Join(from, "verdict.json"), filepath.Join(dir, "verdict.json"), name, shift); err != nil {
				return 0, err
			}
			side, err := compare.Load(dir)
			if err != nil {
				return 0, err
			}
			worse[from] = side.Runs[0]
		}
	}
	t := flipped(seeded(2), pairs, compare.DefaultPairs, e.verifying, worse)
	m := t.metrics[name]
	if m == nil {
		return 0, nil
	}
	return share(m.regression, t.n), nil
}

// each calls do for 0 to n-1, on all CPUs.
func each(n int, do func(i int)) {
	next := make(chan int)
	var working sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		working.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	working.Wait()
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 8)) }

func share(k, n int) float64 { return float64(k) / float64(max(n, 1)) }

// quantile is the smallest of the values that at least the share q of them does
// not exceed (nearest rank).
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(max(int(math.Ceil(q*float64(len(sorted)))), 1), len(sorted))-1]
}
