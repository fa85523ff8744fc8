package check

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/check/search"
)

// registerHistory makes a small history of one register with unique values. Of
// the values that its reads answer, a share is drawn at random, and the others
// are those of a correct system. Instants are few, so that many coincide.
func registerHistory(r *rand.Rand) *history.Run {
	run := &history.Run{}
	n := 2 + r.IntN(9)
	span, wild := 2+r.IntN(16), r.IntN(3)*r.IntN(50) // wild: percent
	type execution struct{ at, op int }
	var order []execution
	values := []string{"null", `"nobody's"`}
	for i := range n {
		sent := r.IntN(span)
		executed := sent + r.IntN(4)
		op := history.Op{
			ID: fmt.Sprintf("o%d", i), Phase: history.Load, Entity: registerEntity, Key: "k", Name: "get", Version: -1, Attempts: 1,
			Outcome: history.OK, Sent: time.Duration(sent) * time.Millisecond, Returned: time.Duration(executed+r.IntN(4)) * time.Millisecond,
		}
		switch r.IntN(8) {
		case 0, 1:
			op.Outcome = history.Info
			executed += r.IntN(12)
		case 2:
			op.Outcome = history.Fail
		}
		if r.IntN(2) == 0 {
			value := fmt.Sprintf(`"v%d"`, i)
			op.Name, op.Args = "set", json.RawMessage(`{"value":`+value+`}`)
			values = append(values, value)
		}
		if op.Outcome == history.OK || op.Outcome == history.Info && r.IntN(2) == 0 {
			order = append(order, execution{executed, i})
		}
		run.Ops = append(run.Ops, op)
	}
	r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	now := "null"
	for at := range span + 20 {
		for _, e := range order {
			if e.at != at {
				continue
			}
			op := &run.Ops[e.op]
			if op.Name == "set" {
				now = string(op.Args[len(`{"value":`) : len(op.Args)-1])
			}
			if op.Outcome == history.OK {
				op.Result = json.RawMessage(`{"value":` + now + `}`)
			}
		}
	}
	for i := range run.Ops {
		if op := &run.Ops[i]; op.Name == "get" && op.Outcome == history.OK && r.IntN(100) < wild {
			op.Result = json.RawMessage(`{"value":` + values[r.IntN(len(values))] + `}`)
		}
	}
	run.Footer = footer(run.Ops)
	return run
}

func pointers(run *history.Run) []*history.Op {
	ops := make([]*history.Op, len(run.Ops))
	for i := range run.Ops {
		ops[i] = &run.Ops[i]
	}
	return ops
}

// judgeOnly is the verdict of the register check on a run of one key, whether
// it was read back or not.
func judgeOnly(run *history.Run) *registerKey {
	k := newRegister(entityKey{registerEntity, "k"}, pointers(run), true)
	k.judge()
	return k
}

// TestRegisterAgainstPorcupine: the zone test finds a violation if and only if
// no order explains the results.
func TestRegisterAgainstPorcupine(t *testing.T) {
	verdicts, kinds := map[bool]int{}, map[string]int{}
	forSeeds(t, 30_000, func(t *testing.T, seed uint64) {
		run := registerHistory(rand.New(rand.NewPCG(seed, 3)))
		var ops []*history.Op
		for i := range run.Ops {
			if o := run.Ops[i].Outcome; o == history.OK || o == history.Info {
				ops = append(ops, &run.Ops[i])
			}
		}
		k := judgeOnly(run)
		legal, err := linearizable(registerEntity, ops, never, search.Budget{Time: time.Minute})
		illegal := len(k.kinds) > 0
		if k.undecided != "" || err != nil || illegal == legal {
			t.Fatalf("porcupine: %t %v, register: %v %q\n%s%+v\n%s", legal, err, k.kinds, k.undecided, dump(run), k.violations, replay(t, seed))
		}
		if again := judgeOnly(run); !reflect.DeepEqual(k.violations, again.violations) {
			t.Fatalf("judged twice:\n%+v\n%+v\n%s", k.violations, again.violations, replay(t, seed))
		}
		verdicts[illegal]++
		for kind := range k.kinds {
			kinds[kind]++
		}
	})
	if *seedFlag == 0 {
		t.Logf("%d legal, %d illegal: %v", verdicts[false], verdicts[true], kinds)
		for _, kind := range []string{Phantom, StaleRead, FutureRead, NotLinearizable} {
			if kinds[kind] < 20 {
				t.Errorf("only %d histories with %s", kinds[kind], kind)
			}
		}
		if verdicts[false] < 3000 || verdicts[true] < 3000 {
			t.Errorf("one-sided: %v", verdicts)
		}
	}
}

