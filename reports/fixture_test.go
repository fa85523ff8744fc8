package reports

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"statequake/history"
)

const ms = time.Millisecond

// fixture is a small run of a correct system that a test may spoil before it
// is written. Counters k0 to k5 live on nodes n1 to n3 in turn. 100 operations
// per second are due, in a warmup of 1 s and a load of 12 s. n2 is killed at
// 6.011 s; requests to its keys are held until 6.800 s, and the one in flight
// is answered by nobody.
type fixture struct {
	scenario string
	ops      []history.Op
	faults   []history.Fault
	samples  []history.Sample
	footer   *history.Footer
}

func newFixture() *fixture {
	f := &fixture{scenario: `# Claim: killing the owner of the hottest counter loses no acknowledged write.
#
# Not part of the claim.
name: kill-owner
seed: 42
system:
  name: reference
  nodes: 3
  store: etcd
  ack: durable
  restart_delay: 1s
  bug: ""
load:
  workload: {name: counter, keys: 6}
  arrivals: {constant: 100/s}
  warmup: 1s
  duration: 12s
  timeout: 10s
faults:
  - name: kill-owner
    at: 5s
    chaos:
      kind: PodChaos
      spec: {action: pod-kill, mode: one, selector: {labelSelectors: {statequake.dev/owner-of: hottest}}}
expect:
  answered_within.1s: 95%
  lost_acks: "0"
  outage_max: 4s
  steady.p99: 50ms
machine: {go: go1.26.0, os: linux, arch: amd64, kernel: 6.18.0, cpus: 2, memory_bytes: 8589934592}
resolved: {statequake: v0.1.0, isolation: process group, run_tag: 7f3a}
`}

	const killed, back = 6011 * ms, 6800 * ms
	states := map[string]*counter{}
	state := func(key string) *counter {
		if states[key] == nil {
			states[key] = &counter{digest: history.ZeroDigest}
		}
		return states[key]
	}
	send := func(phase history.Phase, n int64, key, node, name string, at time.Duration) {
		op := history.Op{
			ID: fmt.Sprintf("7f3a-%c%d", phase[0], n), N: n, Phase: phase, Client: int(n % 4), Entity: "counter", Key: key, Name: name,
			Scheduled: at, Sent: at + 50*time.Microsecond, Attempts: 1, Version: -1, Via: node,
			Outcome: history.OK, Node: node, Epoch: 7,
		}
		op.Returned = op.Sent + 2*ms + time.Duration(n*n%97)*20*time.Microsecond
		c := state(key)
		if node == "n2" && op.Returned > killed && op.Sent < back && phase != history.Audit {
			if op.Sent < killed {
				op.Outcome, op.Error, op.Node, op.Epoch = history.Info, "connection reset", "", 0
				op.Returned = killed + ms
				f.ops = append(f.ops, op)
				return
			}
			op.Returned, op.Node, op.Epoch = back+2*ms, "n3", 8
		}
		switch name {
		case "add":
			op.Args = json.RawMessage(`{"n":1}`)
			c.ids = append(c.ids, op.ID)
			c.digest = history.NextDigest(c.digest, op.ID)
			op.Result = json.RawMessage(fmt.Sprintf(`{"value":%d}`, len(c.ids)))
		case "get":
			op.Result = json.RawMessage(fmt.Sprintf(`{"value":%d}`, len(c.ids)))
		case "witness":
			op.Result, _ = json.Marshal(map[string][]string{"ids": c.ids})
		}
		op.Version, op.Digest = int64(len(c.ids)), c.digest
		f.ops = append(f.ops, op)
	}

	for n := range int64(1300) {
		phase := history.Load
		if n < 100 {
			phase = history.Warmup
		}
		name := "add"
		if n%5 == 4 {
			name = "get"
		}
		send(phase, n, fmt.Sprintf("k%d.1", n%6), fmt.Sprintf("n%d", n%3+1), name, time.Duration(n)*10*ms)
	}
	for n := range int64(650) {
		send(history.Probe, n, "{probe-1}.1", "n2", "add", time.Duration(n)*20*ms)
	}
	n := int64(0)
	for _, key := range []string{"k0.1", "k1.1", "k2.1", "k3.1", "k4.1", "k5.1", "{probe-1}.1"} {
		send(history.Audit, n, key, "n1", "witness", 13500*ms+time.Duration(n)*10*ms)
		n++
	}

	event := func(kind history.EventKind, at time.Duration) history.Fault {
		return history.Fault{Name: "kill-owner", Kind: "PodChaos", Action: "pod-kill", Event: kind, At: at,
			Targets: []string{"n2"}, Roles: map[string]string{"n2": "store-leader"}}
	}
	evidence := event(history.Evidence, 6018*ms)
	evidence.Proof, evidence.Detail = history.Confirmed, "process 4711 is gone, its port refused a connection after 2 ms"
	f.faults = []history.Fault{event(history.Requested, 6000*ms), event(history.Injected, killed), evidence, event(history.Recovered, 7900*ms)}

	for s := range 15 {
		at := time.Duration(s) * time.Second
		for i := range 3 {
			node := history.Sample{At: at, Node: fmt.Sprintf("n%d", i+1), PID: 100 + i, CPU: 0.2 * float64(s), RSS: int64(60+s) << 20, DiskBytes: int64(s) << 18}
			if i == 1 && s >= 8 {
				node.PID, node.CPU, node.DiskBytes = 200, 0.2*float64(s-7), int64(s-7)<<18
			}
			f.samples = append(f.samples, node)
		}
		f.samples = append(f.samples, history.Sample{At: at, Node: "generator", PID: 99, CPU: 0.1 * float64(s), RSS: 30 << 20,
			LagP50: 40 * time.Microsecond, LagP99: 900 * time.Microsecond, LagMax: 4 * ms, StallMax: 6 * ms, Dispatched: min(int64(s)*100, 1300)})
	}
	f.footer = &history.Footer{Scheduled: map[history.Phase]int64{history.Warmup: 100, history.Load: 1200}, End: 14 * time.Second}
	return f
}

