package loadgen

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"statequake/history"
)

// A client thinks between an answer and its next operation, and does not think
// beyond the end of the load.
func TestClientsThink(t *testing.T) {
	const think = 100 * time.Millisecond
	g, rec := generator(t, Config{
		Endpoints: endpoints(startNode(t, "n1", okAnswer)), Clients: 3, Think: Think{Mean: think},
		Duration: 950 * time.Millisecond, Timeout: 10 * time.Second,
	})
	began := time.Now()
	runAll(t, context.Background(), g, rec)
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("the load ended after %v", took)
	}
	answered := map[int]time.Duration{}
	seen := 0
	slices.SortFunc(rec.ops, func(a, b history.Op) int { return cmp.Compare(a.N, b.N) })
	for _, op := range rec.ops {
		if op.Outcome != history.OK {
			t.Fatalf("operation %d is %s: %s", op.N, op.Outcome, op.Error)
		}
		if last, ok := answered[op.Client]; ok && op.Sent-last < think {
			t.Errorf("client %d sent %v after its answer, and thinks for %v", op.Client, op.Sent-last, think)
		}
		answered[op.Client] = op.Returned
		seen++
	}
	if seen > 30 || seen < 3 {
		t.Errorf("%d operations of 3 clients that think %v in 950ms", seen, think)
	}
	c := Config{Endpoints: endpoints(startNode(t, "n2", okAnswer)), Codec: testCodec{}, Workload: testWorkload(t), Arrivals: Constant(1), Think: Think{Mean: think},
		Duration: time.Second, Timeout: time.Second, Tag: "7f3a", Now: func() time.Duration { return 0 }, Record: func(*history.Op) {}}
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "think time 100ms") {
		t.Errorf("think times without clients: %v", err)
	}
}
