package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"statequake/history"
	"statequake/history/model"
	"statequake/reports/check/counter"
)

// class says what an operation does by its nature, whatever the state.
type class int

const (
	unmodelled class = iota // no model of the entity, or the model refuses the operation
	reads
	writes // or is rejected
)

// auditor is a worker that judges keys.
type auditor struct {
	*judging
	tally
	outcomes []*outcome
	classes  []classOf
	mem      scratch
}

// scratch is memory that the next key uses again: what outlives a key is copied
// by keep.
type scratch struct {
	buf      []byte // a part from disk
	touched  int    // keeps touch from being left out
	table    []slot
	recs     [][]byte
	byKey    [][]byte
	group    []int32
	ops      []history.Op
	pointers []*history.Op
	causes   []cause
	raw      [][]byte // the records of what clients sent to the key

	counted []counter.Op
	told    []*history.Op

	ids     []string
	digests []byte
	pos     []int32
	loc     []int32
	replies []reply
	at      []*reply
	obs     []observation
	seen    []seenBy
	first   []int32
	next    []int32
	epoch   []int32
	byEpoch []*reply
}

// classOf is the class of one operation of an entity type.
type classOf struct {
	entity, name string
	class        class
}

// truth is what the final audit of a key says.
type truth struct {
	audit   *history.Op
	ids     []string // S: position i is ids[i-1]
	digests []byte   // the digest of each prefix of ids, see digest
}

const digestSize = len(history.ZeroDigest)

// digest is that of ids[:v].
func (t *truth) digest(v int64) []byte {
	return t.digests[v*int64(digestSize) : (v+1)*int64(digestSize)]
}

// has reports whether digest is that of ids[:v].
func (t *truth) has(v int64, digest string) bool {
	return v <= int64(len(t.ids)) && string(t.digest(v)) == digest
}

// newKey finds the audit that is the last word on a key, and where its witness
// has the operations. It returns nil if no audit of the key succeeded, and notes
// in f why.
func (w *auditor) newKey(h *keyOps, f *findings) *key {
	k := &key{auditor: w, keyOps: h, findings: findings{perKind: listedPerKey}}
	var lastSent, unanswered time.Duration
	acknowledged, audits := 0, 0
	for _, op := range h.sent() {
		switch {
		case op.Outcome != history.OK:
			if op.Phase == history.Audit {
				unanswered = max(unanswered, tried(op))
			}
		case op.Phase != history.Audit:
			acknowledged++
		case op.Name == history.WitnessOp:
			audits++
			lastSent = max(lastSent, op.Sent)
		}
	}
	for _, op := range h.sent() {
		if audits == 0 {
			break
		}
		if op.Outcome != history.OK || op.Phase != history.Audit || op.Name != history.WitnessOp {
			continue
		}
		audits--
		if op.Returned < lastSent {
			continue // a later audit was sent after this one had returned
		}
		ids, err := appendWitnessed(w.mem.ids[:0], op.Result)
		if err != nil {
			f.note(true, h.entityKey, 1, "audits that answered something other than a witness")
			continue
		}
		// Audits that overlap may differ by an operation that took effect
		// meanwhile; in different epochs the higher one is later.
		if k.audit == nil || w.opt.Ack == Memory && op.Epoch > k.audit.Epoch || len(ids) > len(k.ids) && (w.opt.Ack != Memory || op.Epoch == k.audit.Epoch) {
			w.mem.ids, k.audit, k.ids = k.ids, op, ids // the slice that is free is used for the next
		}
	}
	if k.audit == nil {
		if acknowledged > 0 {
			f.note(true, h.entityKey, 0, "acknowledged operations, but no successful audit")
		}
		return nil
	}
	if unanswered > lastSent {
		f.note(true, h.entityKey, 0, "keys that answered an audit, but not a later one")
	}
	w.mem.digests = appendChain(w.mem.digests[:0], k.ids)
	k.digests = w.mem.digests
	k.locate()
	return k
}

// locate finds the operations that S holds.
func (k *key) locate() {
	w := k.auditor
	byID := newTable(&w.mem.table, len(k.ops))
	k.byID = byID
	for i, op := range k.ops {
		if i >= k.clients && k.causes[i-k.clients].repeat {
			continue
		}
		hash := hashText(op.ID)
		s := k.slot(hash, op.ID)
		s.hash, s.number = hash, int32(i+1)
	}
	w.mem.pos = resize(w.mem.pos, len(k.ops))
	w.mem.loc = resize(w.mem.loc, len(k.ids))
	k.pos, k.loc = w.mem.pos, w.mem.loc
	for i, id := range k.ids {
		n := k.find(id)
		k.loc[i] = int32(n)
		if n >= 0 && k.pos[n] == 0 {
			k.pos[n] = int32(i + 1)
		}
	}
}

