// Package model holds the sequential specifications of the workloads'
// entities, shared by load generators and checkers. The services under test
// never import it: a checker that uses the code it checks tests itself.
package model

import "encoding/json"

// State is the state of one entity. It does not know the operation "witness",
// whose answer depends on the ids of operations and not on the state. A State is
// not safe for concurrent use, not even for reads.
type State interface {
	// Apply runs one operation and changes the state accordingly; id is the
	// operation's own, which some states keep. The result
	// is what a correct system answers, as JSON; it lies in a buffer of the state
	// and is valid until the next Apply on that state. Args are not kept.
	// Apply allocates nothing, as long as the state does not grow and args are
	// written as the workloads write them. wrote is true if the operation
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
	"register": func() State { return newRegister() },
	"cart":     func() State { return new(cart) },
	"account":  func() State { return newAccount() },
	"twin":     func() State { return new(twin) },
	"board":    func() State { return newBoard() },
	"playback": func() State { return new(playback) },
	"approval": func() State { return newApproval() },
	"table":    func() State { return new(table) },
}

// For returns a fresh state of the named entity type ("counter", "register",
// "cart", "account", "twin", "board", "playback", "approval", "table") and whether
// there is a model of it. An action has none.
func For(entity string) (State, bool) {
	newState, ok := entities[entity]
	if !ok {
		return nil, false
	}
	return newState(), true
}
