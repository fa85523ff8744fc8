package check

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"statequake/history"
	"statequake/history/model"
	"statequake/reports/check/search"
)

// perKeyShare limits what one key may take of the time for all of them: a
// single hard key must not keep the others from being judged.
const perKeyShare = 10

// candidate puts a key aside for Porcupine if it can be expected to decide it.
// Without a witness the audit's reads matter too. Keys to which operations
// elsewhere, or timers, may write are not judged: some of their writes are in
// nobody's record.
func (w *auditor) candidate(h *keyOps, decided bool) error {
	sole := 0 // 1 if nothing else gives a verdict on the key
	if !w.opt.Witness && !decided {
		sole = 1
	}
	if w.rest.Footer == nil {
		return nil
	}
	n, size, acknowledged := 0, candidateFixed, false
	matters := func(op *history.Op) bool {
		return !(op.Phase == history.Audit && w.opt.Witness || op.Name == history.WitnessOp || op.Outcome != history.OK && op.Outcome != history.Info)
	}
	for i, op := range h.sent() {
		if matters(op) {
			n++
			size += len(w.mem.raw[i])
			acknowledged = acknowledged || op.Outcome == history.OK
		}
	}
	_, modelled := model.For(h.entity)
	switch {
	case !acknowledged:
	case len(h.causes) > 0 || model.Action(h.entity):
		w.aside[sole]++
	case !modelled || n > w.opt.PorcupineMaxOps:
		w.skipped[sole]++
	default:
		w.mu.Lock()
		defer w.mu.Unlock()
		b := w.candidates.add(uint8(min(n, parts-1)), size)
		binary.LittleEndian.PutUint32(b[recLength:], uint32(size))
		binary.LittleEndian.PutUint32(b[candidateSole:], uint32(sole))
		b = b[:candidateFixed]
		for i, op := range h.sent() {
			if matters(op) {
				b = append(b, w.mem.raw[i]...)
			}
		}
		if w.candidates.used > w.c.inMemory/4 {
			if err := w.candidates.spill(&w.c.disk); err != nil {
				return err
			}
		}
	}
	if sole == 1 && !model.Action(h.entity) && touched(h.sent()) && !readBack(h.sent()) {
		o := &outcome{entityKey: h.entityKey, check: ofUnread}
		o.note(true, h.entityKey, 0, unreadText)
		w.keep(o)
	}
	return nil
}

// A key put aside for Porcupine is a record with those of its operations in it.
const (
	candidateSole  = 4 // uint32: 1 if nothing else gives a verdict on it
	candidateFixed = 8
)

// small is a key that Porcupine is to judge.
type small struct {
	entityKey
	ops  []history.Op
	sole bool
}

// smallKeys returns the keys of one part of candidates, the smallest first.
func (j *judging) smallKeys(p int, buf *[]byte) ([]small, error) {
	pieces, err := j.candidates.read(p, &j.c.disk, buf)
	if err != nil {
		return nil, err
	}
	var keys []small
	eachRecord(pieces, func(rec []byte) {
		k := small{sole: binary.LittleEndian.Uint32(rec[candidateSole:]) == 1}
		eachRecord([][]byte{rec[candidateFixed:]}, func(rec []byte) {
			k.ops = append(k.ops, history.Op{})
			j.c.forms.unpack(rec, &k.ops[len(k.ops)-1])
		})
		k.entityKey = entityKey{k.ops[0].Entity, k.ops[0].Key}
		keys = append(keys, k)
	})
	slices.SortFunc(keys, func(a, b small) int {
		return cmp.Or(cmp.Compare(len(a.ops), len(b.ops)), a.entityKey.compare(b.entityKey))
	})
	return keys, nil
}

// porcupineResult asks Porcupine whether any order explains the results of a
// key, without a look at versions, digests or the audit of a witness. On the
// keys that register decided, and on all keys beside a witness, it is a second
// opinion. It returns false if the check is not to be listed.
func (j *judging) porcupineResult() (Result, bool, error) {
	r := Result{Name: "porcupine"}
	f := findings{perKind: listedInAll}
	if j.rest.Footer == nil {
		f.addNote(note{blocks: true, text: tornText})
	}
	deadline := time.Now().Add(j.opt.PorcupineTime)
	var buf []byte
	for p := range parts {
		keys, err := j.smallKeys(p, &buf)
		if err != nil {
			return Result{}, false, err
		}
		for i := range keys {
			k := &keys[i]
			ops := make([]*history.Op, len(k.ops))
			for n := range k.ops {
				ops[n] = &k.ops[n]
			}
			limit := search.Budget{Time: min(time.Until(deadline), j.opt.PorcupineTime/perKeyShare), Memory: j.opt.PorcupineMemory}
			ok, err := linearizable(k.entity, ops, never, limit)
			if err != nil {
				r.Undecided++
				f.addNote(note{blocks: k.sole, n: 1, text: whyUndecided(err, j.opt)})
				continue
			}
			if !ok {
				v := notLinearizable(k.entityKey.clone(), ops, limit)
				if f.listed[v.Kind] < drawn {
					v.Drawing = drawing(k.entityKey, ops, limit)
				}
				f.violation(v)
			}
			r.Keys++
			r.Ops += len(ops)
		}
	}
	for sole := 1; sole >= 0; sole-- {
		if n := j.skipped[sole]; n > 0 {
			f.addNote(note{blocks: sole == 1, n: n, text: fmt.Sprintf("keys without a model, or with more than %d operations, too many for this check", j.opt.PorcupineMaxOps)})
		}
	}
	for sole := 1; sole >= 0; sole-- {
		if n := j.aside[sole]; n > 0 {
			f.addNote(note{blocks: sole == 1, n: n, text: "keys with calls of actions or commands of timers, which this check cannot place, and actions"})
		}
	}
	j.merged(ofUnread, &f)
	if r.Keys == 0 && j.boxes[ofRegister].keys+j.boxes[ofCounter].keys == 0 && j.rest.Footer != nil {
		f.addNote(note{blocks: true, text: "no key could be judged"})
	}
	needed := !j.opt.Witness && slices.ContainsFunc(f.notes, func(n note) bool { return n.blocks })
	if r.Keys == 0 && !needed {
		return Result{}, false, nil
	}
	f.fill(&r)
	return r, true, nil
}

// notLinearizable names the reply after which no order was left: what has no
// order up to some instant has none later.
func notLinearizable(h entityKey, ops []*history.Op, limit search.Budget) Violation {
	var answered []*history.Op
	for _, op := range ops {
		if op.Outcome == history.OK {
			answered = append(answered, op)
		}
	}
	slices.SortFunc(answered, func(a, b *history.Op) int { return cmp.Compare(a.Returned, b.Returned) })
	n := sort.Search(len(answered)-1, func(i int) bool {
		ok, err := linearizable(h.entity, ops, answered[i].Returned, limit)
		return !ok && err == nil
	})
	op := answered[n]
	sent := 0
	for _, o := range ops {
		if o.Sent <= op.Returned {
			sent++
		}
	}
	return Violation{
		Entity: h.entity, Key: h.key, Kind: NotLinearizable, Ops: []string{strings.Clone(op.ID)},
		Explanation: fmt.Sprintf("%s was answered by %s at %s with %s; no order of the %d operations sent until then explains all results",
			opName(op), who(op), seconds(op.Returned), brief(op.Result), sent),
	}
}