// slot is where the operation id is in byID, or where it would be.
func (k *key) slot(hash uint64, id string) *slot {
	t := k.byID
	for i := hash & t.mask; ; i = (i + 1) & t.mask {
		if s := &t.slots[i]; s.number == 0 || s.hash == hash && k.ops[s.number-1].ID == id {
			return s
		}
	}
}

// find returns the index into ops of the operation id, -1 if it is not of this
// key.
func (k *key) find(id string) int { return int(k.slot(hashText(id), id).number) - 1 }

// applied is the operation at a position of S, from 1, which may be of another
// key; nil if there is none of that id.
func (k *key) applied(pos int) *history.Op {
	if n := k.loc[pos-1]; n >= 0 {
		return k.ops[n]
	}
	if op, ok := k.elsewhere[k.ids[pos-1]]; ok {
		return &op
	}
	return nil
}

// wait reports whether the key cannot be judged before all others have been
// looked at, and says what is to be found out.
func (k *key) wait() bool {
	if k.elsewhere != nil {
		return false
	}
	_, modelled := model.For(k.entity)
	if modelled && !slices.Contains(k.loc, -1) {
		return false
	}
	j := k.judging
	j.mu.Lock()
	defer j.mu.Unlock()
	j.deferred[k.entityKey.clone()] = true
	for i, n := range k.loc {
		switch {
		case n < 0:
			j.wanted[hashText(k.ids[i])] = true
		case !modelled:
			if name := (entityKey{k.entity, k.ops[n].Name}); !j.inWitness[name] {
				j.inWitness[name.clone()] = true
			}
		}
	}
	return true
}

// witnessed reads the ids out of a witness operation's result.
func witnessed(result json.RawMessage) ([]string, error) { return appendWitnessed(nil, result) }

