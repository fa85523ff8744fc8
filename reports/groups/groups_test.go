package groups

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// run is a run directory to be written.
type run struct {
	verdict, ack string
	window       time.Duration
	scenario     string
	p50          time.Duration
	lost         any // int or nil
	rpo          any // time.Duration or nil
	throughput   float64
	nodes        int
	plan         string        // scenario.yaml; "" for one with the nodes
	injected     time.Duration // 0: no fault
	out          time.Duration // how long nothing is answered after the injection
	steady       any
	search       any // find_max; nil without
}

// write writes the run into dir: a load of 12 s at 100/s from 2 s on.
func (r run) write(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	faults := []any{}
	if r.injected > 0 {
		faults = append(faults, map[string]any{
			"name": "kill-owner", "requested_ns": r.injected - 100*ms, "injected_ns": r.injected, "recovered_ns": r.injected + time.Second,
			"recovery": map[string]any{"steady_ns": r.steady, "rpo_ns": r.rpo, "lost_acks": r.lost},
		})
	}
	if r.scenario == "" {
		r.scenario = "tiny"
	}
	verdict, err := json.Marshal(map[string]any{
		"version": 1, "verdict": r.verdict, "scenario": r.scenario, "lost_acks": r.lost, "faults": faults,
		"system":           map[string]any{"name": "reference", "ack": r.ack, "window_ns": r.window, "nodes": r.nodes},
		"load":             map[string]any{"ok": 1000, "start_ns": 2 * time.Second, "duration_ns": 12 * time.Second},
		"latency_ns":       map[string]any{"all": map[string]any{"p50": r.p50, "p99": 3 * r.p50, "n": 1000}, "steady": map[string]any{"p50": r.p50, "p99": 2 * r.p50, "n": 900}},
		"throughput_per_s": map[string]any{"all": r.throughput},
		"find_max":         r.search,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.plan == "" {
		r.plan = fmt.Sprintf("system:\n  nodes: %d\n", r.nodes)
	}
	var ops strings.Builder
	for i := range 1200 {
		at := 2*time.Second + time.Duration(i)*10*ms
		outcome := "ok"
		if r.injected > 0 && at >= r.injected && at < r.injected+r.out {
			outcome = "info"
		}
		fmt.Fprintf(&ops, `{"id":"a-l%d","n":%d,"phase":"load","client":0,"entity":"counter","key":"k","op":"add","scheduled_ns":%d,"sent_ns":%d,"returned_ns":%d,"attempts":1,"outcome":"%s"}`+"\n", i, i, at, at, at, outcome)
	}
	// Neither a probe nor what fails counts as goodput.
	fmt.Fprintf(&ops, `{"id":"a-p0","n":0,"phase":"probe","client":0,"entity":"counter","key":"k","op":"add","scheduled_ns":1,"sent_ns":1,"returned_ns":%d,"attempts":1,"outcome":"ok"}`+"\n", r.injected+1)
	for name, data := range map[string]string{"verdict.json": string(verdict), "scenario.yaml": r.plan, "history.jsonl": ops.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// folder writes a group of runs and returns its path.
func folder(t *testing.T, name string, runs ...run) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	for i, r := range runs {
		r.write(t, filepath.Join(dir, fmt.Sprint(i+1)))
	}
	return dir
}

// drawn returns the rows of the picture's CSV, and its SVG.
func drawn(t *testing.T, draw func([]*Group) (*Picture, error), args ...string) (rows [][]string, svg string, picture *Picture) {
	t.Helper()
	loaded, err := Load(args)
	if err != nil {
		t.Fatal(err)
	}
	if picture, err = draw(loaded); err != nil {
		t.Fatal(err)
	}
	for _, f := range picture.Files {
		switch filepath.Ext(f.Name) {
		case ".csv":
			if rows, err = csv.NewReader(strings.NewReader(string(f.Data))).ReadAll(); err != nil {
				t.Fatal(err)
			}
		case ".svg":
			svg = string(f.Data)
		}
	}
	return rows, svg, picture
}

// refused returns the error of a picture that cannot be drawn.
func refused(t *testing.T, draw func([]*Group) (*Picture, error), args ...string) string {
	t.Helper()
	loaded, err := Load(args)
	if err == nil {
		_, err = draw(loaded)
	}
	if err == nil {
		t.Fatalf("%q are drawn", args)
	}
	return err.Error()
}

func same(t *testing.T, have [][]string, want string) {
	t.Helper()
	var lines []string
	for _, row := range have {
		lines = append(lines, strings.TrimRight(strings.Join(row, " | "), " "))
	}
	var wanted []string
	for line := range strings.Lines(strings.TrimSpace(want)) {
		wanted = append(wanted, strings.TrimSpace(line))
	}
	if text, want := strings.Join(lines, "\n"), strings.Join(wanted, "\n"); text != want {
		t.Errorf("have\n%s\nwant\n%s", text, want)
	}
}

func durable(p50 time.Duration, lost int) run {
	return run{verdict: "pass", ack: "durable", p50: p50, lost: lost, injected: 5 * time.Second, rpo: 0}
}

func TestFrontier(t *testing.T) {
	memory := run{verdict: "pass", ack: "memory", window: 500 * ms, p50: ms, lost: 40, injected: 5 * time.Second, rpo: 250 * ms}
	broken, unknown, blind := durable(2*ms, 3), durable(9*ms, 0), durable(9*ms, 0)
	broken.verdict, unknown.verdict, blind.lost = "violation", "unknown", nil
	broken.rpo = 700 * ms
	d := folder(t, "durable", durable(2*ms, 0), durable(4*ms, 0), unknown, broken, blind)
	m := folder(t, "m", memory, memory)
	f := Frontier{Latency: "p50", Loss: "writes"}
	rows, svg, picture := drawn(t, f.Draw, d, "memory="+m)
	// A run that broke its contract is a part of the truth about what is lost.
	same(t, rows, `
group | contract | run | n | latency_ms | latency_low | latency_high | loss | loss_low | loss_high | broke_contract
durable | ack: durable |  | 3 | 2 | 2 | 4 | 0 | 0 | 3 | 1
durable | ack: durable | 1 | 1 | 2 |  |  | 0 |  |  | 0
durable | ack: durable | 2 | 1 | 4 |  |  | 0 |  |  | 0
durable | ack: durable | 4 | 1 | 2 |  |  | 3 |  |  | 1
memory | ack: memory, window 500ms |  | 2 | 1 | 1 | 1 | 40 | 40 | 40 | 0
memory | ack: memory, window 500ms | 1 | 1 | 1 |  |  | 40 |  |  | 0
memory | ack: memory, window 500ms | 2 | 1 | 1 |  |  | 40 |  |  | 0`)
	for _, want := range []string{"durable (n = 3, 1 broken)", "memory (n = 2)", "Left out: 2 of 5 runs of durable (1 unknown, 1 with unknown losses).", ">0<"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in the picture", want)
		}
	}
	if len(picture.Notes) != 1 || !strings.Contains(picture.Lines[0], "3 runs, 3,000 ok answers, 3 acknowledged writes lost") {
		t.Errorf("notes %q, lines %q", picture.Notes, picture.Lines)
	}

	rows, _, _ = drawn(t, Frontier{Latency: "p99", Loss: "rpo"}.Draw, d, m)
	if have := strings.Join(rows[1][4:10], " "); have != "4 4 8 0 0 700" {
		t.Errorf("p99 and rpo: %s", have)
	}
	rows, _, _ = drawn(t, Frontier{Latency: "p50", Loss: "share"}.Draw, m)
	if have := rows[1][7]; have != "4" {
		t.Errorf("40 writes lost, 1000 answers: %s %%", have)
	}

	for _, c := range []struct {
		f    Frontier
		args []string
		want string
	}{
		{f, []string{folder(t, "none", unknown, blind)}, "none: none of the runs (2) can be shown: 1 unknown, 1 with unknown losses"},
		{f, []string{folder(t, "mixed", durable(ms, 0), memory)}, "system.ack: is memory, and durable in other runs of the group"},
		{f, []string{d, d}, "durable: there are two groups of this name"},
		{f, []string{"=x"}, "expected NAME=DIR or DIR"},
		{f, []string{filepath.Join(t.TempDir(), "nowhere")}, "nowhere"},
		{Frontier{Latency: "p98", Loss: "writes"}, []string{d}, `--latency: unknown "p98"; have p50, p99`},
		{Frontier{Latency: "p50", Loss: "money"}, []string{d}, `--loss: unknown "money"; have writes, share, rpo`},
		{f, []string{"a=" + d, "b=" + d, "c=" + d, "d=" + d, "e=" + d, "f=" + d, "g=" + d}, "7 groups: a picture can tell 6 apart"},
	} {
		if have := refused(t, c.f.Draw, c.args...); !strings.Contains(have, c.want) {
			t.Errorf("have %q, want %q", have, c.want)
		}
	}
	wide := memory
	wide.window = time.Second
	if have := refused(t, f.Draw, folder(t, "windows", memory, wide)); !strings.Contains(have, "system.window: is 1s, and 500ms in other runs") {
		t.Error(have)
	}
}

// Two runs in which the same happened at different times are aligned to one curve.
func TestRecovery(t *testing.T) {
	a := run{verdict: "pass", ack: "durable", lost: 0, injected: 5 * time.Second, out: time.Second, steady: 1200 * ms}
	b := a
	b.injected = 7300 * ms
	late := a
	late.out = 2 * time.Second
	violated, quiet := a, a
	violated.verdict = "violation"
	quiet.injected = 0
	r := Recovery{Before: time.Minute, After: time.Minute}
	rows, svg, picture := drawn(t, r.Draw, folder(t, "base", a, b, late, violated, quiet))
	// Every run has 3 s before and 6.7 s after its injection.
	if have := len(rows) - 1; have != 15+33 {
		t.Fatalf("%d parts, want 48", have)
	}
	for i, row := range rows[1:] {
		from, err := strconv.ParseFloat(row[2], 64)
		want := "1 1 1"
		switch {
		case i >= 15 && i < 20:
			want = "0 0 0"
		case i >= 20 && i < 25:
			want = "1 0 1"
		}
		if have := strings.Join(row[4:7], " "); have != want || err != nil || math.Abs(from-(-3+0.2*float64(i))) > 1e-9 {
			t.Errorf("part %d from %s: %s, want %s", i, row[2], have, want)
		}
		if row[0] != "base" || row[1] != "3" || row[7] != "100" {
			t.Errorf("part %d: %q", i, row)
		}
	}
	for _, want := range []string{
		"base, n = 3, 100 % = 100/s; fault over at 1.00 s, steady at 1.20 s", "Recovery: tiny, fault kill-owner", "injected", "min to max", "Each point: 200 ms",
		"Left out: 2 of 5 runs of base (1 broke the contract, 1 without the fault).",
	} {
		if !strings.Contains(strings.ReplaceAll(svg, "\n", " "), want) {
			t.Errorf("no %q in the picture", want)
		}
	}
	if len(picture.Lines) != 1 {
		t.Errorf("lines %q", picture.Lines)
	}
	if rows, _, _ := drawn(t, Recovery{Fault: "kill-owner", Before: time.Second, After: 2 * time.Second}.Draw, folder(t, "g", a)); len(rows) != 16 {
		t.Errorf("%d rows for 3 s in parts of 200 ms", len(rows))
	}
	if have := refused(t, Recovery{Fault: "other", Before: time.Second, After: time.Second}.Draw, folder(t, "g", a)); !strings.Contains(have, "without the fault") {
		t.Error(have)
	}
	gone := folder(t, "gone", a)
	if err := os.Remove(filepath.Join(gone, "1", "history.jsonl")); err != nil {
		t.Fatal(err)
	}
	if have := refused(t, r.Draw, gone); !strings.Contains(have, "history.jsonl") {
		t.Error(have)
	}
	if have := refused(t, Recovery{}.Draw, folder(t, "g", a)); !strings.Contains(have, "must be longer than 0 s") {
		t.Error(have)
	}
	if have := refused(t, Recovery{Before: 50 * ms, After: time.Second}.Draw, folder(t, "g", a)); !strings.Contains(have, "no run has both 200ms of load before") {
		t.Error(have)
	}
}

func TestScale(t *testing.T) {
	of := func(ack string, nodes int, throughput float64) run {
		r := run{verdict: "pass", ack: ack, nodes: nodes, throughput: throughput, p50: ms, lost: 0}
		if ack == "memory" {
			r.window = 500 * ms
		}
		return r
	}
	d1, d3 := folder(t, "d1", of("durable", 1, 100), of("durable", 1, 120)), folder(t, "d3", of("durable", 3, 200))
	m1, m3 := folder(t, "m1", of("memory", 1, 500)), folder(t, "m3", of("memory", 3, 900))
	s := Scale{By: "system.nodes", Figure: "throughput"}
	rows, svg, _ := drawn(t, s.Draw, d3, m1, d1, m3)
	// Contracts are lines of their own.
	same(t, rows, `
series | group | run | n | x | value | low | high
reference, ack: durable | d1 |  | 2 | 1 | 110 | 100 | 120
reference, ack: durable | d1 | 1 | 1 | 1 | 100 |  | 
reference, ack: durable | d1 | 2 | 1 | 1 | 120 |  | 
reference, ack: durable | d3 |  | 1 | 3 | 200 | 200 | 200
reference, ack: durable | d3 | 1 | 1 | 3 | 200 |  | 
reference, ack: memory, window 500ms | m1 |  | 1 | 1 | 500 | 500 | 500
reference, ack: memory, window 500ms | m1 | 1 | 1 | 1 | 500 |  | 
reference, ack: memory, window 500ms | m3 |  | 1 | 3 | 900 | 900 | 900
reference, ack: memory, window 500ms | m3 | 1 | 1 | 3 | 900 |  |`)
	for _, want := range []string{"in proportion to the first point", "reference, ack: durable, n = 1 to 2 a point", "system.nodes", "answered ok (1/s)"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in the picture", want)
		}
	}
	if _, svg, _ := drawn(t, Scale{By: "system.nodes", Figure: "p99"}.Draw, d1, d3); strings.Contains(svg, "in proportion") {
		t.Error("a latency has an ideal line")
	}

	// What the load generator limited says nothing of the system.
	found, limited := of("durable", 1, 100), of("durable", 1, 100)
	found.search = map[string]any{"knee_rate_per_s": 700, "limited_by": "bound"}
	limited.search = map[string]any{"knee_rate_per_s": 900, "limited_by": "generator"}
	rows, svg, _ = drawn(t, Scale{By: "system.nodes", Figure: "knee"}.Draw, folder(t, "k", found, limited))
	if len(rows) != 3 || rows[1][5] != "700" || !strings.Contains(svg, "Left out: 1 of 2 runs of k (without a knee of the system).") {
		t.Errorf("knees: %q", rows)
	}
	if have := refused(t, s.Draw, folder(t, "k", found)); !strings.Contains(have, "searched for the highest rate") {
		t.Error(have)
	}

	plan := func(text string) string {
		r := of("durable", 1, 100)
		r.plan = text
		return folder(t, "p", r)
	}
	for text, want := range map[string]string{
		"load: {keys: 500}": "load.keys 500;", "load: {keys: 500/s}": "load.keys 500/s;", "load: {keys: 5%}": "load.keys 5%;", "load: {keys: 150ms}": "load.keys 0.15 s;",
	} {
		if _, _, picture := drawn(t, Scale{By: "load.keys", Figure: "throughput"}.Draw, plan(text)); !strings.Contains(picture.Lines[0], want) {
			t.Errorf("%s: no %q in %q", text, want, picture.Lines)
		}
	}
	yes := true
	violated := of("durable", 1, 100)
	violated.verdict = "violation"
	for _, c := range []struct {
		s    Scale
		args []string
		want string
	}{
		{s, []string{d1, "again=" + d1}, "d1, again: both are at system.nodes 1"},
		{s, []string{folder(t, "g", of("durable", 1, 1), of("durable", 3, 1))}, "system.nodes: is 3, and 1 in other runs of the group"},
		{s, []string{folder(t, "g", violated)}, "g: none of the runs (1) can be shown: broke the contract"},
		{Scale{By: "system.pods", Figure: "throughput"}, []string{d1}, "system.pods: there is no such field"},
		{Scale{By: "system", Figure: "throughput"}, []string{d1}, "system: is not a number"},
		{Scale{By: "load.keys", Figure: "throughput"}, []string{plan("load: {keys: many}")}, "scenario.yaml:1: load.keys: is not a number"},
		{Scale{By: "load.keys", Figure: "throughput"}, []string{plan("load: {keys: 0}")}, "load.keys: is 0, must be positive"},
		{Scale{By: "system.nodes", Figure: "knee"}, []string{d1}, "without this figure"},
		{Scale{By: "system.nodes", Figure: "speed"}, []string{d1}, `--figure: unknown "speed"; have throughput, p50, p99, knee`},
		{Scale{By: "system.nodes", Figure: "p50", Ideal: &yes}, []string{d1}, "--ideal: a latency does not grow"},
	} {
		if have := refused(t, c.s.Draw, c.args...); !strings.Contains(have, c.want) {
			t.Errorf("have %q, want %q", have, c.want)
		}
	}
}
