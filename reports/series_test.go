package reports

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/recovery"
	"statequake/reports/stats"
	"statequake/reports/trace"
)

// randomRun is a run of up to most operations in any order, many of which
// happen at the same instants, with more names and nodes than there are views.
func randomRun(rng *rand.Rand, most int) *history.Run {
	run := &history.Run{}
	span := 1 + rng.IntN(int([]time.Duration{time.Second, 30 * time.Second, time.Hour}[rng.IntN(3)]/ms))
	names, nodes := 1+rng.IntN(12), rng.IntN(12)
	slow := 1 + rng.IntN(span)
	for i := range rng.IntN(most) {
		op := history.Op{
			N: int64(i), Phase: []history.Phase{history.Warmup, history.Load, history.Load, history.Load, history.Probe, history.Audit}[rng.IntN(6)],
			Entity: "cart", Key: fmt.Sprint(rng.IntN(60)), Name: fmt.Sprint("op", rng.IntN(names)*rng.IntN(names)),
			Outcome: []history.Outcome{history.OK, history.OK, history.OK, history.Fail, history.Info, history.Unsent}[rng.IntN(6)],
		}
		if node := rng.IntN(nodes + 1); node > 0 {
			op.Node = fmt.Sprint("n", node)
		}
		op.Scheduled = time.Duration(rng.IntN(span)) * ms
		if op.Outcome != history.Unsent {
			op.Sent = op.Scheduled + time.Duration(rng.IntN(2))*ms
			op.Returned = op.Sent
			if rng.IntN(4) > 0 {
				op.Returned += time.Duration(rng.Int64N(int64(slow) * int64(ms)))
			}
			if rng.IntN(3) == 0 {
				op.Returned = op.Returned.Truncate(ms)
			}
		}
		run.Ops = append(run.Ops, op)
	}
	return run
}

// timelineOf is the data of the charts of a run whose load starts at anchor.
func timelineOf(run *history.Run, anchor time.Duration) *timeline {
	tr := trace.Of(run)
	_, keys := recovery.Measure(recovery.Run{Ops: &tr.Ops, Load: stats.Window{From: anchor, To: time.Hour}})
	return newTimeline(&Verdict{run: tr, keys: keys, Load: Load{Start: anchor, Duration: time.Hour - anchor}})
}

// labelled says as what the names are shown, by the words of busiest alone.
func labelled(all []string, limit int) map[string]string {
	count := map[string]int{}
	for _, name := range all {
		if name != "" {
			count[name]++
		}
	}
	names := []string{}
	for name := range count {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return strings.Compare(a, b)
	})
	labels := map[string]string{}
	for i, name := range names {
		labels[name] = name
		if i >= limit {
			labels[name] = fmt.Sprintf("%d others", len(names)-limit)
			if len(names) == limit+1 {
				labels[name] = "1 other"
			}
		}
	}
	return labels
}

// rounded is a latency with four digits in ms.
func rounded(d time.Duration) float64 {
	x, err := strconv.ParseFloat(strconv.FormatFloat(float64(d)/1e6, 'e', 3, 64), 64)
	if err != nil {
		panic(err)
	}
	return x
}

func same(a, b float64) bool {
	return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1.0001e-3*math.Abs(b) || math.Abs(a-b) < 1e-9
}

