package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// open starts a store of one member.
func open(t *testing.T) *Store {
	t.Helper()
	for range 20 { // the port may be taken between the look and the use
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		l.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		s, err := Open(ctx, Config{Node: "n1", Dir: t.TempDir(), Peers: map[string]string{"n1": addr}})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	t.Fatal("no free port")
	return nil
}

func (s *Store) mustClaim(t *testing.T, shard int, seen int64, node string) int64 {
	t.Helper()
	epoch, won, err := s.Claim(t.Context(), shard, seen, node)
	if err != nil || !won {
		t.Fatalf("claim shard %d at revision %d: won %t, %v", shard, seen, won, err)
	}
	return epoch
}

func (s *Store) append(t *testing.T, shard int, epoch, seq int64, data string) Fate {
	t.Helper()
	return s.Append(t.Context(), []Append{{Shard: shard, Epoch: epoch, Seq: seq, Data: []byte(data)}}, true)[0]
}

func TestClaim(t *testing.T) {
	s := open(t)
	first := s.mustClaim(t, 3, 0, "n1")
	if _, won, err := s.Claim(t.Context(), 3, 0, "n2"); won || err != nil {
		t.Errorf("second claim of a free shard: won %t, %v", won, err)
	}
	second := s.mustClaim(t, 3, first, "n2")
	if second <= first {
		t.Errorf("epochs %d, then %d", first, second)
	}
	if err := s.Beat(t.Context(), "n1", Member{Addr: "a:1"}); err != nil {
		t.Fatal(err)
	}
	v, err := s.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if o := v.Owners[3]; o.Node != "n2" || o.Revision != second || o.Released {
		t.Errorf("owner of shard 3: %+v", o)
	}
	if m := v.Members["n1"]; m.Addr != "a:1" || m.Revision <= second {
		t.Errorf("member n1: %+v", m)
	}
	if err := s.Release(t.Context(), 3, first, "n1", "n1"); err != nil {
		t.Fatal(err)
	}
	if v, _ = s.View(t.Context()); v.Owners[3].Revision != second {
		t.Error("the old owner released the shard of the new one")
	}
	if err := s.Release(t.Context(), 3, second, "n2", "n1"); err != nil {
		t.Fatal(err)
	}
	if v, _ = s.View(t.Context()); !v.Owners[3].Released || v.Owners[3].Next != "n1" {
		t.Errorf("after the release: %+v", v.Owners[3])
	}
}

func TestFence(t *testing.T) {
	s := open(t)
	old := s.mustClaim(t, 0, 0, "n1")
	if f := s.append(t, 0, old, 1, "one"); f != Durable {
		t.Fatalf("first append: %v", f)
	}
	if f := s.append(t, 0, old, 1, "one"); f != Durable {
		t.Errorf("the same append again, as after a lost answer: %v, want durable", f)
	}
	now := s.mustClaim(t, 0, old, "n2")
	if f := s.append(t, 0, old, 2, "late"); f != Deposed {
		t.Errorf("append of the old epoch: %v, want deposed", f)
	}
	if f := s.append(t, 0, now, 2, "two"); f != Durable {
		t.Errorf("append of the new epoch: %v", f)
	}
	if f := s.append(t, 0, old, 1, "one"); f != Durable {
		t.Errorf("the old owner asks again for what it had made durable: %v", f)
	}
	// One group of a batch may fail without the others.
	other := s.mustClaim(t, 1, 0, "n1")
	fates := s.Append(t.Context(), []Append{{0, old, 3, []byte("x")}, {1, other, 1, []byte("y")}}, true)
	if fates[0] != Deposed || fates[1] != Durable {
		t.Errorf("fates %v, want deposed and durable", fates)
	}
	_, entries, err := s.Tail(t.Context(), 0)
	if err != nil || len(entries) != 2 || string(entries[0]) != "one" || string(entries[1]) != "two" {
		t.Errorf("journal %q (%v), want one, two", entries, err)
	}
	// The planted bug no-fence: the comparison is all that keeps it out.
	if f := s.Append(t.Context(), []Append{{0, old, 2, []byte("over")}}, false)[0]; f != Durable {
		t.Errorf("unfenced append: %v", f)
	}
	if _, entries, _ = s.Tail(t.Context(), 0); string(entries[1]) != "over" {
		t.Errorf("journal %q, want two to be overwritten", entries)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if f := s.Append(ended, []Append{{0, now, 9, nil}}, true)[0]; f != Undecided {
		t.Errorf("append that ended before it began: %v, want undecided", f)
	}
}

func TestCheckpoints(t *testing.T) {
	s := open(t)
	epoch := s.mustClaim(t, 0, 0, "n1")
	for seq := range int64(5) {
		s.append(t, 0, epoch, seq+1, fmt.Sprint(seq+1))
	}
	var many []Checkpoint // more than one transaction takes
	for i := range 3*maxPutsPerTxn + 1 {
		many = append(many, Checkpoint{"cart", fmt.Sprint(i), []byte(fmt.Sprint("state ", i))})
	}
	if err := s.Store(t.Context(), 0, epoch, many); err != nil {
		t.Fatal(err)
	}
	if err := s.Cut(t.Context(), 0, epoch, 3, []byte("head")); err != nil {
		t.Fatal(err)
	}
	head, entries, err := s.Tail(t.Context(), 0)
	if err != nil || string(head) != "head" || len(entries) != 2 || string(entries[0]) != "4" {
		t.Errorf("head %q, entries %q (%v); want head and 4, 5", head, entries, err)
	}
	for _, c := range []Checkpoint{many[0], many[len(many)-1]} {
		if data, err := s.Load(t.Context(), 0, "cart", c.Key); err != nil || string(data) != string(c.Data) {
			t.Errorf("load %s: %q, %v", c.Key, data, err)
		}
	}
	if data, err := s.Load(t.Context(), 0, "cart", "none"); data != nil || err != nil {
		t.Errorf("load of what is not there: %q, %v", data, err)
	}
	s.mustClaim(t, 0, epoch, "n2")
	if err := s.Store(t.Context(), 0, epoch, many[:1]); !errors.Is(err, ErrDeposed) {
		t.Errorf("checkpoint of the old epoch: %v", err)
	}
	if err := s.Cut(t.Context(), 0, epoch, 5, nil); !errors.Is(err, ErrDeposed) {
		t.Errorf("cut of the old epoch: %v", err)
	}
	if _, entries, _ = s.Tail(t.Context(), 0); len(entries) != 2 {
		t.Errorf("%d entries after a cut that must not happen", len(entries))
	}
}

func TestCompact(t *testing.T) {
	s := open(t)
	for i := range keepRevisions + compactEvery + 1 {
		if err := s.Beat(t.Context(), "n1", Member{Addr: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	before := s.etcd.Server.KV().FirstRev()
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := s.etcd.Server.KV().FirstRev()
	if after <= before || s.etcd.Server.KV().Rev()-after > keepRevisions {
		t.Errorf("first revision %d before and %d after, last %d", before, after, s.etcd.Server.KV().Rev())
	}
	if s.Leader() != "n1" {
		t.Errorf("leader %q", s.Leader())
	}
}
