package loadgen

import (
	"context"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"statequake/history"
)

func testClient(t *testing.T, c ClientConfig) (*Client, *recorder) {
	t.Helper()
	rec := &recorder{}
	c.Codec, c.Record, c.Now = testCodec{}, rec.record, clock()
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	client, err := NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	return client, rec
}

func clientOp(n int64, due time.Duration) history.Op {
	return history.Op{
		ID: OpID("c1c1", history.Load, n), N: n, Phase: history.Load, Client: 3, Entity: "cart", Key: "cart-1", Name: "add",
		Args: []byte(`{"item":"tea"}`), Scheduled: due,
	}
}

// The rules are those of the driver http: a doubt stays a doubt, a refusal goes to
// the next node, and all attempts carry one id.
func TestClientOutcomes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		answer   answerFunc
		retries  int
		want     history.Outcome
		attempts int
	}{
		{"answered", okAnswer, 3, history.OK, 1},
		{"answered at the second attempt", script(resetAnswer, okAnswer), 3, history.OK, 2},
		{"never answered", resetAnswer, 2, history.Info, 3},
		{"refused by the system", respond(400, `{"error":"no","effect":"none"}`), 2, history.Fail, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			node := startNode(t, "n1", tt.answer)
			c, rec := testClient(t, ClientConfig{Endpoints: endpoints(node), Retry: Retry{Max: tt.retries}})
			op := c.Invoke(context.Background(), clientOp(7, 0))
			c.Close()
			if op.Outcome != tt.want || op.Attempts != tt.attempts || node.requests("c1c1-l7") != tt.attempts {
				t.Errorf("%s after %d attempts, %d of that id seen, want %s after %d: %s",
					op.Outcome, op.Attempts, node.requests("c1c1-l7"), tt.want, tt.attempts, op.Error)
			}
			if len(rec.ops) != 1 || !reflect.DeepEqual(rec.ops[0], op) {
				t.Errorf("recorded %+v, want what was returned, %+v", rec.ops, op)
			}
			if op.Client != 3 || op.Scheduled != 0 || op.Sent < op.Scheduled || op.Returned < op.Sent {
				t.Errorf("client %d, scheduled %v, sent %v, returned %v", op.Client, op.Scheduled, op.Sent, op.Returned)
			}
		})
	}
}

// Waiting for the right to send is latency, and ends with the timeout.
func TestClientQueue(t *testing.T) {
	const hold = 300 * time.Millisecond
	node := startNode(t, "n1", func(c net.Conn, id string, nth int) bool {
		time.Sleep(hold)
		return okAnswer(c, id, nth)
	})
	c, rec := testClient(t, ClientConfig{Endpoints: endpoints(node), MaxConns: 1, Timeout: 2*hold + hold/2})
	var all sync.WaitGroup
	for n := range int64(4) {
		all.Go(func() { c.Invoke(context.Background(), clientOp(n, c.c.Now())) })
	}
	all.Wait()
	c.Unsent(history.Op{ID: "c1c1-l4", N: 4, Phase: history.Load, Error: "nobody came"})
	if err := c.Identity(map[history.Phase]int64{history.Load: 5}); err != nil {
		t.Error(err)
	}
	if err := c.Identity(map[history.Phase]int64{history.Load: 6}); err == nil {
		t.Error("6 scheduled and 5 recorded is no error")
	}
	c.Close()
	if got := rec.counts(); got.OK != 3 || got.Unsent != 2 {
		t.Errorf("%v, want 3 ok, one of each turn, and 2 unsent", got)
	}
	longest := time.Duration(0)
	for _, op := range rec.ops {
		if op.Outcome == history.OK {
			longest = max(longest, op.Latency())
		}
	}
	if longest < 3*hold {
		t.Errorf("the longest latency is %v, want at least %v: it waited for two others", longest, 3*hold)
	}
}

func TestClientStops(t *testing.T) {
	node := startNode(t, "n1", okAnswer)
	c, _ := testClient(t, ClientConfig{Endpoints: endpoints(node)})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if op := c.Invoke(ctx, clientOp(0, 0)); op.Outcome != history.Unsent || node.requests(op.ID) != 0 {
		t.Errorf("%s, %d requests, want unsent and none", op.Outcome, node.requests(op.ID))
	}
	c.Close()
}

func TestClientDuplicates(t *testing.T) {
	node := startNode(t, "n1", okAnswer)
	c, rec := testClient(t, ClientConfig{Endpoints: endpoints(node), Retry: Retry{Duplicate: 1}})
	op := c.Invoke(context.Background(), clientOp(0, 0))
	c.Close()
	if len(rec.ops) != 1 || op.Outcome != history.OK || node.requests(op.ID) != 2 {
		t.Errorf("%d records, %s, %d requests, want 1, ok, 2", len(rec.ops), op.Outcome, node.requests(op.ID))
	}
}

func TestClientConfigErrors(t *testing.T) {
	node := startNode(t, "n1", okAnswer)
	for name, c := range map[string]ClientConfig{
		"no endpoints": {}, "retries": {Endpoints: endpoints(node), Retry: Retry{Max: -1}}, "duplicate": {Endpoints: endpoints(node), Retry: Retry{Duplicate: 2}},
		"route": {Endpoints: endpoints(node), Route: "home"}, "max conns": {Endpoints: endpoints(node), MaxConns: -1},
	} {
		c.Codec, c.Record, c.Now, c.Timeout = testCodec{}, func(*history.Op) {}, clock(), time.Second
		if _, err := NewClient(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTouches(t *testing.T) {
	for _, tt := range []struct {
		op   history.Op
		want []EntityKey
	}{
		{history.Op{Entity: "cart", Key: "c", Name: "add"}, []EntityKey{{"cart", "c"}}},
		{history.Op{Entity: "transfer", Key: "a", Name: "run", Args: []byte(`{"to":"b","amount":1}`)}, []EntityKey{{"account", "a"}, {"account", "b"}}},
		{history.Op{Entity: "transfer", Key: "a", Name: "run", Args: []byte(`{"to":7}`)}, nil},
		{history.Op{Entity: "own", Key: "x", Name: "run"}, []EntityKey{{"own", "x"}}},
	} {
		if got := Touches(&tt.op); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s/%s touches %v, want %v", tt.op.Entity, tt.op.Key, got, tt.want)
		}
	}
}

func TestPaceStops(t *testing.T) {
	now := clock()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n, stop := Pace(ctx, now, now(), time.Minute, Constant(1000), func(n int64, _ time.Duration) {
		if n == 20 {
			cancel()
		}
	})
	if n != 21 || Constant(1000).Count(stop) < 21 || stop > 10*time.Second {
		t.Errorf("handed out %d by %v, of which %d were due", n, stop, Constant(1000).Count(stop))
	}
	if n, stop = Pace(context.Background(), now, now(), 50*time.Millisecond, Constant(1000), func(int64, time.Duration) {}); n != 50 || stop != 50*time.Millisecond {
		t.Errorf("handed out %d by %v, want 50 by 50ms", n, stop)
	}
}

func TestProcess(t *testing.T) {
	o := WatchProcess(clock())
	defer o.End()
	o.Handed(3)
	o.Handed(-1)
	for range 100 {
		o.Lagged(2 * time.Millisecond)
	}
	s := o.Sample()
	if s.Node != "generator" || s.Dispatched != 2 || s.LagMax != 2*time.Millisecond || s.LagP99 > s.LagMax || s.LagP50 < 1900*time.Microsecond || s.RSS <= 0 || s.CPU <= 0 {
		t.Errorf("%+v", s)
	}
}
