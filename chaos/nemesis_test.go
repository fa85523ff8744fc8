package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"statequake/chaos/internal/testnode"
	"statequake/chaos/process"
	"statequake/chaos/stress"
	"statequake/history"
)

func TestMain(m *testing.M) {
	stress.Main()
	testnode.Main(m)
}

// rig is a system of two nodes and what was recorded about it.
type rig struct {
	t     *testing.T
	nodes []*testnode.Node
	now   func() time.Duration

	mu     sync.Mutex
	events []history.Fault
}

func newRig(t *testing.T) *rig {
	start := time.Now()
	return &rig{
		t:     t,
		nodes: []*testnode.Node{testnode.Start(t, "n1", testnode.Plain), testnode.Start(t, "n2", testnode.Plain)},
		now:   func() time.Duration { return time.Since(start) },
	}
}

func (r *rig) nemesis(faults ...*Fault) *Nemesis {
	var nodes []Node
	for _, n := range r.nodes {
		nodes = append(nodes, Node{
			Node:   process.Node{Name: n.Name, Addr: n.Addr, ReadyURL: "http://" + n.Addr + "/readyz", PID: n.PID, Kill: n.Kill, Hold: n.Hold},
			Labels: map[string]string{NodeLabel: n.Name},
		})
	}
	return New(Config{
		Faults: faults,
		Nodes:  nodes,
		Resolve: func(_ context.Context, label, value string) ([]string, error) {
			switch value {
			case "store-leader":
				return []string{"n2"}, nil
			case "hottest":
				return []string{"n2"}, nil
			case "absent":
				return nil, nil
			}
			return nil, errors.New("nobody at present")
		},
		Now:   r.now,
		Start: r.now(),
		Record: func(f history.Fault) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, f)
		},
		RecoverWithin: 10 * time.Second,
	})
}

func (r *rig) run(faults ...*Fault) {
	r.t.Helper()
	if err := r.nemesis(faults...).Run(r.t.Context()); err != nil {
		r.t.Error(err)
	}
}

// story is what was recorded about a fault, without figures.
func (r *rig) story(name string) string {
	var steps []string
	for _, e := range r.of(name) {
		step := string(e.Event)
		if e.Event == history.Evidence {
			step += "=" + string(e.Proof)
		}
		steps = append(steps, step+" "+strings.Join(e.Targets, ","))
	}
	return strings.Join(steps, "; ")
}

func (r *rig) of(name string) []history.Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	var events []history.Fault
	for _, e := range r.events {
		if e.Name == name {
			events = append(events, e)
		}
	}
	return events
}

func (r *rig) wantStory(name, want string) {
	r.t.Helper()
	if got := r.story(name); got != want {
		r.t.Errorf("%s:\n got %s\nwant %s\n%+v", name, got, want, r.of(name))
	}
}

