package reports

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/check"
	"statequake/reports/stats"
	"statequake/reports/trace"
)

func TestThresholdLines(t *testing.T) {
	f := newFixture()
	f.edit("expect:", "expect:\n  faults.p99: 100ms\n  throughput_min: 90/s\n  knee_min: 10/s")
	v := f.judge(t)
	v.Expectations = append(v.Expectations, Expectation{Name: "k6 http_req_duration", Limit: "p(99)<250"}, Expectation{Name: "steady.p99", Limit: "no duration"})
	got := ""
	for _, x := range newTimeline(v).Thresholds {
		got += fmt.Sprintf("%s %v %s: %s, %s, %t\n", x.Chart, x.Value, x.Unit, x.Label, x.Measured, x.Met)
	}
	want := `latency [1000] ms: answered_within.1s at least 95%, 99.9167%, true
latency [100] ms: faults.p99 at most 100ms, 702.022ms, false
throughput [10] per_s: knee_min at least 10/s, , false
latency [50] ms: steady.p99 at most 50ms, 3.97ms, true
throughput [90] per_s: throughput_min at least 90/s, 99.92/s, true
`
	if got != want {
		t.Errorf("have\n%s\nwant\n%s", got, want)
	}
}

// A violation is marked where the first operation that shows it was sent, and
// those that are not explained are counted.
func TestViolationMarks(t *testing.T) {
	f := newFixture()
	f.lose(4)
	v := f.judge(t)
	tl := newTimeline(v)
	all, total := violationsByKind(v)
	if len(all) == 0 || len(tl.Violations) != len(all) || int(tl.ViolationsLeftOut[0]) != total-len(all) {
		t.Fatalf("%d marks and %v left out for %d violations", len(tl.Violations), tl.ViolationsLeftOut, total)
	}
	for i, m := range tl.Violations {
		first := math.Inf(1)
		for _, id := range all[i].Ops {
			op := f.op(id)
			first = min(first, op.Sent.Seconds())
		}
		if m.At[0] != first || m.Kind != "lost" || m.On != "counter/k0.1" || m.Anchor != fmt.Sprint("violation-", i) {
			t.Errorf("mark %+v, want it at %v", m, first)
		}
	}

	// One of an operation that never was, and more than are explained.
	x := all[0]
	x.Ops = []string{"7f3a-l99999"}
	r := check.Result{Name: "other", Verdict: check.Violated, Kinds: map[string]int{}, Violations: []check.Violation{x}}
	for i := range 100 {
		y := all[0]
		y.Kind = fmt.Sprint("kind", i)
		r.Violations = append(r.Violations, y)
	}
	r.Total = 5000
	v.Checks = append(v.Checks, r)
	tl = newTimeline(v)
	if left := int(tl.ViolationsLeftOut[0]); len(tl.Violations) != htmlViolations || left != total+5000-len(tl.Violations) {
		t.Errorf("%d marks, %d left out", len(tl.Violations), left)
	}
}

// The curves are those of the operations in order, and end where so few
// operations say nothing.
func TestDistribution(t *testing.T) {
	for name, f := range map[string]*fixture{"fault": newFixture(), "none": newFixture()} {
		if name == "none" {
			f.faults = nil
			f.edit("faults:\n  - name: kill-owner\n    at: 5s\n    chaos:\n      kind: PodChaos\n      spec: {action: pod-kill, mode: one, selector: {labelSelectors: {statequake.dev/owner-of: hottest}}}\n", "")
		}
		v := f.judge(t)
		latencies := map[string][]time.Duration{}
		for i := range f.ops {
			op := &f.ops[i]
			if op.Phase != history.Load || op.Outcome != history.OK {
				continue
			}
			part := "steady"
			if name == "none" {
				part = "all"
			} else if w := v.Faults[0].Recovery.Window; op.Scheduled < w.To && op.Returned >= w.From {
				part = "during faults"
			}
			latencies[part] = append(latencies[part], op.Latency())
		}
		names := ""
		for _, d := range newTimeline(v).Distribution {
			names += d.Name + " "
			sorted := latencies[d.Name]
			slices.Sort(sorted)
			n := len(sorted)
			if d.N[0] != float64(n) || len(d.Percent) != len(d.Latency) || len(d.Percent) < 20 || d.Percent[0] != 50 {
				t.Fatalf("%s: %v operations and %d points from %v, want %d operations", d.Name, d.N, len(d.Percent), d.Percent[0], n)
			}
			if last := d.Percent[len(d.Percent)-1]; math.Abs(last-(100-50/float64(n))) > 1e-9 || !same(d.Latency[len(d.Latency)-1], rounded(sorted[n-1])) {
				t.Errorf("%s: it ends at %v with %v, want %v with the maximum", d.Name, last, d.Latency[len(d.Latency)-1], 100-50/float64(n))
			}
			for i, percent := range d.Percent {
				if i > 0 && percent <= d.Percent[i-1] {
					t.Errorf("%s: %v after %v", d.Name, percent, d.Percent[i-1])
				}
				want := rounded(sorted[min(max(int(math.Round(percent/100*float64(n))), 1), n)-1])
				if math.Abs(d.Latency[i]-want) > 0.0021*want {
					t.Errorf("%s: p%v is %v ms, want %v", d.Name, percent, d.Latency[i], want)
				}
			}
		}
		if want := map[string]string{"fault": "steady during faults ", "none": "all "}[name]; names != want {
			t.Errorf("%s: curves %q", name, names)
		}
	}
}

