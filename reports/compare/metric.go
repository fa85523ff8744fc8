package compare

import (
	"math"
	"slices"
	"time"
)

// metric is a figure of a run that is compared.
type metric struct {
	name   string
	what   string
	unit   unit
	higher bool    // higher is better
	margin float64 // by which head may be worse unless the budget says otherwise; 0.05 is 5 %
	value  func(*verdict) float64
}

// unit says how the values of a metric are written.
type unit string

const (
	nanoseconds unit = "ns"
	perSecond   unit = "per_s"
	operations  unit = "ops"
)

// metrics are all that is compared, in the order of the report. A value that
// was not measured is NaN.
var metrics = []metric{
	{"throughput", "operations answered ok per second of the load", perSecond, true, 0.05,
		alike(func(v *verdict) float64 {
			if v.Throughput.All == nil {
				return math.NaN()
			}
			return *v.Throughput.All
		})},
	{"p50", "median latency of ok operations", nanoseconds, false, 0.05,
		alike(func(v *verdict) float64 { return latency(v.Latency.All.P50, v.Latency.All.N) })},
	{"p99", "99th percentile of the latency of ok operations", nanoseconds, false, 0.10,
		alike(func(v *verdict) float64 { return latency(v.Latency.All.P99, v.Latency.All.N) })},
	{"p99_faults", "the same, of operations on their way while a fault was felt", nanoseconds, false, 0.10,
		func(v *verdict) float64 { return latency(v.Latency.DuringFaults.P99, v.Latency.DuringFaults.N) }},
	{"outage", "longest outage of a key after any fault", nanoseconds, false, 0.10, outage},
	{"lost_acks", "acknowledged writes that are gone", operations, false, 0.10,
		func(v *verdict) float64 {
			if v.LostAcks == nil {
				return math.NaN()
			}
			return float64(*v.LostAcks)
		}},
	{"knee", "highest rate at which find_max kept its bound, where the system was the limit", perSecond, true, 0.10, knee},
	{"cpu_per_op", "CPU time of all nodes, from their start, per operation answered ok", nanoseconds, false, 0.05, alike(cpuPerOp)},
}

// alike is a figure of runs that have the same load. A search for the highest rate
// drives the better system further, and then it looks the slower one.
func alike(of func(*verdict) float64) func(*verdict) float64 {
	return func(v *verdict) float64 {
		if v.FindMax != nil {
			return math.NaN()
		}
		return of(v)
	}
}

// metricNames are the names of the metrics, in the order of the report.
func metricNames() []string {
	names := make([]string, len(metrics))
	for i, m := range metrics {
		names[i] = m.name
	}
	return names
}

func latency(d time.Duration, n int64) float64 {
	if n == 0 {
		return math.NaN()
	}
	return float64(d)
}

// outage is the longest outage of a key after any of the run's faults, in
// nanoseconds. A key that never came back counts as out for the length of the
// load.
func outage(v *verdict) float64 {
	longest := math.NaN()
	for _, f := range v.Faults {
		if f.Recovery == nil {
			return math.NaN()
		}
		switch {
		case f.Recovery.KeysDead > 0:
			longest = maxKnown(longest, float64(v.Load.Duration))
		case f.Recovery.Outage.Max == nil:
			return math.NaN()
		}
		if d := f.Recovery.Outage.Max; d != nil {
			longest = maxKnown(longest, float64(*d))
		}
	}
	return longest
}

// knee is what the run's search for the highest rate found.
func knee(v *verdict) float64 {
	if v.FindMax == nil || v.FindMax.OfSystem() == nil {
		return math.NaN()
	}
	return *v.FindMax.Knee
}

// maxKnown is the larger of a and b; a may be NaN.
func maxKnown(a, b float64) float64 {
	if math.IsNaN(a) {
		return b
	}
	return max(a, b)
}

// cpuPerOp is the CPU time of all nodes per operation of the load answered ok,
// in nanoseconds. The time is that since the nodes were started: warmup, probes
// and audit are in it, on both sides alike.
func cpuPerOp(v *verdict) float64 {
	if len(v.Resources) == 0 || v.Load.OK == 0 {
		return math.NaN()
	}
	var cpu float64
	for _, r := range v.Resources {
		cpu += r.CPU
	}
	return cpu / float64(v.Load.OK) * float64(time.Second)
}

// median of values that are all known, the mean of the middle two if their
// number is even; NaN if there are none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return medianOfSorted(slices.Sorted(slices.Values(values)))
}

func medianOfSorted(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
