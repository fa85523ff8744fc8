package recovery

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/stats"
	"statequake/reports/trace"
)

const ms = time.Millisecond

// story is a scripted history in virtual milliseconds. Its load runs from 0 to
// 30 s.
type story struct {
	ops    []history.Op
	faults []Fault
	lost   []string
}

// reply says how an operation sent at a millisecond ends.
type reply func(sent int) (outcome history.Outcome, latency int)

func fast(int) (history.Outcome, int) { return history.OK, 5 }

// during answers with bad in [from, to) and fast otherwise.
func during(from, to int, bad reply) reply {
	return func(sent int) (history.Outcome, int) {
		if from <= sent && sent < to {
			return bad(sent)
		}
		return fast(sent)
	}
}

func failing(sent int) (history.Outcome, int) { return history.Fail, 2 }

// tailed answers every nth of those sent in [from, to) after 450 ms, and one in 50
// of the others after 60 ms.
func tailed(from, to, nth int) reply {
	return func(sent int) (history.Outcome, int) {
		switch {
		case from <= sent && sent < to && sent/10%nth == 0:
			return history.OK, 450
		case sent/10%50 == 0:
			return history.OK, 60
		}
		return fast(sent)
	}
}

// heldUntil answers everything at one instant.
func heldUntil(at int) reply {
	return func(sent int) (history.Outcome, int) { return history.OK, at - sent }
}

// send adds one operation on key, executed by node, every so often in
// [from, to). Scheduled and sent are the same.
func (s *story) send(phase history.Phase, key, node string, from, to, every int, answer reply) {
	for at := from; at < to; at += every {
		outcome, latency := answer(at)
		op := history.Op{
			ID: fmt.Sprintf("%s-%s-%d", phase, key, at), Phase: phase, Entity: "cart", Key: key, Name: "add",
			Scheduled: time.Duration(at) * ms, Sent: time.Duration(at) * ms, Returned: time.Duration(at+latency) * ms,
			Outcome: outcome, Node: node,
		}
		if outcome != history.OK {
			op.Node = ""
		}
		if outcome == history.Unsent {
			op.Sent, op.Returned = 0, 0
		}
		s.ops = append(s.ops, op)
	}
}

// fault adds a fault on target that was requested 4 ms before it was injected.
func (s *story) fault(name, target string, injected, recovered int) {
	at := func(n int) *time.Duration { d := time.Duration(n) * ms; return &d }
	s.faults = append(s.faults, Fault{Name: name, Targets: []string{target}, Requested: at(injected - 4), Injected: at(injected), Recovered: at(recovered)})
}

func (s *story) trace() *trace.Ops { return &trace.Of(&history.Run{Ops: s.ops}).Ops }

func (s *story) measure(t *testing.T) []*Recovery {
	t.Helper()
	in := Run{Ops: s.trace(), Faults: s.faults, Load: stats.Window{To: 30000 * ms}, LostKnown: true}
	for _, op := range s.ops {
		if slices.Contains(s.lost, op.ID) {
			in.Lost = append(in.Lost, Lost{op.Entity, op.Key, op.Returned})
		}
	}
	want, _ := Measure(in)
	// The order of the history carries no meaning.
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(len(s.ops), func(i, j int) { s.ops[i], s.ops[j] = s.ops[j], s.ops[i] })
	in.Ops = s.trace()
	if again, _ := Measure(in); !reflect.DeepEqual(again, want) {
		t.Errorf("the order of the history changes the result:\n%s\n%s", show(want[0]), show(again[0]))
	}
	return want
}

// show writes a recovery in milliseconds.
func show(r *Recovery) string {
	if r == nil {
		return "nil"
	}
	at := func(d *time.Duration) string {
		if d == nil {
			return "-"
		}
		return fmt.Sprint(int64(*d / ms))
	}
	lost := "-"
	if r.LostAcks != nil {
		lost = fmt.Sprint(*r.LostAcks)
	}
	return fmt.Sprintf("impact %s first_ok %s outage %s/%s n %d sparse %d steady %s deficit %d lost %s rpo %s dead %d affected %d window %d-%d",
		at(r.Impact), at(r.FirstOK), at(r.Outage.P50), at(r.Outage.Max), r.Outage.N, r.Outage.Sparse, at(r.Steady),
		r.GoodputDeficit, lost, at(r.RPO), r.KeysDead, r.KeysAffected, r.Window.From/ms, r.Window.To/ms)
}

