package compare

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"time"

	"statequake/history"
	"statequake/reports"
)

// Bounds of the charts, whatever is compared.
const (
	maxBuckets  = 240 // of a line over time
	maxDrawn    = 9   // sides with lines: base, and the first heads
	maxRecovery = 4   // faults with a recovery curve

	// Around the injection of a fault.
	recoveryBefore  = 3 * time.Second
	recoveryAfter   = 12 * time.Second // at least; longer if recovery was
	recoveryBuckets = 75
)

// widths are the lengths of a bucket, of which the first is taken that needs no
// more than maxBuckets; beyond the last, a multiple of it.
var widths = []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute}

// charts is the data of the page. Instants are seconds since the start of the
// load of each run, lengths are seconds.
type charts struct {
	End      line         `json:"end_s"`   // one value, of the longest load
	Width    line         `json:"width_s"` // one value
	At       line         `json:"at_s"`    // starts of the buckets, which hold their start and not their end
	Nines    line         `json:"nines"`   // of the distributions: -log10(1-p), 1 for p90 and 2 for p99
	Sides    []*sideLines `json:"sides"`   // base first
	Recovery []*recovery  `json:"recovery"`
}

// sideLines is what the runs of a side did, bucket by bucket. Latencies are of
// ok operations by the instant due, ok operations count by the instant of the
// answer, the others by the instant due.
type sideLines struct {
	Name string `json:"name"`
	Runs int    `json:"runs"` // that are drawn
	All  bool   `json:"all"`  // runs that are not usable among them, since no run is

	OK    spread `json:"ok_per_s"`
	NotOK spread `json:"not_ok_per_s"`
	P50   spread `json:"p50_ms"`
	P99   spread `json:"p99_ms"`
	Dist  spread `json:"distribution_ms"` // by percent
	Bands []band `json:"faults"`
}

// band is a fault on the axis of time: medians over the runs in which it
// happened.
type band struct {
	Name  string `json:"name"`
	Marks line   `json:"marks_s"` // requested, injected, recovered, steady again
}

// recovery is how the rate of ok answers came back from a fault.
type recovery struct {
	Name  string   `json:"name"`
	At    line     `json:"at_s"` // starts of the buckets, from the injection
	Sides []spread `json:"sides"`
}

// spread is a line over several runs: their median, least and most. Of a single
// run it is the median alone.
type spread struct {
	Median line `json:"median"`
	Low    line `json:"low,omitempty"`
	High   line `json:"high,omitempty"`
}

// line holds numbers for a chart; NaN is unknown, null in JSON.
type line []float64

// MarshalJSON writes four digits of each, and at most four decimals.
func (l line) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, x := range l {
		if i > 0 {
			b = append(b, ',')
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			b = append(b, "null"...)
			continue
		}
		decimals := 4
		for v := math.Abs(x); v >= 1 && decimals > 0; v /= 10 {
			decimals--
		}
		scale := math.Pow10(decimals)
		b = strconv.AppendFloat(b, math.Round(x*scale)/scale, 'f', -1, 64)
	}
	return append(b, ']'), nil
}

