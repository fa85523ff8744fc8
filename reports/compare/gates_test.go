package compare

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// gatedRuns is enough for every gate to decide at any alpha that is a default.
const gatedRuns = 16

// ordinary is the verdict of a run in which every metric is measured but the
// knee, beside which nothing of the load is compared.
const ordinary = `{"version": 1, "verdict": "pass", "scenario": "s", "seed": 1, "system": {"ack": "durable"},
	"load": {"ok": 10000, "duration_ns": 20000000000},
	"latency_ns": {"all": {"p50": 2000000, "p99": 20000000, "n": 10000}, "during_faults": {"p99": 500000000, "n": 500}},
	"throughput_per_s": {"all": 500},
	"faults": [{"name": "kill", "recovery": {"outage_ns": {"max": 600000000}, "keys_dead": 0}}],
	"checks": [{"name": "witness", "verdict": "pass"}],
	"lost_acks": 0, "resources": {"n1": {"cpu_s": 20}}}`

// lossy is a run of ack: memory, whose contract allows losses: they are a figure.
const lossy = `{"system": {"ack": "memory"}, "lost_acks": 100}`

// searched is a run that searched for the highest rate.
const searched = `{"find_max": {"bound": {"percentile": "p99", "limit_ns": 50000000}, "limited_by": "bound", "knee_rate_per_s": 1000}}`

// gates names for every metric how a run directory has it (over ordinary), how
// one of a worse head has it, and a limit that the former just keeps and one that
// it just breaks.
var gates = map[string]struct {
	base, worse, absent string
	keeps, breaks       string
}{
	"throughput": {`{}`, `{"throughput_per_s": {"all": 450}}`, `{"throughput_per_s": {"all": null}}`, "min: 500/s", "min: 501/s"},
	"p50":        {`{}`, `{"latency_ns": {"all": {"p50": 2600000}}}`, `{"latency_ns": {"all": {"n": 0}}}`, "max: 2ms", "max: 1999us"},
	"p99":        {`{}`, `{"latency_ns": {"all": {"p99": 26000000}}}`, `{"latency_ns": {"all": {"n": 0}}}`, "max: 20ms", "max: 19999us"},
	"p99_faults": {`{}`, `{"latency_ns": {"during_faults": {"p99": 700000000}}}`, `{"latency_ns": {"during_faults": {"n": 0}}}`, "max: 500ms", "max: 499ms"},
	"outage":     {`{}`, `{"faults": [{"name": "kill", "recovery": {"outage_ns": {"max": 900000000}}}]}`, `{"faults": []}`, "max: 600ms", "max: 599ms"},
	"lost_acks":  {lossy, `{"system": {"ack": "memory"}, "lost_acks": 150}`, `{"lost_acks": null}`, "max: 100", "max: 99"},
	"knee":       {searched, `{"find_max": {"knee_rate_per_s": 800}}`, `{"find_max": null}`, "min: 1000/s", "min: 1001/s"},
	"cpu_per_op": {`{}`, `{"resources": {"n1": {"cpu_s": 26}}}`, `{"resources": {}}`, "max: 2ms", "max: 1999us"},
}

// Every gate can fail: of every metric the margin and the limit, each broken by
// run directories that differ from passing ones in that metric alone.
func TestEveryGateCanFail(t *testing.T) {
	if have, want := slices.Sorted(maps.Keys(gates)), slices.Sorted(slices.Values(metricNames())); !slices.Equal(have, want) {
		t.Fatalf("gates are tested of %q, metrics are %q", have, want)
	}
	for name, g := range gates {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			base, same := writeRuns(t, filepath.Join(dir, "base"), gatedRuns, g.base), writeRuns(t, filepath.Join(dir, "same"), gatedRuns, g.base)
			worse := writeRuns(t, filepath.Join(dir, "worse"), gatedRuns, g.base, g.worse)
			absent := writeRuns(t, filepath.Join(dir, "absent"), gatedRuns, g.base, g.absent)
			few := writeRuns(t, filepath.Join(dir, "few"), 1, g.base, g.worse)
			alone := fmt.Sprintf("others: inform\nmetrics: {%s: {margin: 10%%}}\n", name)
			for _, tt := range []struct {
				what  string
				heads []string
				gate  string
				want  int
			}{
				{"the same", []string{same}, "others: gate", 0},
				{"the same, alone", []string{same}, alone, 0},
				{"margin", []string{worse}, "others: gate", 4},
				{"margin, alone", []string{worse}, alone, 4},
				{"margin, second of two heads", []string{same, worse}, alone, 4},
				{"a wide margin", []string{worse}, fmt.Sprintf("others: inform\nmetrics: {%s: {margin: 100%%}}\n", name), 0},
				{"limit kept", []string{same}, fmt.Sprintf("others: inform\nmetrics: {%s: {margin: 100%%, %s}}\n", name, g.keeps), 0},
				{"limit broken", []string{same}, fmt.Sprintf("others: inform\nmetrics: {%s: {margin: 100%%, %s}}\n", name, g.breaks), 4},
				{"limit, not measured", []string{absent}, fmt.Sprintf("metrics: {%s: {%s}}\n", name, g.keeps), 5},
				{"limit, not measured, warned of", []string{absent}, fmt.Sprintf("inconclusive: warn\nmetrics: {%s: {%s}}\n", name, g.keeps), 5},
				{"too few runs", []string{few}, alone + "alpha: 1%\n", 5},
				{"too few runs, warned of", []string{few}, alone + "alpha: 1%\ninconclusive: warn\n", 0},
				{"it informs", []string{worse}, fmt.Sprintf("metrics: {%s: {gate: false}}\n", name), 0},
			} {
				c := compareRuns(t, base, tt.heads, tt.gate)
				if c.ExitCode != tt.want {
					t.Errorf("%s: exit code %d, want %d: %s", tt.what, c.ExitCode, tt.want, c.headline())
				}
				for _, r := range c.Heads {
					for _, m := range r.Metrics {
						if m.Decision == Regression && m.Name != name {
							t.Errorf("%s: %s is a regression, too", tt.what, m.Name)
						}
					}
				}
			}
		})
	}
}

