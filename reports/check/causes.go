package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"statequake/history"
	"statequake/history/model"
)

const (
	// timerSlack is how late a timer may fire while nothing is wrong.
	timerSlack = 2 * time.Second
	// clockSlack is how early a timer may fire by the harness's clock, since it
	// is set by one node's clock and may fire by another's.
	clockSlack = 100 * time.Millisecond
	// promptly is how fast an audit is answered by a system that works.
	promptly = time.Second
)

// caused is an operation that an operation of a client may have caused. It is
// an operation of the run of its own, of which there is no record but in S.
type caused struct {
	model.Effect
	parent int32 // index into Run.Ops
	op     int32 // its own index
	doneBy time.Duration
}

// causes are all caused operations of a run.
type causes struct {
	first int32 // index into Run.Ops of the first of them
	all   []caused
	of    map[int32][]caused // by parent
	keys  map[entityKey]bool // where they may be
	calm  time.Duration      // the last instant at which something is known to have gone wrong
}

// expand returns run with everything that its operations may have caused at the
// end of Ops: info, or fail if the parent certainly caused nothing. It does not
// change run.
func expand(run *history.Run) (*history.Run, *causes) {
	c := &causes{first: int32(len(run.Ops)), of: map[int32][]caused{}, keys: map[entityKey]bool{}, calm: always}
	ops := slices.Clip(run.Ops) // copied when the first is added
	for i := range run.Ops {
		parent := &run.Ops[i]
		if parent.Phase != history.Audit && parent.Outcome != history.OK {
			c.calm = max(c.calm, parent.Returned)
		}
		effects := model.Derived(parent.Entity, parent.Key, parent.Name, parent.Args, parent.ID)
		for _, e := range effects {
			op := history.Op{
				ID: e.ID, N: parent.N, Phase: parent.Phase, Entity: e.Entity, Key: e.Key, Name: e.Name, Args: e.Args,
				Sent: parent.Sent, Returned: parent.Returned, Attempts: 1, Outcome: history.Info, Version: -1, Node: parent.Node, Via: parent.Via,
			}
			doneBy := never
			switch {
			case parent.Outcome == history.Fail || parent.Outcome == history.Unsent:
				op.Outcome = parent.Outcome
				op.Error = fmt.Sprintf("%s: %s", opName(parent), cmp.Or(parent.Error, string(parent.Outcome)))
			case refusedForGood(parent):
				op.Outcome = history.Fail
				op.Error = fmt.Sprintf("%s was answered with %s", opName(parent), brief(parent.Result))
			case accepted(parent) && e.Required:
				doneBy = parent.Returned
			}
			c.all = append(c.all, caused{Effect: e, parent: int32(i), op: int32(len(ops)), doneBy: doneBy})
			c.keys[entityKey{e.Entity, e.Key}] = true
			ops = append(ops, op)
		}
		if len(effects) > 0 {
			c.of[int32(i)] = c.all[len(c.all)-len(effects):]
		}
	}
	for _, f := range run.Faults {
		c.calm = max(c.calm, f.At)
	}
	whole := *run
	whole.Ops = ops
	return &whole, c
}

// accepted reports whether op was acknowledged and not rejected.
func accepted(op *history.Op) bool {
	return op.Outcome == history.OK && !rejected(op.Result)
}

// refusedForGood reports whether op was rejected and certainly has no effect.
func refusedForGood(op *history.Op) bool {
	return op.Outcome == history.OK && rejected(op.Result) && !sentAgain(op)
}

// doneBy is when operation i of unknown outcome is known to have happened,
// because what caused it was acknowledged.
func (k *key) doneBy(i int32) time.Duration {
	if i < k.causes.first {
		return never
	}
	return k.causes.all[i-k.causes.first].doneBy
}

// knownBy is the first instant at which somebody had seen position pos of S:
// an answer with that or a later state had returned.
func (k *key) knownBy(pos int32) time.Duration {
	if k.known == nil {
		k.known = make([]time.Duration, len(k.ids)+1)
		for i := range k.known {
			k.known[i] = k.audit.Returned
		}
		for _, o := range k.observations() {
			if o.pos < int64(len(k.known)) {
				k.known[o.pos] = min(k.known[o.pos], o.returned)
			}
		}
		for i := len(k.known) - 2; i >= 0; i-- {
			k.known[i] = min(k.known[i], k.known[i+1])
		}
	}
	return k.known[pos]
}

