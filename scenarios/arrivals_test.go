package scenarios

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/loadgen"
)

// with is small with other arrivals and, if it is not empty, another duration.
func with(t *testing.T, arrivals, duration string) string {
	t.Helper()
	text := edit(t, small, "{constant: 10/s}", arrivals)
	if duration == "-" {
		return edit(t, text, "  duration: 5s\n", "")
	} else if duration != "" {
		text = edit(t, text, "5s", duration)
	}
	return text
}

func TestArrivals(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "schedule"), []byte("# a comment\n\n2s\n1.5\n 2500ms \n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := time.Second
	for _, tt := range []struct {
		arrivals, duration string
		want               Arrivals
		length             time.Duration
		scheduled          int64 // in the measured load; -1: chance decides
	}{
		{"{constant: 10/s}", "", Arrivals{Constant: 10}, 5 * s, 50},
		{"{poisson: 10/s}", "", Arrivals{Poisson: 10}, 5 * s, -1},
		{"{ramp: {from: 100/s, to: 10/s}}", "", Arrivals{Ramp: &Ramp{100, 10}}, 5 * s, 275},
		{"{step: {from: 100/s, by: -10/s, every: 2s}}", "", Arrivals{Step: &Step{100, -10, 2 * s}}, 5 * s, 460},
		{"{sine: {mean: 100/s, amplitude: 100/s, period: 5s}}", "", Arrivals{Sine: &Sine{100, 100, 5 * s}}, 5 * s, 500},
		{"{spike: {base: 10/s, peak: 100/s, at: 4s, for: 3s}}", "", Arrivals{Spike: &Spike{10, 100, 4 * s, 3 * s}}, 5 * s, 140},
		{"{replay: schedule}", "-", Arrivals{Replay: &Replay{filepath.Join(dir, "schedule"), 1, []time.Duration{0, s / 2, s}}}, 2 * s, 3},
		{"{replay: schedule, speed: 0.5}", "1500ms", Arrivals{Replay: &Replay{filepath.Join(dir, "schedule"), 0.5, []time.Duration{0, s / 2, s}}}, 3 * s / 2, 2},
		{"{closed: {clients: 3}}", "", Arrivals{Clients: 3}, 5 * s, 0},
		{"{closed: {clients: 3, think: 100ms}}", "", Arrivals{Clients: 3, Think: loadgen.Think{Mean: s / 10}}, 5 * s, 0},
		{"{closed: {clients: 3, think: {exponential: 100ms}}}", "", Arrivals{Clients: 3, Think: loadgen.Think{Mean: s / 10, Exponential: true}}, 5 * s, 0},
		{"{find_max: {from: 100/s, to: 150/s, bound: {p99: 50ms}}}", "-",
			Arrivals{FindMax: &FindMax{100, 150, 10, 3 * s, s, "p99", 50 * time.Millisecond}}, 18 * s, 300 + 330 + 363 + 400 + 439 + 450},
		{"{find_max: {from: 100/s, to: 400/s, grow: 100%, every: 2s, settle: 0s, bound: {p50: 1s}}}", "4s",
			Arrivals{FindMax: &FindMax{100, 400, 100, 2 * s, 0, "p50", s}}, 4 * s, 600},
	} {
		text := with(t, tt.arrivals, tt.duration)
		got, err := Parse(filepath.Join(dir, "f.yaml"), []byte(text), Options{})
		if err != nil {
			t.Errorf("%s: %v", tt.arrivals, err)
			continue
		}
		if !reflect.DeepEqual(got.Load.Arrivals, tt.want) || got.Load.Duration != tt.length {
			t.Errorf("%s, for %v:\n got %+v\nwant %+v, for %v", tt.arrivals, got.Load.Duration, got.Load.Arrivals, tt.want, tt.length)
		}
		process, err := got.Load.process(7)
		if err != nil {
			t.Errorf("%s: %v", tt.arrivals, err)
			continue
		}
		if (process == nil) != (got.Load.Arrivals.Clients > 0) {
			t.Errorf("%s: the process is %v", tt.arrivals, process)
		}
		if process != nil && tt.scheduled >= 0 {
			warmup := process.Count(got.Load.Warmup)
			if n := process.Count(got.Load.Warmup+got.Load.Duration) - warmup; n != tt.scheduled {
				t.Errorf("%s: %d operations are due in the load, want %d", tt.arrivals, n, tt.scheduled)
			}
			if warmup == 0 {
				t.Errorf("%s: nothing is due in the warmup", tt.arrivals)
			}
		}
		// Written out, it means the same from anywhere.
		resolved, err := got.Resolved(Facts{})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Parse("elsewhere/scenario.yaml", resolved, Options{}); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%s, resolved and parsed again: %v\n got %+v\nwant %+v\n%s", tt.arrivals, err, again, got, resolved)
		}
	}
}