// lines reads the histories of the runs and makes the charts of them, one run at
// a time. It takes 16 bytes of memory for each operation of a run.
func (c *Comparison) lines() (*charts, []string) {
	sides := slices.Concat([]*Side{c.base}, c.sides)
	names := append([]string{"base"}, c.names()...)
	if len(c.sides) == 1 {
		names[1] = "head"
	}
	var notes []string
	if n := len(sides) - maxDrawn; n > 0 {
		notes = append(notes, fmt.Sprintf("The charts show the base and the first %d heads; %s in the tables only.", maxDrawn-1, are(n, "more head")))
		sides = sides[:maxDrawn]
	}
	drawn := make([][]*Run, len(sides))
	var longest time.Duration
	for i, s := range sides {
		drawn[i] = s.usable()
		if len(drawn[i]) == 0 {
			for j := range s.Runs {
				drawn[i] = append(drawn[i], &s.Runs[j])
			}
		}
		for _, run := range drawn[i] {
			longest = max(longest, run.verdict.Load.Duration)
		}
	}
	t := &charts{Sides: []*sideLines{}, Recovery: []*recovery{}}
	width := bucketWidth(longest)
	n := int((longest + width/2) / width)
	if longest > 0 {
		n = max(n, 1)
	}
	t.End, t.Width = line{longest.Seconds()}, line{width.Seconds()}
	for i := range n {
		t.At = append(t.At, (time.Duration(i) * width).Seconds())
	}
	median := math.Log10(2)
	for i := range 7 {
		t.Nines = append(t.Nines, median+(1-median)*float64(i)/7)
	}
	for i := range 31 {
		t.Nines = append(t.Nines, 1+float64(i)/10)
	}
	faults, step, before := c.recoveries(t, drawn)

	missing := 0
	for i, runs := range drawn {
		l := &sideLines{Name: reports.Clip(names[i], nameText), All: len(sides[i].usable()) == 0 && len(runs) > 0, Bands: bands(runs)}
		var all []*runLines
		for _, run := range runs {
			r, err := run.read(width, n, t.Nines, faults, step, before)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				missing++
				continue
			case err != nil:
				notes = append(notes, fmt.Sprintf("%s of %s is not in the charts: %v", run.Name, names[i], err))
				continue
			}
			all = append(all, r)
		}
		of := func(of func(*runLines) line) spread {
			var lines []line
			for _, r := range all {
				lines = append(lines, of(r))
			}
			return over(lines)
		}
		l.Runs = len(all)
		l.OK, l.NotOK = of(func(r *runLines) line { return r.ok }), of(func(r *runLines) line { return r.notOK })
		l.P50, l.P99 = of(func(r *runLines) line { return r.p50 }), of(func(r *runLines) line { return r.p99 })
		l.Dist = of(func(r *runLines) line { return r.dist })
		for j, name := range faults {
			t.Recovery[j].Sides = append(t.Recovery[j].Sides, of(func(r *runLines) line { return r.recovery[name] }))
		}
		t.Sides = append(t.Sides, l)
	}
	if missing > 0 {
		notes = append(notes, fmt.Sprintf("%s not in the charts: there is no history.jsonl in their directories.", are(missing, "run")))
	}
	return t, notes
}

func are(n int, thing string) string {
	if n == 1 {
		return plural(n, thing) + " is"
	}
	return plural(n, thing) + " are"
}

func bucketWidth(load time.Duration) time.Duration {
	for _, w := range widths {
		if load <= maxBuckets*w {
			return w
		}
	}
	last := widths[len(widths)-1]
	return (load/(maxBuckets*last) + 1) * last
}

// recoveries lays out the recovery curves: which faults have one, the length of
// a bucket, and how long before the injection the first one starts.
func (c *Comparison) recoveries(t *charts, drawn [][]*Run) (faults []string, step, before time.Duration) {
	after := recoveryAfter
	for _, runs := range drawn {
		for _, run := range runs {
			for _, f := range run.verdict.Faults {
				if f.Injected == nil || f.Recovery == nil {
					continue
				}
				if !slices.Contains(faults, f.Name) && len(faults) < maxRecovery {
					faults = append(faults, f.Name)
				}
				for _, d := range []*time.Duration{f.Recovery.Steady, f.Recovery.Outage.Max} {
					if d != nil {
						after = max(after, min(*d*3/2, 5*time.Minute))
					}
				}
			}
		}
	}
	step = (recoveryBefore + after) / recoveryBuckets
	before = recoveryBefore / step * step
	for _, name := range faults {
		r := &recovery{Name: reports.Clip(name, nameText), Sides: []spread{}}
		for i := range recoveryBuckets {
			r.At = append(r.At, (time.Duration(i)*step - before).Seconds())
		}
		t.Recovery = append(t.Recovery, r)
	}
	return faults, step, before
}

// runLines is what one run did.
type runLines struct {
	ok, notOK, p50, p99, dist line
	recovery                  map[string]line
}

