package model

import (
	"encoding/json"
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
type twin struct {
	seq, value int64
	out        answer
}

func (t *twin) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "report":
		return t.report(args)
	case "get":
		if err := noArgs(args); err != nil {
			return nil, false, fmt.Errorf("twin get: %w", err)
		}
		return t.out.object().number("seq", t.seq).number("value", t.value).end(), false, nil
	}
	return nil, false, fmt.Errorf("twin: unknown operation %q; have report, get", op)
}

func (t *twin) report(args json.RawMessage) (json.RawMessage, bool, error) {
	seq, value := number("seq"), number("value")
	if !plain(args, &seq, &value) {
		var in struct {
			Seq   *int64 `json:"seq"`
			Value *int64 `json:"value"`
		}
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("twin report: %w", err)
		}
		seq.setNumber(in.Seq)
		value.setNumber(in.Value)
	}
	if err := seq.atLeast(1); err != nil {
		return nil, false, fmt.Errorf("twin report: %w", err)
	}
	if err := value.required(); err != nil {
		return nil, false, fmt.Errorf("twin report: %w", err)
	}
	if seq.number <= t.seq {
		return t.out.rejected("stale"), false, nil
	}
	t.seq, t.value = seq.number, value.number
	return t.out.object().number("seq", t.seq).end(), true, nil
}

func (t *twin) Clone() State { return &twin{seq: t.seq, value: t.value} }

func (t *twin) Fingerprint() string { return fmt.Sprint(t.seq, t.value) }
