package explain

import (
	"encoding/json"
	"fmt"
	"time"

	"statequake/history"
	"statequake/reports/check"
)

const ms = time.Millisecond

// script is a history told operation by operation, with the kind of violation
// that it must be found to be, by which check.
type script struct {
	kind, check string
	opt         check.Options
	ops         []history.Op
	faults      []history.Fault
	most        int // operations of its minimal history
}

// with changes the operation said last.
func (s *script) with(change func(op *history.Op)) *script {
	change(&s.ops[len(s.ops)-1])
	return s
}

// say adds an answered operation on ENTITY/KEY. Instants are milliseconds; state
// is the ids that the answer saw applied.
func (s *script) say(sent, returned int, node, at, name, id, args, result string, state ...string) *script {
	var entity, key string
	for i := range at {
		if at[i] == '/' {
			entity, key = at[:i], at[i+1:]
		}
	}
	op := history.Op{
		ID: id, N: int64(len(s.ops)), Phase: history.Load, Entity: entity, Key: key, Name: name, Args: json.RawMessage(args),
		Scheduled: time.Duration(sent) * ms, Sent: time.Duration(sent) * ms, Returned: time.Duration(returned) * ms, Attempts: 1,
		Outcome: history.OK, Result: json.RawMessage(result), Version: -1, Node: node, Via: node, Epoch: 1,
	}
	if entity != "transfer" && s.opt.Witness {
		op.Version, op.Digest = int64(len(state)), digest(state)
	}
	s.ops = append(s.ops, op)
	return s
}

func digest(ids []string) string {
	d := history.ZeroDigest
	for _, id := range ids {
		d = history.NextDigest(d, id)
	}
	return d
}

// open makes the operation said last one that nobody answered.
func (s *script) open(why string) *script {
	return s.with(func(op *history.Op) {
		op.Outcome, op.Error, op.Result, op.Version, op.Digest, op.Epoch, op.Node = history.Info, why, nil, -1, "", 0, ""
	})
}

// failed makes the operation said last one without effect.
func (s *script) failed(why string) *script {
	return s.open(why).with(func(op *history.Op) { op.Outcome = history.Fail })
}

// audit adds the audit of a key.
func (s *script) audit(sent, returned int, node, at, id string, ids ...string) *script {
	if ids == nil {
		ids = []string{}
	}
	result, _ := json.Marshal(map[string][]string{"ids": ids})
	return s.say(sent, returned, node, at, history.WitnessOp, id, "", string(result), ids...).with(func(op *history.Op) { op.Phase = history.Audit })
}

// kill adds the kill of a node.
func (s *script) kill(at int, node string) *script {
	for i, event := range []history.EventKind{history.Requested, history.Injected} {
		s.faults = append(s.faults, history.Fault{
			Name: "kill-owner", Kind: "PodChaos", Action: "pod-kill", Event: event, At: time.Duration(at+i)*ms - ms, Targets: []string{node},
		})
	}
	return s
}

// adds is traffic that is in order: n additions of 1 to a counter, read in
// between. It returns the ids.
func (s *script) adds(at string, n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("l%d", i))
		value := fmt.Sprintf(`{"value":%d}`, i+1)
		s.say(10*i, 10*i+4, "n1", at, "add", ids[i], `{"n":1}`, value, ids...)
		s.say(10*i+5, 10*i+9, "n1", at, "get", fmt.Sprintf("r%d", i), `{}`, value, ids...)
	}
	return ids
}

func (s *script) run() *history.Run {
	return &history.Run{Ops: s.ops, Faults: s.faults, Footer: history.FooterOf(s.ops)}
}

func add(s []string, more ...string) []string { return append(s[:len(s):len(s)], more...) }

