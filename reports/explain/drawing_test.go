package explain

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"statequake/history"
	"statequake/reports/check"
)

// draws returns the story and the drawing of a script.
func draws(t *testing.T, name string) (Story, Drawing) {
	t.Helper()
	s := scripts()[name]
	run := s.run()
	v, _ := s.find(t, run)
	budget := Budget(1_000_000)
	e, ok := Minimal(run, s.opt, s.check, v, &budget)
	if !ok {
		t.Fatal("no excerpt")
	}
	story := Tell(v, e.Run.Ops, run.Faults)
	d, ok := story.Draw()
	if !ok {
		t.Fatal("no drawing")
	}
	return story, d
}

// The issue's own example: sent and answered, killed 2 ms later, missed by the
// audit 20 s later.
func TestDrawLost(t *testing.T) {
	_, d := draws(t, "lost")
	if len(d.Lanes) != 2 || len(d.Marks) != 1 || len(d.Gaps) != 1 {
		t.Fatalf("%d lanes, %d marks, %d gaps", len(d.Lanes), len(d.Marks), len(d.Gaps))
	}
	write, audit, kill, gap := d.Lanes[0], d.Lanes[1], d.Marks[0], d.Gaps[0]
	if write.Label != "add l1841, acknowledged: gone" || !write.Suspect || write.Audit || audit.Label != "audit a0, answered by n1" || !audit.Audit || audit.Suspect || kill.Label != "n2 was killed" {
		t.Errorf("lanes %+v, mark %+v", d.Lanes, kill)
	}
	if !(write.X < write.End && write.End < kill.X && kill.X < gap.X && gap.X+gap.W < audit.X && audit.X < audit.End) {
		t.Errorf("not in time order: %+v, %+v, %+v, %+v", write, kill, gap, audit)
	}
	// What is drawn is to scale: the write took 4 ms, the audit 10.
	if ratio := audit.W / write.W; ratio < 2 || ratio > 3 {
		t.Errorf("the audit is %.1f times as long as the write", ratio)
	}
}

// Nothing leaves the picture or covers another label, whatever the story.
func TestDrawings(t *testing.T) {
	for name := range scripts() {
		story, d := draws(t, name)
		var ends []float64
		for _, l := range d.Lanes {
			if l.X < 0 || l.W < 0 || l.End > 100 || l.X+l.W != l.End && l.W != 0 || l.BarY+10 > d.Axis || l.LabelY > l.BarY {
				t.Errorf("%s: %+v", name, l)
			}
			if utf8.RuneCountInString(l.Label) > labelLetters {
				t.Errorf("%s: the label %q is too long", name, l.Label)
			}
			ends = append(ends, l.End)
		}
		suspects, open := 0, 0
		for _, e := range story.Events {
			if e.Suspect {
				suspects++
			}
			if e.Op != nil && e.Op.Outcome == history.Info {
				open++
			}
		}
		for _, l := range d.Lanes {
			if l.Suspect {
				suspects--
			}
			if l.Open {
				open--
				if l.End < slices.Max(ends) {
					t.Errorf("%s: the open end is at %v of %v", name, l.End, ends)
				}
			}
		}
		if suspects != 0 || open != 0 || len(d.Ticks) < 1 {
			t.Errorf("%s: %d suspects and %d open operations are not drawn, %d ticks", name, suspects, open, len(d.Ticks))
		}
		for i := 1; i < len(d.Ticks); i++ {
			if d.Ticks[i].X-d.Ticks[i-1].X < letter*6 {
				t.Errorf("%s: the instants %v and %v are too close", name, d.Ticks[i-1], d.Ticks[i])
			}
		}
	}
}

// A story of hours, of one instant and of operations that never left.
func TestDrawExtremes(t *testing.T) {
	op := func(id string, sent, returned time.Duration, outcome history.Outcome) history.Op {
		return history.Op{ID: id, Phase: history.Load, Entity: "counter", Key: "c", Name: "add", Outcome: outcome, Scheduled: sent, Sent: sent, Returned: returned, Version: -1}
	}
	v := check.Violation{Entity: "counter", Key: "c", Kind: check.Lost, Ops: []string{"a", "b", "c", "d"}}
	for name, ops := range map[string][]history.Op{
		"nothing":     nil,
		"one instant": {op("a", time.Second, time.Second, history.OK)},
		"unsent":      {op("a", 0, 0, history.Unsent)},
		"hours": {op("a", 0, 1, history.OK), op("b", time.Hour, time.Hour+1, history.Info), op("c", 2*time.Hour, 3*time.Hour, history.Fail),
			op("d", 99*time.Hour, 100*time.Hour, history.OK)},
		"long names": {op("a", 0, 1, history.OK), op(strings.Repeat("é", 1000), 5, 9, history.OK)},
	} {
		d, ok := Tell(v, ops, nil).Draw()
		if ok != (len(ops) > 0) {
			t.Errorf("%s: drawn %v", name, ok)
		}
		for _, l := range d.Lanes {
			if l.X < 0 || l.W < 0 || l.End > 100 {
				t.Errorf("%s: %+v", name, l)
			}
		}
	}
}

