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
)

// maxNodes is how many nodes have lines of their own.
const maxNodes = 8

// timeline is the data of the charts of report.html. Times are seconds since
// the start of the run.
type timeline struct {
	End   values `json:"end_s"`   // one value
	Load  values `json:"load_s"`  // start and end of the load phase; empty without one
	Width values `json:"width_s"` // one value: of a bucket of the views

	At           values   `json:"at_s"`           // starts of the buckets of the views
	Ops          []string `json:"ops"`            // names of operations with views; what is beyond maxOps shares the last one
	OpNodes      []string `json:"op_nodes"`       // likewise nodes that executed some
	Views        []view   `json:"views"`          // all; by Ops; by OpNodes; by both, as far as there is room, the busiest first
	ViewsLeftOut values   `json:"views_left_out"` // one value: how many of those by both there was no room for

	Nodes  []nodeLine `json:"nodes"`
	Hidden int        `json:"-"` // nodes without a line
	Faults []band     `json:"faults"`

	Thresholds        []threshold    `json:"thresholds"`
	Violations        []mark         `json:"violations"`
	ViolationsLeftOut values         `json:"violations_left_out"` // one value: found and without a mark
	Distribution      []distribution `json:"distribution"`
	Keys              keyStrip       `json:"keys"`

	Search *searchLines `json:"find_max,omitempty"`

	axis axis // of the views
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
func (v values) MarshalJSON() ([]byte, error) { return appendNumbers(nil, v, 1e4), nil }

// appendNumbers appends an array of numbers that are rounded to 1/per.
func appendNumbers(b []byte, numbers []float64, per float64) []byte {
	b = append(b, '[')
	for i, x := range numbers {
		if i > 0 {
			b = append(b, ',')
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			b = append(b, "null"...)
			continue
		}
		b = strconv.AppendFloat(b, math.Round(x*per)/per, 'f', -1, 64)
	}
	return append(b, ']')
}

// newTimeline prepares the charts of a run that was judged.
func newTimeline(v *Verdict) *timeline {
	run, load, faults := v.run, v.loadWindow(), v.Faults
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
	t.Thresholds = newThresholds(v.Expectations)
	t.Violations, t.ViolationsLeftOut = v.marks()
	t.Distribution = newDistributions(v.curves)
	t.Keys = newKeyStrip(&run.Ops, v.keys, t.axis)
	return t
}

func instantOf(d *time.Duration) float64 {
	if d == nil {
		return unknown
	}
	return d.Seconds()
}

func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }

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
