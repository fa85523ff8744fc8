package model

import (
	"encoding/json"
	"errors"
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
}

type accountState struct {
	Balance int64 `json:"balance"`
	Pending int   `json:"pending"`
}

type accountCredited struct {
	Balance int64 `json:"balance"`
}

type accountSettled struct {
	Pending int `json:"pending"`
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
		if err := decode(args, &none{}); err != nil {
			return nil, false, fmt.Errorf("account get: %w", err)
		}
		return encode(accountState{a.balance, len(a.pending)}), false, nil
	}
	return nil, false, fmt.Errorf("account: unknown operation %q; have debit, credit, settle, get", op)
}

func (a *account) debit(args json.RawMessage, id string) (json.RawMessage, bool, error) {
	in, err := decodePayment(args)
	if err != nil {
		return nil, false, fmt.Errorf("account debit: %w", err)
	}
	if in.amount > a.balance {
		return encode(rejection{insufficientFunds}), false, nil
	}
	a.balance -= in.amount
	a.pending[strings.TrimSuffix(id, "/1")] = true
	return encode(accountState{a.balance, len(a.pending)}), true, nil
}

func (a *account) credit(args json.RawMessage) (json.RawMessage, bool, error) {
	var in struct {
		Amount *int64 `json:"amount"`
	}
	if err := decode(args, &in); err != nil {
		return nil, false, fmt.Errorf("account credit: %w", err)
	}
	if err := atLeast(1, "amount", in.Amount); err != nil {
		return nil, false, fmt.Errorf("account credit: %w", err)
	}
	if *in.Amount > math.MaxInt64-a.balance {
		return nil, false, fmt.Errorf("account credit: args: amount: %d + %d is beyond 64 bits", a.balance, *in.Amount)
	}
	a.balance += *in.Amount
	return encode(accountCredited{a.balance}), true, nil
}

func (a *account) settle(args json.RawMessage) (json.RawMessage, bool, error) {
	var in struct {
		Transfer *string `json:"transfer"`
	}
	if err := decode(args, &in); err != nil {
		return nil, false, fmt.Errorf("account settle: %w", err)
	}
	if in.Transfer == nil {
		return nil, false, errors.New("account settle: args: transfer is missing")
	}
	if !a.pending[*in.Transfer] {
		return encode(rejection{"no such transfer"}), false, nil
	}
	delete(a.pending, *in.Transfer)
	return encode(accountSettled{len(a.pending)}), true, nil
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
