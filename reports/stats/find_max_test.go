package stats

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/trace"
)

// doubling is a search over 100/s, 200/s, 400/s, 800/s and 1000/s, 2 s each, with
// a start of 500 ms.
var doubling = Search{From: 100, To: 1000, Grow: 1, Every: 2 * time.Second, Settle: 500 * ms, Percentile: "p99", Bound: 50 * ms}

// searched is a run of doubling whose load starts at 3 s: operations are evenly
// spaced and answered after what latency says for their level, and the generator
// is late by what own says for its second; a negative latency is no answer.
func searched(latency func(level int, n int) time.Duration, own func(level int) time.Duration) *history.Run {
	run := &history.Run{Footer: footer(0)}
	at, n := 3*time.Second, int64(0)
	for level, rate := range doubling.rates() {
		gap := time.Duration(float64(time.Second) / rate)
		for i := range int(doubling.Every / gap) {
			op := history.Op{N: n, Phase: history.Load, Name: "add", Scheduled: at, Sent: at, Outcome: history.OK}
			// Nothing is said of the part in which it settles.
			d := time.Hour
			if time.Duration(i)*gap >= doubling.Settle {
				d = latency(level, i)
			}
			op.Returned = at + d
			if d < 0 {
				op.Outcome, op.Returned = history.Info, at+time.Second
			}
			run.Ops = append(run.Ops, op)
			at, n = at+gap, n+1
		}
	}
	for s := range 16 {
		sample := history.Sample{At: time.Duration(s) * time.Second, Node: GeneratorNode, Dispatched: 1}
		if own != nil {
			sample.OwnDelayP99 = own((s - 4) / 2)
			sample.OwnDelayMax = 2 * sample.OwnDelayP99
		}
		run.Samples = append(run.Samples, sample)
	}
	return run
}

