package plot

import (
	"fmt"
	"math"
	"slices"
	"time"

	"statequake/history"
	"statequake/reports/stats"
	"statequake/reports/trace"
)

// maxBuckets bounds the points of a line over time, and with them the size of
// an SVG, however long the run.
const maxBuckets = 300

// shortest is the shortest load that is drawn as long as it is: a torn history
// can hold a single operation, which has no rate.
const shortest = 100 * time.Millisecond

// measured is a run as the charts need it. Only operations of the load phase
// are in it.
type measured struct {
	buckets []bucket
	every   time.Duration // length of every bucket but the last

	// Latencies of ok operations, ascending.
	steady, during []time.Duration

	due, ok, notOK int
}

// bucket is a part of the load; together they cover it without a gap.
type bucket struct {
	stats.Window
	latencies      []time.Duration // of ok operations due in it, ascending
	due, ok, notOK int             // ok and notOK by the time of return
	answers        int             // how many latencies there are
}

// middle is the bucket's place on a time axis, in seconds.
func (b *bucket) middle() float64 { return (b.From.Seconds() + b.To.Seconds()) / 2 }

func measure(ops *trace.Ops, in Input) measured {
	m := measured{every: bucketLength(in.Load.Length())}
	m.buckets = divide(in.Load, m.every)
	var outside bucket // nobody looks at it
	at := func(t time.Duration) *bucket {
		if !in.Load.Contains(t) || len(m.buckets) == 0 {
			outside = bucket{}
			return &outside
		}
		return &m.buckets[min(int((t-in.Load.From)/m.every), len(m.buckets)-1)]
	}
	var disturbed []stats.Window
	for _, w := range in.Disturbed {
		if (stats.Window{From: max(w.From, in.Load.From), To: min(w.To, in.Load.To)}).Length() > 0 {
			disturbed = append(disturbed, w)
		}
	}
	during := func(op *trace.Op) bool {
		return slices.ContainsFunc(disturbed, func(w stats.Window) bool { return op.Scheduled < w.To && op.Returned >= w.From })
	}
	// Latencies are counted first, so that each list is allocated once.
	nDuring := 0
	for op, kind := range ops.All() {
		if kind.Phase != history.Load {
			continue
		}
		m.due++
		due := at(op.Scheduled)
		due.due++
		switch kind.Outcome {
		case history.OK:
			m.ok++
			at(op.Returned).ok++
			due.answers++
			if during(op) {
				nDuring++
			}
		case history.Unsent:
			m.notOK++
			due.notOK++
		default:
			m.notOK++
			at(op.Returned).notOK++
		}
	}
	for i := range m.buckets {
		m.buckets[i].latencies = make([]time.Duration, 0, m.buckets[i].answers)
	}
	m.steady, m.during = make([]time.Duration, 0, m.ok-nDuring), make([]time.Duration, 0, nDuring)
	for op, kind := range ops.All() {
		if kind.Phase != history.Load || kind.Outcome != history.OK {
			continue
		}
		if due := at(op.Scheduled); due.answers > 0 {
			due.latencies = append(due.latencies, op.Latency())
		}
		if during(op) {
			m.during = append(m.during, op.Latency())
		} else {
			m.steady = append(m.steady, op.Latency())
		}
	}
	for i := range m.buckets {
		slices.Sort(m.buckets[i].latencies)
	}
	slices.Sort(m.steady)
	slices.Sort(m.during)
	return m
}

// length is every in words.
func (m *measured) length() string { return partText(m.every) }

// partText is the length of a part of a time axis in words.
func partText(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%g s", d.Seconds())
}

// bucketLength is 200 ms for a load of up to a minute, 1 s for up to five
// minutes, and else a round length that makes at most maxBuckets.
func bucketLength(load time.Duration) time.Duration {
	for _, d := range []time.Duration{200 * time.Millisecond, time.Second} {
		if load <= maxBuckets*d {
			return d
		}
	}
	return time.Duration(niceStep(load.Seconds()/maxBuckets) * float64(time.Second))
}

// divide cuts the load into buckets. What is left at its end becomes a bucket
// only if it is at least half as long as the others: the rate of a few
// milliseconds would be noise.
func divide(load stats.Window, every time.Duration) []bucket {
	if load.Length() == 0 {
		return nil
	}
	buckets := make([]bucket, max(1, (load.Length()+every/2)/every))
	for i := range buckets {
		buckets[i].From = load.From + time.Duration(i)*every
		buckets[i].To = buckets[i].From + every
	}
	buckets[len(buckets)-1].To = load.To
	return buckets
}

// percentile returns the latency of rank percent x n / 100, rounded to the
// nearest whole rank and at least 1: the rule of stats.Summary. sorted must be
// ascending and not empty.
func percentile(sorted []time.Duration, percent float64) time.Duration {
	rank := int(math.Round(percent / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// milliseconds is a latency's place on a logarithmic axis: at least 1 µs, since
// 0 has none.
func milliseconds(d time.Duration) float64 {
	return float64(max(d, time.Microsecond)) / float64(time.Millisecond)
}

// niceStep is the smallest of 1, 2 and 5 times a power of ten that is at least
// x, which must be positive.
func niceStep(x float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(x)))
	for _, f := range []float64{1, 2, 5} {
		if f*power >= x {
			return f * power
		}
	}
	return 10 * power
}
