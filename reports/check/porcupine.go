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
// key, without a look at versions, digests or the audit. It returns false if
// the check does not apply.
func porcupineCheck(run *history.Run, ix *index, opt Options) (Result, bool) {
	r := Result{Name: "porcupine"}
	f := findings{perKind: listedInAll}
	var keys []keyOps
	skipped := 0
	if run.Footer == nil {
		f.addNote(note{blocks: true, text: "operations in flight when recording was cut short are not in the history"})
	} else {
		keys, skipped = smallKeys(run, ix, opt.PorcupineMaxOps)
	}
	deadline := time.Now().Add(opt.PorcupineTime)
	for i, h := range keys {
		left := time.Until(deadline)
		if left <= 0 {
			r.Undecided += len(keys) - i
			break
		}
		ops := make([]*history.Op, len(h.ops))
		for j, n := range h.ops {
			ops[j] = &run.Ops[n]
		}
		limit := min(left, opt.PorcupineTime/perKeyShare)
		switch linearizable(h.entity, ops, never, limit) {
		case porcupine.Unknown:
			r.Undecided++
			continue
		case porcupine.Illegal:
			f.violation(notLinearizable(h, ops, limit))
		}
		r.Keys++
		r.Ops += len(ops)
	}
	if opt.Witness && r.Keys == 0 {
		return Result{}, false
	}
	if r.Undecided > 0 {
		f.addNote(note{blocks: !opt.Witness, n: r.Undecided, text: fmt.Sprintf("keys not decided (time for all of them: %s)", opt.PorcupineTime)})
	}
	if skipped > 0 {
		f.addNote(note{blocks: !opt.Witness, n: skipped, text: fmt.Sprintf("keys without a model, or with more than %d operations, too many for this check", opt.PorcupineMaxOps)})
	}
	if r.Keys == 0 && run.Footer != nil {
		f.addNote(note{blocks: true, text: "no key could be judged"})
	}
	f.fill(&r)
	return r, true
}

// smallKeys returns the keys that Porcupine can be expected to decide, the
// smallest first, with the operations that matter, and the number of other
// keys with acknowledged operations.
func smallKeys(run *history.Run, ix *index, maxOps int) (keys []keyOps, skipped int) {
	for _, h := range ix.keys {
		_, modelled := model.For(h.entity)
		small := keyOps{entityKey: h.entityKey}
		acknowledged := false
		for _, i := range h.ops {
			op := &run.Ops[i]
			if op.Phase == history.Audit || op.Name == witnessOp || op.Outcome != history.OK && op.Outcome != history.Info {
				continue
			}
			small.ops = append(small.ops, i)
			acknowledged = acknowledged || op.Outcome == history.OK
		}
		switch {
		case !acknowledged:
		case !modelled || len(small.ops) > maxOps:
			skipped++
		default:
			keys = append(keys, small)
		}
	}
	slices.SortStableFunc(keys, func(a, b keyOps) int { return cmp.Compare(len(a.ops), len(b.ops)) })
	return keys, skipped
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
			result, wrote, err := next.Apply(op.Name, op.Args)
			if err != nil {
				refused.Store(true)
				return true, state
			}
			if got, answered := output.(json.RawMessage); answered && !sameJSON(result, got) {
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
