package loadgen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"statequake/history"
)

// Whatever the system does, every operation that was due is recorded once, and
// what is recorded as fail was not executed.
func TestIdentityUnderUglyServers(t *testing.T) {
	raw := func(text string) answerFunc {
		return func(c net.Conn, _ string, _ int) bool { io.WriteString(c, text); return false }
	}
	// A machine that is busy elsewhere can turn any of them into info or unsent,
	// and those that need a short timeout into fail, too.
	noOK := func(c history.Counts) bool { return c.OK == 0 }
	someOK := func(c history.Counts) bool { return c.OK > 0 && c.Fail == 0 }
	someInfo := func(c history.Counts) bool { return c.Info > 0 && c.OK == 0 }
	someFail := func(c history.Counts) bool { return c.Fail > 0 && c.OK == 0 }
	all := func(c history.Counts) bool { return true }
	servers := map[string]struct {
		answer answerFunc
		want   func(history.Counts) bool // beside the identity
	}{
		"good":          {okAnswer, someOK},
		"chunked":       {chunkedAnswer, someOK},
		"garbage":       {raw("\x16\x03\x01garbage\n\n\n"), someInfo},
		"huge body":     {respond(200, strings.Repeat("x", 200_000)), someInfo},
		"huge promise":  {raw("HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n"), someInfo},
		"endless":       {endlessAnswer, someInfo},
		"never answers": {silentAnswer, noOK},
		"mid-body":      {raw("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"resu"), someInfo},
		"resets":        {resetAnswer, someInfo},
		"closes":        {closeAnswer, someInfo},
		"trickles":      {trickleAnswer, noOK},
		"slow": {func(c net.Conn, id string, nth int) bool {
			time.Sleep(50 * time.Millisecond)
			return okAnswer(c, id, nth)
		},
			someOK},
		"overloaded":   {noneAnswer, someFail},
		"unknown":      {unknownAnswer, someInfo},
		"bad request":  {badAnswer, someFail},
		"refuses":      {nil, func(c history.Counts) bool { return c.OK+c.Info == 0 }},
		"down and up":  {okAnswer, func(c history.Counts) bool { return c.OK > 0 }},
		"everything":   {nil, all},
		"ok and close": {func(c net.Conn, id string, nth int) bool { okAnswer(c, id, nth); return false }, func(c history.Counts) bool { return c.OK > 0 }},
	}
	var mixed []answerFunc
	for name, s := range servers {
		if s.answer != nil && name != "overloaded" && name != "bad request" {
			mixed = append(mixed, s.answer)
		}
	}
	for name, s := range servers {
		for _, mode := range []string{"open", "closed", "few connections", "vegeta", "vegeta, few connections"} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				var executed sync.Map
				var asked atomic.Int64
				node := func(nodeName string) *fakeNode {
					return startNode(t, nodeName, func(c net.Conn, id string, nth int) bool {
						answer := s.answer
						if name == "everything" {
							answer = mixed[asked.Add(1)%int64(len(mixed))]
							// It answers without effect only to ids that it never executes.
							executed.Store(id, true)
							if id[len(id)-1]%2 == 0 {
								executed.Delete(id)
								answer = noneAnswer
							}
						} else if name != "overloaded" && name != "bad request" {
							executed.Store(id, true)
						}
						return answer(c, id, nth)
					})
				}
				a, b := node("n1"), node("n2")
				c := Config{
					Endpoints: endpoints(a, b), MaxBody: 100_000, Arrivals: Constant(400),
					Warmup: 50 * time.Millisecond, Duration: 150 * time.Millisecond, Timeout: 2 * time.Second,
					Retry: Retry{Max: 1, Duplicate: 0.2}, Route: "owner",
				}
				switch mode {
				case "closed":
					c.Clients, c.Arrivals = 4, nil
				case "few connections":
					c.MaxConns = 3
				case "vegeta":
					c.Driver = "vegeta"
				case "vegeta, few connections":
					c.Driver, c.MaxConns = "vegeta", 3
				}
				switch name {
				case "never answers", "trickles", "refuses", "everything":
					c.Timeout = 200 * time.Millisecond
				}
				switch name {
				case "refuses":
					a.down()
					b.down()
				case "down and up":
					a.down()
					b.down()
					go func() {
						time.Sleep(100 * time.Millisecond)
						a.up(t, a.addr)
						b.up(t, b.addr)
					}()
				}
				g, rec := generator(t, c)
				r := runAll(t, context.Background(), g, rec)
				if r.Stopped != "" {
					t.Errorf("stopped: %s", r.Stopped)
				}
				if c.Clients == 0 && (r.Scheduled[history.Warmup] != 20 || r.Scheduled[history.Load] != 60) {
					t.Errorf("scheduled %v, want 20 and 60", r.Scheduled)
				}
				counts := rec.counts()
				if counts.Total() == 0 || !s.want(counts) && !(c.MaxConns == 3 && counts.Unsent > 0) {
					t.Errorf("outcomes %+v, such as %+v", counts, rec.ops[:1])
				}
				if mode == "closed" && counts.Unsent > 0 {
					t.Errorf("a closed loop left operations unsent: %+v", counts)
				}
				for i := range rec.ops {
					op := &rec.ops[i]
					_, done := executed.Load(op.ID)
					if done && (op.Outcome == history.Fail || op.Outcome == history.Unsent) {
						t.Errorf("executed, but recorded as %s: %+v", op.Outcome, op)
					}
				}
			})
		}
	}
}

