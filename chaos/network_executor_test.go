package chaos

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"statequake/chaos/network"
	"statequake/chaos/process"
	"statequake/history"
)

// ways are those of joining nodes.
var ways = map[string]func(t *testing.T, n int) (*rig, *Networks, []Node){"packets": switched, "streams": linked}

// onBoth runs a test with nodes that are joined by packets, and by streams.
func onBoth(t *testing.T, n int, test func(t *testing.T, r *rig, x *Networks, nodes []Node)) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, x, nodes := way(t, n)
			test(t, r, x, nodes)
		})
	}
}

func numbered(n int) (list []string) {
	for i := range n {
		list = append(list, "n"+string(rune('1'+i)))
	}
	return list
}

// linked is n nodes with links between them, likewise.
func linked(t *testing.T, n int) (*rig, *Networks, []Node) {
	t.Helper()
	names := numbered(n)
	l, err := network.OpenLinks(names)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	var nodes []Node
	for _, name := range names {
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		t.Cleanup(server.Close)
		nodes = append(nodes, Node{
			Node:   process.Node{Name: name, Addr: server.Listener.Addr().String(), ReadyURL: server.URL + "/readyz"},
			Labels: map[string]string{NodeLabel: name},
		})
	}
	start := time.Now()
	r := &rig{t: t, now: func() time.Duration { return time.Since(start) }}
	return r, &Networks{Net: l, Nodes: names, Now: r.now}, nodes
}

// switched is n nodes on a switch, each with /readyz, and what was recorded
// about them.
func switched(t *testing.T, n int) (*rig, *Networks, []Node) {
	t.Helper()
	names := numbered(n)
	s, err := network.Open(names)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSPC) {
		if os.Getenv("STATEQUAKE_REQUIRE_NAMESPACES") == "1" {
			t.Fatal(err)
		}
		t.Skipf("no network namespaces: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	var nodes []Node
	for _, name := range names {
		l, err := s.Listen(name, s.Addr(name).String()+":0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: mux}
		go server.Serve(l)
		t.Cleanup(func() { server.Close() })
		addr := l.Addr().String()
		nodes = append(nodes, Node{
			Node:   process.Node{Name: name, Addr: addr, ReadyURL: "http://" + addr + "/readyz"},
			Labels: map[string]string{NodeLabel: name},
		})
	}
	start := time.Now()
	r := &rig{t: t, now: func() time.Duration { return time.Since(start) }}
	return r, &Networks{Net: s, Nodes: names, Now: r.now}, nodes
}

// nemesisOn runs faults on the nodes of a switch.
func (r *rig) nemesisOn(x *Networks, nodes []Node, faults ...*Fault) *Nemesis {
	return New(Config{
		Faults: faults, Nodes: nodes, Seed: 7, Executors: map[string]Executor{NetworkChaos: x}, Now: r.now,
		Record: func(f history.Fault) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, f)
		},
	})
}

// passes reports whether one of some packets passes.
func passes(t *testing.T, x *Networks, from, to string) bool {
	t.Helper()
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, ok, err := x.Net.(interface {
			Probe(context.Context, network.Path) (time.Duration, bool, error)
		}).Probe(ctx, network.Path{From: from, To: to})
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if ok {
			return true
		}
	}
	return false
}

// whileSeen runs faults and calls during when the first one was seen.
func (r *rig) whileSeen(n *Nemesis, during func()) {
	r.t.Helper()
	over := make(chan error, 1)
	go func() { over <- n.Run(r.t.Context()) }()
	await := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		seen := len(r.events) > 1 && r.events[1].Event == history.Injected
		r.mu.Unlock()
		if seen {
			break
		}
		select {
		case <-await:
			r.t.Fatalf("not seen injected within 30 s: %+v", r.events)
		case err := <-over:
			r.t.Fatalf("over, %v: %+v", err, r.events)
		case <-time.After(time.Millisecond):
		}
	}
	during()
	if err := <-over; err != nil {
		r.t.Error(err)
	}
}

