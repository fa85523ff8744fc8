package postgres

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"statequake/runtime/journal"
	"statequake/runtime/journal/postgres/pgtest"
)

// fault is what a proxy does with a request that holds the mark, before it cuts
// the connection to the client.
type fault int

const (
	pass      fault = iota
	loseIt          // the server never sees it
	loseReply       // the server has answered it, so that it is committed
	delayIt         // the server sees it when the proxy is told to deliver
)

// mark is in the data of the requests that a proxy interferes with.
const mark = "MARKED"

// proxy stands between a handle and the server.
type proxy struct {
	listener net.Listener
	server   pgtest.Server

	mu      sync.Mutex
	faults  []fault
	seen    int // requests that held the mark
	delayed []delayed
}

type delayed struct {
	request []byte
	server  net.Conn
	replies <-chan []byte
}

func newProxy(t *testing.T, server pgtest.Server, faults ...fault) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &proxy{listener: l, server: server, faults: faults}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.carry(conn)
		}
	}()
	return p
}

func (p *proxy) url() string {
	return fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", p.listener.Addr())
}

// next is the fault of the request at hand.
func (p *proxy) next(request []byte) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !bytes.Contains(request, []byte(mark)) {
		return pass
	}
	p.seen++
	if len(p.faults) == 0 {
		return pass
	}
	f := p.faults[0]
	p.faults = p.faults[1:]
	return f
}

func (p *proxy) requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// carry passes bytes on until a fault ends the connection.
func (p *proxy) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.server.Socket())
	if err != nil {
		return
	}
	replies := make(chan []byte)
	done := make(chan struct{})
	kept := false // the connection to the server outlives this call
	defer func() {
		if !kept {
			close(done)
			server.Close()
		}
	}()
	go func() {
		defer close(replies)
		for {
			buffer := make([]byte, 1<<16)
			n, err := server.Read(buffer)
			if err != nil {
				return
			}
			select {
			case replies <- buffer[:n]:
			case <-done:
				return
			}
		}
	}()
	requests := make(chan []byte)
	go func() {
		defer close(requests)
		for {
			buffer := make([]byte, 1<<16)
			n, err := client.Read(buffer)
			if err != nil {
				return
			}
			select {
			case requests <- buffer[:n]:
			case <-done:
				return
			}
		}
	}()
	for {
		select {
		case reply, ok := <-replies:
			if !ok {
				return
			}
			client.Write(reply)
		case request, ok := <-requests:
			if !ok {
				return
			}
			switch p.next(request) {
			case pass:
				server.Write(request)
			case loseIt:
				return
			case loseReply:
				server.Write(request)
				<-replies
				return
			case delayIt:
				p.mu.Lock()
				p.delayed = append(p.delayed, delayed{request, server, replies})
				p.mu.Unlock()
				kept = true
				return
			}
		}
	}
}

// deliver hands over what was delayed and returns when the server has answered.
func (p *proxy) deliver(t *testing.T, want int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.delayed) != want {
		t.Fatalf("%d requests were delayed, want %d", len(p.delayed), want)
	}
	for _, d := range p.delayed {
		d.server.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := d.server.Write(d.request); err != nil {
			t.Fatal(err)
		}
		// Z, ready for the next query, ends the answer.
		for answer := []byte{}; !bytes.Contains(answer, []byte("Z\x00\x00\x00\x05I")); {
			reply, ok := <-d.replies // ends at the deadline
			if !ok {
				t.Fatalf("no answer to a delayed request after %q", answer)
			}
			answer = append(answer, reply...)
			if bytes.Contains(answer, []byte("ERROR")) {
				t.Fatalf("the server refused a delayed request: %q", answer)
			}
		}
		d.server.Close()
	}
	p.delayed = nil
}

func wantTail(t *testing.T, s *Store, want ...string) {
	t.Helper()
	_, entries, err := s.Tail(t.Context(), 0)
	var got []string
	for _, e := range entries {
		got = append(got, string(e))
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("entries %q (%v), want %q", got, err, want)
	}
}

