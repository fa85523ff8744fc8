package differential

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"statequake/reports/check/bank"
	"statequake/reports/check/counter"
	"statequake/reports/check/register"
	"statequake/reports/check/set"
)

var seedFlag = flag.Uint64("seed", 0, "judge the history of this seed only, and print it")

const never = math.MaxInt64

// histories is how many each test makes.
func histories(t *testing.T) uint64 {
	text := os.Getenv("STATEQUAKE_HISTORIES")
	if text == "" {
		return 20_000
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("STATEQUAKE_HISTORIES: %v", err)
	}
	return n
}

// comparison is one history with the verdicts of both sides.
type comparison struct {
	history  any    // printed if they disagree
	found    []any  // violations of the fast checker
	exact    bool   // no violation means that it is linearizable
	open     bool   // has operations of unknown outcome
	class    string // counted
	porcuped porcupine.CheckResult
}

// compare holds a fast checker against Porcupine: what it finds is certain, and
// where it is exact it finds something in every illegal history.
func compare(t *testing.T, one func(r *rand.Rand) comparison) {
	first, last := uint64(1), histories(t)
	if *seedFlag != 0 {
		first, last = *seedFlag, *seedFlag
	}
	var illegal, open, both, exact, missed uint64
	classes := map[string]int{}
	start := time.Now()
	for seed := first; seed <= last; seed++ {
		c := one(rand.New(rand.NewPCG(seed, 0)))
		if *seedFlag != 0 {
			t.Logf("%+v", c)
		}
		wrong := c.porcuped == porcupine.Illegal
		if c.porcuped == porcupine.Unknown || len(c.found) > 0 && !wrong || c.exact && wrong && len(c.found) == 0 {
			t.Fatalf("porcupine: %s, fast (exact: %v): %+v\n%+v\nreplay: go test ./reports/check/differential -v -run '%s$' -args -seed %d",
				c.porcuped, c.exact, c.found, c.history, t.Name(), seed)
		}
		classes[c.class]++
		if wrong {
			illegal++
			if len(c.found) == 0 {
				missed++
			}
		}
		if c.open {
			open++
		}
		if c.open && wrong {
			both++
		}
		if c.exact {
			exact++
		}
	}
	if *seedFlag != 0 {
		return
	}
	t.Logf("%d histories in %s: 0 disagreements; %d illegal, %d with unknown outcomes, %d both; %d decided exactly, %d illegal ones not found; %v",
		last, time.Since(start).Round(time.Millisecond), illegal, open, both, exact, missed, classes)
	if n := last / 10; illegal < n || last-illegal < n || open < n || both < last/30 {
		t.Errorf("one-sided: %d illegal and %d with unknown outcomes, %d both, of %d", illegal, open, both, last)
	}
}

// interval is when one operation was called, took effect and returned. Instants
// are few, so that many coincide.
type interval struct {
	call, done, returned int
	open, applied        bool
}

func intervals(r *rand.Rand, n int) []interval {
	span := 2 + r.IntN(16)
	all := make([]interval, n)
	for i := range all {
		call := r.IntN(span)
		done := call + r.IntN(4)
		all[i] = interval{call: call, done: done, returned: done + r.IntN(4), applied: true}
		if r.IntN(5) == 0 {
			all[i].open = true
			all[i].done += r.IntN(12)
			all[i].applied = r.IntN(2) == 0
		}
	}
	return all
}

// inOrder calls apply for what took effect, by the order of instants, those that
// coincide in any order.
func inOrder(r *rand.Rand, all []interval, apply func(i int)) {
	order := r.Perm(len(all))
	slices.SortStableFunc(order, func(a, b int) int { return all[a].done - all[b].done })
	for _, i := range order {
		if all[i].applied {
			apply(i)
		}
	}
}

// ask is the verdict of Porcupine on operations with the given intervals; those
// that are open return after everything.
func ask[Op any](model porcupine.Model, ops []Op, when func(*Op) (call, returned time.Duration, open bool)) porcupine.CheckResult {
	var all []porcupine.Operation
	for i := range ops {
		call, returned, open := when(&ops[i])
		o := porcupine.Operation{ClientId: i, Input: &ops[i], Call: int64(call), Return: int64(returned), Output: !open}
		if open {
			o.Return = never
		}
		all = append(all, o)
	}
	return porcupine.CheckOperationsTimeout(model, all, time.Minute)
}

func boxed[V any](violations []V) []any {
	var all []any
	for _, v := range violations {
		all = append(all, v)
	}
	return all
}

