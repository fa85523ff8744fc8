package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"statequake/reports/compare"
)

// result is what the runs in a folder say.
type result struct {
	effort
	made   int    // A/A pairs
	pairs  []pair // of which both runs passed
	asMade []*compare.Report

	power    *power
	all      *tally             // of all pairs at once, labels flipped
	verified map[string]float64 // figure -> share of comparisons that find the smallest detectable change

	plants []planted
	losses *losses // nil if there are none
	bugs   []int   // exit codes
}

// planted is the comparison with a head that is slower on purpose.
type planted struct {
	name, how string
	code      int
	report    *compare.Report
}

// measure reads the runs in dir.
func (e effort) measure(dir string) (*result, error) {
	pairs, err := loadPairs(filepath.Join(dir, "aa"))
	if err != nil {
		return nil, err
	}
	const k = compare.DefaultPairs
	made := len(pairs)
	if pairs = usablePairs(pairs); len(pairs) < k {
		return nil, tooFew(dir, len(pairs))
	}
	r := &result{effort: e, made: made, pairs: pairs, power: e.detect(pairs), verified: map[string]float64{}}
	for chunk := range slices.Chunk(pairs, k) {
		if len(chunk) == k {
			r.asMade = append(r.asMade, comparedAsMade(chunk))
		}
	}
	e.intervals(r.power, pairs)
	r.all = flipped(seeded(3), pairs, len(pairs), e.draws/4, nil)
	shares := make([]float64, len(figures))
	errs := make([]error, len(figures))
	each(len(figures), func(i int) {
		if shift := r.power.smallest[figures[i]]; !math.IsInf(shift, 1) {
			shares[i], errs[i] = e.verify(pairs, figures[i], shift)
		}
	})
	for i, name := range figures {
		if errs[i] != nil {
			return nil, errs[i]
		}
		r.verified[name] = shares[i]
	}
	if r.plants, err = loadPlants(dir); err != nil {
		return nil, err
	}
	records, err := filepath.Glob(filepath.Join(dir, "bug", "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range records {
		record, err := readRecord(strings.TrimSuffix(file, ".json"))
		if err != nil {
			return nil, err
		}
		r.bugs = append(r.bugs, record.Code)
	}
	if r.losses, err = readLosses(filepath.Join(dir, "loss")); errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	return r, err
}

func tooFew(dir string, n int) error {
	return fmt.Errorf("%s: %d A/A pairs of runs that passed, at least %d are needed\nhint: a run is unknown if its load generator did not get to run: leave the machine alone", dir, n, compare.DefaultPairs)
}

func loadPlants(dir string) ([]planted, error) {
	records, err := filepath.Glob(filepath.Join(dir, "plant-*.json"))
	if err != nil {
		return nil, err
	}
	var plants []planted
	for _, file := range records {
		at := strings.TrimSuffix(file, ".json")
		record, err := readRecord(at)
		if err != nil {
			return nil, err
		}
		pairs, err := loadAB(at)
		if err != nil {
			return nil, err
		}
		var how []string
		for i, arg := range record.Args {
			if arg == "--head-set" {
				how = append(how, "`"+strings.Replace(record.Args[i+1], "=", ": ", 1)+"`")
			}
		}
		plants = append(plants, planted{filepath.Base(at), strings.Join(how, ", "), record.Code, comparedAsMade(pairs)})
	}
	return plants, nil
}

// code is the exit code of the campaign.
func (r *result) code() int {
	switch {
	case share(r.power.tally.regression, r.power.tally.n) > target,
		slices.ContainsFunc(r.asMade, func(c *compare.Report) bool { return c.Outcome == compare.Violation }),
		r.losses != nil && r.losses.Codes[1] != sum(r.losses.Codes),
		slices.ContainsFunc(r.bugs, func(code int) bool { return code != 1 }):
		return 1
	}
	decided := len(r.plants) > 0
	for _, p := range r.plants {
		if p.report.Pairs < p.report.Least {
			decided = false
			continue
		}
		for _, name := range figures {
			m := metricOf(p.report, name)
			switch {
			case m == nil || math.IsNaN(planting(m)):
				decided = false
			case r.missed(m):
				return 1
			}
		}
	}
	if !decided || r.losses == nil || len(r.bugs) == 0 {
		return 2
	}
	return 0
}

// missed reports whether a planted change that was large enough was not found.
func (r *result) missed(m *compare.Metric) bool {
	return planting(m) > r.power.between[m.Name][1] && m.Decision != compare.Regression
}

// planting is by how much head is worse, as a logarithm; not a number if it is not
// known.
func planting(m *compare.Metric) float64 {
	if m.Estimate == nil || m.Scale != "ratio" {
		return math.NaN()
	}
	shift := math.Log(*m.Estimate)
	if m.Better == "higher" {
		shift = -shift
	}
	return shift
}

func metricOf(c *compare.Report, name string) *compare.Metric {
	i := slices.IndexFunc(c.Metrics, func(m compare.Metric) bool { return m.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Metrics[i]
}

// write writes the tables, in Markdown.
func (r *result) write(w io.Writer) {
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	row := func(cells ...string) { line("| %s |", strings.Join(cells, " | ")) }
	header := func(cells ...string) {
		line("")
		row(cells...)
		line("|%s", strings.Repeat("---|", len(cells)))
	}
	t := r.power.tally
	line("\nEqual sides: %d pairs, %d of them usable.", r.made, len(r.pairs))
	header("comparisons", "n", "regression", "inconclusive", "no worse")
	outcomes := func(name string, t *tally, interval string) {
		row(name, fmt.Sprint(t.n), percent(share(t.regression, t.n))+interval, percent(share(t.inconclusive, t.n)),
			percent(share(t.n-t.regression-t.inconclusive, t.n)))
	}
	outcomes(fmt.Sprintf("%d pairs drawn, labels flipped", compare.DefaultPairs), t,
		fmt.Sprintf(" (%s to %s)", percent(r.power.regression[0]), percent(r.power.regression[1])))
	outcomes(fmt.Sprintf("all %d pairs, labels flipped", len(r.pairs)), r.all, "")
	asMade := &tally{metrics: map[string]*metricTally{}}
	for _, c := range r.asMade {
		asMade.add(c)
	}
	outcomes(fmt.Sprintf("%d pairs as they were made", compare.DefaultPairs), asMade, "")

	header("figure", "median", "between runs of a pair", "margin", "regression", "inconclusive", "smallest change found", "is found")
	for _, m := range comparedAsMade(r.pairs).Metrics {
		of := t.metrics[m.Name]
		if of == nil {
			continue
		}
		smallest, found := "-", "-"
		if shift, ok := r.power.smallest[m.Name]; ok {
			between := r.power.between[m.Name]
			smallest = fmt.Sprintf("%s (%s to %s)", change(m.Name, shift), change(m.Name, between[0]), change(m.Name, between[1]))
			found = percent(r.verified[m.Name])
		}
		row(m.Name, value(&m, m.Base), r.spread(m.Name), percent(m.Margin), percent(share(of.regression, of.n)), percent(share(of.inconclusive, of.n)), smallest, found)
	}
	line("\nBetween runs of a pair: the median difference. Smallest change found: by which all runs of head have to be worse, for %d pairs to call the figure a regression with a chance of %s; of throughput by how much it is lower. Is found: in so many of %d comparisons whose verdict.json files say so. In brackets: 95 %% intervals, by resampling the pairs %d times.",
		compare.DefaultPairs, percent(powerOf), r.verifying, r.resamples)

	if len(r.plants) > 0 {
		header("planted", "figure", "head is worse by", "found from", "decision")
		for _, p := range r.plants {
			for i, name := range figures {
				first := ""
				if i == 0 {
					first = fmt.Sprintf("%s, %d pairs: exit code %d", p.how, p.report.Pairs, p.code)
				}
				m := metricOf(p.report, name)
				if m == nil || math.IsNaN(planting(m)) {
					row(first, name, "-", "-", "not measured in all runs")
					continue
				}
				decision := string(m.Decision)
				if r.missed(m) {
					decision = "**" + decision + "**"
				}
				row(first, name, change(name, planting(m)), change(name, r.power.smallest[name]), decision)
			}
		}
	}
	if r.losses != nil || len(r.bugs) > 0 {
		header("one acknowledged write is lost", "comparisons", "exit code 1")
		if l := r.losses; l != nil {
			row(fmt.Sprintf("taken from the history of %d runs, one at a time; %d sets of options, ten pairs and one", l.Runs, len(loseOptions)), fmt.Sprint(sum(l.Codes)), fmt.Sprint(l.Codes[1]))
		}
		ones := 0
		for _, code := range r.bugs {
			if code == 1 {
				ones++
			}
		}
		row("real runs whose head has the bug ack-before-journal", fmt.Sprint(len(r.bugs)), fmt.Sprint(ones))
	}
}

// spread is the median difference between the runs of a pair, as a share.
func (r *result) spread(name string) string {
	var shifts []float64
	for _, p := range r.pairs {
		m := metricOf(compared(p.runs[:1], p.runs[1:]), name)
		if m != nil && m.Estimate != nil && m.Scale == "ratio" {
			shifts = append(shifts, math.Abs(math.Log(*m.Estimate)))
		}
	}
	if len(shifts) == 0 {
		return "-"
	}
	return percent(math.Expm1(quantile(shifts, 0.5)))
}

func change(name string, shift float64) string {
	if math.IsInf(shift, 1) {
		return "none"
	}
	return percent(effect(name, shift))
}

func value(m *compare.Metric, v *float64) string {
	switch {
	case v == nil:
		return "-"
	case m.Unit == "ns":
		return time.Duration(*v).Round(10 * time.Microsecond).String()
	case m.Unit == "per_s":
		return fmt.Sprintf("%.0f/s", *v)
	}
	return fmt.Sprintf("%.0f", *v)
}

func percent(share float64) string {
	if math.Abs(share) < 0.0995 {
		return fmt.Sprintf("%.1f %%", 100*share)
	}
	return fmt.Sprintf("%.0f %%", 100*share)
}
