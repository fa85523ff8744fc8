package prom

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"statequake/history"
	"statequake/reports"
	"statequake/reports/check"
	"statequake/reports/recovery"
	"statequake/reports/stats"
)

func of[T any](v T) *T { return &v }

// full is a verdict in which everything is known.
func full() *reports.Verdict {
	d := func(ms int) stats.Summary {
		at := func(factor int) time.Duration { return time.Duration(ms*factor) * time.Millisecond }
		return stats.Summary{P50: at(1), P90: at(2), P99: at(3), P999: at(4), Max: at(5), N: int64(ms)}
	}
	return &reports.Verdict{
		Verdict: check.Violated, Scenario: "full", Seed: 42, Statequake: "1.2.3",
		System: reports.System{Name: "reference", Version: "1.2.4", Store: "etcd", Ack: "durable"},
		Load: reports.Load{
			Scheduled: 100, OK: 90, Fail: 5, Info: 4, Unsent: 1, RequestedRate: of(50.0), AchievedRate: 49.5, Duration: 2 * time.Second,
			SendLag: reports.SendLag{P50: of(time.Millisecond), P99: of(2 * time.Millisecond), Max: of(3 * time.Millisecond)}, Generator: stats.Degraded,
		},
		Latency:        stats.Latency{All: d(10), Steady: d(20), DuringFaults: d(30), ByOp: map[string]stats.Summary{"add": d(40)}},
		AnsweredWithin: map[string]float64{"1s": 0.875},
		Throughput:     stats.Throughput{All: of(45.0), Steady: of(46.0), DuringFaults: of(40.0)},
		FindMax:        &stats.FindMax{Knee: of(1250.0)},
		Checks:         []check.Result{{Name: "witness", Verdict: check.Violated, Total: 7}, {Name: "identity", Verdict: check.Pass}},
		LostAcks:       of(6),
		Faults: []reports.Fault{{
			Fault: recovery.Fault{Name: "kill", Kind: "PodChaos", Injected: of(8 * time.Second), Recovered: of(9500 * time.Millisecond), Evidence: recovery.Evidence{Verdict: history.Confirmed}},
			Recovery: &recovery.Recovery{
				Impact: of(5 * time.Millisecond), FirstOK: of(250 * time.Millisecond), Steady: of(2 * time.Second),
				Outage: recovery.Outage{P50: of(400 * time.Millisecond), Max: of(600 * time.Millisecond)}, KeysDead: 2, KeysAffected: 43,
				GoodputDeficit: 11, LostAcks: of(6), RPO: of(120 * time.Millisecond),
			},
		}},
		Expectations:       []reports.Expectation{{Name: "lost_acks", Met: false}, {Name: "outage_max", Met: true}},
		Resources:          map[string]stats.Resources{"n1": {CPU: 1.5, RSSMax: 1 << 20, Starts: 2}},
		GeneratorResources: stats.Resources{CPU: 0.5, RSSMax: 2 << 20},
	}
}