// read reads the history of the run into n buckets of the given width, and into
// those around its faults. The error is fs.ErrNotExist if there is no history.
func (run *Run) read(width time.Duration, n int, nines line, faults []string, step, before time.Duration) (*runLines, error) {
	load := run.verdict.Load
	r := &runLines{ok: make(line, n), notOK: make(line, n), p50: unknown(n), p99: unknown(n), dist: unknown(len(nines)), recovery: map[string]line{}}
	type around struct {
		from time.Duration
		line line
	}
	var curves []around
	for _, name := range faults {
		i := slices.IndexFunc(run.verdict.Faults, func(f fault) bool { return f.Name == name && f.Injected != nil })
		r.recovery[name] = unknown(recoveryBuckets)
		if i < 0 {
			continue
		}
		a := around{from: *run.verdict.Faults[i].Injected - load.Start - before, line: r.recovery[name]}
		for j := range a.line {
			if at := a.from + time.Duration(j)*step; at >= 0 && at+step <= load.Duration {
				a.line[j] = 0
			}
		}
		curves = append(curves, a)
	}
	bucket := func(at time.Duration) int {
		if at < 0 || at >= load.Duration || n == 0 {
			return -1
		}
		return min(int(at/width), n-1) // the last one may be up to half longer
	}
	latencies := make([][]time.Duration, n)
	count := 0
	_, err := history.ReadRun(run.dir, func(op *history.Op) error {
		if op.Phase != history.Load {
			return nil
		}
		due, returned := op.Scheduled-load.Start, op.Returned-load.Start
		if op.Outcome != history.OK {
			if i := bucket(due); i >= 0 {
				r.notOK[i]++
			}
			return nil
		}
		if i := bucket(returned); i >= 0 {
			r.ok[i]++
		}
		if i := bucket(due); i >= 0 {
			latencies[i] = append(latencies[i], op.Returned-op.Scheduled)
			count++
		}
		for _, c := range curves {
			if at := returned - c.from; at >= 0 && at < recoveryBuckets*step {
				c.line[at/step] += 1 / step.Seconds() // unknown stays so
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := make([]time.Duration, 0, count)
	for i, l := range latencies {
		from, to := time.Duration(i)*width, time.Duration(i+1)*width
		if i == n-1 {
			to = max(to, load.Duration)
		}
		if to = min(to, load.Duration); to <= from {
			r.ok[i], r.notOK[i] = math.NaN(), math.NaN()
			continue
		}
		r.ok[i] /= (to - from).Seconds()
		r.notOK[i] /= (to - from).Seconds()
		if len(l) > 0 {
			slices.Sort(l)
			r.p50[i], r.p99[i] = rank(l, 50), rank(l, 99)
			all = append(all, l...)
		}
	}
	slices.Sort(all)
	for i, at := range nines {
		p := 100 * (1 - math.Pow(10, -at))
		// Beyond it the answer would be the maximum for ever.
		if len(all) > 0 && p <= 100-50/float64(len(all)) {
			r.dist[i] = rank(all, p)
		}
	}
	return r, nil
}

// rank is the percentile of ascending latencies in milliseconds: that of the
// nearest rank, as in stats.Summary.
func rank(sorted []time.Duration, percent float64) float64 {
	i := int(math.Round(percent / 100 * float64(len(sorted))))
	return float64(sorted[min(max(i, 1), len(sorted))-1]) / 1e6
}

func unknown(n int) line {
	l := make(line, n)
	for i := range l {
		l[i] = math.NaN()
	}
	return l
}

// over is the median, least and most of lines of one length, point by point, of
// those that are known there.
func over(lines []line) spread {
	var s spread
	if len(lines) == 0 {
		return spread{Median: line{}}
	}
	for i := range lines[0] {
		var values []float64
		for _, l := range lines {
			if !math.IsNaN(l[i]) {
				values = append(values, l[i])
			}
		}
		s.Median = append(s.Median, median(values))
		if len(lines) == 1 {
			continue
		}
		low, high := math.NaN(), math.NaN()
		if len(values) > 0 {
			low, high = slices.Min(values), slices.Max(values)
		}
		s.Low, s.High = append(s.Low, low), append(s.High, high)
	}
	return s
}

// bands are the faults of a side on the axis of time.
func bands(runs []*Run) []band {
	all := []band{}
	marks := map[string][4][]float64{}
	for _, run := range runs {
		for _, f := range run.verdict.Faults {
			m, seen := marks[f.Name]
			if !seen {
				all = append(all, band{Name: f.Name})
			}
			var steady *time.Duration
			if f.Injected != nil && f.Recovery != nil && f.Recovery.Steady != nil {
				at := *f.Injected + *f.Recovery.Steady
				steady = &at
			}
			for i, at := range []*time.Duration{f.Requested, f.Injected, f.Recovered, steady} {
				if at != nil {
					m[i] = append(m[i], (*at - run.verdict.Load.Start).Seconds())
				}
			}
			marks[f.Name] = m
		}
	}
	for i := range all {
		for _, at := range marks[all[i].Name] {
			all[i].Marks = append(all[i].Marks, median(at))
		}
		all[i].Name = reports.Clip(all[i].Name, nameText)
	}
	return all[:min(len(all), maxBands)]
}

// maxBands bounds the faults of a side on the axis of time.
const maxBands = 20
