package jepsen

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/check"
)

// recorded makes a run of a few keys of one type of entity, register or counter,
// which is read back at its end. In a share of the runs some answers are wrong.
// Instants are few, so that many coincide.
func recorded(r *rand.Rand, entity string) *history.Run {
	const keys = 3
	run := &history.Run{}
	wild := r.IntN(2) * r.IntN(30) // percent
	n := 2 + r.IntN(24)
	now := map[string]int{} // number of the value, or the sum
	answer := func(n int) string {
		if entity == "counter" {
			return fmt.Sprint(n)
		}
		if n == 0 {
			return "null"
		}
		return fmt.Sprintf(`"v%d"`, n)
	}
	apply := func(op *history.Op, n int) {
		switch op.Name {
		case "set":
			now[op.Key] = n
		case "add":
			now[op.Key]++
		}
		if op.Outcome != history.OK {
			return
		}
		value := now[op.Key]
		if r.IntN(100) < wild {
			value = r.IntN(n + 2)
		}
		op.Result = json.RawMessage(`{"value":` + answer(value) + `}`)
	}
	var late []func()
	for i := range n {
		at := time.Duration(1+i/3) * time.Millisecond // the instant of effect
		op := history.Op{
			ID: fmt.Sprintf("aaaa-l%d", i), Phase: history.Load, Client: r.IntN(3), Entity: entity, Key: fmt.Sprintf("k%d", r.IntN(keys)), Name: "get",
			Sent: at - time.Duration(r.IntN(2))*time.Millisecond/2, Returned: at + time.Duration(r.IntN(3))*time.Millisecond/2, Attempts: 1, Outcome: history.OK, Version: -1, Via: "n1",
		}
		if r.IntN(2) == 0 {
			op.Name, op.Args = "set", json.RawMessage(`{"value":`+answer(i+1)+`}`)
			if entity == "counter" {
				op.Name, op.Args = "add", json.RawMessage(`{"n":1}`)
			}
		}
		switch r.IntN(8) {
		case 0:
			op.Outcome, op.Error = history.Info, "no answer\nin time"
		case 1:
			op.Outcome, op.Error = history.Fail, `refused "twice"`
		case 2:
			op.Outcome, op.Sent, op.Returned, op.Attempts = history.Unsent, 0, 0, 0
		}
		run.Ops = append(run.Ops, op)
		switch p := len(run.Ops) - 1; {
		case op.Outcome == history.OK, op.Outcome == history.Info && r.IntN(2) == 0:
			apply(&run.Ops[p], i+1)
		case op.Outcome == history.Info && r.IntN(2) == 0:
			late = append(late, func() { apply(&run.Ops[p], i+1) })
		}
	}
	for _, takesEffect := range late {
		takesEffect()
	}
	for k := range keys {
		at := time.Duration(n+k+3) * time.Millisecond
		op := history.Op{ID: fmt.Sprintf("aaaa-a%d", k), Phase: history.Audit, Entity: entity, Key: fmt.Sprintf("k%d", k), Name: "get",
			Sent: at, Returned: at + time.Millisecond, Attempts: 1, Outcome: history.OK, Version: -1, Via: "n1"}
		apply(&op, n)
		run.Ops = append(run.Ops, op)
	}
	r.Shuffle(len(run.Ops), func(i, j int) { run.Ops[i], run.Ops[j] = run.Ops[j], run.Ops[i] })
	run.Footer = history.FooterOf(run.Ops)
	return run
}

