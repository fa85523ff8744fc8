package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/ownership"
)

// checkLeases: at most one node may serve reads of a shard. Leases only run out
// otherwise than by Confirm and Serve, so it is enough to look after those.
func (w *world) checkLeases(shard int) {
	holder := ""
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		s := n.shards[shard]
		if s.machine == nil || n.clock()-s.confirmed >= ownership.Lease {
			continue
		}
		if holder != "" {
			w.broken("shard %d: both %s and %s in epoch %d may serve reads", shard, holder, n.name, s.epoch)
		}
		holder = fmt.Sprintf("%s in epoch %d", n.name, s.epoch)
	}
}

// ack notes that a core has answered a write.
func (w *world) ack(o *op, epoch int64, r core.Reply) {
	if !w.cfg.Memory && !w.store.durable[o.id] {
		w.broken("%s was acknowledged in epoch %d and is not in the journal", o.id, epoch)
	}
	if o.answer == nil {
		o.answer = &r
	} else if !w.cfg.Memory && (string(o.answer.Result) != string(r.Result) || o.answer.Version != r.Version || o.answer.Digest != r.Digest) {
		w.broken("%s has two answers: %s at version %d and %s at version %d", o.id, o.answer.Result, o.answer.Version, r.Result, r.Version)
	}
	w.acked = append(w.acked, ack{o, epoch, w.now})
}

// judge compares what clients were told with what the audit has read.
func (w *world) judge() {
	for i, key := range w.keys {
		audit := w.byID[fmt.Sprintf("audit-%d", i)]
		if audit == nil || !audit.done {
			w.violated("the simulation ended before the audit")
			return
		}
		var list struct {
			IDs []string `json:"ids"`
		}
		if err := json.Unmarshal(audit.reply.Result, &list); err != nil {
			w.violated("audit of %s: %v", key.Key, err)
			return
		}
		w.judgeKey(key, audit, list.IDs)
	}
}

// judgeKey: the audit read that ids were applied to key, in this order.
func (w *world) judgeKey(key core.ID, audit *op, ids []string) {
	at := map[string]int64{}
	chain := []string{"0000000000000000"}
	states := []string{`0`}
	if key.Type == "register" {
		states[0] = `""`
	}
	sums := []int{0}
	for i, id := range ids {
		o := w.byID[id]
		switch {
		case o == nil || o.key != key || !o.write:
			w.violated("%s holds %s, which nobody wrote to it", key.Key, id)
			return
		case at[id] != 0:
			w.violated("%s was applied twice to %s, at %d and %d", id, key.Key, at[id], i+1)
			return
		}
		at[id] = int64(i + 1)
		sum := sha256.Sum256([]byte(chain[i] + id))
		chain = append(chain, hex.EncodeToString(sum[:8]))
		sums = append(sums, sums[i]+o.arg.N)
		if key.Type == "register" {
			states = append(states, fmt.Sprintf("%q", o.arg.Value))
		} else {
			states = append(states, fmt.Sprint(sums[i+1]))
		}
	}
	var told []*op
	for _, o := range w.history {
		if o.key == key && o.done {
			told = append(told, o)
		}
	}
	if w.cfg.Memory {
		w.judgeWindow(told, audit, at, chain)
		return
	}
	for _, o := range told {
		v := o.reply.Version
		rejected := string(o.reply.Result) == `{"rejected":"too much"}`
		switch {
		case v >= int64(len(chain)) || o.reply.Digest != chain[v]:
			w.violated("%s %s was answered at version %d with digest %s, which the audit does not have", o.name, o.id, v, o.reply.Digest)
		case rejected && (at[o.id] != 0 || sums[v]+o.arg.N <= limit):
			w.violated("%s was rejected at version %d, wrongly or although it was applied", o.id, v)
		case rejected:
		case o.write && at[o.id] != v:
			w.violated("%s was acknowledged at version %d and is at %d in the audit", o.id, v, at[o.id])
		case o.name != "witness" && string(o.reply.Result) != states[v]:
			w.violated("%s %s at version %d was answered with %s, not %s", o.name, o.id, v, o.reply.Result, states[v])
		}
	}
	w.judgeOrder(told, func(o *op) bool { return at[o.id] != 0 })
}

// judgeOrder: what was invoked after an answer must have come after it.
func (w *world) judgeOrder(told []*op, applied func(*op) bool) {
	byReturn := slices.Clone(told)
	slices.SortFunc(byReturn, func(a, b *op) int { return int(a.returned - b.returned) })
	var latest *op
	i := 0
	for _, o := range told { // by invocation
		for ; i < len(byReturn) && byReturn[i].returned < o.invoked; i++ {
			if latest == nil || byReturn[i].reply.Version > latest.reply.Version {
				latest = byReturn[i]
			}
		}
		if latest == nil {
			continue
		}
		v := o.reply.Version
		if applied(o) {
			v--
		}
		if v < latest.reply.Version {
			w.violated("%s %s at version %d was invoked after %s had been answered at version %d", o.name, o.id, o.reply.Version, latest.id, latest.reply.Version)
		}
	}
}

// judgeWindow judges by the contract of memory mode: what an epoch lost is a
// suffix of what it applied, its acknowledgements lie within one window, and
// the epoch that answered the audit lost nothing.
func (w *world) judgeWindow(told []*op, audit *op, at map[string]int64, chain []string) {
	type loss struct {
		first, last time.Duration
		version     int64 // lowest
	}
	lost := map[int64]*loss{}
	acked := map[*op]ack{}
	for _, a := range w.acked {
		if _, ok := acked[a.op]; !ok {
			acked[a.op] = a
		}
	}
	writes := func(o *op) bool { return o.write && string(o.reply.Result) != `{"rejected":"too much"}` }
	for _, o := range told {
		if !writes(o) || at[o.id] != 0 {
			continue
		}
		if o.epoch == audit.epoch {
			w.violated("%s was acknowledged in epoch %d, which still answers, and is not in the audit", o.id, o.epoch)
			return
		}
		a := acked[o]
		l := lost[o.epoch]
		if l == nil {
			l = &loss{first: a.at, last: a.at, version: o.reply.Version}
			lost[o.epoch] = l
		}
		l.first, l.last, l.version = min(l.first, a.at), max(l.last, a.at), min(l.version, o.reply.Version)
	}
	for _, o := range told {
		l := lost[o.epoch]
		switch {
		case l != nil && l.last-l.first > window+window/20:
			w.violated("epoch %d lost acknowledgements of %v, the window is %v", o.epoch, l.last-l.first, window)
		case !writes(o) || at[o.id] == 0 || o.sent > 1 || w.doubled:
			// What was sent twice may have been lost and applied again.
		case l != nil && o.reply.Version > l.version:
			w.violated("epoch %d lost version %d and kept %s at version %d", o.epoch, l.version, o.id, o.reply.Version)
		case at[o.id] != o.reply.Version || chain[o.reply.Version] != o.reply.Digest:
			w.violated("%s was acknowledged at version %d and is at %d in the audit", o.id, o.reply.Version, at[o.id])
		}
	}
}
