//go:build e2e

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/scenarios"
)

// cutOff is a run of about 8 s in which one node is cut off from the others as
// soon as another fault is seen.
const cutOff = `
name: cut-off
seed: 7
system: {name: reference, nodes: 3, ack: durable}
load: {workload: {name: shopping-cart, keys: 100}, arrivals: {constant: 100/s}, warmup: 500ms, duration: 6s}
faults:
  - name: late
    after: {acks: 50}
    chaos:
      kind: NetworkChaos
      spec: {action: delay, mode: one, selector: {labelSelectors: {statequake.dev/role: minority}}, delay: {latency: 5ms}, duration: 4s}
  - name: cut
    while: late
    chaos:
      kind: NetworkChaos
      spec:
        action: partition
        mode: one
        selector: {labelSelectors: {statequake.dev/node: n2}}
        direction: both
        target: {mode: all, selector: {}}
        duration: 2s
expect: {lost_acks: 0}
`

// ownCutOff is a system of one's own, whose clients do not reach it.
const ownCutOff = `
name: own-cut-off
seed: 7
system:
  name: lossy
  exec:
    start: [./lossy, -listen, "${host}:${port}", -data, "${data_dir}"]
    env: {WRITE: first}
    ready_url: http://${host}:${port}/registers/ready
  http:
    idempotent: true
    ops:
      set: {method: PUT, path: "/registers/${key}", body: '{"value": ${args.value}}'}
      get: {path: "/registers/${key}"}
    replies: [{status: 200, outcome: ok, result: {value: /value}}]
load: {workload: {name: register, keys: 50}, arrivals: {constant: 100/s}, warmup: 500ms, duration: 5s}
faults:
  - name: unheard
    within: [500ms, 1s]
    chaos:
      kind: NetworkChaos
      spec: {action: partition, mode: all, selector: {}, duration: 2s}
`

// TestNetworkChaos: a partition of nodes, and of clients and nodes, is carried
// out, seen, healed and survived, on streams also without namespaces; on packets
// it is refused without them.
func TestNetworkChaos(t *testing.T) {
	binary, dir := build(t)
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "lossy"), "../../examples/lossy").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, tt := range []struct {
		name, text string
		options    []string
	}{
		{"streams", cutOff, nil},
		{"streams-without-namespaces", cutOff, []string{"--no-sandbox"}},
		{"packets", cutOff, []string{"--set", "system.network=packets"}},
		{"own-streams", ownCutOff, nil},
		{"own-packets", ownCutOff, []string{"--set", "system.network=packets"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file, out := filepath.Join(dir, tt.name+".yaml"), filepath.Join(dir, tt.name)
			if err := os.WriteFile(file, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			said, err := exec.Command(binary, append([]string{"run", file, "--out", out}, tt.options...)...).CombinedOutput()
			if strings.Contains(tt.name, "packets") && strings.Contains(string(said), "running without namespaces of its own") {
				if code(err) != exitError || !strings.Contains(string(said), "NetworkChaos on packets needs namespaces") {
					t.Errorf("exit code %d\n%s", code(err), said)
				}
				t.Skipf("no namespaces:\n%s", said)
			}
			// A machine that starves the generator makes the verdict unknown, not the
			// evidence.
			starved := code(err) == 2 && strings.Contains(string(said), "the load generator did not get to run")
			if code(err) != exitPass && !starved {
				t.Fatalf("exit code %d\n%s", code(err), said)
			}
			record, err := history.LoadRun(out)
			if err != nil {
				t.Fatal(err)
			}
			s, err := scenarios.Open(file, scenarios.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range s.Faults {
				events := map[history.EventKind]history.Fault{}
				for _, e := range record.Faults {
					if e.Name == f.Name {
						events[e.Event] = e
					}
				}
				injected, recovered := events[history.Injected], events[history.Recovered]
				if events[history.Evidence].Proof != history.Confirmed || injected.At == 0 || recovered.At <= injected.At {
					t.Errorf("%s: %+v\n%s", f.Name, events, said)
				}
			}
			gone(t, binary, 5*time.Second)
		})
	}
	said, err := exec.Command(binary, "run", filepath.Join(dir, "packets.yaml"), "--no-sandbox", "--set", "system.network=packets", "--out", filepath.Join(dir, "refused")).CombinedOutput()
	if code(err) != exitError || !strings.Contains(string(said), "NetworkChaos on packets needs namespaces of the run's own") {
		t.Errorf("without namespaces: exit code %d\n%s", code(err), said)
	}
}