// told are the events of the only fault, and the detail of one of them.
func (r *rig) told(event history.EventKind) (kinds []history.EventKind, proof history.Proof, detail string) {
	for _, e := range r.events {
		kinds = append(kinds, e.Event)
		if e.Event == event {
			proof, detail = e.Proof, e.Detail
		}
	}
	return kinds, proof, detail
}

var wholeLife = []history.EventKind{history.Requested, history.Injected, history.Evidence, history.Recovered}

func TestPartitionOfNodes(t *testing.T) { onBoth(t, 3, testPartitionOfNodes) }

func testPartitionOfNodes(t *testing.T, r *rig, x *Networks, nodes []Node) {
	f := triggered(t, "cut", At(0), networkChaos(`"action":"partition","mode":"one","selector":{"labelSelectors":{"statequake.dev/node":"n1"}},
		"direction":"both","target":{"mode":"all","selector":{}},"duration":"5s"`))
	r.whileSeen(r.nemesisOn(x, nodes, f), func() {
		for _, path := range []network.Path{{From: "n1", To: "n2"}, {From: "n3", To: "n1"}} {
			if passes(t, x, path.From, path.To) {
				t.Errorf("a packet passed %s", path)
			}
		}
		for _, path := range []network.Path{{From: "n2", To: "n3"}, {From: network.Client, To: "n1"}, {From: "n1", To: network.Client}} {
			if !passes(t, x, path.From, path.To) {
				t.Errorf("no packet passed %s", path)
			}
		}
	})
	kinds, proof, detail := r.told(history.Evidence)
	if !reflect.DeepEqual(kinds, wholeLife) || proof != history.Confirmed ||
		!strings.Contains(detail, "n1->n2: 20 of 20 probes were lost") || !strings.Contains(detail, "a TCP connection of n1 and n2 stayed established") {
		t.Errorf("%v, %s: %s", kinds, proof, detail)
	}
	if _, _, detail := r.told(history.Recovered); !strings.Contains(detail, "n1 was ready") {
		t.Errorf("recovered: %s", detail)
	}
	if !passes(t, x, "n1", "n2") {
		t.Error("no packet passed after the fault")
	}
}

// Without a target everybody is meant, the clients too; direction to is one way.
func TestNobodyHearsANode(t *testing.T) { onBoth(t, 2, testNobodyHearsANode) }

func testNobodyHearsANode(t *testing.T, r *rig, x *Networks, nodes []Node) {
	f := triggered(t, "mute", At(0), networkChaos(`"action":"partition","mode":"one","selector":{"labelSelectors":{"statequake.dev/node":"n1"}},"duration":"5s"`))
	r.whileSeen(r.nemesisOn(x, nodes, f), func() {
		if passes(t, x, "n1", network.Client) {
			t.Error("the client heard n1")
		}
		if !passes(t, x, "n2", "n1") {
			t.Error("n1 did not hear n2")
		}
	})
	if kinds, proof, detail := r.told(history.Evidence); !reflect.DeepEqual(kinds, wholeLife) || proof != history.Confirmed ||
		!strings.Contains(detail, "n1->client: ") || strings.Contains(detail, "->n1: ") {
		t.Errorf("%v, %s: %s", kinds, proof, detail)
	}
}

// A path between two targets is disturbed once and told of once.
func TestDelayBetweenAllNodes(t *testing.T) { onBoth(t, 2, testDelayBetweenAllNodes) }

func testDelayBetweenAllNodes(t *testing.T, r *rig, x *Networks, nodes []Node) {
	f := triggered(t, "late", At(0), networkChaos(`"action":"delay","mode":"all","selector":{},"direction":"both","target":{"mode":"all","selector":{}},
		"delay":{"latency":"60ms"},"duration":"5s"`))
	if err := r.nemesisOn(x, nodes, f).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	kinds, proof, detail := r.told(history.Evidence)
	if proof != history.Confirmed || !reflect.DeepEqual(kinds, wholeLife) || strings.Count(detail, "n1->n2: ") != 1 || strings.Count(detail, "n2->n1: ") != 1 {
		t.Errorf("%v, %s: %s", kinds, proof, detail)
	}
}

