package reports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/check"
	"statequake/reports/stats"
)

func TestJudgePass(t *testing.T) {
	v := newFixture().judge(t)
	if v.Verdict != check.Pass || len(v.Reasons) != 0 || v.ExitCode() != 0 {
		t.Errorf("verdict is %s, exit code %d, reasons %q", v.Verdict, v.ExitCode(), v.Reasons)
	}
	if l := v.Load; l.Scheduled != 1200 || l.OK+l.Info != 1200 || l.Info == 0 || l.Start != time.Second || l.Duration != 12*time.Second ||
		*l.RequestedRate != 100 || l.Generator != stats.Valid || *l.SendLag.P99 != 900*time.Microsecond {
		t.Errorf("load is %+v", l)
	}
	r := v.Faults[0].Recovery
	if r == nil || r.Outage.Max == nil || *r.Outage.Max < 700*ms || *r.Outage.Max > 800*ms || r.Outage.N != 3 || *r.LostAcks != 0 {
		t.Errorf("recovery is %+v", r)
	}
	if want := "a pass that says: no acknowledged write was lost"; !strings.HasPrefix(v.headline(), "no acknowledged write was lost: ") {
		t.Errorf("headline is %q, want %s", v.headline(), want)
	}
}

// Each cause of an unknown verdict is enough, says so, and never passes.
func TestJudgeUnknown(t *testing.T) {
	tests := []struct {
		name   string
		spoil  func(*fixture)
		reason string
	}{
		{"no ok operation", func(f *fixture) {
			for i := range f.ops {
				if op := &f.ops[i]; op.Phase == history.Load {
					op.Outcome, op.Result, op.Version, op.Digest = history.Info, nil, -1, ""
				}
			}
		}, "No operation of the load was answered ok: an empty history proves nothing."},
		{"nothing at all", func(f *fixture) { f.ops, f.footer.Scheduled = nil, nil }, "an empty history proves nothing"},
		{"identity", func(f *fixture) { f.footer.Scheduled[history.Load] = 1201 }, "The identity check is undecided: invalid run: load: 1201 operations scheduled, 1200 recorded"},
		{"aborted", func(f *fixture) {
			f.footer.Stopped, f.footer.Aborted = "stopped", "aborted after 7.2 s: the disk is full"
		},
			"The run was aborted after 7.2 s: the disk is full."},
		{"torn", func(f *fixture) { f.footer = nil }, "the history has no footer"},
		{"no audit", func(f *fixture) {
			f.ops = slices.DeleteFunc(f.ops, func(op history.Op) bool { return op.Phase == history.Audit })
		}, "The witness check is undecided"},
		{"evidence inconclusive", func(f *fixture) { f.faults[2].Proof = history.Inconclusive }, "The fault kill-owner is not proven: its evidence is inconclusive: process 4711"},
		{"evidence mismatch", func(f *fixture) { f.faults[2].Proof = history.Mismatch }, "its evidence is mismatch"},
		{"no evidence", func(f *fixture) { f.faults = slices.Delete(f.faults, 2, 3) }, "The fault kill-owner is not proven: its evidence is inconclusive."},
		{"never injected", func(f *fixture) { f.faults = f.faults[:1] }, "The fault kill-owner was requested at 6.000 s, but never injected."},
		{"evidence without injection", func(f *fixture) { f.faults = slices.Delete(f.faults, 1, 2) }, "was requested at 6.000 s, but never injected: process 4711"},
		{"a node ended by itself", func(f *fixture) {
			f.faults = append(f.faults, history.Fault{Name: "own-exit-n1", Kind: "OwnExit", Event: history.Evidence, Proof: history.Mismatch, Detail: "n1 (pid 7) ended on its own: exit status 2"})
		}, "By itself, not by a fault of the scenario: n1 (pid 7) ended on its own: exit status 2."},
		{"not ready again", func(f *fixture) {
			f.faults = append(f.faults, history.Fault{Name: "not-ready", Kind: "NotReady", Event: history.Evidence, Proof: history.Mismatch, Detail: "after the load the system was not ready within 30s"})
		}, "By itself, not by a fault of the scenario: after the load the system was not ready within 30s."},
		{"never requested", func(f *fixture) { f.faults = nil }, "The fault kill-owner was planned, but never requested."},
		{"a fault of the plan is absent", func(f *fixture) {
			f.edit("faults:\n", "faults:\n  - {name: second, at: 9s, chaos: {kind: ProcessPause}}\n")
		}, "The fault second was planned, but never requested."},
		{"generator stalled", func(f *fixture) { f.samples[15].StallMax = 251 * ms }, "The load generator did not get to run for 251ms (limit 250ms)."},
		{"generator slow", func(f *fixture) {
			for i := range f.samples {
				f.samples[i].Dispatched = f.samples[i].Dispatched * 9 / 10
			}
		}, "handed out 1080 of 1200 due operations (90.0 %, limit 95 %)"},
		{"generator without samples", func(f *fixture) { f.samples = nil }, "The load generator left no sample"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture()
			tt.spoil(f)
			v := f.judge(t)
			if v.Verdict != check.Unknown || v.ExitCode() != 2 {
				t.Errorf("verdict is %s with exit code %d, want unknown with 2", v.Verdict, v.ExitCode())
			}
			if !strings.Contains(strings.Join(v.Reasons, "\n"), tt.reason) {
				t.Errorf("reasons are %q, want one with %q", v.Reasons, tt.reason)
			}
			if strings.Contains(v.headline(), "no acknowledged write was lost") {
				t.Errorf("headline is %q", v.headline())
			}
		})
	}
}

