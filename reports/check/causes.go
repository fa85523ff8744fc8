package check

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
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

// cause says what may have caused an operation. An operation that another one
// may have caused is one of the run of its own, of which there is no record but
// in S: info, or fail if the other certainly caused nothing.
type cause struct {
	index  int           // among all that the parent causes, from 0
	calls  bool          // the parent is an action that is done as a whole
	after  time.Duration // of the parent's timer, 0 if there is none
	doneBy time.Duration // when it is known to have happened, because the parent was acknowledged
	parent []byte        // its record, without its result
	repeat bool          // another operation has that id
}

// Flags of the parent's record in a cause.
const (
	parentAccepted  = 2
	parentSentAgain = 4
)

// addCaused adds what an operation may have caused, to the keys that it belongs
// to.
func (c *Collector) addCaused(parent *history.Op, hash, seq uint64) {
	effects := model.Derived(parent.Entity, parent.Key, parent.Name, parent.Args, parent.ID)
	if len(effects) == 0 {
		return
	}
	outcome, why := history.Info, ""
	switch {
	case parent.Outcome == history.Fail || parent.Outcome == history.Unsent:
		outcome = parent.Outcome
		why = fmt.Sprintf("%s: %s", opName(parent), cmp.Or(parent.Error, string(parent.Outcome)))
	case refusedForGood(parent):
		outcome = history.Fail
		why = fmt.Sprintf("%s was answered with %s", opName(parent), brief(parent.Result))
	}
	short := *parent
	short.Result = nil
	from := c.forms.pack(nil, &short, hash, seq)
	if accepted(parent) {
		from[recFlags] |= parentAccepted
	}
	if sentAgain(parent) {
		from[recFlags] |= parentSentAgain
	}
	for i, e := range effects {
		op := history.Op{
			ID: e.ID, Phase: parent.Phase, Entity: e.Entity, Key: e.Key, Name: e.Name, Args: e.Args,
			Sent: parent.Sent, Returned: parent.Returned, Attempts: 1, Outcome: outcome, Error: why, Version: -1, Node: parent.Node, Via: parent.Via,
		}
		doneBy := never
		if accepted(parent) && e.Required && outcome == history.Info {
			doneBy = parent.Returned
		}
		at := hashKey(e.Entity, e.Key) & c.keyBits
		b := c.forms.pack(nil, &op, at, seq)
		b[recFlags] |= isCaused
		b = binary.AppendUvarint(b, uint64(i))
		calls := uint64(0)
		if effects[0].Required {
			calls = 1
		}
		b = binary.AppendUvarint(b, calls)
		b = binary.AppendVarint(b, int64(e.After))
		b = binary.AppendVarint(b, int64(doneBy))
		b = append(b, from...)
		binary.LittleEndian.PutUint32(b[recLength:], uint32(len(b)))
		copy(c.ops.add(partOf(at), len(b)), b)
		c.putID(e.ID)
	}
}