func TestMeasure(t *testing.T) {
	tests := []struct {
		name string
		tell func(*story)
		want []string
	}{
		{"no impact", func(s *story) {
			s.send(history.Load, "a", "n1", 0, 30000, 10, fast)
			s.send(history.Load, "b", "n2", 0, 30000, 10, fast)
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact - first_ok - outage 0/0 n 0 sparse 0 steady 0 deficit 0 lost 0 rpo 0 dead 0 affected 1 window 9996-11000"}},

		// b fails from 10.010 (first bad) to 10.790; first ok sent at 10.800.
		// Steady begins at 10.7: its first window holds the last 10 failures, 5 % of
		// its 200 operations exactly.
		{"clean outage", func(s *story) {
			s.send(history.Load, "a", "n1", 0, 30000, 10, fast)
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(10010, 10800, failing))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 10 first_ok 805 outage 795/795 n 1 sparse 0 steady 700 deficit 79 lost 0 rpo 0 dead 0 affected 1 window 9996-11000"}},

		// Affected by its failures alone: a's last executor was no target.
		{"outage of a key that no target executed", func(s *story) {
			s.send(history.Load, "a", "n1", 0, 30000, 10, during(10010, 10800, failing))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 10 first_ok 805 outage 795/795 n 1 sparse 0 steady 800 deficit 79 lost 0 rpo 0 dead 0 affected 1 window 9996-11000"}},

		// Everything sent from 10.000 on is answered at 11.200, and all is ok.
		// Operations held for at most 250 ms are not bad, those before are.
		{"stall without errors", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(10000, 11200, heldUntil(11200)))
			s.fault("pause", "n2", 10000, 11000)
		}, []string{"impact 0 first_ok 1200 outage 1200/1200 n 1 sparse 0 steady 1200 deficit 0 lost 0 rpo 0 dead 0 affected 1 window 9996-11200"}},

		// A bad operation that was sent after the request and before an observer
		// saw the injection belongs to the fault; the impact is not negative.
		{"impact before the observer", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 2, during(9998, 10100, failing))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 0 first_ok 105 outage 107/107 n 1 sparse 0 steady 100 deficit 51 lost 0 rpo 0 dead 0 affected 1 window 9996-11000"}},

		// A failure in flight when the fault is requested is not the fault's.
		{"bad before the fault", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(9990, 9996, func(int) (history.Outcome, int) { return history.Info, 3000 }))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact - first_ok - outage 0/0 n 0 sparse 0 steady 0 deficit 0 lost 0 rpo 0 dead 0 affected 1 window 9996-11000"}},

		{"two faults", func(s *story) {
			s.send(history.Load, "a", "n1", 0, 30000, 10, during(20000, 20500, failing))
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(10000, 11000, failing))
			s.fault("first", "n2", 10000, 11000)
			s.fault("second", "n1", 20000, 21000)
		}, []string{
			"impact 0 first_ok 1005 outage 1005/1005 n 1 sparse 0 steady 900 deficit 100 lost 0 rpo 0 dead 0 affected 1 window 9996-11000",
			"impact 0 first_ok 505 outage 505/505 n 1 sparse 0 steady 400 deficit 50 lost 0 rpo 0 dead 0 affected 1 window 19996-21000",
		}},

		// The outage of the first fault lasts into the second; the second sees
		// only what was sent after it. Three steady seconds do not fit between.
		{"outage across the next fault", func(s *story) {
			s.send(history.Load, "a", "n1", 0, 30000, 10, fast)
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(10000, 13000, failing))
			s.fault("first", "n2", 10000, 11000)
			s.fault("second", "n1", 12000, 12500)
		}, []string{
			"impact 0 first_ok 3005 outage 3005/3005 n 1 sparse 0 steady - deficit 100 lost 0 rpo 0 dead 0 affected 1 window 9996-11000",
			"impact 0 first_ok 15 outage 1005/1005 n 1 sparse 0 steady 900 deficit 90 lost 0 rpo 0 dead 0 affected 2 window 11996-12900",
		}},

		// Requested before the first was seen: one disturbance, shared traffic.
		{"two faults at once", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(10000, 10500, failing))
			s.fault("first", "n2", 10000, 11000)
			s.fault("second", "n1", 10003, 11000)
		}, []string{
			"impact 0 first_ok 505 outage 505/505 n 1 sparse 0 steady 500 deficit 50 lost 0 rpo 0 dead 0 affected 1 window 9996-11000",
			"impact 0 first_ok 502 outage 505/505 n 1 sparse 0 steady 500 deficit 50 lost 0 rpo 0 dead 0 affected 1 window 9999-11000",
		}},

		{"never recovers", func(s *story) {
			s.send(history.Load, "a", "n1", 0, 30000, 10, fast)
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(10000, 99999, failing))
			s.send(history.Audit, "b", "n2", 40000, 40300, 100, failing)
			s.fault("kill", "n2", 10000, 11000)
			s.faults[0].Recovered = nil
		}, []string{"impact 0 first_ok - outage -/- n 0 sparse 0 steady - deficit 2000 lost 0 rpo 0 dead 1 affected 1 window 9996-30000"}},

		{"only the audit finds it alive", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(10000, 99999, failing))
			s.send(history.Audit, "b", "n2", 40000, 40001, 100, fast)
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 0 first_ok 30005 outage 30005/30005 n 1 sparse 0 steady - deficit 100 lost 0 rpo 0 dead 0 affected 1 window 9996-11000"}},

		// Answers take 11 ms until 18.000, more than twice the 5 ms before.
		{"slow steady", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(10000, 18000, func(int) (history.Outcome, int) { return history.OK, 11 }))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact - first_ok - outage 0/0 n 0 sparse 0 steady 8000 deficit 0 lost 0 rpo 0 dead 0 affected 1 window 9996-18000"}},

		// At twice the p99 the system counts as steady.
		{"twice as slow is steady", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(10000, 18000, func(int) (history.Outcome, int) { return history.OK, 10 }))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact - first_ok - outage 0/0 n 0 sparse 0 steady 0 deficit 0 lost 0 rpo 0 dead 0 affected 1 window 9996-11000"}},

		// 27 s + 3 windows end with the load, 27.1 s + 3 windows do not.
		{"steady at the last moment", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(10000, 27000, failing))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 0 first_ok 17005 outage 17005/17005 n 1 sparse 0 steady 17000 deficit 1700 lost 0 rpo 0 dead 0 affected 1 window 9996-27000"}},
		{"steady too late", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(10000, 27100, failing))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 0 first_ok 17105 outage 17105/17105 n 1 sparse 0 steady - deficit 100 lost 0 rpo 0 dead 0 affected 1 window 9996-11000"}},

		{"outage seen by probes only", func(s *story) {
			s.send(history.Load, "a", "n1", 0, 30000, 10, fast)
			s.send(history.Probe, "{probe-1}.1", "n2", 0, 30000, 20, during(10010, 10900, failing))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 20 first_ok 905 outage 885/885 n 1 sparse 0 steady 100 deficit 0 lost 0 rpo 0 dead 0 affected 1 window 9996-11000"}},

		// 3 acknowledged writes of b vanish, one of them from after the kill.
		{"lost acks", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, fast)
			s.fault("kill", "n2", 10000, 11000)
			s.lost = []string{"load-b-9500", "load-b-9800", "load-b-10100"}
		}, []string{"impact - first_ok - outage 0/0 n 0 sparse 0 steady 0 deficit 0 lost 3 rpo 495 dead 0 affected 1 window 9996-11000"}},

		// b was n2's when the second fault came: the second lost the write,
		// though the first came earlier. c was nobody's: the first after it.
		{"lost acks of two faults", func(s *story) {
			s.send(history.Load, "a", "n1", 0, 30000, 10, fast)
			s.send(history.Load, "b", "n2", 0, 30000, 10, fast)
			s.send(history.Load, "c", "n3", 0, 30000, 10, fast)
			s.fault("first", "n1", 10000, 11000)
			s.fault("second", "n2", 20000, 21000)
			s.lost = []string{"load-b-9000", "load-c-9900"}
		}, []string{
			"impact - first_ok - outage 0/0 n 0 sparse 0 steady 0 deficit 0 lost 1 rpo 95 dead 0 affected 1 window 9996-11000",
			"impact - first_ok - outage 0/0 n 0 sparse 0 steady 0 deficit 0 lost 1 rpo 10995 dead 0 affected 1 window 19996-21000",
		}},

		// One failure of a key that is asked every 5 s: it was well again within
		// 5 s, but only 2 ms are proven. The probe knows better.
		{"sparse key", func(s *story) {
			s.send(history.Probe, "{probe-1}.1", "n2", 0, 30000, 20, during(10000, 10100, failing))
			s.send(history.Load, "cold", "n2", 50, 30000, 5000, during(10050, 10051, failing))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 0 first_ok 105 outage 105/105 n 1 sparse 1 steady - deficit 1 lost 0 rpo 0 dead 0 affected 2 window 9996-11000"}},

		// A long outage of a rarely asked key counts: most of it is proven.
		{"rarely asked, long outage", func(s *story) {
			s.send(history.Load, "cold", "n2", 0, 30000, 2000, during(10000, 16000, failing))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 0 first_ok 6005 outage 6005/6005 n 1 sparse 0 steady - deficit 1 lost 0 rpo 0 dead 0 affected 1 window 9996-11000"}},

		// Never asked again: neither dead nor measured.
		{"not asked again", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 10010, 10, during(10000, 10010, failing))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 0 first_ok - outage -/2 n 0 sparse 1 steady - deficit 1 lost 0 rpo 0 dead 0 affected 1 window 9996-11000"}},

		// b answers once between two outages; the longer one counts.
		{"relapse", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, func(sent int) (history.Outcome, int) {
				if sent >= 10000 && sent < 10100 || sent >= 10200 && sent < 11200 {
					return history.Fail, 2
				}
				return history.OK, 5
			})
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 0 first_ok 105 outage 1005/1005 n 1 sparse 0 steady 1200 deficit 110 lost 0 rpo 0 dead 0 affected 1 window 9996-11200"}},

		// Operations that never left say nothing about the key, but are missing.
		{"unsent", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, during(10000, 10100, func(int) (history.Outcome, int) { return history.Unsent, 0 }))
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact - first_ok - outage 0/0 n 0 sparse 0 steady 100 deficit 10 lost 0 rpo 0 dead 0 affected 1 window 9996-11000"}},

		// p50 is the nearest rank over keys.
		{"many keys", func(s *story) {
			for i := range 4 {
				s.send(history.Load, fmt.Sprint("k", i), "n2", 0, 30000, 10, during(10000, 10100*(i+1)-10000*i, failing))
			}
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 0 first_ok 105 outage 205/405 n 4 sparse 0 steady 300 deficit 100 lost 0 rpo 0 dead 0 affected 4 window 9996-11000"}},

		// The bound moves with what was usual: 40 ms before, so 400 ms are fine.
		{"slow is relative", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 10000, 10, func(int) (history.Outcome, int) { return history.OK, 40 })
			s.send(history.Load, "b", "n2", 10000, 30000, 10, during(10100, 10110, func(int) (history.Outcome, int) { return history.OK, 400 }))
			s.send(history.Load, "c", "n2", 0, 10000, 10, func(int) (history.Outcome, int) { return history.OK, 40 })
			s.send(history.Load, "c", "n2", 10000, 10010, 10, func(int) (history.Outcome, int) { return history.OK, 401 })
			s.fault("kill", "n2", 10000, 11000)
		}, []string{"impact 0 first_ok 15 outage 401/401 n 1 sparse 0 steady 100 deficit 0 lost 0 rpo 0 dead 0 affected 2 window 9996-11000"}},

		// One in 50 takes 60 ms before, so 600 ms are fine for one. But all that is
		// sent from 10.000 to 13.000 takes 450 ms, and it is 5 usually.
		{"everything is slow", func(s *story) {
			s.send(history.Load, "a", "n1", 0, 30000, 10, tailed(10000, 13000, 1))
			s.send(history.Load, "b", "n2", 0, 30000, 10, tailed(10000, 13000, 1))
			s.fault("partition", "n2", 10000, 13000)
		}, []string{"impact 0 first_ok 460 outage 450/450 n 2 sparse 0 steady 3000 deficit 0 lost 0 rpo 0 dead 0 affected 2 window 9996-13000"}},

		// Every second one is not more than half.
		{"half is slow", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, tailed(10000, 13000, 2))
			s.fault("partition", "n2", 10000, 13000)
		}, []string{"impact - first_ok - outage 0/0 n 0 sparse 0 steady 3000 deficit 0 lost 0 rpo 0 dead 0 affected 1 window 9996-13000"}},

		// A few operations in a second are no pace.
		{"few are slow", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 10000, 10, tailed(0, 0, 1))
			s.send(history.Load, "b", "n2", 10000, 13000, 200, tailed(10000, 13000, 1))
			s.send(history.Load, "b", "n2", 13000, 30000, 10, tailed(0, 0, 1))
			s.fault("partition", "n2", 10000, 13000)
		}, []string{"impact - first_ok - outage 0/0 n 0 sparse 0 steady 2900 deficit 0 lost 0 rpo 0 dead 0 affected 1 window 9996-13000"}},

		// The load is too thin to tell; the probes do.
		{"probes are slow", func(s *story) {
			s.send(history.Load, "a", "n1", 0, 30000, 500, fast)
			s.send(history.Probe, "{probe-1}.1", "n2", 0, 30000, 20, tailed(10000, 11000, 1))
			s.send(history.Probe, "{probe-2}.1", "n1", 0, 30000, 20, tailed(10000, 11000, 1))
			s.fault("partition", "n2", 10000, 11000)
		}, []string{"impact 0 first_ok 470 outage 450/450 n 2 sparse 0 steady 0 deficit 0 lost 0 rpo 0 dead 0 affected 2 window 9996-11000"}},

		{"after the load", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, fast)
			s.fault("kill", "n2", 31000, 32000)
		}, []string{"impact - first_ok - outage -/- n 0 sparse 0 steady - deficit 0 lost 0 rpo 0 dead 0 affected 1 window 30996-32000"}},

		{"not injected", func(s *story) {
			s.send(history.Load, "b", "n2", 0, 30000, 10, fast)
			s.fault("kill", "n2", 10000, 11000)
			s.faults[0].Injected = nil
		}, []string{"nil"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s story
			tt.tell(&s)
			got := s.measure(t)
			if len(got) != len(tt.want) {
				t.Fatalf("have %d recoveries, want %d", len(got), len(tt.want))
			}
			for i, r := range got {
				if have := show(r); have != tt.want[i] {
					t.Errorf("fault %d:\nhave %s\nwant %s", i, have, tt.want[i])
				}
			}
		})
	}
}

