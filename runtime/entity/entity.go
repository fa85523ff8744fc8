// Package entity is the Go SDK of the reference runtime: an entity is business
// logic only. It decides on commands and folds events; the runtime keeps it in
// memory, stores its events, moves it between nodes and calls it with one
// command at a time.
package entity

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Type is a kind of entity that a node can host.
type Type struct {
	Name string        // as in the address: /v1/entities/{Name}/{key}/{command}
	New  func() Entity // a fresh entity, to which nothing was applied
}

// Entity is one event-sourced entity. Its exported fields are its state: the
// runtime stores snapshots of it with encoding/json. Methods are never called
// concurrently on one entity.
type Entity interface {
	// Handle decides on a command and must not change the entity. An error
	// means that the command makes no sense (unknown, bad arguments); a
	// command refused for business reasons is a Decision with Reject set.
	Handle(c Command) (Decision, error)
	// Apply folds one event into the entity. It is the only place where the
	// entity changes, and it must not fail or depend on anything but the
	// entity and the event: it runs again when the entity is recovered.
	Apply(e Event)
	// Applied tells what was applied so far; embed a Witness to have it.
	Applied() (version int64, digest string)
}

// Command is what a client asks of an entity.
type Command struct {
	Name string          // e.g. "add"
	Args json.RawMessage // a JSON object; empty means {}
}

// Bind decodes the arguments into v. Unknown members are ignored.
func (c Command) Bind(v any) error {
	if len(c.Args) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.Args, v); err != nil {
		return fmt.Errorf("%s: arguments: %w", c.Name, err)
	}
	return nil
}

// Unknown is the error for a command that the entity does not have.
func (c Command) Unknown() error { return &UnknownCommandError{Command: c.Name} }

// UnknownCommandError says that an entity has no command of that name.
type UnknownCommandError struct{ Command string }

func (e *UnknownCommandError) Error() string { return fmt.Sprintf("unknown command %q", e.Command) }

// Event is a fact about an entity.
type Event struct {
	Op   string          `json:"-"` // id of the operation that caused it; the runtime fills it in
	Name string          `json:"name"`
	Data json.RawMessage `json:"data,omitempty"`
}

// Decision is an entity's answer to a command.
type Decision struct {
	Event  *Event // to be stored and applied; nil for reads and rejections
	Result any    // the reply, encoded as JSON
	Read   bool   // the command only reads: it is neither stored nor deduplicated
	Reject string // business reason for refusing; Event and Result are ignored
}

// Reply is the decision of a command that only reads.
func Reply(result any) Decision { return Decision{Read: true, Result: result} }

// Reject is the decision of a command that is refused for a business reason.
func Reject(reason string) Decision { return Decision{Reject: reason} }

// Emit is the decision of a command that changes the entity by one event.
// data is encoded as JSON; encoding errors surface when the event is stored.
func Emit(name string, data, result any) (Decision, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return Decision{}, fmt.Errorf("encode event %s: %w", name, err)
	}
	return Decision{Event: &Event{Name: name, Data: raw}, Result: result}, nil
}

// Witness is the list of operations applied to an entity, in order, with its
// hash chain. Entities under test keep it in their own state, so that every
// reply tells which history it was computed from and an audit can read it back.
type Witness struct {
	IDs    []string `json:"ids"`
	Digest string   `json:"digest"`
}

// Record notes that the operation op was applied. The digest after it is the
// first 16 hexadecimal digits of SHA-256(previous digest + op); the first
// previous digest is 16 zeros.
func (w *Witness) Record(op string) {
	_, prev := w.Applied()
	sum := sha256.Sum256([]byte(prev + op))
	w.IDs, w.Digest = append(w.IDs, op), hex.EncodeToString(sum[:8])
}

// Applied returns how many operations were applied, and their digest.
func (w *Witness) Applied() (version int64, digest string) {
	if w.Digest == "" {
		return 0, "0000000000000000"
	}
	return int64(len(w.IDs)), w.Digest
}

// List is the reply to the command "witness".
func (w *Witness) List() Decision {
	ids := w.IDs
	if ids == nil {
		ids = []string{}
	}
	return Reply(map[string][]string{"ids": ids})
}
