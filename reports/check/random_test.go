package check

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"statequake/history"
	"statequake/history/model"
)

var seedFlag = flag.Uint64("seed", 0, "run the random tests with this seed only")

// forSeeds runs test with n seeds, and says how to replay the one that fails.
func forSeeds(t *testing.T, n uint64, test func(t *testing.T, seed uint64)) {
	first, last := uint64(1), n
	if *seedFlag != 0 {
		first, last = *seedFlag, *seedFlag
	}
	for seed := first; seed <= last && !t.Failed(); seed++ {
		test(t, seed)
	}
}

func replay(t *testing.T, seed uint64) string {
	return fmt.Sprintf("replay: go test ./reports/check -run '%s$' -args -seed %d", t.Name(), seed)
}

// generator makes legal histories of one key: it runs a correct system in
// simulated time and records what clients see.
type generator struct {
	*rand.Rand
	entity string
	run    *history.Run
	ids    []string // S
}

func newGenerator(seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), run: &history.Run{}}
	g.entity = []string{"counter", "register", "cart"}[g.IntN(3)]
	return g
}

// call is a random operation of the entity.
func (g *generator) call() (name, args string) {
	read := g.IntN(3) == 0
	item := string("xy"[g.IntN(2)])
	switch {
	case read:
		return "get", ""
	case g.entity == "counter":
		return "add", fmt.Sprintf(`{"n":%d}`, g.IntN(3))
	case g.entity == "register":
		return "set", fmt.Sprintf(`{"value":%q}`, item)
	case g.IntN(3) == 0:
		return "remove", fmt.Sprintf(`{"item":%q}`, item)
	default:
		return "add", fmt.Sprintf(`{"item":%q,"quantity":%d}`, item, 30+g.IntN(30))
	}
}

// execution is one application of an operation by the simulated system.
type execution struct {
	at    time.Duration
	op    int  // index into Run.Ops
	again bool // of a duplicate; the reply was given before
}

// ops makes n operations that n/3 or so clients send one after another; the
// system executes each at the returned instant. ok operations return after
// that. Others do not answer: info, executed at any later time or never, and
// fail, never executed.
func (g *generator) ops(n int) []execution {
	var executions []execution
	clients := make([]time.Duration, 1+n/3)
	for i := range n {
		c := g.IntN(len(clients))
		op := history.Op{ID: fmt.Sprintf("o%d", i), N: int64(i), Phase: history.Load, Client: c, Entity: g.entity, Key: "k", Version: -1, Attempts: 1}
		name, args := g.call()
		op.Name = name
		if args != "" {
			op.Args = json.RawMessage(args)
		}
		op.Sent = clients[c] + g.upTo(4)
		executed := op.Sent + g.upTo(6)
		op.Returned = executed + g.upTo(6)
		clients[c] = op.Returned + g.upTo(2)
		switch g.IntN(8) {
		case 0:
			op.Outcome = history.Info
			if g.IntN(2) == 0 {
				executions = append(executions, execution{at: executed + g.upTo(20), op: i})
			}
		case 1:
			op.Outcome = history.Fail
		default:
			op.Outcome = history.OK
			executions = append(executions, execution{at: executed, op: i})
			if g.IntN(8) == 0 {
				op.Attempts = 2
				executions = append(executions, execution{at: executed + 1 + g.upTo(20), op: i, again: true})
			}
		}
		g.run.Ops = append(g.run.Ops, op)
	}
	g.Shuffle(len(executions), func(i, j int) { executions[i], executions[j] = executions[j], executions[i] })
	slices.SortStableFunc(executions, func(a, b execution) int { return cmp.Compare(a.at, b.at) })
	return executions
}

func (g *generator) upTo(n int) time.Duration { return time.Duration(g.IntN(n+1)) * time.Millisecond }

// execute lets the system execute a copy of an operation, unless it knows that
// it has applied one before. Only the first copy is answered.
func (g *generator) execute(e execution, state model.State) {
	op := &g.run.Ops[e.op]
	if again := *op; e.again {
		op = &again
	}
	if !slices.Contains(g.ids, op.ID) {
		g.ids = execute(op, state, g.ids)
	}
}

// execute applies op to a state with the given witness and fills in its reply,
// which only ok operations keep.
func execute(op *history.Op, state model.State, ids []string) []string {
	result, wrote, err := state.Apply(op.Name, op.Args, op.ID)
	if err != nil {
		panic(err)
	}
	if wrote {
		ids = append(slices.Clip(ids), op.ID)
	}
	if op.Outcome == history.OK {
		op.Result = bytes.Clone(result)
		saw(op, ids)
	}
	return ids
}

