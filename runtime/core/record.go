package core

import (
	"encoding/json"

	"statequake/runtime/entity"
)

// ID addresses an entity.
type ID struct {
	Type string `json:"type"`
	Key  string `json:"key"`
}

// Record is one command that was decided on, as the journal holds it. A
// rejected command has a record without an event, so that a retry of it after
// a failover is answered alike. A record without an Op is of timers alone: one
// that fired elsewhere is taken off.
type Record struct {
	Pos     int64           `json:"pos"` // position in the shard, from 1, without gaps
	ID      ID              `json:"id"`
	Op      string          `json:"op"`
	Event   *entity.Event   `json:"event,omitempty"`
	Result  json.RawMessage `json:"result"`
	Version int64           `json:"version"`
	Digest  string          `json:"digest"`
	Timers  []TimerChange   `json:"timers,omitempty"` // of the entity, in order
}

// bytes is about what a record takes in the journal.
func (r *Record) bytes() int {
	n := 64 + len(r.ID.Type) + len(r.ID.Key) + len(r.Op) + len(r.Result) + len(r.Digest)
	if r.Event != nil {
		n += len(r.Event.Name) + len(r.Event.Data)
	}
	for _, t := range r.Timers {
		n += t.bytes()
	}
	return n
}

// Group is what one flush makes durable for one shard: all of it or nothing.
type Group struct {
	Seq     int64    `json:"seq"`   // position in the shard's journal, from 1, without gaps
	Epoch   int64    `json:"epoch"` // of the owner that wrote it
	Records []Record `json:"records"`
}

// Head tells where the journal of a shard starts: everything up to and with
// Seq (and its last record Pos) is held by checkpoints and was cut off.
type Head struct {
	Seq int64 `json:"seq"`
	Pos int64 `json:"pos"`
}

// Checkpoint is the state of one entity after the record at Pos.
type Checkpoint struct {
	ID     ID              `json:"id"`
	Pos    int64           `json:"pos"`
	State  json.RawMessage `json:"state"`
	Dedupe []Answer        `json:"dedupe"` // oldest first
}

// Answer is the reply to an operation that was executed, kept so that a retry
// of it gets the same.
type Answer struct {
	Op      string          `json:"op"`
	Result  json.RawMessage `json:"result"`
	Version int64           `json:"version"`
	Digest  string          `json:"digest"`
}
