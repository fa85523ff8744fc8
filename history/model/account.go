package model

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// openingBalance is what every account starts with.
const openingBalance = 1000

// account is a balance, and the transfers that it has paid for and that are not
// settled yet.
//
//	debit {"to":string,"amount":int>=1}
//	    -> {"balance":b,"pending":number of pending transfers}, a write
//	    -> {"rejected":"insufficient funds"} if the amount exceeds the balance
//	credit {"amount":int>=1}
//	    -> {"balance":b}, a write
//	settle {"transfer":string}
//	    -> {"pending":number of pending transfers}, a write
//	    -> {"rejected":"no such transfer"} if it is not pending
//	get {}
//	    -> {"balance":b,"pending":number of pending transfers}
//
// The transfer that a debit makes pending is named by the id of the debit
// without its "/1", that is by the operation transfer.run.
type account struct {
	balance int64
	pending map[string]bool
	out     answer
}

func newAccount() *account {
	return &account{balance: openingBalance, pending: map[string]bool{}}
}

func (a *account) Apply(op string, args json.RawMessage, id string) (json.RawMessage, bool, error) {
	switch op {
	case "debit":
		return a.debit(args, id)
	case "credit":
		return a.credit(args)
	case "settle":
		return a.settle(args)
	case "get":
		if err := noArgs(args); err != nil {
			return nil, false, fmt.Errorf("account get: %w", err)
		}
		return a.state(), false, nil
	}
	return nil, false, fmt.Errorf("account: unknown operation %q; have debit, credit, settle, get", op)
}

func (a *account) debit(args json.RawMessage, id string) (json.RawMessage, bool, error) {
	_, amount, err := decodePayment(args)
	if err != nil {
		return nil, false, fmt.Errorf("account debit: %w", err)
	}
	if amount > a.balance {
		return a.out.rejected(insufficientFunds), false, nil
	}
	a.balance -= amount
	a.pending[strings.TrimSuffix(id, "/1")] = true
	return a.state(), true, nil
}

func (a *account) credit(args json.RawMessage) (json.RawMessage, bool, error) {
	amount := number("amount")
	if !plain(args, &amount) {
		var in struct {
			Amount *int64 `json:"amount"`
		}
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("account credit: %w", err)
		}
		amount.setNumber(in.Amount)
	}
	if err := amount.atLeast(1); err != nil {
		return nil, false, fmt.Errorf("account credit: %w", err)
	}
	if amount.number > math.MaxInt64-a.balance {
		return nil, false, fmt.Errorf("account credit: args: amount: %d + %d is beyond 64 bits", a.balance, amount.number)
	}
	a.balance += amount.number
	return a.out.object().number("balance", a.balance).end(), true, nil
}

func (a *account) settle(args json.RawMessage) (json.RawMessage, bool, error) {
	transfer := text("transfer")
	if !plain(args, &transfer) {
		var in struct {
			Transfer *string `json:"transfer"`
		}
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("account settle: %w", err)
		}
		transfer.setText(in.Transfer)
	}
	if err := transfer.required(); err != nil {
		return nil, false, fmt.Errorf("account settle: %w", err)
	}
	if !a.pending[string(transfer.text)] {
		return a.out.rejected("no such transfer"), false, nil
	}
	delete(a.pending, string(transfer.text))
	return a.out.object().number("pending", int64(len(a.pending))).end(), true, nil
}

func (a *account) state() json.RawMessage {
	return a.out.object().number("balance", a.balance).number("pending", int64(len(a.pending))).end()
}

func (a *account) Clone() State {
	return &account{balance: a.balance, pending: maps.Clone(a.pending)}
}

func (a *account) Fingerprint() string {
	return string(encode(struct {
		Balance int64
		Pending []string
	}{a.balance, slices.Sorted(maps.Keys(a.pending))}))
}
