package etcd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"statequake/runtime/journal"
	"statequake/runtime/journal/journaltest"
)

var _ journal.Store = (*Store)(nil)

// open starts a store of size members.
func open(t testing.TB, size int) []*Store {
	t.Helper()
	peers := map[string]string{}
	for i := range size {
		peers[fmt.Sprint("n", i+1)] = freeAddr(t)
	}
	stores := make([]*Store, size)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range size {
		dir := t.TempDir()
		wg.Go(func() {
			s, err := Open(ctx, Config{Node: fmt.Sprint("n", i+1), Dir: dir, Peers: peers})
			if err != nil {
				t.Error(err)
				return
			}
			stores[i] = s
			t.Cleanup(s.Close)
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return stores
}

// freeAddr is a free loopback address below the ports that the kernel gives to
// outgoing connections.
func freeAddr(t testing.TB) string {
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

func TestConformance(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) []journal.Store {
		var handles []journal.Store
		for _, s := range open(t, 3) {
			handles = append(handles, s)
		}
		return handles
	})
}

func TestCompact(t *testing.T) {
	s := open(t, 1)[0]
	for i := range keepRevisions + compactEvery + 1 {
		if err := s.Beat(t.Context(), "n1", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	before := s.etcd.Server.KV().FirstRev()
	if err := s.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := s.etcd.Server.KV().FirstRev()
	if after <= before || s.etcd.Server.KV().Rev()-after > keepRevisions {
		t.Errorf("first revision %d before and %d after, last %d", before, after, s.etcd.Server.KV().Rev())
	}
	if st := s.Status(); st.Leader != "n1" {
		t.Errorf("leader %q", st.Leader)
	}
}

func BenchmarkAppend(b *testing.B) {
	s := open(b, 3)[0]
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) { journaltest.BenchmarkAppend(b, s, size) })
	}
}
