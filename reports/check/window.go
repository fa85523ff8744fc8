package check

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"statequake/history"
)

// epochReplies are the replies that one epoch of ownership gave for a key.
type epochReplies struct {
	epoch   int64
	replies []*reply

	// The epoch certainly lasted until lastSent, when the last operation was
	// sent that it executed before a later epoch was heard of; and it was over
	// by nextReply, when the first reply of a later epoch was read.
	lastSent, nextReply time.Duration
}

// memory judges by the contract that at a change of epoch acknowledged writes
// younger than the window may vanish, from the end of the applied order.
// Versions are used again after such a loss, so each epoch is judged as a
// branch of its own.
func (k *key) memory() {
	epochs := k.epochs()
	judged := map[*history.Op]bool{} // already reported as a violation
	if len(epochs) > 1 {
		k.superseded(judged)
	}
	legal := 0
	for i := range epochs {
		e := &epochs[i]
		if k.final(e) {
			k.finalEpoch(e, judged)
			continue
		}
		k.branchOf(e)
		legal += k.windowLoss(e, judged)
	}
	if legal > 0 {
		k.note(false, k.entityKey, legal, fmt.Sprintf("acknowledged writes lost at a change of epoch while younger than the window (%s), as ack: memory allows", k.opt.Window))
	}
	k.results()
	k.orderByEpoch(epochs, judged)
}

// epochs groups the replies that told an epoch, lowest first.
func (k *key) epochs() []epochReplies {
	number := map[int64]int{} // of each epoch, in order of appearance
	sizes := []int{}
	last, lastNumber := int64(0), 0
	w := k.auditor
	w.mem.epoch = resize(w.mem.epoch, len(k.replies)) // of each reply, from 1; 0 if it told none
	for i := range k.replies {
		r := &k.replies[i]
		switch {
		case r.op.Epoch > 0:
			if r.op.Epoch != last {
				n, ok := number[r.op.Epoch]
				if !ok {
					n = len(sizes)
					number[r.op.Epoch] = n
					sizes = append(sizes, 0)
				}
				last, lastNumber = r.op.Epoch, n
			}
			w.mem.epoch[i] = int32(lastNumber + 1)
			sizes[lastNumber]++
		case r.gone():
			k.lostAck(r, false)
			fallthrough
		default:
			k.note(true, k.entityKey, 1, "acknowledged operations without an epoch, so that it cannot be known whether a loss was legal")
		}
	}
	w.mem.byEpoch = resize(w.mem.byEpoch, len(k.replies))
	byEpoch := make([][]*reply, len(sizes))
	at := 0
	for n, size := range sizes {
		byEpoch[n] = w.mem.byEpoch[at : at : at+size]
		at += size
	}
	for i, n := range w.mem.epoch {
		if n > 0 {
			byEpoch[n-1] = append(byEpoch[n-1], &k.replies[i])
		}
	}
	epochs := make([]epochReplies, 0, len(sizes))
	for _, epoch := range slices.Sorted(maps.Keys(number)) {
		epochs = append(epochs, epochReplies{epoch: epoch, replies: byEpoch[number[epoch]]})
	}
	next := never
	for i := len(epochs) - 1; i >= 0; i-- {
		e := &epochs[i]
		e.nextReply = next
		for _, r := range e.replies {
			if r.op.Sent <= e.nextReply {
				e.lastSent = max(e.lastSent, r.op.Sent)
			}
			next = min(next, r.op.Returned)
		}
	}
	return epochs
}