func TestJudgeUnreadableLastLine(t *testing.T) {
	dir := newFixture().write(t)
	file, err := os.OpenFile(filepath.Join(dir, "faults.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"name":"kill-o`); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := Judge(dir)
	if err != nil {
		t.Fatal(err)
	}
	if v.Verdict != check.Unknown || !slices.Contains(v.Reasons, "The last line of 1 file could not be read.") {
		t.Errorf("verdict is %s, reasons %q", v.Verdict, v.Reasons)
	}
}

// A violation is one, whatever else is wrong with the run.
func TestJudgeViolation(t *testing.T) {
	f := newFixture()
	f.lose(5)
	f.samples = nil
	f.faults = nil
	f.footer.Stopped = "interrupt"
	f.footer.Aborted = "aborted after 7.2 s: the disk is full"
	v := f.judge(t)
	if v.Verdict != check.Violated || v.ExitCode() != 1 {
		t.Errorf("verdict is %s with exit code %d, want violation with 1", v.Verdict, v.ExitCode())
	}
	if !strings.HasPrefix(v.Reasons[0], "The witness check found") || !strings.Contains(v.Reasons[0], "lost") {
		t.Errorf("the first reason is %q", v.Reasons[0])
	}
	if v.LostAcks == nil || *v.LostAcks == 0 {
		t.Errorf("lost acks are %v", v.LostAcks)
	}
	if x := v.Expectations[1]; x.Name != "lost_acks" || x.Met || *x.Measured == "0" {
		t.Errorf("the expectation is %+v", x)
	}
	for _, want := range []string{"planned, but never requested", "left no sample", "aborted after 7.2 s"} {
		if !strings.Contains(strings.Join(v.Reasons, " "), want) {
			t.Errorf("reasons are %q, want one with %q", v.Reasons, want)
		}
	}
}

// Lost writes are put down to the fault, with the age of the oldest.
func TestJudgeLostAcks(t *testing.T) {
	f := newFixture()
	f.lose(5)
	// The last writes of k0 come long after the fault.
	v := f.judge(t)
	r := v.Faults[0].Recovery
	if *r.LostAcks != *v.LostAcks || *r.RPO != 0 {
		t.Errorf("the fault lost %d of %d acknowledged writes, rpo %v; want all, rpo 0", *r.LostAcks, *v.LostAcks, *r.RPO)
	}
}

func TestJudgeStopped(t *testing.T) {
	f := newFixture()
	f.ops = slices.DeleteFunc(f.ops, func(op history.Op) bool { return op.Phase == history.Load && op.N >= 1000 })
	// The audit was of what had been sent: cut it to match.
	gone := map[string]bool{}
	for _, op := range newFixture().ops {
		gone[op.ID] = op.Phase == history.Load && op.N >= 1000
	}
	for i := range f.ops {
		op := &f.ops[i]
		if op.Phase != history.Audit {
			continue
		}
		var witness struct {
			IDs []string `json:"ids"`
		}
		if err := json.Unmarshal(op.Result, &witness); err != nil {
			t.Fatal(err)
		}
		ids := slices.DeleteFunc(witness.IDs, func(id string) bool { return gone[id] })
		op.Result, _ = json.Marshal(map[string][]string{"ids": ids})
		op.Version, op.Digest = int64(len(ids)), history.ZeroDigest
		for _, id := range ids {
			op.Digest = history.NextDigest(op.Digest, id)
		}
	}
	for i := range f.samples {
		f.samples[i].Dispatched = min(f.samples[i].Dispatched, 1000)
	}
	f.footer.Scheduled[history.Load], f.footer.Stopped = 900, "interrupt"
	v := f.judge(t)
	if v.Verdict != check.Pass || len(v.Reasons) != 1 || !strings.Contains(v.Reasons[0], "stopped early (interrupt)") {
		t.Errorf("verdict is %s, reasons %q", v.Verdict, v.Reasons)
	}
	if v.Load.Stopped != "interrupt" {
		t.Errorf("the load was stopped for %q, want interrupt", v.Load.Stopped)
	}
	if v.Load.Duration > 9*time.Second || v.Load.AchievedRate < 99 {
		t.Errorf("%v of load at %v/s achieved, want 9 s at 100/s", v.Load.Duration, v.Load.AchievedRate)
	}
}

func TestJudgeFaultWithoutEnd(t *testing.T) {
	f := newFixture()
	f.faults = f.faults[:3]
	v := f.judge(t)
	if v.Verdict != check.Pass || !slices.Equal(v.Reasons, []string{"The fault kill-owner was not seen to end."}) {
		t.Errorf("verdict is %s, reasons %q", v.Verdict, v.Reasons)
	}
}

func TestExitCode(t *testing.T) {
	met, missed := Expectation{Met: true}, Expectation{}
	for _, c := range []struct {
		verdict check.Verdict
		expect  []Expectation
		want    int
	}{
		{check.Pass, nil, 0},
		{check.Pass, []Expectation{met}, 0},
		{check.Pass, []Expectation{met, missed}, 4},
		{check.Unknown, nil, 2},
		{check.Unknown, []Expectation{missed}, 2},
		{check.Violated, nil, 1},
		{check.Violated, []Expectation{missed}, 1},
		{"", nil, 2},
		{"passed", nil, 2},
	} {
		v := Verdict{Verdict: c.verdict, Expectations: c.expect}
		if got := v.ExitCode(); got != c.want {
			t.Errorf("verdict %q with expectations %+v: exit code %d, want %d", c.verdict, c.expect, got, c.want)
		}
	}
}

// The verdict comes from the recorded files alone, and is the same each time.
func TestJudgeAgain(t *testing.T) {
	f := newFixture()
	f.lose(3)
	dir := f.write(t)
	var first map[string][]byte
	for range 3 {
		v, err := Judge(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(dir, v); err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{}
		err = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files[path], err = os.ReadFile(filepath.Join(dir, path))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = files
		}
		for name := range files {
			if !bytes.Equal(files[name], first[name]) {
				t.Errorf("%s differs when the run is judged again", name)
			}
		}
	}
	want := []string{"faults.jsonl", "history.jsonl", "junit.xml",
		"plots/latency.png", "plots/latency.svg", "plots/percentiles.png", "plots/percentiles.svg", "plots/throughput.png", "plots/throughput.svg",
		"report.html", "report.md", "results.bench", "samples.jsonl", "scenario.yaml", "verdict.json"}
	for n := 1; n <= 3; n++ {
		for _, name := range []string{"faults.jsonl", "history.jsonl", "samples.jsonl", "scenario.yaml"} {
			want = append(want, fmt.Sprintf("violations/lost-%d/%s", n, name))
		}
	}
	if got := slices.Sorted(maps.Keys(first)); !slices.Equal(got, want) {
		t.Errorf("the directory holds %v, want %v", got, want)
	}
	if !bytes.Contains(first["plots/latency.svg"], []byte("kill-owner")) {
		t.Error("the fault is not in the picture of the latencies")
	}
	// Another place, the same verdict and page.
	moved := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.CopyFS(moved, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	v, err := Judge(moved)
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(moved, v); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"verdict.json", "report.html"} {
		if data, err := os.ReadFile(filepath.Join(moved, name)); err != nil || !bytes.Equal(data, first[name]) {
			t.Errorf("%s depends on where the run directory is: %v", name, err)
		}
	}
}

// Scripts rely on these fields.
func TestVerdictFields(t *testing.T) {
	data, err := json.Marshal(newFixture().judge(t))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(`version verdict reasons scenario seed runs system.name system.version system.nodes system.ack
		load.scheduled load.ok load.fail load.info load.unsent load.requested_rate_per_s load.achieved_rate_per_s
		load.send_lag_ns.p50 load.send_lag_ns.p99 load.send_lag_ns.max load.generator
		latency_ns.all.p50 latency_ns.all.p90 latency_ns.all.p99 latency_ns.all.p999 latency_ns.all.max latency_ns.all.n
		latency_ns.steady.n latency_ns.during_faults.n latency_ns.by_op.add.p50 answered_within.100ms answered_within.1s answered_within.5s
		throughput_per_s.steady throughput_per_s.during_faults
		checks.0.name checks.0.verdict checks.0.ops checks.0.keys checks.0.violations
		faults.0.name faults.0.kind faults.0.action faults.0.targets faults.0.requested_ns faults.0.injected_ns faults.0.recovered_ns
		faults.0.evidence.verdict faults.0.evidence.detail faults.0.recovery.impact_ns faults.0.recovery.first_ok_ns
		faults.0.recovery.outage_ns.p50 faults.0.recovery.outage_ns.max faults.0.recovery.outage_ns.n faults.0.recovery.steady_ns
		faults.0.recovery.goodput_deficit_ops faults.0.recovery.lost_acks faults.0.recovery.rpo_ns faults.0.recovery.keys_dead
		expectations.0.name expectations.0.limit expectations.0.measured expectations.0.met
		resources.n1.cpu_s resources.n1.rss_max_bytes generator_resources.cpu_s`) {
		at, here := v, ""
		for part := range strings.SplitSeq(path, ".") {
			here += "/" + part
			switch x := at.(type) {
			case map[string]any:
				value, ok := x[part]
				if !ok {
					t.Fatalf("verdict.json has no %s", here)
				}
				at = value
			case []any:
				if len(x) == 0 {
					t.Fatalf("verdict.json: %s is an empty list", here)
				}
				at = x[0]
			default:
				t.Fatalf("verdict.json: nothing below %s", here)
			}
		}
		if at == nil {
			t.Errorf("verdict.json: %s is null", path)
		}
	}
}

func TestJudgeErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  string
	}{
		{"no scenario", func(t *testing.T, dir string) { remove(t, dir, scenarioFile) }, "read scenario: open"},
		{"no history", func(t *testing.T, dir string) { remove(t, dir, "history.jsonl") }, "history.jsonl"},
		{"not YAML", func(t *testing.T, dir string) { overwrite(t, dir, scenarioFile, "a: [") }, "scenario.yaml: yaml:"},
		{"empty scenario", func(t *testing.T, dir string) { overwrite(t, dir, scenarioFile, "") }, "scenario.yaml: load.duration: missing or not positive"},
		{"bad expectation", func(t *testing.T, dir string) {
			overwrite(t, dir, scenarioFile, "name: x\nsystem: {ack: durable}\nload: {duration: 1s}\nexpect: {outage_max: soon}\n")
		}, `scenario.yaml: expect.outage_max: "soon" is not a duration`},
		{"bad line", func(t *testing.T, dir string) { overwrite(t, dir, "faults.jsonl", "{}\n{}\n") }, "faults.jsonl:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newFixture().write(t)
			c.spoil(t, dir)
			if _, err := Judge(dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestWriteLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	// A folder in the place of a file cannot be replaced.
	if err := os.MkdirAll(filepath.Join(dir, "junit.xml", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := Write(dir, newFixture().judge(t))
	if err == nil || !strings.HasPrefix(err.Error(), "write junit.xml: ") {
		t.Fatalf("error is %v, want one about junit.xml", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"junit.xml", "plots", "report.html", "report.md"}; !slices.Equal(names, want) {
		t.Errorf("the directory holds %v, want %v", names, want)
	}
}

func TestClosedLoop(t *testing.T) {
	f := newFixture()
	f.edit("{constant: 100/s}", "{closed: {clients: 4}}")
	v := f.judge(t)
	if v.Load.RequestedRate != nil || v.Verdict != check.Pass {
		t.Errorf("verdict is %s, requested rate %v", v.Verdict, v.Load.RequestedRate)
	}
}

// Without the right to lose anything the same loss is a violation.
func TestMemoryContract(t *testing.T) {
	f := newFixture()
	f.edit("ack: durable", "ack: memory\n  window: 500ms")
	v := f.judge(t)
	if v.System.Ack != "memory" || v.System.Window != 500*ms {
		t.Errorf("the system is %+v", v.System)
	}
	for _, r := range v.Checks {
		if r.Name == "witness" && r.Verdict != check.Pass {
			t.Errorf("the witness check is %s: %q, %v", r.Verdict, r.Reasons, r.Violations)
		}
	}
	n := 3
	v.LostAcks = &n
	if want := "3 acknowledged writes lost, all younger than the window of 0.50 s, as ack: memory allows"; !strings.HasPrefix(v.headline(), want) {
		t.Errorf("headline is %q, want %q", v.headline(), want)
	}
}

// The verdict names the store of the reference runtime; other systems, and runs
// made before there was a choice, have none. Likewise the network.
func TestStore(t *testing.T) {
	for line, want := range map[string]string{"": "", "  store: etcd\n": `"store":"etcd"`, "  store: postgres\n": `"store":"postgres"`, "  network: streams\n": `"network":"streams"`} {
		f := newFixture()
		f.edit("  store: etcd\n", line)
		data, err := json.Marshal(f.judge(t).System)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" && strings.Contains(string(data), `"store"`) || !strings.Contains(string(data), want) {
			t.Errorf("with %q the system is %s", line, data)
		}
	}
}
