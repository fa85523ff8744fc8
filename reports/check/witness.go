package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"statequake/history"
	"statequake/history/model"
)

// witnessOp is the operation that answers {"ids": [...]}: the ids of all
// operations applied to the entity, in order.
const witnessOp = "witness"

// class says what an operation does by its nature, whatever the state.
type class int

const (
	unmodelled class = iota // no model of the entity, or the model refuses the operation
	reads
	writes // or is rejected
)

// auditor judges every key of a run by what its witness says at the end.
type auditor struct {
	run    *history.Run // with caused operations at the end of Ops
	ix     *index
	opt    Options
	causes *causes

	classes map[entityKey]class // by entity and operation name
	applied map[entityKey]bool  // entity and name of what witnesses hold, for entities without a model
	pos     []int32             // per operation: position in its own key's witness, from 1; 0 if it is not there
	lost    []LostAck
}

// truth is what the final audit of a key says.
type truth struct {
	audit   *history.Op
	ids     []string // S: position i is ids[i-1]
	digests []string // digests[v] is that of ids[:v]
}

func witness(run *history.Run, ix *index, opt Options, c *causes) Result {
	r := Result{Name: "witness"}
	all := findings{perKind: listedInAll}
	w := &auditor{
		run: run, ix: ix, opt: opt, causes: c,
		classes: map[entityKey]class{},
		applied: map[entityKey]bool{},
		pos:     make([]int32, len(run.Ops)),
	}
	switch {
	case !opt.Witness:
		all.addNote(note{blocks: true, text: fmt.Sprintf("there is no witness, and nothing else can judge ack: %s", opt.Ack)})
	case opt.Ack != Durable && opt.Ack != Memory:
		all.addNote(note{blocks: true, text: fmt.Sprintf("ack %q: have %s, %s", opt.Ack, Durable, Memory)})
	default:
		truths := make([]*truth, len(ix.keys))
		for i := range ix.keys {
			if !model.Action(ix.keys[i].entity) {
				truths[i] = w.truth(&ix.keys[i], &all)
			}
		}
		keys := map[entityKey]*key{}
		for i := range ix.keys {
			k := w.newKey(&ix.keys[i], truths[i])
			if k == nil {
				continue
			}
			k.judge()
			r.Keys++
			r.Ops += len(k.replies)
			all.merge(&k.findings)
			keys[k.entityKey] = k
		}
		r.Ops += w.judgeCauses(keys, &all)
		if r.Ops == 0 {
			all.addNote(note{blocks: true, text: "no acknowledged operation could be judged"})
		}
	}
	all.fill(&r)
	slices.SortStableFunc(w.lost, func(a, b LostAck) int { return cmp.Compare(a.Returned, b.Returned) })
	r.LostAcks = w.lost
	return r
}

// truth finds the audit that is the last word on a key and notes where its
// witness has the operations. It returns nil if no audit of the key succeeded.
func (w *auditor) truth(h *keyOps, f *findings) *truth {
	var t *truth
	var audits []*history.Op
	var lastSent, unanswered time.Duration
	acknowledged := 0
	for _, i := range h.ops {
		op := &w.run.Ops[i]
		switch {
		case op.Outcome != history.OK:
			if op.Phase == history.Audit {
				unanswered = max(unanswered, tried(op))
			}
		case op.Phase != history.Audit:
			acknowledged++
		case op.Name == witnessOp:
			audits = append(audits, op)
			lastSent = max(lastSent, op.Sent)
		}
	}
	for _, op := range audits {
		if op.Returned < lastSent {
			continue // a later audit was sent after this one had returned
		}
		ids, err := witnessed(op.Result)
		if err != nil {
			f.note(true, h.entityKey, 1, "audits that answered something other than a witness")
			continue
		}
		// Audits that overlap may differ by an operation that took effect
		// meanwhile; in different epochs the higher one is later.
		if t == nil || w.opt.Ack == Memory && op.Epoch > t.audit.Epoch || len(ids) > len(t.ids) && (w.opt.Ack != Memory || op.Epoch == t.audit.Epoch) {
			t = &truth{audit: op, ids: ids}
		}
	}
	if t == nil {
		if acknowledged > 0 {
			f.note(true, h.entityKey, 0, "acknowledged operations, but no successful audit")
		}
		return nil
	}
	if unanswered > lastSent {
		f.note(true, h.entityKey, 0, "keys that answered an audit, but not a later one")
	}
	t.digests = chain(t.ids)
	_, modelled := model.For(h.entity)
	for i, id := range t.ids {
		n, ok := w.ix.byID[id]
		if !ok {
			continue
		}
		op := &w.run.Ops[n]
		if op.Entity != h.entity || op.Key != h.key {
			continue
		}
		if w.pos[n] == 0 {
			w.pos[n] = int32(i + 1)
		}
		if !modelled {
			w.applied[entityKey{op.Entity, op.Name}] = true
		}
	}
	return t
}

