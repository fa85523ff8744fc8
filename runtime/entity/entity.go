// Package entity is the Go SDK of the reference runtime: an entity is business
// logic only. It decides on commands and folds events; the runtime keeps it in
// memory, keeps its events, moves it between nodes and calls it with one
// command at a time.
//
// Value and EventSourced are the two kinds of entities, Action is stateless.
// The interface Entity is what the runtime sees of both kinds; handlers in
// other languages implement it.
package entity

import (
	"encoding/json"
	"fmt"
	"time"
)

// Type is a kind of entity that a node can host.
type Type struct {
	Name string        // as in the address: /v1/entities/{Name}/{key}/{command}; not empty, without a leading "_"
	New  func() Entity // a fresh entity, to which nothing was applied

	// SnapshotEvery is how many commands an entity takes before a snapshot of
	// it is asked for; 0: whenever the journal of its shard is cut.
	SnapshotEvery int

	// Slow types may take their time to decide, as handlers in other processes
	// do: Handle is called outside of the shard, while other entities go on.
	// Further commands of the entity queue up meanwhile.
	Slow bool
}

// Entity is one event-sourced entity. Its exported fields are its state: the
// runtime takes snapshots of it with encoding/json. Methods are never called
// concurrently on one entity, except that a Slow one may be encoded while
// Handle runs.
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
	Op   string          // id of the operation; the runtime fills it in, and Key
	Key  string          // of the entity; "" for an action
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
	Event  *Event  // to be stored and applied; nil for reads and rejections
	Result any     // the reply, encoded as JSON; a json.RawMessage is taken as it is
	Read   bool    // the command only reads: it is neither stored nor deduplicated
	Reject string  // business reason for refusing; Event, Result and Timers are ignored
	Timers []Timer // to be set or cancelled, in order; none with Read
}

// Timer asks for a command to be sent later, once: by name, of which an entity
// has each at most once. Setting it again replaces it.
//
// After counts from the execution of the command that sets it, on the wall
// clock. A timer is never early by its owner's clock; it is late by as long as
// the shard had no owner, the handler took, or the clocks of nodes differ.
type Timer struct {
	Name    string
	After   time.Duration
	Command string
	Args    json.RawMessage // a JSON object; empty means {}

	// The target. All empty: the entity itself.
	Type, Key string // another entity
	Action    string // or an action

	Cancel bool // take back the timer of that name, if it has not fired yet; the rest is ignored
}

// Reply is the decision of a command that only reads.
func Reply(result any) Decision { return Decision{Read: true, Result: result} }

// Reject is the decision of a command that is refused for a business reason.
func Reject(reason string) Decision { return Decision{Reject: reason} }

// Emit is the decision of a command that changes the entity by one event.
// data is encoded as JSON; result is encoded when the command is executed.
func Emit(name string, data, result any) (Decision, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return Decision{}, fmt.Errorf("encode event %s: %w", name, err)
	}
	return Decision{Event: &Event{Name: name, Data: raw}, Result: result}, nil
}
