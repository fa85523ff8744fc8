package loadgen

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"statequake/history"
)

// fakeNode is a node on raw TCP that answers as badly as a test wants.
type fakeNode struct {
	name, addr string
	answer     answerFunc

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	seen     map[string]int // requests by op id
	bodies   map[string]string
}

// answerFunc answers the nth request (from 1) of an op id on this node. It
// returns false to have the connection closed.
type answerFunc func(c net.Conn, id string, nth int) bool

func startNode(t *testing.T, name string, answer answerFunc) *fakeNode {
	t.Helper()
	n := &fakeNode{name: name, answer: answer, conns: map[net.Conn]bool{}, seen: map[string]int{}, bodies: map[string]string{}}
	n.up(t, "127.0.0.1:0")
	n.addr = n.listener.Addr().String()
	t.Cleanup(n.down)
	return n
}

func (n *fakeNode) up(t *testing.T, addr string) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	n.mu.Lock()
	n.listener = l
	n.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.mu.Lock()
			n.conns[c] = true
			n.mu.Unlock()
			go n.serve(c)
		}
	}()
}

// down closes everything at once, as a killed process does.
func (n *fakeNode) down() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listener.Close()
	for c := range n.conns {
		c.Close()
	}
	clear(n.conns)
}

func (n *fakeNode) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		id := req.Header.Get("Statequake-Op")
		n.mu.Lock()
		n.seen[id]++
		n.bodies[id] = req.Method + " " + req.URL.Path + " " + string(body)
		nth := n.seen[id]
		n.mu.Unlock()
		if !n.answer(c, id, nth) {
			return
		}
	}
}

func (n *fakeNode) requests(id string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen[id]
}

// deadAddr is an address at which nothing listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func respond(status int, body string) answerFunc {
	return func(c net.Conn, _ string, _ int) bool {
		_, err := fmt.Fprintf(c, "HTTP/1.1 %d Status\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
		return err == nil
	}
}

var (
	okAnswer      = respond(200, `{"result":{"value":1},"version":1,"digest":"00000000000000aa","epoch":7,"node":"n2"}`)
	noneAnswer    = respond(503, `{"error":"draining","effect":"none"}`)
	unknownAnswer = respond(504, `{"error":"deadline","effect":"unknown"}`)
	badAnswer     = respond(400, `{"error":"bad request","effect":"none"}`)
)

func resetAnswer(c net.Conn, _ string, _ int) bool {
	c.(*net.TCPConn).SetLinger(0)
	return false
}

// silentAnswer never answers.
func silentAnswer(c net.Conn, _ string, _ int) bool {
	io.Copy(io.Discard, c)
	return false
}

func closeAnswer(net.Conn, string, int) bool { return false }

// testCodec speaks an API like that of a real system.
type testCodec struct{}

func (testCodec) Request(op *history.Op) (method, path string, header http.Header, body []byte) {
	return "POST", "/v1/entities/" + op.Entity + "/" + op.Key + "/" + op.Name, nil, op.Args
}

func (testCodec) Response(op *history.Op, status int, body []byte) {
	var a struct {
		Result        json.RawMessage
		Version       int64
		Digest        string
		Epoch         int64
		Node          string
		Error, Effect string
	}
	err := json.Unmarshal(body, &a)
	switch {
	case err == nil && status == 200:
		op.Outcome, op.Result, op.Version, op.Digest, op.Epoch, op.Node = history.OK, a.Result, a.Version, a.Digest, a.Epoch, a.Node
	case err == nil && a.Effect == "none":
		op.Outcome, op.Error = history.Fail, a.Error
	default:
		op.Outcome, op.Error = history.Info, a.Error
	}
}

// recorder collects operations.
type recorder struct {
	mu  sync.Mutex
	ops []history.Op
}

func (r *recorder) record(op *history.Op) {
	r.mu.Lock()
	r.ops = append(r.ops, *op)
	r.mu.Unlock()
}

func (r *recorder) counts() (c history.Counts) {
	for _, op := range r.ops {
		c.Add(op.Outcome)
	}
	return c
}

// clock is a run clock that starts now.
func clock() func() time.Duration {
	t0 := time.Now()
	return func() time.Duration { return time.Since(t0) }
}

