package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"statequake/history"
	"statequake/history/model"
)

// perKeyShare limits what one key may take of the time for all of them: a
// single hard key must not keep the others from being judged.
const perKeyShare = 10

// porcupineCheck asks Porcupine whether any order explains the results of a
// key, without a look at versions, digests or the audit of a witness. On the
// keys in decided, and on all keys beside a witness, it is a second opinion. Keys in
// caused are not judged: some of their writes are in nobody's record. It returns
// false if the check is not to be listed.
func porcupineCheck(run *history.Run, ix *index, opt Options, decided, caused map[entityKey]bool) (Result, bool) {
	r := Result{Name: "porcupine"}
	f := findings{perKind: listedInAll}
	var keys []keyOps
	var skipped, aside []entityKey
	// alone tells the keys on which nothing else gives a verdict.
	alone := func(k entityKey) bool { return !opt.Witness && !decided[k] }
	if run.Footer == nil {
		f.addNote(note{blocks: true, text: tornText})
	} else {
		keys, skipped, aside = smallKeys(run, ix, opt, caused)
	}
	deadline := time.Now().Add(opt.PorcupineTime)
	for _, h := range keys {
		ops := make([]*history.Op, len(h.ops))
		for j, n := range h.ops {
			ops[j] = &run.Ops[n]
		}
		outcome := porcupine.Unknown
		limit := min(time.Until(deadline), opt.PorcupineTime/perKeyShare)
		if limit > 0 { // Porcupine takes 0 for no limit
			outcome = linearizable(h.entity, ops, never, limit)
		}
		switch outcome {
		case porcupine.Unknown:
			r.Undecided++
			f.addNote(note{blocks: alone(h.entityKey), n: 1, text: fmt.Sprintf("keys not decided (time for all of them: %s)", opt.PorcupineTime)})
			continue
		case porcupine.Illegal:
			f.violation(notLinearizable(h, ops, limit))
		}
		r.Keys++
		r.Ops += len(ops)
	}
	for _, k := range skipped {
		f.addNote(note{blocks: alone(k), n: 1, text: fmt.Sprintf("keys without a model, or with more than %d operations, too many for this check", opt.PorcupineMaxOps)})
	}
	for _, k := range aside {
		f.addNote(note{blocks: alone(k), n: 1, text: "keys with calls of actions or commands of timers, which this check cannot place, and actions"})
	}
	if run.Footer != nil && !opt.Witness {
		unreadKeys(run, ix, decided, &f)
	}
	if r.Keys == 0 && len(decided) == 0 && run.Footer != nil {
		f.addNote(note{blocks: true, text: "no key could be judged"})
	}
	needed := !opt.Witness && slices.ContainsFunc(f.notes, func(n note) bool { return n.blocks })
	if r.Keys == 0 && !needed {
		return Result{}, false
	}
	f.fill(&r)
	return r, true
}

// unreadKeys notes the keys that register did not judge and no audit read back.
func unreadKeys(run *history.Run, ix *index, decided map[entityKey]bool, f *findings) {
	for i := range ix.keys {
		h := &ix.keys[i]
		if !decided[h.entityKey] && !model.Action(h.entity) && touched(run, h) && !readBack(run, h) {
			f.note(true, h.entityKey, 0, unreadText)
		}
	}
}

