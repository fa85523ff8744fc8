package check

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"statequake/history"
	"statequake/history/model"
)

// world is a correct system with accounts, transfers and an approval, in
// simulated time, and what its clients see of it.
type world struct {
	*rand.Rand
	run    *history.Run
	now    time.Duration
	events []event
	states map[entityKey]model.State
	ids    map[entityKey][]string
}

type event struct {
	at time.Duration
	do func()
}

func (w *world) at(t time.Duration, do func()) { w.events = append(w.events, event{t, do}) }

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.Int64N(int64(d) + 1)) }

// apply executes an operation once.
func (w *world) apply(op *history.Op) {
	k := entityKey{op.Entity, op.Key}
	if w.states[k] == nil {
		w.states[k], _ = model.For(op.Entity)
	}
	if !slices.Contains(w.ids[k], op.ID) {
		w.ids[k] = execute(op, w.states[k], w.ids[k])
	}
}

// effect executes a caused operation now and reports whether it was accepted.
func (w *world) effect(e model.Effect) bool {
	w.apply(&history.Op{ID: e.ID, Entity: e.Entity, Key: e.Key, Name: e.Name, Args: e.Args})
	return slices.Contains(w.ids[entityKey{e.Entity, e.Key}], e.ID)
}

// calls lets the calls of an action happen one after the other, until one is
// refused or the node that runs it is gone after left of them.
func (w *world) calls(effects []model.Effect, left int, done func(refused bool)) {
	if left == 0 {
		return
	}
	if len(effects) == 0 {
		done(false)
		return
	}
	if !w.effect(effects[0]) {
		done(true)
		return
	}
	if effects[0].Name == "debit" {
		w.at(w.now+model.ResumeAfter+w.upTo(timerSlack/2), func() { w.calls(effects[1:], 9, func(bool) {}) })
	}
	w.at(w.now+w.upTo(3*time.Millisecond), func() { w.calls(effects[1:], left-1, done) })
}

// send sends one operation of a client now.
func (w *world) send(entity, key, name, args string) {
	op := &history.Op{
		ID: fmt.Sprintf("o%d", len(w.run.Ops)), Phase: history.Load, Entity: entity, Key: key, Name: name, Args: json.RawMessage(args),
		Sent: w.now, Attempts: 1, Version: -1, Outcome: history.Info, Epoch: 1, Node: "n1",
	}
	i := len(w.run.Ops)
	w.run.Ops = append(w.run.Ops, *op)
	answer := func() {
		if op.Outcome == history.OK {
			op.Returned = w.now + w.upTo(3*time.Millisecond)
		}
		w.run.Ops[i] = *op
	}
	op.Returned = w.now + w.upTo(20*time.Millisecond)
	fate := w.IntN(8)
	if fate == 0 {
		op.Outcome = history.Fail
		answer()
		return
	}
	answer()
	effects := model.Derived(entity, key, name, op.Args, op.ID)
	w.at(w.now+w.upTo(5*time.Millisecond), func() {
		switch {
		case model.Action(entity):
			left := 9
			if fate == 1 {
				left = w.IntN(4)
			}
			w.calls(effects, left, func(refused bool) {
				answers, _ := model.Answers(entity, key, name, op.Args)
				op.Result = answers[0]
				if refused {
					op.Result = answers[1]
				}
				if fate > 2 {
					op.Outcome = history.OK
				} else {
					op.Result = nil
				}
				answer()
			})
			return
		case fate > 2:
			op.Outcome = history.OK
		}
		w.apply(op)
		answer()
		if slices.Contains(w.ids[entityKey{entity, key}], op.ID) {
			for _, e := range effects {
				w.at(w.now+e.After+w.upTo(timerSlack/2), func() {
					// A timer is set anew, or taken back, by what comes after.
					if ids := w.ids[entityKey{entity, key}]; ids[len(ids)-1] == op.ID {
						w.effect(e)
					}
				})
			}
		}
	})
}

