package model

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// transferAction moves money between two accounts. It keeps no state: it calls
// the accounts, the one that pays under its own key.
//
//	run {"to":string,"amount":int>=1}
//	    -> {"paid":amount}
//	    -> {"rejected":"insufficient funds"}
//	    -> {"rejected":"same account"} if it is to itself
const transferAction = "transfer"

const insufficientFunds = "insufficient funds"

// ResumeAfter is how long after its debit a transfer that is not settled is
// taken up again, on the system's clock.
const ResumeAfter = 2 * time.Second

// Effect is an operation that another one causes: a call that an action makes,
// or a command that a timer sends.
type Effect struct {
	ID, Entity, Key, Name string
	Args                  json.RawMessage

	// Required effects have all happened by the time that the operation is
	// answered and not rejected.
	Required bool
	// After is how long after the execution of the operation its timer sends
	// the effect, on the system's clock; 0 if there is no timer.
	After time.Duration
}

// Action reports whether the named type is an action: there is no state and so
// no model and no witness of it, and its replies tell no version.
func Action(entity string) bool { return entity == transferAction }

// Derived returns what the operation id on entity/key may cause elsewhere, or
// later, in the order in which it happens; nil if there is nothing, or no
// correct client sends the operation. An operation that is rejected, or has no
// effect, causes none of it. All of it takes effect once at most.
//
// The nth call of operation op is operation op/n, and its timer named t sends
// operation op/t.
func Derived(entity, key, name string, args json.RawMessage, id string) []Effect {
	switch {
	case entity == transferAction && name == "run":
		payee, amount, err := decodePayment(args)
		to := string(payee)
		if err != nil || to == key {
			return nil
		}
		return []Effect{
			{ID: id + "/1", Entity: "account", Key: key, Name: "debit", Required: true, Args: encode(struct {
				To     string `json:"to"`
				Amount int64  `json:"amount"`
			}{to, amount})},
			{ID: id + "/2", Entity: "account", Key: to, Name: "credit", Required: true, Args: encode(struct {
				Amount int64 `json:"amount"`
			}{amount})},
			{ID: id + "/3", Entity: "account", Key: key, Name: "settle", Required: true, Args: encode(struct {
				Transfer string `json:"transfer"`
			}{id})},
		}
	case entity == "approval" && name == "submit":
		_, ms, err := decodeSubmit(args)
		if err != nil {
			return nil
		}
		after := time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
		return []Effect{{ID: id + "/deadline", Entity: entity, Key: key, Name: "expire", Args: json.RawMessage(`{}`), After: after}}
	}
	return nil
}

// Answers returns every result that a correct system may give to an operation
// on an action; which of them depends on the state of entities. An error means
// that no correct client sends this.
func Answers(entity, key, name string, args json.RawMessage) ([]json.RawMessage, error) {
	if entity != transferAction || name != "run" {
		return nil, fmt.Errorf("%s: unknown operation %q; have transfer run", entity, name)
	}
	to, amount, err := decodePayment(args)
	if err != nil {
		return nil, fmt.Errorf("transfer run: %w", err)
	}
	if string(to) == key {
		return []json.RawMessage{encode(rejection{"same account"})}, nil
	}
	paid := encode(struct {
		Paid int64 `json:"paid"`
	}{amount})
	return []json.RawMessage{paid, encode(rejection{insufficientFunds})}, nil
}

// decodePayment reads the args of transfer.run and account.debit. to shares
// memory with them.
func decodePayment(args json.RawMessage) (to []byte, amount int64, err error) {
	who, much := text("to"), number("amount")
	if !plain(args, &who, &much) {
		var in struct {
			To     *string `json:"to"`
			Amount *int64  `json:"amount"`
		}
		if err := decode(args, &in); err != nil {
			return nil, 0, err
		}
		who.setText(in.To)
		much.setNumber(in.Amount)
	}
	if err := who.required(); err != nil {
		return nil, 0, err
	}
	if err := much.atLeast(1); err != nil {
		return nil, 0, err
	}
	return who.text, much.number, nil
}
