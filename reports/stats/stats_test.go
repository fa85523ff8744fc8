package stats

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/trace"
)

const ms = time.Millisecond

// load returns n load operations, one every 10 ms from start, answered ok after
// latency(i).
func load(start time.Duration, n int, latency func(i int) time.Duration) []history.Op {
	ops := make([]history.Op, n)
	for i := range ops {
		at := start + time.Duration(i)*10*ms
		ops[i] = history.Op{
			ID: fmt.Sprint(i), N: int64(i), Phase: history.Load, Entity: "cart", Key: "k", Name: []string{"add", "get"}[i%2],
			Scheduled: at, Sent: at + ms, Returned: at + latency(i), Outcome: history.OK, Attempts: 1,
		}
	}
	return ops
}

func always(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

func footer(n int64) *history.Footer {
	return &history.Footer{Version: 1, Scheduled: map[history.Phase]int64{history.Load: n}}
}

// near tells whether a histogram's value is at least want and at most 0.1 %
// above it.
func near(have, want time.Duration) bool {
	return have >= want && float64(have) <= float64(want)*1.001
}

func TestLatency(t *testing.T) {
	// 1 to 1000 ms; those on their way in [2 s, 4 s), which are 183 to 400 ms,
	// are during faults: the first of them is due at 1.82 s and back at 2.003 s.
	run := &history.Run{Ops: load(0, 1000, func(i int) time.Duration { return time.Duration(i+1) * ms }), Footer: footer(1000)}
	for _, phase := range []history.Phase{history.Warmup, history.Probe, history.Drain, history.Audit} {
		op := run.Ops[0]
		op.Phase, op.Returned = phase, time.Hour
		run.Ops = append(run.Ops, op)
	}
	s := Measure(trace.Of(run), Config{
		Load:     Window{0, 10 * time.Second},
		Faults:   []Window{{3 * time.Second, 4 * time.Second}, {2 * time.Second, 3500 * ms}, {-5 * time.Second, 0}},
		Answered: []time.Duration{100 * ms, time.Second, 90 * time.Second, time.Minute},
	})
	for _, c := range []struct {
		name                    string
		have                    Summary
		p50, p90, p99, p999, up time.Duration
		n                       int64
	}{
		{"all", s.Latency.All, 500 * ms, 900 * ms, 990 * ms, 999 * ms, 1000 * ms, 1000},
		{"during", s.Latency.DuringFaults, 291 * ms, 378 * ms, 398 * ms, 400 * ms, 400 * ms, 218},
		{"steady", s.Latency.Steady, 609 * ms, 922 * ms, 992 * ms, 999 * ms, 1000 * ms, 782},
		{"add", s.Latency.ByOp["add"], 499 * ms, 899 * ms, 989 * ms, 999 * ms, 999 * ms, 500},
	} {
		if !near(c.have.P50, c.p50) || !near(c.have.P90, c.p90) || !near(c.have.P99, c.p99) || !near(c.have.P999, c.p999) || c.have.Max != c.up || c.have.N != c.n {
			t.Errorf("%s: have %+v, want %v %v %v %v %v n %d", c.name, c.have, c.p50, c.p90, c.p99, c.p999, c.up, c.n)
		}
	}
	if got := slices.Sorted(maps.Keys(s.Latency.ByOp)); !slices.Equal(got, []string{"add", "get"}) {
		t.Errorf("operations are %v, want add and get", got)
	}
	want := map[string]float64{"100ms": 0.1, "1s": 1, "1m30s": 1, "1m": 1}
	if !reflect.DeepEqual(s.AnsweredWithin, want) {
		t.Errorf("answered within: have %v, want %v", s.AnsweredWithin, want)
	}
}

// Shares are of what was scheduled, not of what was answered or recorded.
func TestAnsweredWithinCountsEverythingScheduled(t *testing.T) {
	run := &history.Run{Ops: load(0, 4, always(5*ms)), Footer: footer(8)}
	run.Ops[1].Outcome, run.Ops[2].Outcome, run.Ops[3].Outcome = history.Fail, history.Info, history.Unsent
	cfg := Config{Load: Window{0, time.Second}, Answered: []time.Duration{5 * ms, 5*ms - 1}}
	s := Measure(trace.Of(run), cfg)
	if have := s.AnsweredWithin["5ms"]; have != 1.0/8 {
		t.Errorf("answered within 5ms: have %v, want 1/8", have)
	}
	if have := s.AnsweredWithin["4.999999ms"]; have != 0 {
		t.Errorf("answered within less than 5ms: have %v, want 0", have)
	}
	if want := (history.Counts{OK: 1, Fail: 1, Info: 1, Unsent: 1}); s.Counts != want || s.Scheduled != 8 {
		t.Errorf("counts are %v of %d, want %v of 8", s.Counts, s.Scheduled, want)
	}
	run.Footer = nil
	if s := Measure(trace.Of(run), cfg); s.Scheduled != 4 || s.AnsweredWithin["5ms"] != 1.0/4 {
		t.Errorf("torn: %d scheduled, share %v; want 4 lines, 1/4", s.Scheduled, s.AnsweredWithin["5ms"])
	}
}

func TestThroughput(t *testing.T) {
	// 100/s; what is scheduled in [2 s, 4 s) is answered at 4 s.
	run := &history.Run{Footer: footer(1000), Ops: load(0, 1000, func(i int) time.Duration {
		if at := time.Duration(i) * 10 * ms; at >= 2*time.Second && at < 4*time.Second {
			return 4*time.Second - at
		}
		return 2 * ms
	})}
	s := Measure(trace.Of(run), Config{Load: Window{0, 10 * time.Second}, Faults: []Window{{2 * time.Second, 4 * time.Second}}})
	if *s.Throughput.All != 100 || *s.Throughput.Steady != 125 || *s.Throughput.DuringFaults != 0 {
		t.Errorf("throughput is %v, %v, %v; want 100, 125, 0", *s.Throughput.All, *s.Throughput.Steady, *s.Throughput.DuringFaults)
	}
	if *s.RequestedRate != 100 || s.AchievedRate != 100 {
		t.Errorf("rates are %v and %v, want 100 and 100", *s.RequestedRate, s.AchievedRate)
	}
	s = Measure(trace.Of(run), Config{Load: Window{0, 10 * time.Second}, Closed: true})
	if s.Throughput.DuringFaults != nil {
		t.Errorf("throughput during no fault is %v, want unknown", *s.Throughput.DuringFaults)
	}
	if s.RequestedRate != nil {
		t.Errorf("a closed loop has a requested rate of %v", *s.RequestedRate)
	}
}

// Operations that left late, or never, are not achieved.
func TestAchievedRate(t *testing.T) {
	run := &history.Run{Ops: load(0, 100, always(5*ms)), Footer: footer(100)}
	for i := range 10 {
		run.Ops[i].Outcome, run.Ops[i].Sent, run.Ops[i].Returned = history.Unsent, 0, 0
		run.Ops[99-i].Sent, run.Ops[99-i].Returned = time.Second, 2*time.Second
	}
	s := Measure(trace.Of(run), Config{Load: Window{0, time.Second}})
	if s.AchievedRate != 80 || *s.RequestedRate != 100 {
		t.Errorf("achieved %v of %v, want 80 of 100", s.AchievedRate, *s.RequestedRate)
	}
}

func TestEmptyRun(t *testing.T) {
	s := Measure(&trace.Run{}, Config{Answered: []time.Duration{time.Second}})
	text, err := json.Marshal(s.Latency)
	if err != nil {
		t.Fatal(err)
	}
	const empty = `{"p50":null,"p90":null,"p99":null,"p999":null,"max":null,"n":0}`
	want := `{"all":` + empty + `,"steady":` + empty + `,"during_faults":` + empty + `,"by_op":{}}`
	if string(text) != want {
		t.Errorf("have %s\nwant %s", text, want)
	}
	if len(s.AnsweredWithin) != 0 || s.RequestedRate != nil || s.Generator.Verdict != Invalid {
		t.Errorf("an empty run measured %v, %v, generator %s", s.AnsweredWithin, s.RequestedRate, s.Generator.Verdict)
	}
	var back Summary
	if err := json.Unmarshal([]byte(empty), &back); err != nil || back != (Summary{}) {
		t.Errorf("read back %+v, %v", back, err)
	}
}

// A latency beyond the histogram's range is not dropped.
func TestVeryLongLatency(t *testing.T) {
	h := newHistogram()
	h.record(3 * time.Hour)
	h.record(-ms)
	if s := h.summary(); s.N != 2 || s.Max != 3*time.Hour || !near(s.P99, longest) {
		t.Errorf("have %+v", s)
	}
}

func TestGenerator(t *testing.T) {
	// Warmup 1 s, load 10 s at 100/s; a sample each second.
	samples := func(dispatched func(second int64) int64) []history.Sample {
		var out []history.Sample
		for s := int64(0); s <= 12; s++ {
			out = append(out, history.Sample{
				At: time.Duration(s) * time.Second, Node: GeneratorNode, PID: 7,
				LagP50: ms / 10, LagP99: time.Duration(s) * ms / 10, LagMax: 30 * ms, StallMax: 20 * ms,
				Dispatched: dispatched(s),
			})
		}
		return out
	}
	full := func(s int64) int64 { return min(100*s, 1100) }
	tests := []struct {
		name   string
		change func(*history.Run)
		want   Fitness
		reason string
	}{
		{"valid", func(*history.Run) {}, Valid, ""},
		{"lag at the limit", func(r *history.Run) { r.Samples[12].LagP99 = 10 * ms }, Valid, ""},
		{"lag", func(r *history.Run) { r.Samples[12].LagP99 = 10*ms + 1 }, Degraded, "send lag p99"},
		{"stall at the limit", func(r *history.Run) { r.Samples[12].StallMax = 250 * ms }, Valid, ""},
		{"stall", func(r *history.Run) { r.Samples[5].StallMax = 251 * ms }, Invalid, "did not get to run for 251ms"},
		{"stall and lag", func(r *history.Run) { r.Samples[5].StallMax = time.Second; r.Samples[12].LagP99 = time.Second }, Invalid, "send lag p99"},
		{"98 %", func(r *history.Run) { r.Samples = samples(func(s int64) int64 { return 98 * s }) }, Degraded, "handed out 980 of 1000 due operations (98.0 %, limit 99 %)"},
		{"94 %", func(r *history.Run) { r.Samples = samples(func(s int64) int64 { return 94 * s }) }, Invalid, "(94.0 %, limit 95 %)"},
		{"behind and caught up after the load", func(r *history.Run) { r.Samples[10].Dispatched = 900 }, Invalid, "handed out 900"},
		{"behind in the middle only", func(r *history.Run) { r.Samples[5].Dispatched = 10 }, Valid, ""},
		// The system stalled: nothing was sent for long, but it was handed out.
		{"waiting for the system", func(r *history.Run) {
			for i := 300; i < len(r.Ops); i++ {
				r.Ops[i].Sent = 20 * time.Second
			}
		}, Valid, ""},
		{"no count of what was handed out", func(r *history.Run) { r.Samples = samples(func(int64) int64 { return 0 }) }, Valid, ""},
		{"no count, sent late", func(r *history.Run) {
			r.Samples = samples(func(int64) int64 { return 0 })
			for i := 1000; i < len(r.Ops); i++ {
				r.Ops[i].Sent = 20 * time.Second
			}
		}, Invalid, "sent 900 of 1000 due operations"},
		{"no sample", func(r *history.Run) { r.Samples = nil }, Invalid, "left no sample"},
		{"only samples of nodes", func(r *history.Run) { r.Samples = []history.Sample{{Node: "n1", Dispatched: 5}} }, Invalid, "left no sample"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run := &history.Run{Ops: load(0, 1100, always(5*ms)), Footer: footer(1000), Samples: samples(full)}
			for i := range 100 {
				run.Ops[i].Phase = history.Warmup
			}
			tt.change(run)
			g := Measure(trace.Of(run), Config{Load: Window{time.Second, 11 * time.Second}}).Generator
			if g.Verdict != tt.want {
				t.Errorf("verdict is %s, want %s; reasons %q", g.Verdict, tt.want, g.Reasons)
			}
			if all := strings.Join(g.Reasons, " "); !strings.Contains(all, tt.reason) || (tt.reason == "" && all != "") {
				t.Errorf("reasons are %q, want %q", all, tt.reason)
			}
		})
	}
	run := &history.Run{Ops: load(0, 10, always(5*ms)), Footer: footer(1000), Samples: samples(func(int64) int64 { return 1 })}
	g := Measure(trace.Of(run), Config{Load: Window{0, 10 * time.Second}, Closed: true}).Generator
	if g.Verdict != Valid || *g.LagP50 != ms/10 || *g.LagP99 != 12*ms/10 || *g.LagMax != 30*ms {
		t.Errorf("closed loop: %s %q, lag %v %v %v", g.Verdict, g.Reasons, *g.LagP50, *g.LagP99, *g.LagMax)
	}
}