func TestBadArrivals(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "# nothing\n", "words": "1s\nsoon\n", "minus": "-1s\n", "late": "1e9\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ arrivals, duration, want string }{
		{"{ramp: {from: 100/s}}", "", "load.arrivals.ramp.to: missing"},
		{"{ramp: {from: 100/s, to: 0/s}}", "", "load.arrivals.ramp.to: 0/s is out of range (0.1/s to 1000000/s)"},
		{"{ramp: 100/s}", "", "load.arrivals.ramp: expected a mapping"},
		{"{step: {from: 100/s, by: -20/s, every: 1s}}", "10s", "load.arrivals.step.by: the rate would be -80/s after 10s, out of range"},
		{"{step: {from: 1/s, by: 1/s, every: 100ms}}", "24h", "load.arrivals.step.every: 100ms makes more than 10000 steps in 24h"},
		{"{sine: {mean: 100/s, amplitude: 101/s, period: 5s}}", "", "load.arrivals.sine.amplitude: 101/s is more than the mean, 100/s: the rate would be negative"},
		{"{sine: {mean: 100/s, amplitude: 10/s}}", "", "load.arrivals.sine.period: missing"},
		{"{spike: {base: 1/s, peak: 10/s, at: 5s, for: 1s}}", "", "load.arrivals.spike.at: 5s is when the load ends"},
		{"{replay: nowhere}", "-", "load.arrivals.replay: read the schedule: stat "},
		{"{replay: empty}", "-", "empty holds no instant\nhint: a run directory, or a text file with one instant per line, such as 1.5s"},
		{"{replay: words}", "-", "words:2: \"soon\" is no instant\nhint: "},
		{"{replay: minus}", "-", "minus:1: -1s is out of range (0s to 24h)"},
		{"{replay: late}", "-", "late:1: 1e9 is out of range (0s to 24h)"},
		{"{replay: .}", "-", "load.arrivals.replay: read the schedule of "},
		{"{constant: 10/s, speed: 2}", "", "load.arrivals.speed: is that of a replay"},
		{"{poisson: 10/s, closed: {clients: 1}}", "", "load.arrivals.closed: contradicts load.arrivals.poisson; give one of them"},
		{"{closed: {clients: 1, think: {normal: 1s}}}", "", "load.arrivals.closed.think.normal: unknown field"},
		{"{closed: {clients: 1, think: fast}}", "", "load.arrivals.closed.think: \"fast\" is not a duration"},
		{"{find_max: {from: 100/s, to: 100/s, bound: {p99: 1s}}}", "-", "load.arrivals.find_max.to: 100/s is not above from, 100/s"},
		{"{find_max: {from: 100/s, to: 200/s}}", "-", "load.arrivals.find_max.bound: missing"},
		{"{find_max: {from: 100/s, to: 200/s, bound: {}}}", "-", "load.arrivals.find_max.bound: has no percentile"},
		{"{find_max: {from: 100/s, to: 200/s, bound: {p50: 1s, p99: 1s}}}", "-", "load.arrivals.find_max.bound: has more than one percentile"},
		{"{find_max: {from: 100/s, to: 200/s, bound: {p999: 1s}}}", "-", "load.arrivals.find_max.from: the first level measures 200 operations, and p999 takes 1000"},
		{"{find_max: {from: 100/s, to: 200/s, bound: {p99: 1s}}}", "1h", "load.duration: 1h is longer than the 9 levels of load.arrivals.find_max, 27s"},
		{"{find_max: {from: 100/s, to: 200/s, bound: {p99: 1s}}}", "1s", "load.duration: 1s is shorter than a level of load.arrivals.find_max, 3s"},
		{"{find_max: {from: 1/s, to: 1000000/s, grow: 1%, every: 1h, bound: {p99: 1s}}}", "-", "load.arrivals.find_max: has 1390 levels of 1h, limits 10000 and 24h in all"},
	} {
		text := with(t, tt.arrivals, tt.duration)
		_, err := Parse(filepath.Join(dir, "f.yaml"), []byte(text), Options{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v\nwant %s", tt.arrivals, err, tt.want)
		} else if !strings.HasPrefix(err.Error(), filepath.Join(dir, "f.yaml:")) {
			t.Errorf("%s: no place: %v", tt.arrivals, err)
		}
	}
}

// A run can be replayed from its directory alone, wherever that is moved to, and
// what is due is due at the same instants.
func TestReplayOfRun(t *testing.T) {
	dir := t.TempDir()
	recorded := filepath.Join(dir, "recorded")
	if err := os.Mkdir(recorded, 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := history.Create(recorded)
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range []time.Duration{7_000_000_001, 5_000_000_000, 6_500_000_000} {
		phase := history.Load
		w.Op(&history.Op{ID: fmt.Sprintf("0000-l%d", i), N: int64(i), Phase: phase, Entity: "e", Key: "k", Name: "add", Scheduled: at, Outcome: history.Unsent, Version: -1})
	}
	w.Op(&history.Op{ID: "0000-w9", N: 9, Phase: history.Warmup, Entity: "e", Key: "k", Name: "add", Scheduled: 1, Outcome: history.Unsent, Version: -1})
	if err := w.Close(history.Footer{}); err != nil {
		t.Fatal(err)
	}
	s, err := Parse(filepath.Join(dir, "f.yaml"), []byte(with(t, "{replay: recorded}", "-")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []time.Duration{0, 1_500_000_000, 2_000_000_001}
	if got := s.Load.Arrivals.Replay.Instants; !reflect.DeepEqual(got, want) {
		t.Fatalf("instants %v, want %v", got, want)
	}
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o755); err != nil {
		t.Fatal(err)
	}
	kept, err := keepSchedule(s, run)
	if err != nil {
		t.Fatal(err)
	}
	text, err := kept.Resolved(Facts{})
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{recorded, filepath.Join(dir, "f.yaml")} {
		os.RemoveAll(gone)
	}
	moved := filepath.Join(dir, "moved")
	if err := os.Rename(run, moved); err != nil {
		t.Fatal(err)
	}
	again, err := Parse(filepath.Join(moved, "scenario.yaml"), text, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Load.Arrivals.Replay.Instants; !reflect.DeepEqual(got, want) || again.Load.Duration != s.Load.Duration {
		t.Errorf("instants %v for %v, want %v for %v", got, again.Load.Duration, want, s.Load.Duration)
	}
}
