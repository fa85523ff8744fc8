package scenarios

import (
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"statequake/chaos"
)

// What the vocabulary calls local is what runs have means for.
func TestMeansAreLocal(t *testing.T) {
	have := []string{chaos.PodChaos, chaos.ProcessPause}
	for _, m := range means {
		have = append(have, m.kinds...)
	}
	slices.Sort(have)
	have = slices.Compact(have) // a network is of one kind or the other
	if want := slices.Sorted(maps.Keys(chaos.Local.Can)); !slices.Equal(have, want) {
		t.Errorf("means for %v, local are %v", have, want)
	}
}

// The first of the means is the outermost, and what has nothing to say about the
// start is left out.
func TestStartComposes(t *testing.T) {
	var order []string
	wrap := func(name string) *opened {
		return &opened{start: func(node string, next starter) starter {
			return func(cmd *exec.Cmd) error {
				order = append(order, name+" "+node)
				if next == nil {
					return nil
				}
				return next(cmd)
			}
		}}
	}
	if (equipment{{}}).start("n1") != nil {
		t.Error("a start without means is not the usual one")
	}
	if err := (equipment{wrap("outer"), {}, wrap("inner")}).start("n2")(nil); err != nil {
		t.Fatal(err)
	}
	if want := []string{"outer n2", "inner n2"}; !slices.Equal(order, want) {
		t.Errorf("started by %v, want %v", order, want)
	}
}

// networked is withFault with a partition.
func networked(t *testing.T) string {
	return edit(t, withFault, "PodChaos\n      spec: {action: pod-kill,", "NetworkChaos\n      spec: {action: partition, duration: 1s,")
}

func TestBadNetworkChaos(t *testing.T) {
	for _, tt := range []struct{ old, new, want string }{
		{"{name: reference}", "{name: reference, network: wires}",
			"f.yaml:3: system.network: unknown network \"wires\"; have streams, packets"},
		{"action: partition,", "action: partition, network: packets,",
			"f.yaml:13: faults[0].chaos.spec.network: unknown field"},
		{"{name: reference}", "{name: reference, store: postgres}",
			"f.yaml:12: faults[0].chaos.kind: NetworkChaos contradicts system.store: postgres, a server that is no part of the nodes' network\nhint: system.store: etcd is in the nodes"},
		{"partition,", "partition, target: {mode: all, selector: {labelSelectors: {statequake.dev/node: n7}}},",
			"f.yaml:13: faults[0].chaos.spec.target.selector.labelSelectors.statequake.dev/node: there is no node \"n7\"; the nodes are n1 to n3"},
		{"partition,", "partition, direction: both,",
			"f.yaml:13: faults[0].chaos.spec.direction: both needs a target, the other end\nhint: target: {mode: all, selector: {}}"},
	} {
		_, err := Parse("f.yaml", []byte(edit(t, networked(t), tt.old, tt.new)), Options{})
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s:\n got %v\nwant %s", tt.new, err, tt.want)
		}
	}
	const idle = "f.yaml:3: system.network: says nothing without a NetworkChaos"
	if _, err := Parse("f.yaml", []byte(edit(t, withFault, "{name: reference}", "{name: reference, network: packets}")), Options{}); err == nil || err.Error() != idle {
		t.Errorf("got %v, want %s", err, idle)
	}
}

