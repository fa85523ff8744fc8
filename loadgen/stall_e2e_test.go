//go:build e2e

package loadgen

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"statequake/history"
)

// One stall of 1 s at second 5 of 10, at 1,000/s: the thousand operations due in
// it wait between 1 s and nothing, so that the hundredth of the slowest, the p99
// of all, waits 900 ms, whatever the number of connections. With 2,048 of them no
// operation ever waits for one: the limit might as well not be there.
func TestStallShowsInTheP99(t *testing.T) {
	const from, to, want = 5 * time.Second, 6 * time.Second, 900 * time.Millisecond
	for _, c := range []struct {
		driver string
		conns  int
	}{{"http", 10}, {"http", 100}, {"http", 2048}, {"vegeta", 10}, {"vegeta", 100}, {"vegeta", 2048}} {
		t.Run(fmt.Sprintf("%s, %d connections", c.driver, c.conns), func(t *testing.T) {
			var now func() time.Duration
			node := startNode(t, "n1", func(conn net.Conn, id string, nth int) bool {
				if at := now(); at >= from && at < to {
					time.Sleep(to - at)
				}
				return okAnswer(conn, id, nth)
			})
			g, rec := generator(t, Config{
				Endpoints: endpoints(node), Driver: c.driver, MaxConns: c.conns,
				Arrivals: Constant(1000), Duration: 10 * time.Second, Timeout: 10 * time.Second,
			})
			now = g.c.Now
			runAll(t, context.Background(), g, rec)
			var latency []time.Duration
			for i := range rec.ops {
				if op := &rec.ops[i]; op.Outcome == history.OK {
					latency = append(latency, op.Latency())
				}
			}
			if len(latency) != 10_000 {
				t.Fatalf("outcomes %+v", rec.counts())
			}
			slices.Sort(latency)
			p99, s := latency[9_900-1], g.Stats()
			t.Logf("p99 %v, p50 %v, max %v; send lag p50 %v, p99 %v, max %v; stall %v",
				p99, latency[5_000-1], latency[9_999], s.LagP50, s.LagP99, s.LagMax, s.StallMax)
			if p99 < want*95/100 || p99 > want*105/100 {
				t.Errorf("p99 %v is not within 5 %% of %v", p99, want)
			}
		})
	}
}
