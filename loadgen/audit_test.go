package loadgen

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"statequake/history"
)

func auditConfig(rec *recorder, keys int, nodes ...*fakeNode) AuditConfig {
	c := AuditConfig{
		Endpoints: endpoints(nodes...), Codec: testCodec{}, Op: "witness", Concurrency: 3, Timeout: 200 * time.Millisecond,
		Tag: "7f3a", Now: clock(), Record: rec.record,
	}
	for i := range keys {
		c.Keys = append(c.Keys, EntityKey{"cart", fmt.Sprintf("cart-%d.1", i)})
	}
	return c
}

func TestAuditPersists(t *testing.T) {
	rec := &recorder{}
	stuck := make(chan struct{})
	defer close(stuck)
	// Every kind of trouble first, 404 from a node that is not ready included.
	node := startNode(t, "n1", script(resetAnswer, noneAnswer, respond(404, `{"error":"unknown","effect":"none"}`), unknownAnswer,
		func(net.Conn, string, int) bool { <-stuck; return false }, okAnswer))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := Audit(ctx, auditConfig(rec, 10, node)); err != nil {
		t.Fatal(err)
	}
	seen := map[int64]bool{}
	for _, op := range rec.ops {
		if seen[op.N] || op.Outcome != history.OK || op.Attempts != 6 || op.Phase != history.Audit || op.Name != "witness" ||
			op.ID != fmt.Sprintf("7f3a-a%d", op.N) || op.Key != fmt.Sprintf("cart-%d.1", op.N) {
			t.Errorf("got %+v", op)
		}
		seen[op.N] = true
	}
	if len(seen) != 10 {
		t.Errorf("%d keys recorded, want 10", len(seen))
	}
	if got := node.bodies["7f3a-a3"]; got != "POST /v1/entities/cart/cart-3.1/witness " {
		t.Errorf("request %q", got)
	}
}

func TestAuditGivesUp(t *testing.T) {
	for name, answer := range map[string]answerFunc{"down": nil, "silent": func(net.Conn, string, int) bool { time.Sleep(3 * time.Second); return false }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := &recorder{}
			node := startNode(t, "n1", answer)
			if answer == nil {
				node.down()
			}
			c := auditConfig(rec, 10, node)
			c.Timeout = time.Hour
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := Audit(ctx, c)
			if took := time.Since(began); took > 2500*time.Millisecond {
				t.Errorf("took %v, deadline 300ms", took)
			}
			if err == nil || !strings.HasPrefix(err.Error(), "audit: 10 of 10 keys unread; first cart cart-") {
				t.Errorf("got %v", err)
			}
			if counts := rec.counts(); counts.OK != 0 || counts.Total() != 10 || (answer != nil && counts.Info != 3) {
				t.Errorf("outcomes %+v", counts)
			}
		})
	}
}