// Every value of every view is that of counting the operations one by one.
func TestViews(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		run := randomRun(rng, 400)
		tl := timelineOf(run, time.Duration(rng.IntN(2000))*ms)
		var ops []history.Op
		var names, nodes []string
		for _, op := range run.Ops {
			if op.Phase == history.Warmup || op.Phase == history.Load {
				ops = append(ops, op)
				names, nodes = append(names, op.Name), append(nodes, op.Node)
			}
		}
		opLabel, nodeLabel := labelled(names, maxOps), labelled(nodes, maxOpNodes)
		seen := map[string]bool{}
		width := time.Duration(math.Round(tl.Width[0] * 1e9))
		for _, v := range tl.Views {
			if id := v.Op + "/" + v.Node; seen[id] {
				t.Fatalf("seed %d: two views of %q", seed, id)
			} else {
				seen[id] = true
			}
			var in []history.Op
			for _, op := range ops {
				if (v.Op == "" || v.Op == opLabel[op.Name]) && (v.Node == "" || op.Node != "" && v.Node == nodeLabel[op.Node]) {
					in = append(in, op)
				}
			}
			if v.N[0] != float64(len(in)) {
				t.Fatalf("seed %d: %q %q has %v operations, want %d", seed, v.Op, v.Node, v.N, len(in))
			}
			for b := range tl.At {
				from := time.Duration(math.Round(tl.At[b] * 1e9))
				checkBucket(t, fmt.Sprintf("seed %d: view %q %q, bucket %d", seed, v.Op, v.Node, b), &v, b, in, from, from+width)
			}
		}
		missing := map[string]bool{}
		for _, op := range ops {
			for _, id := range []string{"/", opLabel[op.Name] + "/", "/" + nodeLabel[op.Node], opLabel[op.Name] + "/" + nodeLabel[op.Node]} {
				if !seen[id] {
					missing[id] = true
					if strings.HasPrefix(id, "/") || strings.HasSuffix(id, "/") {
						t.Fatalf("seed %d: no view of %q", seed, id)
					}
				}
			}
		}
		if len(missing) != int(tl.ViewsLeftOut[0]) {
			t.Errorf("seed %d: without a view are %v, %v are said to be", seed, missing, tl.ViewsLeftOut)
		}
	}
}

// checkBucket compares bucket b, which is [from, to), of a view of in.
func checkBucket(t *testing.T, what string, v *view, b int, in []history.Op, from, to time.Duration) {
	t.Helper()
	within := func(at time.Duration) bool { return from <= at && at < to }
	counted := map[history.Outcome]float64{}
	var latencies []time.Duration
	instants := []time.Duration{from}
	for _, op := range in {
		at := op.Scheduled
		if op.Outcome == history.OK {
			at = op.Returned
			if within(op.Scheduled) {
				latencies = append(latencies, op.Returned-op.Scheduled)
			}
		}
		if within(at) {
			counted[op.Outcome]++
		}
		if within(op.Scheduled) {
			instants = append(instants, op.Scheduled)
		}
	}
	most := 0
	for _, at := range instants {
		n := 0
		for _, op := range in {
			if op.Outcome != history.Unsent && op.Scheduled <= at && at < op.Returned {
				n++
			}
		}
		most = max(most, n)
	}
	equal := func(name string, have values, want float64) {
		t.Helper()
		got := 0.0 // left out
		if len(have) > 0 {
			got = have[b]
		}
		if !same(got, want) {
			t.Fatalf("%s: %s is %v, want %v", what, name, got, want)
		}
	}
	for outcome, have := range map[history.Outcome]values{history.OK: v.OK, history.Fail: v.Fail, history.Info: v.Info, history.Unsent: v.Unsent} {
		equal(string(outcome), have, counted[outcome]/(to-from).Seconds())
	}
	equal("in flight", v.InFlight, float64(most))
	slices.Sort(latencies)
	at := func(percent float64) float64 {
		if len(latencies) == 0 {
			return unknown
		}
		n := int(math.Round(percent / 100 * float64(len(latencies))))
		return rounded(latencies[max(n, 1)-1])
	}
	for percent, have := range map[float64]values{50: v.P50, 90: v.P90, 99: v.P99, 99.9: v.P999, 100: v.Max} {
		equal(fmt.Sprint("p", percent), have, at(percent))
	}
}

