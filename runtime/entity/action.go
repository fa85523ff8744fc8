package entity

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
)

// Action is stateless: it runs on any node and may call entities.
type Action struct {
	Name     string // as in the address: /v1/actions/{Name}/{command}
	Commands map[string]ActionHandler
}

// ActionHandler is one command of an action; Do makes one.
type ActionHandler func(ctx context.Context, c *Calls, command Command) (json.RawMessage, error)

// Do is the command f of an action. A retry of the operation runs f again from
// the start; each of its calls takes effect once nevertheless, provided that f
// makes the same calls in the same order whenever it gets the same replies to
// those that write. f must not make calls concurrently.
//
// A RefusedError of f is a reply like any other. After other errors the calls
// that were made before stand.
func Do[A, R any](f func(ctx context.Context, c *Calls, args A) (R, error)) ActionHandler {
	return func(ctx context.Context, c *Calls, command Command) (json.RawMessage, error) {
		args, err := bind[A](command)
		if err != nil {
			return nil, err
		}
		result, err := f(ctx, c, args)
		if err != nil {
			d, err := refusal(command, err)
			if err != nil {
				return nil, err
			}
			return json.Marshal(map[string]string{"rejected": d.Reject})
		}
		return json.Marshal(result)
	}
}

// Caller sends one command to an entity and waits for its result.
type Caller func(ctx context.Context, op, typ, key string, c Command) (json.RawMessage, error)

// Calls are the calls of one run of an action.
type Calls struct {
	op   string
	n    int
	send Caller
}

// NewCalls is how a runtime runs an action for the operation op.
func NewCalls(op string, send Caller) *Calls { return &Calls{op: op, send: send} }

// Op is the id of the operation that runs the action, the same in a retry.
func (c *Calls) Op() string { return c.op }

// Resume makes the calls to come those of operation op after its first made
// ones: another run of an action that died is completed under the ids that its
// own calls would have had, so that each takes effect once, whoever makes it.
func (c *Calls) Resume(op string, made int) { c.op, c.n = op, made }

// Made is how many calls were made.
func (c *Calls) Made() int { return c.n }

// Call sends a command to an entity and decodes its result. The nth call of
// operation op is operation op/n, so that it takes effect once. The error is a
// *RefusedError if the entity refused.
func Call[R any](ctx context.Context, c *Calls, typ, key, command string, args any) (result R, err error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return result, fmt.Errorf("%s/%s: %s: encode arguments: %w", typ, key, command, err)
	}
	c.n++
	reply, err := c.send(ctx, c.op+"/"+strconv.Itoa(c.n), typ, key, Command{Name: command, Args: raw})
	if err != nil {
		return result, fmt.Errorf("%s/%s: %s: %w", typ, key, command, err)
	}
	var refused struct {
		Rejected string `json:"rejected"`
	}
	if err := json.Unmarshal(reply, &refused); err == nil && refused.Rejected != "" {
		return result, Refuse(refused.Rejected)
	}
	if err := json.Unmarshal(reply, &result); err != nil {
		return result, fmt.Errorf("%s/%s: %s: result: %w", typ, key, command, err)
	}
	return result, nil
}
