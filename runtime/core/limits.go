package core

import (
	"encoding/json"
	"errors"
	"fmt"

	"statequake/runtime/entity"
)

// Limits of a shard. Bytes are those of encoded records and snapshots.
const (
	// DedupeLimit is how many operations an entity remembers. A retry that
	// comes after that many later writes and rejections on its entity is
	// executed again.
	DedupeLimit = 1024
	// DedupeBytes bounds what the remembered answers of an entity take; the
	// oldest are forgotten beyond it. No result of a write may be larger.
	DedupeBytes = 256 << 10
	// MaxState bounds the snapshot of an entity: no event makes it larger.
	MaxState = 1 << 20

	defaultMailbox  = 256       // commands that wait for one entity
	maxGroupRecords = 1000      // of one group, and with it of one transaction of the store
	maxGroupBytes   = 512 << 10 // likewise, unless one record is larger
	maxRecordBytes  = 5 << 18   // 1.25 MiB: a group of one must fit a transaction
	liveOverhead    = 512       // of an entity in memory, besides its state and answers
	maxStoring      = 64        // entities that are being stored to make room
)

var (
	// ErrMoved: this shard is not owned here any more.
	ErrMoved = errors.New("the shard has moved")
	// ErrLease: ownership was not confirmed recently enough to read.
	ErrLease = errors.New("ownership is not confirmed")
	// ErrBusy: too much waits here already. The command had no effect here.
	ErrBusy = errors.New("too many commands wait for the entity")
	// ErrFull: the entities in memory exceed their budget twice over, or the
	// timers theirs. The command had no effect here.
	ErrFull = errors.New("the shard is full")
	// ErrTooLarge: the entity or what the command would add to it is too
	// large. The command had no effect.
	ErrTooLarge = errors.New("too large")
	// ErrPanic: the handler panicked. The command had no effect.
	ErrPanic = errors.New("the handler panicked")
)

// tooLarge says which limit a command would exceed.
func tooLarge(what string, size, limit int) error {
	return fmt.Errorf("%w: %s of %d bytes: at most %d", ErrTooLarge, what, size, limit)
}

// encodeResult encodes the result of a decision.
func encodeResult(result any) (json.RawMessage, error) {
	if raw, ok := result.(json.RawMessage); ok && len(raw) > 0 {
		return raw, nil
	}
	return json.Marshal(result)
}

// encodeState takes the snapshot of an entity. What an entity encodes itself
// is not checked and compacted again.
func encodeState(e entity.Entity) (json.RawMessage, error) {
	if m, ok := e.(json.Marshaler); ok {
		return m.MarshalJSON()
	}
	return json.Marshal(e)
}
