// Package journaltest holds the drivers of the store to their contract.
package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"statequake/runtime/journal"
)

// patience is how long something may take that must happen.
const patience = 30 * time.Second

// suite is one cluster under test. Each test takes shards of its own from it.
type suite struct {
	handles []journal.Store
	shards  atomic.Int64
}

// Run tests the cluster that open returns two or more handles on. open closes
// them at the end of the test that it is given.
func Run(t *testing.T, open func(t *testing.T) []journal.Store) {
	s := &suite{handles: open(t)}
	if len(s.handles) < 2 {
		t.Fatalf("%d handles: want two or more", len(s.handles))
	}
	for _, tt := range []struct {
		name string
		test func(*testing.T, *suite)
	}{
		{"Ownership", ownership},
		{"ClaimRace", claimRace},
		{"Beats", beats},
		{"Fence", fence},
		{"FenceUnderLoad", fenceUnderLoad},
		{"Released", released},
		{"Positions", positions},
		{"ManyShards", manyShards},
		{"Unfenced", unfenced},
		{"Concurrent", concurrent},
		{"Tail", tail},
		{"ManyEntries", manyEntries},
		{"LargeData", largeData},
		{"Checkpoints", checkpoints},
		{"OddBytes", oddBytes},
		{"EndedContext", endedContext},
		{"ViewIsOneInstant", viewIsOneInstant},
		{"WatchOwners", watchOwners},
		{"Maintain", maintain},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, s) })
	}
}

func (s *suite) shard() int { return int(s.shards.Add(1)) - 1 }

// claim makes node the owner of a shard that nobody else claims at the time, and
// returns the epoch.
func claim(t *testing.T, h journal.Store, shard int, seen int64, node string) int64 {
	t.Helper()
	epoch, err := tryClaim(t.Context(), h, shard, seen, node)
	if err != nil {
		t.Fatal(err)
	}
	return epoch
}

// tryClaim claims a shard that nobody else claims at the time. After an error of
// the store, which may change its leader on a busy machine, it looks whether the
// claim has happened.
func tryClaim(ctx context.Context, h journal.Store, shard int, seen int64, node string) (epoch int64, err error) {
	doubt := false
	for end := time.Now().Add(patience); ; {
		epoch, won, err := h.Claim(ctx, shard, seen, node)
		switch {
		case err == nil && won && epoch > seen:
			return epoch, nil
		case err != nil && time.Now().Before(end):
			doubt = true
		case !doubt || time.Now().After(end):
			return 0, fmt.Errorf("claim shard %d at revision %d: won %t, epoch %d, %w", shard, seen, won, epoch, err)
		}
		v, err := view(ctx, h)
		if err != nil {
			return 0, err
		}
		if o := v.Owners[shard]; o.Node == node && !o.Released && o.Revision > seen {
			return o.Revision, nil
		}
	}
}

// view reads a view, again after an error of the store.
func view(ctx context.Context, h journal.Store) (v journal.View, err error) {
	for end := time.Now().Add(patience); ; {
		if v, err = h.View(ctx); err == nil || ctx.Err() != nil || time.Now().After(end) {
			return v, err
		}
	}
}

func add(t *testing.T, h journal.Store, shard int, epoch, seq int64, data string) journal.Fate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return h.Append(ctx, []journal.Append{{Shard: shard, Epoch: epoch, Seq: seq, Data: []byte(data)}}, true)[0]
}

func mustAdd(t *testing.T, h journal.Store, shard int, epoch, seq int64, data string) {
	t.Helper()
	if f := add(t, h, shard, epoch, seq, data); f != journal.Durable {
		t.Fatalf("append %q at %d of shard %d: fate %d, want durable", data, seq, shard, f)
	}
}