var registerModel = porcupine.Model{
	Init: func() any { return int32(0) },
	Step: func(state, input, output any) (bool, any) {
		op := input.(*register.Op)
		if op.Write {
			return true, op.Value
		}
		return state == op.Value, state
	},
}

func TestRegister(t *testing.T) {
	kinds := map[register.Kind]int{}
	compare(t, func(r *rand.Rand) comparison {
		all := intervals(r, 2+r.IntN(9))
		wild := r.IntN(2) * r.IntN(90) // percent of reads with an answer at random
		ops := make([]register.Op, len(all))
		open := false
		var values int32
		for i, at := range all {
			op := &ops[i]
			*op = register.Op{Call: time.Duration(at.call), Return: time.Duration(at.returned), Open: at.open, Write: at.open || r.IntN(2) == 0}
			open = open || op.Open
			if op.Write {
				values++
				op.Value = values
			} else {
				op.Final = r.IntN(4) == 0
			}
		}
		var now int32
		inOrder(r, all, func(i int) {
			if ops[i].Write {
				now = ops[i].Value
			} else {
				ops[i].Value = now
			}
		})
		for i := range ops {
			if !ops[i].Write && r.IntN(100) < wild {
				ops[i].Value = r.Int32N(values + 1)
				if r.IntN(8) == 0 {
					ops[i].Value = r.Int32N(2)*(values+2) - 1
				}
			}
		}
		result := register.Check(ops)
		if result.Twice[0] != register.None {
			t.Fatalf("values are unique: %+v", ops)
		}
		for _, v := range result.Violations {
			kinds[v.Kind]++
		}
		legal := ask(registerModel, ops, func(op *register.Op) (time.Duration, time.Duration, bool) { return op.Call, op.Return, op.Open })
		return comparison{ops, boxed(result.Violations), true, open, "register", legal}
	})
	if *seedFlag == 0 {
		t.Logf("violations: %v", kinds)
		for _, kind := range []register.Kind{register.Phantom, register.FutureRead, register.StaleRead, register.Lost, register.NotLinearizable} {
			if kinds[kind] < 10 {
				t.Errorf("only %d of %s", kinds[kind], kind)
			}
		}
	}
}

var counterModel = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		op := input.(*counter.Op)
		next := state.(int64) + op.Add
		return !output.(bool) || !op.Told || next == op.Value, next
	},
}

func TestCounter(t *testing.T) {
	kinds := map[counter.Kind]int{}
	inexact := 0
	compare(t, func(r *rand.Rand) comparison {
		all := intervals(r, 2+r.IntN(9))
		wild := r.IntN(3) * r.IntN(50)
		class := []string{"one amount", "one amount, negative", "one sign, told", "one sign", "mixed"}[r.IntN(5)]
		told := []int{0, 50, 100}[r.IntN(3)] // percent of adds that are answered with a value
		unit := 1 + r.Int64N(3)
		ops := make([]counter.Op, len(all))
		open := false
		for i, at := range all {
			op := &ops[i]
			*op = counter.Op{Call: time.Duration(at.call), Return: time.Duration(at.returned), Open: at.open, Told: true}
			if !at.open && r.IntN(5) < 2 {
				op.Final = r.IntN(4) == 0
				continue
			}
			open = open || op.Open
			op.Add = unit
			if !strings.HasPrefix(class, "one amount") {
				op.Add = unit * (1 + r.Int64N(3))
			}
			op.Told = class == "one sign, told" || r.IntN(100) < told
			if class == "mixed" && r.IntN(2) == 0 || class == "one amount, negative" {
				op.Add = -op.Add
			}
		}
		var now int64
		inOrder(r, all, func(i int) {
			now += ops[i].Add
			if ops[i].Told && !ops[i].Open {
				ops[i].Value = now
			}
		})
		for i := range ops {
			if op := &ops[i]; op.Told && r.IntN(100) < wild {
				switch r.IntN(3) {
				case 0:
					op.Value = ops[r.IntN(len(ops))].Value
				case 1:
					op.Value += unit * (r.Int64N(5) - 2)
				default:
					op.Value += r.Int64N(5) - 2
				}
			}
		}
		result := counter.Check(ops)
		for _, v := range result.Violations {
			kinds[v.Kind]++
		}
		if !result.Exact && (strings.HasPrefix(class, "one amount") || class == "one sign, told") {
			t.Fatalf("%s is exact: %+v", class, ops)
		}
		if !result.Exact {
			inexact++
		}
		legal := ask(counterModel, ops, func(op *counter.Op) (time.Duration, time.Duration, bool) { return op.Call, op.Return, op.Open })
		return comparison{ops, boxed(result.Violations), result.Exact, open, class, legal}
	})
	if *seedFlag == 0 {
		t.Logf("%d not decided exactly; violations: %v", inexact, kinds)
		for _, kind := range []counter.Kind{counter.WrongResult, counter.Phantom, counter.FutureRead, counter.StaleRead, counter.Lost, counter.NotLinearizable} {
			if kinds[kind] < 10 {
				t.Errorf("only %d of %s", kinds[kind], kind)
			}
		}
	}
}