func chunkedAnswer(c net.Conn, _ string, _ int) bool {
	body := `{"result":{"value":1},"version":1,"digest":"00000000000000aa","epoch":7,"node":"n2"}`
	_, err := fmt.Fprintf(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n",
		10, body[:10], len(body)-10, body[10:])
	return err == nil
}

func endlessAnswer(c net.Conn, _ string, _ int) bool {
	io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 10_000, strings.Repeat("x", 10_000))
	for {
		if _, err := io.WriteString(c, chunk); err != nil {
			return false
		}
	}
}

func trickleAnswer(c net.Conn, _ string, _ int) bool {
	io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
	for {
		time.Sleep(5 * time.Millisecond)
		if _, err := io.WriteString(c, "x"); err != nil {
			return false
		}
	}
}

func TestStop(t *testing.T) {
	for name, answer := range map[string]answerFunc{"good": okAnswer, "silent": silentAnswer, "resets": resetAnswer, "refuses": nil} {
		for _, mode := range []string{
			"open", "closed", "one connection", "before the start", "slow",
			"vegeta", "vegeta, one connection", "vegeta, before the start", "vegeta, slow",
		} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				node := startNode(t, "n1", answer)
				if answer == nil {
					node.down()
				}
				c := Config{Endpoints: endpoints(node), Duration: time.Hour, Retry: Retry{Max: 1000, Duplicate: 0.5}}
				mode, vegeta := strings.CutPrefix(mode, "vegeta, ")
				if vegeta || mode == "vegeta" {
					c.Driver = "vegeta"
				}
				switch mode {
				case "closed":
					c.Clients = 3
				case "slow":
					c.Arrivals = Constant(0.1)
				case "one connection":
					c.MaxConns, c.Timeout = 1, 3*time.Second // much longer than it may take to notice the stop
				case "before the start":
					c.Start = time.Hour
				}
				g, rec := generator(t, c)
				ctx, cancel := context.WithCancelCause(context.Background())
				go func() {
					time.Sleep(200 * time.Millisecond)
					cancel(errors.New("interrupted"))
				}()
				began := g.c.Now()
				r := runAll(t, ctx, g, rec)
				if took := g.c.Now() - began; took > 5*time.Second {
					t.Errorf("Run took %v after being stopped at 200ms", took)
				}
				if !strings.HasPrefix(r.Stopped, "stopped at ") || !strings.HasSuffix(r.Stopped, " of 1h0m0s: interrupted") {
					t.Errorf("stopped: %q", r.Stopped)
				}
				switch n := r.Scheduled[history.Load]; {
				case mode == "before the start" && n != 0:
					t.Errorf("%d operations were due before the start", n)
				case mode == "slow" && n != 1:
					t.Errorf("%d operations were due in about 200 ms at 0.1/s", n)
				case (mode == "open" || mode == "vegeta" || mode == "one connection") && (n < 30 || n > 400):
					t.Errorf("%d operations were due in about 200 ms at 200/s", n)
				}
				if name == "silent" && mode == "one connection" && rec.counts().Unsent < 10 {
					t.Errorf("outcomes %+v: want what waited to be unsent", rec.counts())
				}
			})
		}
	}
}

// eachDriver runs an open loop test with every driver.
func eachDriver(t *testing.T, test func(t *testing.T, driver string)) {
	for _, driver := range []string{"http", "vegeta"} {
		t.Run(driver, func(t *testing.T) { test(t, driver) })
	}
}