func owner(t *testing.T, h journal.Store, shard int) journal.Owner {
	t.Helper()
	v, err := view(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	return v.Owners[shard]
}

// wantTail compares the journal as every handle reads it.
func wantTail(t *testing.T, s *suite, shard int, head string, want ...string) {
	t.Helper()
	for i, h := range s.handles {
		got, entries, err := h.Tail(t.Context(), shard)
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, e := range entries {
			texts = append(texts, string(e))
		}
		if string(got) != head || !slices.Equal(texts, want) {
			t.Errorf("handle %d: shard %d has head %q and entries %.200q, want %q and %.200q", i, shard, got, texts, head, want)
		}
	}
}

func ownership(t *testing.T, s *suite) {
	a, b, shard := s.handles[0], s.handles[1], s.shard()
	if o := owner(t, a, shard); o != (journal.Owner{}) {
		t.Fatalf("before the first claim: %+v", o)
	}
	first := claim(t, a, shard, 0, "n1")
	if o, want := owner(t, b, shard), (journal.Owner{Node: "n1", Revision: first}); o != want {
		t.Errorf("after a claim: %+v, want %+v", o, want)
	}
	if _, won, err := b.Claim(t.Context(), shard, 0, "n2"); won || err != nil {
		t.Errorf("claim of an owned shard as if it were free: won %t, %v", won, err)
	}
	second := claim(t, b, shard, first, "n2")
	if _, won, err := a.Claim(t.Context(), shard, first, "n1"); won || err != nil {
		t.Errorf("claim at a revision that is over: won %t, %v", won, err)
	}
	if err := a.Release(t.Context(), shard, first, "n1", "n1"); err != nil {
		t.Error(err)
	}
	if o, want := owner(t, a, shard), (journal.Owner{Node: "n2", Revision: second}); o != want {
		t.Errorf("after a release by the old owner: %+v, want %+v", o, want)
	}
	if err := b.Release(t.Context(), shard, second, "n2", "n1"); err != nil {
		t.Fatal(err)
	}
	o := owner(t, a, shard)
	if o.Node != "n2" || !o.Released || o.Next != "n1" || o.Revision <= second {
		t.Errorf("after a release of epoch %d: %+v", second, o)
	}
	third := claim(t, a, shard, o.Revision, "n1")
	if o, want := owner(t, b, shard), (journal.Owner{Node: "n1", Revision: third}); o != want {
		t.Errorf("after the claim of a released shard: %+v, want %+v", o, want)
	}
}

func claimRace(t *testing.T, s *suite) {
	shard := s.shard()
	seen := int64(0)
	for round := range 20 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var epochs []int64
		for i := range 8 {
			wg.Go(func() {
				epoch, won, err := s.handles[i%len(s.handles)].Claim(t.Context(), shard, seen, fmt.Sprint("n", i))
				if err != nil {
					t.Error(err)
				}
				if won {
					mu.Lock()
					defer mu.Unlock()
					epochs = append(epochs, epoch)
				}
			})
		}
		wg.Wait()
		if len(epochs) != 1 || epochs[0] <= seen {
			t.Fatalf("round %d: epochs %v after %d, want one that is larger", round, epochs, seen)
		}
		if o := owner(t, s.handles[0], shard); o.Revision != epochs[0] {
			t.Fatalf("round %d: the owner is %+v, who won got epoch %d", round, o, epochs[0])
		}
		seen = epochs[0]
	}
}

func beats(t *testing.T, s *suite) {
	last := int64(0)
	for i, h := range []journal.Store{s.handles[0], s.handles[0], s.handles[1]} {
		addr := fmt.Sprint("host:", i)
		if err := h.Beat(t.Context(), "beating", addr); err != nil {
			t.Fatal(err)
		}
		v, err := s.handles[1].View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m := v.Members["beating"]
		if m.Addr != addr || m.Revision == last {
			t.Errorf("beat %d: %+v, want address %s and a revision other than %d", i, m, addr, last)
		}
		last = m.Revision
	}
}

