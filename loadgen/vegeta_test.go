package loadgen

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"statequake/history"
)

// The same seed makes the same operations with every driver, and an id carries
// the content of its operation: the hits of a hundred workers do not mix them up.
func TestDriversSendTheSame(t *testing.T) {
	type sent struct {
		op   history.Op // what does not depend on the system
		body string
	}
	var runs [][]sent
	for _, driver := range []string{"http", "vegeta"} {
		node := startNode(t, "n1", func(c net.Conn, id string, nth int) bool {
			time.Sleep(30 * time.Millisecond)
			return okAnswer(c, id, nth)
		})
		g, rec := generator(t, Config{
			Endpoints: []Endpoint{{Node: "n1", Addr: node.addr}, {Node: "n2", Addr: node.addr}}, Driver: driver, Arrivals: Constant(2000),
			Warmup: 100 * time.Millisecond, Duration: 300 * time.Millisecond, Timeout: 20 * time.Second, MaxConns: 100,
			Retry: Retry{Duplicate: 0.3}, Seed: 7,
		})
		runAll(t, context.Background(), g, rec)
		slices.SortFunc(rec.ops, func(a, b history.Op) int { return int(a.N - b.N) })
		var run []sent
		for _, op := range rec.ops {
			if op.Outcome != history.OK {
				t.Fatalf("%s: %+v", driver, op)
			}
			run = append(run, sent{history.Op{
				ID: op.ID, N: op.N, Phase: op.Phase, Entity: op.Entity, Key: op.Key, Name: op.Name, Args: op.Args,
				Scheduled: op.Scheduled, Attempts: op.Attempts,
			}, node.bodies[op.ID]})
		}
		runs = append(runs, run)
	}
	if len(runs[0]) != 800 || len(runs[1]) != 800 {
		t.Fatalf("%d and %d operations, want 800", len(runs[0]), len(runs[1]))
	}
	twice := 0
	for n := range runs[0] {
		if !reflect.DeepEqual(runs[0][n], runs[1][n]) {
			t.Fatalf("op %d: http sent %+v, vegeta %+v", n, runs[0][n], runs[1][n])
		}
		twice += runs[0][n].op.Attempts - 1
	}
	if twice < 160 || twice > 320 {
		t.Errorf("%d of 800 operations were duplicated, want about 240", twice)
	}
}

// vegetaAttack is the attack of a generator on a clock that the test moves.
func vegetaAttack(t *testing.T, max int, now func() time.Duration) (*attack, *recorder) {
	g, rec := generator(t, Config{
		Endpoints: endpoints(startNode(t, "n1", okAnswer)), Driver: "vegeta", MaxConns: max, Duration: time.Hour, Timeout: time.Hour,
	})
	a := g.attack
	a.ctx = context.Background()
	a.s.now, a.s.meter.now = now, now
	return a, rec
}

// Hits that arrive in any order are the operations of their numbers.
func TestHitsOutOfOrder(t *testing.T) {
	a, rec := vegetaAttack(t, 8, clock())
	var hits sync.WaitGroup
	for _, n := range []int64{5, 3, 4, 0, 7, 1, 6, 2} {
		hits.Go(func() {
			req, _ := http.NewRequest("GET", "http://x/", nil)
			req.Header.Set("X-Vegeta-Seq", strconv.FormatInt(n, 10))
			if _, err := a.RoundTrip(req); err != nil {
				t.Error(err)
			}
		})
		if n == 5 {
			hits.Wait()
		}
	}
	hits.Wait()
	if len(rec.ops) != 8 || rec.ops[0].N != 5 || len(a.made) != 0 {
		t.Fatalf("%d operations recorded, %d left over: %+v", len(rec.ops), len(a.made), rec.ops)
	}
	slices.SortFunc(rec.ops, func(a, b history.Op) int { return int(a.N - b.N) })
	w := testWorkload(t)
	for n, op := range rec.ops {
		if want := w.Next(); op.N != int64(n) || op.Key != want.Key || op.Name != want.Name || string(op.Args) != string(want.Args) || op.Scheduled != Constant(200).At(op.N) {
			t.Errorf("op %d is %+v, want %+v", n, op, want)
		}
	}
}

// Waiting for a worker is the system's doing as long as all are busy, and the
// operations that wait count as handed out. Everything else is the generator's.
func TestLagOfVegeta(t *testing.T) {
	const ms = time.Millisecond
	var now time.Duration
	a, _ := vegetaAttack(t, 2, func() time.Duration { return now })
	lag := func(at time.Duration, n int64) time.Duration {
		now = at
		before := a.s.meter.lagMax
		a.s.meter.lagMax = 0
		a.take(n, at)
		got := a.s.meter.lagMax
		a.s.meter.lagMax = max(before, got)
		return got
	}
	free := func(at time.Duration) { now = at; a.free() }
	handedOut := func(want int64) {
		t.Helper()
		a.tally()
		if got := a.s.meter.stats().Dispatched; got != want {
			t.Errorf("at %v: %d operations handed out, want %d", now, got, want)
		}
	}

	// One operation is due every 5 ms.
	if got := lag(1*ms, 0); got != 1*ms {
		t.Errorf("one worker is free, 1 ms late: lag %v", got)
	}
	now = 30 * ms
	handedOut(1) // a worker is free, so it is vegeta's loop that is late
	if got := lag(30*ms, 1); got != 25*ms {
		t.Errorf("one worker is free, 25 ms late: lag %v", got)
	}
	now = 41 * ms
	handedOut(9) // both are busy: those due at 0, 5, ... 40 ms wait for the system
	free(50 * ms)
	handedOut(10)
	if got := lag(53*ms, 2); got != 3*ms {
		t.Errorf("a worker was free for 3 ms: lag %v", got)
	}
	free(60 * ms)
	free(70 * ms)
	handedOut(12)
	if got := lag(71*ms, 3); got != 11*ms {
		t.Errorf("a worker was free for 11 ms: lag %v", got)
	}
	if got := lag(80*ms, 16); got != 0 {
		t.Errorf("taken when due: lag %v", got)
	}
}

