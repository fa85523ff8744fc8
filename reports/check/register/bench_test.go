package register

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// crowd is a legal history of n operations by so many clients at once, one
// after the other each: half of them writes, every 100th of which is of
// unknown outcome.
func crowd(n, clients int) []Op {
	r := rand.New(rand.NewPCG(1, 1))
	free := make([]time.Duration, clients)
	ops := make([]Op, n)
	at := make([]time.Duration, n)
	var values int32
	for i := range ops {
		c := i % clients
		op := &ops[i]
		op.Call = free[c] + time.Duration(r.IntN(1000))
		at[i] = op.Call + time.Duration(r.IntN(1_000_000))
		op.Return = at[i] + time.Duration(r.IntN(1_000_000))
		free[c] = op.Return
		if op.Write = r.IntN(2) == 0; op.Write {
			values++
			op.Value = values
			op.Open = r.IntN(100) == 0
		}
	}
	order := make([]int32, n)
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(at[a], at[b]) })
	var now int32
	for _, i := range order {
		if ops[i].Write {
			now = ops[i].Value
		} else {
			ops[i].Value = now
		}
	}
	return ops
}

// BenchmarkCheck judges one register with 1,000 concurrent clients.
func BenchmarkCheck(b *testing.B) {
	ops := crowd(1_000_000, 1000)
	for b.Loop() {
		if r := Check(ops); len(r.Violations) > 0 || r.Twice[0] != None {
			b.Fatalf("%d violations: %+v", len(r.Violations), r.Violations[:min(3, len(r.Violations))])
		}
	}
	b.ReportMetric(float64(len(ops))*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkBroken judges the same with every 100th read of the value before.
func BenchmarkBroken(b *testing.B) {
	ops := crowd(1_000_000, 1000)
	for i := range ops {
		if op := &ops[i]; !op.Write && i%100 == 0 {
			op.Value = max(0, op.Value-2000)
		}
	}
	for b.Loop() {
		if r := Check(ops); len(r.Violations) < 1000 {
			b.Fatalf("%d violations", len(r.Violations))
		}
	}
	b.ReportMetric(float64(len(ops))*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkPorcupine judges the first operations of the same history by search,
// for 2 s each. It fails if the search ends: then the zones are not needed.
func BenchmarkPorcupine(b *testing.B) {
	model := porcupine.Model{
		Init: func() any { return int32(0) },
		Step: func(state, input, output any) (bool, any) {
			op := input.(*Op)
			if op.Write {
				return true, op.Value
			}
			return state == op.Value, state
		},
	}
	ops := crowd(1_000_000, 1000)[:10_000]
	history := make([]porcupine.Operation, len(ops))
	for i := range ops {
		op := &ops[i]
		history[i] = porcupine.Operation{ClientId: i, Input: op, Call: int64(op.Call), Return: int64(op.Return)}
		if op.Open {
			history[i].Return = int64(never)
		}
	}
	for b.Loop() {
		if got := porcupine.CheckOperationsTimeout(model, history, 2*time.Second); got != porcupine.Unknown {
			b.Fatalf("porcupine: %s", got)
		}
	}
}
