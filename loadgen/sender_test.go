package loadgen

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"statequake/history"
)

// script answers an op id's nth request with its nth entry, then with the last.
func script(answers ...answerFunc) answerFunc {
	return func(c net.Conn, id string, nth int) bool {
		return answers[min(nth, len(answers))-1](c, id, nth)
	}
}

// sendOne sends one operation in so many copies over the wire of a driver and
// returns what was recorded.
func sendOne(t *testing.T, driver string, legs, retries int, timeout time.Duration, e ...Endpoint) history.Op {
	t.Helper()
	var got history.Op
	s := target{endpoints: e, codec: testCodec{}, timeout: timeout, tag: "a", now: clock(),
		record: func(op *history.Op) { got = *op }, maxBody: 1000}.sender(2)
	if driver == "vegeta" {
		s.wire = newNetHTTP(e, 2, 1000)
	}
	defer s.wire.close()
	s.retries = retries
	f := &flight{op: history.Op{ID: "a-l1", Phase: history.Load, Entity: "counter", Key: "k.1", Name: "add", Args: []byte(`{"n":1}`)},
		expires: time.Hour, legs: legs}
	done := make(chan struct{})
	for leg := range legs {
		go func() {
			if s.send(context.Background(), f, leg, leg) {
				close(done)
			}
		}()
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the operation did not end within 20 s")
	}
	return got
}

func TestRetries(t *testing.T) { eachDriver(t, testRetries) }

func testRetries(t *testing.T, driver string) {
	for _, c := range []struct {
		name     string
		retries  int
		answers  []answerFunc
		outcome  history.Outcome
		attempts int
		err      string
	}{
		{"ok", 3, []answerFunc{okAnswer}, history.OK, 1, ""},
		{"reset, then ok", 3, []answerFunc{resetAnswer, okAnswer}, history.OK, 2, ""},
		{"resets use up the retries", 3, []answerFunc{resetAnswer}, history.Info, 4, "n1: answer: connection"},
		{"no retry wanted after a reset", 0, []answerFunc{resetAnswer, okAnswer}, history.Info, 1, "n1: answer: connection"},
		{"closed without an answer", 0, []answerFunc{closeAnswer, okAnswer}, history.Info, 1, "n1: answer: connection closed by the system"},
		{"unknown effect, then ok", 3, []answerFunc{unknownAnswer, okAnswer}, history.OK, 2, ""},
		{"unknown effect", 1, []answerFunc{unknownAnswer}, history.Info, 2, "deadline"},
		{"no effect, then ok", 3, []answerFunc{noneAnswer, noneAnswer, okAnswer}, history.OK, 3, ""},
		{"no effect, always", 1, []answerFunc{noneAnswer}, history.Fail, 3, "draining"},
		{"no effect, no retry wanted", 0, []answerFunc{noneAnswer, okAnswer}, history.Fail, 1, "draining"},
		{"bad request is not sent again", 3, []answerFunc{badAnswer, okAnswer}, history.Fail, 1, "bad request"},
		{"a doubt stays after a refusal", 3, []answerFunc{resetAnswer, badAnswer}, history.Info, 2, "; then bad request"},
		{"unknown effect stays after a refusal", 3, []answerFunc{unknownAnswer, badAnswer}, history.Info, 2, "deadline; then bad request"},
		{"garbage", 0, []answerFunc{func(c net.Conn, _ string, _ int) bool { c.Write([]byte("hello\r\n")); return false }}, history.Info, 1, `n1: answer: not HTTP/1: "hello"`},
		{"huge", 0, []answerFunc{respond(200, strings.Repeat("x", 1001))}, history.Info, 1, "n1: answer: body over the limit of 1000 bytes"},
		{"not JSON", 0, []answerFunc{respond(200, "<html>")}, history.Info, 1, "n1: status 200"},
		{"never", 3, []answerFunc{silentAnswer}, history.Info, 1, "n1: answer: timed out"},
	} {
		if c.name == "garbage" && driver == "vegeta" {
			c.err = `n1: answer: malformed HTTP response "hello"`
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, "n1", script(c.answers...))
			timeout := 5 * time.Second
			if c.name == "never" {
				timeout = time.Second
			}
			op := sendOne(t, driver, 1, c.retries, timeout, endpoints(n)...)
			if op.Outcome != c.outcome || op.Attempts != c.attempts || !strings.Contains(op.Error, c.err) || (c.err == "") != (op.Error == "") {
				t.Errorf("got %s after %d attempts, %q; want %s after %d, %q", op.Outcome, op.Attempts, op.Error, c.outcome, c.attempts, c.err)
			}
			if got := n.requests("a-l1"); got != c.attempts {
				t.Errorf("the system saw %d requests, want %d with the same id", got, c.attempts)
			}
			if op.Outcome == history.OK && (string(op.Result) != `{"value":1}` || op.Version != 1 || op.Digest != "00000000000000aa" || op.Epoch != 7 || op.Node != "n2" || op.Via != "n1") {
				t.Errorf("answer: %+v", op)
			}
		})
	}
}

func TestRefusedConnections(t *testing.T) { eachDriver(t, testRefusedConnections) }