// bits is a set of small elements, or an element that is none.
func bits(elements []int32) (all uint64, plain bool) {
	for _, e := range elements {
		if e < 0 || all&(1<<e) != 0 {
			return 0, false
		}
		all |= 1 << e
	}
	return all, true
}

var setModel = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		op := input.(*set.Op)
		if !op.Read {
			return true, state.(uint64) | 1<<op.Element
		}
		all, plain := bits(op.Elements)
		return plain && all == state, state
	},
}

func TestSet(t *testing.T) {
	kinds := map[set.Kind]int{}
	compare(t, func(r *rand.Rand) comparison {
		all := intervals(r, 2+r.IntN(9))
		wild := r.IntN(3) * r.IntN(40)
		ops := make([]set.Op, len(all))
		open := false
		var elements int32
		for i, at := range all {
			op := &ops[i]
			*op = set.Op{Call: time.Duration(at.call), Return: time.Duration(at.returned), Open: at.open, Read: !at.open && r.IntN(2) == 0}
			open = open || op.Open
			if !op.Read {
				op.Element = elements
				elements++
			}
		}
		var now []int32
		inOrder(r, all, func(i int) {
			if ops[i].Read {
				ops[i].Elements = slices.Clone(now)
				r.Shuffle(len(now), func(a, b int) { ops[i].Elements[a], ops[i].Elements[b] = ops[i].Elements[b], ops[i].Elements[a] })
			} else {
				now = append(now, ops[i].Element)
			}
		})
		for i := range ops {
			op := &ops[i]
			if !op.Read || r.IntN(100) >= wild {
				continue
			}
			switch k := r.IntN(8); {
			case k == 0:
				op.Elements = append(op.Elements, r.Int32N(elements+2)-1)
			case k < 3 && elements > 0:
				if e := r.Int32N(elements); !slices.Contains(op.Elements, e) {
					op.Elements = append(op.Elements, e)
				}
			case k < 5:
				if other := &ops[r.IntN(len(ops))]; other.Read {
					op.Elements = slices.Clone(other.Elements)
				}
			case len(op.Elements) > 0:
				at := r.IntN(len(op.Elements))
				op.Elements = slices.Delete(op.Elements, at, at+1)
			}
		}
		result := set.Check(ops)
		for _, v := range result.Violations {
			kinds[v.Kind]++
		}
		if n := result.Stable + result.Lost + result.NeverRead; n != int(elements) || result.Attempted != n || result.Stable != result.StableLatency.N || result.Lost != result.LostLatency.N {
			t.Fatalf("%d elements: %+v", elements, result)
		}
		legal := ask(setModel, ops, func(op *set.Op) (time.Duration, time.Duration, bool) { return op.Call, op.Return, op.Open })
		return comparison{ops, boxed(result.Violations), true, open, "set", legal}
	})
	if *seedFlag == 0 {
		t.Logf("violations: %v", kinds)
		for _, kind := range []set.Kind{set.Duplicated, set.Phantom, set.FutureRead, set.StaleRead, set.Lost, set.NotLinearizable} {
			if kinds[kind] < 10 {
				t.Errorf("only %d of %s", kinds[kind], kind)
			}
		}
	}
}

const accounts = 3

type balances [accounts]int64

func bankModel(told bank.Bank) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return balances(told.Initial) },
		Step: func(state, input, output any) (bool, any) {
			op, now := input.(*bank.Op), state.(balances)
			if !op.Read {
				now[op.From] -= op.Amount
				now[op.To] += op.Amount
				return true, now
			}
			seen := balances{-1000, -1000, -1000}
			for _, b := range op.Balances {
				if b.Account < 0 || b.Account >= accounts || seen[b.Account] != -1000 || b.Null || b.Amount < 0 && !told.Negative {
					return false, state
				}
				seen[b.Account] = b.Amount
			}
			return seen == now, state
		},
	}
}

