package reports

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"statequake/reports/recovery"
	"statequake/reports/stats"
)

func TestCheckExpectation(t *testing.T) {
	for _, c := range []struct{ name, limit, want string }{
		{"lost_acks", "0", ""},
		{"keys_dead", "12", ""},
		{"outage_max", "4s", ""},
		{"outage_p50", "1.5s", ""},
		{"rpo_max", "0s", ""},
		{"steady.p99", "50ms", ""},
		{"faults.p999", "5s", ""},
		{"all.max", "10s", ""},
		{"answered_within.1s", "95%", ""},
		{"answered_within.250ms", "99.9 %", ""},
		{"throughput_min", "400/s", ""},
		{"throughput_min", "400", ""},
		{"generator.rss_max", "150MiB", ""},
		{"nodes.rss_max", "1.5 GiB", ""},

		{"outage", "4s", `unknown expectation "outage"; have all.max, all.p50, `},
		{"p99", "4s", `unknown expectation "p99"`},
		{"steady.p95", "4s", `unknown expectation "steady.p95"`},
		{"", "4s", `unknown expectation ""`},
		{"answered_within.", "95%", `"" is not a positive duration`},
		{"answered_within.soon", "95%", `"soon" is not a positive duration`},
		{"answered_within.-1s", "95%", `"-1s" is not a positive duration`},
		{"answered_within.1s", "95", `"95" is not a percentage from 0% to 100%`},
		{"answered_within.1s", "101%", `"101%" is not a percentage`},
		{"answered_within.1s", "NaN%", `"NaN%" is not a percentage`},
		{"answered_within.1s", "-1%", `"-1%" is not a percentage`},
		{"lost_acks", "0.5", `"0.5" is not a whole number`},
		{"lost_acks", "-1", `"-1" is not a whole number`},
		{"lost_acks", "", `"" is not a whole number`},
		{"outage_max", "4", `"4" is not a duration`},
		{"outage_max", "-4s", `"-4s" is not a duration`},
		{"throughput_min", "Inf", `"Inf" is not a rate`},
		{"throughput_min", "fast", `"fast" is not a rate`},
		{"nodes.rss_max", "much", `"much" is not a size`},
		{"nodes.rss_max", "-1MiB", `"-1MiB" is not a size`},
	} {
		err := CheckExpectation(c.name, c.limit)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %s: %v", c.name, c.limit, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)):
			t.Errorf("%s: %s: error is %v, want %s", c.name, c.limit, err, c.want)
		}
	}
	for _, name := range Expectations() {
		name = strings.Replace(name, "DURATION", "1s", 1)
		if _, err := find(name); err != nil {
			t.Errorf("%s is listed: %v", name, err)
		}
	}
	if !slices.IsSorted(Expectations()) {
		t.Errorf("not sorted: %v", Expectations())
	}
}

