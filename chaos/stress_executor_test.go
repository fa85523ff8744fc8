package chaos

import (
	"context"
	"testing"
	"time"

	"statequake/chaos/internal/testnode"
	"statequake/history"
)

func stressChaos(t *testing.T, name, spec string) *Fault {
	t.Helper()
	return triggered(t, name, At(0), `{"kind":"StressChaos","spec":{`+spec+`}}`)
}

func TestStressChaos(t *testing.T) {
	r := newRig(t)
	r.runFor(t.Context(), map[string]Executor{StressChaos: &Stresses{Now: r.now}},
		stressChaos(t, "cpu", `"stressors":{"cpu":{"workers":1,"load":20}},"duration":"2500ms",`+onAll),
		stressChaos(t, "memory", `"stressors":{"memory":{"workers":2,"size":"32MiB"}},"duration":"2500ms",`+onN1))
	r.wantStory("cpu", "requested n1,n2; injected n1,n2; evidence=confirmed n1,n2; recovered n1,n2")
	r.wantStory("memory", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	r.wantDetail("cpu", history.Evidence, "n1: the workers used ", "want 0.20", "; after that the workers used ", "n2: likewise")
	r.wantDetail("memory", history.Evidence, "n1: the workers have ", "want 32MiB")
	r.wantDetail("cpu", history.Recovered, "the workers are gone; n1 was ready", "n2 was ready")
	if e := r.of("cpu"); len(e) == 4 && e[3].At-e[1].At < 2*time.Second {
		t.Errorf("recovered %v after the injection, want about 2.5s", e[3].At-e[1].At)
	}
}

func TestStressChaosThatCannotBe(t *testing.T) {
	r := newRig(t)
	r.runFor(t.Context(), map[string]Executor{StressChaos: &Stresses{Now: r.now}},
		stressChaos(t, "short", `"stressors":{"cpu":{"workers":1,"load":10}},"duration":"200ms",`+onN1),
		stressChaos(t, "much", `"stressors":{"memory":{"workers":1,"size":"100%"}},"duration":"2s",`+onN1))
	r.wantStory("short", "requested n1; evidence=inconclusive n1")
	r.wantStory("much", "requested n1; evidence=mismatch n1")
	r.wantDetail("short", history.Evidence, "n1: the workers were observed for 0.")
	r.wantDetail("much", history.Evidence, " that the machine has available")
}

// The end of the run ends the workers.
func TestStressChaosAtTheEnd(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		testnode.Await(t, "workers seen", func() bool { return len(r.of("cpu")) == 2 })
		cancel()
	}()
	r.runFor(ctx, map[string]Executor{StressChaos: &Stresses{Now: r.now}},
		stressChaos(t, "cpu", `"stressors":{"cpu":{"workers":1,"load":10}},"duration":"1h",`+onN1))
	r.wantStory("cpu", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
}
