package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
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
	by    []byte // never shared
	out   answer
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
		if err := noArgs(args); err != nil {
			return nil, false, fmt.Errorf("approval expire: %w", err)
		}
		if a.state != pending {
			return a.out.rejected("not pending"), false, nil
		}
		return a.become(expired), true, nil
	case "get":
		if err := noArgs(args); err != nil {
			return nil, false, fmt.Errorf("approval get: %w", err)
		}
		return a.content(), false, nil
	}
	return nil, false, fmt.Errorf("approval: unknown operation %q; have submit, approve, reject, expire, get", op)
}

func (a *approval) submit(args json.RawMessage) (json.RawMessage, bool, error) {
	by, _, err := decodeSubmit(args)
	if err != nil {
		return nil, false, fmt.Errorf("approval submit: %w", err)
	}
	if a.state == pending {
		return a.out.rejected("already pending"), false, nil
	}
	a.round++
	a.by = append(a.by[:0], by...)
	return a.become(pending), true, nil
}

func (a *approval) decide(op string, args json.RawMessage, state string) (json.RawMessage, bool, error) {
	by := text("by")
	if !plain(args, &by) {
		var in struct {
			By *string `json:"by"`
		}
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("approval %s: %w", op, err)
		}
		by.setText(in.By)
	}
	if err := by.required(); err != nil {
		return nil, false, fmt.Errorf("approval %s: %w", op, err)
	}
	switch {
	case a.state != pending:
		return a.out.rejected("not pending"), false, nil
	case bytes.Equal(by.text, a.by):
		return a.out.rejected("own request"), false, nil
	}
	return a.become(state), true, nil
}

func (a *approval) become(state string) json.RawMessage {
	a.state = state
	return a.out.object().text("state", a.state).number("round", a.round).end()
}

func (a *approval) content() json.RawMessage {
	return a.out.object().text("state", a.state).number("round", a.round).bytes("by", a.by).end()
}

// decodeSubmit reads the args of a submit. by shares memory with them.
func decodeSubmit(args json.RawMessage) (by []byte, deadlineMS int64, err error) {
	who, deadline := text("by"), number("deadline_ms")
	if !plain(args, &who, &deadline) {
		var in struct {
			By         *string `json:"by"`
			DeadlineMS *int64  `json:"deadline_ms"`
		}
		if err := decode(args, &in); err != nil {
			return nil, 0, err
		}
		who.setText(in.By)
		deadline.setNumber(in.DeadlineMS)
	}
	if err := who.required(); err != nil {
		return nil, 0, err
	}
	if err := deadline.atLeast(1); err != nil {
		return nil, 0, err
	}
	return who.text, deadline.number, nil
}

func (a *approval) Clone() State {
	return &approval{state: a.state, round: a.round, by: slices.Clone(a.by)}
}

func (a *approval) Fingerprint() string { return string(a.Clone().(*approval).content()) }
