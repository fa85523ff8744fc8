// Package bank checks transfers between accounts that are read all at once:
// money is neither made nor lost.
//
// What it finds is certain. It does not search for an order of the transfers,
// so it does not find every history that has none.
package bank

import "time"

// Op is a transfer, or a read of all accounts. Times are on one clock,
// whichever; an operation takes effect at one instant of the closed interval
// from Call to Return, so a is before b only if a.Return < b.Call.
//
// Leave out what certainly had no effect, and reads without an answer.
type Op struct {
	Call, Return time.Duration

	From, To int32 // accounts of a transfer
	Amount   int64 // of a transfer, not negative

	Balances []Balance // of a read

	Read  bool
	Open  bool // a transfer of unknown outcome: it took effect at any time after Call, or never. Return is ignored
	Final bool // a read after the load: what it misses is lost, not stale
}

// Balance is what a read says of one account.
type Balance struct {
	Account int32 // from 0; others are unexpected
	Amount  int64
	Null    bool // the account was named without an amount
}

// Bank is what the checker is told beforehand.
type Bank struct {
	Accounts int32   // they are numbered 0 to Accounts-1
	Total    int64   // of all balances, always
	Negative bool    // balances may be below 0
	Initial  []int64 // balances at the start, by account; nil if not known: then transfers are not looked at
}

// Kind is a kind of violation, by the name that reports give it.
type Kind string

const (
	Unexpected Kind = "unexpected-account" // the read has Account, which there is not, or more than once
	Missing    Kind = "missing-account"    // the read does not have Account, or no amount for it
	WrongTotal Kind = "wrong-total"        // the balances sum up to Got, not to Low = High
	Negative   Kind = "negative-balance"   // Account has Got, below Low = 0
	StaleRead  Kind = "stale-read"         // Account has Got, outside of what the acknowledged transfers before the read and those sent during it allow; an acknowledged one is missing
	Lost       Kind = "lost"               // as StaleRead, where the read is Final
	Phantom    Kind = "phantom"            // Account has Got, more or less than all transfers called by the read's return could have made of it
)

// Violation is one read that no bank gives.
type Violation struct {
	Kind      Kind
	Op        int32 // the read, an index into the operations
	Account   int32 // -1 for WrongTotal
	Got       int64
	Low, High int64 // Got had to be in there, both ends included; only one end holds for Negative
}

// Result is the verdict on one bank.
type Result struct {
	Reads      int // judged
	Violations []Violation
}
