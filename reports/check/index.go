package check

import (
	"cmp"
	"slices"

	"statequake/history"
)

// entityKey names one entity.
type entityKey struct{ entity, key string }

func (k entityKey) String() string { return k.entity + "/" + k.key }

// keyOps is what was sent to one entity, as indexes into Run.Ops.
type keyOps struct {
	entityKey
	ops []int32
}

// index finds operations of a run by id and by entity.
type index struct {
	byID     map[string]int32 // id -> index into Run.Ops, the first if ids repeat
	keys     []keyOps         // sorted by entity and key
	repeated []string         // ids that occur more than once in the file
}

func newIndex(run *history.Run) *index {
	ix := &index{byID: make(map[string]int32, len(run.Ops))}
	keys := map[entityKey]int{}
	for i := range run.Ops {
		op := &run.Ops[i]
		if _, ok := ix.byID[op.ID]; ok {
			ix.repeated = append(ix.repeated, op.ID)
			continue
		}
		ix.byID[op.ID] = int32(i)
		k := entityKey{op.Entity, op.Key}
		n, ok := keys[k]
		if !ok {
			n = len(ix.keys)
			keys[k] = n
			ix.keys = append(ix.keys, keyOps{entityKey: k})
		}
		ix.keys[n].ops = append(ix.keys[n].ops, int32(i))
	}
	slices.SortFunc(ix.keys, func(a, b keyOps) int {
		return cmp.Or(cmp.Compare(a.entity, b.entity), cmp.Compare(a.key, b.key))
	})
	return ix
}
