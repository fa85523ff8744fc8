package hand

import (
	"encoding/json"
	"strings"
	"time"

	"statequake/history"
)

// socketName is the socket's name in a run directory.
const socketName = "control.sock"

const (
	maxOrder = 1 << 20 // bytes of an order
	maxLine  = 1 << 20 // bytes of a line of an answer
	maxInfo  = 1 << 20 // bytes of any other answer
)

// Order is a fault to inject.
type Order struct {
	Name  string          `json:"name"`
	Chaos json.RawMessage `json:"chaos"` // as in a scenario: {"kind": ..., "spec": ...}
}

// Line is one line of the answer to an order. One of Event, Note and Error is set.
type Line struct {
	Now   time.Duration  `json:"now_ns"`          // the harness's clock when it wrote this
	Event *history.Fault `json:"event,omitempty"` // on the same clock
	Note  string         `json:"note,omitempty"`  // something to know about the fault
	Error string         `json:"error,omitempty"` // the harness could not do its part: the fault was not undone
}

// Info is what a harness says about itself.
type Info struct {
	Harness string            `json:"harness"` // in words
	Nodes   []Node            `json:"nodes"`
	Can     []string          `json:"can"`              // kinds of faults that it can inject
	Cannot  map[string]string `json:"cannot,omitempty"` // other kinds, and why not
	Active  []string          `json:"active"`           // faults in progress and their targets
}

// Node is a node of the harness's system.
type Node struct {
	Name  string `json:"name"`
	Addr  string `json:"addr"`            // host:port of its API, as the other nodes know it
	Reach string `json:"reach,omitempty"` // host:port at which it answers outside of the harness's network, if that is another
}

// Problem is something that is wrong with an order.
type Problem struct {
	Field string `json:"field,omitempty"` // path seen from the order, as in chaos.spec.mode; "" for all of it
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

// Refused says that a harness refused an order; nothing has happened.
type Refused struct {
	Problems []Problem `json:"problems"` // at least one
}

func (r *Refused) Error() string {
	var parts []string
	for _, p := range r.Problems {
		text := p.Text
		if p.Field != "" {
			text = p.Field + ": " + text
		}
		if p.Hint != "" {
			text += "\nhint: " + p.Hint
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "\n")
}