func testRefusedConnections(t *testing.T, driver string) {
	t.Run("the next endpoint at once", func(t *testing.T) {
		n := startNode(t, "n2", okAnswer)
		op := sendOne(t, driver, 1, 0, 5*time.Second, Endpoint{Node: "n1", Addr: deadAddr(t)}, Endpoint{Node: "n2", Addr: n.addr})
		if op.Outcome != history.OK || op.Attempts != 2 || op.Via != "n2" {
			t.Errorf("got %+v", op)
		}
	})
	t.Run("everywhere until the timeout", func(t *testing.T) {
		const timeout = 400 * time.Millisecond
		op := sendOne(t, driver, 1, 0, timeout, Endpoint{Node: "n1", Addr: deadAddr(t)}, Endpoint{Node: "n2", Addr: deadAddr(t)})
		if op.Outcome != history.Fail || !strings.Contains(op.Error, "connect: connection refused") {
			t.Errorf("got %+v", op)
		}
		// Pauses of 20, 40, 80, 160 ms, two attempts before each and two after.
		if op.Attempts < 4 || op.Attempts > 10 || op.Returned-op.Sent < timeout/2 {
			t.Errorf("%d attempts in %v", op.Attempts, op.Returned-op.Sent)
		}
	})
	t.Run("until the system is back", func(t *testing.T) {
		n := startNode(t, "n1", okAnswer)
		n.down()
		go func() {
			time.Sleep(150 * time.Millisecond)
			n.up(t, n.addr)
		}()
		op := sendOne(t, driver, 1, 0, 10*time.Second, endpoints(n)...)
		if op.Outcome != history.OK || op.Attempts < 2 || op.Returned-op.Sent < 100*time.Millisecond {
			t.Errorf("got %+v", op)
		}
	})
	t.Run("a doubt stays", func(t *testing.T) {
		n := startNode(t, "n1", nil)
		n.answer = func(c net.Conn, _ string, _ int) bool { n.down(); return false }
		op := sendOne(t, driver, 1, 3, 400*time.Millisecond, endpoints(n)...)
		if op.Outcome != history.Info || op.Attempts < 2 || !strings.Contains(op.Error, "; then n1: connect: connection refused") {
			t.Errorf("got %+v", op)
		}
	})
}

func TestDuplicates(t *testing.T) { eachDriver(t, testDuplicates) }

func testDuplicates(t *testing.T, driver string) {
	slow := func(d time.Duration, then answerFunc) answerFunc {
		return func(c net.Conn, id string, nth int) bool { time.Sleep(d); return then(c, id, nth) }
	}
	for _, c := range []struct {
		name          string
		first, second answerFunc
		outcome       history.Outcome
		via           string
	}{
		{"both ok, first is faster", okAnswer, slow(300*time.Millisecond, okAnswer), history.OK, "n1"},
		{"both ok, second is faster", slow(300*time.Millisecond, okAnswer), okAnswer, history.OK, "n2"},
		{"ok beats a later doubt", okAnswer, slow(100*time.Millisecond, resetAnswer), history.OK, "n1"},
		{"ok beats an earlier doubt", slow(100*time.Millisecond, okAnswer), resetAnswer, history.OK, "n1"},
		{"a doubt beats a later refusal", resetAnswer, slow(100*time.Millisecond, badAnswer), history.Info, "n1"},
		{"a doubt beats an earlier refusal", slow(100*time.Millisecond, resetAnswer), badAnswer, history.Info, "n1"},
		{"both refused", badAnswer, badAnswer, history.Fail, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := startNode(t, "n1", c.first), startNode(t, "n2", c.second)
			op := sendOne(t, driver, 2, 0, 5*time.Second, endpoints(a, b)...)
			if op.Outcome != c.outcome || op.Attempts != 2 || (c.via != "" && op.Via != c.via) {
				t.Errorf("got %+v", op)
			}
			if a.requests("a-l1") != 1 || b.requests("a-l1") != 1 {
				t.Errorf("n1 saw %d requests, n2 %d, want one each", a.requests("a-l1"), b.requests("a-l1"))
			}
			if strings.HasPrefix(c.name, "both ok") && op.Latency() > 250*time.Millisecond {
				t.Errorf("latency %v is that of the slower copy", op.Latency())
			}
		})
	}
}

func TestOwnerRoute(t *testing.T) {
	o := newOwners([]Endpoint{{Node: "n1", Addr: "a:1"}, {Node: "n2", Addr: "b:1"}})
	if got := o.route("cart", "cart-1.1", 0); got != 0 {
		t.Errorf("unknown owner: %d, want the spread route", got)
	}
	o.learn(&history.Op{Entity: "cart", Key: "cart-1.1", Node: "n2"})
	o.learn(&history.Op{Entity: "cart", Key: "cart-1.1", Node: "n9"}) // none of ours
	if got := o.route("cart", "cart-1.1", 0); got != 1 {
		t.Errorf("owner n2: route %d, want 1", got)
	}
	if got := o.route("cart", "cart-1.2", 0); got != 0 {
		t.Errorf("another generation: %d, want the spread route", got)
	}
}