// Streams unless a fault is about packets, or the scenario wants these.
func TestNetworkOf(t *testing.T) {
	for _, tt := range []struct{ spec, given, want string }{
		{"action: partition", "", "streams"},
		{"action: partition, partitionBehavior: reject", "", "streams"},
		{"action: delay, delay: {latency: 10ms, jitter: 2ms}", "", "streams"},
		{"action: bandwidth, bandwidth: {rate: 1mbps, limit: 100, buffer: 10000}", "", "streams"},
		{"action: loss, loss: {loss: \"1\"}", "", "packets"},
		{"action: duplicate, duplicate: {duplicate: \"1\"}", "", "packets"},
		{"action: corrupt, corrupt: {corrupt: \"1\"}", "", "packets"},
		{"action: netem, delay: {latency: 10ms}", "", "streams"},
		{"action: netem, delay: {latency: 10ms}, loss: {loss: \"1\"}", "", "packets"},
		{"action: delay, delay: {latency: 10ms, reorder: {reorder: \"1\", gap: 1, correlation: \"0\"}}", "", "packets"},
		{"action: partition", "packets", "packets"},
		{"action: loss, loss: {loss: \"1\"}", "streams", "faults[0].chaos.spec.loss: is what happens to packets, and streams have none\nhint: system.network: packets has packets"},
		{"action: partition, partitionBehavior: reject", "packets", "faults[0].chaos.spec.partitionBehavior: reject answers connections, and a switch forwards packets only\nhint: system.network: streams does that"},
	} {
		text := edit(t, networked(t), "action: partition", tt.spec)
		if tt.given != "" {
			text = edit(t, text, "{name: reference}", "{name: reference, network: "+tt.given+"}")
		}
		s, err := Parse("f.yaml", []byte(text), Options{})
		if err != nil {
			if err.Error() != "f.yaml:13: "+tt.want {
				t.Errorf("%s:\n got %v\nwant %s", tt.spec, err, tt.want)
			}
			continue
		}
		if s.System.Network != tt.want {
			t.Errorf("%s: %q, want %q", tt.spec, s.System.Network, tt.want)
		}
		resolved, err := s.Resolved(Facts{})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Parse("scenario.yaml", resolved, Options{}); err != nil || again.System.Network != tt.want {
			t.Errorf("%s, resolved: %v", tt.spec, err)
		}
	}
}

// A system of one's own can have addresses if it uses them.
func TestNetworkOfOwnSystem(t *testing.T) {
	text := strings.Replace(ownScenario, "kind: PodChaos, spec: {action: pod-kill,", "kind: NetworkChaos, spec: {action: partition, duration: 1s,", 1)
	const missing = "f.yaml:21: faults[0].chaos.kind: NetworkChaos on packets needs ${host} in system.exec.start\nhint: nodes have addresses of their own then, which ${host} stands for"
	if _, err := Parse("f.yaml", []byte(text), Options{}); err != nil {
		t.Errorf("one node, on streams: %v", err)
	}
	const peers = "f.yaml:21: faults[0].chaos.kind: NetworkChaos needs ${n1.host} in system.exec.start\nhint: ${n1.host} is where the others reach n1, by their proxies; ${self.host} is the node's own such address"
	if _, err := Parse("f.yaml", []byte(text), Options{Set: []string{"system.nodes=2"}}); err == nil || err.Error() != peers {
		t.Errorf("got %v, want %s", err, peers)
	}
	if _, err := Parse("f.yaml", []byte(strings.Replace(text, "    dir: server", "    dir: server\n    env: {PEERS: \"${n1.host},${n2.host}\"}", 1)), Options{Set: []string{"system.nodes=2"}}); err != nil {
		t.Errorf("two nodes, on streams: %v", err)
	}
	packets := Options{Set: []string{"system.network=packets"}}
	if _, err := Parse("f.yaml", []byte(text), packets); err == nil || err.Error() != missing {
		t.Errorf("got %v, want %s", err, missing)
	}
	for _, s := range []struct{ old, new string }{
		{`"${port}"`, `"${host}:${port}"`},
		{"    dir: server", "    dir: server\n    env: {HOST: \"${host}\"}"},
	} {
		hosted := strings.Replace(text, s.old, s.new, 1)
		if _, err := Parse("f.yaml", []byte(hosted), packets); err != nil {
			t.Errorf("%s: %v", s.new, err)
		}
		_, err := Parse("f.yaml", []byte(strings.Replace(hosted, "    dir: server", "    ready_url: http://127.0.0.1:${port}/\n    dir: server", 1)), packets)
		if err == nil || !strings.Contains(err.Error(), "NetworkChaos on packets needs ${host} in system.exec.ready_url") {
			t.Errorf("%s and a ready_url elsewhere: %v", s.new, err)
		}
	}
}