// The wire of the vegeta driver asks exactly what that of the http driver asks.
func TestNetHTTPRequests(t *testing.T) {
	seen := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen <- fmt.Sprint(r.Method, r.RequestURI, r.Host, r.Header, r.ContentLength, r.TransferEncoding, string(b))
	}))
	defer srv.Close()
	e := []Endpoint{{Node: "n1", Addr: srv.Listener.Addr().String()}}
	ours, theirs := newConns(e, 1, 0), newNetHTTP(e, 1, 0)
	defer ours.close()
	defer theirs.close()
	for _, r := range []request{
		{method: "POST", path: "/v1/entities/cart/cart-1.1/add", body: []byte(`{"n":1}`)},
		{method: "POST", path: "/v1/entities/cart/a%2Fb%20c/get?x=y&z=%41"},
		{method: "GET", path: "/v1/entities"},
		{method: "PUT", path: "/x", body: []byte("plain"), header: http.Header{"Content-Type": {"text/plain"}, "X-Two": {"a", "b"}}},
		{method: "DELETE", path: "/x", header: http.Header{"Idempotency-Key": {"k"}}},
	} {
		r.id = "a-l1"
		var asked []string
		for _, w := range []wire{ours, theirs} {
			status, _, sent, err := w.exchange(0, time.Now(), time.Now().Add(10*time.Second), r)
			if err != nil || status != 200 || !sent {
				t.Fatalf("%s %s: status %d, sent %v, %v", r.method, r.path, status, sent, err)
			}
			asked = append(asked, <-seen)
		}
		if asked[0] != asked[1] {
			t.Errorf("http driver: %s\nvegeta driver: %s", asked[0], asked[1])
		}
	}
}

// net/http would repeat some requests by itself when a connection that was idle
// ends without an answer; the system must see one attempt once.
func TestOneAttemptIsSentOnce(t *testing.T) {
	for name, r := range map[string]request{
		"POST":                 {method: "POST", body: []byte(`{}`)},
		"empty POST":           {method: "POST"},
		"GET":                  {method: "GET"},
		"idempotent POST":      {method: "POST", body: []byte(`{}`), header: http.Header{"Idempotency-Key": {"k"}}},
		"idempotent and empty": {method: "POST", header: http.Header{"Idempotency-Key": {"k"}}},
	} {
		for how, bad := range map[string]answerFunc{"closes": closeAnswer, "resets": resetAnswer} {
			t.Run(name+"/"+how, func(t *testing.T) {
				node := startNode(t, "n1", func(c net.Conn, id string, nth int) bool {
					if id == "bad" {
						return bad(c, id, nth)
					}
					return okAnswer(c, id, nth)
				})
				w := newNetHTTP(endpoints(node), 2, 0)
				defer w.close()
				deadline := time.Now().Add(10 * time.Second)
				r.path, r.id = "/x", "good"
				if _, _, _, err := w.exchange(0, time.Now(), deadline, r); err != nil {
					t.Fatal(err)
				}
				r.id = "bad"
				_, _, sent, err := w.exchange(0, time.Now(), deadline, r)
				if err == nil || !sent || node.requests("bad") != 1 {
					t.Errorf("seen %d times, sent %v, %v", node.requests("bad"), sent, err)
				}
				r.id = "good again"
				if _, _, _, err := w.exchange(0, time.Now(), deadline, r); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Redirects and protocol switches are the system's answers, not to be followed.
func TestNetHTTPFollowsNothing(t *testing.T) {
	node := startNode(t, "n1", func(c net.Conn, id string, _ int) bool {
		if id == "switch" {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		} else {
			io.WriteString(c, "HTTP/1.1 307 Elsewhere\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n")
		}
		return true
	})
	w := newNetHTTP(endpoints(node), 1, 0)
	defer w.close()
	deadline := time.Now().Add(10 * time.Second)
	status, _, sent, err := w.exchange(0, time.Now(), deadline, request{method: "GET", path: "/x", id: "moved"})
	if err != nil || status != 307 || !sent || node.requests("moved") != 1 {
		t.Errorf("status %d, sent %v, %v, seen %d times", status, sent, err, node.requests("moved"))
	}
	if _, _, sent, err = w.exchange(0, time.Now(), deadline, request{method: "GET", path: "/x", id: "switch"}); !sent || err == nil || err.Error() != "answer: switches protocols unasked" {
		t.Errorf("sent %v, %v", sent, err)
	}
}