// The strip and the table of recovery tell the same outage.
func TestKeyStripOfFault(t *testing.T) {
	v := newFixture().judge(t)
	k := newTimeline(v).Keys
	longest := v.Faults[0].Recovery.Outage.Max.Seconds()
	if k.Slow[0] != 250 || len(k.Rows) != 7 || k.Words != "" || k.Rows[0].Out[0] != longest {
		t.Fatalf("slow %v, %d rows, %q, first %+v, want out for %v s", k.Slow, len(k.Rows), k.Words, k.Rows[0], longest)
	}
	// n2 has k1, k4 and the probe's key; the load begins at 1 s, a bucket has 200 ms.
	for i, row := range k.Rows {
		if out := strings.Contains("counter/k1.1 counter/k4.1 counter/{probe-1}.1", row.Key); out != (len(row.Out) == 1) || out != (i < 3) {
			t.Errorf("row %d is %+v", i, row)
		}
	}
	probe := k.Rows[slices.IndexFunc(k.Rows, func(r keyRow) bool { return r.Key == "counter/{probe-1}.1" })]
	if got := probe.Cells[28:36]; got != "ooxssooo" && got != "oosssooo" {
		t.Errorf("the probe's key from 5.6 s on is %q", got)
	}
	for _, c := range []struct {
		keys, out int
		longest   time.Duration
		text      string
	}{
		{1, 0, 0, "1 further key was never out."},
		{899, 0, 0, "899 further keys were never out."},
		{899, 12, 310 * ms, "899 further keys, 12 of them out, for at most 310 ms."},
		{50, 50, math.MaxInt64, "50 further keys, 50 of them out, some without an end."},
		{0, 0, 0, ""},
	} {
		if got := rest(c.keys, c.out, c.longest); got != c.text {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// The percentiles of the longest curve that there is are all different when they
// are written, and none is 100.
func TestPercentsAreToldApart(t *testing.T) {
	r := stats.Measure(bigTrace(600_000), stats.Config{Load: stats.Window{To: time.Hour}})
	data, err := json.Marshal(newDistributions(r.Curves))
	if err != nil {
		t.Fatal(err)
	}
	var read []struct{ Percent []float64 }
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	p := read[0].Percent
	if len(p) < 100 || p[len(p)-1] != 99.9999 || !slices.IsSorted(p) || len(slices.Compact(slices.Clone(p))) != len(p) {
		t.Errorf("the percentiles are %v", p)
	}
}

func bigTrace(n int) *trace.Run {
	_, run := bigRun(n)
	return run
}

func TestFirst(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 7))
	for range 2000 {
		all := make([][2]int, rng.IntN(60))
		for i := range all {
			all[i] = [2]int{rng.IntN(9), i}
		}
		n := rng.IntN(50)
		compare := func(a, b [2]int) int { return a[0] - b[0] }
		got := first(all, n, compare)
		slices.SortStableFunc(all, compare)
		if !slices.Equal(got, all[:min(n, len(all))]) {
			t.Fatalf("the first %d of %v are %v", n, all, got)
		}
	}
}