func unpackCause(b []byte) cause {
	u := unpacker{b}
	c := cause{index: int(u.uint()), calls: u.uint() == 1, after: time.Duration(u.int()), doneBy: time.Duration(u.int())}
	c.parent = u.b
	return c
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
func (k *key) doneBy(i int) time.Duration {
	if i < k.clients {
		return never
	}
	return k.causes[i-k.clients].doneBy
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

// causeFound reports a violation at another key than that of the parent, or at
// that.
func causeFound(f *findings, kind string, at entityKey, ops []string, format string, args ...any) {
	f.violation(Violation{Entity: at.entity, Key: at.key, Kind: kind, Ops: ops, Explanation: fmt.Sprintf(format, args...)})
}

// answers judges the results of the operations on an action, and returns how
// many there are.
func answers(h *keyOps, f *findings) (n int) {
	for _, op := range h.ops[:h.clients] {
		if op.Outcome == history.OK {
			answerOf(h, op, f)
			n++
		}
	}
	return n
}

func answerOf(h *keyOps, op *history.Op, f *findings) {
	answers, err := model.Answers(op.Entity, op.Key, op.Name, op.Args)
	if err != nil {
		f.note(true, h.entityKey, 1, "acknowledged operations that the model of the action refuses")
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
	causeFound(f, WrongResult, h.entityKey, []string{op.ID}, "%s was answered by %s at %s with %s; it may be %s",
		opName(op), who(op), seconds(op.Returned), brief(op.Result), short(want))
}

// fired judges the timers that fired: by what is before it in S, and by the
// time. A timer sends to the entity that set it.
func (k *key) fired(f *findings) {
	for i, c := range k.causes {
		e, pos := k.ops[k.clients+i], k.pos[k.clients+i]
		if c.after == 0 || pos == 0 || e.Outcome != history.Info { // if it is there all the same it is a phantom
			continue
		}
		var told history.Op
		k.c.forms.unpack(c.parent, &told)
		n := k.find(told.ID)
		if n < 0 {
			continue
		}
		parent := k.ops[n]
		if set := k.pos[n]; set == 0 || set > pos {
			causeFound(f, Phantom, k.entityKey, []string{parent.ID, k.audit.ID}, "%s of %s contains %s %s (position %d), but not before it %s, which sets that timer",
				k.theAudit(), k.entityKey, e.Name, e.ID, pos, opName(parent))
			continue
		}
		if by := k.knownBy(pos); k.opt.Ack != Memory && later(by, clockSlack) < later(parent.Sent, c.after) {
			causeFound(f, WrongResult, k.entityKey, []string{parent.ID, k.audit.ID}, "%s was sent at %s and sets a timer of %s, but %s %s (position %d) had happened by %s",
				opName(parent), seconds(parent.Sent), c.after, e.Name, e.ID, pos, seconds(by))
		}
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
func (k *key) overdue(f *findings) {
	if k.end == nil || len(k.ids) == 0 || k.opt.Ack == Memory {
		return
	}
	last := len(k.ids)
	parent := k.applied(last)
	if parent == nil {
		return
	}
	for _, e := range model.Derived(parent.Entity, parent.Key, parent.Name, parent.Args, parent.ID) {
		if n := k.find(e.ID); e.After == 0 || n >= 0 && k.pos[n] > 0 {
			continue
		}
		if _, due, err := k.end.Clone().Apply(e.Name, e.Args, e.ID); err != nil || !due {
			continue
		}
		by := k.knownBy(int32(last))
		switch {
		case late(later(by, e.After), k.calm, auditOf(k.audit)):
			causeFound(f, MissedDeadline, k.entityKey, []string{parent.ID, k.audit.ID}, "%s had happened by %s and set a timer of %s; %s, sent at %s, still does not contain %s %s",
				opName(parent), seconds(by), e.After, k.theAudit(), seconds(k.audit.Sent), e.Name, e.ID)
		case k.audit.Sent > later(later(parent.Returned, e.After), timerSlack):
			f.note(true, k.entityKey, 1, "timers that have not fired, but it is not known since when the system could have let them")
		}
	}
}

// audit is the last word on a key, as far as other keys need it.
type audit struct {
	entityKey
	id             string
	sent, returned time.Duration
	attempts       int
}

func auditOf(op *history.Op) *audit {
	return &audit{entityKey{op.Entity, op.Key}, op.ID, op.Sent, op.Returned, op.Attempts}
}

func (a *audit) String() string { return "the audit at " + seconds(a.returned) }

// late reports whether something that was to happen at due, in a system that
// works, had to be seen by all audits: they were sent later than that by the
// slack, and answered at once, and nothing had gone wrong since calm.
func late(due, calm time.Duration, audits ...*audit) bool {
	for _, a := range audits {
		if a.attempts > 1 || a.returned-a.sent > promptly || a.sent <= later(max(due, calm), timerSlack) {
			return false
		}
	}
	return true
}

// A fact is what the witness of a key says of one call of an action that may be
// in it. Facts wait in a store, by the key of the action, until all witnesses
// have been read.
const (
	factIndex  = 4  // byte: which call
	factFlags  = 5  // byte
	factHash   = 8  // uint64, of the action
	factSeq    = 16 // uint64, of the operation on the action
	factAudit  = 24 // uint32: index into audits
	factPos    = 28 // uint32: position in the witness, 0 if it is not there
	factBy     = 32 // int64: knownBy
	factParent = 40 // record of the operation on the action; only if the call is not in the witness

	factUnread = 1 // there is no witness
	factOpen   = 2 // the call may have had an effect
)

// callFacts stores what the witness of a key says of the calls of actions. k is
// nil if there is none.
func (j *judging) callFacts(h *keyOps, k *key) error {
	number := -1
	for i := range h.causes {
		c := &h.causes[i]
		if !c.calls {
			continue
		}
		op := h.ops[h.clients+i]
		flags := byte(0)
		if op.Outcome == history.Info {
			flags |= factOpen
		}
		var pos int32
		var by time.Duration
		if k == nil {
			flags |= factUnread
		} else {
			pos = k.pos[h.clients+i]
			if pos > 0 {
				by = k.knownBy(pos)
			}
			if number < 0 {
				number = j.addAudit(k.audit)
			}
		}
		n := factParent
		if pos == 0 && flags != 0 { // else the action was refused, and nothing happened
			n += len(c.parent)
		}
		err := j.addFact(hashOf(c.parent), n, func(b []byte) {
			b[factIndex], b[factFlags] = byte(c.index), flags
			binary.LittleEndian.PutUint64(b[factSeq:], seqOf(c.parent))
			binary.LittleEndian.PutUint32(b[factAudit:], uint32(max(number, 0)))
			binary.LittleEndian.PutUint32(b[factPos:], uint32(pos))
			binary.LittleEndian.PutUint64(b[factBy:], uint64(by))
			copy(b[factParent:], c.parent)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (j *judging) addAudit(op *history.Op) int {
	a := auditOf(op)
	a.entityKey, a.id = a.entityKey.clone(), strings.Clone(a.id)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.audits = append(j.audits, a)
	return len(j.audits) - 1
}

func (j *judging) addFact(hash uint64, n int, fill func(b []byte)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := j.facts.add(partOf(hash), n)
	clear(b)
	binary.LittleEndian.PutUint32(b[recLength:], uint32(n))
	binary.LittleEndian.PutUint64(b[factHash:], hash)
	fill(b)
	if j.facts.used > j.c.inMemory/4 {
		return j.facts.spill(&j.c.disk)
	}
	return nil
}

// call is one call of an action, with what the witness of its key says.
type call struct {
	model.Effect
	index int
	pos   uint32
	by    time.Duration // knownBy
	at    *audit
}

// action is an operation on an action of which a call is not in its witness.
type action struct {
	history.Op
	seq                 uint64
	accepted, sentAgain bool
	facts               [][]byte // by call
}

// judgeCalls judges the actions of one part: all calls of an action must take
// effect, or none, and all must have if it is acknowledged.
func (j *judging) judgeCalls(w *auditor, p int) error {
	pieces, err := j.facts.read(p, &j.c.disk, &w.mem.buf)
	if err != nil {
		return err
	}
	incomplete := map[uint64]*action{}
	eachRecord(pieces, func(rec []byte) {
		seq := binary.LittleEndian.Uint64(rec[factSeq:])
		if len(rec) == factParent || incomplete[seq] != nil || j.dropped[which{seq, client}] {
			return
		}
		a := &action{seq: seq}
		parent := rec[factParent:]
		j.c.forms.unpack(parent, &a.Op)
		a.accepted, a.sentAgain = parent[recFlags]&parentAccepted != 0, parent[recFlags]&parentSentAgain != 0
		incomplete[seq] = a
	})
	if len(incomplete) == 0 {
		return nil
	}
	eachRecord(pieces, func(rec []byte) {
		if a := incomplete[binary.LittleEndian.Uint64(rec[factSeq:])]; a != nil {
			a.facts = append(a.facts, rec)
		}
	})
	actions := make([]*action, 0, len(incomplete))
	for _, a := range incomplete {
		actions = append(actions, a)
	}
	slices.SortFunc(actions, func(a, b *action) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Key, b.Key), cmp.Compare(a.seq, b.seq))
	})
	for len(actions) > 0 {
		k := entityKey{actions[0].Entity, actions[0].Key}
		f := &outcome{entityKey: k, check: ofCalls, findings: findings{perKind: listedPerKey}}
		for len(actions) > 0 && actions[0].Entity == k.entity && actions[0].Key == k.key {
			j.together(actions[0], f)
			actions = actions[1:]
		}
		w.keep(f)
	}
	return nil
}

// together judges one action.
func (j *judging) together(a *action, f *outcome) {
	slices.SortFunc(a.facts, func(x, y []byte) int { return cmp.Compare(x[factIndex], y[factIndex]) })
	effects := model.Derived(a.Entity, a.Key, a.Name, a.Args, a.ID)
	var have, miss []*call
	open := false
	for i, fact := range a.facts {
		if fact[factFlags]&factUnread != 0 {
			if a.Outcome == history.OK || a.Outcome == history.Info {
				f.note(true, f.entityKey, 1, "calls of actions to entities that no audit read")
			}
			return
		}
		open = open || fact[factFlags]&factOpen != 0
		c := &call{
			Effect: effects[i], index: i, pos: binary.LittleEndian.Uint32(fact[factPos:]), by: time.Duration(binary.LittleEndian.Uint64(fact[factBy:])),
			at: j.audits[binary.LittleEndian.Uint32(fact[factAudit:])],
		}
		if c.pos > 0 {
			have = append(have, c)
		} else {
			miss = append(miss, c)
		}
	}
	switch {
	case len(miss) == 0, !open: // what is there all the same is a phantom
	case j.opt.Ack == Memory:
		if len(have) > 0 || a.accepted {
			f.note(true, f.entityKey, 1, "actions of which calls are missing, which ack: memory may allow")
		}
	case a.accepted:
		lostCalls(a, miss, f)
	case len(have) > 0:
		j.half(a, have, miss, f)
	}
}

// lostCalls reports calls of an acknowledged action that are not in their
// witnesses. They count as one lost acknowledgement.
func lostCalls(parent *action, miss []*call, f *outcome) {
	counted := false
	for _, e := range miss {
		if parent.Returned >= e.at.sent {
			f.note(true, e.at.entityKey, 1, "acknowledged operations that may have taken effect after the audit")
			continue
		}
		if !counted {
			counted = true
			f.lost = append(f.lost, LostAck{Op: parent.ID, Entity: e.Entity, Key: e.Key, Node: parent.Node, Returned: parent.Returned})
		}
		causeFound(&f.findings, Lost, e.at.entityKey, []string{parent.ID, e.at.id}, "%s was acknowledged by %s at %s; %s of %s does not contain its %s %s",
			opName(&parent.Op), who(&parent.Op), seconds(parent.Returned), e.at, e.at.entityKey, e.Name, e.ID)
	}
}

// open says why it is not known what the action did.
func (a *action) open() string {
	if a.sentAgain {
		return opName(&a.Op) + " was sent again, and rejected"
	}
	return opName(&a.Op) + " was not answered"
}

// half judges an unanswered action of which some calls took effect and others
// did not. The audits of the entities are not of one instant, and what is
// missing may be under way: it is a violation only if a later call was known to
// have happened before the audit of an earlier one was sent, or the audit was
// sent when the timer that takes the action up again had certainly fired.
func (j *judging) half(parent *action, have, miss []*call, f *outcome) {
	expected := false
	for _, m := range miss {
		for _, h := range have {
			switch {
			case h.index > m.index && (h.at.entityKey == m.at.entityKey || m.at.sent > h.by):
				causeFound(&f.findings, HalfApplied, f.entityKey, []string{parent.ID, h.at.id, m.at.id}, "%s; %s of %s contains its %s %s, which had happened by %s, but %s of %s, sent at %s, does not contain the %s %s before it",
					parent.open(), h.at, h.at.entityKey, h.Name, h.ID, seconds(h.by), m.at, m.at.entityKey, seconds(m.at.sent), m.Name, m.ID)
				return
			case h.index < m.index && late(later(h.by, model.ResumeAfter), j.calm, h.at, m.at):
				causeFound(&f.findings, HalfApplied, f.entityKey, []string{parent.ID, h.at.id, m.at.id}, "%s; %s of %s contains its %s %s, which had happened by %s, but %s of %s, sent at %s, still does not contain the %s %s",
					parent.open(), h.at, h.at.entityKey, h.Name, h.ID, seconds(h.by), m.at, m.at.entityKey, seconds(m.at.sent), m.Name, m.ID)
				return
			}
			expected = expected || m.at.sent > later(later(parent.Returned, model.ResumeAfter), timerSlack)
		}
	}
	f.note(expected, f.entityKey, 1, "unanswered actions that the audits saw half-way, and that may have been completed later")
}