// TestRoundTrip: a run that is written as a history of Jepsen gets the verdict
// that it has as a run, and a register the same kinds of violation.
func TestRoundTrip(t *testing.T) {
	verdicts := map[check.Verdict]int{}
	for seed := range uint64(1500) {
		entity := []string{"register", "counter"}[seed%2]
		run := recorded(rand.New(rand.NewPCG(seed, 1)), entity)
		results := check.Run(run, check.Options{Ack: check.Durable, PorcupineTime: time.Minute})
		want := check.Overall(results)

		var b bytes.Buffer
		if err := Write(&b, run, entity); err != nil {
			t.Fatal(err)
		}
		h, err := Read(bytes.NewReader(b.Bytes()), "f")
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, &b)
		}
		v, err := Judge(h, Options{Model: entity})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, &b)
		}
		if v.Verdict != want || !v.Keyed {
			t.Fatalf("seed %d: %s, as a run %s\n%s%s%+v", seed, v.Verdict, want, &b, summary(t, v), results)
		}
		if entity == "register" {
			if was, is := kindsOf(results), kindsOf(v.Checks); !maps.Equal(was, is) {
				t.Fatalf("seed %d: %v, as a run %v\n%s%s%+v", seed, is, was, &b, summary(t, v), results)
			}
		}
		if sent := v.Ops.OK + v.Ops.Fail + v.Ops.Info; sent != len(h.Ops) || !newClock(h).told {
			t.Fatalf("seed %d: %+v, %d operations, clock %v", seed, v.Ops, len(h.Ops), newClock(h).told)
		}
		verdicts[v.Verdict]++
	}
	if verdicts[check.Pass] < 200 || verdicts[check.Violated] < 200 {
		t.Errorf("one-sided: %v", verdicts)
	}
	t.Logf("%v", verdicts)
}

// kindsOf counts violations by kind, without those of Porcupine.
func kindsOf(results []check.Result) map[string]int {
	kinds := map[string]int{}
	for _, r := range results {
		if r.Name == "register" {
			maps.Copy(kinds, r.Kinds)
		}
	}
	return kinds
}

// TestWrite: the lines of a small run, and what other types of entity look like.
func TestWrite(t *testing.T) {
	run := &history.Run{Ops: []history.Op{
		{ID: "7f3a-l1", Phase: history.Load, Client: 4, Entity: "cart", Key: "cart-\"1\".1", Name: "add", Args: json.RawMessage(`{"item":"a b","quantity":2, "x y": [null,true,1.5e3]}`),
			Sent: 5, Returned: 9, Outcome: history.OK, Result: json.RawMessage(`{"items":98765432109876543210}`), Node: "n1"},
		{ID: "7f3a-l0", Phase: history.Load, Client: 4, Entity: "cart", Key: "c", Name: "get", Sent: 1, Returned: 3, Outcome: history.Info, Error: "timeout\tof 2 s", Via: "n2"},
		{ID: "7f3a-l2", Phase: history.Load, Client: 4, Entity: "cart", Key: "c", Name: "get", Outcome: history.Unsent},
		{ID: "7f3a-a0", Phase: history.Audit, Client: 1, Entity: "cart", Key: "c", Name: "witness", Sent: 10, Returned: 11, Outcome: history.OK, Result: json.RawMessage(`{"ids":[]}`)},
		{ID: "7f3a-a1", Phase: history.Audit, Client: 4, Entity: "cart", Key: "c", Name: "get", Sent: 9, Returned: 12, Outcome: history.OK, Result: json.RawMessage(`{}`)},
	}}
	var b strings.Builder
	if err := Write(&b, run, "cart"); err != nil {
		t.Fatal(err)
	}
	want := `{:index 0, :time 1, :type :invoke, :process 0, :f :get, :value ["c" nil], :id "7f3a-l0"}
{:index 1, :time 3, :type :info, :process 0, :f :get, :value ["c" nil], :id "7f3a-l0", :node "n2", :error "timeout\u0009of 2 s"}
{:index 2, :time 5, :type :invoke, :process 1, :f :add, :value ["cart-\"1\".1" {:item "a b" :quantity 2 "x y" [nil true 1.5e3]}], :id "7f3a-l1"}
{:index 3, :time 9, :type :invoke, :process 2, :f :get, :value ["c" nil], :final? true, :id "7f3a-a1"}
{:index 4, :time 9, :type :ok, :process 1, :f :add, :value ["cart-\"1\".1" {:items 98765432109876543210N}], :id "7f3a-l1", :node "n1"}
{:index 5, :time 12, :type :ok, :process 2, :f :get, :value ["c" {}], :final? true, :id "7f3a-a1"}
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	h, err := Read(strings.NewReader(b.String()), "f")
	if err != nil || len(h.Ops) != 3 {
		t.Fatalf("%d operations, %v", len(h.Ops), err)
	}
	for _, op := range h.Ops {
		if _, err := canonical([]byte(op.Value)); err != nil {
			t.Error(err)
		}
	}
}