func fence(t *testing.T, s *suite) {
	a, b, shard := s.handles[0], s.handles[1], s.shard()
	old := claim(t, a, shard, 0, "n1")
	mustAdd(t, a, shard, old, 1, "one")
	now := claim(t, b, shard, old, "n2")
	if f := add(t, a, shard, old, 2, "late"); f != journal.Deposed {
		t.Errorf("append of the old epoch: fate %d, want deposed", f)
	}
	checkpoint := []journal.Checkpoint{{Type: "cart", Key: "1", Data: []byte("late")}}
	if err := a.Store(t.Context(), shard, old, checkpoint); !errors.Is(err, journal.ErrDeposed) {
		t.Errorf("checkpoint of the old epoch: %v", err)
	}
	if data, err := b.Load(t.Context(), shard, "cart", "1"); data != nil || err != nil {
		t.Errorf("the checkpoint of the old epoch is there: %q, %v", data, err)
	}
	if err := a.Cut(t.Context(), shard, old, 1, []byte("late")); !errors.Is(err, journal.ErrDeposed) {
		t.Errorf("cut of the old epoch: %v", err)
	}
	wantTail(t, s, shard, "", "one")
	mustAdd(t, b, shard, now, 2, "two")
	mustAdd(t, a, shard, old, 1, "one") // the old owner asks again for what it had made durable
	wantTail(t, s, shard, "", "one", "two")
}

// fenceUnderLoad lets the owner append as fast as it can while others take the
// shard over: what was read after a claim is all that earlier epochs ever wrote.
func fenceUnderLoad(t *testing.T, s *suite) {
	shard := s.shard()
	epoch := claim(t, s.handles[0], shard, 0, "n0")
	next := int64(1)
	var written []string
	for round := range 15 {
		h, successor := s.handles[round%len(s.handles)], s.handles[(round+1)%len(s.handles)]
		var acknowledged []string
		done := make(chan struct{})
		started := make(chan struct{})
		go func(epoch, seq int64) {
			defer close(done)
			for ; ; seq++ {
				data := fmt.Sprintf("%d/%d", epoch, seq)
				f := add(t, h, shard, epoch, seq, data)
				if f != journal.Durable {
					if f != journal.Deposed {
						t.Errorf("append during a claim: fate %d", f)
					}
					break
				}
				if acknowledged = append(acknowledged, data); len(acknowledged) == 3 {
					close(started)
				}
			}
		}(epoch, next)
		select {
		case <-started:
		case <-done:
			t.Fatalf("round %d: the owner was deposed before anybody claimed", round)
		}
		epoch = claim(t, successor, shard, epoch, "n")
		_, entries, err := successor.Tail(t.Context(), shard)
		if err != nil {
			t.Fatal(err)
		}
		<-done
		written = append(written, acknowledged...)
		var texts []string
		for _, e := range entries {
			texts = append(texts, string(e))
		}
		// All that was acknowledged is in it. One more may be, whose owner was
		// deposed before it heard; that is the successor's to decide.
		if len(texts) > len(written)+1 || len(texts) < len(written) || !slices.Equal(texts[:len(written)], written) {
			t.Fatalf("round %d: the successor read %d entries, %d were acknowledged; it ends with %q, they with %q",
				round, len(texts), len(written), last(texts), last(written))
		}
		written = texts
		wantTail(t, s, shard, "", texts...)
		next = int64(len(texts)) + 1
	}
}

func last(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return texts[len(texts)-1]
}

func released(t *testing.T, s *suite) {
	a, shard := s.handles[0], s.shard()
	epoch := claim(t, a, shard, 0, "n1")
	mustAdd(t, a, shard, epoch, 1, "one")
	if err := a.Release(t.Context(), shard, epoch, "n1", "n2"); err != nil {
		t.Fatal(err)
	}
	if f := add(t, a, shard, epoch, 2, "two"); f != journal.Deposed {
		t.Errorf("append after the release: fate %d, want deposed", f)
	}
	if err := a.Store(t.Context(), shard, epoch, []journal.Checkpoint{{Type: "cart", Key: "1"}}); !errors.Is(err, journal.ErrDeposed) {
		t.Errorf("checkpoint after the release: %v", err)
	}
	if err := a.Cut(t.Context(), shard, epoch, 1, nil); !errors.Is(err, journal.ErrDeposed) {
		t.Errorf("cut after the release: %v", err)
	}
	before := owner(t, a, shard)
	if err := a.Release(t.Context(), shard, epoch, "n1", "n3"); err != nil {
		t.Errorf("second release: %v", err)
	}
	if o := owner(t, a, shard); o != before {
		t.Errorf("the second release changed %+v to %+v", before, o)
	}
	wantTail(t, s, shard, "", "one")
}