// superseded finds what an epoch answered although a later one had answered
// before the operation was sent: nothing of it may be acknowledged, or shown,
// unless it is in S all the same.
func (k *key) superseded(judged map[*history.Op]bool) {
	obs := k.mem.obs[:0]
	for i := range k.replies {
		r := &k.replies[i]
		if r.op.Epoch > 0 {
			obs = append(obs, observation{op: r.op, point: point{pos: r.op.Epoch}, sent: r.op.Sent, returned: r.op.Returned})
		}
	}
	k.mem.obs = obs
	replies := map[*history.Op]*reply{}
	k.sweep(obs, func(a, b *observation) {
		if len(replies) == 0 {
			for i := range k.replies {
				replies[k.replies[i].op] = &k.replies[i]
			}
		}
		r := replies[b.op]
		since := fmt.Sprintf("although %s had been answered by %s in epoch %d by %s",
			opName(a.op), who(a.op), a.op.Epoch, seconds(a.returned))
		switch {
		case r.gone():
			k.lostAck(r, false)
			k.found(Lost, fmt.Sprintf("%s, %s; %s does not contain it", k.acknowledged(b.op), since, k.theAudit()), a.op, b.op, k.audit)
		case r.takenBack():
			k.found(StaleRead, fmt.Sprintf("%s with %s, %s; %s", k.answered(b.op), told(b.op), since, k.atVersion(b.op)), a.op, b.op, k.audit)
		default:
			return
		}
		judged[b.op] = true
	})
}

// final reports whether the audit speaks for the epoch: nothing came after it.
func (k *key) final(e *epochReplies) bool {
	return k.audit.Epoch != 0 && e.epoch >= k.audit.Epoch
}

// finalEpoch judges the epoch that the audit read, in which nothing may be
// taken back.
func (k *key) finalEpoch(e *epochReplies, judged map[*history.Op]bool) {
	var back []*history.Op
	lost := false
	for _, r := range e.replies {
		switch {
		case r.gone():
			lost = true
			if !judged[r.op] {
				k.lostAck(r, false)
				k.found(Lost, fmt.Sprintf("%s; %s, of the same epoch or an earlier one, does not contain it", k.acknowledged(r.op), k.theAudit()), r.op, k.audit)
			}
		case r.takenBack() && !judged[r.op]:
			back = append(back, r.op)
		}
	}
	k.takenBack(back, lost)
}

// branchOf judges that the replies of an epoch that ended lie on one branch,
// of which S has a prefix.
func (k *key) branchOf(e *epochReplies) {
	at := map[int64]*reply{} // the first reply of each version
	var back, kept *reply    // lowest version taken back, highest version that S has
	for _, r := range e.replies {
		if !r.told {
			continue
		}
		if first, ok := at[r.op.Version]; !ok {
			at[r.op.Version] = r
		} else if first.op.Digest != r.op.Digest {
			k.found(DirtyRead, fmt.Sprintf("one version, two states: %s with %s; %s with %s",
				k.answered(first.op), told(first.op), k.answered(r.op), told(r.op)), first.op, r.op)
		}
		if r.pos > 0 && !r.same && r.op.Attempts <= 1 {
			// It was sent once and so applied once: it was kept, and something
			// that had been applied before it was not.
			k.found(Reordered, fmt.Sprintf("what is left of epoch %d is not a prefix of it: %s, but %s has it at position %d, after other operations",
				e.epoch, k.acknowledged(r.op), k.theAudit(), r.pos), r.op, k.audit)
		}
		switch {
		case r.same && (kept == nil || r.op.Version > kept.op.Version):
			kept = r
		case !r.same && (back == nil || r.op.Version < back.op.Version):
			back = r
		}
	}
	if back != nil && kept != nil && kept.op.Version > back.op.Version {
		k.found(Reordered, fmt.Sprintf("what is left of epoch %d is not a prefix of it: %s with %s, which was taken back; %s with %s, which was kept",
			e.epoch, k.answered(back.op), told(back.op), k.answered(kept.op), told(kept.op)), back.op, kept.op, k.audit)
	}
}

