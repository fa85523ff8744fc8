// Package model holds the sequential specifications of the workloads'
// entities, shared by load generators and checkers. The services under test
// never import it: a checker that uses the code it checks tests itself.
package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// State is the state of one entity. It does not know the operation "witness",
// whose answer depends on the ids of operations and not on the state.
// Implementations are not safe for
// concurrent use.
type State interface {
	// Apply runs one operation and changes the state accordingly; id is the
	// operation's own, which some states keep. The result
	// is what a correct system answers, as JSON. wrote is true if the operation
	// was accepted as a write and so belongs into the entity's witness; reads
	// and business rejections (a result with a "rejected" member) leave the
	// state as it was. An error means that no correct client sends this.
	Apply(op string, args json.RawMessage, id string) (result json.RawMessage, wrote bool, err error)
	// Clone returns an independent copy.
	Clone() State
	// Fingerprint is equal for equal states and only for those.
	Fingerprint() string
}

// entities names every entity type with its fresh state.
var entities = map[string]func() State{
	"counter":  func() State { return new(counter) },
	"register": func() State { return new(register) },
	"cart":     func() State { return make(cart) },
	"account":  func() State { return newAccount() },
	"twin":     func() State { return new(twin) },
	"board":    func() State { return make(board) },
	"playback": func() State { return new(playback) },
	"approval": func() State { return newApproval() },
}

// For returns a fresh state of the named entity type ("counter", "register",
// "cart", "account", "twin", "board", "playback", "approval") and whether there
// is a model of it. An action has none.
func For(entity string) (State, bool) {
	newState, ok := entities[entity]
	if !ok {
		return nil, false
	}
	return newState(), true
}

// decode reads args into v; no args are an empty object. Members that v lacks
// are an error, since a service may give them a meaning that the model misses.
func decode(args json.RawMessage, v any) error {
	if len(args) == 0 {
		return nil
	}
	if trimmed := bytes.TrimLeft(args, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return fmt.Errorf("args: %q is not an object", args)
	}
	d := json.NewDecoder(bytes.NewReader(args))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("args: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("args: %q is more than one object", args)
	}
	return nil
}

// encode returns v as JSON. v is one of this package's structs of numbers and
// strings, which always encode.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("model: encode %T: %v", v, err))
	}
	return b
}

// none is the args of an operation that takes none.
type none struct{}

// rejection is the result of a business rejection.
type rejection struct {
	Rejected string `json:"rejected"`
}
