package entity

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// None is the type of arguments that a command does not have.
type None struct{}

// Context is what a command that writes may ask for besides its result. It is
// valid during the call alone.
type Context struct {
	op     string
	key    string
	events []Event
	first  [1]Event // of events, most often
	timers []Timer
	err    error
}

// Op is the id of the operation that sent the command, the same in a retry.
func (c *Context) Op() string { return c.op }

// Key is the entity's own key.
func (c *Context) Key() string { return c.key }

// Emit has an event applied and kept; only EventSourced entities have events.
// Its state after the event is seen by the next command.
func (c *Context) Emit(name string, data any) {
	raw, err := json.Marshal(data)
	if err != nil {
		c.err = errors.Join(c.err, fmt.Errorf("encode event %s: %w", name, err))
	}
	if c.events == nil {
		c.events = c.first[:0]
	}
	c.events = append(c.events, Event{Name: name, Data: raw})
}

// Delete has the entity be as if it was new: the next command finds the zero
// state. A value's next state is ignored then. Its timers stand, its version goes
// on, and the answers to its latest operations are kept, so that a retry does not
// delete what was written since.
func (c *Context) Delete() { c.Emit(DeletedEvent, nil) }

// After sets the timer name: command is sent to this entity after d, once, also
// if the node is gone by then. args is encoded as JSON, nil means none.
func (c *Context) After(name string, d time.Duration, command string, args any) {
	c.Set(Timer{Name: name, After: d, Command: command}, args)
}

// Set sets or cancels a timer. args, unless nil, replace t.Args.
func (c *Context) Set(t Timer, args any) {
	if args != nil {
		raw, err := json.Marshal(args)
		if err != nil {
			c.err = errors.Join(c.err, fmt.Errorf("encode arguments of timer %s: %w", t.Name, err))
		}
		t.Args = raw
	}
	c.timers = append(c.timers, t)
}

// Cancel takes a timer back, if it has not fired yet.
func (c *Context) Cancel(name string) { c.Set(Timer{Name: name, Cancel: true}, nil) }

// RefusedError is how a command refuses for a business reason.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "refused: " + e.Reason }

// Refuse is the error of a command that refuses for a business reason. It is an
// outcome like any other: kept, and given again to a retry.
func Refuse(reason string) error { return &RefusedError{reason} }

// Handler is one command of an entity with the state S; Update, Decide and
// Query make one.
type Handler[S any] func(state *S, c Command) (Decision, error)

// Update is a command of a Value: f returns the next state and the result. It
// must not change what the old state refers to (clone slices and maps first).
func Update[S, A, R any](f func(c *Context, state S, args A) (S, R, error)) Handler[S] {
	return func(state *S, c Command) (Decision, error) {
		x := call[A]{Context: Context{op: c.Op, key: c.Key}}
		if err := c.Bind(&x.args); err != nil {
			return Decision{}, err
		}
		next, result, err := f(&x.Context, *state, x.args)
		if err != nil {
			return refusal(c, err)
		}
		if w := witnessOf(&next); w != nil {
			*w = Witness{} // kept apart from the value
		}
		switch {
		case len(x.events) == 0:
			x.Emit(valueEvent, next)
		case len(x.events) > 1 || x.events[0].Name != DeletedEvent:
			return Decision{}, fmt.Errorf("%s: a value has no events", c.Name)
		}
		return x.decide(result)
	}
}

// Decide is a command of an EventSourced entity: f emits events by its context
// and returns the result. It must not change the state. If it refuses, what it
// has emitted before does not happen.
func Decide[S, A, R any](f func(c *Context, state *S, args A) (R, error)) Handler[S] {
	return func(state *S, c Command) (Decision, error) {
		x := call[A]{Context: Context{op: c.Op, key: c.Key}}
		if err := c.Bind(&x.args); err != nil {
			return Decision{}, err
		}
		result, err := f(&x.Context, state, x.args)
		if err != nil {
			d, err := refusal(c, err)
			if len(x.events) > 0 && err == nil {
				var emitted Decision
				emitted, err = x.decide(nil)
				d.Event = emitted.Event // for the runtime to drop
			}
			return d, err
		}
		return x.decide(result)
	}
}

// Query is a command of either kind that only reads. It must not change the state.
func Query[S, A, R any](f func(state *S, args A) (R, error)) Handler[S] {
	return func(state *S, c Command) (Decision, error) {
		args, err := bind[A](c)
		if err != nil {
			return Decision{}, err
		}
		result, err := f(state, args)
		if err != nil {
			return Decision{}, fmt.Errorf("%s: %w", c.Name, err)
		}
		raw, err := json.Marshal(result)
		return Decision{Read: true, Result: json.RawMessage(raw)}, err
	}
}

// call is a command that is decided on, in one allocation.
type call[A any] struct {
	Context
	args A
}

func bind[A any](c Command) (args A, err error) {
	err = c.Bind(&args)
	return args, err
}

func refusal(c Command, err error) (Decision, error) {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return Decision{Reject: refused.Reason}, nil
	}
	return Decision{}, fmt.Errorf("%s: %w", c.Name, err)
}

// Names of events that hold a value, and more than one event.
const (
	valueEvent  = "value"
	eventsEvent = "events"
)