// audits appends one or two audits of what the system has at the end.
func (g *generator) audits(epoch int64) {
	var end time.Duration
	for _, op := range g.run.Ops {
		end = max(end, op.Returned)
	}
	end += time.Second
	for i := range 1 + g.IntN(2) {
		op := history.Op{
			ID: fmt.Sprintf("z%d", i), Phase: history.Audit, Entity: g.entity, Key: "k", Name: history.WitnessOp,
			Outcome: history.OK, Sent: end, Returned: end + time.Millisecond, Attempts: 1, Epoch: epoch, Node: "n1",
		}
		witnessReply(&op, g.ids)
		g.run.Ops = append(g.run.Ops, op)
		end += g.upTo(3)
	}
	g.run.Footer = footer(g.run.Ops)
}

// durable makes a legal history under the durable contract.
func (g *generator) durable(n int) {
	state, _ := model.For(g.entity)
	for _, e := range g.ops(n) {
		g.execute(e, state)
	}
	g.audits(1)
}

// mutate breaks something, perhaps; it says what, or "" if there was nothing
// to break.
func (g *generator) mutate() string {
	ops := g.run.Ops
	op := &ops[g.IntN(len(ops))]
	clients := slices.DeleteFunc(slices.Clone(ops), func(op history.Op) bool { return op.Phase == history.Audit })
	ids := slices.Clone(g.ids)
	switch g.IntN(8) {
	case 0:
		if len(ids) == 0 {
			return ""
		}
		i := g.IntN(len(ids))
		ids = slices.Delete(ids, i, i+1)
		g.reaudit(ids)
		return fmt.Sprintf("position %d is gone from S", i+1)
	case 1:
		if len(ids) < 2 {
			return ""
		}
		i := g.IntN(len(ids) - 1)
		ids[i], ids[i+1] = ids[i+1], ids[i]
		g.reaudit(ids)
		return fmt.Sprintf("positions %d and %d of S are swapped", i+1, i+2)
	case 2:
		if len(ids) == 0 {
			return ""
		}
		ids = slices.Insert(ids, g.IntN(len(ids)+1), ids[g.IntN(len(ids))])
		g.reaudit(ids)
		return "an id is twice in S"
	case 3:
		ids = slices.Insert(ids, g.IntN(len(ids)+1), clients[g.IntN(len(clients))].ID)
		g.reaudit(ids)
		return "another operation is in S"
	case 4:
		if op.Outcome != history.OK || op.Name == history.WitnessOp {
			return ""
		}
		other := ops[g.IntN(len(ops))]
		if other.Outcome != history.OK || other.Name == history.WitnessOp {
			return ""
		}
		op.Result = other.Result
		return fmt.Sprintf("%s has the result of %s", op.ID, other.ID)
	case 5:
		if op.Outcome != history.OK || len(ids) == 0 {
			return ""
		}
		saw(op, ids[:g.IntN(len(ids)+1)])
		return fmt.Sprintf("%s has version and digest of another moment", op.ID)
	case 6:
		if op.Outcome != history.OK {
			return ""
		}
		op.Digest = history.NextDigest(op.Digest, "x")
		return fmt.Sprintf("%s has a digest from nowhere", op.ID)
	default:
		if op.Outcome != history.OK || op.Phase == history.Audit {
			return ""
		}
		d := g.upTo(40) - 20*time.Millisecond
		op.Sent, op.Returned = op.Sent+d, op.Returned+d
		return fmt.Sprintf("%s happened %s later", op.ID, d)
	}
}

// reaudit makes ids what every audit answers.
func (g *generator) reaudit(ids []string) {
	for i := range g.run.Ops {
		if g.run.Ops[i].Phase == history.Audit {
			witnessReply(&g.run.Ops[i], ids)
		}
	}
}

func dump(run *history.Run) string {
	var b strings.Builder
	for _, op := range run.Ops {
		fmt.Fprintf(&b, "%d-%d %s epoch %d %s %s %s -> %s %s version %d, digest %s, %d attempts\n", op.Sent.Milliseconds(), op.Returned.Milliseconds(),
			op.Node, op.Epoch, op.Name, op.ID, op.Args, op.Outcome, op.Result, op.Version, op.Digest, op.Attempts)
	}
	for _, f := range run.Faults {
		fmt.Fprintf(&b, "fault %s %s %d %v\n", f.Name, f.Event, f.At.Milliseconds(), f.Targets)
	}
	return b.String()
}

func find(results []Result, name string) Result {
	i := slices.IndexFunc(results, func(r Result) bool { return r.Name == name })
	return results[i]
}

// witnessed states are what the oracle of TestWitnessAgainstPorcupine walks.
type oracleState struct {
	folded
	version int64
	digest  string
}