// Of more operations than a story takes, those that the violation names stay.
func TestStoryIsShort(t *testing.T) {
	v := check.Violation{Entity: "counter", Key: "c", Kind: check.Lost}
	var ops []history.Op
	for i := range 100 {
		id := string(rune('a' + i%26))
		ops = append(ops, history.Op{ID: id + strings.Repeat("x", i/26), Entity: "counter", Key: "c", Name: "add", Outcome: history.OK,
			Returned: time.Duration(i), Version: -1, Phase: history.Load})
	}
	v.Ops = []string{"c", "d"}
	if s := Tell(v, ops, nil); len(s.Events) != 2 {
		t.Errorf("%d events, want the two that are named", len(s.Events))
	}
	for i := range ops {
		v.Ops = append(v.Ops, ops[i].ID)
	}
	if s := Tell(v, ops, nil); len(s.Events) != toldOps || s.Events[toldOps-1].Op.ID != ops[99].ID {
		t.Errorf("%d events, want %d with the last one", len(s.Events), toldOps)
	}
}

// Only what hit the node, and in time, is told of.
func TestFaultsThatMatter(t *testing.T) {
	event := func(name string, kind history.EventKind, at int, node string) history.Fault {
		return history.Fault{Name: name, Kind: "PodChaos", Action: "pod-kill", Event: kind, At: time.Duration(at) * ms, Targets: []string{node}}
	}
	s := scripts()["lost"]
	v, _ := s.find(t, s.run())
	for _, tt := range []struct {
		name   string
		faults []history.Fault
		want   string
		blame  string
	}{
		{"at once", []history.Fault{event("k", history.Requested, 10_215, "n2"), event("k", history.Injected, 10_216, "n2")},
			"10.216 s n2 was killed (fault k)", "n2, which executed it, was killed 0.002 s after its answer was read."},
		{"other node", []history.Fault{event("k", history.Injected, 10_216, "n3")}, "", ""},
		{"long before", []history.Fault{event("k", history.Injected, 9000, "n2")}, "", ""},
		{"over before", []history.Fault{event("k", history.Injected, 9000, "n2"), event("k", history.Recovered, 10_000, "n2")}, "", ""},
		{"not over", []history.Fault{event("k", history.Injected, 9000, "n2"), event("k", history.Recovered, 10_300, "n2")},
			"9.000 s n2 was killed (fault k)", ""},
		{"after the audit", []history.Fault{event("k", history.Injected, 40_000, "n2")}, "", ""},
		{"with grace", []history.Fault{event("k", history.Requested, 10_211, "n2"), event("k", history.Injected, 13_000, "n2")},
			"10.211 s pod-kill of n2 began (fault k), 13.000 s n2 was killed (fault k)",
			"pod-kill of n2, which executed it, began 0.003 s before its answer was read."},
		{"with grace, later", []history.Fault{event("k", history.Requested, 10_300, "n2"), event("k", history.Injected, 13_000, "n2")},
			"10.300 s pod-kill of n2 began (fault k), 13.000 s n2 was killed (fault k)",
			"n2, which executed it, was killed 2.786 s after its answer was read."},
		{"asked for before", []history.Fault{event("k", history.Requested, 10_000, "n2"), event("k", history.Injected, 13_000, "n2")},
			"10.000 s pod-kill of n2 began (fault k), 13.000 s n2 was killed (fault k)",
			"n2, which executed it, was killed 2.786 s after its answer was read."},
		{"never seen", []history.Fault{event("k", history.Requested, 10_212, "n2")},
			"10.212 s pod-kill of n2 began (fault k)", "pod-kill of n2, which executed it, began 0.002 s before its answer was read."},
	} {
		story := Tell(v, []history.Op{s.ops[len(s.ops)-3], s.ops[len(s.ops)-1]}, tt.faults)
		var told []string
		for _, e := range story.Events {
			if e.Fault != nil {
				told = append(told, seconds(e.At)+" "+e.Text)
			}
		}
		if got := strings.Join(told, ", "); got != tt.want {
			t.Errorf("%s: told of %q, want %q", tt.name, got, tt.want)
		}
		if got := strings.TrimSpace(strings.TrimPrefix(story.Conclusion, "What was acknowledged is gone.")); got != tt.blame {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.blame)
		}
	}
}