// windowLoss judges the lost writes of an epoch that ended, and returns how
// many the contract allows.
func (k *key) windowLoss(e *epochReplies, judged map[*history.Op]bool) (legal int) {
	at, how := k.lossOf(e)
	for _, r := range e.replies {
		if !r.gone() || judged[r.op] {
			continue
		}
		age := at - r.op.Returned
		switch {
		case r.same:
			k.found(Lost, fmt.Sprintf("%s, the digest of %s; but that does not contain it", k.acknowledged(r.op), k.theAudit()), r.op, k.audit)
		case age > k.opt.Window:
			k.found(Lost, fmt.Sprintf("%s, at least %s before %s, and the window is %s; %s does not contain it",
				k.acknowledged(r.op), seconds(age), how, seconds(k.opt.Window), k.theAudit()), r.op, k.audit)
		case k.audit.Epoch != 0:
			legal++
			k.lostAck(r, true)
			continue
		}
		k.lostAck(r, false)
	}
	return legal
}

// lossOf returns the earliest instant at which the end of an epoch can have
// been lost, and names it. It was lost after the last operation that the epoch
// executed was sent; if nodes that served it were hit by faults between then
// and the first reply of a later epoch, not before the first such fault was
// requested. Ages counted to this instant are never too large.
func (k *key) lossOf(e *epochReplies) (time.Duration, string) {
	nodes := map[string]bool{}
	for _, r := range e.replies {
		if r.op.Node != "" {
			nodes[r.op.Node] = true
		}
	}
	at, how := e.lastSent, fmt.Sprintf("the last operation known of epoch %d, sent at %s", e.epoch, seconds(e.lastSent))
	var first *history.Fault
	for i := range k.rest.Faults {
		f := &k.rest.Faults[i]
		if f.Event != history.Injected || f.At < e.lastSent || f.At > e.nextReply || first != nil && f.At >= first.At {
			continue
		}
		if slices.ContainsFunc(f.Targets, func(node string) bool { return nodes[node] }) {
			first = f
		}
	}
	if first == nil {
		return at, how
	}
	hit := first.At // as an observer saw it; asked for a little earlier
	for i := range k.rest.Faults {
		if f := &k.rest.Faults[i]; f.Event == history.Requested && f.Name == first.Name && f.At <= first.At {
			hit = f.At
		}
	}
	return max(e.lastSent, hit), fmt.Sprintf("the fault %s, injected at %s", first.Name, seconds(first.At))
}

// orderByEpoch judges real time, for the memory contract.
func (k *key) orderByEpoch(epochs []epochReplies, judged map[*history.Op]bool) {
	report := func(a, b *observation) {
		if !judged[b.op] {
			judged[b.op] = true
			k.misplaced(a, b)
		}
	}
	for i := range epochs {
		obs := k.mem.obs[:0]
		for _, r := range epochs[i].replies {
			if r.same || r.told && !k.final(&epochs[i]) {
				obs = append(obs, observation{op: r.op, point: point{pos: r.op.Version, read: !r.write}, sent: r.op.Sent, returned: r.op.Returned})
			}
		}
		k.mem.obs = obs
		k.sweep(obs, report)
	}
	// Across epochs only what S has is on one branch.
	obs := k.observations()
	for i := range obs {
		if o := &obs[i]; !o.read && o.returned != never && (o.op.Version != o.pos || !k.has(o.pos, o.op.Digest)) {
			o.returned = never // acknowledged on another branch, and applied to this one later
		}
	}
	k.sweep(obs, func(a, b *observation) {
		// A later epoch may read less if its owner lost what b misses, and a
		// retry, by the client or within the system, applied it again. That is
		// out for a write sent once and acknowledged by an earlier epoch.
		if older := b.op.Epoch > 0 && b.op.Epoch < a.op.Epoch; b.read && !older {
			missed := k.at[b.pos+1]
			if missed == nil || missed.op.Attempts > 1 || missed.op.Epoch == 0 || missed.op.Epoch >= b.op.Epoch {
				return
			}
		}
		report(a, b)
	})
}