func TestFindMax(t *testing.T) {
	const quick, slow = 5 * ms, 80 * ms
	by := func(levels ...time.Duration) func(int, int) time.Duration {
		return func(level, _ int) time.Duration { return levels[min(level, len(levels)-1)] }
	}
	share := func(level int, missing float64, d time.Duration) func(int, int) time.Duration {
		return func(l, n int) time.Duration {
			// So many of the 150*2^l operations behind the start.
			if l == level && float64(n%1000) >= 1000*(1-missing) {
				return d
			}
			return quick
		}
	}
	none := func(int) time.Duration { return ms }
	for _, tt := range []struct {
		name     string
		latency  func(level, n int) time.Duration
		own      func(level int) time.Duration
		bounded  string
		knee     float64 // 0: none
		limit    Limit
		verdicts string // first letters
		again    float64
	}{
		{"all kept", by(quick), none, "p99", 1000, LimitEnd, "kkkkk", 0},
		{"at the bound", by(quick, 50*ms), none, "p99", 1000, LimitEnd, "kkkkk", 0},
		{"kept, though the generator is late", by(quick), func(int) time.Duration { return time.Second }, "p99", 1000, LimitEnd, "kkkkk", 0},
		{"system breaks", by(quick, quick, slow), none, "p99", 200, LimitBound, "kkbbb", 0},
		{"a passing disturbance", by(quick, slow, quick, quick, slow), none, "p99", 100, LimitBound, "kbkkb", 800},
		{"at once", by(slow), none, "p99", 0, LimitBound, "bbbbb", 0},
		{"generator late", by(quick, quick, slow), func(level int) time.Duration {
			if level >= 2 {
				return 70 * ms
			}
			return ms
		}, "p99", 200, LimitGenerator, "kkggg", 0},
		{"generator late, but the system much later", by(quick, quick, time.Second), func(int) time.Duration { return 70 * ms }, "p99", 200, LimitBound, "kkbbb", 0},
		{"generator at once", by(slow), func(int) time.Duration { return 70 * ms }, "p99", 0, LimitGenerator, "ggggg", 0},
		{"generator late before it mattered", by(quick, quick, slow), func(level int) time.Duration {
			if level < 2 {
				return 70 * ms
			}
			return ms
		}, "p99", 200, LimitBound, "kkbbb", 0},
		{"generator late once", by(quick, slow, quick, slow), func(level int) time.Duration {
			if level < 2 {
				return 70 * ms
			}
			return ms
		}, "p99", 400, LimitBound, "kgkbb", 0},
		{"generator late below what breaks", by(quick, slow, slow), func(level int) time.Duration {
			if level < 2 {
				return 70 * ms
			}
			return ms
		}, "p99", 100, LimitGenerator, "kgbbb", 0},
		{"nothing known of the generator", by(quick, slow), nil, "p99", 100, LimitGenerator, "kgggg", 0},
		{"maximum of the delay for p999", by(quick, quick, slow), func(int) time.Duration { return 20 * ms }, "p999", 200, LimitGenerator, "kkggg", 0},
		{"the same delay for p99", by(quick, quick, slow), func(int) time.Duration { return 20 * ms }, "p99", 200, LimitBound, "kkbbb", 0},
		{"unanswered", share(3, 0.02, -1), none, "p50", 400, LimitBound, "kkkbk", 1000},
		{"few unanswered", share(3, 0.005, -1), none, "p50", 1000, LimitEnd, "kkkkk", 0},
		{"few late", share(3, 0.005, slow), none, "p99", 1000, LimitEnd, "kkkkk", 0},
		{"unanswered is late", share(3, 0.02, -1), none, "p99", 400, LimitBound, "kkkbk", 1000},
		{"late half", by(quick, quick, quick, slow), none, "p50", 400, LimitBound, "kkkbb", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := doubling
			s.Percentile = tt.bounded
			run := searched(tt.latency, tt.own)
			f := s.FindMax(trace.Of(run), Window{3 * time.Second, 13 * time.Second})
			verdicts := ""
			for _, l := range f.Levels {
				verdicts += string(l.Verdict[0])
			}
			knee := 0.0
			if f.Knee != nil {
				knee = *f.Knee
			}
			again := 0.0
			if r := f.KeptAgain(); r != nil {
				again = *r
			}
			if verdicts != tt.verdicts || knee != tt.knee || f.LimitedBy != tt.limit || again != tt.again {
				t.Errorf("levels %s, knee %v, limited by %s, kept again %v; want %s, %v, %s, %v", verdicts, knee, f.LimitedBy, again, tt.verdicts, tt.knee, tt.limit, tt.again)
			}
			until, cut := f.Trusted()
			// Until the level above the knee.
			if cut != (knee < 1000) || cut && until != 3*time.Second+time.Duration(slices.Index(append([]float64{0}, s.rates()...), knee))*s.Every {
				t.Errorf("the generator is trusted until %v (%v)", until, cut)
			}
			for i, l := range f.Levels {
				if want := int64(150 * l.Rate / 100); l.Due != want || l.Rate != s.rates()[i] {
					t.Errorf("level %d measures %d operations at %v/s, want %d", i, l.Due, l.Rate, want)
				}
			}
		})
	}
}

// A search that ended early is judged by the levels that were complete.
func TestFindMaxEndsEarly(t *testing.T) {
	run := searched(func(level, _ int) time.Duration { return time.Duration(level+1) * 20 * ms }, func(int) time.Duration { return ms })
	for to, want := range map[time.Duration]struct {
		levels int
		ended  bool
		limit  Limit
	}{
		3 * time.Second: {0, false, LimitEnd}, 4999 * ms: {0, false, LimitEnd}, 5 * time.Second: {1, false, LimitEnd},
		8500 * ms: {2, false, LimitEnd}, 9 * time.Second: {3, false, LimitBound}, 11500 * ms: {4, true, LimitBound},
	} {
		f := doubling.FindMax(trace.Of(run), Window{3 * time.Second, to})
		if len(f.Levels) != want.levels || f.Ended() != want.ended || f.LimitedBy != want.limit {
			t.Errorf("until %v: %d levels, ended %v, limited by %s; want %+v", to, len(f.Levels), f.Ended(), f.LimitedBy, want)
		}
	}
}

