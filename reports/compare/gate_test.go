package compare

import (
	"strings"
	"testing"
)

func TestGateFile(t *testing.T) {
	const text = `# Limits of the nightly run.
alpha: 2 %              # of all that gates
inconclusive: warn
others: inform
metrics:
  p99: {margin: 15%, max: 500ms}   # until the new disks are there
  throughput:
    # the shop needs that much
    min: 480/s
  lost_acks: {max: 0}
  p50: {gate: false, margin: 7.5%}
`
	cfg, err := ParseGate("g.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	b := cfg.Budgets
	if cfg.Alpha != 0.02 || cfg.Gate == nil || !cfg.Gate.Warn || cfg.Gate.File != "g.yaml" || len(b) != len(metrics) ||
		*b["p99"].Margin != 0.15 || *b["p99"].Max != 5e8 || *b["throughput"].Min != 480 || *b["lost_acks"].Max != 0 || *b["p50"].Margin != 0.075 {
		t.Errorf("%+v, %+v", cfg, cfg.Gate)
	}
	for name, informs := range map[string]bool{"p99": false, "throughput": false, "lost_acks": false, "p50": true, "outage": true, "knee": true} {
		if b[name].Informs != informs {
			t.Errorf("%s informs: %v", name, b[name].Informs)
		}
	}
	cfg, err = ParseGate("g.yaml", []byte("inconclusive: fail\nothers: gate\n"))
	if err != nil || cfg.Gate.Warn || len(cfg.Budgets) != 0 || cfg.Alpha != 0 {
		t.Errorf("%+v, %v", cfg, err)
	}
	const have = "\nhint: have throughput, p50, p99, p99_faults, outage, lost_acks, knee, cpu_per_op"
	for text, want := range map[string]string{
		"":                                                "g.yaml: is empty\nhint: metrics: {p99:",
		"# nothing\n":                                     "g.yaml: is empty",
		"- p99\n":                                         "g.yaml:1: expected a mapping",
		"metrics:\n  p99: {}\n\n  p98: {}\n":              `g.yaml:4: metrics: unknown metric "p98"` + have,
		"p99: {margin: 5%}\n":                             "g.yaml:1: unknown field \"p99\"\nhint: metrics: {p99: ...}",
		"alhpa: 5%\n":                                     "g.yaml:1: unknown field \"alhpa\"\nhint: have alpha, inconclusive, others, metrics",
		"metrics: {p99: {}, p99: {}}\n":                   `g.yaml:1: metrics: "p99" is given twice`,
		"metrics: {p99: 5%}\n":                            "g.yaml:1: metrics.p99: expected a mapping",
		"metrics: p99\n":                                  "g.yaml:1: metrics: expected a mapping",
		"metrics:\n  p99:\n    min: 5ms\n":                "g.yaml:3: metrics.p99.min: unknown field\nhint: have gate, margin, max",
		"metrics: {throughput: {max: 5/s}}\n":             "g.yaml:1: metrics.throughput.max: unknown field\nhint: have gate, margin, min",
		"metrics:\n p99:\n  margin: 0.05\n":               `g.yaml:3: metrics.p99.margin: "0.05" is not a margin`,
		"metrics: {p99: {max: 5}}\n":                      `g.yaml:1: metrics.p99.max: "5" is not a duration, as in 250ms`,
		"metrics: {p99: {max: -5ms}}\n":                   `metrics.p99.max: "-5ms" is not a duration`,
		"metrics: {throughput: {min: 480}}\n":             `metrics.throughput.min: "480" is not a rate, as in 480/s`,
		"metrics: {lost_acks: {max: 1.5}}\n":              `metrics.lost_acks.max: "1.5" is not a whole number`,
		"metrics: {p99: {max: [5ms]}}\n":                  "metrics.p99.max: expected one value",
		"metrics: {p99: {gate: 1}}\n":                     "metrics.p99.gate: \"1\" is neither true nor false\nhint: gate: false",
		"metrics:\n p99:\n  gate: false\n  max: 5ms\n":    "g.yaml:4: metrics.p99.max: a limit decides, and gate: false says that nothing does\nhint: remove one",
		"alpha: 0.05\n":                                   "g.yaml:1: alpha: \"0.05\" is not a chance from 0.01% to less than 50%\nhint: alpha: 2%",
		"alpha: 50%\n":                                    `alpha: "50%" is not a chance`,
		"alpha: 0%\n":                                     `alpha: "0%" is not a chance`,
		"alpha: [5%]\n":                                   "alpha: expected one value",
		"inconclusive: pass\n":                            "g.yaml:1: inconclusive: \"pass\" is neither fail nor warn\nhint: inconclusive: fail",
		"others: no\n":                                    `others: "no" is neither gate nor inform`,
		"others: inform\n":                                "g.yaml:1: no metric gates\nhint: metrics:",
		"others: inform\nmetrics: {p99: {gate: false}}\n": "g.yaml:1: no metric gates",
		"alpha: 2%\n---\nalpha: 2%\n":                     "a second document begins",
		"metrics: {p99: {max: 5ms}\n":                     "not YAML",
		"alpha: 1\nothers: x\n":                           "hint: alpha: 2%\ng.yaml:2: others:",
		strings.Repeat("#", maxGate+1):                    "g.yaml: is larger than 1 MiB",
		"metrics: {p50: &a {max: 5ms}, p99: *a}":          "metrics.p99: expected a mapping",
		"metrics:\n ? [a]\n : {}\n":                       "metrics: a field name must be a word",
		"metrics: {p50: {margin: 5%, margin: 6%}}\n":      `metrics.p50: "margin" is given twice`,
	} {
		if _, err := ParseGate("g.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", text, err, want)
		}
	}
	if _, err := ReadGate("nowhere.yaml"); err == nil || !strings.Contains(err.Error(), "hint: default is the gate without a file") {
		t.Errorf("no file: %v", err)
	}
	if cfg, err := ReadGate(DefaultGate); err != nil || cfg.Gate == nil || cfg.Gate.Warn {
		t.Errorf("%s: %+v, %v", DefaultGate, cfg, err)
	}
}

