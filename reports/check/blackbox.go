package check

import "statequake/history"

// blackBox is a check that judges keys of one entity type by what was answered,
// without a look at versions, digests or a witness.
type blackBox struct {
	entity string
	// judge returns what it found on a key, how many answers it judged, and why
	// the key is not decided, "" if it is.
	judge func(h entityKey, ops []*history.Op, whole bool) (f *findings, answers int, undecided string)
}

var blackBoxes = []blackBox{
	{registerEntity, func(h entityKey, ops []*history.Op, whole bool) (*findings, int, string) {
		k := newRegister(h, ops, whole)
		if k.undecided == "" {
			k.judge()
		}
		return &k.findings, k.answers, k.undecided
	}},
	{counterEntity, func(h entityKey, ops []*history.Op, whole bool) (*findings, int, string) {
		k := newCounter(h, ops)
		switch {
		case !whole: // what the history lacks may have been added
			k.findings, k.undecided = findings{}, tornText
		case k.undecided == "":
			k.judge()
		}
		return &k.findings, k.answers, k.undecided
	}},
}

// check judges every key of the entity type, and adds those that it decided to
// decided; the others are left to the witness and to Porcupine. It returns false
// if the check is not to be listed.
func (b blackBox) check(run *history.Run, ix *index, opt Options, decided map[entityKey]bool) (r Result, listed bool) {
	r = Result{Name: b.entity}
	all := findings{perKind: listedInAll}
	if run.Footer == nil {
		all.addNote(note{blocks: true, text: tornText})
	}
	left := false // to others
	whole := run.Footer != nil && len(ix.repeated) == 0
	for i := range ix.keys {
		h := &ix.keys[i]
		if h.entity != b.entity || !touched(run, h) {
			continue
		}
		listed = true
		ops := make([]*history.Op, len(h.ops))
		for j, n := range h.ops {
			ops[j] = &run.Ops[n]
		}
		found, answers, undecided := b.judge(h.entityKey, ops, whole)
		if undecided != "" && len(found.kinds) == 0 {
			all.note(false, h.entityKey, 0, undecided)
			left = true
			continue
		}
		decided[h.entityKey] = true
		r.Keys++
		r.Ops += answers
		all.merge(found)
		if !opt.Witness && run.Footer != nil && !readBack(run, h) {
			all.note(true, h.entityKey, 0, unreadText)
		}
	}
	if r.Ops == 0 {
		if opt.Witness || left {
			return Result{}, false
		}
		all.addNote(note{blocks: true, text: "no acknowledged operation could be judged"})
	}
	all.fill(&r)
	return r, listed
}