// judgeCauses judges actions by their answers, and everything that was caused
// by whether it is in the witness that it belongs to. It returns how many
// operations on actions it judged.
func (w *auditor) judgeCauses(keys map[entityKey]*key, all *findings) (ops int) {
	for i := range w.ix.keys {
		h := &w.ix.keys[i]
		if len(w.causes.all) == 0 && !model.Action(h.entity) {
			continue
		}
		c := &causeKey{auditor: w, h: h, keys: keys, findings: findings{perKind: listedPerKey}}
		for _, n := range h.ops {
			op := &w.run.Ops[n]
			if model.Action(h.entity) && op.Outcome == history.OK {
				c.answer(op)
				ops++
			}
			for _, e := range w.causes.of[n] {
				if e.After > 0 {
					c.fired(op, &e)
				}
			}
			if of := w.causes.of[n]; len(of) > 0 && of[0].Required {
				c.together(op, of)
			}
		}
		if k := keys[h.entityKey]; k != nil {
			c.overdue(k)
		}
		all.merge(&c.findings)
	}
	return ops
}

// causeKey judges what was caused by the operations on one entity or action.
type causeKey struct {
	*auditor
	h    *keyOps
	keys map[entityKey]*key
	findings
}

func (c *causeKey) found(kind string, at entityKey, ops []string, format string, args ...any) {
	c.violation(Violation{Entity: at.entity, Key: at.key, Kind: kind, Ops: ops, Explanation: fmt.Sprintf(format, args...)})
}

// answer judges the result of an operation on an action.
func (c *causeKey) answer(op *history.Op) {
	answers, err := model.Answers(op.Entity, op.Key, op.Name, op.Args)
	if err != nil {
		c.note(true, c.h.entityKey, 1, "acknowledged operations that the model of the action refuses")
		return
	}
	var want string
	for _, a := range answers {
		if sameJSON(a, op.Result) {
			return
		}
		if want != "" {
			want += " or "
		}
		want += string(a)
	}
	c.found(WrongResult, c.h.entityKey, []string{op.ID}, "%s was answered by %s at %s with %s; it may be %s",
		opName(op), who(op), seconds(op.Returned), brief(op.Result), short(want))
}

// place finds the key that e belongs to, nil if it is not judged, and its
// position in the witness there, 0 if it has none.
func (c *causeKey) place(e *caused) (*key, int32) {
	return c.keys[entityKey{e.Entity, e.Key}], c.pos[e.op]
}

// fired judges a timer that fired: by what is before it in S, and by the time.
func (c *causeKey) fired(parent *history.Op, e *caused) {
	k, pos := c.place(e)
	if k == nil || pos == 0 || c.run.Ops[e.op].Outcome != history.Info { // if it is there all the same it is a phantom
		return
	}
	if set := c.pos[c.ix.byID[parent.ID]]; set == 0 || set > pos {
		c.found(Phantom, k.entityKey, []string{parent.ID, k.audit.ID}, "%s of %s contains %s %s (position %d), but not before it %s, which sets that timer",
			k.theAudit(), k.entityKey, e.Name, e.ID, pos, opName(parent))
		return
	}
	if by := k.knownBy(pos); c.opt.Ack != Memory && later(by, clockSlack) < later(parent.Sent, e.After) {
		c.found(WrongResult, k.entityKey, []string{parent.ID, k.audit.ID}, "%s was sent at %s and sets a timer of %s, but %s %s (position %d) had happened by %s",
			opName(parent), seconds(parent.Sent), e.After, e.Name, e.ID, pos, seconds(by))
	}
}

// later is t + d, or never.
func later(t, d time.Duration) time.Duration {
	if t > never-d {
		return never
	}
	return t + d
}

// overdue finds a timer that should have fired: the last one that was set is
// not in S, although it would change the state that S leads to.
func (c *causeKey) overdue(k *key) {
	if k.end == nil || len(k.ids) == 0 || c.opt.Ack == Memory {
		return
	}
	last := len(k.ids)
	n, ok := c.ix.byID[k.ids[last-1]]
	if !ok {
		return
	}
	parent := &c.run.Ops[n]
	for _, e := range c.causes.of[n] {
		if e.After == 0 || c.pos[e.op] > 0 {
			continue
		}
		if _, due, err := k.end.Clone().Apply(e.Name, e.Args, e.ID); err != nil || !due {
			continue
		}
		by := k.knownBy(int32(last))
		switch {
		case c.late(later(by, e.After), k.audit):
			c.found(MissedDeadline, k.entityKey, []string{parent.ID, k.audit.ID}, "%s had happened by %s and set a timer of %s; %s, sent at %s, still does not contain %s %s",
				opName(parent), seconds(by), e.After, k.theAudit(), seconds(k.audit.Sent), e.Name, e.ID)
		case k.audit.Sent > later(later(parent.Returned, e.After), timerSlack):
			c.note(true, k.entityKey, 1, "timers that have not fired, but it is not known since when the system could have let them")
		}
	}
}