// The gate file of the example is one, and does what its comments say.
func TestGateFileOfTheExample(t *testing.T) {
	cfg, err := ReadGate("../../examples/github-actions/gate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Alpha != 0.02 || !cfg.Gate.Warn || !cfg.Budgets["cpu_per_op"].Informs || !cfg.Budgets["knee"].Informs || cfg.Budgets["p99"].Informs {
		t.Errorf("%+v", cfg)
	}
	change := func(f func(*figures)) *Side {
		return side("head", gatedRuns, func(int) figures { one := typical; f(&one); return one })
	}
	base := change(func(*figures) {})
	lost := change(func(*figures) {})
	*lost.Runs[7].verdict.LostAcks = 1
	for name, tt := range map[string]struct {
		head *Side
		want int
	}{
		"the same":            {base, 0},
		"CPU time":            {change(func(f *figures) { f.cpuOp *= 2 }), 0},
		"p99 within margin":   {change(func(f *figures) { f.p99 *= 1.2 }), 0},
		"p99":                 {change(func(f *figures) { f.p99 *= 1.3 }), 4},
		"throughput, a limit": {change(func(f *figures) { f.throughput = 479 }), 4},
		"outage, a limit":     {change(func(f *figures) { f.outage = 5.1e9 }), 4},
		"too few runs":        {side("head", 1, func(int) figures { return typical }), 0},
		"a lost write":        {lost, 1},
	} {
		if c := mustCompareAll(t, base, []*Side{tt.head}, cfg); c.ExitCode != tt.want {
			t.Errorf("%s: exit code %d, want %d: %s", name, c.ExitCode, tt.want, c.headline())
		}
	}
}

func FuzzParseGate(f *testing.F) {
	f.Add([]byte("alpha: 2%\nmetrics: {p99: {margin: 15%, max: 500ms}, throughput: {min: 480/s}, lost_acks: {max: 0}, p50: {gate: false}}\n"))
	f.Add([]byte("metrics: {p50: &a {max: 5ms}, p99: *a}\n---\n"))
	f.Add([]byte("inconclusive: warn\nothers: inform\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := ParseGate("g.yaml", data)
		if (cfg.Gate == nil) == (err == nil) {
			t.Errorf("%v and %v", cfg, err)
		}
	})
}
