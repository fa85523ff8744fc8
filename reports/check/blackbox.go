package check

import "statequake/history"

// blackBox is a check that judges keys of one entity type by what was answered,
// without a look at versions, digests or a witness.
type blackBox struct {
	entity string
	check  checkOf
	// judge returns what it found on a key, how many answers it judged, and why
	// the key is not decided, "" if it is.
	judge func(h entityKey, ops []*history.Op, whole bool, mem *scratch) (f *findings, answers int, undecided string)
}

var blackBoxes = []blackBox{
	{registerEntity, ofRegister, func(h entityKey, ops []*history.Op, whole bool, _ *scratch) (*findings, int, string) {
		k := newRegister(h, ops, whole)
		if k.undecided == "" {
			k.judge()
		}
		return &k.findings, k.answers, k.undecided
	}},
	{counterEntity, ofCounter, func(h entityKey, ops []*history.Op, whole bool, mem *scratch) (*findings, int, string) {
		k := newCounter(h, ops, mem)
		switch {
		case !whole: // what the history lacks may have been added
			k.findings, k.undecided = findings{}, tornText
		case k.undecided == "":
			k.judge()
		}
		return &k.findings, k.answers, k.undecided
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
	found, answers, undecided := b.judge(h.entityKey, ops, w.rest.Footer != nil && w.repeated == 0, &w.mem)
	if undecided != "" && len(found.kinds) == 0 {
		w.box(b.check, boxTally{seen: 1})
		o.note(false, h.entityKey, 0, undecided)
		w.keep(o)
		return false
	}
	w.box(b.check, boxTally{1, 1, answers})
	o.findings = *found
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
