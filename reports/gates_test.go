package reports

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"statequake/history"
)

// allowed is a run in which an acknowledged write vanishes, and its contract
// allows that: a known history, with all that makes it a run.
func allowed(t *testing.T) *fixture {
	t.Helper()
	f := newFixture()
	f.ops, f.faults, f.samples = nil, nil, nil
	known, err := history.ReadRun("../fixtures/histories/lost-legal-window", func(op *history.Op) error {
		own := *op
		own.Result, own.Args = slices.Clone(op.Result), slices.Clone(op.Args)
		f.ops = append(f.ops, own)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.faults, f.footer = known.Faults, known.Footer
	evidence := f.faults[len(f.faults)-1]
	evidence.Event, evidence.Proof = history.Evidence, history.Confirmed
	f.faults = append(f.faults, evidence)
	for at := range 10 {
		f.samples = append(f.samples, history.Sample{At: time.Duration(at) * time.Second, Node: "generator", PID: 1, LagP50: 1, LagP99: 1, LagMax: 1})
	}
	f.scenario = "name: lost-legal-window\nseed: 1\nsystem: {name: reference, nodes: 2, ack: memory, window: 500ms}\nload: {duration: 8s}\nexpect:\nmachine: {os: linux}\n"
	return f
}

// Every expectation can fail: each name is broken by a limit that is a little too
// tight for a run directory, and by nothing else, and kept by the next one.
func TestEveryExpectationCanFail(t *testing.T) {
	for _, name := range Expectations() {
		name = strings.Replace(name, "DURATION", "200ms", 1)
		t.Run(name, func(t *testing.T) {
			e, err := find(name)
			if err != nil {
				t.Fatal(err)
			}
			judged := func(limit string) *Verdict {
				t.Helper()
				expect := "expect: {" + name + ": \"" + limit + "\"}\n"
				f := newFixture()
				switch name {
				case "lost_acks", "rpo_max":
					f = allowed(t)
				case "knee_min":
					f = searching()
				case "keys_dead":
					f.kill("k4.1", 6011*ms)
				}
				f.only(expect)
				v := f.judge(t)
				if len(v.Expectations) != 1 || v.Expectations[0].Name != name {
					t.Fatalf("expectations %+v", v.Expectations)
				}
				return v
			}
			wide := "1000000000"
			switch e.what {
			case durationUnit.what:
				wide = "1000h"
			case rateUnit.what:
				wide = "0/s"
			case shareUnit.what:
				wide = "0%"
			case sizeUnit.what:
				wide = "1TiB"
			}
			kept, broken := 0, 4
			if name == "keys_dead" {
				kept, broken = 2, 2 // nobody can read back a dead key, and so the run proves nothing
			}
			v := judged(wide)
			if v.ExitCode() != kept || !v.Expectations[0].Met || v.Expectations[0].Measured == nil {
				t.Fatalf("%s: exit code %d, %+v, %s: %q", wide, v.ExitCode(), v.Expectations[0], v.Verdict, v.Reasons)
			}
			keeps, breaks := around(t, e, *v.Expectations[0].Measured)
			if v := judged(keeps); v.ExitCode() != kept || !v.Expectations[0].Met {
				t.Errorf("measured %s, limit %s: exit code %d", *v.Expectations[0].Measured, keeps, v.ExitCode())
			}
			if v := judged(breaks); v.ExitCode() != broken || v.Expectations[0].Met {
				t.Errorf("measured %s, limit %s: exit code %d", *v.Expectations[0].Measured, breaks, v.ExitCode())
			}
		})
	}
}

// around are limits in the notation of e that measured, a rounded figure, keeps
// and breaks, both close to it.
func around(t *testing.T, e expectation, measured string) (keeps, breaks string) {
	t.Helper()
	v, err := e.limit(measured)
	if err != nil {
		t.Fatal(err)
	}
	step := map[string]float64{durationUnit.what: float64(time.Microsecond), shareUnit.what: 1e-6, rateUnit.what: 0.01, countUnit.what: 1, sizeUnit.what: 0.1 * (1 << 20)}[e.what]
	write := func(v float64) string {
		switch e.what {
		case durationUnit.what:
			return time.Duration(v).String()
		case shareUnit.what:
			return strconv.FormatFloat(100*v, 'f', 6, 64) + "%"
		case rateUnit.what:
			return strconv.FormatFloat(v, 'f', 3, 64) + "/s"
		case sizeUnit.what:
			return strconv.FormatFloat(v/(1<<20), 'f', 2, 64) + "MiB"
		}
		return strconv.FormatFloat(math.Max(v, 0), 'f', 0, 64)
	}
	if v < step {
		t.Fatalf("measured %s: nothing is tighter", measured)
	}
	if e.minimum {
		return write(v - step), write(v + step)
	}
	if e.what == countUnit.what {
		return write(v), write(v - step)
	}
	return write(v + step), write(v - step)
}

// only puts expect in the place of the scenario's expectations.
func (f *fixture) only(expect string) {
	i, j := strings.Index(f.scenario, "expect:\n"), strings.Index(f.scenario, "machine:")
	f.scenario = f.scenario[:i] + expect + f.scenario[j:]
}

// kill makes a key answer no more from an instant on; what is sent to it may have
// happened.
func (f *fixture) kill(key string, from time.Duration) {
	for i := range f.ops {
		if op := &f.ops[i]; op.Key == key && op.Sent >= from {
			op.Outcome, op.Error, op.Node, op.Epoch, op.Version, op.Digest, op.Result = history.Info, "timeout", "", 0, -1, "", nil
		}
	}
}

// A threshold of a k6 script is an expectation, too.
func TestThresholdCanFail(t *testing.T) {
	for crossed, want := range map[bool]int{false: 0, true: 4} {
		f := newFixture()
		f.only("")
		f.footer.Thresholds = []history.Threshold{{Metric: "statequake_op_duration", Limit: "p(99)<250", Crossed: crossed}}
		if got := f.judge(t).ExitCode(); got != want {
			t.Errorf("crossed %v: exit code %d, want %d", crossed, got, want)
		}
	}
}

// The exit codes of a run, each with what alone makes it, and the one before it
// wins.
func TestEveryExitCodeOfARun(t *testing.T) {
	miss := func(f *fixture) { f.edit("outage_max: 4s", "outage_max: 1ms") }
	unproven := func(f *fixture) {
		i := slices.IndexFunc(f.faults, func(e history.Fault) bool { return e.Event == history.Evidence })
		f.faults[i].Proof = history.Inconclusive
	}
	lose := func(f *fixture) { f.lose(1) }
	for _, tt := range []struct {
		name   string
		spoils []func(*fixture)
		want   int
	}{
		{"control", nil, 0},
		{"an expectation missed", []func(*fixture){miss}, 4},
		{"a fault unproven", []func(*fixture){unproven}, 2},
		{"both", []func(*fixture){miss, unproven}, 2},
		{"one acknowledged write lost", []func(*fixture){lose}, 1},
		{"all", []func(*fixture){miss, unproven, lose}, 1},
	} {
		f := newFixture()
		for _, spoil := range tt.spoils {
			spoil(f)
		}
		if v := f.judge(t); v.ExitCode() != tt.want {
			t.Errorf("%s: exit code %d, want %d: %q", tt.name, v.ExitCode(), tt.want, v.Reasons)
		}
	}
}