// oracle is linearizability with every reply's version and digest, and with
// the audits as reads, decided by search: slow, and written apart from the
// rules that it is to confirm.
func oracle(run *history.Run) porcupine.CheckResult {
	m := porcupine.Model{
		Init: func() any {
			state, _ := model.For(run.Ops[0].Entity)
			return oracleState{folded{state, state.Fingerprint()}, 0, history.ZeroDigest}
		},
		Step: func(state, input, _ any) (bool, any) {
			s, op := state.(oracleState), input.(*history.Op)
			next := s
			if op.Name == history.WitnessOp {
				ids, err := witnessed(op.Result)
				digest := history.ZeroDigest
				for _, id := range ids {
					digest = history.NextDigest(digest, id)
				}
				return err == nil && digest == s.digest && op.Digest == digest && op.Version == s.version && len(ids) == int(s.version), state
			}
			st := s.Clone()
			result, wrote, err := st.Apply(op.Name, op.Args, op.ID)
			if err != nil {
				return false, state
			}
			if wrote {
				next = oracleState{folded{st, st.Fingerprint()}, s.version + 1, history.NextDigest(s.digest, op.ID)}
			}
			if op.Outcome == history.OK && (!sameJSON(op.Result, result) || op.Version != next.version || op.Digest != next.digest) {
				return false, state
			}
			return true, next
		},
		Equal: func(a, b any) bool {
			x, y := a.(oracleState), b.(oracleState)
			return x.digest == y.digest && x.fingerprint == y.fingerprint
		},
	}
	var ops []porcupine.Operation
	for i := range run.Ops {
		op := &run.Ops[i]
		o := porcupine.Operation{ClientId: i, Input: op, Call: int64(op.Sent), Return: int64(op.Returned)}
		switch op.Outcome {
		case history.Info:
			o.Return = int64(never)
		case history.Fail:
			continue
		}
		ops = append(ops, o)
		if op.Attempts > 1 && rejected(op.Result) {
			other := *op
			other.Outcome = history.Info
			o.Input, o.Return = &other, int64(never)
			ops = append(ops, o)
		}
	}
	return porcupine.CheckOperationsTimeout(m, ops, time.Minute)
}

// TestWitnessAgainstPorcupine: on legal histories, and on ones of which one
// thing was changed, the witness finds a violation if and only if no order
// explains results, versions, digests and audits; and whenever none explains
// the results alone.
func TestWitnessAgainstPorcupine(t *testing.T) {
	illegal := map[string]int{}
	mutated := 0
	n := uint64(20000)
	if text := os.Getenv("STATEQUAKE_HISTORIES"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("STATEQUAKE_HISTORIES: %v", err)
		}
	}
	forSeeds(t, n, func(t *testing.T, seed uint64) {
		g := newGenerator(seed)
		g.durable(2 + g.IntN(9))
		opt := Options{Ack: Durable, Witness: true, PorcupineTime: time.Minute}
		if results := Run(g.run, opt); Overall(results) != Pass && !onlyFewOps(g.run, results) {
			t.Fatalf("a legal history:\n%s\n%s%s", dump(g.run), show(results, false), replay(t, seed))
		}
		what := g.mutate()
		if what == "" {
			return
		}
		mutated++
		results := Run(g.run, opt)
		w := find(results, "witness")
		want := oracle(g.run)
		plain := slices.ContainsFunc(results, func(r Result) bool {
			return (r.Name == "porcupine" || r.Name == "register" || r.Name == "counter") && r.Verdict == Violated
		})
		if want == porcupine.Unknown || (w.Verdict == Violated) != (want == porcupine.Illegal) || plain && w.Verdict != Violated {
			t.Fatalf("%s:\n%s\n%soracle: %s\n%s", what, dump(g.run), show(results, false), want, replay(t, seed))
		}
		for kind := range w.Kinds {
			illegal[kind]++
		}
	})
	if *seedFlag == 0 {
		t.Logf("%d histories changed, %v", mutated, illegal)
		for _, kind := range []string{Duplicated, Lost, Phantom, DirtyRead, WrongResult, StaleRead, Reordered, FutureRead} {
			if illegal[kind] < 20 {
				t.Errorf("only %d histories with %s", illegal[kind], kind)
			}
		}
	}
}

// onlyFewOps reports whether a small random history is not judged because no
// client's operation was acknowledged, or none that the audit can speak of.
func onlyFewOps(run *history.Run, results []Result) bool {
	acknowledged := slices.ContainsFunc(run.Ops, func(op history.Op) bool { return op.Outcome == history.OK && op.Phase != history.Audit })
	return !acknowledged && Overall(results) == Unknown
}

