package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// counter is a sum that starts at 0.
//
//	add {"n":int} -> {"value":v}, a write; v after the addition
//	get {}        -> {"value":v}
type counter struct{ value int64 }

type counterResult struct {
	Value int64 `json:"value"`
}

func (c *counter) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "add":
		var in struct {
			N *int64 `json:"n"`
		}
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("counter add: %w", err)
		}
		if in.N == nil {
			return nil, false, errors.New("counter add: args: n is missing")
		}
		if n := *in.N; n > 0 && c.value > math.MaxInt64-n || n < 0 && c.value < math.MinInt64-n {
			return nil, false, fmt.Errorf("counter add: args: n: %d + %d is beyond 64 bits", c.value, n)
		}
		c.value += *in.N
		return encode(counterResult{c.value}), true, nil
	case "get":
		if err := decode(args, &none{}); err != nil {
			return nil, false, fmt.Errorf("counter get: %w", err)
		}
		return encode(counterResult{c.value}), false, nil
	}
	return nil, false, fmt.Errorf("counter: unknown operation %q; have add, get", op)
}

func (c *counter) Clone() State {
	clone := *c
	return &clone
}

func (c *counter) Fingerprint() string { return strconv.FormatInt(c.value, 10) }
