// Bighistory writes a run directory of any size, as a run of counters and carts
// on three nodes leaves it, to measure how long judging takes and how much
// memory. Nothing ran: the operations are executed by the models, each at an
// instant between its sending and its answer. At a third of the load a node is
// killed; what was under way is not answered, and what is sent to its keys
// waits for a second. Keys retire after 512 writes, and every key is audited.
//
//	go run ./scripts/bighistory -ops 10000000 /tmp/big
//	/usr/bin/time -v bin/statequake check /tmp/big
//
// The verdict on it is pass. With -lose N the audits of the first N keys lack
// their last write, and the verdict is violation.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"statequake/history"
	"statequake/history/model"
)

func main() {
	var g generator
	flag.Int64Var(&g.ops, "ops", 1_000_000, "operations of the load")
	flag.Int64Var(&g.rate, "rate", 20_000, "operations due per second")
	flag.IntVar(&g.slots, "keys", 1000, "keys in use at a time")
	flag.IntVar(&g.lose, "lose", 0, "keys whose audit lacks the last write")
	seed := flag.Uint64("seed", 1, "of keys, operations and latencies")
	flag.Parse()
	if flag.NArg() != 1 || g.ops < 1 || g.rate < 1 || g.slots < 1 {
		fmt.Fprintln(os.Stderr, "usage: bighistory [-ops N] [-rate N] [-keys N] [-lose N] [-seed N] DIR")
		os.Exit(3)
	}
	g.Rand = rand.New(rand.NewPCG(*seed, 0))
	if err := g.write(flag.Arg(0)); err != nil {
		fmt.Fprintf(os.Stderr, "bighistory: %v\n", err)
		os.Exit(3)
	}
}

const (
	scenario = `# Claim: a history of any size is judged in a bounded memory.
name: big
seed: 1
system: {name: reference, version: none, nodes: 3, ack: durable, window: 0s, bug: ""}
load:
  workload: {name: counter and shopping-cart, keys: %d}
  arrivals: {constant: %d/s}
  warmup: 0s
  duration: %s
faults:
  - name: kill-owner
    at: %s
    chaos: {kind: PodChaos, spec: {action: pod-kill}}
expect: {lost_acks: "0", outage_max: 4s}
machine: {os: %s, arch: %s, go: %s, cpus: %d}
resolved: {statequake: none, isolation: none, run_tag: b16}
`
	retireAfter = 512 // writes
	killed      = "n2"
	down        = time.Second
)

// generator writes one run.
type generator struct {
	*rand.Rand
	ops, rate   int64
	slots, lose int

	w    *history.Writer
	open []*entity // by slot
	all  []*entity
	kill time.Duration // when a node is killed
}

// entity is one key with all that it has seen.
type entity struct {
	kind, key  string
	node       string
	epoch      int64
	state      model.State
	digest     string
	applied    []int32 // numbers of operations
	slot, next int     // next is the generation that follows
}

// due is when operation n is due.
func (g *generator) due(n int64) time.Duration {
	return time.Duration(float64(n) / float64(g.rate) * float64(time.Second))
}

func (g *generator) write(dir string) (err error) {
	length := g.due(g.ops)
	g.kill = length / 3
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if g.w, err = history.Create(dir); err != nil {
		return err
	}
	defer g.w.Abort()
	text := fmt.Sprintf(scenario, g.slots, g.rate, length, g.kill, runtime.GOOS, runtime.GOARCH, runtime.Version(), runtime.NumCPU())
	if err := os.WriteFile(filepath.Join(dir, "scenario.yaml"), []byte(text), 0o644); err != nil {
		return err
	}
	for slot := range g.slots {
		g.open = append(g.open, g.entity(slot, 1))
	}
	for n := range g.ops {
		if err := g.op(n); err != nil {
			return err
		}
	}
	for i, e := range g.all {
		g.audit(i, e, length+2*time.Second+time.Duration(i)*10*time.Microsecond)
	}
	end := length + 4*time.Second + time.Duration(len(g.all))*10*time.Microsecond
	g.record(length, end)
	return g.w.Close(history.Footer{Scheduled: map[history.Phase]int64{history.Load: g.ops}, End: end})
}

// entity opens a generation of the key of a slot. Slots are counters and carts
// in turn, and each has an owner for ever.
func (g *generator) entity(slot, generation int) *entity {
	e := &entity{kind: "counter", node: fmt.Sprintf("n%d", slot%3+1), epoch: 7, digest: history.ZeroDigest, slot: slot, next: generation + 1}
	if slot%2 == 1 {
		e.kind = "cart"
	}
	e.key = fmt.Sprintf("%s-%d.%d", e.kind, slot, generation)
	e.state, _ = model.For(e.kind)
	g.all = append(g.all, e)
	return e
}

func id(phase history.Phase, n int64) string {
	return "b16-" + string(phase[:1]) + strconv.FormatInt(n, 10)
}