// smallKeys returns the keys that Porcupine can be expected to decide, the
// smallest first, with the operations that matter, and the other keys with
// acknowledged operations: skipped ones, and ones to set aside since operations
// elsewhere, or timers, write to them. Without a witness the audit's reads matter too.
func smallKeys(run *history.Run, ix *index, opt Options, caused map[entityKey]bool) (keys []keyOps, skipped, aside []entityKey) {
	for _, h := range ix.keys {
		_, modelled := model.For(h.entity)
		small := keyOps{entityKey: h.entityKey}
		acknowledged := false
		for _, i := range h.ops {
			op := &run.Ops[i]
			if op.Phase == history.Audit && opt.Witness || op.Name == witnessOp || op.Outcome != history.OK && op.Outcome != history.Info {
				continue
			}
			small.ops = append(small.ops, i)
			acknowledged = acknowledged || op.Outcome == history.OK
		}
		switch {
		case !acknowledged:
		case caused[h.entityKey] || model.Action(h.entity):
			aside = append(aside, h.entityKey)
		case !modelled || len(small.ops) > opt.PorcupineMaxOps:
			skipped = append(skipped, h.entityKey)
		default:
			keys = append(keys, small)
		}
	}
	slices.SortStableFunc(keys, func(a, b keyOps) int { return cmp.Compare(len(a.ops), len(b.ops)) })
	return keys, skipped, aside
}

// linearizable asks whether one entity's operations are, by what was answered
// up to and including the instant until. The others return after everything
// else, so that they may also take no effect.
func linearizable(entity string, ops []*history.Op, until, limit time.Duration) porcupine.CheckResult {
	var refused atomic.Bool
	call := make([]porcupine.Operation, 0, len(ops))
	for i, op := range ops {
		c := porcupine.Operation{ClientId: i, Input: op, Call: int64(op.Sent), Return: int64(never)}
		if op.Outcome == history.OK && op.Returned <= until {
			c.Return, c.Output = int64(op.Returned), op.Result
		}
		call = append(call, c)
		if sentAgain(op) {
			c.Return, c.Output = int64(never), nil
			call = append(call, c)
		}
	}
	result := porcupine.CheckOperationsTimeout(sequential(entity, &refused), call, limit)
	if refused.Load() {
		return porcupine.Unknown
	}
	return result
}

// folded is a state of the model with its fingerprint.
type folded struct {
	model.State
	fingerprint string
}

// sequential is the model of an entity type, which must have one, in
// Porcupine's terms. Any output will do for an operation without one. It sets
// refused if the model cannot take an operation, and nothing can be concluded.
func sequential(entity string, refused *atomic.Bool) porcupine.Model {
	seed := maphash.MakeSeed()
	return porcupine.Model{
		Init: func() any {
			state, _ := model.For(entity)
			return folded{state, state.Fingerprint()}
		},
		Step: func(state, input, output any) (bool, any) {
			op := input.(*history.Op)
			next := state.(folded).Clone()
			result, wrote, err := next.Apply(op.Name, op.Args, op.ID)
			if err != nil {
				refused.Store(true)
				return true, state
			}
			if got, answered := output.(json.RawMessage); answered && !(wrote && silent(got)) && !sameJSON(result, got) {
				return false, state
			}
			if !wrote {
				return true, state
			}
			return true, folded{next, next.Fingerprint()}
		},
		Equal: func(a, b any) bool { return a.(folded).fingerprint == b.(folded).fingerprint },
		Hash:  func(state any) uint64 { return maphash.String(seed, state.(folded).fingerprint) },
	}
}

// notLinearizable names the reply after which no order was left: what has no
// order up to some instant has none later.
func notLinearizable(h keyOps, ops []*history.Op, limit time.Duration) Violation {
	var answered []*history.Op
	for _, op := range ops {
		if op.Outcome == history.OK {
			answered = append(answered, op)
		}
	}
	slices.SortFunc(answered, func(a, b *history.Op) int { return cmp.Compare(a.Returned, b.Returned) })
	n := sort.Search(len(answered)-1, func(i int) bool {
		return linearizable(h.entity, ops, answered[i].Returned, limit) == porcupine.Illegal
	})
	op := answered[n]
	sent := 0
	for _, o := range ops {
		if o.Sent <= op.Returned {
			sent++
		}
	}
	return Violation{
		Entity: h.entity, Key: h.key, Kind: NotLinearizable, Ops: []string{op.ID},
		Explanation: fmt.Sprintf("%s was answered by %s at %s with %s; no order of the %d operations sent until then explains all results",
			opName(op), who(op), seconds(op.Returned), brief(op.Result), sent),
	}
}