func positions(t *testing.T, s *suite) {
	a, shard := s.handles[0], s.shard()
	epoch := claim(t, a, shard, 0, "n1")
	mustAdd(t, a, shard, epoch, 1, "one")
	mustAdd(t, a, shard, epoch, 1, "one") // as after a lost answer
	if f := add(t, a, shard, epoch, 1, "other"); f != journal.Deposed {
		t.Errorf("another group at the same position: fate %d, want deposed", f)
	}
	mustAdd(t, a, shard, epoch, 2, "")
	mustAdd(t, a, shard, epoch, 2, "")
	wantTail(t, s, shard, "", "one", "")
}

func manyShards(t *testing.T, s *suite) {
	a, b := s.handles[0], s.handles[1]
	var groups []journal.Append
	var want []journal.Fate
	for i := range 150 { // more than one transaction of some drivers takes
		shard := s.shard()
		g := journal.Append{Shard: shard, Epoch: claim(t, a, shard, 0, "n1"), Seq: 1, Data: fmt.Appendf(nil, "group %d", i)}
		fate := journal.Durable
		switch i % 10 {
		case 3:
			claim(t, b, shard, g.Epoch, "n2")
			fate = journal.Deposed
		case 5:
			mustAdd(t, a, shard, g.Epoch, 1, string(g.Data))
		case 7:
			mustAdd(t, a, shard, g.Epoch, 1, "other")
			fate = journal.Deposed
		}
		groups, want = append(groups, g), append(want, fate)
	}
	never := journal.Append{Shard: s.shard(), Epoch: 1, Seq: 1, Data: []byte("nobody owns it")}
	groups, want = append(groups, never), append(want, journal.Deposed)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	fates := a.Append(ctx, groups, true)
	for i, g := range groups {
		if fates[i] != want[i] {
			t.Errorf("group %d: fate %d, want %d", i, fates[i], want[i])
		}
		_, entries, err := b.Tail(t.Context(), g.Shard)
		if err != nil {
			t.Fatal(err)
		}
		if there := len(entries) == 1 && bytes.Equal(entries[0], g.Data); there != (want[i] == journal.Durable) {
			t.Errorf("group %d: entries %q after fate %d", i, entries, fates[i])
		}
	}
	if fates := a.Append(ctx, nil, true); len(fates) != 0 {
		t.Errorf("no groups: fates %v", fates)
	}
}

// unfenced is what a planted bug asks for.
func unfenced(t *testing.T, s *suite) {
	a, shard := s.handles[0], s.shard()
	old := claim(t, a, shard, 0, "n1")
	mustAdd(t, a, shard, old, 1, "one")
	claim(t, s.handles[1], shard, old, "n2")
	for seq, data := range map[int64]string{1: "over", 2: "beside"} {
		if f := a.Append(t.Context(), []journal.Append{{Shard: shard, Epoch: old, Seq: seq, Data: []byte(data)}}, false)[0]; f != journal.Durable {
			t.Errorf("unfenced append at %d: fate %d", seq, f)
		}
	}
	wantTail(t, s, shard, "", "over", "beside")
}

func concurrent(t *testing.T, s *suite) {
	const writers, each = 8, 25
	var wg sync.WaitGroup
	var shards [writers]int
	for i := range writers {
		shards[i] = s.shard()
		wg.Go(func() {
			h := s.handles[i%len(s.handles)]
			epoch, won, err := h.Claim(t.Context(), shards[i], 0, "n")
			if !won {
				t.Errorf("claim: %v", err)
			}
			for seq := range int64(each) {
				if f := add(t, h, shards[i], epoch, seq+1, fmt.Sprintf("%d/%d", i, seq)); f != journal.Durable {
					t.Errorf("writer %d at %d: fate %d", i, seq+1, f)
				}
			}
		})
	}
	wg.Wait()
	for i, shard := range shards {
		var want []string
		for seq := range each {
			want = append(want, fmt.Sprintf("%d/%d", i, seq))
		}
		wantTail(t, s, shard, "", want...)
	}
}