// DeletedEvent is the name of the event of Context.Delete.
const DeletedEvent = "_deleted"

func (x *Context) decide(result any) (Decision, error) {
	raw, err := json.Marshal(result)
	if err = errors.Join(x.err, err); err != nil {
		return Decision{}, err
	}
	d := Decision{Result: json.RawMessage(raw), Timers: x.timers}
	switch len(x.events) {
	case 0:
	case 1:
		d.Event = &x.events[0]
	default:
		data, err := json.Marshal(x.events)
		if err != nil {
			return Decision{}, fmt.Errorf("encode events: %w", err)
		}
		d.Event = &Event{Name: eventsEvent, Data: data}
	}
	return d, nil
}

// each calls f with every event of one decision.
func each(e *Event, f func(Event) error) error {
	if e.Name != eventsEvent {
		return f(*e)
	}
	var events []Event
	mustDecode(*e, &events)
	for _, one := range events {
		if err := f(one); err != nil {
			return err
		}
	}
	return nil
}

// Value is an entity whose state is replaced as a whole by a command.
type Value[S any] struct {
	Name     string
	Commands map[string]Handler[S] // of Update and Query
	Slow     bool                  // as in Type
}

// Type is what a node hosts.
func (v Value[S]) Type() Type {
	replace := func(state *S, e Event) {
		var next S
		if e.Name != DeletedEvent {
			mustDecode(e, &next)
		}
		become(state, next)
	}
	return Type{Name: v.Name, Slow: v.Slow, New: func() Entity {
		return &typed[S]{commands: v.Commands, apply: replace}
	}}
}

// become replaces a state, but not its witness.
func become[S any](state *S, next S) {
	if w := witnessOf(&next); w != nil {
		*w = *witnessOf(state)
	}
	*state = next
}

// Fold is how one event changes a state S; On makes one.
type Fold[S any] func(state *S, e Event)

// On is the fold of an event with the data E.
func On[S, E any](f func(state *S, data E)) Fold[S] {
	return func(state *S, e Event) {
		var data E
		mustDecode(e, &data)
		f(state, data)
	}
}

// EventSourced is an entity whose commands emit events, of which its state is
// the fold. The names of events must not change while there are entities.
type EventSourced[S any] struct {
	Name          string
	Commands      map[string]Handler[S] // of Decide and Query
	Events        map[string]Fold[S]    // of On, by the name of the event
	SnapshotEvery int                   // as in Type
	Slow          bool                  // as in Type
}

// Type is what a node hosts.
func (v EventSourced[S]) Type() Type {
	fold := func(state *S, packed Event) {
		err := each(&packed, func(e Event) error {
			if e.Name == DeletedEvent {
				var fresh S
				become(state, fresh)
				return nil
			}
			f, ok := v.Events[e.Name]
			if !ok {
				return fmt.Errorf("entity type %s has no event %q", v.Name, e.Name)
			}
			f(state, e)
			return nil
		})
		if err != nil {
			panic(err) // of the journal, written by other code
		}
	}
	return Type{Name: v.Name, SnapshotEvery: v.SnapshotEvery, Slow: v.Slow, New: func() Entity {
		return &typed[S]{commands: v.Commands, events: v.Events, apply: fold}
	}}
}

// typed is an entity of either kind as the runtime sees it.
type typed[S any] struct {
	commands map[string]Handler[S]
	events   map[string]Fold[S] // nil for a value
	apply    func(*S, Event)
	state    S
	version  int64 // commands applied, however many events they had
}

func (t *typed[S]) Handle(c Command) (Decision, error) {
	h, ok := t.commands[c.Name]
	if !ok {
		if w := witnessOf(&t.state); w != nil && c.Name == "witness" {
			return w.List(), nil
		}
		return Decision{}, c.Unknown()
	}
	d, err := h(&t.state, c)
	if err != nil || d.Event == nil || t.events == nil {
		return d, err
	}
	return d, each(d.Event, func(e Event) error {
		if _, ok := t.events[e.Name]; !ok && e.Name != DeletedEvent {
			return fmt.Errorf("%s: the entity has no event %q", c.Name, e.Name)
		}
		return nil
	})
}

func (t *typed[S]) Apply(e Event) {
	t.apply(&t.state, e)
	t.version++
	if w := witnessOf(&t.state); w != nil {
		w.Record(e.Op)
	}
}

func (t *typed[S]) Applied() (int64, string) {
	if w := witnessOf(&t.state); w != nil {
		return w.Applied()
	}
	return t.version, ""
}

// MarshalJSON and UnmarshalJSON are the snapshot.
func (t *typed[S]) MarshalJSON() ([]byte, error) {
	state, err := json.Marshal(&t.state)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(state)+48)
	out = fmt.Appendf(out, `{"version":%d,"state":`, t.version)
	return append(append(out, state...), '}'), nil
}

func (t *typed[S]) UnmarshalJSON(data []byte) error {
	snapshot := struct {
		Version *int64 `json:"version"`
		State   *S     `json:"state"`
	}{&t.version, &t.state}
	return json.Unmarshal(data, &snapshot)
}

// mustDecode reads back an event that was encoded here.
func mustDecode(e Event, v any) {
	if err := json.Unmarshal(e.Data, v); err != nil {
		panic("event " + e.Name + " does not decode: " + err.Error())
	}
}