func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 0)), run: &history.Run{}, states: map[entityKey]model.State{}, ids: map[entityKey][]string{}}
	accounts := []string{"a", "b", "c"}
	load := w.upTo(3 * time.Second)
	for range 1 + w.IntN(12) {
		w.at(w.upTo(load), func() {
			key := accounts[w.IntN(3)]
			switch w.IntN(6) {
			case 0:
				w.send("account", key, "get", "")
			case 1:
				w.send("approval", "p", "submit", fmt.Sprintf(`{"by":"u","deadline_ms":%d}`, 1+w.IntN(1000)))
			case 2:
				w.send("approval", "p", []string{"approve", "reject"}[w.IntN(2)], `{"by":"v"}`)
			case 3:
				w.send("approval", "p", "get", "")
			default:
				to := accounts[w.IntN(3)]
				if to != key {
					w.send("transfer", key, "run", fmt.Sprintf(`{"to":%q,"amount":%d}`, to, 1+w.IntN(700)))
				}
			}
		})
	}
	end := load + w.upTo(10*time.Second)
	for _, k := range []entityKey{{"account", "a"}, {"account", "b"}, {"account", "c"}, {"approval", "p"}} {
		sent := end + w.upTo(10*time.Millisecond)
		w.at(sent+w.upTo(5*time.Millisecond), func() {
			op := history.Op{
				ID: fmt.Sprintf("z%d", len(w.run.Ops)), Phase: history.Audit, Entity: k.entity, Key: k.key, Name: history.WitnessOp,
				Outcome: history.OK, Sent: sent, Returned: w.now + w.upTo(5*time.Millisecond), Attempts: 1, Epoch: 1, Node: "n1",
			}
			witnessReply(&op, slices.Clone(w.ids[k]))
			w.run.Ops = append(w.run.Ops, op)
		})
	}
	for len(w.events) > 0 {
		next := 0
		for i := range w.events {
			if w.events[i].at < w.events[next].at {
				next = i
			}
		}
		e := w.events[next]
		w.events = slices.Delete(w.events, next, next+1)
		w.now = e.at
		e.do()
	}
	w.run.Footer = footer(w.run.Ops)
	return w
}

// forget takes one id out of what the audit of its key answers, and returns
// whether it was there.
func forget(run *history.Run, e model.Effect) bool {
	for i := range run.Ops {
		op := &run.Ops[i]
		if op.Phase != history.Audit || op.Entity != e.Entity || op.Key != e.Key {
			continue
		}
		ids, _ := witnessed(op.Result)
		if n := slices.Index(ids, e.ID); n >= 0 {
			witnessReply(op, slices.Delete(ids, n, n+1))
			return true
		}
	}
	return false
}

// TestCausedOperations: a correct system with actions and timers is never found
// to be wrong, whatever its clients and the audits see of it. If one caused
// operation is taken out of a witness that had it, the run does not pass, unless
// it was under way; and if its parent was acknowledged it is a violation.
func TestCausedOperations(t *testing.T) {
	found := map[string]int{}
	legal := map[Verdict]int{}
	forSeeds(t, 20000, func(t *testing.T, seed uint64) {
		w := newWorld(seed)
		opt := Options{Ack: Durable, Witness: true, PorcupineTime: time.Minute}
		results := Run(w.run, opt)
		legal[Overall(results)]++
		if Overall(results) == Violated {
			t.Fatalf("a legal history:\n%s\n%s%s", dump(w.run), show(results, false), replay(t, seed))
		}
		for i := range w.run.Ops {
			parent := &w.run.Ops[i]
			effects := model.Derived(parent.Entity, parent.Key, parent.Name, parent.Args, parent.ID)
			if len(effects) == 0 || w.IntN(2) == 0 {
				continue
			}
			e := effects[w.IntN(len(effects))]
			if !forget(w.run, e) {
				continue
			}
			results := Run(w.run, opt)
			if e.Required && accepted(parent) && parent.Returned < w.now && Overall(results) == Pass {
				t.Fatalf("without %s:\n%s\n%s%s", e.ID, dump(w.run), show(results, false), replay(t, seed))
			}
			for kind, n := range find(results, "witness").Kinds {
				found[kind] += n
			}
			return
		}
	})
	if *seedFlag == 0 {
		t.Logf("legal: %v, found: %v", legal, found)
		if legal[Pass] < 5000 {
			t.Errorf("only %d legal histories pass: %v", legal[Pass], legal)
		}
		for _, kind := range []string{Lost, HalfApplied, MissedDeadline} {
			if found[kind] < 20 {
				t.Errorf("only %d histories with %s", found[kind], kind)
			}
		}
	}
}
