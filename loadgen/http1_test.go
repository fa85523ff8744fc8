package loadgen

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func readAnswer(method string, src io.Reader, bodyLimit int) (int, string, bool, error) {
	a := answerReader{src: src, buf: make([]byte, 64), bodyLimit: bodyLimit}
	status, body, keep, err := a.read(method)
	return status, string(body), keep, err
}

func TestAnswers(t *testing.T) {
	long := strings.Repeat("x", headerLimit)
	for _, c := range []struct {
		name, in string
		status   int
		body     string
		keep     bool
		err      string // part of the error, "" for none
	}{
		{"plain", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true, ""},
		{"no reason", "HTTP/1.1 200\r\ncontent-length:5\r\n\r\nhello", 200, "hello", true, ""},
		{"bare line feeds", "HTTP/1.1 200 OK\ncontent-LENGTH: \t5 \n\nhello", 200, "hello", true, ""},
		{"empty body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", true, ""},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", true, ""},
		{"same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", true, ""},
		{"close", "HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", false, ""},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", false, ""},
		{"until close", "HTTP/1.1 200 OK\r\n\r\nhello", 200, "hello", false, ""},
		{"interim answers", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", 503, "no", true, ""},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nTrailer: x\r\n\r\n", 200, "hello", true, ""},
		{"chunked and length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 200, "hi", false, ""},
		{"more than the answer", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n", 200, "hi", false, ""},
		{"long body at the limit", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + long[:100], 200, long[:100], true, ""},

		{"nothing", "", 0, "", false, "EOF"},
		{"garbage", "\x00\x01\x02\xff\r\n\r\n", 0, "", false, `not HTTP/1: "\x00\x01\x02\xff"`},
		{"other protocol", "SSH-2.0-OpenSSH_9.6\r\n", 0, "", false, "not HTTP/1"},
		{"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", 0, "", false, "not HTTP/1"},
		{"status of two digits", "HTTP/1.1 20 OK\r\n\r\n", 0, "", false, "not HTTP/1"},
		{"status of four digits", "HTTP/1.1 2000\r\n\r\n", 0, "", false, "not HTTP/1"},
		{"status 999", "HTTP/1.1 999 X\r\n\r\n", 0, "", false, "not HTTP/1"},
		{"upgrade", "HTTP/1.1 101 Switching Protocols\r\n\r\n", 0, "", false, "switches protocols"},
		{"ends in status line", "HTTP/1.1 20", 0, "", false, "EOF"},
		{"ends in header", "HTTP/1.1 200 OK\r\nContent-Le", 0, "", false, "EOF"},
		{"ends in body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 0, "", false, "EOF"},
		{"ends in chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", 0, "", false, "EOF"},
		{"ends before last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", 0, "", false, "EOF"},
		{"ends in trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n", 0, "", false, "EOF"},
		{"no colon", "HTTP/1.1 200 OK\r\nhello\r\n\r\n", 0, "", false, "bad header line"},
		{"folded header", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", 0, "", false, "bad header line"},
		{"space before colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", 0, "", false, "bad header line"},
		{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", 0, "", false, "bad Content-Length"},
		{"signed length", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", 0, "", false, "bad Content-Length"},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 0, "", false, "bad Content-Length"},
		{"length overflows", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", 0, "", false, "bad Content-Length"},
		{"gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 0, "", false, "unknown Transfer-Encoding"},
		{"chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", false, "unknown Transfer-Encoding"},
		{"bad chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 0, "", false, "bad chunk size"},
		{"negative chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 0, "", false, "bad chunk size"},
		{"chunk too long", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n", 0, "", false, "chunk longer than its size"},
		{"endless chunk line", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;" + long, 0, "", false, "chunk line over the limit of 4096 bytes"},
		{"long body", "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", 0, "", false, "body over the limit of 100 bytes"},
		{"largest length", "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n", 0, "", false, "body over the limit"},
		{"long chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n60\r\n" + long[:96] + "\r\n5\r\nhello\r\n0\r\n\r\n", 0, "", false, "body over the limit"},
		{"largest chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n", 0, "", false, "body over the limit"},
		{"long until close", "HTTP/1.1 200 OK\r\n\r\n" + long, 0, "", false, "body over the limit"},
		{"long status line", "HTTP/1.1 200 " + long, 0, "", false, "header over the limit of 65536 bytes"},
		{"long header", "HTTP/1.1 200 OK\r\nX: " + long + "\r\n\r\n", 0, "", false, "header over the limit"},
		{"many headers", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 20_000), 0, "", false, "header over the limit"},
		{"endless interim answers", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10_000), 0, "", false, "header over the limit"},
		{"many trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X: y\r\n", 20_000), 0, "", false, "header over the limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for how, src := range map[string]io.Reader{
				"at once": strings.NewReader(c.in), "by the byte": iotest.OneByteReader(strings.NewReader(c.in)),
			} {
				status, body, keep, err := readAnswer("POST", src, 100)
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) {
						t.Errorf("%s: got %v, want error %q", how, err, c.err)
					}
					continue
				}
				// By the byte, what follows the answer has not arrived yet.
				wantKeep := c.keep || (c.name == "more than the answer" && how == "by the byte")
				if err != nil || status != c.status || body != c.body || keep != wantKeep {
					t.Errorf("%s: got %d %q keep %v, %v; want %d %q keep %v", how, status, body, keep, err, c.status, c.body, wantKeep)
				}
			}
		})
	}
}

func TestHeadHasNoBody(t *testing.T) {
	status, body, keep, err := readAnswer("HEAD", strings.NewReader("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), 100)
	if status != 200 || body != "" || !keep || err != nil {
		t.Errorf("got %d %q keep %v, %v", status, body, keep, err)
	}
}

// FuzzAnswer compares with net/http where both find an answer, and checks the
// limits everywhere.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 200 OK\r\n\r\nto the end"))
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 1000
		status, body, _, err := readAnswer("POST", bytes.NewReader(in), limit)
		if err != nil {
			return
		}
		if len(body) > limit || status < 200 || status > 599 {
			t.Fatalf("status %d, body of %d bytes", status, len(body))
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in)), &http.Request{Method: "POST"})
		if err != nil || resp.StatusCode < 200 {
			return // stricter than we are, or an interim answer
		}
		want, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != status || string(want) != body) {
			t.Fatalf("got %d %q, net/http %d %q", status, body, resp.StatusCode, want)
		}
	})
}

func TestRequestOnTheWire(t *testing.T) {
	type seen struct {
		method, path, host, op, kind, body string
		length                             int64
	}
	requests := make(chan seen, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		requests <- seen{r.Method, r.URL.Path, r.Host, r.Header.Get("Statequake-Op"), r.Header.Get("Content-Type"), string(b), r.ContentLength}
		io.WriteString(w, `{"result":{}}`)
	}))
	defer srv.Close()
	addr := srv.Listener.Addr().String()
	c, err := dial(Endpoint{Addr: addr}, time.Now().Add(5*time.Second), 100)
	if err != nil {
		t.Fatal(err)
	}
	defer c.net.Close()
	for i, body := range []string{`{"n":1}`, ""} {
		want := seen{"POST", "/v1/entities/counter/counter-1.1/add", addr, "7f3a-l1", "application/json", body, int64(len(body))}
		if body == "" {
			want.kind = ""
		}
		status, answer, sent, err := c.exchange(addr, request{method: "POST", path: want.path, id: "7f3a-l1", body: []byte(body)})
		if err != nil || status != 200 || !sent || string(answer) != `{"result":{}}` || c.done {
			t.Fatalf("exchange %d: %d %q sent %v done %v, %v", i, status, answer, sent, c.done, err)
		}
		if got := <-requests; got != want {
			t.Errorf("exchange %d: got %+v, want %+v", i, got, want)
		}
	}
}