// witnessed reads the ids out of a witness operation's result.
func witnessed(result json.RawMessage) ([]string, error) {
	var answer struct {
		IDs *[]string `json:"ids"`
	}
	if err := json.Unmarshal(result, &answer); err != nil {
		return nil, err
	}
	if answer.IDs == nil {
		return nil, fmt.Errorf("no member \"ids\"")
	}
	return *answer.IDs, nil
}

// chain returns the digest after each prefix of ids, from the empty one on.
func chain(ids []string) []string {
	digests := make([]string, len(ids)+1)
	digests[0] = history.ZeroDigest
	for i, id := range ids {
		digests[i+1] = history.NextDigest(digests[i], id)
	}
	return digests
}

// class looks up what an operation is by asking the model once per entity type
// and name. A write reports on any state that it wrote or was rejected.
func (w *auditor) class(op *history.Op) class {
	if op.Name == witnessOp {
		return reads
	}
	name := entityKey{op.Entity, op.Name}
	if c, ok := w.classes[name]; ok {
		return c
	}
	state, ok := model.For(op.Entity)
	if !ok {
		w.classes[name] = unmodelled
		return unmodelled
	}
	result, wrote, err := state.Apply(op.Name, op.Args, op.ID)
	switch {
	case err != nil:
		return unmodelled // these arguments; others of the same name may be fine
	case wrote || rejected(result):
		w.classes[name] = writes
	default:
		w.classes[name] = reads
	}
	return w.classes[name]
}

// key judges one entity.
type key struct {
	*auditor
	*keyOps
	truth
	findings
	replies []reply
	at      []*reply        // by position in S: the reply to the operation there, if it is ok
	end     model.State     // after all of S, nil if it is not known
	known   []time.Duration // by position in S: see knownBy
}

// reply is an acknowledged operation.
type reply struct {
	op       *history.Op
	pos      int  // position in S, 0 if it is not there
	write    bool // was acknowledged as a write, or is in S
	rejected bool
	told     bool // version and digest are known
	same     bool // told, and S has that digest at that version
}

// gone reports whether r is a write that S should have.
func (r *reply) gone() bool { return r.write && r.pos == 0 }

// takenBack reports whether r showed a state that is not a prefix of S.
func (r *reply) takenBack() bool { return r.told && !r.same }

// newKey returns nil if there is nothing to judge a key by.
func (w *auditor) newKey(h *keyOps, t *truth) *key {
	if t == nil {
		return nil
	}
	k := &key{auditor: w, keyOps: h, truth: *t, findings: findings{perKind: listedPerKey}}
	_, modelled := model.For(h.entity)
	if !modelled {
		k.note(false, entityKey{h.entity, "*"}, 0, "no model of the entity type: results were not judged")
	}
	k.replies = make([]reply, 0, len(h.ops))
	k.at = make([]*reply, len(t.ids)+1)
	for _, i := range h.ops {
		op := &w.run.Ops[i]
		if op.Outcome != history.OK {
			continue
		}
		r := reply{op: op, pos: int(w.pos[i]), rejected: rejected(op.Result)}
		if sentAgain(op) {
			r.pos = 0
		}
		r.told = op.Version >= 0 && op.Digest != ""
		r.same = r.told && op.Version < int64(len(t.digests)) && t.digests[op.Version] == op.Digest
		if !r.told {
			k.note(true, h.entityKey, 1, "acknowledged operations without a version or digest, so that it cannot be known whether they were taken back")
		}
		if op.Name == witnessOp && !k.ownWitness(&r) {
			continue
		}
		class := w.class(op)
		switch {
		case r.pos > 0:
			r.write = true
			if r.told && op.Version > 0 && op.Version <= int64(len(t.ids)) && t.ids[op.Version-1] == op.ID {
				r.pos = int(op.Version) // one of several, if it is duplicated
			}
		case r.rejected || class == reads:
		case class == writes:
			r.write = true
		case modelled:
			k.note(true, h.entityKey, 1, "acknowledged operations that the model of the entity type refuses")
			continue
		case r.told:
			// Without a model only the digest tells a write that vanished from
			// an operation that had nothing to do.
			r.write = !r.same && w.applied[entityKey{op.Entity, op.Name}]
		}
		if op.Phase != history.Audit && op.Returned >= t.audit.Sent && (r.gone() || r.takenBack()) {
			k.note(true, h.entityKey, 1, "acknowledged operations that may have taken effect after the audit")
			continue
		}
		k.replies = append(k.replies, r)
		if r.pos > 0 {
			k.at[r.pos] = &k.replies[len(k.replies)-1]
		}
	}
	return k
}

