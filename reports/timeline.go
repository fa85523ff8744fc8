package reports

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"statequake/history"
	"statequake/reports/stats"
	"statequake/reports/trace"
)

// Bounds of what the charts of report.html hold, whatever the run holds.
const (
	bucketWidth = 200 * time.Millisecond // or a multiple of it in long runs
	maxBuckets  = 2000                   // also points of a node's line
	maxNodes    = 8                      // with lines of their own
)

// timeline is the data of the charts of report.html. Times are seconds since
// the start of the run.
type timeline struct {
	End   values `json:"end_s"`  // one value
	Load  values `json:"load_s"` // start and end of the load phase; empty without one
	Width values `json:"width_s"`

	// The workload, warmup included, in buckets of Width that hold their start
	// and not their end. A bucket of the rates counts ok operations by the instant
	// of the answer and the others by the instant that they were due; the
	// latencies are those of the ok operations that were due in the bucket.
	At    values `json:"at_s"` // starts of the buckets
	OK    values `json:"ok_per_s"`
	NotOK values `json:"not_ok_per_s"`
	P50   values `json:"p50_ms"`
	P99   values `json:"p99_ms"`
	Max   values `json:"max_ms"`

	Nodes  []nodeLine `json:"nodes"`
	Hidden int        `json:"-"` // nodes without a line
	Faults []band     `json:"faults"`

	Search *searchLines `json:"find_max,omitempty"`
}

// nodeLine is what one node, or the load generator, used over time.
type nodeLine struct {
	Name string `json:"name"`
	At   values `json:"at_s"`
	CPU  values `json:"cpu_percent"` // of one CPU, since the sample before; unknown in the first one of a process
	RSS  values `json:"rss_mib"`
}

// band is one fault on the time axis; what did not happen is unknown.
type band struct {
	Name  string `json:"name"`
	Marks values `json:"marks_s"` // requested, injected, recovered, steady again
}

// values are numbers for a chart; NaN is unknown, null in JSON.
type values []float64

var unknown = math.NaN()

// MarshalJSON writes at most four decimals.
func (v values) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			b = append(b, "null"...)
			continue
		}
		b = strconv.AppendFloat(b, math.Round(x*1e4)/1e4, 'f', -1, 64)
	}
	return append(b, ']'), nil
}

// newTimeline prepares the charts of a run with the given load phase.
func newTimeline(run *trace.Run, load stats.Window, faults []Fault) *timeline {
	t := &timeline{Nodes: []nodeLine{}, Faults: []band{}}
	var end time.Duration
	if run.Footer != nil {
		end = run.Footer.End
	}
	for op := range run.Ops.All() {
		end = max(end, op.Returned, op.Scheduled)
	}
	for i := range run.Samples {
		end = max(end, run.Samples[i].At)
	}
	for i := range run.Faults {
		end = max(end, run.Faults[i].At)
	}
	t.End = values{end.Seconds()}
	if load.Length() > 0 {
		t.Load = values{load.From.Seconds(), load.To.Seconds()}
	}
	t.workload(&run.Ops, load.From)
	t.nodes(run.Samples)
	for i := range faults {
		f := &faults[i]
		b := band{Name: clip(f.Name, nameText), Marks: values{instantOf(f.Requested), instantOf(f.Injected), instantOf(f.Recovered), unknown}}
		if f.Injected != nil && f.Recovery != nil && f.Recovery.Steady != nil {
			b.Marks[3] = (*f.Injected + *f.Recovery.Steady).Seconds()
		}
		t.Faults = append(t.Faults, b)
	}
	return t
}

func instantOf(d *time.Duration) float64 {
	if d == nil {
		return unknown
	}
	return d.Seconds()
}