// A system that does not use its proxies is not disturbed, and the fault is not
// confirmed.
func TestSystemPastItsProxies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		carried int64
		spec    string
		want    history.Proof
	}{
		{0, `"direction":"both","target":{"mode":"all","selector":{}},`, history.Inconclusive},
		{1, `"direction":"both","target":{"mode":"all","selector":{}},`, history.Confirmed},
	} {
		r, x, nodes := linked(t, 2)
		x.Carried = func(network.Path) int64 { return tt.carried }
		f := triggered(t, "cut", At(0), networkChaos(`"action":"partition","mode":"one","selector":{},`+tt.spec+`"duration":"3s"`))
		if err := r.nemesisOn(x, nodes, f).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, proof, detail := r.told(history.Evidence); proof != tt.want {
			t.Errorf("%d bytes carried: %s: %s", tt.carried, proof, detail)
		}
	}
}

// Who sends into a partition that rejects is told.
func TestRejectingPartition(t *testing.T) {
	t.Parallel()
	r, x, nodes := linked(t, 2)
	f := triggered(t, "no", At(0), networkChaos(`"action":"partition","partitionBehavior":"reject","mode":"one","selector":{"labelSelectors":{"statequake.dev/node":"n1"}},
		"target":{"mode":"all","selector":{}},"duration":"2s"`))
	if err := r.nemesisOn(x, nodes, f).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kinds, proof, detail := r.told(history.Evidence); !reflect.DeepEqual(kinds, wholeLife) || proof != history.Confirmed ||
		detail != "n1->n2: a new connection was refused, an old one was reset" {
		t.Errorf("%v, %s: %s", kinds, proof, detail)
	}
}

// What was too short to be observed, or can hit nothing, is no evidence.
func TestNetworkFaultsWithoutEvidence(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]string{
		"not observed in time":               cut + `,"selector":{"labelSelectors":{"statequake.dev/node":"n1"}}`,
		"there is no path to any other host": cut + `,"selector":{"labelSelectors":{"statequake.dev/node":"n1"}},"target":{"mode":"all","selector":{"labelSelectors":{"statequake.dev/node":"n1"}}}`,
	} {
		for _, way := range ways {
			r, x, nodes := way(t, 2)
			if err := r.nemesisOn(x, nodes, triggered(t, "f", At(0), networkChaos(spec))).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			kinds, proof, detail := r.told(history.Evidence)
			if proof != history.Inconclusive || !strings.Contains(detail, name) || len(kinds) != 2 {
				t.Errorf("%v, %s: %s", kinds, proof, detail)
			}
			if !passes(t, x, "n1", "n2") {
				t.Error("it is still cut")
			}
		}
	}
}

func TestEffectOf(t *testing.T) {
	for _, tt := range []struct {
		spec string
		want network.Effect
	}{
		{`"action":"partition"`, network.Effect{Drop: true}},
		{`"action":"partition","partitionBehavior":"reject"`, network.Effect{Reject: true}},
		{`"action":"delay","delay":{"latency":"10ms","jitter":"5ms","correlation":"25","reorder":{"reorder":"50","correlation":"10","gap":3}}`,
			network.Effect{Latency: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, DelayCorrelation: 0.25, Reorder: 0.5, ReorderCorrelation: 0.1, Gap: 3}},
		{`"action":"netem","loss":{"loss":"1","correlation":"2"},"duplicate":{"duplicate":"3","correlation":"4"},"corrupt":{"corrupt":"5","correlation":"6"}`,
			network.Effect{Loss: 0.01, LossCorrelation: 0.02, Duplicate: 0.03, DuplicateCorrelation: 0.04, Corrupt: 0.05, CorruptCorrelation: 0.06}},
		{`"action":"bandwidth","bandwidth":{"rate":"1mbps","limit":3000,"buffer":2000}`, network.Effect{Rate: 1 << 20, Limit: 3000, Buffer: 2000}},
	} {
		f := triggered(t, "f", At(0), networkChaos(tt.spec+`,"mode":"one","selector":{},"duration":"1s"`))
		if got := effectOf(f.Spec.(Network)); got != tt.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.spec, got, tt.want)
		}
	}
}
