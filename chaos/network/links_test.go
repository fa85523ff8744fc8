package network

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"statequake/history"
)

func openLinks(t testing.TB, hosts ...string) *Links {
	t.Helper()
	l, err := OpenLinks(hosts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *Links) mustApply(t *testing.T, e Effect, paths ...Path) (undo func()) {
	t.Helper()
	undo, err := l.Apply(paths, e, 42)
	if err != nil {
		t.Fatal(err)
	}
	return undo
}

// echo serves at the address that others reach a host by.
func echo(t testing.TB, l *Links, host string) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	return at(l, host, listener.Addr())
}

func at(l *Links, host string, addr net.Addr) string {
	return netip.AddrPortFrom(l.Addr(host), addr.(*net.TCPAddr).AddrPort().Port()).String()
}

// exchange sends a line and wants it back within a time.
func exchange(c net.Conn, text string, within time.Duration) error {
	c.SetDeadline(time.Now().Add(within))
	defer c.SetDeadline(time.Time{})
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != text {
		return fmt.Errorf("%q came back as %q", text, b)
	}
	return nil
}

// A proxy takes all that programs speak to proxies, and keeps to its hosts.
func TestProxies(t *testing.T) {
	l := openLinks(t, "a", "b")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s", r.Method, r.URL) }))
	defer server.Close()
	secure := httptest.NewTLSServer(server.Config.Handler)
	defer secure.Close()
	get := func(via, target string) (string, error) {
		u, err := url.Parse(via)
		if err != nil {
			t.Fatal(err)
		}
		transport := secure.Client().Transport.(*http.Transport).Clone()
		transport.Proxy = http.ProxyURL(u)
		transport.TLSClientConfig.ServerName = "example.com" // of the test's certificate
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(target)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(body)), err
	}
	web, tls := at(l, "b", server.Listener.Addr()), at(l, "b", secure.Listener.Addr())
	for _, tt := range []struct{ via, target, want string }{
		{"http://", "http://" + web + "/x", "200 GET /x"},
		{"socks5://", "http://" + web + "/x", "200 GET /x"},
		{"http://", "https://" + tls + "/x", "200 GET /x"},
		{"socks5://", "https://" + tls + "/x", "200 GET /x"},
		{"http://", "http://192.0.2.1:80/", "502 dial tcp 192.0.2.1:80: network is unreachable"},
	} {
		got, err := get(tt.via+l.Proxy("a"), tt.target)
		if err != nil || strings.TrimSpace(got) != tt.want {
			t.Errorf("%s for %s: %q, %v; want %q", tt.via, tt.target, got, err, tt.want)
		}
	}
	if resp, err := http.Get("http://" + l.Proxy("a") + "/x"); err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a request for the proxy itself: %v, %v", resp, err)
	}
	if got := l.Carried(Path{"a", "b"}); got == 0 {
		t.Error("no byte was counted from a to b")
	}
	if got := l.Carried(Path{"b", "a"}); got == 0 {
		t.Error("no byte was counted from b to a")
	}

	// Refused is told as a direct connection would.
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if _, err := l.Dial(t.Context(), at(l, "b", closed.Addr())); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial to nobody: %v", err)
	}
	socks, err := proxy.SOCKS5("tcp", l.Proxy("a"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := socks.Dial("tcp", at(l, "b", closed.Addr())); err == nil || !strings.HasSuffix(err.Error(), "connection refused") {
		t.Errorf("dial to nobody by SOCKS: %v", err)
	}
}

// A program that does not use its proxy reaches nobody, and nothing leaves the
// machine.
func TestAddressIsNowhere(t *testing.T) {
	l := openLinks(t, "a")
	if _, err := net.DialTimeout("tcp", echo(t, l, "a"), 5*time.Second); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("dial past the proxy: %v, want ENETUNREACH", err)
	}
}