func fault(t *testing.T, name string, at time.Duration, object string) *Fault {
	t.Helper()
	f, err := Parse(name, at, []byte(object))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const (
	onHottest = `"mode":"one","selector":{"labelSelectors":{"statequake.dev/owner-of":"hottest"}}`
	onN1      = `"mode":"one","selector":{"labelSelectors":{"statequake.dev/node":"n1"}}`
	onAll     = `"mode":"all","selector":{}`
)

func TestRunKill(t *testing.T) {
	r := newRig(t)
	pid := r.nodes[1].PID()
	begin := r.now()
	r.run(fault(t, "kill-owner", 100*time.Millisecond, podChaos(`"action":"pod-kill",`+onHottest)))
	r.wantStory("kill-owner", "requested n2; injected n2; evidence=confirmed n2; recovered n2")
	events := r.of("kill-owner")
	for i, e := range events {
		if e.Kind != "PodChaos" || e.Action != "pod-kill" || i > 0 && e.At < events[i-1].At && e.Event != history.Evidence {
			t.Errorf("event %+v", e)
		}
	}
	if due := begin + 100*time.Millisecond; events[0].At < due || events[0].At > due+time.Second {
		t.Errorf("requested at %v, due at %v", events[0].At, due)
	}
	if role := events[0].Roles["n2"]; role != "store-leader" || events[1].Roles["n2"] != role {
		t.Errorf("roles %v, %v, want store-leader twice", events[0].Roles, events[1].Roles)
	}
	if want := fmt.Sprintf("n2: pid %d ran no more ", pid); !strings.HasPrefix(events[2].Detail, want) {
		t.Errorf("detail %q, want %q...", events[2].Detail, want)
	}
}

func TestRunAll(t *testing.T) {
	r := newRig(t)
	r.run(
		fault(t, "pause", 0, pause(onAll+`,"duration":"200ms"`)),
		fault(t, "fail", 400*time.Millisecond, podChaos(`"action":"pod-failure","duration":"200ms",`+onAll)),
	)
	r.wantStory("pause", "requested n1,n2; injected n1,n2; evidence=confirmed n1,n2; recovered n1,n2")
	r.wantStory("fail", "requested n1,n2; injected n1,n2; evidence=confirmed n1,n2; recovered n1,n2")
	detail := r.of("fail")[2].Detail
	if !strings.Contains(detail, "n1: pid ") || !strings.Contains(detail, "; n2: pid ") {
		t.Errorf("detail %q, want a word on each node", detail)
	}
}

func TestNoTarget(t *testing.T) {
	r := newRig(t)
	r.run(
		fault(t, "none", 0, podChaos(`"action":"pod-kill","mode":"one","selector":{"labelSelectors":{"zone":"a"}}`)),
		fault(t, "absent", 0, podChaos(`"action":"pod-kill","mode":"one","selector":{"labelSelectors":{"statequake.dev/role":"absent"}}`)),
		fault(t, "error", 0, podChaos(`"action":"pod-kill","mode":"one","selector":{"labelSelectors":{"statequake.dev/role":"king"}}`)),
		fault(t, "percent", 0, podChaos(`"action":"pod-kill","mode":"fixed-percent","value":"49","selector":{}`)),
	)
	for name, want := range map[string]string{"none": "selector matched no node", "absent": "selector matched no node",
		"error": "nobody at present", "percent": "selector matched no node"} {
		r.wantStory(name, "requested ; evidence=inconclusive ")
		if got := r.of(name)[1].Detail; got != want {
			t.Errorf("%s: detail %q, want %q", name, got, want)
		}
	}
	if r.nodes[0].Starts() != 1 || r.nodes[1].Starts() != 1 {
		t.Error("a node was killed")
	}
}

func TestTargetThatIsDown(t *testing.T) {
	r := newRig(t)
	r.nodes[0].Hold(true)
	r.nodes[0].Kill(9)
	testnode.Await(t, "end of n1", func() bool { return r.nodes[0].PID() == 0 })
	r.run(fault(t, "kill", 0, podChaos(`"action":"pod-kill",`+onAll)))
	r.wantStory("kill", "requested n1,n2; injected n1,n2; evidence=mismatch n1,n2; recovered n1,n2")
	r.run(fault(t, "again", 0, podChaos(`"action":"pod-kill",`+onN1)))
	r.wantStory("again", "requested n1; evidence=mismatch n1")
}

func TestNodeThatDoesNotComeBack(t *testing.T) {
	r := newRig(t)
	r.nodes[0].Hold(true)
	n := r.nemesis(fault(t, "kill", 0, podChaos(`"action":"pod-kill",`+onN1)))
	n.config.RecoverWithin = 200 * time.Millisecond
	if err := n.Run(t.Context()); err != nil {
		t.Error(err)
	}
	r.wantStory("kill", "requested n1; injected n1; evidence=confirmed n1")
}

func TestActiveAndCancel(t *testing.T) {
	r := newRig(t)
	n := r.nemesis(
		fault(t, "pause", 0, pause(onN1+`,"duration":"1h"`)),
		fault(t, "fail", 100*time.Millisecond, podChaos(`"action":"pod-failure","duration":"1h",`+onHottest)),
		fault(t, "never", time.Hour, podChaos(`"action":"pod-kill",`+onAll)),
	)
	if active := n.Active(); len(active) != 0 {
		t.Errorf("active before the run: %v", active)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	testnode.Await(t, "both injected", func() bool {
		return len(r.of("pause")) == 2 && len(r.of("fail")) == 2
	})
	if active := n.Active(); !slices.Equal(active, []string{"pause n1", "fail n2"}) {
		t.Errorf("active: %v", active)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run did not end within 10s of the end of its context")
	}
	if active := n.Active(); len(active) != 0 {
		t.Errorf("active after the run: %v", active)
	}
	r.wantStory("pause", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	r.wantStory("fail", "requested n2; injected n2; evidence=confirmed n2; recovered n2")
	r.wantStory("never", "")
	for _, node := range r.nodes {
		node.AwaitReady()
	}
}
