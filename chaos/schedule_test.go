package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"statequake/chaos/internal/testnode"
	"statequake/history"
)

func triggered(t *testing.T, name string, trigger Trigger, object string) *Fault {
	t.Helper()
	f, err := ParseFor(Everything(), name, trigger, []byte(object))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// toy is an executor that touches nothing: a fault lasts until its duration or
// ctx ends.
type toy struct {
	now func() time.Duration

	mu   sync.Mutex
	seen []Injection
}

func (x *toy) Inject(ctx context.Context, in Injection) ([]Evidence, error) {
	x.mu.Lock()
	x.seen = append(x.seen, in)
	x.mu.Unlock()
	at := x.now()
	in.Seen(at)
	select {
	case <-ctx.Done():
	case <-time.After(in.Fault.Duration):
	}
	found := make([]Evidence, len(in.Targets))
	for i, t := range in.Targets {
		found[i] = Evidence{Seen: true, At: at, Proof: history.Confirmed, Detail: t.Name,
			Recovered: func(context.Context) (time.Duration, string, bool) { return x.now(), "back", true }}
	}
	return found, nil
}

// desk is a Nemesis over nodes that are names only, with a toy for all faults
// of the network.
func desk(nodes int, faults ...*Fault) (*Nemesis, *toy, *rig) {
	begin := time.Now()
	r := &rig{now: func() time.Duration { return time.Since(begin) }}
	x := &toy{now: r.now}
	return New(Config{
		Faults: faults, Nodes: numberedNodes(nodes), Seed: 7, Executors: map[string]Executor{NetworkChaos: x},
		Now: r.now, Start: r.now(),
		Record: func(f history.Fault) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, f)
		},
	}), x, r
}

const cut = `"action":"partition","duration":"1ms","mode":"all"`

func networkChaos(spec string) string { return `{"kind":"NetworkChaos","spec":{` + spec + `}}` }

func names(nodes []Node) []string { return (&injection{targets: nodes}).names() }

func TestMinorityAndMajority(t *testing.T) {
	for nodes, want := range map[int]int{1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 7: 3} {
		hit := map[string]bool{}
		for i := range 30 {
			n, x, r := desk(nodes, triggered(t, fmt.Sprint("f", i), At(0), networkChaos(cut+
				`,"selector":{"labelSelectors":{"statequake.dev/role":"minority"}},"target":{"mode":"all","selector":{"labelSelectors":{"statequake.dev/role":"majority"}}}`)))
			if err := n.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if want == 0 {
				if len(x.seen) != 0 || r.events[1].Detail != "selector matched no node" {
					t.Errorf("of %d nodes: %v", nodes, r.events)
				}
				continue
			}
			minority, majority := names(x.seen[0].Targets), names(x.seen[0].Peers)
			both := slices.Sorted(slices.Values(append(slices.Clone(minority), majority...)))
			if len(minority) != want || len(slices.Compact(both)) != nodes {
				t.Errorf("of %d nodes: minority %v, majority %v", nodes, minority, majority)
			}
			for _, name := range minority {
				hit[name] = true
			}
		}
		if want > 0 && len(hit) != nodes {
			t.Errorf("of %d nodes only %v are ever in the minority", nodes, hit)
		}
	}
}

func TestExecutors(t *testing.T) {
	everywhere := triggered(t, "everywhere", At(0), networkChaos(cut+`,"selector":{}`))
	nowhere := triggered(t, "nowhere", At(0), networkChaos(cut+`,"selector":{},"target":{"mode":"all","selector":{"labelSelectors":{"zone":"c"}}}`))
	nobody := triggered(t, "nobody", At(0), object(DiskFull, `"duration":"1s"`))
	n, x, r := desk(3, everywhere, nowhere, nobody)
	r.t = t
	if err := n.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.wantStory("everywhere", "requested n3,n2,n1; injected n3,n2,n1; evidence=confirmed n3,n2,n1; recovered n3,n2,n1")
	if len(x.seen) != 1 || x.seen[0].Peers != nil || x.seen[0].Fault != everywhere {
		t.Errorf("%+v", x.seen)
	}
	for name, want := range map[string]string{"nowhere": "target matched no node", "nobody": "nobody executes DiskFull"} {
		if e := r.of(name); len(e) != 2 || e[1].Proof != history.Inconclusive || e[1].Detail != want {
			t.Errorf("%s: %+v, want %s", name, e, want)
		}
	}
}

