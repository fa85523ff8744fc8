package recovery

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/stats"
	"statequake/reports/trace"
)

// With one fault whose traffic is the whole run, what is known of the keys is
// what is known of the fault.
func TestKeysLikeFault(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 5))
		run := &history.Run{}
		for i := range rng.IntN(300) {
			op := history.Op{N: int64(i), Phase: history.Load, Entity: "cart", Key: fmt.Sprint(rng.IntN(8)), Outcome: history.OK,
				Scheduled: time.Duration(rng.IntN(20000)) * ms}
			op.Sent = op.Scheduled + ms
			op.Returned = op.Sent + time.Duration(rng.IntN(40))*ms
			switch rng.IntN(12) {
			case 0:
				op.Outcome, op.Returned = history.Info, op.Sent+time.Duration(rng.IntN(5000))*ms
			case 1:
				op.Outcome = history.Fail
			case 2:
				op.Returned = op.Sent + time.Duration(rng.IntN(3000))*ms
			case 3:
				op.Outcome, op.Sent, op.Returned = history.Unsent, 0, 0
			}
			run.Ops = append(run.Ops, op)
		}
		zero := time.Duration(0)
		tr := trace.Of(run)
		recoveries, keys := Measure(Run{Ops: &tr.Ops, Load: stats.Window{To: time.Hour}, Faults: []Fault{{Name: "f", Requested: &zero, Injected: &zero}}})
		r := recoveries[0]
		var longest time.Duration
		var lengths []time.Duration
		dead, sparse := 0, 0
		for _, k := range keys.Out {
			longest = max(longest, k.Length)
			switch {
			case k.Dead:
				dead++
			case k.Sparse:
				sparse++
			default:
				lengths = append(lengths, k.Length)
			}
		}
		if r.KeysDead != dead || r.Outage.Sparse != sparse || r.Outage.N != len(lengths) || r.KeysAffected != len(keys.Out) ||
			len(keys.Out) > dead && *r.Outage.Max != longest {
			t.Fatalf("seed %d: keys %+v, recovery %+v", seed, keys.Out, r)
		}
		if keys.Slow != SlowFloor {
			t.Errorf("seed %d: slow from %v on", seed, keys.Slow)
		}
		for i := range run.Ops {
			op := &run.Ops[i]
			if late := op.Outcome == history.OK && op.Returned-op.Sent > SlowFloor; keys.Late(i) != late {
				t.Errorf("seed %d: operation %d: late %t, want %t", seed, i, !late, late)
			}
		}
	}
	if none := new(Keys); none.Late(0) || none.Late(1000) {
		t.Error("an operation that is not there is late")
	}
}

// Without a fault, keys are known too.
func TestKeysWithoutFault(t *testing.T) {
	run := &history.Run{}
	add := func(key string, at time.Duration, outcome history.Outcome) {
		run.Ops = append(run.Ops, history.Op{Phase: history.Load, Entity: "cart", Key: key, Scheduled: at, Sent: at, Returned: at + 10*ms, Outcome: outcome})
	}
	for i := range 100 {
		at := time.Duration(i) * 100 * ms
		outcome := history.OK
		if i >= 30 && i < 35 {
			outcome = history.Fail
		}
		add("out", at, outcome)
		add("well", at, history.OK)
		if i >= 90 {
			outcome = history.Info
		}
		add("dead", at, outcome)
	}
	tr := trace.Of(run)
	_, keys := Measure(Run{Ops: &tr.Ops, Load: stats.Window{To: 10 * time.Second}})
	want := []KeyOutage{{Key: 0, Length: 510 * ms}, {Key: 2, Dead: true}}
	if !reflect.DeepEqual(keys.Out, want) {
		t.Errorf("have %+v, want %+v", keys.Out, want)
	}
}

func TestNth(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 6))
	for range 3000 {
		d := make([]time.Duration, 1+rng.IntN(500))
		for i := range d {
			d[i] = time.Duration(rng.IntN(1 + rng.IntN(400)))
		}
		switch rng.IntN(3) {
		case 0:
			slices.Sort(d)
		case 1:
			slices.SortFunc(d, func(a, b time.Duration) int { return int(b - a) })
		}
		sorted := slices.Sorted(slices.Values(d))
		n := rng.IntN(len(d))
		if got := nth(d, n); got != sorted[n] || !slices.Equal(slices.Sorted(slices.Values(d)), sorted) {
			t.Fatalf("element %d is %v, want %v", n, got, sorted[n])
		}
	}
}