func TestNetworkNeedsNamespaces(t *testing.T) {
	s, err := Parse("f.yaml", []byte(networked(t)), Options{Set: []string{"system.network=packets"}})
	if err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), s, RunOptions{Dir: filepath.Join(t.TempDir(), "run"), Binary: "/bin/false", Tag: "0000"})
	if err == nil || !strings.HasPrefix(err.Error(), "NetworkChaos on packets needs namespaces of the run's own") {
		t.Errorf("got %v", err)
	}
}

// Every system has halves, and each has a node.
func TestHalves(t *testing.T) {
	minority := edit(t, withFault, "statequake.dev/owner-of: hottest", "statequake.dev/role: minority")
	for _, set := range [][]string{nil, {"system.store=postgres"}} {
		if _, err := Parse("f.yaml", []byte(minority), Options{Set: set}); err != nil {
			t.Errorf("%v: %v", set, err)
		}
	}
	own := strings.Replace(ownScenario, "statequake.dev/node: n1", "statequake.dev/role: minority", 1)
	if _, err := Parse("f.yaml", []byte(own), Options{Set: []string{"system.nodes=3"}}); err != nil {
		t.Error(err)
	}
	const want = "f.yaml:13: faults[0].chaos.spec.selector.labelSelectors.statequake.dev/role: no node is in the minority of 2"
	text := edit(t, minority, "{name: reference}", "{name: reference, nodes: 2}")
	if _, err := Parse("f.yaml", []byte(text), Options{}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Power is lost in the midst of a write, unless the scenario says when.
func TestPowerLossTrigger(t *testing.T) {
	text := edit(t, withFault, "    at: 2s\n    chaos:\n      kind: PodChaos\n      spec: {action: pod-kill,", "    chaos:\n      kind: PowerLoss\n      spec: {")
	s, err := Parse("f.yaml", []byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (chaos.OnFile{Op: "write", Path: "*", Nth: 500}); s.Faults[0].Trigger != want || s.Faults[0].Plan.Trigger != want {
		t.Errorf("trigger %+v, want %+v", s.Faults[0].Trigger, want)
	}
	resolved, err := s.Resolved(Facts{})
	if err != nil || !strings.Contains(string(resolved), `"on": {nth: 500, write: '*'}`) {
		t.Errorf("%v\n%s", err, resolved)
	}
}

// A resolved trigger means the same.
func TestResolvedTriggers(t *testing.T) {
	for text, want := range map[string]chaos.Trigger{
		"at: 0s":              chaos.At(0),
		"at: 0":               chaos.At(0),
		"at: 1500ms":          chaos.At(1500 * time.Millisecond),
		"within: [1s, 2s]":    chaos.Within{From: time.Second, To: 2 * time.Second},
		"after: {acks: 2000}": chaos.AfterAcks(2000),
		"while: other":        chaos.While("other"),
	} {
		s, err := Parse("f.yaml", []byte(edit(t, withFault, "at: 2s", text)+strings.ReplaceAll(withFault[strings.Index(withFault, "  - name"):], "kill-owner", "other")), Options{})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if s.Faults[0].Trigger != want || s.Faults[0].Plan.Trigger != want {
			t.Errorf("%s is %#v, want %#v", text, s.Faults[0].Trigger, want)
		}
		resolved, err := s.Resolved(Facts{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("scenario.yaml", resolved, Options{})
		if err != nil {
			t.Errorf("%v\n%s", err, resolved)
		} else if !reflect.DeepEqual(s, again) {
			t.Errorf("resolved and parsed again:\n got %+v\nwant %+v\n%s", again, s, resolved)
		}
	}
}
