package sim

import (
	"bytes"
	"encoding/json"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/journal"
)

// store is the shared store, which acts at single instants. It promises what
// package journal promises and no more: a write that was reported as failed may
// still happen later.
type store struct {
	w           *world
	revision    int64
	owners      map[int]journal.Owner
	members     map[string]journal.Member
	heads       map[int]core.Head
	entries     map[int][]entry // by position
	checkpoints map[int]map[core.ID]checkpoint
	last        map[int]core.Head // last entry of each shard, and its last record
	durable     map[string]bool   // operations in the journal
}

// checkpoint is one of an entity, with the position of its last record.
type checkpoint struct {
	pos  int64
	data []byte
}

type entry struct {
	seq  int64
	data []byte
	ops  []string
}

func newStore(w *world) *store {
	return &store{
		w: w, owners: map[int]journal.Owner{}, members: map[string]journal.Member{}, heads: map[int]core.Head{},
		entries: map[int][]entry{}, checkpoints: map[int]map[core.ID]checkpoint{}, last: map[int]core.Head{}, durable: map[string]bool{},
	}
}

// ask has apply happen at the store, for n, and then done at n: ok tells that
// the answer arrived within timeout. Otherwise apply has happened, has not, or
// still will.
func (n *node) ask(what string, timeout time.Duration, apply func(), done func(ok bool)) {
	w := n.w
	finished := false
	finish := func(ok bool) {
		if !finished {
			finished = true
			if !ok {
				w.log("%s %s: no answer", n.name, what)
			}
			done(ok)
		}
	}
	there := w.wire() * time.Duration(w.slow)
	back := w.wire() * time.Duration(w.slow)
	switch {
	case n.cut:
		if w.chance(0.5) {
			n.after(w.between(0, 20*time.Millisecond), func() { finish(false) })
		}
	case w.chance(w.storeLoss):
		switch w.rng.IntN(3) {
		case 0: // the request is lost
		case 1: // the answer is lost
			w.after(there, nil, apply)
		case 2: // reported as failed at once, and on its way for long
			w.after(there+w.between(0, 3*time.Second), nil, apply)
			n.after(there, func() { finish(false) })
		}
	default:
		life := n.life
		w.after(there, nil, func() {
			apply()
			if n.life == life && !n.cut {
				w.after(back, n, func() { finish(true) })
			}
		})
	}
	n.after(timeout, func() { finish(false) })
}

func (s *store) view() journal.View {
	v := journal.View{Owners: map[int]journal.Owner{}, Members: map[string]journal.Member{}}
	for shard, o := range s.owners {
		v.Owners[shard] = o
	}
	for name, m := range s.members {
		v.Members[name] = m
	}
	return v
}

func (s *store) beat(name string) {
	s.revision++
	s.members[name] = journal.Member{Revision: s.revision}
}

func (s *store) claim(shard int, seen int64, name string) (epoch int64) {
	if s.owners[shard].Revision != seen {
		return 0
	}
	s.revision++
	s.owners[shard] = journal.Owner{Node: name, Revision: s.revision}
	s.w.log("store: %s owns shard %d in epoch %d", name, shard, s.revision)
	return s.revision
}

func (s *store) release(shard int, epoch int64, name, next string) {
	if s.owners[shard].Revision != epoch {
		return
	}
	s.revision++
	s.owners[shard] = journal.Owner{Node: name, Released: true, Next: next, Revision: s.revision}
	s.w.log("store: %s released shard %d to %s", name, shard, next)
}

