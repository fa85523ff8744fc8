package reports

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"statequake/history"
	"statequake/reports/trace"
)

// Bounds of the series of report.html, whatever the run holds.
const (
	maxBuckets = 600 // also points of a node's line
	minBuckets = 200 // which are fewer only in a run that is too short for them
	maxOps     = 8   // with views of their own; the others share one
	maxOpNodes = 8   // likewise
	viewBytes  = 440_000
	pointBytes = 50 // of one bucket of one view, as a rule
)

// view is the workload, warmup included, over time: all of it, one operation,
// what one node executed, or that operation on that node. Buckets hold their
// start and not their end. Ok operations count in the bucket of their answer,
// all others in that of the instant that they were due. Latencies, from the
// instant due to the answer, are those of the ok operations that were due in the
// bucket, unknown without any; percentiles are by the rule of stats.Summary, and
// exact up to the four digits to which they are written.
type view struct {
	Op   string `json:"op"`   // "" is all
	Node string `json:"node"` // "" is all, and operations of which no node is known
	N    values `json:"n"`    // one value: operations due

	// Left out if there are none.
	OK     values `json:"ok_per_s,omitempty"`
	Fail   values `json:"fail_per_s,omitempty"`
	Info   values `json:"info_per_s,omitempty"`
	Unsent values `json:"unsent_per_s,omitempty"`

	P50  values `json:"p50_ms"`
	P90  values `json:"p90_ms"`
	P99  values `json:"p99_ms"`
	P999 values `json:"p999_ms"`
	Max  values `json:"max_ms"`

	// Largest number of operations at one instant of the bucket that were due and
	// had not returned. Operations that were never sent are not in it.
	InFlight values `json:"in_flight"`
}

// permilles are the percentiles of a view.
var permilles = [...]int{500, 900, 990, 999}

// rank is the nearest rank of a share among n, which is positive; from 1 on.
func rank(permille, n int) int { return min(max((2*n*permille+1000)/2000, 1), n) }

// axis is a range of time in buckets of one width.
type axis struct {
	start, width time.Duration
	n            int
}

// forever bounds instants, so that their differences can be told.
const forever = 1 << 61 * time.Nanosecond

func bounded(at time.Duration) time.Duration { return min(max(at, -forever), forever) }

// bucket is the one that holds an instant, or the nearest one.
func (a axis) bucket(at time.Duration) int {
	return min(max(int((bounded(at)-a.start)/a.width), 0), a.n-1)
}

// holds tells whether an instant is in one of the buckets.
func (a axis) holds(at time.Duration) bool {
	return a.start <= at && (bounded(at)-a.start)/a.width < time.Duration(a.n)
}

// starts are the starts of the buckets in seconds.
func (a axis) starts() values {
	at := make(values, a.n)
	for i := range at {
		at[i] = (a.start + time.Duration(i)*a.width).Seconds()
	}
	return at
}

// newAxis lays at most limit buckets over the range from first to last, both
// included, so that one starts at anchor: the first and the last one of the load
// are then whole. Their width is 1, 2 or 5 times a power of ten seconds, at least
// 200 ms, and 50 ms if the range is shorter than 5 s.
func newAxis(first, last, anchor time.Duration, limit int) axis {
	first, last, anchor = bounded(first), bounded(last), bounded(anchor)
	width, next := 200*time.Millisecond, []time.Duration{5, 10, 20}
	if last-first < 5*time.Second {
		width = 50 * time.Millisecond
	}
	lay := func() axis {
		start := anchor - (max(0, anchor-first)+width-1)/width*width
		return axis{start, width, int((max(last, start)-start)/width) + 1}
	}
	for unit := 100 * time.Millisecond; ; unit *= 10 {
		for _, factor := range next {
			if a := lay(); a.n <= limit || width > math.MaxInt64/100 {
				return a
			}
			width = factor * unit
		}
	}
}

// inWorkload tells whether operations of the phase are in the views.
func inWorkload(phase history.Phase) bool { return phase == history.Warmup || phase == history.Load }

// grouping puts every kind of operation of the workload into one of few groups,
// and says which views each group is in.
type grouping struct {
	ops, nodes []string // of the filters
	of         []int    // by kind; -1 is not of the workload
	groups     int
	views      []view  // without their series: all, by operation, by node, by both
	in         [][]int // by group: the views that it is in
}

