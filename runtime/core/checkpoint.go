package core

import (
	"fmt"
	"slices"
)

// Backlog is the number of records that a successor would have to fold, or
// that are held in memory since the last Plan.
func (s *Shard) Backlog(head Head) int64 { return s.nextPos - 1 - head.Pos }

// Plan says which entities must be stored so that the journal can be cut off
// at the returned head: all that were changed at or before it and since their
// last checkpoint.
func (s *Shard) Plan() (Head, []ID) {
	head := Head{Seq: s.nextSeq - 1, Pos: s.durablePos}
	if s.flushing != nil {
		head.Seq--
	}
	var dirty []ID
	for id, e := range s.entities {
		if e.state != nil && e.pos > e.stored {
			dirty = append(dirty, id)
		}
	}
	for id := range s.tail {
		dirty = append(dirty, id)
	}
	for n := range s.timers.pages {
		if p := &s.timers.pages[n]; p.pos > p.stored {
			dirty = append(dirty, pageID(n))
		}
	}
	slices.SortFunc(dirty, compareIDs)
	return head, dirty
}

// Snapshot encodes the state of an entity as of now. The checkpoint must be
// stored only after DurablePos has reached its Pos: a checkpoint ahead of the
// journal would keep a write alive whose epoch lost it. Checkpoints must be
// stored in the order in which they were taken: an older one over a newer one
// would take back what the newer one's entity left memory with. If the entity
// is not in memory, ok is false and the output asks for it to be loaded; try
// again.
func (s *Shard) Snapshot(id ID) (c Checkpoint, ok bool, out Output, err error) {
	if p := s.page(id); p != nil {
		return s.snapshotPage(id, p)
	}
	e, known := s.entities[id]
	if !known {
		s.load(id).wanted = true
		return c, false, s.take(), nil
	}
	if e.state == nil {
		e.wanted = true
		return c, false, Output{}, nil
	}
	e.wanted = false
	c = Checkpoint{ID: id, Pos: e.pos}
	if c.State, err = encodeState(e.state); err != nil {
		return c, false, Output{}, fmt.Errorf("snapshot of %s/%s: %w", id.Type, id.Key, err)
	}
	c.Dedupe = e.answers.list()
	e.encoded, e.since, e.records = len(c.State), 0, 0
	s.measure(e)
	return c, true, Output{}, nil
}

// Stored notes that a checkpoint is in the store. Its entity may leave memory.
func (s *Shard) Stored(id ID, pos int64) {
	if p := s.page(id); p != nil {
		p.stored = max(p.stored, pos)
		return
	}
	if e, ok := s.entities[id]; ok {
		e.stored = max(e.stored, pos)
		s.asked(e)
	}
	s.shrink()
}

// StoreFailed notes that a checkpoint that was asked for was not stored. It is
// asked for again when room is needed.
func (s *Shard) StoreFailed(id ID) {
	if e, ok := s.entities[id]; ok {
		e.wanted = false
		s.asked(e)
	}
}

// DurablePos is the position of the last durable record.
func (s *Shard) DurablePos() int64 { return s.durablePos }
