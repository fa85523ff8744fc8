package trace

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"statequake/history"
)

// What goes in comes out, beyond one chunk and beyond the kinds looked up last.
func TestOps(t *testing.T) {
	if size := unsafe.Sizeof(Op{}); size > 32 {
		t.Errorf("an operation takes %d bytes, want 32", size)
	}
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	var run history.Run
	for i := range 2*chunk + 100 {
		at := time.Duration(r.Int64N(1 << 40))
		run.Ops = append(run.Ops, history.Op{
			N: int64(i), Phase: history.Phase(pick("load", "probe")), Outcome: history.Outcome(pick("ok", "info")),
			Entity: pick("a", "b"), Key: fmt.Sprint(r.IntN(100)), Name: pick("add", "get", fmt.Sprint(i%1000)), Node: pick("", "n1", "n2"),
			Scheduled: at, Sent: at + 1, Returned: at + 5,
		})
	}
	run.Ops[chunk+7].N, run.Ops[chunk+7].Phase = 0, history.Warmup
	trace := Of(&run)
	ops := &trace.Ops
	if ops.Len() != len(run.Ops) {
		t.Fatalf("%d operations, want %d", ops.Len(), len(run.Ops))
	}
	i := 0
	for op, kind := range ops.All() {
		want := &run.Ops[i]
		if op != ops.At(i) || kind != ops.Kind(op) || op.Scheduled != want.Scheduled || op.Sent != want.Sent || op.Returned != want.Returned || op.Latency() != want.Latency() ||
			*kind != (Kind{want.Phase, want.Outcome, want.Name, want.Node}) || ops.Keys()[op.Key] != (Key{want.Entity, want.Key}) {
			t.Fatalf("operation %d is %+v %+v, want %+v", i, op, kind, want)
		}
		if n, ok := ops.KeyOf(Key{want.Entity, want.Key}); !ok || n != op.Key {
			t.Fatalf("key of operation %d is %d, found as %d", i, op.Key, n)
		}
		i++
	}
	if i != len(run.Ops) || len(ops.Keys()) != 200 {
		t.Errorf("%d operations on %d keys", i, len(ops.Keys()))
	}
	if _, ok := ops.KeyOf(Key{"a", "none"}); ok {
		t.Error("a key is found that has no operation")
	}
	if start := ops.Start(); start == nil || *start != run.Ops[chunk+7].Scheduled {
		t.Errorf("operation 0 was due at %v", start)
	}
	var none Ops
	for range none.All() {
		t.Error("no operations hold one")
	}
	if none.Len() != 0 || none.Start() != nil {
		t.Error("no operations have a length or a start")
	}
}

func BenchmarkAdd(b *testing.B) {
	ops := make([]history.Op, 4096)
	for i := range ops {
		ops[i] = history.Op{Phase: history.Load, Outcome: history.OK, Entity: "cart", Key: fmt.Sprintf("cart-%d.1", i%1000),
			Name: []string{"add", "get", "remove"}[i%3], Node: fmt.Sprint("n", i%5)}
	}
	var trace Ops
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		trace.Add(&ops[i%len(ops)])
	}
}
