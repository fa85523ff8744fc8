package model

import (
	"encoding/json"
	"errors"
	"fmt"
)

// approval is a request that a person decides on, or that expires. After that
// it can be submitted again, which opens the next round.
//
//	submit {"by":string,"deadline_ms":int>=1}
//	    -> {"state":"pending","round":n}, a write; n counts from 1
//	    -> {"rejected":"already pending"}
//	approve {"by":string}
//	    -> {"state":"approved","round":n}, a write
//	    -> {"rejected":"not pending"}, or {"rejected":"own request"} by who submitted it
//	reject {"by":string}
//	    -> {"state":"rejected","round":n}, a write; rejections as of approve
//	expire {}
//	    -> {"state":"expired","round":n}, a write
//	    -> {"rejected":"not pending"}
//	get {}
//	    -> {"state":s,"round":n,"by":who submitted}, "none", 0 and "" before the first submit
//
// expire is what the timer of a submit sends when the deadline is over.
type approval struct {
	state string
	round int64
	by    string
}

type approvalDecided struct {
	State string `json:"state"`
	Round int64  `json:"round"`
}

type approvalState struct {
	State string `json:"state"`
	Round int64  `json:"round"`
	By    string `json:"by"`
}

// Approvals are in one of these states.
const (
	unsubmitted = "none"
	pending     = "pending"
	approved    = "approved"
	refused     = "rejected"
	expired     = "expired"
)

func newApproval() *approval { return &approval{state: unsubmitted} }

func (a *approval) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "submit":
		return a.submit(args)
	case "approve":
		return a.decide(op, args, approved)
	case "reject":
		return a.decide(op, args, refused)
	case "expire":
		if err := decode(args, &none{}); err != nil {
			return nil, false, fmt.Errorf("approval expire: %w", err)
		}
		if a.state != pending {
			return encode(rejection{"not pending"}), false, nil
		}
		return a.become(expired), true, nil
	case "get":
		if err := decode(args, &none{}); err != nil {
			return nil, false, fmt.Errorf("approval get: %w", err)
		}
		return encode(approvalState{a.state, a.round, a.by}), false, nil
	}
	return nil, false, fmt.Errorf("approval: unknown operation %q; have submit, approve, reject, expire, get", op)
}

func (a *approval) submit(args json.RawMessage) (json.RawMessage, bool, error) {
	by, _, err := decodeSubmit(args)
	if err != nil {
		return nil, false, fmt.Errorf("approval submit: %w", err)
	}
	if a.state == pending {
		return encode(rejection{"already pending"}), false, nil
	}
	a.round++
	a.by = by
	return a.become(pending), true, nil
}

func (a *approval) decide(op string, args json.RawMessage, state string) (json.RawMessage, bool, error) {
	var in struct {
		By *string `json:"by"`
	}
	if err := decode(args, &in); err != nil {
		return nil, false, fmt.Errorf("approval %s: %w", op, err)
	}
	switch {
	case in.By == nil:
		return nil, false, fmt.Errorf("approval %s: args: by is missing", op)
	case a.state != pending:
		return encode(rejection{"not pending"}), false, nil
	case *in.By == a.by:
		return encode(rejection{"own request"}), false, nil
	}
	return a.become(state), true, nil
}

func (a *approval) become(state string) json.RawMessage {
	a.state = state
	return encode(approvalDecided{a.state, a.round})
}

// decodeSubmit reads the args of a submit.
func decodeSubmit(args json.RawMessage) (by string, deadlineMS int64, err error) {
	var in struct {
		By         *string `json:"by"`
		DeadlineMS *int64  `json:"deadline_ms"`
	}
	if err := decode(args, &in); err != nil {
		return "", 0, err
	}
	if in.By == nil {
		return "", 0, errors.New("args: by is missing")
	}
	if err := atLeast(1, "deadline_ms", in.DeadlineMS); err != nil {
		return "", 0, err
	}
	return *in.By, *in.DeadlineMS, nil
}

func (a *approval) Clone() State {
	clone := *a
	return &clone
}

func (a *approval) Fingerprint() string { return string(encode(approvalState{a.state, a.round, a.by})) }