// memory makes a legal history under the memory contract, with owners that
// are killed, or lose the shard for no recorded reason.
func (g *generator) memory(n int, window time.Duration) {
	executions := g.ops(n)
	var last time.Duration
	for _, e := range executions {
		last = max(last, e.at)
	}
	type applied struct {
		execution
		wrote bool
	}
	epoch, owner := int64(1), 1
	state, _ := model.For(g.entity)
	var done []applied
	change := func(at time.Duration) {
		// The new owner has a prefix; what it lacks was applied, and so
		// acknowledged, within the window.
		keep := len(done)
		for keep > 0 && done[keep-1].at >= at-window && g.IntN(3) > 0 {
			keep--
		}
		gone := done[keep:]
		done = slices.Clip(done[:keep])
		state, _ = model.For(g.entity)
		g.ids = nil
		for _, d := range done {
			if d.wrote {
				// Replies were given when it was applied first.
				op := g.run.Ops[d.op]
				g.ids = execute(&op, state, g.ids)
			}
		}
		if fault := g.IntN(4); fault > 0 {
			name := fmt.Sprintf("kill-%d", epoch)
			target := []string{fmt.Sprintf("n%d", owner)}
			for _, e := range []history.Fault{
				{Name: name, Event: history.Requested, At: at - g.upTo(1), Targets: target},
				{Name: name, Event: history.Injected, At: at + g.upTo(3), Targets: target},
			} {
				if fault > 1 || e.Event == history.Injected && e.At == at {
					g.run.Faults = append(g.run.Faults, e)
				}
			}
		}
		epoch++
		owner = int(epoch % 3)
		// A reply that was lost with the owner makes the client, or a node
		// that forwarded for it, try again.
		for _, d := range gone {
			op := &g.run.Ops[d.op]
			retried := at + 1 + g.upTo(5)
			if op.Outcome == history.Info && g.IntN(2) == 0 || op.Outcome == history.OK && op.Attempts == 1 && retried <= op.Returned {
				op.Attempts = 1 + g.IntN(2)
				executions = append(executions, execution{at: retried, op: d.op})
			} else if op.Outcome == history.OK && g.IntN(3) == 0 {
				op.Attempts = 2
				executions = append(executions, execution{at: retried, op: d.op, again: true})
			}
		}
		slices.SortStableFunc(executions, func(a, b execution) int { return cmp.Compare(a.at, b.at) })
	}
	changes := []time.Duration{g.upTo(int(last.Milliseconds())), g.upTo(int(last.Milliseconds())), never}
	slices.Sort(changes)
	for len(executions) > 0 {
		e := executions[0]
		if e.at > changes[0] {
			change(changes[0])
			changes = changes[1:]
			continue
		}
		executions = executions[1:]
		before := len(g.ids)
		g.execute(e, state)
		if op := &g.run.Ops[e.op]; op.Outcome == history.OK && !e.again {
			op.Epoch, op.Node = epoch, fmt.Sprintf("n%d", owner)
		}
		done = append(done, applied{e, len(g.ids) > before})
	}
	g.audits(epoch)
}

// TestMemoryContract: legal histories under the memory contract have no
// violation, and what was acknowledged by the last epoch must be there.
func TestMemoryContract(t *testing.T) {
	const window = 15 * time.Millisecond
	legal, broken := 0, 0
	forSeeds(t, 20000, func(t *testing.T, seed uint64) {
		g := newGenerator(seed)
		g.memory(4+g.IntN(12), window)
		opt := Options{Ack: Memory, Window: window, Witness: true}
		results := Run(g.run, opt)
		if Overall(results) != Pass && !onlyFewOps(g.run, results) {
			t.Fatalf("a legal history:\n%s\n%s%s", dump(g.run), show(results, false), replay(t, seed))
		}
		for _, l := range find(results, "witness").LostAcks {
			legal++
			if !l.Legal {
				t.Fatalf("%s is not legal:\n%s\n%s%s", l.Op, dump(g.run), show(results, false), replay(t, seed))
			}
		}
		epoch := g.run.Ops[len(g.run.Ops)-1].Epoch
		for i, op := range g.run.Ops {
			if at := slices.Index(g.ids, op.ID); at >= 0 && op.Outcome == history.OK && op.Epoch == epoch && !rejected(op.Result) {
				g.reaudit(slices.Delete(slices.Clone(g.ids), at, at+1))
				results := Run(g.run, opt)
				if find(results, "witness").Kinds[Lost] == 0 {
					t.Fatalf("%s (%d) was lost in the last epoch:\n%s\n%s%s", op.ID, i, dump(g.run), show(results, false), replay(t, seed))
				}
				broken++
				return
			}
		}
	})
	if *seedFlag == 0 {
		t.Logf("%d legal losses, %d illegal ones", legal, broken)
		if legal < 1000 || broken < 1000 {
			t.Errorf("the generator is too tame: %d legal losses, %d illegal ones", legal, broken)
		}
	}
}