// A run whose checks could not tell which writes were lost says so.
func TestLostUnknown(t *testing.T) {
	var s story
	s.send(history.Load, "b", "n2", 0, 30000, 10, fast)
	s.fault("kill", "n2", 10000, 11000)
	all, _ := Measure(Run{Ops: s.trace(), Faults: s.faults, Load: stats.Window{To: 30000 * ms}})
	r := all[0]
	if r.LostAcks != nil || r.RPO != nil {
		t.Errorf("lost acks are %v and rpo %v, want both unknown", r.LostAcks, r.RPO)
	}
}

func TestFaults(t *testing.T) {
	event := func(name string, kind history.EventKind, at time.Duration) history.Fault {
		return history.Fault{Name: name, Kind: "PodChaos", Action: "pod-kill", Event: kind, At: at * ms}
	}
	evidence := func(name string, at time.Duration, p history.Proof, detail string) history.Fault {
		e := event(name, history.Evidence, at)
		e.Proof, e.Detail = p, detail
		return e
	}
	injected := event("b", history.Injected, 31)
	injected.Targets, injected.Roles = []string{"n2"}, map[string]string{"n2": "store-leader"}
	got := Faults([]history.Fault{
		event("b", history.Requested, 30),
		event("a", history.Requested, 10),
		evidence("b", 33, history.Confirmed, "gone"),
		evidence("b", 32, history.Mismatch, "alive"),
		injected,
		event("b", history.Recovered, 90),
		event("b", history.Injected, 40),
	})
	at := func(n time.Duration) *time.Duration { d := n * ms; return &d }
	want := []Fault{
		{Name: "a", Kind: "PodChaos", Action: "pod-kill", Targets: []string{}, Requested: at(10),
			Evidence: Evidence{Verdict: history.Inconclusive}},
		{Name: "b", Kind: "PodChaos", Action: "pod-kill", Targets: []string{"n2"}, Roles: map[string]string{"n2": "store-leader"},
			Requested: at(30), Injected: at(31), Recovered: at(90),
			Evidence: Evidence{Verdict: history.Mismatch, Detail: "alive"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("have %+v\nwant %+v", got, want)
	}
}