// counter is the true state of one counter.
type counter struct {
	ids    []string
	digest string
}

// op finds an operation by its id.
func (f *fixture) op(id string) *history.Op {
	for i := range f.ops {
		if f.ops[i].ID == id {
			return &f.ops[i]
		}
	}
	panic("no operation " + id)
}

// lose makes the audit of k0 forget its last acknowledged writes.
func (f *fixture) lose(n int) {
	audit := f.op("7f3a-a0")
	var witness struct {
		IDs []string `json:"ids"`
	}
	if err := json.Unmarshal(audit.Result, &witness); err != nil {
		panic(err)
	}
	ids := witness.IDs[:len(witness.IDs)-n]
	audit.Result, _ = json.Marshal(map[string][]string{"ids": ids})
	audit.Version, audit.Digest = int64(len(ids)), history.ZeroDigest
	for _, id := range ids {
		audit.Digest = history.NextDigest(audit.Digest, id)
	}
}

// edit replaces a part of the scenario that must be there.
func (f *fixture) edit(old, new string) {
	if !strings.Contains(f.scenario, old) {
		panic("the scenario does not hold " + old)
	}
	f.scenario = strings.Replace(f.scenario, old, new, 1)
}

// write writes the run directory and returns it. Without a footer the history
// is torn.
func (f *fixture) write(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, scenarioFile), []byte(f.scenario), 0o644); err != nil {
		t.Fatal(err)
	}
	w, err := history.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	// As they are recorded: when they return.
	ops := slices.Clone(f.ops)
	slices.SortStableFunc(ops, func(a, b history.Op) int { return cmp.Compare(a.Returned, b.Returned) })
	for i := range ops {
		w.Op(&ops[i])
	}
	for _, e := range f.faults {
		w.Fault(e)
	}
	for _, s := range f.samples {
		w.Sample(s)
	}
	if f.footer == nil {
		w.Abort()
		if err := w.Err(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if err := w.Close(*f.footer); err != nil {
		t.Fatal(err)
	}
	return dir
}

// judge writes the run and judges it.
func (f *fixture) judge(t *testing.T) *Verdict {
	t.Helper()
	v, err := Judge(f.write(t))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