func testWorkload(t testing.TB) *Workload {
	t.Helper()
	w, err := NewWorkload(WorkloadConfig{Name: "shopping-cart", Keys: 50, Zipf: 0.99, Seed: 42})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func endpoints(nodes ...*fakeNode) (e []Endpoint) {
	for _, n := range nodes {
		e = append(e, Endpoint{Node: n.name, Addr: n.addr})
	}
	return e
}

// generator returns a generator for c with what a test does not care about
// filled in, and where it records.
func generator(t *testing.T, c Config) (*Generator, *recorder) {
	t.Helper()
	rec := &recorder{}
	c.Codec, c.Tag, c.Workload = testCodec{}, "7f3a", testWorkload(t)
	c.Now = clock()
	if c.Record == nil {
		c.Record = rec.record
	}
	if c.Timeout == 0 {
		c.Timeout = 300 * time.Millisecond
	}
	if c.Duration == 0 {
		c.Duration = 300 * time.Millisecond
	}
	if c.Arrivals == nil && c.Clients == 0 {
		c.Arrivals = Constant(200)
	}
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g, rec
}

// runAll runs a generator and checks what holds whatever the system does.
func runAll(t *testing.T, ctx context.Context, g *Generator, rec *recorder) Result {
	t.Helper()
	type outcome struct {
		r   Result
		err error
	}
	ended := make(chan outcome, 1)
	go func() {
		r, err := g.Run(ctx)
		ended <- outcome{r, err}
	}()
	var o outcome
	select {
	case o = <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("Run did not end within 30 s")
	}
	if o.err != nil {
		t.Fatal(o.err)
	}
	byPhase := map[history.Phase]int64{}
	byN := map[int64]*history.Op{}
	for i := range rec.ops {
		op := &rec.ops[i]
		byPhase[op.Phase]++
		if byN[op.N] != nil {
			t.Fatalf("op %d recorded twice", op.N)
		}
		byN[op.N] = op
		if want := opID("7f3a", op.Phase, op.N); op.ID != want {
			t.Fatalf("id %s, want %s", op.ID, want)
		}
		if op.Outcome == history.Unsent {
			if op.Sent != 0 || op.Returned != 0 || op.Attempts != 0 || op.Error == "" {
				t.Fatalf("unsent op has traces of a sending or no reason: %+v", op)
			}
			continue
		}
		if op.Scheduled > op.Sent || op.Sent > op.Returned || op.Attempts < 1 {
			t.Fatalf("times out of order, or no attempt: %+v", op)
		}
		if over := op.Returned - op.Sent - g.c.Timeout; over > 2*time.Second {
			t.Fatalf("op returned %v after its timeout: %+v", over, op)
		}
		if (op.Error == "") != (op.Outcome == history.OK) {
			t.Fatalf("outcome and error disagree: %+v", op)
		}
		if op.Outcome != history.OK && (op.Result != nil || op.Version != -1) {
			t.Fatalf("a result without ok: %+v", op)
		}
	}
	var sum int64
	for _, phase := range []history.Phase{history.Warmup, history.Load} {
		sum += o.r.Scheduled[phase]
		if byPhase[phase] != o.r.Scheduled[phase] {
			t.Fatalf("identity: phase %s scheduled %d, recorded %d", phase, o.r.Scheduled[phase], byPhase[phase])
		}
	}
	if int64(len(rec.ops)) != sum {
		t.Fatalf("%d ops recorded, %d scheduled", len(rec.ops), sum)
	}
	w := testWorkload(t)
	for n := range sum {
		if byN[n] == nil {
			t.Fatalf("op %d was not recorded", n)
		}
		if want := w.Next(); byN[n].Key != want.Key || byN[n].Name != want.Name || string(byN[n].Args) != string(want.Args) {
			t.Fatalf("op %d is %+v, want %+v", n, byN[n], want)
		}
	}
	if s := g.Stats(); s.InFlight != 0 || s.OK+s.Fail+s.Info+s.Unsent != sum {
		t.Fatalf("stats after the run: %+v, scheduled %d", s, sum)
	}
	return o.r
}