// late reports whether something that was to happen at due, in a system that
// works, had to be seen by all audits: they were sent later than that by the
// slack, and answered at once, and nothing had gone wrong since.
func (c *causeKey) late(due time.Duration, audits ...*history.Op) bool {
	for _, a := range audits {
		if a.Attempts > 1 || a.Returned-a.Sent > promptly || a.Sent <= later(max(due, c.causes.calm), timerSlack) {
			return false
		}
	}
	return true
}

// together judges the calls of an action, of which all or none must take
// effect, and all must have if it is acknowledged.
func (c *causeKey) together(parent *history.Op, of []caused) {
	var have, miss []*caused
	for i := range of {
		e := &of[i]
		k, pos := c.place(e)
		switch {
		case k == nil:
			if parent.Outcome == history.OK || parent.Outcome == history.Info {
				c.note(true, c.h.entityKey, 1, "calls of actions to entities that no audit read")
			}
			return
		case pos > 0:
			have = append(have, e)
		default:
			miss = append(miss, e)
		}
	}
	switch {
	case len(miss) == 0, c.run.Ops[of[0].op].Outcome != history.Info: // what is there all the same is a phantom
	case c.opt.Ack == Memory:
		if len(have) > 0 || accepted(parent) {
			c.note(true, c.h.entityKey, 1, "actions of which calls are missing, which ack: memory may allow")
		}
	case accepted(parent):
		c.lostCalls(parent, miss)
	case len(have) > 0:
		c.half(parent, have, miss)
	}
}

// lostCalls reports calls of an acknowledged action that are not in their
// witnesses. They count as one lost acknowledgement.
func (c *causeKey) lostCalls(parent *history.Op, miss []*caused) {
	counted := false
	for _, e := range miss {
		k, _ := c.place(e)
		if parent.Returned >= k.audit.Sent {
			c.note(true, k.entityKey, 1, "acknowledged operations that may have taken effect after the audit")
			continue
		}
		if !counted {
			counted = true
			c.lost = append(c.lost, LostAck{Op: parent.ID, Entity: e.Entity, Key: e.Key, Node: parent.Node, Returned: parent.Returned})
		}
		c.found(Lost, k.entityKey, []string{parent.ID, k.audit.ID}, "%s was acknowledged by %s at %s; %s of %s does not contain its %s %s",
			opName(parent), who(parent), seconds(parent.Returned), k.theAudit(), k.entityKey, e.Name, e.ID)
	}
}

// open says why it is not known what op caused.
func open(op *history.Op) string {
	if op.Outcome == history.OK {
		return opName(op) + " was sent again, and rejected"
	}
	return opName(op) + " was not answered"
}

// half judges an unanswered action of which some calls took effect and others
// did not. The audits of the entities are not of one instant, and what is
// missing may be under way: it is a violation only if a later call was known to
// have happened before the audit of an earlier one was sent, or the audit was
// sent when the timer that takes the action up again had certainly fired.
func (c *causeKey) half(parent *history.Op, have, miss []*caused) {
	expected := false
	for _, m := range miss {
		at, _ := c.place(m)
		for _, h := range have {
			k, pos := c.place(h)
			by := k.knownBy(pos)
			switch {
			case h.op > m.op && (k == at || at.audit.Sent > by):
				c.found(HalfApplied, c.h.entityKey, []string{parent.ID, k.audit.ID, at.audit.ID}, "%s; %s of %s contains its %s %s, which had happened by %s, but %s of %s, sent at %s, does not contain the %s %s before it",
					open(parent), k.theAudit(), k.entityKey, h.Name, h.ID, seconds(by), at.theAudit(), at.entityKey, seconds(at.audit.Sent), m.Name, m.ID)
				return
			case h.op < m.op && c.late(later(by, model.ResumeAfter), k.audit, at.audit):
				c.found(HalfApplied, c.h.entityKey, []string{parent.ID, k.audit.ID, at.audit.ID}, "%s; %s of %s contains its %s %s, which had happened by %s, but %s of %s, sent at %s, still does not contain the %s %s",
					open(parent), k.theAudit(), k.entityKey, h.Name, h.ID, seconds(by), at.theAudit(), at.entityKey, seconds(at.audit.Sent), m.Name, m.ID)
				return
			}
			expected = expected || at.audit.Sent > later(later(parent.Returned, model.ResumeAfter), timerSlack)
		}
	}
	c.note(expected, c.h.entityKey, 1, "unanswered actions that the audits saw half-way, and that may have been completed later")
}