// newGrouping groups kinds of which there are so many operations.
func newGrouping(kinds []trace.Kind, counts []int) *grouping {
	g := &grouping{of: make([]int, len(kinds))}
	byOp, byNode := map[string]int{}, map[string]int{}
	for i, k := range kinds {
		if inWorkload(k.Phase) && counts[i] > 0 {
			byOp[k.Name] += counts[i]
			if k.Node != "" {
				byNode[k.Node] += counts[i]
			}
		}
	}
	var op, node map[string]int
	g.ops, op = busiest(byOp, maxOps)
	g.nodes, node = busiest(byNode, maxOpNodes)
	// The last column is that of operations whose node is unknown.
	columns := len(g.nodes) + 1
	g.groups = len(g.ops) * columns
	g.views = append(g.views, view{})
	for _, name := range g.ops {
		g.views = append(g.views, view{Op: name})
	}
	for _, name := range g.nodes {
		g.views = append(g.views, view{Node: name})
	}
	for i, name := range g.ops {
		for j := range columns {
			in := []int{0, 1 + i}
			if j < len(g.nodes) {
				in = append(in, 1+len(g.ops)+j, len(g.views))
				g.views = append(g.views, view{Op: name, Node: g.nodes[j]})
			}
			g.in = append(g.in, in)
		}
	}
	totals := make([]int, len(g.views))
	for i, k := range kinds {
		g.of[i] = -1
		if !inWorkload(k.Phase) || counts[i] == 0 {
			continue
		}
		column := len(g.nodes)
		if k.Node != "" {
			column = node[k.Node]
		}
		g.of[i] = op[k.Name]*columns + column
		for _, v := range g.in[g.of[i]] {
			totals[v] += counts[i]
		}
	}
	for i := range g.views {
		g.views[i].N = values{float64(totals[i])}
	}
	return g
}

// busiest returns labels for the names that count most, by name, and where each
// name is among them. Names beyond the limit share the last label.
func busiest(counts map[string]int, limit int) (labels []string, place map[string]int) {
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
	shown := names[:min(len(names), limit)]
	slices.Sort(shown)
	labels, place = []string{}, map[string]int{}
	taken := map[string]bool{"": true}
	label := func(text string) {
		unique := text
		for i := 2; taken[unique]; i++ {
			unique = fmt.Sprintf("%s (%d)", cmp.Or(text, "unnamed"), i)
		}
		taken[unique] = true
		labels = append(labels, unique)
	}
	for i, name := range shown {
		place[name] = i
		label(clip(name, nameText))
	}
	if others := names[len(shown):]; len(others) > 0 {
		for _, name := range others {
			place[name] = len(shown)
		}
		label(plural(int64(len(others)), "other"))
	}
	return labels, place
}

// needed is how many views the buckets are made wide enough for: there is always
// room for some of an operation on a node.
func (g *grouping) needed() int {
	return 1 + len(g.ops) + len(g.nodes) + min(len(g.ops)*len(g.nodes), 16)
}

// workload fills the views.
func (t *timeline) workload(ops *trace.Ops, anchor time.Duration) {
	kinds := ops.Kinds()
	counts := make([]int, len(kinds))
	first, last, found := time.Duration(0), time.Duration(0), false
	for op, kind := range ops.All() {
		if !inWorkload(kind.Phase) {
			continue
		}
		counts[ops.KindOf(op)]++
		if !found {
			first, last, found = op.Scheduled, op.Scheduled, true
		}
		first, last = min(first, op.Scheduled), max(last, op.Scheduled)
		if kind.Outcome != history.Unsent {
			first, last = min(first, op.Returned), max(last, op.Returned)
		}
	}
	g := newGrouping(kinds, counts)
	limit := min(max(viewBytes/(pointBytes*g.needed()), minBuckets), maxBuckets)
	a := newAxis(first, last, anchor, limit)
	if !found {
		a.n = 0
	}
	t.axis = a
	t.Ops, t.OpNodes = g.ops, g.nodes
	t.Width, t.At = values{a.width.Seconds()}, a.starts()
	newSeries(ops, g, a).fill()
	t.keepViews(g)
}

// keepViews keeps the views that there is room for: those of an operation on a
// node go first, the ones with the fewest operations before others.
func (t *timeline) keepViews(g *grouping) {
	always := 1 + len(g.ops) + len(g.nodes)
	room := viewBytes
	size := func(v *view) int {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err) // numbers and strings
		}
		return len(data)
	}
	for i := range g.views[:always] {
		room -= size(&g.views[i])
	}
	t.Views = slices.Clip(g.views[:always])
	both := g.views[always:]
	slices.SortStableFunc(both, func(a, b view) int { return cmp.Compare(b.N[0], a.N[0]) })
	left := 0
	for i := range both {
		if both[i].N[0] == 0 {
			continue
		}
		if room -= size(&both[i]); room < 0 {
			left++
			continue
		}
		t.Views = append(t.Views, both[i])
	}
	t.ViewsLeftOut = values{float64(left)}
}

