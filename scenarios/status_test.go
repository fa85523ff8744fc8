package scenarios

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"statequake/chaos"
	"statequake/fixtures"
	"statequake/history"
	"statequake/loadgen"
)

func instant(d *time.Duration) string {
	if d == nil {
		return "-"
	}
	return d.String()
}

// TestStatusOfFaults: a fault is told of from the plan to its end, and so are
// those that nobody planned, but not without end.
func TestStatusOfFaults(t *testing.T) {
	var l live
	plans := []*chaos.Fault{
		{Name: "kill", Kind: "PodChaos", Action: "pod-kill", Trigger: chaos.At(8 * time.Second)},
		{Name: "slow", Kind: "IOChaos", Trigger: chaos.While("kill"), Duration: 2 * time.Second},
	}
	due := func(f *chaos.Fault) (time.Duration, bool) {
		at, ok := f.Trigger.(chaos.At)
		return 2*time.Second + time.Duration(at), ok
	}
	l.begin(plans, due, nil, time.Second, time.Second, 20*time.Second)
	say := func(active ...string) string {
		var st Status
		l.fill(&st, active, nil)
		text := ""
		for _, f := range st.Faults {
			text += fmt.Sprintf("%s due %s, %s, waits %t active %t: %s %s %s %s %v\n", f.Name, instant(f.Due), f.When, f.Waits(), f.Active, instant(f.Requested), instant(f.Injected), instant(f.Recovered), f.Proof, f.Targets)
		}
		return text
	}
	want := func(step, want string, active ...string) {
		t.Helper()
		if got := say(active...); got != want {
			t.Errorf("%s:\n%swant\n%s", step, got, want)
		}
	}
	slow := "slow due -, while kill, waits true active false: - - -  []\n"
	want("planned", "kill due 10s, at 8s, waits true active false: - - -  []\n"+slow)
	l.fault(history.Fault{Name: "kill", Kind: "PodChaos", Event: history.Requested, At: 10 * time.Second, Targets: []string{"n1"}})
	l.fault(history.Fault{Name: "kill", Kind: "PodChaos", Event: history.Injected, At: 11 * time.Second, Targets: []string{"n1"}})
	want("injected", "kill due 10s, at 8s, waits false active true: 10s 11s -  [n1]\n"+slow, "kill n1")
	l.fault(history.Fault{Name: "kill", Kind: "PodChaos", Event: history.Evidence, At: 11 * time.Second, Proof: history.Confirmed})
	l.fault(history.Fault{Name: "kill", Kind: "PodChaos", Event: history.Recovered, At: 13 * time.Second})
	want("over", "kill due 10s, at 8s, waits false active false: 10s 11s 13s confirmed [n1]\n"+slow, "killer n2")
	for i := range 2 * shownFaults {
		l.fault(history.Fault{Name: fmt.Sprintf("hand-%d", i), Event: history.Requested})
	}
	var st Status
	l.fill(&st, nil, nil)
	if n := len(st.Faults); n != shownFaults || st.Faults[2].When != "by hand" {
		t.Errorf("%d faults", n)
	}
}

// TestStatusOfNodes: CPU time is that of one process, and a node whose process runs
// again is not up before it was seen back.
func TestStatusOfNodes(t *testing.T) {
	start := func(name string) *fixtures.Node {
		p, err := fixtures.StartProcess(fixtures.ProcessConfig{Name: name, Args: []string{"sleep", "60"}, Log: t.TempDir() + "/log", Stop: 9})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Stop(t.Context()) })
		return &fixtures.Node{Name: name, Process: p}
	}
	nodes := []*fixtures.Node{start("n1"), start("n2"), {Name: "n3"}}
	var l live
	l.sample(history.Sample{Node: "n1", At: time.Second, PID: 7, CPU: 1})
	l.sample(history.Sample{Node: "n1", At: 3 * time.Second, PID: 7, CPU: 2, RSS: 5})
	l.sample(history.Sample{Node: "n2", At: time.Second, PID: 8, CPU: 1})
	l.sample(history.Sample{Node: "n2", At: 3 * time.Second, PID: 9, CPU: 2})
	l.sample(history.Sample{Node: "postgres", At: 3 * time.Second, PID: 10})
	l.sample(history.Sample{Node: "generator", At: 3 * time.Second, Dispatched: 77})
	l.owned("n2")
	l.fault(history.Fault{Name: "kill", Kind: chaos.PodChaos, Event: history.Injected, Targets: []string{"n2"}})
	l.fault(history.Fault{Name: "kill", Kind: chaos.PodChaos, Event: history.Evidence, Proof: history.Confirmed})
	at := func(now time.Duration, active ...string) []NodeStatus {
		st := Status{At: now}
		l.fill(&st, active, nodes)
		if st.Generator.Dispatched != 77 {
			t.Errorf("generator %+v", st.Generator)
		}
		return st.Nodes
	}
	want := []NodeStatus{
		{Name: "n1", State: "up", CPU: 0.5, CPUSeconds: 2, RSS: 5},
		{Name: "n2", State: "restarting", CPU: -1, CPUSeconds: 2, Hottest: true},
		{Name: "n3", CPU: -1},
		{Name: "postgres", State: "up", CPU: -1},
	}
	if got := at(4*time.Second, "kill n2"); !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	want[1].State, want[3].State = "up", "down"
	if got := at(10 * time.Second); !slices.Equal(got, want) {
		t.Errorf("later got %+v\nwant %+v", got, want)
	}
}

// TestStatusOfArrivals: what was due is counted by the same second as what was
// answered, and not beyond the end of the load.
func TestStatusOfArrivals(t *testing.T) {
	var l live
	l.begin(nil, nil, loadgen.Constant(100), 500*time.Millisecond, time.Second, 3*time.Second)
	for _, tc := range []struct {
		at        time.Duration
		requested float64
		due       int64
	}{
		{700 * time.Millisecond, 0, 21},
		{1200 * time.Millisecond, 50, 71}, // the first second had half a second of load
		{2900 * time.Millisecond, 100, 241},
		{6 * time.Second, 0, 400},
	} {
		st := Status{At: tc.at}
		l.fill(&st, nil, nil)
		if due := st.Due(tc.at); st.Requested != tc.requested || due != tc.due {
			t.Errorf("at %v: %v requested, %d due, want %v, %d", tc.at, st.Requested, due, tc.requested, tc.due)
		}
	}
}

// BenchmarkStatus is what a Status of three nodes costs beside the figures of the
// generator; a run makes five a second.
func BenchmarkStatus(b *testing.B) {
	var nodes []*fixtures.Node
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		p, err := fixtures.StartProcess(fixtures.ProcessConfig{Name: name, Args: []string{"sleep", "60"}, Log: b.TempDir() + "/log", Stop: 9})
		if err != nil {
			b.Fatal(err)
		}
		defer p.Stop(b.Context())
		nodes = append(nodes, &fixtures.Node{Name: name, Process: p})
	}
	var l live
	for i := range 10 {
		l.fault(history.Fault{Name: fmt.Sprint(i), Event: history.Requested})
	}
	b.ReportAllocs()
	for b.Loop() {
		var st Status
		l.fill(&st, []string{"1 n1"}, nodes)
	}
}
