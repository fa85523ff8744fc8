package sim

import (
	"encoding/json"

	"statequake/runtime/core"
	"statequake/runtime/entity"
)

// limit is where a counter starts to refuse.
const limit = 60

// arg is the argument of a command and the data of its event.
type arg struct {
	N     int    `json:"n,omitempty"`
	Value string `json:"value,omitempty"`
}

// counter adds, and refuses what would exceed limit.
type counter struct {
	entity.Witness
	Sum int `json:"sum"`
}

func (c *counter) Handle(cmd entity.Command) (entity.Decision, error) {
	var a arg
	if err := cmd.Bind(&a); err != nil {
		return entity.Decision{}, err
	}
	switch {
	case cmd.Name == "get":
		return entity.Reply(c.Sum), nil
	case cmd.Name == "witness":
		return c.List(), nil
	}
	d, err := entity.Emit("added", a, c.Sum+a.N)
	if c.Sum+a.N > limit {
		d.Reject = "too much" // and so without the event
	}
	return d, err
}

func (c *counter) Apply(e entity.Event) {
	c.Sum += decode(e).N
	c.Record(e.Op)
}

// register holds a value until it is deleted.
type register struct {
	entity.Witness
	Value string `json:"value"`
}

func (r *register) Handle(cmd entity.Command) (entity.Decision, error) {
	var a arg
	if err := cmd.Bind(&a); err != nil {
		return entity.Decision{}, err
	}
	switch cmd.Name {
	case "get":
		return entity.Reply(r.Value), nil
	case "witness":
		return r.List(), nil
	case "delete":
		return entity.Decision{Event: &entity.Event{Name: entity.DeletedEvent}, Result: ""}, nil
	}
	return entity.Emit("set", a, a.Value)
}

func (r *register) Apply(e entity.Event) {
	r.Value = ""
	if e.Name != entity.DeletedEvent {
		r.Value = decode(e).Value
	}
	r.Record(e.Op)
}

func decode(e entity.Event) (a arg) {
	if err := json.Unmarshal(e.Data, &a); err != nil {
		panic(err) // only events of this package come here
	}
	return a
}

// types are the same in all simulations; nothing in them changes.
var types = map[string]entity.Type{
	"counter":  {Name: "counter", New: func() entity.Entity { return &counter{} }},
	"register": {Name: "register", New: func() entity.Entity { return &register{} }},
}

// shardOf places the keys next to each other.
func (w *world) shardOf(id core.ID) int {
	for i, k := range w.keys {
		if k == id {
			return i % w.shards
		}
	}
	return 0
}