// workload fills the buckets. They are laid so that one starts at anchor: the
// first and the last one of the load are then whole.
func (t *timeline) workload(ops *trace.Ops, anchor time.Duration) {
	first, last, found := time.Duration(0), time.Duration(0), false
	each := func(visit func(op *trace.Op, ok bool)) {
		for op, kind := range ops.All() {
			if kind.Phase == history.Warmup || kind.Phase == history.Load {
				visit(op, kind.Outcome == history.OK)
			}
		}
	}
	each(func(op *trace.Op, ok bool) {
		if !found {
			first, last, found = op.Scheduled, op.Scheduled, true
		}
		first, last = min(first, op.Scheduled), max(last, op.Scheduled)
		if ok {
			first, last = min(first, op.Returned), max(last, op.Returned)
		}
	})
	width := bucketWidth
	if !found {
		t.Width = values{width.Seconds()}
		return
	}
	lead := max(0, anchor-first)
	if lead+last-anchor >= (maxBuckets-2)*width {
		width *= 1 + (lead+last-anchor)/((maxBuckets-2)*width)
	}
	start := anchor - (lead+width-1)/width*width
	n := int((last-start)/width) + 1
	bucket := func(at time.Duration) int { return int((at - start) / width) }

	t.Width = values{width.Seconds()}
	t.At, t.OK, t.NotOK = make(values, n), make(values, n), make(values, n)
	t.P50, t.P99, t.Max = make(values, n), make(values, n), make(values, n)
	answers := make([]int, n)
	each(func(op *trace.Op, ok bool) {
		due := bucket(op.Scheduled)
		if !ok {
			t.NotOK[due] += 1 / width.Seconds()
			return
		}
		t.OK[bucket(op.Returned)] += 1 / width.Seconds()
		answers[due]++
	})
	latencies := make([][]time.Duration, n)
	for i := range latencies {
		latencies[i] = make([]time.Duration, 0, answers[i])
	}
	each(func(op *trace.Op, ok bool) {
		if ok {
			due := bucket(op.Scheduled)
			latencies[due] = append(latencies[due], op.Latency())
		}
	})
	for i, d := range latencies {
		t.At[i] = (start + time.Duration(i)*width).Seconds()
		t.P50[i], t.P99[i], t.Max[i] = unknown, unknown, unknown
		if len(d) > 0 {
			slices.Sort(d)
			t.P50[i], t.P99[i], t.Max[i] = milliseconds(nearestRank(d, 50)), milliseconds(nearestRank(d, 99)), milliseconds(d[len(d)-1])
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }

// nearestRank is the nearest-rank percentile of a sorted set that is not empty.
func nearestRank(sorted []time.Duration, percent int) time.Duration {
	return sorted[max(1, (len(sorted)*percent+99)/100)-1]
}

// nodes fills the lines of the nodes by name, the load generator's last.
func (t *timeline) nodes(samples []history.Sample) {
	byNode := map[string][]history.Sample{}
	for _, s := range samples {
		byNode[s.Node] = append(byNode[s.Node], s)
	}
	names := slices.Sorted(maps.Keys(byNode))
	if i := slices.Index(names, stats.GeneratorNode); i >= 0 {
		names = append(slices.Delete(names, i, i+1), stats.GeneratorNode)
	}
	for i, name := range names {
		if name != stats.GeneratorNode && i >= maxNodes {
			t.Hidden++
			continue
		}
		label := clip(name, nameText)
		if name == stats.GeneratorNode {
			label = "load generator"
		}
		line := usage(byNode[name])
		line.Name = label
		t.Nodes = append(t.Nodes, line)
	}
}

// usage draws one line of samples, with a gap between two processes. Of too many
// samples it keeps the largest values of each group of neighbours.
func usage(samples []history.Sample) nodeLine {
	slices.SortStableFunc(samples, func(a, b history.Sample) int { return cmp.Compare(a.At, b.At) })
	var all nodeLine
	for i, s := range samples {
		cpu, rss := unknown, float64(s.RSS)/(1<<20)
		if i > 0 {
			switch before := samples[i-1]; {
			case s.PID != before.PID:
				all.add((before.At+s.At)/2, unknown, unknown)
			case s.At > before.At && s.CPU >= before.CPU:
				cpu = 100 * (s.CPU - before.CPU) / (s.At - before.At).Seconds()
			}
		}
		all.add(s.At, cpu, rss)
	}
	group := (len(all.At) + maxBuckets - 1) / maxBuckets
	if group <= 1 {
		return all
	}
	var line nodeLine
	for i := range all.At {
		if i%group == 0 {
			line.add(0, unknown, unknown)
		}
		last := len(line.At) - 1
		line.At[last] = all.At[i]
		line.CPU[last], line.RSS[last] = larger(line.CPU[last], all.CPU[i]), larger(line.RSS[last], all.RSS[i])
	}
	return line
}

func (l *nodeLine) add(at time.Duration, cpu, rss float64) {
	l.At, l.CPU, l.RSS = append(l.At, at.Seconds()), append(l.CPU, cpu), append(l.RSS, rss)
}

// larger is the larger of two values of which either may be unknown.
func larger(a, b float64) float64 {
	if math.IsNaN(a) || b > a {
		return b
	}
	return a
}
