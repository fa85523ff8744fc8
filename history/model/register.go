package model

import (
	"encoding/json"
	"errors"
	"fmt"
)

// register holds one string, or nothing until it is first set.
//
//	set {"value":string} -> {"value":string}, a write
//	get {}               -> {"value":string}, {"value":null} if never set
type register struct {
	value *string // never changed in place
}

type registerValue struct {
	Value *string `json:"value"`
}

func (r *register) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "set":
		var in registerValue
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("register set: %w", err)
		}
		if in.Value == nil {
			return nil, false, errors.New("register set: args: value is missing")
		}
		r.value = in.Value
		return encode(in), true, nil
	case "get":
		if err := decode(args, &none{}); err != nil {
			return nil, false, fmt.Errorf("register get: %w", err)
		}
		return encode(registerValue{r.value}), false, nil
	}
	return nil, false, fmt.Errorf("register: unknown operation %q; have set, get", op)
}

func (r *register) Clone() State {
	clone := *r
	return &clone
}

// Fingerprint is the value as JSON: null differs from the string "null".
func (r *register) Fingerprint() string { return string(encode(r.value)) }
