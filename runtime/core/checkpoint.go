package core

import (
	"encoding/json"
	"fmt"
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
	return head, dirty
}

// Snapshot encodes the state of an entity as of now. The checkpoint must be
// stored only after DurablePos has reached its Pos: a checkpoint ahead of the
// journal would keep a write alive whose epoch lost it. If the entity is not
// in memory, ok is false and the output asks for it to be loaded; try again.
func (s *Shard) Snapshot(id ID) (c Checkpoint, ok bool, out Output, err error) {
	e, known := s.entities[id]
	if !known {
		s.entities[id] = &live{answers: map[string]Answer{}}
		s.out.Loads = append(s.out.Loads, id)
		return c, false, s.take(), nil
	}
	if e.state == nil {
		return c, false, Output{}, nil
	}
	c = Checkpoint{ID: id, Pos: e.pos}
	if c.State, err = json.Marshal(e.state); err != nil {
		return c, false, Output{}, fmt.Errorf("snapshot of %s/%s: %w", id.Type, id.Key, err)
	}
	for _, op := range e.order {
		c.Dedupe = append(c.Dedupe, e.answers[op])
	}
	return c, true, Output{}, nil
}

// Stored notes that a checkpoint is in the store.
func (s *Shard) Stored(id ID, pos int64) {
	if e, ok := s.entities[id]; ok {
		e.stored = max(e.stored, pos)
	}
}

// DurablePos is the position of the last durable record.
func (s *Shard) DurablePos() int64 { return s.durablePos }