func TestResources(t *testing.T) {
	sample := func(at int, node string, pid int, cpu float64, rss, disk int64) history.Sample {
		return history.Sample{At: time.Duration(at) * time.Second, Node: node, PID: pid, CPU: cpu, RSS: rss, DiskBytes: disk}
	}
	run := &history.Run{Samples: []history.Sample{
		sample(1, "n1", 10, 1, 100, 1000),
		sample(1, "n2", 20, 1, 500, 0),
		sample(2, "n1", 10, 3, 900, 5000),
		sample(3, "n1", 0, 0, 0, 0),     // down
		sample(5, "n1", 11, 2, 50, 700), // out of order
		sample(4, "n1", 11, 1.5, 60, 600),
		sample(1, GeneratorNode, 1, 4, 10, 0),
		sample(2, GeneratorNode, 1, 6, 20, 0),
		sample(1, "n3", 0, 2, 1, 0), // no process ids: less CPU time than before is a restart
		sample(2, "n3", 0, 1, 1, 0),
	}}
	s := Measure(trace.Of(run), Config{})
	want := map[string]Resources{
		"n1": {CPU: 5, RSSMax: 900, DiskBytes: 5700, Starts: 2},
		"n2": {CPU: 1, RSSMax: 500, Starts: 1},
		"n3": {CPU: 3, RSSMax: 1, Starts: 2},
	}
	if !reflect.DeepEqual(s.Resources, want) {
		t.Errorf("have %+v\nwant %+v", s.Resources, want)
	}
	if want := (Resources{CPU: 6, RSSMax: 20, Starts: 1}); s.GeneratorResources != want {
		t.Errorf("generator: have %+v, want %+v", s.GeneratorResources, want)
	}
}