// Operations that cannot get a connection wait, and end as unsent at their
// timeout or when a worker of vegeta is free, and not at the end of the load.
func TestQueueExpires(t *testing.T) { eachDriver(t, testQueueExpires) }

func testQueueExpires(t *testing.T, driver string) {
	var mu sync.Mutex
	var first time.Duration
	now := clock()
	rec := &recorder{}
	g, _ := generator(t, Config{
		Endpoints: endpoints(startNode(t, "n1", silentAnswer)), Driver: driver, MaxConns: 1, Duration: 1500 * time.Millisecond,
		Record: func(op *history.Op) {
			mu.Lock()
			if op.Outcome == history.Unsent && first == 0 {
				first = now()
			}
			mu.Unlock()
			rec.record(op)
		},
	})
	runAll(t, context.Background(), g, rec)
	if c := rec.counts(); c.Unsent < 200 || c.Info < 3 || c.OK+c.Fail > 0 {
		t.Errorf("outcomes %+v", c)
	}
	if first < 300*time.Millisecond || first > 1300*time.Millisecond {
		t.Errorf("the first unsent operation was recorded at %v, timeout 300ms, end of load 1.5s", first)
	}
}

// Coordinated omission: one stall of 1 s in 3 s delays a third of the operations
// by half a second on average. A client that stamps an operation when it sends
// it, over 10 connections, sees 10 slow ones in 3000: a p99 of milliseconds.
func TestLatencyCountsFromTheDueTime(t *testing.T) { eachDriver(t, testLatencyCountsFromTheDueTime) }

func testLatencyCountsFromTheDueTime(t *testing.T, driver string) {
	now := clock()
	var stall atomic.Bool
	node := startNode(t, "n1", func(c net.Conn, id string, nth int) bool {
		if at := now(); at > time.Second && at < 2*time.Second {
			stall.Store(true)
			time.Sleep(2*time.Second - at)
		}
		return okAnswer(c, id, nth)
	})
	g, rec := generator(t, Config{
		Endpoints: endpoints(node), Driver: driver, Arrivals: Constant(1000), Duration: 3 * time.Second, Timeout: 10 * time.Second, MaxConns: 10,
	})
	runAll(t, context.Background(), g, rec)
	if c := rec.counts(); c.OK != 3000 || !stall.Load() {
		t.Fatalf("outcomes %+v, stalled %v", c, stall.Load())
	}
	var due, sent []time.Duration
	for i := range rec.ops {
		due = append(due, rec.ops[i].Latency())
		sent = append(sent, rec.ops[i].Returned-rec.ops[i].Sent)
	}
	slices.Sort(due)
	slices.Sort(sent)
	if p99 := due[2970]; p99 < 300*time.Millisecond {
		t.Errorf("p99 of the latency is %v, want 300ms at least", p99)
	}
	if p90 := due[2700]; p90 < 300*time.Millisecond {
		t.Errorf("p90 of the latency is %v, want 300ms at least", p90)
	}
	if sent[2970] > due[2970]/2 {
		t.Errorf("p99 from the sending is %v: this test shows nothing", sent[2970])
	}
}

// A recorder or a system that blocks costs connections, not punctuality.
func TestPacerIsNotBlocked(t *testing.T) {
	release := make(chan struct{})
	rec := &recorder{}
	g, _ := generator(t, Config{
		Endpoints: endpoints(startNode(t, "n1", okAnswer)), Arrivals: Constant(500), Duration: time.Second, MaxConns: 20,
		Timeout: 10 * time.Second,
		Record:  func(op *history.Op) { <-release; rec.record(op) },
	})
	go func() {
		for limit := time.Now().Add(10 * time.Second); g.Stats().Dispatched < 500 && time.Now().Before(limit); {
			time.Sleep(10 * time.Millisecond)
		}
		if s := g.Stats(); s.Dispatched != 500 || s.LagP50 > 50*time.Millisecond || s.InFlight != 500-s.OK {
			t.Errorf("while Record blocks: %+v", s)
		}
		close(release)
	}()
	runAll(t, context.Background(), g, rec)
	if c := rec.counts(); c.OK != 500 {
		t.Errorf("outcomes %+v", c)
	}
}

func TestSpreadAndOwnerRoute(t *testing.T) { eachDriver(t, testSpreadAndOwnerRoute) }

