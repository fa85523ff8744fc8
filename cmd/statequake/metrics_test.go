package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"statequake/history"
	"statequake/scenarios"
)

// watched are the metrics of a run in which everything happens.
func watched() *runMetrics {
	m := newRunMetrics(&scenarios.Scenario{Name: "busy", Seed: 42, System: scenarios.System{Name: "reference", Ack: "durable"}})
	for _, op := range []history.Op{
		{Phase: history.Load, Name: "add", Outcome: history.OK, Scheduled: time.Second, Sent: 2 * time.Second, Returned: 2500 * time.Millisecond},
		{Phase: history.Load, Name: "add", Outcome: history.OK, Returned: 3 * time.Millisecond},
		{Phase: history.Load, Name: "get", Outcome: history.Info, Returned: time.Minute},
		{Phase: history.Probe, Name: "add", Outcome: history.Unsent},
	} {
		m.observe(&op)
	}
	st := busy().status
	st.Due = func(until time.Duration) int64 { return int64(until / time.Millisecond) }
	st.Generator = history.Sample{Node: "generator", At: st.At, Dispatched: st.Load.Dispatched}
	for i := range st.Nodes {
		st.Nodes[i].CPUSeconds = float64(i)
	}
	m.show(st)
	return m
}

func scrape(t *testing.T, m *runMetrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestRunMetrics(t *testing.T) {
	text := scrape(t, watched())
	for _, want := range []string{
		`operations_total{op="add",outcome="ok",phase="load"} 2`, `operations_total{op="get",outcome="info",phase="load"} 1`,
		`operations_total{op="add",outcome="unsent",phase="probe"} 1`,
		// From the due time on: 1.5 s, not the 0.5 s since it was sent.
		`operation_latency_seconds_sum{op="add",phase="load"} 1.503`, `operation_latency_seconds_bucket{op="add",phase="load",le="0.004"} 1`,
		`operation_latency_seconds_bucket{op="add",phase="load",le="1.024"} 1`, `operation_latency_seconds_bucket{op="add",phase="load",le="2.048"} 2`,
		`phase{phase="load"} 1`, `phase{phase="audit"} 0`, `due_operations_total 21400`, `in_flight_operations 27`,
		`send_lag_p99_seconds 0.00293`, `generator_verdict{verdict="invalid"} 1`,
		`fault_state{fault="kill-owner",kind="PodChaos",state="over"} 1`, `fault_state{fault="pause-two",kind="ProcessPause",state="active"} 1`,
		`fault_state{fault="down",kind="PodChaos",state="recovering"} 1`, `fault_state{fault="next",kind="NetworkChaos",state="waiting"} 1`,
		`fault_evidence{fault="slow-disk",proof="inconclusive"} 1`,
		`node_up{node="n1"} 1`, `node_up{node="n2"} 0`, `node_up{node="n5"} 0`, `node_cpu_seconds_total{node="n3"} 2`, `node_resident_memory_bytes{node="n1"} 1.28974848e+08`,
		`violations_total 12`, `info{ack="durable",scenario="busy",seed="42",system="reference"} 1`,
	} {
		if !strings.Contains(text, "\nstatequake_run_"+want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(text)); err != nil {
		t.Error(err)
	}
	if problems, err := promlint.New(strings.NewReader(text)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// TestRunMetricsAreBounded: what a system or a script makes up does not make
// series without end, nor an answer that cannot be read.
func TestRunMetricsAreBounded(t *testing.T) {
	m := newRunMetrics(&scenarios.Scenario{Name: "x\xff\n\""})
	for i := range 5000 {
		m.observe(&history.Op{Phase: history.Load, Name: fmt.Sprintf("op-%d\xff\n", i), Outcome: history.OK, Returned: time.Millisecond})
	}
	st := hostile().status
	st.Faults = append(st.Faults, st.Faults...)
	st.Nodes = append(st.Nodes, st.Nodes...)
	m.show(st)
	text := scrape(t, m)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	ops := families["statequake_run_operations_total"].Metric
	others := 0.0
	for _, m := range ops {
		if m.Label[0].GetValue() == otherOps {
			others = m.Counter.GetValue()
		}
	}
	if len(ops) != opNames+1 || others != 5000-opNames {
		t.Errorf("%d series, %v of other operations", len(ops), others)
	}
}

// TestMetricsDocs: docs/live.md has a line for every metric, and no other.
func TestMetricsDocs(t *testing.T) {
	families, err := watched().registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "statequake_") {
			continue // those of every Go program
		}
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s |", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp()))
	}
	if n := 3 + 14; len(want) != n+1 { // build, info, operations, latency, and those of Describe
		t.Errorf("%d metrics, want %d", len(want), n+1)
	}
	text, err := os.ReadFile("../../docs/live.md")
	if err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile("(?m)^\\| `statequake_(run|build)_.*$").FindAllString(string(text), -1)
	if !slices.Equal(got, want) {
		t.Errorf("docs/live.md has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestMetricsServer: one run after the other is served at the same address, each
// from 0, and after close nobody listens.
func TestMetricsServer(t *testing.T) {
	m, err := serveMetrics("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	get := func() (int, string) {
		resp, err := http.Get("http://" + m.address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	if code, _ := get(); code != http.StatusServiceUnavailable {
		t.Errorf("before the first run: status %d", code)
	}
	const one = `statequake_run_operations_total{op="add",outcome="ok",phase="load"} 1`
	for i := range 2 {
		run := m.begin(&scenarios.Scenario{Name: fmt.Sprintf("run-%d", i)})
		run.observe(&history.Op{Phase: history.Load, Name: "add", Outcome: history.OK})
		if code, text := get(); code != http.StatusOK || !strings.Contains(text, one) || !strings.Contains(text, fmt.Sprintf(`scenario="run-%d"`, i)) {
			t.Errorf("run %d: status %d\n%s", i, code, text)
		}
	}
	m.close()
	if _, err := http.Get("http://" + m.address + "/metrics"); err == nil {
		t.Error("it answers after its end")
	}
}

// BenchmarkObserve is what an operation costs with --metrics.
func BenchmarkObserve(b *testing.B) {
	m := watched()
	op := history.Op{Phase: history.Load, Name: "add", Outcome: history.OK, Returned: 3 * time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		m.observe(&op)
	}
}