// series collects what the views show.
type series struct {
	*grouping
	axis
	ops *trace.Ops

	// Operations that were sent, as indexes into ops, by the bucket in which they
	// were due, and by that in which they returned. The ones of bucket b end at
	// dueEnd[b].
	due, returned       []int32
	dueEnd, returnedEnd []int32

	rates    [4][]int32 // operations by outcome, view and bucket
	inFlight []int32    // by view and bucket; at first those under way when the bucket begins, those of this instant included
}

// outcomes are the order of series.rates.
var outcomes = [...]history.Outcome{history.OK, history.Fail, history.Info, history.Unsent}

func newSeries(ops *trace.Ops, g *grouping, a axis) *series {
	s := &series{grouping: g, axis: a, ops: ops, dueEnd: make([]int32, a.n+1), returnedEnd: make([]int32, a.n+1)}
	size := len(g.views) * a.n
	for i := range s.rates {
		s.rates[i] = make([]int32, size)
	}
	s.inFlight = make([]int32, size)
	if a.n == 0 {
		return s
	}
	kinds := ops.Kinds()
	outcome := make([]int, len(kinds))
	for i, k := range kinds {
		outcome[i] = slices.Index(outcomes[:], k.Outcome)
	}
	const ok, unsent = 0, 3
	grouped := make([][]int32, len(outcomes)) // by group and bucket
	for i := range grouped {
		grouped[i] = make([]int32, g.groups*a.n)
	}
	began := make([]int32, g.groups*a.n) // less those that returned
	sent := 0
	for op := range ops.All() {
		kind := ops.KindOf(op)
		group := g.of[kind]
		if group < 0 {
			continue
		}
		due := a.bucket(op.Scheduled)
		if outcome[kind] == unsent {
			grouped[unsent][group*a.n+due]++
			continue
		}
		back := a.bucket(end(op))
		if outcome[kind] == ok {
			grouped[ok][group*a.n+a.bucket(op.Returned)]++
		} else {
			grouped[outcome[kind]][group*a.n+due]++
		}
		began[group*a.n+due]++
		began[group*a.n+back]--
		s.dueEnd[due+1]++
		s.returnedEnd[back+1]++
		sent++
	}
	for group := range g.groups {
		under := int32(0)
		for b := range a.n {
			at := group*a.n + b
			for _, v := range g.in[group] {
				for i := range grouped {
					s.rates[i][v*a.n+b] += grouped[i][at]
				}
				s.inFlight[v*a.n+b] += under
			}
			under += began[at]
		}
	}
	for b := range a.n {
		s.dueEnd[b+1] += s.dueEnd[b]
		s.returnedEnd[b+1] += s.returnedEnd[b]
	}
	s.due, s.returned = make([]int32, sent), make([]int32, sent)
	for i := range ops.Len() {
		op := ops.At(i)
		kind := ops.KindOf(op)
		if g.of[kind] < 0 || outcome[kind] == unsent {
			continue
		}
		due, back := &s.dueEnd[a.bucket(op.Scheduled)], &s.returnedEnd[a.bucket(end(op))]
		s.due[*due], s.returned[*back] = int32(i), int32(i)
		*due++
		*back++
	}
	s.dueEnd, s.returnedEnd = s.dueEnd[:a.n], s.returnedEnd[:a.n] // each was the start of its bucket, and has moved to its end
	return s
}

// end is when an operation that was sent is no longer under way.
func end(op *trace.Op) time.Duration { return max(op.Returned, op.Scheduled) }

// fill fills the views, the buckets of which are independent of one another.
func (s *series) fill() {
	for i := range s.views {
		v := &s.views[i]
		for _, to := range []*values{&v.P50, &v.P90, &v.P99, &v.P999, &v.Max} {
			*to = make(values, s.n)
		}
	}
	var next atomic.Int32
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), s.n) {
		workers.Go(func() {
			w := &seriesWorker{series: s}
			for b := int(next.Add(1)) - 1; b < s.n; b = int(next.Add(1)) - 1 {
				w.latencies(b)
				w.underWay(b)
			}
		})
	}
	workers.Wait()
	for i := range s.views {
		v := &s.views[i]
		of := func(counts []int32, per float64) values {
			out := make(values, s.n)
			some := false
			for b, n := range counts[i*s.n : (i+1)*s.n] {
				out[b] = float64(n) / per
				some = some || n != 0
			}
			if !some {
				return nil
			}
			return out
		}
		for outcome, to := range []*values{&v.OK, &v.Fail, &v.Info, &v.Unsent} {
			*to = of(s.rates[outcome], s.width.Seconds())
		}
		if v.InFlight = of(s.inFlight, 1); v.InFlight == nil {
			v.InFlight = make(values, s.n)
		}
	}
}

// seriesWorker fills one bucket after the other. Operations are packed into
// numbers whose order is that of time, with the group in the lowest bits.
type seriesWorker struct {
	*series
	packed, spare []uint64
}