// What a level is measured by.
func TestFindMaxLevel(t *testing.T) {
	run := searched(func(_, n int) time.Duration {
		if n%100 < 10 {
			return -1
		}
		return 20 * ms
	}, func(int) time.Duration { return 3 * ms })
	f := doubling.FindMax(trace.Of(run), Window{3 * time.Second, 13 * time.Second})
	l := f.Levels[1] // 200/s: operations 100 to 399, of which 30 were not answered
	if l.Due != 300 || l.OK != 270 || l.Answered != 0.9 || l.Within != 0.9 || l.Latency.N != 270 || !near(l.Latency.P99, 20*ms) || *l.OwnDelay != int64(3*ms) {
		t.Errorf("have %+v", l)
	}
	if math.Abs(l.Achieved-180) > 3 { // an answer comes 20 ms after its operation was due
		t.Errorf("%v answers ok per second, want about 180", l.Achieved)
	}
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{`"bound":{"percentile":"p99","limit_ns":50000000}`, `"every_ns":2000000000`, `"settle_ns":500000000`, `"knee_rate_per_s":null`, `"limited_by":"bound"`, `"own_delay_ns":3000000`} {
		if !strings.Contains(string(text), field) {
			t.Errorf("%s is not in %s", field, text)
		}
	}
	var back FindMax
	if err := json.Unmarshal(text, &back); err != nil || len(back.Levels) != 5 || back.Levels[1].OK != 270 {
		t.Errorf("read back %+v, %v", back, err)
	}
}

// The generator is judged until the system was driven beyond what it bears, and
// not later: what starves it then is the system.
func TestFindMaxGenerator(t *testing.T) {
	run := searched(func(level, _ int) time.Duration { return time.Duration(level+1) * 20 * ms }, func(int) time.Duration { return ms })
	for i := range run.Samples {
		s := &run.Samples[i]
		s.Dispatched = int64(len(run.Ops))
		if s.At > 7*time.Second { // the third level breaks the bound
			s.StallMax, s.LagP99 = time.Second, time.Second
		}
	}
	load := Window{3 * time.Second, 13 * time.Second}
	until, _ := doubling.FindMax(trace.Of(run), load).Trusted()
	if g := Measure(trace.Of(run), Config{Load: load, Trusted: &until}).Generator; g.Verdict != Valid || *g.LagP99 != 0 {
		t.Errorf("beyond the knee the generator is %s: %q", g.Verdict, g.Reasons)
	}
	if g := Measure(trace.Of(run), Config{Load: load}).Generator; g.Verdict != Invalid {
		t.Errorf("without a search the generator is %s", g.Verdict)
	}
	run.Samples[6].StallMax = time.Second
	if g := Measure(trace.Of(run), Config{Load: load, Trusted: &until}).Generator; g.Verdict != Invalid {
		t.Errorf("stalled below the knee the generator is %s", g.Verdict)
	}
}

func TestSearchIsValid(t *testing.T) {
	if !doubling.Valid() {
		t.Error("a good search is refused")
	}
	for name, spoil := range map[string]func(*Search){
		"from": func(s *Search) { s.From = 0 }, "to": func(s *Search) { s.To = s.From }, "grow": func(s *Search) { s.Grow = 0 }, "NaN": func(s *Search) { s.From = math.NaN() },
		"every": func(s *Search) { s.Every = 0 }, "settle": func(s *Search) { s.Settle = s.Every }, "percentile": func(s *Search) { s.Percentile = "p42" },
		"levels": func(s *Search) { s.Grow = 1e-9 }, "bound": func(s *Search) { s.Bound = 0 }, "endless": func(s *Search) { s.To = math.Inf(1) },
	} {
		s := doubling
		if spoil(&s); s.Valid() {
			t.Errorf("%s: accepted", name)
		}
	}
}
