package model

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// counter is a sum that starts at 0.
//
//	add {"n":int} -> {"value":v}, a write; v after the addition
//	get {}        -> {"value":v}
type counter struct {
	value int64
	out   answer
}

func (c *counter) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "add":
		n := number("n")
		if !plain(args, &n) {
			var in struct {
				N *int64 `json:"n"`
			}
			if err := decode(args, &in); err != nil {
				return nil, false, fmt.Errorf("counter add: %w", err)
			}
			n.setNumber(in.N)
		}
		if err := n.required(); err != nil {
			return nil, false, fmt.Errorf("counter add: %w", err)
		}
		if n := n.number; n > 0 && c.value > math.MaxInt64-n || n < 0 && c.value < math.MinInt64-n {
			return nil, false, fmt.Errorf("counter add: args: n: %d + %d is beyond 64 bits", c.value, n)
		}
		c.value += n.number
		return c.out.object().number("value", c.value).end(), true, nil
	case "get":
		if err := noArgs(args); err != nil {
			return nil, false, fmt.Errorf("counter get: %w", err)
		}
		return c.out.object().number("value", c.value).end(), false, nil
	}
	return nil, false, fmt.Errorf("counter: unknown operation %q; have add, get", op)
}

func (c *counter) Clone() State { return &counter{value: c.value} }

func (c *counter) Fingerprint() string { return strconv.FormatInt(c.value, 10) }