const (
	groupBits = 16
	groupMask = 1<<groupBits - 1
)

// part is what of a list is in bucket b.
func (s *series) part(list, ends []int32, b int) []int32 {
	if b == 0 {
		return list[:ends[0]]
	}
	return list[ends[b-1]:ends[b]]
}

// latencies sets the percentiles of bucket b in every view in one walk over its
// latencies in order: the ranks are known beforehand.
func (w *seriesWorker) latencies(b int) {
	w.packed = w.packed[:0]
	n := make([]int, len(w.views))
	for _, i := range w.part(w.due, w.dueEnd, b) {
		op := w.ops.At(int(i))
		if kind := w.ops.Kind(op); kind.Outcome != history.OK {
			continue
		}
		group := w.grouping.of[w.ops.KindOf(op)]
		latency := min(max(op.Latency(), 0), math.MaxInt64>>groupBits)
		w.packed = append(w.packed, uint64(latency)<<groupBits|uint64(group))
		for _, v := range w.grouping.in[group] {
			n[v]++
		}
	}
	w.sort()
	next, stop := make([]int, len(w.views)), make([]int, len(w.views)) // the percentile looked for, and its rank
	for i := range w.views {
		v := &w.views[i]
		v.P50[b], v.P90[b], v.P99[b], v.P999[b], v.Max[b] = unknown, unknown, unknown, unknown, unknown
		if n[i] > 0 {
			stop[i] = rank(permilles[0], n[i])
		}
	}
	seen := make([]int, len(w.views))
	for _, p := range w.packed {
		for _, i := range w.grouping.in[p&groupMask] {
			seen[i]++
			for seen[i] == stop[i] {
				v := &w.views[i]
				to := [...]values{v.P50, v.P90, v.P99, v.P999, v.Max}[next[i]]
				to[b] = fourDigits(milliseconds(time.Duration(p >> groupBits)))
				switch next[i]++; {
				case next[i] < len(permilles):
					stop[i] = rank(permilles[next[i]], n[i])
				case next[i] == len(permilles):
					stop[i] = n[i]
				default:
					stop[i] = 0
				}
			}
		}
	}
}

// underWay sets how many operations were under way at most in bucket b. One that
// returns at the instant at which another is due is not there with it.
func (w *seriesWorker) underWay(b int) {
	from := w.start + time.Duration(b)*w.width
	const begins = 1 << groupBits
	w.packed = w.packed[:0]
	pack := func(list, ends []int32, of func(*trace.Op) time.Duration, begins uint64) {
		for _, i := range w.part(list, ends, b) {
			op := w.ops.At(int(i))
			w.packed = append(w.packed, uint64(of(op)-from)<<(groupBits+1)|begins|uint64(w.grouping.of[w.ops.KindOf(op)]))
		}
	}
	pack(w.returned, w.returnedEnd, end, 0)
	pack(w.due, w.dueEnd, func(op *trace.Op) time.Duration { return op.Scheduled }, begins)
	w.sort()
	now, most := make([]int32, len(w.views)), make([]int32, len(w.views))
	for v := range now {
		now[v] = w.inFlight[v*w.n+b]
	}
	started := false
	for _, p := range w.packed {
		if !started && p >= begins { // what returns at the first instant of the bucket is not in it
			copy(most, now)
			started = true
		}
		for _, v := range w.grouping.in[p&groupMask] {
			if p&begins == 0 {
				now[v]--
			} else {
				now[v]++
				most[v] = max(most[v], now[v])
			}
		}
	}
	if !started {
		copy(most, now)
	}
	for v := range most {
		w.inFlight[v*w.n+b] = most[v]
	}
}

// sort sorts packed by all but the group. By digits, lowest first, that takes a
// quarter of the time that comparing takes.
func (w *seriesWorker) sort() {
	const digit = 11 // bits
	if len(w.packed) < 1<<digit {
		slices.Sort(w.packed)
		return
	}
	w.spare = slices.Grow(w.spare[:0], len(w.packed))[:len(w.packed)]
	highest := slices.Max(w.packed)
	for shift := groupBits; highest>>shift > 0; shift += digit {
		var place [1 << digit]int
		for _, p := range w.packed {
			place[p>>shift%(1<<digit)]++
		}
		sum := 0
		for d, n := range place {
			place[d] = sum
			sum += n
		}
		for _, p := range w.packed {
			to := &place[p>>shift%(1<<digit)]
			w.spare[*to] = p
			*to++
		}
		w.packed, w.spare = w.spare, w.packed
	}
}

// fourDigits rounds x, which is not negative, to four significant digits.
func fourDigits(x float64) float64 {
	if x == 0 {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-3)
	return math.Round(x/unit) * unit
}