// scripts holds a history for every kind of violation.
func scripts() map[string]*script {
	const c = "counter/c"
	durable := check.Options{Ack: check.Durable, Witness: true}
	all := map[string]*script{}
	tell := func(name, kind, by string, opt check.Options, most int) *script {
		all[name] = &script{kind: kind, check: by, opt: opt, most: most}
		return all[name]
	}

	s := tell("lost", check.Lost, "witness", durable, 2)
	ids := s.adds(c, 40)
	s.say(10_210, 10_214, "n2", c, "add", "l1841", `{"n":1}`, `{"value":41}`, add(ids, "l1841")...).kill(10_216, "n2").
		say(12_000, 12_004, "n1", c, "get", "l2000", `{}`, `{"value":40}`, ids...).with(func(op *history.Op) { op.Epoch = 2 }).
		audit(30_990, 31_000, "n1", c, "a0", ids...).with(func(op *history.Op) { op.Epoch = 2 })

	// What a node acknowledges while it shuts down, and never flushes: as
	// dotnet/orleans#9655 has it of grains that write behind.
	s = tell("lost-shutdown", check.Lost, "witness", durable, 2)
	ids = s.adds(c, 40)
	s.say(4386, 4654, "n1", c, "add", "l518", `{"n":1}`, `{"value":41}`, add(ids, "l518")...).kill(6200, "n1").
		audit(8389, 8396, "n2", c, "a0", ids...).with(func(op *history.Op) { op.Epoch = 2 })
	s.faults[0].At = 4651 * ms // SIGTERM; it was gone after its last flush

	// A legal loss under ack: memory would be younger than the window.
	s = tell("lost-memory", check.Lost, "witness", check.Options{Ack: check.Memory, Window: 200 * ms, Witness: true}, 3)
	ids = s.adds(c, 40)
	s.say(1000, 1004, "n2", c, "add", "l99", `{"n":1}`, `{"value":41}`, add(ids, "l99")...).
		say(1600, 1604, "n2", c, "get", "l100", `{}`, `{"value":41}`, add(ids, "l99")...).kill(1700, "n2").
		audit(30_990, 31_000, "n1", c, "a0", ids...).with(func(op *history.Op) { op.Epoch = 2 })

	s = tell("duplicated", check.Duplicated, "witness", durable, 2)
	ids = s.adds(c, 40)
	s.say(500, 700, "n2", c, "add", "l99", `{"n":1}`, `{"value":41}`, add(ids, "l99")...).with(func(op *history.Op) { op.Attempts = 2 }).
		audit(31_000, 31_001, "n1", c, "a0", add(ids, "l99", "l99")...)

	s = tell("phantom", check.Phantom, "witness", durable, 2)
	ids = s.adds(c, 40)
	s.say(500, 510, "n2", c, "add", "l99", `{"n":1}`, "").failed("connection refused").
		audit(31_000, 31_001, "n1", c, "a0", add(ids, "l99")...)

	// That nobody sent it is known from the whole history alone.
	s = tell("phantom-unsent", check.Phantom, "witness", durable, 5)
	ids = s.adds(c, 4)
	s.audit(31_000, 31_001, "n1", c, "a0", add(ids, "x1")...)

	s = tell("dirty-read", check.DirtyRead, "witness", durable, 2)
	ids = s.adds(c, 40)
	s.say(500, 900, "n2", c, "add", "l99", `{"n":1}`, "").open("connection reset").
		say(600, 603, "n2", c, "get", "l100", `{}`, `{"value":41}`, add(ids, "l99")...).kill(700, "n2").
		audit(31_000, 31_001, "n1", c, "a0", ids...)

	s = tell("wrong-result", check.WrongResult, "witness", durable, 3)
	s.say(10, 14, "n1", c, "add", "l0", `{"n":2}`, `{"value":2}`, "l0").
		say(20, 24, "n1", c, "get", "l1", `{}`, `{"value":3}`, "l0")
	s.say(30, 34, "n1", c, "add", "l2", `{"n":2}`, `{"value":4}`, "l0", "l2").
		audit(31_000, 31_001, "n1", c, "a0", "l0", "l2")

	s = tell("stale-read", check.StaleRead, "witness", durable, 3)
	ids = s.adds(c, 40)
	s.say(500, 504, "n2", c, "add", "l99", `{"n":1}`, `{"value":41}`, add(ids, "l99")...).
		say(510, 512, "n1", c, "get", "l100", `{}`, `{"value":40}`, ids...).
		audit(31_000, 31_001, "n1", c, "a0", add(ids, "l99")...)

	s = tell("reordered", check.Reordered, "witness", durable, 3)
	ids = s.adds(c, 40)
	s.say(500, 504, "n1", c, "add", "l99", `{"n":1}`, `{"value":42}`, add(ids, "l98", "l99")...).
		say(510, 514, "n1", c, "add", "l98", `{"n":1}`, `{"value":41}`, add(ids, "l98")...).
		audit(31_000, 31_001, "n1", c, "a0", add(ids, "l98", "l99")...)

	s = tell("future-read", check.FutureRead, "witness", durable, 3)
	ids = s.adds(c, 40)
	s.say(500, 504, "n1", c, "get", "l100", `{}`, `{"value":41}`, add(ids, "l99")...).
		say(510, 514, "n1", c, "add", "l99", `{"n":1}`, `{"value":41}`, add(ids, "l99")...).
		audit(31_000, 31_001, "n1", c, "a0", add(ids, "l99")...)

	s = tell("half-applied", check.HalfApplied, "witness", durable, 4)
	s.say(1, 3, "n1", "account/A", "credit", "c0", `{"amount":5}`, `{"balance":1005}`, "c0").
		say(4, 5, "n1", "transfer/A", "run", "t", `{"to":"B","amount":5}`, "").open("connection reset").
		say(9, 10, "n1", "account/A", "get", "r", `{}`, `{"balance":1000,"pending":1}`, "c0", "t/1").
		audit(9090, 9091, "n1", "account/A", "za", "c0", "t/1").
		audit(9090, 9092, "n2", "account/B", "zb")

	s = tell("missed-deadline", check.MissedDeadline, "witness", durable, 3)
	s.say(1, 3, "n1", "approval/p", "submit", "s", `{"by":"ann","deadline_ms":3000}`, `{"state":"pending","round":1}`, "s").
		say(9, 10, "n1", "approval/p", "get", "g", `{}`, `{"state":"pending","round":1,"by":"ann"}`, "s").
		audit(9090, 9091, "n1", "approval/p", "z", "s")

	alone := check.Options{Ack: check.Durable}
	s = tell("register-lost", check.Lost, "register", alone, 3)
	registers(s, 30).
		say(1000, 1010, "n1", "register/k", "set", "l98", `{"value":"x"}`, `{"value":"x"}`).
		say(1020, 1030, "n1", "register/k", "set", "l99", `{"value":"y"}`, `{"value":"y"}`).
		say(9000, 9010, "n2", "register/k", "get", "z", `{}`, `{"value":"x"}`).with(func(op *history.Op) { op.Phase = history.Audit })

	s = tell("register-not-linearizable", check.NotLinearizable, "register", alone, 6)
	registers(s, 30).
		say(1000, 1010, "n1", "register/k", "set", "l98", `{"value":"x"}`, `{"value":"x"}`).
		say(1000, 1012, "n1", "register/k", "set", "l99", `{"value":"y"}`, `{"value":"y"}`).
		say(1020, 1021, "n1", "register/k", "get", "l100", `{}`, `{"value":"x"}`).
		say(1022, 1023, "n2", "register/k", "get", "l101", `{}`, `{"value":"y"}`).
		say(1024, 1025, "n1", "register/k", "get", "l102", `{}`, `{"value":"x"}`).
		say(9000, 9010, "n2", "register/k", "get", "z", `{}`, `{"value":"x"}`).with(func(op *history.Op) { op.Phase = history.Audit })

	s = tell("register-phantom", check.Phantom, "register", alone, 1)
	registers(s, 30).
		say(1020, 1021, "n1", "register/k", "get", "l100", `{}`, `{"value":"nobody's"}`)

	s = tell("not-linearizable", check.NotLinearizable, "porcupine", alone, 3)
	s.say(10, 14, "n1", c, "add", "l0", `{"n":1}`, `{"value":1}`).
		say(15, 16, "n1", c, "get", "l1", `{}`, `{"value":1}`).
		say(20, 24, "n2", c, "add", "l2", `{"n":1}`, `{"value":2}`).
		say(25, 26, "n1", c, "get", "l3", `{}`, `{"value":1}`).
		say(40, 44, "n2", c, "add", "l4", `{"n":1}`, `{"value":3}`).
		say(9000, 9010, "n2", c, "get", "z", `{}`, `{"value":3}`).with(func(op *history.Op) { op.Phase = history.Audit })
	return all
}

// registers is traffic that is in order: n values written and read.
func registers(s *script, n int) *script {
	for i := range n {
		value := fmt.Sprintf(`{"value":"v%d"}`, i)
		s.say(10*i, 10*i+4, "n1", "register/k", "set", fmt.Sprintf("l%d", i), value, value)
		s.say(10*i+5, 10*i+9, "n1", "register/k", "get", fmt.Sprintf("r%d", i), `{}`, value)
	}
	return s
}
