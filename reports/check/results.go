package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"statequake/history"
	"statequake/history/model"
)

// branch is a state that replies showed and that was taken back later.
type branch struct {
	digest string
	state  model.State
}

// results folds the model over S and judges the result of every reply at its
// version. Under the memory contract, replies that showed a state that was
// taken back are judged too, as far as a chain of digests connects that state
// with S.
func (k *key) results() {
	state, ok := model.For(k.entity)
	if !ok {
		return
	}
	inOrder := func(a, b *reply) int { return cmp.Compare(a.op.Version, b.op.Version) }
	w := k.auditor
	// What was seen at each version of S, as lists: first and next hold indexes
	// of replies, from 1.
	w.mem.first, w.mem.next = resize(w.mem.first, len(k.ids)+1), resize(w.mem.next, len(k.replies))
	var beyond, forked []*reply // reads and rejections beyond S; writes to states that were taken back
	for i := len(k.replies) - 1; i >= 0; i-- {
		switch r := &k.replies[i]; {
		case r.takenBack() && k.opt.Ack != Memory, r.op.Name == history.WitnessOp:
		case r.write && r.takenBack():
			forked = append(forked, r)
		case r.write || !r.told:
		case r.op.Version <= int64(len(k.ids)):
			w.mem.next[i] = w.mem.first[r.op.Version]
			w.mem.first[r.op.Version] = int32(i + 1)
		default:
			beyond = append(beyond, r)
		}
	}
	slices.Reverse(beyond)
	slices.Reverse(forked)
	slices.SortStableFunc(beyond, inOrder)
	slices.SortStableFunc(forked, inOrder)

	known := true // state is that of S at version v
	unjudged, apart := 0, 0
	var branches []branch // other states at version v
	for v := int64(0); ; v++ {
		if v == int64(len(k.ids)) && known {
			k.end = state
		}
		see := func(r *reply) {
			if r.same {
				if known {
					k.readResult(state, r)
				} else {
					unjudged++
				}
				return
			}
			if i := slices.IndexFunc(branches, func(b branch) bool { return b.digest == r.op.Digest }); i >= 0 {
				k.readResult(branches[i].state, r)
			} else {
				apart++
			}
		}
		if v <= int64(len(k.ids)) {
			for i := w.mem.first[v]; i > 0; i = w.mem.next[i-1] {
				see(&k.replies[i-1])
			}
		}
		for ; len(beyond) > 0 && beyond[0].op.Version == v; beyond = beyond[1:] {
			see(beyond[0])
		}
		var next []branch
		for ; len(forked) > 0 && forked[0].op.Version <= v+1; forked = forked[1:] {
			r := forked[0]
			from := k.parent(r, v, state, known, branches)
			if from == nil {
				apart++
				continue
			}
			from = from.Clone()
			k.writeResult(from, r.op, r, 0)
			next = append(next, branch{digest: r.op.Digest, state: from})
		}
		branches = next
		if v >= int64(len(k.ids)) {
			if len(branches) == 0 {
				break
			}
			continue
		}
		op := k.applied(int(v) + 1)
		r := k.at[v+1]
		switch {
		case !known:
			if r != nil {
				unjudged++
			}
		case op == nil || op.Entity != k.entity:
			known = false
		default:
			known = k.writeResult(state, op, r, int(v)+1)
		}
	}
	apart += len(beyond) + len(forked)
	if unjudged > 0 {
		k.note(true, k.entityKey, unjudged, "results not judged, since an operation before them is not in the history, or refused by the model")
	}
	if apart > 0 {
		k.note(false, k.entityKey, apart, "results not judged, of states that were taken back and that unanswered operations separate from the audit")
	}
}

// parent returns the state at version v to which the write r was applied, or
// nil if no known state leads to its digest.
func (k *key) parent(r *reply, v int64, state model.State, known bool, branches []branch) model.State {
	for _, b := range branches {
		if history.NextDigest(b.digest, r.op.ID) == r.op.Digest {
			return b.state
		}
	}
	if known && v <= int64(len(k.ids)) && history.NextDigest(string(k.digest(v)), r.op.ID) == r.op.Digest {
		return state
	}
	return nil
}

// readResult judges a read or a rejection on the state it saw.
func (k *key) readResult(state model.State, r *reply) {
	if r.class != reads {
		state = state.Clone()
	}
	want, _, err := state.Apply(r.op.Name, r.op.Args, r.op.ID)
	if err != nil {
		k.note(true, k.entityKey, 1, "acknowledged operations that the model of the entity type refuses")
		return
	}
	if !sameJSON(want, r.op.Result) {
		k.wrongResult(r.op, r.op.Version, want)
	}
}

// writeResult applies op to state and judges its reply r, if there is one. It
// reports whether the model took the operation as a write. pos is its position in
// S, 0 if it was applied to a state that was taken back.
func (k *key) writeResult(state model.State, op *history.Op, r *reply, pos int) bool {
	want, wrote, err := state.Apply(op.Name, op.Args, op.ID)
	if err != nil {
		k.note(true, k.entityKey, 1, "applied operations that the model of the entity type refuses")
		return false
	}
	where := func() string {
		if pos == 0 {
			return ""
		}
		return fmt.Sprintf("%s has it at position %d, where ", k.theAudit(), pos)
	}
	switch {
	case !wrote:
		k.found(WrongResult, fmt.Sprintf("%s was applied as a write; %sthe model answers %s and writes nothing", opName(op), where(), brief(want)), op, k.audit)
	case r == nil:
	case r.rejected:
		k.found(WrongResult, fmt.Sprintf("%s with %s, but was applied: %sthe model answers %s", k.answered(op), brief(op.Result), where(), brief(want)), op, k.audit)
	case r.pos > 0 && r.takenBack() && pos > 0:
		// The reply speaks of another state, from which it was taken back.
	case r.pos > 0 && r.same && op.Version != int64(r.pos):
		k.found(WrongResult, fmt.Sprintf("%s, but %s has it at position %d", k.acknowledged(op), k.theAudit(), r.pos), op, k.audit)
	case !sameJSON(want, op.Result):
		version := op.Version
		if r.pos > 0 && !r.told {
			version = int64(r.pos)
		}
		k.wrongResult(op, version, want)
	}
	return wrote
}

func (k *key) wrongResult(op *history.Op, version int64, want json.RawMessage) {
	k.found(WrongResult, fmt.Sprintf("%s at version %d with %s; by the model it is %s",
		k.answered(op), version, brief(op.Result), brief(want)), op, k.audit)
}
