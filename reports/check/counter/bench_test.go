package counter

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// crowd is a legal history of n operations by so many clients at once: nine in
// ten are adds of 1 to most, every 1000th of unknown outcome.
func crowd(n, clients int, most int64) []Op {
	r := rand.New(rand.NewPCG(1, 1))
	free := make([]time.Duration, clients)
	ops := make([]Op, n)
	at := make([]time.Duration, n)
	order := make([]int, n)
	for i := range ops {
		op, c := &ops[i], i%clients
		op.Call = free[c] + time.Duration(r.IntN(1000))
		at[i] = op.Call + time.Duration(r.IntN(1_000_000))
		op.Return = at[i] + time.Duration(r.IntN(1_000_000))
		free[c] = op.Return
		op.Told = true
		if r.IntN(10) > 0 {
			op.Add = 1 + r.Int64N(most)
			op.Open = r.IntN(1000) == 0
		}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(at[a], at[b]) })
	var now int64
	for _, i := range order {
		now += ops[i].Add
		ops[i].Value = now
	}
	return ops
}

func BenchmarkCheck(b *testing.B) {
	for name, most := range map[string]int64{"one": 1, "nine": 9} {
		ops := crowd(1_000_000, 100, most)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if r := Check(ops); len(r.Violations) > 0 || !r.Exact {
					b.Fatalf("exact: %v, %d violations: %+v", r.Exact, len(r.Violations), r.Violations[:min(3, len(r.Violations))])
				}
			}
			b.ReportMetric(float64(len(ops))*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}