// byHand reports whether a read breaks one of the rules that package bank
// states, the slow way.
func byHand(told bank.Bank, ops []bank.Op, read *bank.Op) bool {
	var total int64
	var seen [accounts]bool
	for _, b := range read.Balances {
		if b.Account < 0 || b.Account >= accounts || seen[b.Account] || b.Null || b.Amount < 0 && !told.Negative {
			return true
		}
		seen[b.Account] = true
		total += b.Amount
		low, high := told.Initial[b.Account], told.Initial[b.Account]
		for _, op := range ops {
			if op.Read || op.From == op.To || op.Call > read.Return {
				continue
			}
			before := !op.Open && op.Return < read.Call
			switch b.Account {
			case op.From:
				low -= op.Amount
				if before {
					high -= op.Amount
				}
			case op.To:
				high += op.Amount
				if before {
					low += op.Amount
				}
			}
		}
		if b.Amount < low || b.Amount > high {
			return true
		}
	}
	return total != told.Total || seen != [accounts]bool{true, true, true}
}

// TestBank: what the checker of banks finds is certain, and it finds what its
// rules say. It does not find every illegal history.
func TestBank(t *testing.T) {
	kinds := map[bank.Kind]int{}
	compare(t, func(r *rand.Rand) comparison {
		all := intervals(r, 2+r.IntN(9))
		wild := r.IntN(3) * r.IntN(50)
		told := bank.Bank{Accounts: accounts, Total: 20, Negative: r.IntN(2) == 0, Initial: []int64{10, 10, 0}}
		ops := make([]bank.Op, len(all))
		open := false
		for i, at := range all {
			op := &ops[i]
			*op = bank.Op{Call: time.Duration(at.call), Return: time.Duration(at.returned), Open: at.open, Read: !at.open && r.IntN(2) == 0}
			open = open || op.Open
			op.Final = op.Read && r.IntN(4) == 0
			if !op.Read {
				op.From, op.To, op.Amount = r.Int32N(accounts), r.Int32N(accounts), r.Int64N(6)
			}
		}
		now := balances(told.Initial)
		inOrder(r, all, func(i int) {
			op := &ops[i]
			if !op.Read {
				now[op.From] -= op.Amount
				now[op.To] += op.Amount
				return
			}
			for _, n := range r.Perm(accounts) {
				op.Balances = append(op.Balances, bank.Balance{Account: int32(n), Amount: now[n]})
			}
		})
		for i := range ops {
			op := &ops[i]
			if !op.Read || r.IntN(100) >= wild {
				continue
			}
			switch k := r.IntN(12); {
			case k == 0:
				op.Balances[r.IntN(accounts)].Account = r.Int32N(accounts+2) - 1
			case k == 1:
				op.Balances = op.Balances[1:]
			case k == 2:
				op.Balances[0].Null = true
			case k == 3:
				op.Balances[0].Amount += r.Int64N(5) - 2
			case k < 8:
				n := r.Int64N(5)
				op.Balances[0].Amount += n
				op.Balances[1].Amount -= n
			default:
				if other := &ops[r.IntN(len(ops))]; other.Read {
					op.Balances = slices.Clone(other.Balances)
				}
			}
		}
		result := bank.Check(told, ops)
		wrong := map[int32]bool{}
		for _, v := range result.Violations {
			kinds[v.Kind]++
			wrong[v.Op] = true
		}
		for i := range ops {
			if ops[i].Read && wrong[int32(i)] != byHand(told, ops, &ops[i]) {
				t.Fatalf("read %d: %+v, by hand %v\n%+v", i, result.Violations, !wrong[int32(i)], ops)
			}
		}
		legal := ask(bankModel(told), ops, func(op *bank.Op) (time.Duration, time.Duration, bool) { return op.Call, op.Return, op.Open })
		return comparison{fmt.Sprintf("%+v %+v", told, ops), boxed(result.Violations), false, open, "bank", legal}
	})
	if *seedFlag == 0 {
		t.Logf("violations: %v", kinds)
		for _, kind := range []bank.Kind{bank.Unexpected, bank.Missing, bank.WrongTotal, bank.Negative, bank.StaleRead, bank.Lost, bank.Phantom} {
			if kinds[kind] < 10 {
				t.Errorf("only %d of %s", kinds[kind], kind)
			}
		}
	}
}
