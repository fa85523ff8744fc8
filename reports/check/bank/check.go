package bank

import (
	"cmp"
	"math"
	"slices"
)

// Check judges every read. It changes nothing and keeps nothing of ops; any
// number of calls may run at once. With n transfers and r balances in all reads
// together it takes O(n log n + r) time.
//
// A read is judged by its total, its accounts, and, if the bank's Initial is
// known, account by account: what transfers acknowledged before its call did
// must show, what transfers called by its return did may show, and nothing
// else.
func Check(bank Bank, ops []Op) Result {
	c := checker{Bank: bank, ops: ops, seen: make([]int32, bank.Accounts)}
	for i := range ops {
		if ops[i].Read {
			c.Reads++
			c.plain(int32(i))
		}
	}
	if len(bank.Initial) == int(bank.Accounts) && bank.Accounts > 0 {
		c.bounds()
	}
	return c.Result
}

type checker struct {
	Bank
	Result
	ops  []Op
	seen []int32 // by account: number of the read that had it
}

func (c *checker) found(v Violation) { c.Violations = append(c.Violations, v) }

// account reports whether n is an account.
func (c *checker) account(n int32) bool { return n >= 0 && n < c.Accounts }

// plain judges a read by itself.
func (c *checker) plain(r int32) {
	var total int64
	whole := true
	for _, b := range c.ops[r].Balances {
		switch {
		case !c.account(b.Account), c.seen[b.Account] == int32(c.Reads):
			c.found(Violation{Kind: Unexpected, Op: r, Account: b.Account, Got: b.Amount})
			whole = false
			continue
		case b.Null:
			continue
		}
		c.seen[b.Account] = int32(c.Reads)
		total += b.Amount
		if b.Amount < 0 && !c.Negative {
			c.found(Violation{Kind: Negative, Op: r, Account: b.Account, Got: b.Amount, High: math.MaxInt64})
		}
	}
	for n := range c.Accounts {
		if c.seen[n] != int32(c.Reads) {
			c.found(Violation{Kind: Missing, Op: r, Account: n})
			whole = false
		}
	}
	if whole && total != c.Total {
		c.found(Violation{Kind: WrongTotal, Op: r, Account: -1, Got: total, Low: c.Total, High: c.Total})
	}
}

// bounds judges the balances in reads by the transfers before and during them.
func (c *checker) bounds() {
	var called, returned, readsByCall, readsByReturn []int32
	for i := range c.ops {
		op := &c.ops[i]
		switch n := int32(i); {
		case op.Read:
			readsByCall = append(readsByCall, n)
			readsByReturn = append(readsByReturn, n)
		case !c.account(op.From) || !c.account(op.To) || op.From == op.To:
		default:
			called = append(called, n)
			if !op.Open {
				returned = append(returned, n)
			}
		}
	}
	byCall := func(a, b int32) int { return cmp.Compare(c.ops[a].Call, c.ops[b].Call) }
	byReturn := func(a, b int32) int { return cmp.Compare(c.ops[a].Return, c.ops[b].Return) }
	slices.SortStableFunc(called, byCall)
	slices.SortStableFunc(returned, byReturn)
	slices.SortStableFunc(readsByCall, byCall)
	slices.SortStableFunc(readsByReturn, byReturn)

	type money struct{ in, out int64 }
	sum := func(sums []money, n int32) {
		op := &c.ops[n]
		sums[op.From].out += op.Amount
		sums[op.To].in += op.Amount
	}
	// What was acknowledged before each balance was asked for, in the order of
	// the reads' balances.
	before := map[int32][]money{}
	sums := make([]money, c.Accounts)
	for _, r := range readsByCall {
		for ; len(returned) > 0 && c.ops[returned[0]].Return < c.ops[r].Call; returned = returned[1:] {
			sum(sums, returned[0])
		}
		at := make([]money, len(c.ops[r].Balances))
		for i, b := range c.ops[r].Balances {
			if c.account(b.Account) {
				at[i] = sums[b.Account]
			}
		}
		before[r] = at
	}
	clear(sums)
	for _, r := range readsByReturn {
		for ; len(called) > 0 && c.ops[called[0]].Call <= c.ops[r].Return; called = called[1:] {
			sum(sums, called[0])
		}
		for i, b := range c.ops[r].Balances {
			if b.Null || !c.account(b.Account) {
				continue
			}
			acknowledged, sent := before[r][i], sums[b.Account]
			initial := c.Initial[b.Account]
			v := Violation{Op: r, Account: b.Account, Got: b.Amount,
				Low: initial + acknowledged.in - sent.out, High: initial + sent.in - acknowledged.out}
			switch {
			case v.Low <= b.Amount && b.Amount <= v.High:
				continue
			case b.Amount < initial-sent.out || b.Amount > initial+sent.in:
				v.Kind = Phantom
			case c.ops[r].Final:
				v.Kind = Lost
			default:
				v.Kind = StaleRead
			}
			c.found(v)
		}
	}
}
