package model

import (
	"encoding/json"
	"errors"
	"fmt"
)

// twin is the last state that a device reported of itself. Reports are numbered
// by the device from 1 and may arrive late.
//
//	report {"seq":int>=1,"value":int}
//	    -> {"seq":n}, a write
//	    -> {"rejected":"stale"} if seq is not above that of the last accepted report
//	get {}
//	    -> {"seq":n,"value":v}, both 0 before the first report
type twin struct{ seq, value int64 }

type twinReported struct {
	Seq int64 `json:"seq"`
}

type twinState struct {
	Seq   int64 `json:"seq"`
	Value int64 `json:"value"`
}

func (t *twin) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "report":
		return t.report(args)
	case "get":
		if err := decode(args, &none{}); err != nil {
			return nil, false, fmt.Errorf("twin get: %w", err)
		}
		return encode(twinState{t.seq, t.value}), false, nil
	}
	return nil, false, fmt.Errorf("twin: unknown operation %q; have report, get", op)
}

func (t *twin) report(args json.RawMessage) (json.RawMessage, bool, error) {
	var in struct {
		Seq   *int64 `json:"seq"`
		Value *int64 `json:"value"`
	}
	if err := decode(args, &in); err != nil {
		return nil, false, fmt.Errorf("twin report: %w", err)
	}
	if err := atLeast(1, "seq", in.Seq); err != nil {
		return nil, false, fmt.Errorf("twin report: %w", err)
	}
	if in.Value == nil {
		return nil, false, errors.New("twin report: args: value is missing")
	}
	if *in.Seq <= t.seq {
		return encode(rejection{"stale"}), false, nil
	}
	t.seq, t.value = *in.Seq, *in.Value
	return encode(twinReported{t.seq}), true, nil
}

func (t *twin) Clone() State {
	clone := *t
	return &clone
}

func (t *twin) Fingerprint() string { return string(encode(twinState{t.seq, t.value})) }