func tail(t *testing.T, s *suite) {
	a, b, shard, other := s.handles[0], s.handles[1], s.shard(), s.shard()
	if head, entries, err := a.Tail(t.Context(), shard); head != nil || len(entries) != 0 || err != nil {
		t.Errorf("of a shard without a journal: %q, %q, %v", head, entries, err)
	}
	epoch := claim(t, a, shard, 0, "n1")
	mustAdd(t, a, other, claim(t, a, other, 0, "n1"), 2, "of another shard")
	for seq := range int64(20) { // past 9, 16: their order is that of numbers
		mustAdd(t, a, shard, epoch, seq+1, fmt.Sprint(seq+1))
	}
	if err := a.Cut(t.Context(), shard, epoch, 17, []byte("head 17")); err != nil {
		t.Fatal(err)
	}
	wantTail(t, s, shard, "head 17", "18", "19", "20")
	if err := a.Cut(t.Context(), shard, epoch, 20, []byte("head 20")); err != nil {
		t.Fatal(err)
	}
	wantTail(t, s, shard, "head 20")
	now := claim(t, b, shard, epoch, "n2")
	mustAdd(t, b, shard, now, 21, "21")
	if err := b.Cut(t.Context(), shard, now, 20, []byte("head of n2")); err != nil {
		t.Fatal(err)
	}
	wantTail(t, s, shard, "head of n2", "21")
	wantTail(t, s, other, "", "of another shard")
}

func manyEntries(t *testing.T, s *suite) {
	a, shard := s.handles[0], s.shard()
	epoch := claim(t, a, shard, 0, "n1")
	var want []string
	for i := range 500 {
		want = append(want, fmt.Sprint("entry ", i))
		mustAdd(t, a, shard, epoch, int64(i)+1, want[i])
	}
	wantTail(t, s, shard, "", want...)
	if err := a.Cut(t.Context(), shard, epoch, 499, []byte("head")); err != nil {
		t.Fatal(err)
	}
	wantTail(t, s, shard, "head", want[499])
}