// op writes operation n. Operations take effect in their order.
func (g *generator) op(n int64) error {
	e := g.open[g.IntN(g.slots)]
	op := history.Op{
		ID: id(history.Load, n), N: n, Phase: history.Load, Client: int(n % 64), Entity: e.kind, Key: e.key, Name: "get",
		Scheduled: g.due(n), Attempts: 1, Outcome: history.OK, Version: -1, Epoch: e.epoch, Node: e.node, Via: fmt.Sprintf("n%d", n%3+1),
	}
	switch dice := g.IntN(10); {
	case dice < 7 && e.kind == "counter":
		op.Name, op.Args = "add", json.RawMessage(`{"n":1}`)
	case dice < 6:
		op.Name, op.Args = "add", json.RawMessage(fmt.Sprintf(`{"item":"sku-%d","quantity":%d}`, g.IntN(12), 1+g.IntN(3)))
	case dice < 8 && e.kind == "cart":
		op.Name, op.Args = "remove", json.RawMessage(fmt.Sprintf(`{"item":"sku-%d"}`, g.IntN(12)))
	}
	op.Sent = op.Scheduled + 20*time.Microsecond + g.upTo(30*time.Microsecond)
	effect := op.Scheduled + 200*time.Microsecond
	answer := 300*time.Microsecond + time.Duration(g.ExpFloat64()*float64(500*time.Microsecond))
	lost := false // the node died before it answered
	if e.node == killed && effect+answer > g.kill && op.Scheduled < g.kill+down {
		if effect < g.kill {
			lost = true
		} else {
			effect = g.kill + down
			op.Node, op.Epoch = "n3", 8
			op.Via = op.Node
		}
	}
	op.Returned = effect + answer
	result, wrote, err := e.state.Apply(op.Name, op.Args, op.ID)
	if err != nil {
		return err
	}
	if wrote {
		e.digest = history.NextDigest(e.digest, op.ID)
		e.applied = append(e.applied, int32(n))
	}
	if lost {
		op.Outcome, op.Error, op.Node, op.Epoch, op.Returned = history.Info, "connection reset", "", 0, g.kill+time.Millisecond
	} else {
		op.Result, op.Version, op.Digest = result, int64(len(e.applied)), e.digest
	}
	g.w.Op(&op)
	if len(e.applied) == retireAfter {
		g.open[e.slot] = g.entity(e.slot, e.next)
	}
	return g.w.Err()
}

func (g *generator) upTo(d time.Duration) time.Duration { return time.Duration(g.Int64N(int64(d))) }

func (g *generator) audit(i int, e *entity, at time.Duration) {
	applied, digest := e.applied, e.digest
	if i < g.lose && len(applied) > 0 {
		applied, digest = applied[:len(applied)-1], history.ZeroDigest
		for _, n := range applied {
			digest = history.NextDigest(digest, id(history.Load, int64(n)))
		}
	}
	result := []byte(`{"ids":[`)
	for k, n := range applied {
		if k > 0 {
			result = append(result, ',')
		}
		result = strconv.AppendQuote(result, id(history.Load, int64(n)))
	}
	g.w.Op(&history.Op{
		ID: id(history.Audit, int64(i)), N: int64(i), Phase: history.Audit, Entity: e.kind, Key: e.key, Name: "witness",
		Scheduled: at, Sent: at + 20*time.Microsecond, Returned: at + time.Millisecond, Attempts: 1, Outcome: history.OK,
		Result: append(result, "]}"...), Version: int64(len(applied)), Digest: digest, Epoch: 8, Node: e.node, Via: e.node,
	})
}

// record writes what happened beside the operations.
func (g *generator) record(length, end time.Duration) {
	for _, e := range []history.Fault{
		{Event: history.Requested, At: g.kill - time.Millisecond},
		{Event: history.Injected, At: g.kill},
		{Event: history.Evidence, At: g.kill + time.Millisecond, Proof: history.Confirmed, Detail: "nothing ran, and so nothing was killed"},
		{Event: history.Recovered, At: g.kill + 2*time.Second},
	} {
		e.Name, e.Kind, e.Action, e.Targets = "kill-owner", "PodChaos", "pod-kill", []string{killed}
		g.w.Fault(e)
	}
	for at := time.Duration(0); at < end; at += time.Second {
		for i := range 3 {
			g.w.Sample(history.Sample{At: at, Node: fmt.Sprintf("n%d", i+1), PID: 100 + i, CPU: at.Seconds() / 2, RSS: 80 << 20})
		}
		g.w.Sample(history.Sample{At: at, Node: "generator", PID: 99, CPU: at.Seconds() / 3, RSS: 40 << 20,
			LagP50: 30 * time.Microsecond, LagP99: 50 * time.Microsecond, LagMax: time.Millisecond,
			Dispatched: min(g.ops, int64(min(at, length).Seconds()*float64(g.rate)+1))})
	}
}
