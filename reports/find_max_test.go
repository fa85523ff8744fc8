package reports

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/check"
	"statequake/reports/stats"
)

// searching is the fixture as a search for the highest rate, in levels of 3 s
// from the load's start at 1 s on: the first is as fast as ever, in the second a
// node is killed.
func searching() *fixture {
	f := newFixture()
	f.edit("{constant: 100/s}", "{find_max: {from: 100/s, to: 200/s, grow: 20%, every: 3s, settle: 1s, bound: {p99: 50ms}}}")
	for i := range f.samples {
		if f.samples[i].Node == stats.GeneratorNode {
			f.samples[i].OwnDelayP99, f.samples[i].OwnDelayMax = 2*ms, 3*ms
		}
	}
	return f
}

func TestFindMax(t *testing.T) {
	f := searching()
	f.edit("expect:", "expect:\n  knee_min: 90/s")
	v := f.judge(t)
	if v.FindMax == nil || v.FindMax.Knee == nil || *v.FindMax.Knee != 100 || v.FindMax.LimitedBy != stats.LimitBound || len(v.FindMax.Levels) != 4 {
		t.Fatalf("found %+v", v.FindMax)
	}
	if v.Verdict != check.Pass {
		t.Errorf("the verdict is %s: %q", v.Verdict, v.Reasons)
	}
	var summary bytes.Buffer
	if err := Summary(&summary, v, false, 400); err != nil {
		t.Fatal(err)
	}
	page, err := renderHTML(v)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"summary": summary.String(), "Markdown": string(markdown(v)), "HTML": string(page)} {
		for _, want := range []string{"100/s is the highest rate with p99 within 50.0 ms, up to which every level had it", "2.00 ms", "kept", "broken"} {
			if want := strings.ReplaceAll(want, " ", "\u00a0"); name == "HTML" && strings.Contains(text, want) {
				continue // a short cell
			}
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
	}
	if !strings.Contains(string(page), `"find_max":{"rate_per_s":[100,120,144,172.8]`) {
		t.Error("report.html has no data for the charts")
	}
	if text := string(bench(v)); !strings.Contains(text, "Unit knee-ops/s better=higher\nBenchmarkKillOwner/part=find-max 4 100.000 knee-ops/s\n") {
		t.Errorf("results.bench lacks the knee:\n%s", text)
	}
	if x := v.Expectations[0]; x.Name != "lost_acks" && x.Name != "answered_within.1s" && x.Name != "knee_min" {
		t.Errorf("expectations %+v", v.Expectations)
	}
	for _, x := range v.Expectations {
		if x.Name == "knee_min" && (!x.Met || *x.Measured != "100/s") {
			t.Errorf("knee_min is %+v", x)
		}
	}
}

// A generator that could not keep up is told apart from the system everywhere.
func TestFindMaxLimitedByGenerator(t *testing.T) {
	f := searching()
	for i := range f.samples {
		if f.samples[i].Node == stats.GeneratorNode && f.samples[i].At > 5*time.Second {
			f.samples[i].OwnDelayP99 = 2 * time.Second
		}
	}
	for i := range f.ops {
		if op := &f.ops[i]; op.Phase == history.Load && op.Scheduled >= 4*time.Second {
			op.Returned = max(op.Returned, op.Scheduled+200*ms)
		}
	}
	v := f.judge(t)
	if v.FindMax.LimitedBy != stats.LimitGenerator || v.FindMax.Knee == nil {
		t.Fatalf("found %+v", v.FindMax)
	}
	const want = "limited by the load generator: at least 100/s with p99 within 50.0 ms; above it the generator was late itself"
	var summary bytes.Buffer
	if err := Summary(&summary, v, false, 400); err != nil {
		t.Fatal(err)
	}
	page, err := renderHTML(v)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"summary": summary.String(), "Markdown": string(markdown(v)), "HTML": strings.ToLower(string(page)), "reasons": strings.Join(v.Reasons, "\n"), "results.bench": string(bench(v))} {
		if !strings.Contains(strings.ToLower(text), want) {
			t.Errorf("%s does not say what the limit was", name)
		}
	}
	if strings.Contains(string(bench(v)), "knee-ops/s") {
		t.Error("results.bench has the generator's limit as a figure of the system")
	}
	if tile := kneeTile(v.FindMax); tile.Value != "≥ 100/s" || !tile.Bad {
		t.Errorf("the tile is %+v", tile)
	}
}

// A search that ends as it should is not told as a load that was stopped; one
// that was interrupted is.
func TestFindMaxStopped(t *testing.T) {
	for _, tt := range []struct {
		late  time.Duration // answers from here on
		notes bool
	}{{4 * time.Second, false}, {20 * time.Second, true}} {
		f := searching()
		f.faults, f.samples = nil, f.samples[:len(f.samples):len(f.samples)]
		i, j := strings.Index(f.scenario, "faults:"), strings.Index(f.scenario, "expect:")
		f.scenario = f.scenario[:i] + f.scenario[j:]
		for i := range f.ops {
			op := &f.ops[i]
			if op.Phase == history.Load && op.Scheduled >= tt.late {
				op.Returned = max(op.Returned, op.Scheduled+200*ms)
			} else if op.Phase == history.Load {
				op.Returned = op.Scheduled + 2*ms
			}
		}
		f.footer.Stopped = "find_max: p99 was above 50ms at 120/s and at 144/s"
		v := f.judge(t)
		if said := strings.Contains(strings.Join(v.Reasons, "\n"), "stopped early"); said != tt.notes {
			t.Errorf("late from %v on: reasons %q, levels %+v", tt.late, v.Reasons, v.FindMax.Levels)
		}
	}
}

func TestKneeText(t *testing.T) {
	at := func(v float64) *float64 { return &v }
	levels := []stats.Level{{Rate: 200, Verdict: stats.Kept}, {Rate: 1250.4, Verdict: stats.Kept}}
	for _, tt := range []struct {
		f    stats.FindMax
		want string
	}{
		{stats.FindMax{LimitedBy: stats.LimitEnd}, "no level was complete, so no rate with p99 within 0.50 s is known"},
		{stats.FindMax{LimitedBy: stats.LimitEnd, Knee: at(1250.4), Levels: levels}, "at least 1,250/s with p99 within 0.50 s: no higher rate was tried"},
		{stats.FindMax{LimitedBy: stats.LimitBound, Knee: at(1250.4), Levels: levels}, "1,250/s is the highest rate with p99 within 0.50 s"},
		{stats.FindMax{LimitedBy: stats.LimitBound, Levels: levels[:1]}, "not even 200/s, the lowest rate, has p99 within 0.50 s"},
		{stats.FindMax{LimitedBy: stats.LimitGenerator, Levels: levels[:1]}, "limited by the load generator: it was late itself at 200/s, the lowest rate, so no rate with p99 within 0.50 s is known"},
	} {
		tt.f.Bound = stats.Bound{Percentile: "p99", Limit: 500 * ms}
		if got := kneeText(&tt.f); got != tt.want {
			t.Errorf("have %q\nwant %q", got, tt.want)
		}
	}
}

func TestFindMaxOfBadScenario(t *testing.T) {
	f := searching()
	f.edit("bound: {p99: 50ms}", "bound: {p42: 50ms}")
	if _, err := Judge(f.write(t)); err == nil || !strings.Contains(err.Error(), "load.arrivals.find_max: is not a search as statequake run resolves it") {
		t.Errorf("error %v", err)
	}
}