func largeData(t *testing.T, s *suite) {
	a := s.handles[0]
	data := bytes.Repeat([]byte("0123456789abcde\x00"), journal.MaxData/16)
	var groups []journal.Append
	for range 3 { // more than some drivers take at once
		shard := s.shard()
		groups = append(groups, journal.Append{Shard: shard, Epoch: claim(t, a, shard, 0, "n1"), Seq: 1, Data: data})
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i, f := range a.Append(ctx, groups, true) {
		if f != journal.Durable {
			t.Fatalf("group %d: fate %d", i, f)
		}
		wantTail(t, s, groups[i].Shard, "", string(data))
	}
	g := groups[0]
	mustAdd(t, a, g.Shard, g.Epoch, 1, string(data))
	large := []journal.Checkpoint{{Type: "cart", Key: "1", Data: data}, {Type: "cart", Key: "2", Data: data}}
	if err := a.Store(t.Context(), g.Shard, g.Epoch, large); err != nil {
		t.Fatal(err)
	}
	if err := a.Cut(t.Context(), g.Shard, g.Epoch, 1, data); err != nil {
		t.Fatal(err)
	}
	wantTail(t, s, g.Shard, string(data))
	if got, err := s.handles[1].Load(t.Context(), g.Shard, "cart", "2"); !bytes.Equal(got, data) {
		t.Errorf("large checkpoint: %d bytes, %v", len(got), err)
	}
}

func checkpoints(t *testing.T, s *suite) {
	a, b, shard, other := s.handles[0], s.handles[1], s.shard(), s.shard()
	epoch := claim(t, a, shard, 0, "n1")
	if data, err := a.Load(t.Context(), shard, "cart", "none"); data != nil || err != nil {
		t.Errorf("load of what is not there: %q, %v", data, err)
	}
	var many []journal.Checkpoint // more than one transaction of some drivers takes
	for i := range 200 {
		many = append(many, journal.Checkpoint{Type: "cart", Key: fmt.Sprint(i), Data: fmt.Append(nil, "state ", i)})
	}
	if err := a.Store(t.Context(), shard, epoch, many); err != nil {
		t.Fatal(err)
	}
	many[7].Data = []byte("newer")
	if err := a.Store(t.Context(), shard, epoch, many[7:8]); err != nil {
		t.Fatal(err)
	}
	if err := a.Store(t.Context(), shard, epoch, nil); err != nil {
		t.Errorf("no checkpoints: %v", err)
	}
	for _, c := range many {
		if data, err := b.Load(t.Context(), shard, c.Type, c.Key); !bytes.Equal(data, c.Data) || err != nil {
			t.Errorf("load %s: %q, %v", c.Key, data, err)
		}
	}
	for _, where := range []struct {
		shard int
		typ   string
	}{{other, "cart"}, {shard, "other"}} {
		if data, err := b.Load(t.Context(), where.shard, where.typ, "7"); data != nil || err != nil {
			t.Errorf("load of %s in shard %d: %q, %v", where.typ, where.shard, data, err)
		}
	}
	claim(t, b, shard, epoch, "n2")
	if data, err := b.Load(t.Context(), shard, "cart", "7"); string(data) != "newer" || err != nil {
		t.Errorf("after a takeover: %q, %v", data, err)
	}
}

func oddBytes(t *testing.T, s *suite) {
	a, shard := s.handles[0], s.shard()
	epoch := claim(t, a, shard, 0, "n1")
	long := string(bytes.Repeat([]byte("x"), journal.MaxID-1))
	ids := [][2]string{
		{"a", "b/c"}, {"a/b", "c"}, {"a%2Fb", "c"}, {"a", ""}, {"", "a"}, {"a", "'; --"}, {"a", `"\`}, {"a", "\x00"},
		{"a", "\x00\x00"}, {"a\x00", "b"}, {"a", "\xff\xfe"}, {"\xff", "a"}, {"a", "ä"}, {"a", "a\u0308"}, {"a", " "}, {"A", "b/c"}, {"a", long},
	}
	var all []journal.Checkpoint
	for i, id := range ids {
		all = append(all, journal.Checkpoint{Type: id[0], Key: id[1], Data: fmt.Appendf(nil, "%d\x00\xff", i)})
	}
	if err := a.Store(t.Context(), shard, epoch, all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if data, err := s.handles[1].Load(t.Context(), shard, c.Type, c.Key); !bytes.Equal(data, c.Data) || err != nil {
			t.Errorf("load %.20q/%.20q: %q, %v; want %q", c.Type, c.Key, data, err, c.Data)
		}
	}
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	mustAdd(t, a, shard, epoch, 1, string(every))
	wantTail(t, s, shard, "", string(every))
}

func endedContext(t *testing.T, s *suite) {
	a, shard := s.handles[0], s.shard()
	epoch := claim(t, a, shard, 0, "n1")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	g := journal.Append{Shard: shard, Epoch: epoch, Seq: 1, Data: []byte("x")}
	if f := a.Append(ended, []journal.Append{g}, true)[0]; f != journal.Undecided {
		t.Errorf("append: fate %d, want undecided", f)
	}
	if _, err := a.View(ended); err == nil {
		t.Error("view: no error")
	}
	if _, won, err := a.Claim(ended, shard, epoch, "n2"); err == nil || won {
		t.Errorf("claim: won %t, no error", won)
	}
	if err := a.Store(ended, shard, epoch, []journal.Checkpoint{{Type: "a", Key: "b"}}); err == nil || errors.Is(err, journal.ErrDeposed) {
		t.Errorf("checkpoint: %v", err)
	}
	if err := a.Cut(ended, shard, epoch, 1, nil); err == nil || errors.Is(err, journal.ErrDeposed) {
		t.Errorf("cut: %v", err)
	}
	if _, _, err := a.Tail(ended, shard); err == nil {
		t.Error("tail: no error")
	}
	if _, err := a.Load(ended, shard, "a", "b"); err == nil {
		t.Error("load: no error")
	}
	// The claim may have happened, or still be on its way.
	if f := add(t, a, shard, epoch, 1, "x"); f != journal.Durable && owner(t, a, shard).Revision == epoch {
		t.Errorf("append of the owner: fate %d", f)
	}
}

// viewIsOneInstant claims shards in turn, first before second: no view may show
// a claim of the second without that of the first which came before it.
func viewIsOneInstant(t *testing.T, s *suite) {
	first, second := s.shard(), s.shard()
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		var at [2]int64
		for round := range 60 {
			for i, shard := range []int{first, second} {
				epoch, err := tryClaim(t.Context(), s.handles[0], shard, at[i], fmt.Sprint(round+1))
				if err != nil {
					t.Error(err)
					return
				}
				at[i] = epoch
			}
		}
	}()
	round := func(o journal.Owner) (n int) {
		fmt.Sscan(o.Node, &n)
		return n
	}
	latest := 0
	for views := 0; ; views++ {
		v, err := view(t.Context(), s.handles[1])
		if err != nil {
			t.Fatal(err)
		}
		a, b := round(v.Owners[first]), round(v.Owners[second])
		if a < b || a > b+1 {
			t.Fatalf("view %d shows the first shard in round %d and the second in round %d", views, a, b)
		}
		if a+b < latest {
			t.Fatalf("view %d is older than the one before", views)
		}
		latest = a + b
		select {
		case <-done:
			if o := owner(t, s.handles[1], second); round(o) != 60 {
				t.Errorf("a view after the last claim shows %+v", o)
			}
			return
		default:
		}
	}
}

func watchOwners(t *testing.T, s *suite) {
	shard := s.shard()
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.handles[1].WatchOwners(ctx, changed)
	}()
	// When it has begun to watch is not known: claim until it says something.
	// A hint may be one for the beginning; after two, claims are seen.
	seen := int64(0)
	deadline := time.After(patience)
	for hints := 0; hints < 3; {
		seen = claim(t, s.handles[0], shard, seen, "n1")
		select {
		case <-changed:
			hints++
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%d hints", hints)
		}
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("still watches after the end of its context")
	}
}

func maintain(t *testing.T, s *suite) {
	a, shard := s.handles[0], s.shard()
	epoch := claim(t, a, shard, 0, "n1")
	for seq := range int64(10) {
		mustAdd(t, a, shard, epoch, seq+1, fmt.Sprint(seq+1))
	}
	if err := a.Store(t.Context(), shard, epoch, []journal.Checkpoint{{Type: "cart", Key: "1", Data: []byte("state")}}); err != nil {
		t.Fatal(err)
	}
	if err := a.Cut(t.Context(), shard, epoch, 8, []byte("head")); err != nil {
		t.Fatal(err)
	}
	for _, h := range s.handles {
		if err := h.Maintain(t.Context()); err != nil {
			t.Error(err)
		}
		owner(t, h, shard)
		if st := h.Status(); !st.Up || st.Used > st.Size {
			t.Errorf("status %+v", st)
		}
	}
	wantTail(t, s, shard, "head", "9", "10")
	if data, err := a.Load(t.Context(), shard, "cart", "1"); string(data) != "state" || err != nil {
		t.Errorf("checkpoint: %q, %v", data, err)
	}
	mustAdd(t, a, shard, epoch, 11, "11")
}

// BenchmarkAppend measures appends of one group of size bytes, one at a time.
func BenchmarkAppend(b *testing.B, h journal.Store, size int) {
	owners, err := h.View(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	shard := len(owners.Owners)
	epoch, won, err := h.Claim(b.Context(), shard, 0, "n1")
	if err != nil || !won {
		b.Fatalf("claim: won %t, %v", won, err)
	}
	g := []journal.Append{{Shard: shard, Epoch: epoch, Data: make([]byte, size)}}
	b.SetBytes(int64(size))
	for b.Loop() {
		g[0].Seq++
		if f := h.Append(b.Context(), g, true)[0]; f != journal.Durable {
			b.Fatalf("append %d: fate %d", g[0].Seq, f)
		}
	}
}