func TestLoadWindow(t *testing.T) {
	ops := load(500*ms, 300, always(5*ms)) // from 0.5 s to 3.5 s
	for i := range 100 {
		ops[i].Phase = history.Warmup
	}
	stopped := footer(200)
	stopped.Stopped = "interrupt"
	for _, c := range []struct {
		name     string
		run      history.Run
		from, to time.Duration
		ok       bool
	}{
		{"complete", history.Run{Ops: ops, Footer: footer(200)}, 1500 * ms, 3500 * ms, true},
		{"operation 0 missing", history.Run{Ops: ops[1:], Footer: footer(200)}, 1500 * ms, 3500 * ms, true},
		{"stopped", history.Run{Ops: ops[:150], Footer: stopped}, 1500 * ms, 1990*ms + 1, true},
		{"torn", history.Run{Ops: ops[:150]}, 1500 * ms, 1990*ms + 1, true},
		{"slow arrivals", history.Run{Ops: []history.Op{ops[0], ops[290]}, Footer: footer(1)}, 1500 * ms, 3500 * ms, true},
		{"warmup only", history.Run{Ops: ops[:100]}, 0, 0, false},
		{"nothing", history.Run{}, 0, 0, false},
	} {
		w, ok := LoadWindow(trace.Of(&c.run), time.Second, 2*time.Second)
		if ok != c.ok || w != (Window{c.from, c.to}) {
			t.Errorf("%s: have %v %v, want [%v, %v) %v", c.name, w, ok, c.from, c.to, c.ok)
		}
	}
}

func TestRatesAreNumbers(t *testing.T) {
	run := &history.Run{Ops: load(0, 1, always(0)), Footer: footer(1)}
	s := Measure(trace.Of(run), Config{Load: Window{0, 0}})
	if s.RequestedRate != nil || math.IsNaN(s.AchievedRate) || math.IsInf(s.AchievedRate, 0) {
		t.Errorf("a load without length has rates %v and %v", s.RequestedRate, s.AchievedRate)
	}
}