// A connection that the server closed while it was idle, and not only for a
// moment, is found out before anything is sent on it.
func TestIdleConnectionClosedByServer(t *testing.T) {
	node := startNode(t, "n1", okAnswer)
	pool := newConns(endpoints(node), 1, 0)
	defer pool.close()
	deadline := func() time.Time { return time.Now().Add(5 * time.Second) }
	use := func() *conn {
		c, err := pool.get(0, 0, time.Now(), deadline())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := c.exchange(node.addr, request{method: "POST", path: "/x", id: "a-l1"}); err != nil {
			t.Fatal(err)
		}
		pool.put(0, 0, c)
		return c
	}
	first := use()
	if second := use(); second != first {
		t.Error("a live idle connection was not used again")
	}
	addr := node.addr
	node.down()
	for limit := deadline(); first.quiet(); {
		if time.Now().After(limit) {
			t.Fatal("the end of the connection did not arrive within 5 s")
		}
	}
	node.up(t, addr)
	first.idle = time.Now().Add(-idleTrust)
	if third := use(); third == first {
		t.Error("a dead connection was used again")
	}
	if pool.open.Load() != 1 {
		t.Errorf("%d connections counted as open, want 1", pool.open.Load())
	}
}

// A connection that the server closed a moment ago is not looked at: the request
// may have been seen, whatever the truth is, unless the kernel knew better.
func TestConnectionClosedAMomentAgo(t *testing.T) {
	node := startNode(t, "n1", okAnswer)
	pool := newConns(endpoints(node), 1, 0)
	defer pool.close()
	r := request{method: "POST", path: "/x", id: "a-l1"}
	deadline := time.Now().Add(5 * time.Second)
	if _, _, _, err := pool.exchange(0, time.Now(), deadline, r); err != nil {
		t.Fatal(err)
	}
	node.down()
	c := pool.shards[0].idle[0][0]
	for c.quiet() {
		if time.Now().After(deadline) {
			t.Fatal("the end of the connection did not arrive within 5 s")
		}
	}
	c.idle = time.Now()
	status, _, sent, err := pool.exchange(0, c.idle, deadline, r)
	if err == nil {
		t.Errorf("status %d over a dead connection", status)
	}
	if node.requests("a-l1") != 1 {
		t.Errorf("the system saw %d requests, sent %v", node.requests("a-l1"), sent)
	}
	if !strings.HasPrefix(fmt.Sprint(err), map[bool]string{true: "answer: ", false: "send: "}[sent]) {
		t.Errorf("sent %v, %v", sent, err)
	}
	if pool.open.Load() != 0 {
		t.Errorf("%d connections open, want none", pool.open.Load())
	}
}

