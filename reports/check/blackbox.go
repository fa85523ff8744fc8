package check

import (
	"slices"

	"statequake/history"
)

// blackBox is a check that judges keys of one entity type by what was answered,
// without a look at versions, digests or a witness.
type blackBox struct {
	entity string
	check  checkOf
	judge  func(h entityKey, ops []*history.Op, whole bool) *boxKey
}

// boxKey is a key that a black box judges.
type boxKey struct {
	entityKey
	findings
	told      []*history.Op // by index into what the checker is given
	answers   int           // operations answered ok
	undecided string        // why the key is not decided, or not whole, "" if it is
}

func newBoxKey(h entityKey) boxKey {
	return boxKey{entityKey: h, findings: findings{perKind: listedPerKey}}
}

// found reports a violation shown by ops, each named once. Those that are nil
// are passed over.
func (k *boxKey) found(kind, explanation string, ops ...*history.Op) {
	v := Violation{Entity: k.entity, Key: k.key, Kind: kind, Explanation: explanation}
	for _, op := range ops {
		if op != nil && !slices.Contains(v.Ops, op.ID) {
			v.Ops = append(v.Ops, op.ID)
		}
	}
	k.violation(v)
}

var blackBoxes = []blackBox{
	{registerEntity, ofRegister, func(h entityKey, ops []*history.Op, whole bool) *boxKey {
		k := newRegister(h, ops, whole)
		if k.undecided == "" {
			k.judge()
		}
		return &k.boxKey
	}},
	{counterEntity, ofCounter, func(h entityKey, ops []*history.Op, whole bool) *boxKey {
		k := newCounter(h, ops)
		switch {
		case !whole: // what the history lacks may have been added
			k.findings, k.undecided = findings{}, tornText
		case k.undecided == "":
			k.judge()
		}
		return &k.boxKey
	}},
}

// boxTally counts what one black box judged.
type boxTally struct{ seen, keys, ops int } // keys seen, keys decided

// box adds to the count of a black box.
func (t *tally) box(check checkOf, add boxTally) {
	if t.boxes == nil {
		t.boxes = map[checkOf]boxTally{}
	}
	b := t.boxes[check]
	t.boxes[check] = boxTally{b.seen + add.seen, b.keys + add.keys, b.ops + add.ops}
}

// blackBoxKey judges one key and reports whether that decided it; else it is
// left to the witness and to Porcupine.
func (w *auditor) blackBoxKey(b blackBox, h *keyOps) bool {
	ops := h.sent()
	if !touched(ops) {
		return false
	}
	o := &outcome{entityKey: h.entityKey, check: b.check}
	k := b.judge(h.entityKey, ops, w.rest.Footer != nil && w.repeated == 0)
	if k.undecided != "" && len(k.kinds) == 0 {
		w.box(b.check, boxTally{seen: 1})
		o.note(false, h.entityKey, 0, k.undecided)
		w.keep(o)
		return false
	}
	w.box(b.check, boxTally{1, 1, k.answers})
	o.findings = k.findings
	if !w.opt.Witness && w.rest.Footer != nil && !readBack(ops) {
		o.note(true, h.entityKey, 0, unreadText)
	}
	w.keep(o)
	return true
}

// blackBoxResult is the verdict on all keys of an entity type, and false if the
// check is not to be listed: there were none, or all are left to others.
func (j *judging) blackBoxResult(b blackBox) (Result, bool) {
	t := j.boxes[b.check]
	r := Result{Name: b.entity, Keys: t.keys, Ops: t.ops}
	if t.seen == 0 || t.ops == 0 && (j.opt.Witness || t.keys < t.seen) {
		return Result{}, false
	}
	all := findings{perKind: listedInAll}
	if j.rest.Footer == nil {
		all.addNote(note{blocks: true, text: tornText})
	}
	j.merged(b.check, &all)
	if r.Ops == 0 {
		all.addNote(note{blocks: true, text: "no acknowledged operation could be judged"})
	}
	all.fill(&r)
	return r, true
}