func (s *store) append(a journal.Append, fenced bool) journal.Fate {
	at := -1
	for i, e := range s.entries[a.Shard] {
		if e.seq == a.Seq {
			at = i
		}
	}
	if fenced {
		switch {
		case at >= 0 && bytes.Equal(s.entries[a.Shard][at].data, a.Data):
			return journal.Durable
		case at >= 0 || s.owners[a.Shard].Revision != a.Epoch:
			return journal.Deposed
		}
	}
	g, err := core.DecodeGroup(a.Data)
	if err != nil {
		s.w.violated("shard %d: %v", a.Shard, err)
		return journal.Deposed
	}
	e := entry{seq: a.Seq, data: a.Data}
	for _, r := range g.Records {
		e.ops = append(e.ops, r.Op)
	}
	s.w.log("store: shard %d entry %d of epoch %d: %v", a.Shard, a.Seq, a.Epoch, e.ops)
	last := s.last[a.Shard]
	switch {
	case at >= 0:
		s.w.broken("shard %d: entry %d was overwritten", a.Shard, a.Seq)
		for _, id := range s.entries[a.Shard][at].ops {
			delete(s.durable, id)
		}
		s.entries[a.Shard][at] = e
	case a.Seq <= s.heads[a.Shard].Seq:
		// A late attempt whose entry was written by another one and cut off since.
		s.entries[a.Shard] = append([]entry{e}, s.entries[a.Shard]...)
		return journal.Durable
	default:
		if a.Seq != last.Seq+1 || g.Records[0].Pos != last.Pos+1 {
			s.w.broken("shard %d: entry %d with record %d comes after entry %d with record %d", a.Shard, a.Seq, g.Records[0].Pos, last.Seq, last.Pos)
		}
		s.entries[a.Shard] = append(s.entries[a.Shard], e)
	}
	s.last[a.Shard] = core.Head{Seq: a.Seq, Pos: g.Records[len(g.Records)-1].Pos}
	for _, id := range e.ops {
		s.durable[id] = true
	}
	return journal.Durable
}

func (s *store) tail(shard int) (core.Head, [][]byte) {
	var data [][]byte
	for _, e := range s.entries[shard] {
		data = append(data, e.data)
	}
	return s.heads[shard], data
}

// put stores a checkpoint and returns false if the epoch is over.
func (s *store) put(shard int, epoch int64, id core.ID, data []byte) bool {
	if s.owners[shard].Revision != epoch {
		return false
	}
	pos := s.position(data)
	if pos > s.last[shard].Pos {
		s.w.broken("shard %d: the checkpoint of %s is at record %d, the journal ends at %d", shard, id.Key, pos, s.last[shard].Pos)
	}
	if s.checkpoints[shard] == nil {
		s.checkpoints[shard] = map[core.ID]checkpoint{}
	}
	if old := s.checkpoints[shard][id].pos; pos < old && old <= s.heads[shard].Pos {
		s.w.broken("shard %d: the checkpoint of %s at record %d was replaced by an older one at %d, and the journal is cut off at %d", shard, id.Key, old, pos, s.heads[shard].Pos)
	}
	s.w.log("store: shard %d checkpoint of %s at record %d", shard, id.Key, pos)
	s.checkpoints[shard][id] = checkpoint{pos, data}
	return true
}

// position is the record up to which a checkpoint goes.
func (s *store) position(data []byte) int64 {
	var c core.Checkpoint
	if err := json.Unmarshal(data, &c); err != nil {
		s.w.violated("checkpoint does not decode: %v", err)
	}
	return c.Pos
}

// cutOff removes a journal up to head and returns false if the epoch is over.
func (s *store) cutOff(shard int, epoch int64, head core.Head) bool {
	if s.owners[shard].Revision != epoch {
		return false
	}
	var rest []entry
	for _, e := range s.entries[shard] {
		if e.seq > head.Seq {
			rest = append(rest, e)
			continue
		}
		g, err := core.DecodeGroup(e.data)
		if err != nil {
			s.w.violated("shard %d: %v", shard, err)
			return false
		}
		for _, r := range g.Records {
			if s.checkpoints[shard][r.ID].pos < r.Pos {
				s.w.broken("shard %d: record %d of %s is cut off, and no checkpoint has it", shard, r.Pos, r.ID.Key)
			}
		}
	}
	if head.Seq < s.heads[shard].Seq {
		s.w.broken("shard %d: the head goes back from entry %d to %d", shard, s.heads[shard].Seq, head.Seq)
	}
	s.w.log("store: shard %d cut off at entry %d, record %d", shard, head.Seq, head.Pos)
	s.w.result.Cuts++
	s.entries[shard], s.heads[shard] = rest, head
	return true
}