func TestEvaluate(t *testing.T) {
	d := func(d time.Duration) *time.Duration { return &d }
	n := func(v float64) *float64 { return &v }
	fault := func(p50, most, rpo *time.Duration, dead int) Fault {
		return Fault{Recovery: &recovery.Recovery{Outage: recovery.Outage{P50: p50, Max: most, N: 1}, RPO: rpo, KeysDead: dead}}
	}
	sample := evaluation{
		stats: &stats.Stats{
			Latency:        stats.Latency{Steady: stats.Summary{P50: 1, P90: 2, P99: 50 * ms, P999: 51 * ms, Max: time.Second, N: 9}},
			AnsweredWithin: map[string]float64{"1s": 0.95, "100ms": 0.123456},
			Throughput:     stats.Throughput{All: n(399.996)},

			Resources:          map[string]stats.Resources{"n1": {RSSMax: 64 << 20}, "n2": {RSSMax: 200 << 20}, "n3": {}},
			GeneratorResources: stats.Resources{RSSMax: 96 << 20},
		},
		faults: []Fault{fault(d(time.Second), d(2*time.Second), d(0), 0), fault(d(500*ms), d(4*time.Second), d(90*ms), 0)},
		lost:   1,
	}
	for _, c := range []struct {
		name, limit string
		change      func(*evaluation)
		measured    string // empty if unknown
		met         bool
	}{
		{"lost_acks", "1", nil, "1", true},
		{"lost_acks", "0", nil, "1", false},
		{"lost_acks", "0", func(e *evaluation) { e.lost = 0 }, "0", true},
		{"lost_acks", "9", func(e *evaluation) { e.lost = -1 }, "", false},
		{"steady.p99", "50ms", nil, "50ms", true},
		{"steady.p99", "49.9ms", nil, "50ms", false},
		{"steady.max", "1s", nil, "1s", true},
		{"faults.p50", "1h", nil, "", false}, // no operation during faults
		{"answered_within.1s", "95%", nil, "95%", true},
		{"answered_within.1s", "95.1%", nil, "95%", false},
		{"answered_within.100ms", "12%", nil, "12.3456%", true},
		{"answered_within.2s", "1%", nil, "", false}, // nothing was scheduled
		{"throughput_min", "399/s", nil, "400/s", true},
		{"throughput_min", "400/s", nil, "400/s", false},
		{"throughput_min", "0/s", func(e *evaluation) { e.stats = &stats.Stats{} }, "", false},
		{"generator.rss_max", "96MiB", nil, "96MiB", true},
		{"generator.rss_max", "95MiB", nil, "96MiB", false},
		{"generator.rss_max", "1GiB", func(e *evaluation) { e.stats = &stats.Stats{} }, "", false}, // nobody looked
		{"nodes.rss_max", "200MiB", nil, "200MiB", true},
		{"nodes.rss_max", "199MiB", nil, "200MiB", false},
		{"nodes.rss_max", "1GiB", func(e *evaluation) { e.stats = &stats.Stats{} }, "", false},
		{"outage_max", "4s", nil, "4s", true},
		{"outage_max", "3.999s", nil, "4s", false},
		{"outage_p50", "1s", nil, "1s", true},
		{"rpo_max", "90ms", nil, "90ms", true},
		{"rpo_max", "89ms", nil, "90ms", false},
		{"keys_dead", "0", nil, "0", true},
		{"outage_max", "1h", func(e *evaluation) { e.faults = nil }, "", false},
		{"outage_max", "1h", func(e *evaluation) { e.faults = append(e.faults, Fault{}) }, "", false},
		{"outage_max", "1h", func(e *evaluation) { e.faults = append(e.faults, fault(nil, nil, nil, 0)) }, "", false},
		{"outage_max", "1h", func(e *evaluation) { e.faults = append(e.faults, fault(d(1), d(1), d(0), 3)) }, "never", false},
		{"outage_max", "1h", func(e *evaluation) { e.faults = append(e.faults, Fault{}, fault(nil, nil, nil, 3)) }, "never", false},
		{"keys_dead", "2", func(e *evaluation) { e.faults = append(e.faults, fault(nil, nil, nil, 3)) }, "3", false},
	} {
		e := sample
		if c.change != nil {
			c.change(&e)
		}
		got, err := e.evaluate(map[string]string{c.name: c.limit})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		measured := ""
		if got[0].Measured != nil {
			measured = *got[0].Measured
		}
		if got[0].Name != c.name || got[0].Limit != c.limit || measured != c.measured || got[0].Met != c.met {
			t.Errorf("%s %s: measured %q, met %v; want %q, %v", c.name, c.limit, measured, got[0].Met, c.measured, c.met)
		}
	}
	for _, expect := range []map[string]string{{"x": "1"}, {"outage_max": "x"}} {
		if _, err := sample.evaluate(expect); err == nil {
			t.Errorf("%v is evaluated", expect)
		}
	}
}

func TestAnswered(t *testing.T) {
	got := answered(map[string]string{"answered_within.1s": "1%", "answered_within.2s": "1%", "outage_max": "1s", "answered_within.x": "1%"})
	if want := []time.Duration{100 * ms, time.Second, 2 * time.Second, 5 * time.Second}; !slices.Equal(got, want) {
		t.Errorf("bounds are %v, want %v", got, want)
	}
	if math.IsNaN(orNaN(new(time.Duration))) || !math.IsNaN(orNaN(nil)) {
		t.Error("orNaN mixes up known and unknown")
	}
}