// sentAgain reports whether op was rejected, yet may have taken effect: it was
// sent more than once, and one copy may be accepted after another was rejected.
// Its reply is judged like that of any rejection, its effect like that of an
// operation whose outcome is unknown.
func sentAgain(op *history.Op) bool {
	return op.Outcome == history.OK && op.Attempts > 1 && rejected(op.Result)
}

// ownWitness judges the answer of a witness operation by itself: version and
// digest must be those of the ids. It reports whether r can be judged further.
func (k *key) ownWitness(r *reply) bool {
	ids, err := witnessed(r.op.Result)
	if err != nil {
		k.note(true, k.entityKey, 1, "witness operations that answered something other than a witness")
		return false
	}
	if !r.told {
		return false
	}
	digests := k.digests
	if r.op != k.audit {
		digests = chain(ids)
	}
	if last := digests[len(ids)]; r.op.Version != int64(len(ids)) || r.op.Digest != last {
		k.found(WrongResult, fmt.Sprintf("%s with %s, but the %d ids in it have digest %s",
			k.answered(r.op), told(r.op), len(ids), last), r.op)
		return false
	}
	return true
}

func (k *key) judge() {
	k.membership()
	if k.opt.Ack == Memory {
		k.memory()
	} else {
		k.durable()
	}
}

// found reports a violation shown by ops.
func (k *key) found(kind, explanation string, ops ...*history.Op) {
	v := Violation{Entity: k.entity, Key: k.key, Kind: kind, Explanation: explanation}
	for _, op := range ops {
		v.Ops = append(v.Ops, op.ID)
	}
	k.violation(v)
}

// membership judges that S holds nothing twice and nothing that was not
// invoked, or failed.
func (k *key) membership() {
	seen := make(map[string]int, len(k.ids))
	for i, id := range k.ids {
		pos := i + 1
		if first, ok := seen[id]; ok {
			k.violation(Violation{
				Entity: k.entity, Key: k.key, Kind: Duplicated, Ops: []string{id, k.audit.ID},
				Explanation: fmt.Sprintf("%s was applied twice: %s has it at positions %d and %d", k.describe(id), k.theAudit(), first, pos),
			})
			continue
		}
		seen[id] = pos
		why := ""
		n, known := k.ix.byID[id]
		switch {
		case !known && k.run.Footer == nil:
			continue // it may have been in flight when recording was cut short
		case !known:
			why = "was never sent"
		case k.run.Ops[n].Entity != k.entity || k.run.Ops[n].Key != k.key:
			why = fmt.Sprintf("was sent to %s/%s", k.run.Ops[n].Entity, k.run.Ops[n].Key)
		case k.run.Ops[n].Outcome == history.Fail:
			why = fmt.Sprintf("certainly had no effect (%s)", short(cmp.Or(k.run.Ops[n].Error, "fail")))
		case k.run.Ops[n].Outcome == history.Unsent:
			why = "never left the generator"
		default:
			continue
		}
		k.violation(Violation{
			Entity: k.entity, Key: k.key, Kind: Phantom, Ops: []string{id, k.audit.ID},
			Explanation: fmt.Sprintf("%s %s, but %s has it at position %d", k.describe(id), why, k.theAudit(), pos),
		})
	}
}

// durable judges by the contract that nothing acknowledged is ever taken back.
func (k *key) durable() {
	var back []*history.Op // replies that were taken back, lost writes apart
	lost := false
	for i := range k.replies {
		switch r := &k.replies[i]; {
		case r.gone():
			lost = true
			k.lostAck(r, false)
			k.found(Lost, fmt.Sprintf("%s; %s does not contain it", k.acknowledged(r.op), k.theAudit()), r.op, k.audit)
		case r.takenBack():
			back = append(back, r.op)
		}
	}
	k.takenBack(back, lost)
	k.results()
	k.order()
}

// takenBack reports replies whose state was taken back: as one finding if
// acknowledged writes vanished, which explains them all, else one by one.
func (k *key) takenBack(back []*history.Op, lost bool) {
	if lost && len(back) > 0 {
		first := back[0]
		more := ""
		if n := len(back) - 1; n > 0 {
			more = fmt.Sprintf(" (the first such reply, %d more follow)", n)
		}
		k.found(Lost, fmt.Sprintf("%s with %s, a state that was lost%s; %s",
			k.answered(first), told(first), more, k.atVersion(first)), append(slices.Clip(back[:min(3, len(back))]), k.audit)...)
		return
	}
	for _, op := range back {
		k.found(DirtyRead, fmt.Sprintf("%s with %s, which was taken back: %s", k.answered(op), told(op), k.atVersion(op)), op, k.audit)
	}
}

func (k *key) lostAck(r *reply, legal bool) {
	k.lost = append(k.lost, LostAck{Op: r.op.ID, Entity: k.entity, Key: k.key, Node: r.op.Node, Returned: r.op.Returned, Legal: legal})
}