func TestAfterAcks(t *testing.T) {
	n, _, r := desk(3,
		triggered(t, "soon", AfterAcks(100), networkChaos(cut+`,"selector":{}`)),
		triggered(t, "never", AfterAcks(1000), networkChaos(cut+`,"selector":{}`)))
	var acks atomic.Int64
	acks.Store(5000) // those of the warmup do not count
	asked := make(chan struct{}, 1000)
	n.config.Acks = func() int64 {
		select {
		case asked <- struct{}{}:
		default:
		}
		return acks.Load()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	for range 20 { // both have asked more than once
		<-asked
	}
	acks.Add(99)
	for range cap(asked) {
		<-asked
	}
	if e := r.of("soon"); len(e) != 0 {
		t.Errorf("after 99 acknowledgements: %v", e)
	}
	acks.Add(1)
	testnode.Await(t, "the fault", func() bool { return len(r.of("soon")) == 4 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if e := r.of("never"); len(e) != 2 || e[1].Detail != "the run ended after 100 of 1000 acknowledgements" {
		t.Errorf("%+v", e)
	}
}

func TestWhile(t *testing.T) {
	long := strings.Replace(cut, "1ms", "1h", 1) + `,"selector":{}`
	first := triggered(t, "first", At(20*time.Millisecond), networkChaos(strings.Replace(long, "1h", "300ms", 1)))
	n, _, r := desk(3,
		triggered(t, "third", While("second"), networkChaos(long)),
		triggered(t, "second", While("first"), networkChaos(long)), first,
		triggered(t, "unseen", At(0), object(DiskFull, `"duration":"1s"`)),
		triggered(t, "vain", While("unseen"), networkChaos(long)))
	r.t = t
	if err := n.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"first", "second", "third"} {
		r.wantStory(name, "requested n3,n2,n1; injected n3,n2,n1; evidence=confirmed n3,n2,n1; recovered n3,n2,n1")
	}
	if a, b, c := r.of("first")[1].At, r.of("second")[1].At, r.of("third")[1].At; a > b || b > c {
		t.Errorf("injected at %v, %v, %v", a, b, c)
	}
	if e := r.of("vain"); len(e) != 2 || e[1].Detail != "fault unseen was not seen injected" {
		t.Errorf("%+v", e)
	}
}

func TestRunRefusesACircle(t *testing.T) {
	n, _, r := desk(3, triggered(t, "a", While("a"), networkChaos(cut+`,"selector":{}`)), triggered(t, "b", At(0), networkChaos(cut+`,"selector":{}`)))
	if err := n.Run(t.Context()); err == nil || len(r.events) != 0 {
		t.Errorf("error %v, events %v", err, r.events)
	}
}

func TestMissed(t *testing.T) {
	here := networkChaos(cut + `,"selector":{}`)
	faults := func() []*Fault {
		return []*Fault{triggered(t, "acks", AfterAcks(1), here), triggered(t, "file", OnFile{"fsync", "*", 2}, here), triggered(t, "at", At(time.Hour), here)}
	}
	n, _, r := desk(3, faults()...)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		testnode.Await(t, "both missed", func() bool { return len(r.of("acks"))+len(r.of("file")) == 4 })
		cancel()
	}()
	n.Run(ctx)
	if a, b := r.of("acks")[1].Detail, r.of("file")[1].Detail; a != "nobody counts acknowledgements" || b != "nobody watches the files of the nodes" {
		t.Errorf("%s; %s", a, b)
	}

	n, _, r = desk(3, faults()...)
	n.config.OnFile = func(context.Context, OnFile, []Node) (func(), error) { return nil, errors.New("no disk") }
	n.config.Start += time.Hour
	n.Run(ctx)
	if a, b := r.of("acks")[1].Detail, r.of("file")[1].Detail; a != "the run ended before the schedule began" || b != a {
		t.Errorf("%s; %s", a, b)
	}
	if len(r.of("at")) != 0 {
		t.Errorf("%+v", r.of("at"))
	}
}

// The operation is held until the signal is sent, but no longer: the process
// cannot end before, as one that waits in its file system cannot.
func TestOnFile(t *testing.T) {
	r := newRig(t)
	n := r.nemesis(triggered(t, "kill", OnFile{"fsync", "*.wal", 3}, podChaos(`"action":"pod-kill",`+onN1)))
	released := make(chan struct{})
	var sent atomic.Bool
	n.config.Nodes[0].Kill = func(sig syscall.Signal) error {
		sent.Store(true)
		go func() {
			<-released
			r.nodes[0].Kill(sig)
		}()
		return nil
	}
	n.config.OnFile = func(_ context.Context, on OnFile, nodes []Node) (func(), error) {
		if got := names(nodes); on != (OnFile{"fsync", "*.wal", 3}) || !slices.Equal(got, []string{"n1"}) {
			t.Errorf("%+v of %v", on, got)
		}
		return func() {
			if !sent.Load() {
				t.Error("let go before the signal was sent")
			}
			close(released) // a second time panics
		}, nil
	}
	if err := n.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.wantStory("kill", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
}

// Faults that overlap on a node compose: it is back after the last of them.
func TestOverlap(t *testing.T) {
	r := newRig(t)
	r.run(
		fault(t, "pause-long", 0, pause(onN1+`,"duration":"900ms"`)),
		fault(t, "pause-short", 200*time.Millisecond, pause(onN1+`,"duration":"200ms"`)),
		fault(t, "down-long", 0, podChaos(`"action":"pod-failure",`+onHottest+`,"duration":"900ms"`)),
		triggered(t, "down-short", While("down-long"), podChaos(`"action":"pod-failure",`+onHottest+`,"duration":"200ms"`)),
	)
	for _, name := range []string{"pause-long", "pause-short", "down-long"} {
		target := r.of(name)[0].Targets[0]
		r.wantStory(name, fmt.Sprintf("requested %[1]s; injected %[1]s; evidence=confirmed %[1]s; recovered %[1]s", target))
	}
	// There was no process left to end.
	r.wantStory("down-short", "requested n2; evidence=mismatch n2")
	long, short := r.of("pause-long"), r.of("pause-short")
	if back := short[3].At; back < long[1].At+900*time.Millisecond {
		t.Errorf("the short pause counts as recovered at %v, while the long one from %v on stopped the node for 900ms", back, long[1].At)
	}
	if starts := r.nodes[1].Starts(); starts != 2 {
		t.Errorf("%d starts of n2, want 2: it stayed down until the last fault ended", starts)
	}
}