// The connection is told a deadline now and then only; every exchange keeps its
// own.
func TestDeadlines(t *testing.T) {
	answers := make(chan struct{}, 3)
	defer close(answers)
	answers <- struct{}{}
	node := startNode(t, "n1", func(c net.Conn, id string, nth int) bool {
		<-answers
		return okAnswer(c, id, nth)
	})
	pool := newConns(endpoints(node), 1, 0)
	defer pool.close()
	ask := func(within time.Duration) error {
		now := time.Now()
		_, _, _, err := pool.exchange(0, now, now.Add(within), request{method: "POST", path: "/x", id: "a-l1"})
		return err
	}
	if err := ask(300 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	c := pool.shards[0].idle[0][0]
	told := c.armed
	go func() {
		time.Sleep(400 * time.Millisecond) // until after what the connection was told
		answers <- struct{}{}
	}()
	if err := ask(10 * time.Second); err != nil {
		t.Errorf("the deadline of an earlier exchange ended this one: %v", err)
	}
	if !c.armed.After(told) {
		t.Error("the connection was answered after its deadline and told no other one")
	}
	c.deadline = time.Now().Add(-time.Second) // an exchange long ago
	if err := c.arm(); err != nil {
		t.Fatal(err)
	}
	answers <- struct{}{}
	if err := ask(10 * time.Second); err != nil {
		t.Errorf("the deadline that was over before the request ended it: %v", err)
	}
	c.deadline = time.Now().Add(time.Hour)
	if err := c.arm(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := ask(200 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "timed out") || time.Since(began) > 5*time.Second {
		t.Errorf("an earlier deadline than what the connection was told: %v after %v", err, time.Since(began))
	}
}

// A request that the socket does not take at once arrives whole.
func TestLongRequest(t *testing.T) {
	node := startNode(t, "n1", okAnswer)
	pool := newConns(endpoints(node), 1, 0)
	defer pool.close()
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	for i := range 2 {
		id := fmt.Sprintf("a-l%d", i)
		now := time.Now()
		status, _, sent, err := pool.exchange(0, now, now.Add(20*time.Second), request{method: "POST", path: "/x", id: id, body: body})
		if err != nil || status != 200 || !sent {
			t.Fatalf("status %d, sent %v, %v", status, sent, err)
		}
		node.mu.Lock()
		if got := node.bodies[id]; got != "POST /x "+string(body) {
			t.Errorf("%d bytes of %d arrived", len(got), len(body))
		}
		node.mu.Unlock()
	}
}

// Many endpoints share the limit: the pool closes idle connections to others.
func TestPoolEvicts(t *testing.T) {
	a, b := startNode(t, "n1", okAnswer), startNode(t, "n2", okAnswer)
	pool := newConns(endpoints(a, b), 2, 0)
	deadline := time.Now().Add(5 * time.Second)
	for round := range 3 {
		for endpoint := range 2 {
			var held []*conn
			for range 2 {
				c, err := pool.get(0, endpoint, time.Now(), deadline)
				if err != nil {
					t.Fatal(err)
				}
				held = append(held, c)
			}
			if pool.open.Load() > 2 {
				t.Fatalf("round %d: %d connections open, limit 2", round, pool.open.Load())
			}
			for _, c := range held {
				pool.put(0, endpoint, c)
			}
		}
	}
	pool.close()
	if pool.open.Load() != 0 {
		t.Errorf("%d connections open after close", pool.open.Load())
	}
}

// A request makes no garbage but its answer, which is the caller's.
func TestExchangeAllocatesTheAnswer(t *testing.T) {
	pool := newConns([]Endpoint{{Node: "n1", Addr: benchServer(t)}}, 1, 0)
	defer pool.close()
	r := request{method: "POST", path: "/v1/entities/cart/cart-1.1/add", id: "7f3a-l1", body: []byte(benchBody)}
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		if _, _, _, err := pool.exchange(0, now, now.Add(20*time.Second), r); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations for a request, want 1", n)
	}
}

const benchBody = `{"item":"sku-17","quantity":1}`

// benchServer answers every request that ends in benchBody, and allocates nothing.
func benchServer(b testing.TB) string {
	const body = `{"result":{"value":1},"version":1,"digest":"00000000000000aa","epoch":7,"node":"n2"}`
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf, n := make([]byte, 4096), 0
				for {
					k, err := c.Read(buf[n:])
					if err != nil {
						return
					}
					if n += k; bytes.HasSuffix(buf[:n], []byte(benchBody)) {
						c.Write(answer)
						n = 0
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// The server is in the same process; what it costs is in both benchmarks.
func BenchmarkExchange(b *testing.B) {
	addr := benchServer(b)
	pool := newConns([]Endpoint{{Node: "n1", Addr: addr}}, 1, 0)
	r := request{method: "POST", path: "/v1/entities/cart/cart-1.1/add", id: "7f3a-l1", body: []byte(benchBody)}
	b.ReportAllocs()
	for b.Loop() {
		c, err := pool.get(0, 0, time.Now(), time.Now().Add(5*time.Second))
		if err != nil {
			b.Fatal(err)
		}
		if _, _, _, err := c.exchange(addr, r); err != nil {
			b.Fatal(err)
		}
		pool.put(0, 0, c)
	}
}

func BenchmarkNetHTTP(b *testing.B) {
	url := fmt.Sprintf("http://%s/v1/entities/cart/cart-1.1/add", benchServer(b))
	body := []byte(benchBody)
	client := &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequest("POST", url, bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Statequake-Op", "7f3a-l1")
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