// Each run that broke its contract decides, and each that proves nothing does
// not pass.
func TestVerdictsDecide(t *testing.T) {
	dir := t.TempDir()
	base := writeRuns(t, filepath.Join(dir, "base"), gatedRuns, `{}`)
	for _, tt := range []struct {
		name, spoil string
		gated, free int
	}{
		{"control", `{}`, 0, 0},
		{"violation", `{"verdict": "violation", "checks": [{"name": "witness", "verdict": "violation", "kinds": {"lost": 1}}]}`, 1, 1},
		{"lost-acks", `{"lost_acks": 1}`, 1, 1},
		{"unknown", `{"verdict": "unknown"}`, 5, 0},
	} {
		head := writeRuns(t, filepath.Join(dir, tt.name), gatedRuns, `{}`, tt.spoil)
		if c := compareRuns(t, base, []string{head}, "others: gate"); c.ExitCode != tt.gated {
			t.Errorf("%s: exit code %d, want %d", tt.name, c.ExitCode, tt.gated)
		}
		if c := compareRuns(t, base, []string{head}, ""); c.ExitCode != tt.free {
			t.Errorf("%s: exit code %d without a gate, want %d", tt.name, c.ExitCode, tt.free)
		}
	}
}

// The chance of a false regression holds for all heads together: with more heads
// each test has less of it.
func TestHeadsShareAlpha(t *testing.T) {
	one := func(int) figures { return typical }
	base := side("base", gatedRuns, one)
	for _, heads := range []int{1, 2, 5, maxHeads} {
		var sides []*Side
		for i := range heads {
			sides = append(sides, side(fmt.Sprintf("head-%d", i), gatedRuns, one))
		}
		c := mustCompareAll(t, base, sides, Config{Alpha: 0.06})
		if want := 0.06 / float64(6*heads); c.Tested != 6*heads || c.Heads[heads-1].Tail < want*0.999 || c.Heads[heads-1].Tail > want*1.001 {
			t.Errorf("%d heads: %d tests, an end is wrong with %v, want %v", heads, c.Tested, c.Heads[heads-1].Tail, want)
		}
	}
	var many []*Side
	for range maxHeads + 1 {
		many = append(many, base)
	}
	for _, heads := range [][]*Side{nil, many} {
		if _, err := Compare(base, heads, Config{}); err == nil {
			t.Errorf("%d heads are compared", len(heads))
		}
	}
	// What only informs takes no share.
	c := mustCompareAll(t, base, []*Side{base}, Config{Alpha: 0.06, Budgets: Budgets{"p50": {Informs: true}, "p99": {Informs: true}}})
	if c.Tested != 4 || outcome(c.Heads[0], "p50").P == nil || outcome(c.Heads[0], "p50").PHolm != nil {
		t.Errorf("%d tests, p50 %+v", c.Tested, outcome(c.Heads[0], "p50"))
	}
}

// Heads are told apart by as much of their paths as that takes.
func TestNamesOfHeads(t *testing.T) {
	for _, tt := range []struct{ paths, want []string }{
		{[]string{"runs/a", "runs/b/"}, []string{"a", "b"}},
		{[]string{"x/head", "y/head", "other"}, []string{"x/head", "y/head", "other"}},
		{[]string{"a", "a", "a"}, []string{"a", "a (2)", "a (3)"}},
		{[]string{"x/y/a", "x/y/a", "z/b"}, []string{"a", "a (2)", "b"}},
		{[]string{".", "/"}, []string{".", "/"}},
		{[]string{"head", "x/head"}, []string{"head", "x/head"}},
		{[]string{"x/base", "y"}, []string{"head base", "y"}},
	} {
		c := &Comparison{}
		for _, p := range tt.paths {
			c.Heads = append(c.Heads, &Report{Head: Counted{Path: p}})
		}
		if got := c.names(); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.paths, got, tt.want)
		}
	}
}

// writeRuns writes a folder of n judged runs: ordinary ones, changed by
// patches.
func writeRuns(t *testing.T, dir string, n int, patches ...string) string {
	t.Helper()
	for i := range n {
		v := map[string]any{}
		for _, text := range append([]string{ordinary}, patches...) {
			var patch map[string]any
			if err := json.Unmarshal([]byte(text), &patch); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			overlay(v, patch)
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		run := filepath.Join(dir, fmt.Sprintf("%04d", i+1))
		if err := os.MkdirAll(run, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(run, verdictFile), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// overlay puts the fields of patch into v, objects field by field.
func overlay(v, patch map[string]any) {
	for k, x := range patch {
		below, object := x.(map[string]any)
		into, there := v[k].(map[string]any)
		if object && there && len(below) > 0 {
			overlay(into, below)
			continue
		}
		v[k] = x
	}
}

// compareRuns compares folders of runs by a gate file with that text, or without
// one.
func compareRuns(t *testing.T, base string, heads []string, gate string) *Comparison {
	t.Helper()
	var cfg Config
	if gate != "" {
		var err error
		if cfg, err = ParseGate("gate.yaml", []byte(gate)); err != nil {
			t.Fatal(err)
		}
	}
	load := func(path string) *Side {
		s, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var sides []*Side
	for _, h := range heads {
		sides = append(sides, load(h))
	}
	return mustCompareAll(t, load(base), sides, cfg)
}
