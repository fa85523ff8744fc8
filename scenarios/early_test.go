package scenarios

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/loadgen"
)

// audited is an early whose system, load and judge are scripted.
type audited struct {
	*early
	retired []loadgen.Retired
	silent  map[string]bool // keys that do not answer
	bad     map[string]bool // keys that are judged to be wrong
	during  func()          // an audit
	log     []string
}

func newAudited() *audited {
	a := &audited{silent: map[string]bool{}, bad: map[string]bool{}}
	a.early = &early{
		ops: map[loadgen.EntityKey][]history.Op{}, dropped: map[loadgen.EntityKey]bool{},
		take: func() []loadgen.Retired {
			taken := a.retired
			a.retired = nil
			return taken
		},
		audit: func(n int64, key loadgen.EntityKey) history.Op {
			a.log = append(a.log, fmt.Sprintf("audit %d of %s", n, key.Key))
			if a.during != nil {
				a.during()
			}
			op := history.Op{ID: fmt.Sprintf("a%d", n), Phase: history.Audit, Entity: key.Entity, Key: key.Key, Outcome: history.OK}
			if a.silent[key.Key] {
				op.Outcome = history.Info
			}
			return op
		},
		judge: func(ops []history.Op) []Finding {
			var ids []string
			for _, op := range ops {
				ids = append(ids, op.ID)
			}
			key := ops[0].Key
			a.log = append(a.log, fmt.Sprintf("judge %s: %s", key, strings.Join(ids, " ")))
			if a.bad[key] {
				return []Finding{{ops[0].Entity, key, "lost", "b is gone"}}
			}
			return nil
		},
	}
	return a
}

func (a *audited) complete(key string, ids ...string) {
	for _, id := range ids {
		op := &history.Op{ID: id, Phase: history.Load, Entity: "cart", Key: key, Outcome: history.OK, Result: []byte("1")}
		a.record(op)
		*op = history.Op{} // it is not the callee's to keep
	}
}

func (a *audited) retire(key string, ops int64) {
	a.retired = append(a.retired, loadgen.Retired{EntityKey: loadgen.EntityKey{Entity: "cart", Key: key}, Ops: ops})
}

func (a *audited) want(t *testing.T, ctx context.Context, steps int, want ...string) {
	t.Helper()
	a.log = nil
	for range steps {
		a.step(ctx)
	}
	if got := strings.Join(a.log, "; "); got != strings.Join(want, "; ") {
		t.Errorf("have %s\nwant %s", got, strings.Join(want, "; "))
	}
}

// TestEarlyAudit: a key is audited once, when the load is done with it and all
// that was sent to it has returned, and judged by all of that.
func TestEarlyAudit(t *testing.T) {
	a, ctx := newAudited(), t.Context()
	a.complete("k1", "a", "b")
	a.want(t, ctx, 2)
	a.retire("k1", 3) // one is under way
	a.retire("k2", 1)
	a.want(t, ctx, 2)
	a.complete("k2", "x")
	a.want(t, ctx, 3, "audit 0 of k2", "judge k2: x a0")
	a.complete("k1", "c")
	a.want(t, ctx, 3, "audit 1 of k1", "judge k1: a b c a1")

	// One audit a step. What does not answer is left to the end.
	a.silent["k3"] = true
	for _, key := range []string{"k3", "k4"} {
		a.complete(key, "y")
		a.retire(key, 1)
	}
	a.want(t, ctx, 1, "audit 2 of k3")
	a.want(t, ctx, 3, "audit 3 of k4", "judge k4: y a3")
	if len(a.ops) != 0 || a.held != 0 || len(a.waiting) != 0 {
		t.Errorf("kept: %v, %d, %v", a.ops, a.held, a.waiting)
	}
	if reason := a.violation(); reason != "" {
		t.Errorf("found: %s", reason)
	}
	a.bad["k5"] = true
	a.complete("k5", "z")
	a.retire("k5", 1)
	a.want(t, ctx, 1, "audit 4 of k5", "judge k5: z a4")
	if reason := a.violation(); reason != "a violation of kind lost was found on cart/k5: b is gone" {
		t.Errorf("found: %s", reason)
	}
	if found, audits := a.state(); len(found) != 1 || audits != 5 {
		t.Errorf("%d found by %d audits", len(found), audits)
	}
}

// TestEarlyAuditEnds: when the load is over, nothing ends it any more.
func TestEarlyAuditEnds(t *testing.T) {
	a := newAudited()
	for _, key := range []string{"k1", "k2"} {
		a.bad[key] = true
		a.complete(key, "a")
		a.retire(key, 1)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a.during = cancel
	a.want(t, ctx, 3, "audit 0 of k1")
	if _, audits := a.state(); audits != 1 || a.violation() != "" {
		t.Errorf("%d audits, found %q", audits, a.violation())
	}
	a.run(ctx) // returns
}

// TestEarlyAuditRoom: a key without room for its operations is left to the end,
// and makes room for others.
func TestEarlyAuditRoom(t *testing.T) {
	a, ctx := newAudited(), t.Context()
	a.complete("k1", "a")
	a.complete("k2", "x")
	a.held = maxHeld
	a.complete("k1", "b")
	if a.held != maxHeld-1 {
		t.Errorf("%d are held", a.held)
	}
	a.complete("k1", "c")
	a.retire("k1", 1) // what is left of it might look complete
	a.retire("k2", 1)
	a.want(t, ctx, 3, "audit 0 of k2", "judge k2: x a0")
}

// TestViolationAborts: the condition is met when something was found.
func TestViolationAborts(t *testing.T) {
	a := newAudited()
	r := &run{scenario: &Scenario{Abort: Abort{Violation: true}}, opt: RunOptions{Dir: t.TempDir()}, began: time.Now(), early: a.early}
	if reason := r.condition(); reason != "" {
		t.Errorf("nothing was found: %s", reason)
	}
	a.findings = []Finding{{"cart", "cart-1.1", "lost", "b is gone"}}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	r.watchAbort(ctx, cancel)
	var met *aborted
	if !errors.As(context.Cause(ctx), &met) || !strings.HasSuffix(met.reason, "s: a violation of kind lost was found on cart/cart-1.1: b is gone") || r.status().Violations != 1 {
		t.Errorf("cause %v, status %+v", context.Cause(ctx), r.status())
	}
}

func TestNobodyToJudge(t *testing.T) {
	s, err := Parse("f.yaml", []byte(small), Options{Set: []string{"abort.violation=true"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), s, RunOptions{Dir: t.TempDir(), Binary: "/bin/false", Tag: "0000"}); err == nil || err.Error() != "abort.violation: nobody is there to judge" {
		t.Errorf("got %v", err)
	}
}

func TestEarlyContradicts(t *testing.T) {
	for _, workload := range []string{"ledger", "approval"} {
		_, err := Parse("f.yaml", []byte(strings.Replace(small, "counter", workload, 1)), Options{Set: []string{"abort.violation=true"}})
		if want := "--set abort.violation=true: abort.violation: contradicts load.workload.name: " + workload; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", workload, err)
		}
	}
}