// What TCP promises holds through a link, whatever effects come and go.
func TestStreamIsWhole(t *testing.T) {
	l := openLinks(t, "a", "b")
	addr := echo(t, l, "b")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c, err := l.dial(t.Context(), 1, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		effects := []Effect{{Drop: true}, {Latency: 3 * time.Millisecond, Jitter: 2 * time.Millisecond}, {Rate: 8 << 20}, {Latency: time.Millisecond}}
		for {
			var undo []func()
			for range 1 + random.IntN(2) {
				p := []Path{{"a", "b"}, {"b", "a"}}[random.IntN(2)]
				u, err := l.Apply([]Path{p}, effects[random.IntN(len(effects))], random.Uint64())
				if err != nil {
					t.Error(err)
					return
				}
				undo = append(undo, u)
			}
			hold := time.After(time.Duration(random.IntN(20)) * time.Millisecond)
			select {
			case <-stop:
			case <-hold:
			}
			for _, u := range undo {
				u()
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	data := make([]byte, 24<<20)
	chacha := rand.NewChaCha8([32]byte{1})
	chacha.Read(data)
	go func() {
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(256<<10))
			c.Write(rest[:n])
			rest = rest[n:]
		}
		c.(*net.TCPConn).CloseWrite()
	}()
	c.SetReadDeadline(time.Now().Add(60 * time.Second))
	back, err := io.ReadAll(c)
	close(stop)
	<-stopped
	if err != nil || sha256.Sum256(back) != sha256.Sum256(data) {
		t.Errorf("%d of %d bytes came back (%v); equal: %v", len(back), len(data), err, bytes.Equal(back, data))
	}
}

// One way of a connection is cut: the other one goes on, both ends stay
// established, and what was held arrives afterwards.
func TestLinksOneWay(t *testing.T) {
	l := openLinks(t, "a", "b")
	ab, ba := Path{"a", "b"}, Path{"b", "a"}
	h, err := l.Hold(within(t), ab)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Exchange(within(t)); err != nil {
		t.Fatal(err)
	}
	undo := l.mustApply(t, Effect{Drop: true}, ba)
	// a reaches b ...
	h.to.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := h.from.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.to.Read(make([]byte, 1)); err != nil {
		t.Errorf("a does not reach b: %v", err)
	}
	// ... and b does not reach a.
	h.to.Write([]byte("y"))
	h.from.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := h.from.Read(make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Errorf("b reaches a: %v", err)
	}
	if !h.Established() {
		t.Error("the connection is not established any more")
	}
	// A new connection waits for its answer, and is not refused.
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := l.reach(short, ab); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a new connection: %v", err)
	}
	ev := l.Confirm(within(t), []Path{ba}, Effect{Drop: true})
	if ev.Proof != history.Confirmed || !strings.Contains(ev.Detail, "20 of 20 arrived on the way back") {
		t.Errorf("%+v", ev)
	}
	undo()
	h.from.SetReadDeadline(time.Now().Add(10 * time.Second))
	if b := make([]byte, 1); true {
		if _, err := h.from.Read(b); err != nil || b[0] != 'y' {
			t.Errorf("after the cut: %q, %v", b, err)
		}
	}
	if ev := l.Confirm(within(t), []Path{ab, ba}, Effect{}); ev.Proof != history.Confirmed {
		t.Errorf("healed: %+v", ev)
	}
}

func isTimeout(err error) bool {
	var late net.Error
	return errors.As(err, &late) && late.Timeout()
}

