package chaos

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"statequake/chaos/clock"
	"statequake/chaos/internal/testnode"
	"statequake/history"
)

// clockRig is a rig of nodes whose clocks can be moved, and its observer.
func clockRig(t *testing.T) (*rig, *Clocks) {
	t.Helper()
	begin := time.Now()
	now := func() time.Duration { return time.Since(begin) }
	c := &Clocks{Now: now}
	t.Cleanup(func() { c.Close() })
	probe := exec.Command("/proc/self/exe", "-test.run=^$")
	if err := c.Start("probe")(probe); errors.Is(err, clock.ErrUnavailable) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	probe.Process.Kill()
	probe.Wait()
	r := &rig{t: t, now: now}
	for _, name := range []string{"n1", "n2"} {
		r.nodes = append(r.nodes, testnode.StartBy(t, name, testnode.Plain, c.Start(name)))
	}
	return r, c
}

// runFor runs faults with an executor of their kind.
func (r *rig) runFor(ctx context.Context, executors map[string]Executor, faults ...*Fault) {
	r.t.Helper()
	n := r.nemesis(faults...)
	for kind, e := range executors {
		n.config.Executors[kind] = e
	}
	if err := n.Run(ctx); err != nil {
		r.t.Error(err)
	}
}

func timeChaos(t *testing.T, name string, trigger Trigger, spec string) *Fault {
	t.Helper()
	return triggered(t, name, trigger, `{"kind":"TimeChaos","spec":{`+spec+`}}`)
}

func (r *rig) wantDetail(name string, event history.EventKind, words ...string) {
	r.t.Helper()
	for _, e := range r.of(name) {
		if e.Event != event {
			continue
		}
		for _, w := range words {
			if !strings.Contains(e.Detail, w) {
				r.t.Errorf("%s: detail %q lacks %q", name, e.Detail, w)
			}
		}
		return
	}
	r.t.Errorf("%s: no %s", name, event)
}

const lasts = `,"duration":"2s"`