// Long lists are sorted another way than short ones.
func TestSeriesSort(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 8))
	for _, n := range []int{0, 1, 2047, 2048, 5000, 100_000} {
		for _, bits := range []int{0, 16, 17, 27, 28, 50, 64} {
			w := &seriesWorker{}
			for range n {
				w.packed = append(w.packed, rng.Uint64()>>(64-bits))
			}
			want := slices.Sorted(slices.Values(w.packed))
			w.sort()
			for i, p := range w.packed {
				if p>>groupBits != want[i]>>groupBits {
					t.Fatalf("%d numbers of %d bits: number %d is %x, want %x", n, bits, i, p, want[i])
				}
			}
			if slices.Sort(w.packed); !slices.Equal(w.packed, want) {
				t.Fatalf("%d numbers of %d bits are not the same ones", n, bits)
			}
		}
	}
}

// With as many names, nodes, buckets, outcomes and keys as there may be, what the
// charts hold stays small, and no single failure or slow answer is lost in it.
func TestTimelineSize(t *testing.T) {
	const n, span = 60_000, 10 * time.Hour
	rng := rand.New(rand.NewPCG(1, 2))
	run := &history.Run{}
	for i := range n {
		op := history.Op{Phase: history.Load, Entity: strings.Repeat("e", 100), Key: fmt.Sprint(i % 5000), Name: fmt.Sprint(strings.Repeat("operation", 20), rng.IntN(40)),
			Node: fmt.Sprint(strings.Repeat("node", 20), rng.IntN(40)), Scheduled: span * time.Duration(i) / n, Outcome: []history.Outcome{history.OK, history.Fail, history.Info, history.Unsent}[rng.IntN(4)]}
		if op.Outcome != history.Unsent {
			op.Sent, op.Returned = op.Scheduled, op.Scheduled+time.Duration(rng.Int64N(int64(100*time.Second)))
		}
		run.Ops = append(run.Ops, op)
		for node := range 20 {
			if i%40 == 0 {
				run.Samples = append(run.Samples, history.Sample{At: op.Scheduled, Node: fmt.Sprint("n", node), PID: 1, RSS: rng.Int64N(1 << 30), CPU: float64(i) * 0.01234})
			}
		}
	}
	slow := &run.Ops[n/2]
	slow.Outcome, slow.Returned = history.OK, slow.Scheduled+101*time.Second
	tl := timelineOf(run, 0)
	data, err := json.Marshal(tl)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 600_000 {
		t.Errorf("the data has %d bytes, limit 600,000", len(data))
	}
	both := 0
	for _, v := range tl.Views {
		if v.Op != "" && v.Node != "" {
			both++
		}
	}
	if len(tl.Ops) != maxOps+1 || len(tl.OpNodes) != maxOpNodes+1 || tl.Ops[maxOps] != "32 others" || both < 9 || both+int(tl.ViewsLeftOut[0]) != 81 || len(tl.At) < minBuckets/3 {
		t.Errorf("ops %q, %d views of both, %v left out, %d buckets", tl.Ops, both, tl.ViewsLeftOut, len(tl.At))
	}
	slowest := unknown
	for _, v := range tl.Views[0].Max {
		slowest = larger(slowest, v)
	}
	if slowest != 101_000 {
		t.Errorf("the slowest answer is %v ms in the chart, want 101,000", slowest)
	}

	// One failure among many ok ones.
	for i := range run.Ops {
		if op := &run.Ops[i]; op.Outcome != history.OK {
			op.Outcome, op.Sent, op.Returned = history.OK, op.Scheduled, op.Scheduled+ms
		}
	}
	run.Ops[777].Outcome = history.Fail
	tl = timelineOf(run, 0)
	failed := 0.0
	for _, v := range tl.Views[0].Fail {
		failed += v * tl.Width[0]
	}
	if math.Abs(failed-1) > 1e-9 || tl.Views[0].Info != nil {
		t.Errorf("%v failures in the chart, want 1; unknown ones %v", failed, tl.Views[0].Info)
	}
}