func testSpreadAndOwnerRoute(t *testing.T, driver string) {
	var nodes []*fakeNode
	for i := range 3 {
		nodes = append(nodes, startNode(t, fmt.Sprintf("n%d", i+1), okAnswer)) // all say that n2 executed it
	}
	via := func(route string) map[string]int {
		g, rec := generator(t, Config{Endpoints: endpoints(nodes...), Driver: driver, Route: route, Arrivals: Constant(500), Duration: 600 * time.Millisecond, Timeout: 10 * time.Second})
		runAll(t, context.Background(), g, rec)
		n := map[string]int{}
		for _, op := range rec.ops {
			n[op.Via]++
		}
		return n
	}
	if got := via("spread"); got["n1"] != 100 || got["n2"] != 100 || got["n3"] != 100 {
		t.Errorf("spread: %v", got)
	}
	if got := via("owner"); got["n2"] < 200 {
		t.Errorf("owner is n2: %v", got)
	}
}

func TestStats(t *testing.T) { eachDriver(t, testStats) }

func testStats(t *testing.T, driver string) {
	g, rec := generator(t, Config{Driver: driver, Endpoints: endpoints(startNode(t, "n1", okAnswer)), Duration: 2500 * time.Millisecond, Timeout: 10 * time.Second})
	seen := make(chan Stats, 1)
	go func() {
		limit := time.Now().Add(20 * time.Second)
		for time.Now().Before(limit) {
			if s := g.Stats(); s.AchievedRate > 0 {
				seen <- s
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		seen <- g.Stats()
	}()
	runAll(t, context.Background(), g, rec)
	s := <-seen
	if s.AchievedRate < 100 || s.AchievedRate > 300 || s.P50 <= 0 || s.P99 < s.P50 || s.P99 > time.Second {
		t.Errorf("in the second second of 200/s: %+v", s)
	}
	if s = g.Stats(); s.OK != 500 || s.Dispatched != 500 || s.LagMax <= 0 || s.LagP99 < s.LagP50 || s.LagMax < s.LagP99 {
		t.Errorf("at the end: %+v", s)
	}
}

func TestStallIsSeen(t *testing.T) {
	var jump atomic.Int64
	var calls atomic.Int64
	real := clock()
	m := newMeter(func() time.Duration { calls.Add(1); return real() + time.Duration(jump.Load()) })
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { m.watch(done); close(ended) }()
	for calls.Load() == 0 { // what happens before the watch begins is no stall
		time.Sleep(time.Millisecond)
	}
	jump.Store(int64(time.Minute))
	for limit := time.Now().Add(10 * time.Second); m.stats().StallMax < 59*time.Second; {
		if time.Now().After(limit) {
			t.Fatalf("StallMax is %v after a stall of 1m", m.stats().StallMax)
		}
		time.Sleep(time.Millisecond)
	}
	close(done)
	<-ended
	if s := m.stats().StallMax; s > 65*time.Second {
		t.Errorf("StallMax is %v after a stall of 1m", s)
	}
}

// A stall may be the last thing that happens.
func TestStallAtTheEndIsSeen(t *testing.T) {
	for range 20 { // done and the tick are both ready: either may come first
		var calls atomic.Int64
		var now atomic.Int64
		m := newMeter(func() time.Duration { calls.Add(1); return time.Duration(now.Load()) })
		done, ended := make(chan struct{}), make(chan struct{})
		go func() { m.watch(done); close(ended) }()
		for calls.Load() == 0 {
			time.Sleep(10 * time.Microsecond)
		}
		now.Store(int64(500 * time.Millisecond))
		close(done)
		<-ended
		if s := m.stats().StallMax; s < 480*time.Millisecond {
			t.Fatalf("StallMax is %v after a stall of 500ms", s)
		}
	}
}

func TestClosedLoop(t *testing.T) {
	node := startNode(t, "n1", func(c net.Conn, id string, nth int) bool {
		time.Sleep(10 * time.Millisecond)
		return okAnswer(c, id, nth)
	})
	g, rec := generator(t, Config{Endpoints: endpoints(node), Clients: 5, Warmup: 200 * time.Millisecond, Duration: 400 * time.Millisecond})
	r := runAll(t, context.Background(), g, rec)
	if r.Scheduled[history.Warmup] < 5 || r.Scheduled[history.Load] < 10 || r.Scheduled[history.Warmup]+r.Scheduled[history.Load] > 5*61 {
		t.Errorf("scheduled %v in 600 ms with 5 clients and 10 ms per answer", r.Scheduled)
	}
	last := map[int]time.Duration{}
	slices.SortFunc(rec.ops, func(a, b history.Op) int { return int(a.N - b.N) })
	for _, op := range rec.ops {
		if op.Scheduled < last[op.Client] {
			t.Fatalf("client %d got op %d at %v, busy until %v", op.Client, op.N, op.Scheduled, last[op.Client])
		}
		last[op.Client] = op.Returned
		if (op.Scheduled < 200*time.Millisecond) != (op.Phase == history.Warmup) {
			t.Fatalf("phase %s at %v", op.Phase, op.Scheduled)
		}
	}
	if len(last) != 5 {
		t.Errorf("%d clients at work, want 5", len(last))
	}
}

func TestConfigErrors(t *testing.T) {
	good := Config{
		Endpoints: []Endpoint{{Node: "n1", Addr: "127.0.0.1:1"}}, Codec: testCodec{}, Workload: testWorkload(t), Arrivals: Constant(1),
		Duration: time.Second, Timeout: time.Second, Tag: "a", Now: clock(), Record: func(*history.Op) {},
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"endpoints: none given":                            func(c *Config) { c.Endpoints = nil },
		`endpoints[0]: "127.0.0.1" is not host:port`:       func(c *Config) { c.Endpoints = []Endpoint{{Node: "n1", Addr: "127.0.0.1"}} },
		`endpoints[0]: "a\r\nX: y:1" is not host:port`:     func(c *Config) { c.Endpoints = []Endpoint{{Node: "n1", Addr: "a\r\nX: y:1"}} },
		"codec, now and record must be set":                func(c *Config) { c.Codec = nil },
		"workload must be set":                             func(c *Config) { c.Workload = nil },
		"either arrivals or clients (have 2":               func(c *Config) { c.Clients = 2 },
		"either arrivals or clients (have 0":               func(c *Config) { c.Arrivals = nil },
		"arrivals: rate 0/s is not positive":               func(c *Config) { c.Arrivals = Constant(0) },
		"duration 0s must be positive":                     func(c *Config) { c.Duration = 0 },
		"warmup -1ns must not be negative":                 func(c *Config) { c.Warmup = -1 },
		"timeout: 0s is not positive":                      func(c *Config) { c.Timeout = 0 },
		"retry.max: -1 is outside":                         func(c *Config) { c.Retry.Max = -1 },
		"retry.duplicate: 1.5 is outside 0 to 1":           func(c *Config) { c.Retry.Duplicate = 1.5 },
		"workload: operations were taken from it already":  func(c *Config) { c.Workload = testWorkload(t); c.Workload.Next() },
		`unknown route "random"; have spread, owner`:       func(c *Config) { c.Route = "random" },
		`unknown driver "k6"; have http, vegeta`:           func(c *Config) { c.Driver = "k6" },
		"driver vegeta has no closed loop":                 func(c *Config) { c.Driver, c.Arrivals, c.Clients = "vegeta", nil, 1 },
		"max conns: -1 is negative":                        func(c *Config) { c.MaxConns = -1 },
		"max body: -1 is negative":                         func(c *Config) { c.MaxBody = -1 },
		`tag: "" is empty or not printable ASCII`:          func(c *Config) { c.Tag = "" },
		`tag: "a\r\nX: y" is empty or not printable ASCII`: func(c *Config) { c.Tag = "a\r\nX: y" },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	g, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := g.Run(done); err != nil {
		t.Error(err)
	}
	if _, err := g.Run(done); err == nil {
		t.Error("a second Run was accepted")
	}
}

// The codec is not trusted with the request line.
func TestPathThatWouldMeanSomethingElse(t *testing.T) {
	for path, want := range map[string]string{
		"/k HTTP/1.1\r\nX: y": "not printable ASCII",
		"//elsewhere/k":       "would be read as a host",
	} {
		n := startNode(t, "n1", okAnswer)
		s := target{endpoints: endpoints(n), codec: pathCodec{path: path}, timeout: time.Second, tag: "a", now: clock(), maxBody: 0}.sender(1)
		var got history.Op
		s.record = func(op *history.Op) { got = *op }
		s.send(context.Background(), &flight{op: history.Op{ID: "a-l1"}, expires: time.Hour, legs: 1}, 0, 0)
		if n.requests("a-l1") != 0 {
			t.Errorf("%q was sent", path)
		}
		if got.Outcome != history.Fail || !strings.Contains(got.Error, want) {
			t.Errorf("%q: got %+v", path, got)
		}
	}
}

// pathCodec asks for one path, whatever the operation.
type pathCodec struct {
	testCodec
	path string
}

func (c pathCodec) Request(*history.Op) (method, path string, header http.Header, body []byte) {
	return "GET", c.path, nil, nil
}