func TestTimeChaos(t *testing.T) {
	t.Parallel()
	r, c := clockRig(t)
	r.runFor(t.Context(), map[string]Executor{TimeChaos: c},
		timeChaos(t, "ahead", At(0), `"timeOffset":"10m",`+onAll+lasts),
		timeChaos(t, "behind", At(3*time.Second), `"timeOffset":"-10m",`+onN1+lasts))
	r.wantStory("ahead", "requested n1,n2; injected n1,n2; evidence=confirmed n1,n2; recovered n1,n2")
	r.wantStory("behind", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	r.wantDetail("ahead", history.Evidence, "n1: wall clock off by +9m", "n2: wall clock off by +9m", "set to +10m0s")
	r.wantDetail("behind", history.Evidence, "n1: wall clock off by -10m", "set to -10m0s")
	r.wantDetail("behind", history.Recovered, "n1 was ready", "set to 0s")
	if e := r.of("behind"); len(e) == 4 && e[3].At-e[1].At < time.Second {
		t.Errorf("recovered %v after the injection, want about 2s", e[3].At-e[1].At)
	}
}

// Two offsets at once add up, and each of them is seen undone when both are.
func TestTimeChaosTwice(t *testing.T) {
	t.Parallel()
	r, c := clockRig(t)
	r.runFor(t.Context(), map[string]Executor{TimeChaos: c},
		timeChaos(t, "first", At(0), `"timeOffset":"1h",`+onN1+`,"duration":"6s"`),
		timeChaos(t, "second", While("first"), `"timeOffset":"-10m",`+onN1+lasts))
	r.wantStory("first", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	r.wantStory("second", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	r.wantDetail("first", history.Evidence, "set to +1h0m0s")
	r.wantDetail("second", history.Evidence, "set to +50m0s")
	first, second := r.of("first"), r.of("second")
	if undone := first[0].At + 6*time.Second; len(second) == 4 && second[3].At < undone {
		t.Errorf("second recovered at %v, but first lasted until %v at least", second[3].At, undone)
	}
}

// Clocks of two kinds cannot be moved by two offsets.
func TestTimeChaosOfOtherClocks(t *testing.T) {
	t.Parallel()
	r, c := clockRig(t)
	r.runFor(t.Context(), map[string]Executor{TimeChaos: c},
		timeChaos(t, "wall", At(0), `"timeOffset":"1h",`+onN1+`,"duration":"6s"`),
		timeChaos(t, "both", While("wall"), `"timeOffset":"1h","clockIds":["CLOCK_REALTIME","CLOCK_MONOTONIC"],`+onN1+lasts),
		timeChaos(t, "unseen", At(0), `"timeOffset":"1h","clockIds":["CLOCK_MONOTONIC"],"mode":"one","selector":{"labelSelectors":{"statequake.dev/node":"n2"}},"duration":"50ms"`))
	r.wantStory("wall", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	r.wantStory("both", "requested n1; evidence=mismatch n1")
	r.wantDetail("both", history.Evidence, "another fault moves CLOCK_REALTIME already")
	r.wantStory("unseen", "requested n2; evidence=inconclusive n2")
	r.wantDetail("unseen", history.Evidence, "CLOCK_MONOTONIC moved by 1h0m0s, which nobody else can see")
}

// A node that is started again during the fault has the offset, too.
func TestTimeChaosOfANodeThatIsStartedAgain(t *testing.T) {
	t.Parallel()
	r, c := clockRig(t)
	r.runFor(t.Context(), map[string]Executor{TimeChaos: c},
		timeChaos(t, "skew", At(0), `"timeOffset":"-10m",`+onN1+`,"duration":"6s"`),
		triggered(t, "kill", While("skew"), podChaos(`"action":"pod-kill",`+onN1)))
	r.wantStory("skew", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	r.wantStory("kill", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	r.wantDetail("skew", history.Evidence, "started meanwhile: wall clock off by -10m", "set to -10m0s")
	if starts := r.nodes[0].Starts(); starts != 2 {
		t.Errorf("n1 was started %d times, want 2", starts)
	}
}

// A node that is down the whole time shows nothing.
func TestTimeChaosOfANodeThatIsDown(t *testing.T) {
	t.Parallel()
	r, c := clockRig(t)
	r.nodes[0].Hold(true)
	r.nodes[0].Kill(9)
	testnode.Await(t, "end of n1", func() bool { return r.nodes[0].PID() == 0 })
	r.runFor(t.Context(), map[string]Executor{TimeChaos: c},
		timeChaos(t, "skew", At(0), `"timeOffset":"-10m",`+onN1+`,"duration":"500ms"`))
	r.wantStory("skew", "requested n1; evidence=inconclusive n1")
	r.wantDetail("skew", history.Evidence, "n1: the wall clock could not be read back", "no answer")
}

func TestTimeChaosOfANodeOfOthers(t *testing.T) {
	r := newRig(t)
	r.runFor(t.Context(), map[string]Executor{TimeChaos: &Clocks{Now: r.now}},
		timeChaos(t, "skew", At(0), `"timeOffset":"-10m",`+onN1+lasts))
	r.wantStory("skew", "requested n1; evidence=mismatch n1")
	r.wantDetail("skew", history.Evidence, "n1: it was not started so that its clocks can be moved")
}

// A shell that turns into the node hides it.
func TestTimeChaosOfAShell(t *testing.T) {
	t.Parallel()
	r, c := clockRig(t)
	start := c.Start("n1")
	r.nodes[0] = testnode.StartBy(t, "n1", testnode.Plain, func(cmd *exec.Cmd) error {
		cmd.Args = append([]string{"sh", "-c", `exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		return start(cmd)
	})
	r.runFor(t.Context(), map[string]Executor{TimeChaos: c},
		timeChaos(t, "skew", At(0), `"timeOffset":"1h",`+onN1+lasts))
	r.wantStory("skew", "requested n1; evidence=mismatch n1")
	r.wantDetail("skew", history.Evidence, "want +1h0m0s", clock.ErrGone.Error())
}

// The end of the run takes the offset back.
func TestTimeChaosAtTheEnd(t *testing.T) {
	t.Parallel()
	r, c := clockRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		testnode.Await(t, "offset seen", func() bool { return len(r.of("skew")) == 2 })
		cancel()
	}()
	r.runFor(ctx, map[string]Executor{TimeChaos: c}, timeChaos(t, "skew", At(0), `"timeOffset":"1h",`+onN1+`,"duration":"1h"`))
	r.wantStory("skew", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
}