// A name is shown as it is, as far as it fits, and names that look the same then
// have different views.
func TestHostileNames(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, evil := range [][]string{
		{"</script><script>alert(1)</script>", "<!--"},
		{long + "a", long + "b"},
		{"", "unnamed"},
		{"\x00", "\x01", "\u202e"},
		{"n0", "n1", "n2", "n3", "n4", "n5", "n6", "1 other", "n7"},
	} {
		v := newFixture().judge(t)
		for i := range 50 {
			for weight, name := range evil {
				for range 10 - weight {
					v.run.Ops.Add(&history.Op{Phase: history.Load, Scheduled: time.Duration(i+20) * 100 * ms, Returned: time.Duration(i+21) * 100 * ms,
						Name: name, Node: name, Entity: name, Key: name, Outcome: history.OK})
				}
			}
		}
		tl := newTimeline(v)
		for _, labels := range [][]string{tl.Ops, tl.OpNodes} {
			unique := slices.Compact(slices.Sorted(slices.Values(labels)))
			if len(unique) != len(labels) || slices.Contains(labels, "") || len(labels) > maxOps+1 {
				t.Errorf("%.60q: labels %q", evil, labels)
			}
		}
		if len(tl.Views) != 1+len(tl.Ops)+len(tl.OpNodes)+countBoth(tl) {
			t.Errorf("%.60q: %d views", evil, len(tl.Views))
		}
		page, data := parsePage(t, v)
		page.charts(t)
		if strings.Contains(string(data), "<script>alert") || len(page.elements("script")) != 2 {
			t.Errorf("%.60q: there is a script more", evil)
		}
	}
}

func countBoth(tl *timeline) (n int) {
	for _, v := range tl.Views {
		if v.Op != "" && v.Node != "" {
			n++
		}
	}
	return n
}

// A second is enough for a chart.
func TestTimelineOfASecond(t *testing.T) {
	run := &history.Run{}
	for i := range 100 {
		at := time.Duration(i) * 10 * ms
		run.Ops = append(run.Ops, history.Op{N: int64(i), Phase: history.Load, Name: "get", Node: "n1", Scheduled: at, Sent: at, Returned: at + ms, Outcome: history.OK})
	}
	tl := timelineOf(run, 0)
	if !slices.Equal(tl.Width, values{0.05}) || len(tl.At) != 20 || tl.Views[0].OK[7] != 100 || tl.Views[0].InFlight[7] != 1 || tl.Views[0].P99[7] != 1 {
		t.Errorf("width %v, %d buckets, %v", tl.Width, len(tl.At), tl.Views[0])
	}
	empty := timelineOf(&history.Run{}, 0)
	if data, err := json.Marshal(empty); err != nil || len(empty.Views) != 1 || empty.Views[0].N[0] != 0 || len(empty.At) != 0 || strings.Contains(string(data), ":null") {
		t.Errorf("nothing is %s, %v", data, err)
	}
}