// An append takes effect once, whatever became of its connection.
func TestConnectionCut(t *testing.T) {
	server := pgtest.Start(t)
	seen := int64(0)
	seq := int64(0)
	var want []string
	for _, faults := range [][]fault{
		{loseIt}, {loseReply}, {delayIt}, {loseIt, loseReply}, {loseReply, loseIt, loseReply}, {delayIt, delayIt}, {delayIt, loseReply},
	} {
		p := newProxy(t, server, faults...)
		s := open(t, p.url())
		seen = mustClaim(t, s, 0, seen)
		seq++
		data := fmt.Sprintf("%s %d", mark, seq)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		fate := s.Append(ctx, []journal.Append{{Shard: 0, Epoch: seen, Seq: seq, Data: []byte(data)}}, true)[0]
		cancel()
		if fate != journal.Durable {
			t.Fatalf("%v: fate %d, want durable", faults, fate)
		}
		if p.requests() != len(faults)+1 {
			t.Errorf("%v: %d attempts, want %d", faults, p.requests(), len(faults)+1)
		}
		want = append(want, data)
		late := 0
		for _, f := range faults {
			if f == delayIt {
				late++
			}
		}
		p.deliver(t, late)
		wantTail(t, s, want...)
	}
}

// A request that arrives after its sender was deposed has no effect.
func TestLateAfterClaim(t *testing.T) {
	server := pgtest.Start(t)
	p := newProxy(t, server, delayIt, delayIt, delayIt)
	old, successor := open(t, p.url()), open(t, server.URL(""))
	epoch := mustClaim(t, old, 0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for p.requests() == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if f := old.Append(ctx, []journal.Append{{Shard: 0, Epoch: epoch, Seq: 1, Data: []byte(mark)}}, true)[0]; f != journal.Undecided {
		t.Fatalf("append: fate %d, want undecided", f)
	}
	if err := old.Store(t.Context(), 0, epoch, []journal.Checkpoint{{Type: "a", Key: "b", Data: []byte(mark)}}); err == nil {
		t.Error("checkpoint: no error")
	}
	if err := old.Cut(t.Context(), 0, epoch, 1, []byte(mark)); err == nil {
		t.Error("cut: no error")
	}
	now := mustClaim(t, successor, 0, epoch)
	if f := successor.Append(t.Context(), []journal.Append{{Shard: 0, Epoch: now, Seq: 1, Data: []byte("successor")}}, true)[0]; f != journal.Durable {
		t.Errorf("append of the successor: fate %d", f)
	}
	p.deliver(t, p.requests())
	wantTail(t, successor, "successor")
	if data, err := successor.Load(t.Context(), 0, "a", "b"); data != nil || err != nil {
		t.Errorf("the late checkpoint is there: %q, %v", data, err)
	}
}

// Within an epoch a late checkpoint does not undo a newer one, and a late append
// does not come back below a cut.
func TestLateWithinEpoch(t *testing.T) {
	server := pgtest.Start(t)
	p := newProxy(t, server, delayIt, pass, delayIt)
	s := open(t, p.url())
	epoch := mustClaim(t, s, 0, 0)
	if f := s.Append(t.Context(), []journal.Append{{Shard: 0, Epoch: epoch, Seq: 1, Data: []byte(mark)}}, true)[0]; f != journal.Durable {
		t.Fatalf("append: fate %d", f)
	}
	checkpoint := []journal.Checkpoint{{Type: "a", Key: "b", Data: []byte(mark)}}
	if err := s.Store(t.Context(), 0, epoch, checkpoint); err == nil {
		t.Error("checkpoint: no error")
	}
	checkpoint[0].Data = []byte("newer")
	if err := s.Store(t.Context(), 0, epoch, checkpoint); err != nil {
		t.Fatal(err)
	}
	if err := s.Cut(t.Context(), 0, epoch, 1, []byte("head")); err != nil {
		t.Fatal(err)
	}
	p.deliver(t, 2)
	wantTail(t, s)
	if data, err := s.Load(t.Context(), 0, "a", "b"); string(data) != "newer" {
		t.Errorf("checkpoint %q (%v), want the newer one", data, err)
	}
}

// A handle outlives its connections.
func TestConnectionsEnded(t *testing.T) {
	server := pgtest.Start(t)
	s := open(t, server.URL(""))
	changed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go s.WatchOwners(ctx, changed)
	epoch := mustClaim(t, s, 0, 0)
	run(t, server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
	if f := s.Append(t.Context(), []journal.Append{{Shard: 0, Epoch: epoch, Seq: 1, Data: []byte("one")}}, true)[0]; f != journal.Durable {
		t.Errorf("append: fate %d", f)
	}
	deadline := time.After(20 * time.Second)
	for hints := 0; hints < 3; {
		// A connection that was ended while it rested fails its next request.
		if v, err := s.View(t.Context()); err == nil {
			_, _, _ = s.Claim(t.Context(), 0, v.Owners[0].Revision, "n")
		}
		select {
		case <-changed:
			hints++
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%d hints", hints)
		}
	}
}
