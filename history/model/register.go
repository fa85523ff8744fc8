package model

import (
	"encoding/json"
	"fmt"
	"slices"
)

// register holds one string, or nothing until it is first set.
//
//	set {"value":string} -> {"value":string}, a write
//	get {}               -> {"value":string}, {"value":null} if never set
type register struct {
	state answer // the result of a get
}

func newRegister() *register { return &register{answer(`{"value":null}`)} }

func (r *register) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "set":
		value := text("value")
		if !plain(args, &value) {
			var in struct {
				Value *string `json:"value"`
			}
			if err := decode(args, &in); err != nil {
				return nil, false, fmt.Errorf("register set: %w", err)
			}
			value.setText(in.Value)
		}
		if err := value.required(); err != nil {
			return nil, false, fmt.Errorf("register set: %w", err)
		}
		return r.state.object().bytes("value", value.text).end(), true, nil
	case "get":
		if err := noArgs(args); err != nil {
			return nil, false, fmt.Errorf("register get: %w", err)
		}
		return json.RawMessage(r.state), false, nil
	}
	return nil, false, fmt.Errorf("register: unknown operation %q; have set, get", op)
}

func (r *register) Clone() State { return &register{slices.Clone(r.state)} }

func (r *register) Fingerprint() string { return string(r.state) }