// appendWitnessed is witnessed, in the memory of ids, which is empty. What it
// returns shares memory with result.
func appendWitnessed(ids []string, result json.RawMessage) ([]string, error) {
	if plain, ok := plainWitness(ids, result); ok {
		return plain, nil
	}
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

// plainWitness reads what has no space and no escape in it.
func plainWitness(ids []string, b []byte) ([]string, bool) {
	const open, end = `{"ids":[`, `]}`
	if len(b) < len(open)+len(end) || string(b[:len(open)]) != open || string(b[len(b)-len(end):]) != end {
		return nil, false
	}
	b = b[len(open) : len(b)-len(end)]
	for more := len(b) > 0; more; {
		if b[0] != '"' {
			return nil, false
		}
		n := 1
		for n < len(b) && b[n] >= ' ' && b[n] < utf8.RuneSelf && b[n] != '"' && b[n] != '\\' {
			n++
		}
		if n == len(b) || b[n] != '"' {
			return nil, false
		}
		ids = append(ids, asString(b[1:n]))
		b = b[n+1:]
		if more = len(b) > 0; more {
			if b[0] != ',' || len(b) == 1 {
				return nil, false
			}
			b = b[1:]
		}
	}
	return ids, true
}

// appendChain appends the digest after each prefix of ids, from the empty one
// on, to dst, which is empty.
func appendChain(dst []byte, ids []string) []byte {
	dst = append(dst, history.ZeroDigest...)
	for _, id := range ids {
		dst = history.AppendNextDigest(dst, dst[len(dst)-digestSize:], id)
	}
	return dst
}

// class looks up what an operation is by asking the model once per entity type
// and name. A write reports on any state that it wrote or was rejected.
func (w *auditor) class(op *history.Op) class {
	if op.Name == history.WitnessOp {
		return reads
	}
	for i := range w.classes {
		if c := &w.classes[i]; c.name == op.Name && c.entity == op.Entity {
			return c.class
		}
	}
	c, err := classify(op)
	if err != nil {
		return unmodelled // these arguments; others of the same name may be fine
	}
	if len(w.classes) < maxClasses {
		w.classes = append(w.classes, classOf{strings.Clone(op.Entity), strings.Clone(op.Name), c})
	}
	return c
}

// classify asks the model, on an empty state. An error is the model's, of an
// operation that it refuses.
func classify(op *history.Op) (class, error) {
	state, ok := model.For(op.Entity)
	if !ok {
		return unmodelled, nil
	}
	result, wrote, err := state.Apply(op.Name, op.Args, op.ID)
	switch {
	case err != nil:
		return unmodelled, err
	case wrote || rejected(result):
		return writes, nil
	}
	return reads, nil
}

// maxClasses bounds the classes that are remembered: the workloads have about
// twenty operations in all.
const maxClasses = 64

// key judges one entity.
type key struct {
	*auditor
	*keyOps
	truth
	findings
	byID    *table
	pos     []int32 // by operation: position in S, from 1; 0 if it is not there
	loc     []int32 // by position in S, from 0: the operation, -1 if it is not of this key
	lost    []LostAck
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
	told     bool  // version and digest are known
	same     bool  // told, and S has that digest at that version
	class    class // by its nature, unless it is in S
}

// gone reports whether r is a write that S should have.
func (r *reply) gone() bool { return r.write && r.pos == 0 }

// takenBack reports whether r showed a state that is not a prefix of S.
func (r *reply) takenBack() bool { return r.told && !r.same }

// take sorts out what the key answered.
func (k *key) take() {
	w, h := k.auditor, k.keyOps
	_, modelled := model.For(h.entity)
	if !modelled {
		k.note(false, entityKey{h.entity, "*"}, 0, "no model of the entity type: results were not judged")
	}
	if cap(w.mem.replies) < h.clients {
		w.mem.replies = make([]reply, 0, h.clients+h.clients/2)
	}
	w.mem.at = resize(w.mem.at, len(k.ids)+1)
	k.replies, k.at = w.mem.replies[:0], w.mem.at
	for i, op := range h.sent() {
		if op.Outcome != history.OK {
			continue
		}
		r := reply{op: op, pos: int(k.pos[i]), rejected: rejected(op.Result)}
		if sentAgain(op) {
			r.pos = 0
		}
		r.told = op.Version >= 0 && op.Digest != ""
		r.same = r.told && k.has(op.Version, op.Digest)
		if !r.told {
			k.note(true, h.entityKey, 1, "acknowledged operations without a version or digest, so that it cannot be known whether they were taken back")
		}
		if op.Name == history.WitnessOp && !k.ownWitness(&r) {
			continue
		}
		if r.pos == 0 { // what is in S was a write
			r.class = w.class(op)
		}
		switch {
		case r.pos > 0:
			r.write = true
			if r.told && op.Version > 0 && op.Version <= int64(len(k.ids)) && k.ids[op.Version-1] == op.ID {
				r.pos = int(op.Version) // one of several, if it is duplicated
			}
		case r.rejected || r.class == reads:
		case r.class == writes:
			r.write = true
		case modelled:
			k.note(true, h.entityKey, 1, "acknowledged operations that the model of the entity type refuses")
			continue
		case r.told:
			// Without a model only the digest tells a write that vanished from
			// an operation that had nothing to do.
			r.write = !r.same && w.inWitness[entityKey{op.Entity, op.Name}]
		}
		if op.Phase != history.Audit && op.Returned >= k.audit.Sent && (r.gone() || r.takenBack()) {
			k.note(true, h.entityKey, 1, "acknowledged operations that may have taken effect after the audit")
			continue
		}
		k.replies = append(k.replies, r)
		if r.pos > 0 {
			k.at[r.pos] = &k.replies[len(k.replies)-1]
		}
	}
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
	ids, err := k.ids, error(nil)
	if r.op != k.audit {
		ids, err = witnessed(r.op.Result)
	}
	if err != nil {
		k.note(true, k.entityKey, 1, "witness operations that answered something other than a witness")
		return false
	}
	if !r.told {
		return false
	}
	last := k.digest(int64(len(k.ids)))
	if r.op != k.audit && !slices.Equal(ids, k.ids) {
		all := appendChain(nil, ids)
		last = all[len(all)-digestSize:]
	}
	if r.op.Version != int64(len(ids)) || r.op.Digest != string(last) {
		k.found(WrongResult, fmt.Sprintf("%s with %s, but the %d ids in it have digest %s",
			k.answered(r.op), told(r.op), len(ids), last), r.op)
		return false
	}
	return true
}

func (k *key) judge() {
	k.take()
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
	var strangers map[string]int // first positions of ids that are not of this key
	for i, id := range k.ids {
		pos := i + 1
		first := 0
		if n := k.loc[i]; n >= 0 {
			first = int(k.pos[n])
		} else if first = strangers[id]; first == 0 {
			if strangers == nil {
				strangers = map[string]int{}
			}
			strangers[id], first = pos, pos
		}
		if first != pos {
			k.violation(Violation{
				Entity: k.entity, Key: k.key, Kind: Duplicated, Ops: []string{id, k.audit.ID},
				Explanation: fmt.Sprintf("%s was applied twice: %s has it at positions %d and %d", k.describe(pos), k.theAudit(), first, pos),
			})
			continue
		}
		why := ""
		op := k.applied(pos)
		switch {
		case op == nil && k.rest.Footer == nil:
			continue // it may have been in flight when recording was cut short
		case op == nil:
			why = "was never sent"
		case op.Entity != k.entity || op.Key != k.key:
			why = fmt.Sprintf("was sent to %s/%s", op.Entity, op.Key)
		case op.Outcome == history.Fail:
			why = fmt.Sprintf("certainly had no effect (%s)", short(cmp.Or(op.Error, "fail")))
		case op.Outcome == history.Unsent:
			why = "never left the generator"
		default:
			continue
		}
		k.violation(Violation{
			Entity: k.entity, Key: k.key, Kind: Phantom, Ops: []string{id, k.audit.ID},
			Explanation: fmt.Sprintf("%s %s, but %s has it at position %d", k.describe(pos), why, k.theAudit(), pos),
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