// TestExplanationsAreEnough: the operations that a violation names are illegal
// by themselves, with nothing else of the history.
func TestExplanationsAreEnough(t *testing.T) {
	judged := 0
	forSeeds(t, 20_000, func(t *testing.T, seed uint64) {
		run := registerHistory(rand.New(rand.NewPCG(seed, 4)))
		for _, v := range judgeOnly(run).violations {
			var ops []*history.Op
			for _, id := range v.Ops {
				n := slices.IndexFunc(run.Ops, func(op history.Op) bool { return op.ID == id })
				if op := &run.Ops[n]; op.Outcome != history.Fail {
					ops = append(ops, op)
				}
			}
			judged++
			if legal, err := linearizable(registerEntity, ops, never, search.Budget{Time: time.Minute}); legal || err != nil {
				t.Fatalf("%+v\n%s%s", v, dump(run), replay(t, seed))
			}
		}
	})
	if *seedFlag == 0 && judged < 1000 {
		t.Errorf("only %d violations", judged)
	}
}

// blackBoxRun is a legal history of keys registers without a witness, with ops
// operations in all beside the audit.
func blackBoxRun(ops, keys int) *history.Run {
	r := rand.New(rand.NewPCG(1, 1))
	run := &history.Run{Ops: make([]history.Op, 0, ops+keys)}
	now := make([]string, keys)
	send := func(phase history.Phase, k int, name string, at, before, after time.Duration) {
		n := len(run.Ops)
		op := history.Op{
			ID: fmt.Sprintf("7f3a-%c%d", phase[0], n), N: int64(n), Phase: phase, Entity: registerEntity, Key: fmt.Sprintf("r-%d.1", k), Name: name,
			Sent: at - before, Returned: at + after, Attempts: 1, Outcome: history.OK, Version: -1, Via: "n1",
		}
		if name == "set" {
			now[k] = fmt.Sprintf(`{"value":"s1-n%d"}`, n)
			op.Args = json.RawMessage(now[k])
		}
		op.Result = json.RawMessage(now[k])
		run.Ops = append(run.Ops, op)
	}
	for k := range now {
		now[k] = `{"value":null}`
	}
	for n := range ops {
		name := "get"
		if r.IntN(2) == 0 {
			name = "set"
		}
		at := time.Second + time.Duration(n)*time.Microsecond
		send(history.Load, r.IntN(keys), name, at, time.Duration(r.IntN(2000))*time.Microsecond, time.Duration(r.IntN(2000))*time.Microsecond)
	}
	for k := range keys {
		send(history.Audit, k, "get", 2*time.Second+time.Duration(ops)*time.Microsecond, 0, time.Millisecond)
	}
	run.Footer = footer(run.Ops)
	return run
}

// TestBlackBoxLoss: a run without a witness passes, and loses its pass with the
// last acknowledged write of a key.
func TestBlackBoxLoss(t *testing.T) {
	opt := Options{Ack: Durable}
	run := blackBoxRun(5000, 10)
	if results := Run(run, opt); Overall(results) != Pass || find(results, "register").Ops != len(run.Ops) || find(results, "register").Keys != 10 {
		t.Errorf("a legal history: %s", show(results, false))
	}
	run.Ops[5003].Result = json.RawMessage(`{"value":null}`)
	if r := find(Run(run, opt), "register"); r.Verdict != Violated || r.Total != 1 || r.Kinds[Lost] != 1 || r.Violations[0].Key != "r-3.1" {
		t.Errorf("a key is empty again: %+v", r)
	}
	run.Ops = run.Ops[:5009]
	run.Ops[5003].Result = run.Ops[5002].Result
	run.Footer = footer(run.Ops)
	if r := find(Run(run, opt), "register"); r.Verdict != Violated || r.Kinds[Phantom] != 1 {
		t.Errorf("a key has the value of another: %+v", r)
	}
	run.Ops = append(run.Ops[:5003], run.Ops[5004:]...)
	run.Footer = footer(run.Ops)
	if results := Run(run, opt); Overall(results) != Unknown || find(results, "register").Verdict != Unknown {
		t.Errorf("two keys were not read back: %s", show(results, false))
	}
}

func BenchmarkRegister(b *testing.B) {
	run := blackBoxRun(1_000_000, 1000)
	for b.Loop() {
		results := Run(run, Options{Ack: Durable})
		if r := find(results, "register"); r.Verdict != Pass || r.Ops != len(run.Ops) {
			b.Fatalf("%s, %d ops, %v", r.Verdict, r.Ops, r.Reasons)
		}
	}
	b.ReportMetric(float64(len(run.Ops))*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}
