package chaos

import (
	"context"
	"strings"
	"testing"
	"time"

	"statequake/history"
)

const longPause = `{"kind":"ProcessPause","spec":{"mode":"one","selector":{"labelSelectors":{"statequake.dev/node":"n1"}},"duration":"60s"}}`

// A fault by hand is recorded and told like any other, heals when its context
// ends, and never has the name of another one.
func TestInject(t *testing.T) {
	r := newRig(t)
	planned := fault(t, "pause", time.Hour, longPause)
	n := r.nemesis(planned)
	ctx, heal := context.WithCancel(t.Context())
	var told []string
	began := time.Now()
	err := n.Inject(ctx, fault(t, "pause", 0, longPause), func(ev history.Fault) {
		told = append(told, ev.Name+" "+string(ev.Event))
		if ev.Event == history.Injected {
			if got := strings.Join(n.Active(), ";"); got != "pause-2 n1" {
				t.Errorf("active: %s", got)
			}
			heal()
		}
	})
	if err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("healed after %v", took)
	}
	r.wantStory("pause-2", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	if got := strings.Join(told, "; "); got != "pause-2 requested; pause-2 injected; pause-2 evidence; pause-2 recovered" {
		t.Errorf("told: %s", got)
	}
	if len(n.Active()) != 0 {
		t.Errorf("still active: %v", n.Active())
	}

	if err := n.Inject(ctx, fault(t, "late", 0, longPause), func(history.Fault) { t.Error("told of a fault that nobody wants any more") }); err != nil {
		t.Error(err)
	}
	r.wantStory("late", "")
}

func TestInjectMatchesNobody(t *testing.T) {
	r := newRig(t)
	f := fault(t, "nobody", 0, strings.Replace(longPause, "n1", "n9", 1))
	if err := r.nemesis().Inject(t.Context(), f, func(history.Fault) {}); err != nil {
		t.Error(err)
	}
	r.wantStory("nobody", "requested ; evidence=inconclusive ")
}