// The rows of the strip are those of counting, and in the order that was promised.
func TestKeyStrip(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		run := randomRun(rng, 600)
		tr := trace.Of(run)
		_, known := recovery.Measure(recovery.Run{Ops: &tr.Ops, Load: stats.Window{To: time.Hour}})
		tl := newTimeline(&Verdict{run: tr, keys: known, Load: Load{Duration: time.Hour}})
		out := map[string]recovery.KeyOutage{}
		for _, k := range known.Out {
			out["cart/"+tr.Ops.Keys()[k.Key].Key] = k
		}
		sent := map[string]int{}
		for _, op := range run.Ops {
			if op.Phase != history.Audit && op.Outcome != history.Unsent {
				sent["cart/"+op.Key]++
			}
		}
		s := tl.Keys
		if len(tl.At) == 0 {
			continue
		}
		if len(s.Rows) != min(len(sent), maxKeyRows) || int(s.More[0]) != len(sent)-len(s.Rows) || (s.Words == "") != (s.More[0] == 0) {
			t.Fatalf("seed %d: %d rows of %d keys, %v more, %q", seed, len(s.Rows), len(sent), s.More, s.Words)
		}
		// The worst first, then those asked most.
		place := func(key string) (float64, int) {
			k, was := out[key]
			switch {
			case !was:
				return -1, sent[key]
			case k.Dead:
				return math.Inf(1), 0
			}
			return k.Length.Seconds(), 0
		}
		var shown []string
		for i, row := range s.Rows {
			shown = append(shown, row.Key)
			k, was := out[row.Key]
			if was != (len(row.Out) == 1) || was && !k.Dead && row.Out[0] != k.Length.Seconds() || was && k.Dead != math.IsNaN(row.Out[0]) || row.AtLeast != k.Sparse || row.N[0] != float64(sent[row.Key]) {
				t.Fatalf("seed %d: row %+v, out %+v, %d sent", seed, row, k, sent[row.Key])
			}
			if i > 0 {
				a, n := place(s.Rows[i-1].Key)
				if b, m := place(row.Key); cmp.Or(cmp.Compare(b, a), cmp.Compare(m, n)) > 0 {
					t.Fatalf("seed %d: %s stands before %s", seed, s.Rows[i-1].Key, row.Key)
				}
			}
			checkCells(t, fmt.Sprintf("seed %d: %s", seed, row.Key), tl, row, run.Ops, known)
		}
		for key := range sent {
			if !slices.Contains(shown, key) {
				last, n := place(shown[len(shown)-1])
				if length, m := place(key); cmp.Or(cmp.Compare(length, last), cmp.Compare(m, n)) > 0 {
					t.Fatalf("seed %d: %s has no row, %s has one", seed, key, shown[len(shown)-1])
				}
			}
		}
	}
}

func checkCells(t *testing.T, what string, tl *timeline, row keyRow, ops []history.Op, known *recovery.Keys) {
	t.Helper()
	if len(row.Cells) != len(tl.Keys.At) {
		t.Fatalf("%s: %d cells, %d buckets", what, len(row.Cells), len(tl.Keys.At))
	}
	for b, at := range tl.Keys.At {
		due, ok, late := 0, 0, 0
		for i, op := range ops {
			if from := math.Round(at * 1e9); "cart/"+op.Key != row.Key || op.Phase == history.Audit || op.Outcome == history.Unsent ||
				float64(op.Scheduled) < from || float64(op.Scheduled) >= from+math.Round(tl.Keys.Width[0]*1e9) {
				continue
			}
			due++
			if op.Outcome == history.OK {
				ok++
				if known.Late(i) {
					late++
				}
			}
		}
		want := "o"
		switch {
		case due == 0:
			want = "."
		case ok == 0:
			want = "X"
		case ok < due:
			want = "x"
		case late > 0:
			want = "s"
		}
		if got := row.Cells[b : b+1]; got != want {
			t.Fatalf("%s: cell %d is %q, want %q", what, b, got, want)
		}
	}
}

// Instants that no run has break nothing.
func TestTimelineOfNonsense(t *testing.T) {
	extremes := []time.Duration{math.MinInt64, -time.Hour, 0, time.Second, math.MaxInt64 - 1, math.MaxInt64}
	for _, first := range extremes {
		for _, last := range extremes {
			for _, anchor := range extremes {
				tr := trace.Of(&history.Run{Ops: []history.Op{
					{Phase: history.Load, Scheduled: first, Sent: first, Returned: last, Outcome: history.OK},
					{Phase: history.Load, Scheduled: last, Sent: last, Returned: first, Outcome: history.Info},
				}})
				tl := newTimeline(&Verdict{run: tr, keys: &recovery.Keys{}, Load: Load{Start: anchor, Duration: time.Second}})
				if len(tl.At) < 1 || len(tl.At) > maxBuckets+1 {
					t.Errorf("from %d to %d, load at %d: %d buckets", first, last, anchor, len(tl.At))
				}
			}
		}
	}
}