// The effects that links have are seen, and those that they do not have are not.
func TestLinksEvidence(t *testing.T) {
	l := openLinks(t, "a", "b")
	ab := Path{"a", "b"}
	for _, tt := range []struct {
		applied, claimed Effect
		want             history.Proof
	}{
		{Effect{Drop: true}, Effect{Drop: true}, history.Confirmed},
		{Effect{Reject: true}, Effect{Reject: true}, history.Confirmed},
		{Effect{Latency: 30 * time.Millisecond}, Effect{Latency: 30 * time.Millisecond}, history.Confirmed},
		{Effect{Latency: 50 * time.Millisecond, Jitter: 20 * time.Millisecond}, Effect{Latency: 50 * time.Millisecond, Jitter: 20 * time.Millisecond}, history.Confirmed},
		{Effect{Rate: 200_000}, Effect{Rate: 200_000}, history.Confirmed},
		{Effect{}, Effect{Drop: true}, history.Mismatch},
		{Effect{}, Effect{Reject: true}, history.Mismatch},
		{Effect{}, Effect{Latency: 30 * time.Millisecond}, history.Mismatch},
		{Effect{Latency: 80 * time.Millisecond}, Effect{Latency: 30 * time.Millisecond}, history.Mismatch},
		{Effect{Latency: 30 * time.Millisecond}, Effect{}, history.Mismatch},
		{Effect{Rate: 2_000_000}, Effect{Rate: 200_000}, history.Mismatch},
	} {
		undo := func() {}
		if tt.applied != (Effect{}) {
			undo = l.mustApply(t, tt.applied, ab)
		}
		var ev Evidence
		if tt.want == history.Confirmed { // in the end: the machine may be slow
			ev = l.Confirm(within(t), []Path{ab}, tt.claimed)
		} else {
			ev = look(within(t), l, ab, tt.claimed)
		}
		if ev.Proof != tt.want {
			t.Errorf("%+v taken for %+v: %+v", tt.applied, tt.claimed, ev)
		}
		if ev.Proof == history.Confirmed && ev.At.IsZero() {
			t.Errorf("%+v: no instant", tt.claimed)
		}
		undo()
		if ev := l.Confirm(within(t), []Path{ab}, Effect{}); ev.Proof != history.Confirmed {
			t.Errorf("after %+v: %+v", tt.applied, ev)
		}
	}
	for _, e := range []Effect{{Loss: 0.1}, {Duplicate: 0.1}, {Corrupt: 0.1}, {Latency: 1, Reorder: 0.5}} {
		if _, err := l.Apply([]Path{ab}, e, 1); err == nil || !strings.Contains(err.Error(), "a stream has no packets") {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

// Who sends into a rejecting path is reset at once; the other end hears nothing
// until it is over.
func TestLinksReject(t *testing.T) {
	l := openLinks(t, "a", "b")
	h, err := l.Hold(within(t), Path{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	undo := l.mustApply(t, Effect{Reject: true}, Path{"a", "b"})
	h.from.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := h.from.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("at a: %v, want a reset", err)
	}
	h.to.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := h.to.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("at b: %v, want silence", err)
	}
	undo()
	h.to.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := h.to.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("at b afterwards: %v, want a reset", err)
	}
}

// A caller that gives up while a path is cut leaves no connection behind.
func TestCallerGivesUp(t *testing.T) {
	l := openLinks(t, "a", "b")
	accepted := make(chan struct{}, 8)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Close()
			accepted <- struct{}{}
		}
	}()
	undo := l.mustApply(t, Effect{Drop: true}, Path{"a", "b"})
	c, err := net.Dial("tcp", l.Proxy("a"))
	if err != nil {
		t.Fatal(err)
	}
	target := netip.MustParseAddrPort(at(l, "b", listener.Addr()))
	request := append([]byte{5, 1, 0, 5, 1, 0, 1}, target.Addr().AsSlice()...)
	if _, err := c.Write(append(request, byte(target.Port()>>8), byte(target.Port()))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil { // its greeting was read
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
		t.Fatalf("an answer while the path is cut: %v", err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if reply, err := io.ReadAll(c); err != nil || len(reply) < 2 || reply[1] != socksTimeout {
		t.Fatalf("who has closed is answered %v, %v", reply, err)
	}
	c.Close()
	undo()
	if d, err := l.dial(t.Context(), 1, target.String()); err != nil {
		t.Fatal(err)
	} else {
		d.Close()
	}
	<-accepted
	select {
	case <-accepted:
		t.Error("who had given up was connected")
	case <-time.After(200 * time.Millisecond):
	}
}

// Close ends everything.
func TestLinksClose(t *testing.T) {
	before := runtime.NumGoroutine()
	l, err := OpenLinks([]string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	addr := echo(t, l, "b")
	c, err := l.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange(c, "hello", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	l.mustApply(t, Effect{Drop: true}, Path{Client, "b"})
	if err := exchange(c, "hello", 100*time.Millisecond); !isTimeout(err) {
		t.Fatalf("through a cut path: %v", err)
	}
	l.Confirm(within(t), []Path{{Client, "b"}}, Effect{Drop: true})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := exchange(c, "hello", 10*time.Second); err == nil || isTimeout(err) {
		t.Errorf("after Close: %v", err)
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+2; time.Sleep(time.Millisecond) { // the echo server's
		if time.Now().After(end) {
			b := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, there were %d:\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
		}
	}
}