func write(t *testing.T, v *reports.Verdict) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestFigures: each figure is where it belongs, in base units.
func TestFigures(t *testing.T) {
	text := write(t, full())
	for _, want := range []string{
		`info{ack="durable",scenario="full",seed="42",statequake="1.2.3",store="etcd",system="reference",system_version="1.2.4"} 1`,
		`verdict{scenario="full",verdict="violation"} 1`, `verdict{scenario="full",verdict="pass"} 0`,
		`exit_code{scenario="full"} 1`,
		`check_verdict{check="identity",scenario="full",verdict="pass"} 1`, `violations{check="witness",scenario="full"} 7`,
		`lost_acks{scenario="full"} 6`,
		`expectation_met{expectation="lost_acks",scenario="full"} 0`, `expectation_met{expectation="outage_max",scenario="full"} 1`,
		`operations{outcome="ok",scenario="full"} 90`, `operations{outcome="unsent",scenario="full"} 1`, `due_operations{scenario="full"} 100`,
		`requested_operations_per_second{scenario="full"} 50`, `achieved_operations_per_second{scenario="full"} 49.5`,
		`answered_operations_per_second{part="during_faults",scenario="full"} 40`, `answered_within_ratio{scenario="full",within="1s"} 0.875`,
		`load_duration_seconds{scenario="full"} 2`, `knee_operations_per_second{scenario="full"} 1250`,
		`latency_seconds{part="steady",percentile="99",scenario="full"} 0.06`, `latency_seconds{part="all",percentile="100",scenario="full"} 0.05`,
		`latency_operations{part="during_faults",scenario="full"} 30`, `operation_latency_seconds{op="add",percentile="50",scenario="full"} 0.04`,
		`fault_evidence{fault="kill",kind="PodChaos",proof="confirmed",scenario="full"} 1`,
		`fault_outage_seconds{fault="kill",percentile="100",scenario="full"} 0.6`, `fault_dead_keys{fault="kill",scenario="full"} 2`,
		`fault_impact_seconds{fault="kill",scenario="full"} 0.005`, `fault_first_ok_seconds{fault="kill",scenario="full"} 0.25`,
		`fault_steady_seconds{fault="kill",scenario="full"} 2`, `fault_back_seconds{fault="kill",scenario="full"} 1.5`,
		`fault_goodput_deficit_operations{fault="kill",scenario="full"} 11`, `fault_lost_acks{fault="kill",scenario="full"} 6`, `fault_rpo_seconds{fault="kill",scenario="full"} 0.12`,
		`generator_verdict{scenario="full",verdict="degraded"} 1`, `send_lag_seconds{percentile="99",scenario="full"} 0.002`,
		`cpu_seconds{node="n1",scenario="full"} 1.5`, `cpu_seconds{node="generator",scenario="full"} 0.5`,
		`resident_memory_max_bytes{node="n1",scenario="full"} 1.048576e+06`, `starts{node="n1",scenario="full"} 2`,
	} {
		if !strings.Contains(text, "\nstatequake_result_"+want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestFormat: Prometheus' own parser reads the text, its linter finds nothing, no
// series is there twice, and there is no timestamp.
func TestFormat(t *testing.T) {
	hostile := full()
	hostile.Scenario = "evil\"\n\xff\x1b[2J" + strings.Repeat("x", 1000)
	hostile.Faults = append(hostile.Faults, hostile.Faults[0])
	hostile.Resources["n\x01"], hostile.Resources[`n\x01`] = stats.Resources{}, stats.Resources{}
	for name, v := range map[string]*reports.Verdict{"full": full(), "empty": {}, "hostile": hostile} {
		t.Run(name, func(t *testing.T) {
			text := write(t, v)
			if again := write(t, v); again != text {
				t.Error("another text the second time")
			}
			parser := expfmt.NewTextParser(model.LegacyValidation)
			families, err := parser.TextToMetricFamilies(strings.NewReader(text))
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			for name, f := range families {
				seen := map[string]bool{}
				for _, m := range f.Metric {
					if key := fmt.Sprint(m.Label); seen[key] {
						t.Errorf("%s has a series twice: %s", name, key)
					} else {
						seen[key] = true
					}
					if m.TimestampMs != nil || math.IsNaN(m.Gauge.GetValue()) || len(m.Label) == 0 || m.Label[0] == nil {
						t.Errorf("%s: %v", name, m)
					}
					for _, l := range m.Label {
						if len(l.GetValue()) > 300 {
							t.Errorf("%s: label %s has %d bytes", name, l.GetName(), len(l.GetValue()))
						}
					}
				}
			}
			problems, err := promlint.New(strings.NewReader(text)).Lint()
			if err != nil || len(problems) > 0 {
				t.Errorf("%v %v", problems, err)
			}
		})
	}
}

// TestUnknown: what is not known has no series.
func TestUnknown(t *testing.T) {
	v := full()
	v.LostAcks, v.Load.RequestedRate, v.FindMax, v.Load.SendLag = nil, nil, nil, reports.SendLag{}
	v.Latency.DuringFaults = stats.Summary{}
	v.Faults[0].Recovery = nil
	v.Faults[0].Recovered = nil
	text := write(t, v)
	for _, absent := range []string{"result_lost_acks{", "result_requested_", "result_knee_", "send_lag_seconds{", `result_latency_seconds{part="during_faults"`, "fault_outage_seconds{", "fault_back_seconds{", "fault_lost_acks{"} {
		if strings.Contains(text, absent) {
			t.Errorf("%s is there", absent)
		}
	}
	if !strings.Contains(text, `latency_operations{part="during_faults",scenario="full"} 0`) {
		t.Error("that nothing was measured is not said")
	}
}

// TestDocs: docs/live.md has a line for every metric, and no other.
func TestDocs(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(figures{full()})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range families {
		var labels []string
		for _, l := range f.Metric[0].Label {
			if l.GetName() != "scenario" {
				labels = append(labels, l.GetName())
			}
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s |", f.GetName(), strings.Join(labels, ", "), f.GetHelp()))
	}
	if len(want) != len(all) {
		t.Errorf("%d metrics of %d are there in a verdict in which everything is known", len(want), len(all))
	}
	text, err := os.ReadFile("../../docs/live.md")
	if err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile("(?m)^\\| `statequake_result_.*$").FindAllString(string(text), -1)
	if !slices.Equal(got, want) {
		t.Errorf("docs/live.md has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
