package memory

import (
	"context"
	"errors"
	"slices"
	"testing"

	"statequake/runtime/journal"
	"statequake/runtime/journal/journaltest"
)

var _ journal.Store = (*Store)(nil)

func TestConformance(t *testing.T) {
	journaltest.Run(t, func(*testing.T) []journal.Store {
		c := New()
		return []journal.Store{c.Open(Faults{}), c.Open(Faults{}), c.Open(Faults{})}
	})
}

// script returns faults that happen one after the other to attempts of op.
func script(op string, faults ...Fault) Faults {
	return Faults{Fault: func(at string) Fault {
		if at != op || len(faults) == 0 {
			return None
		}
		f := faults[0]
		faults = faults[1:]
		return f
	}}
}

func claim(t *testing.T, s *Store, seen int64) int64 {
	t.Helper()
	epoch, won, err := s.Claim(t.Context(), 0, seen, "n")
	if err != nil || !won {
		t.Fatalf("claim at %d: won %t, %v", seen, won, err)
	}
	return epoch
}

func wantTail(t *testing.T, c *Cluster, want ...string) {
	t.Helper()
	_, entries, err := c.Open(Faults{}).Tail(t.Context(), 0)
	var got []string
	for _, e := range entries {
		got = append(got, string(e))
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("entries %q (%v), want %q", got, err, want)
	}
}

// An append whose answers are lost takes effect once.
func TestAmbiguousAppend(t *testing.T) {
	for _, faults := range [][]Fault{
		{Lost}, {Unanswered}, {Late}, {Lost, Unanswered}, {Unanswered, Lost, Late}, {Late, Late, Unanswered},
	} {
		c := New()
		s := c.Open(script("append", faults...))
		epoch := claim(t, s, 0)
		if f := s.Append(t.Context(), []journal.Append{{Epoch: epoch, Seq: 1, Data: []byte("one")}}, true)[0]; f != journal.Durable {
			t.Errorf("%v: fate %d", faults, f)
		}
		c.Deliver()
		wantTail(t, c, "one")
	}
}

// What comes after the epoch is over is refused, however late it comes.
func TestLate(t *testing.T) {
	c := New()
	ctx, cancel := context.WithCancel(t.Context())
	late := c.Open(Faults{
		Fault: func(op string) Fault {
			switch op {
			case "append":
				cancel() // do not try again
				return Late
			case "store", "cut", "release":
				return Late
			}
			return None
		},
	})
	epoch := claim(t, late, 0)
	if f := late.Append(ctx, []journal.Append{{Epoch: epoch, Seq: 1, Data: []byte("late")}}, true)[0]; f != journal.Undecided {
		t.Errorf("late append: fate %d", f)
	}
	if err := late.Store(t.Context(), 0, epoch, []journal.Checkpoint{{Type: "a", Key: "b", Data: []byte("late")}}); !errors.Is(err, ErrLost) {
		t.Errorf("late checkpoint: %v", err)
	}
	if err := late.Cut(t.Context(), 0, epoch, 1, []byte("late")); !errors.Is(err, ErrLost) {
		t.Errorf("late cut: %v", err)
	}
	if err := late.Release(t.Context(), 0, epoch, "n", "m"); !errors.Is(err, ErrLost) {
		t.Errorf("late release: %v", err)
	}
	other := c.Open(Faults{})
	now := claim(t, other, epoch)
	c.Deliver()
	wantTail(t, c)
	if data, err := other.Load(t.Context(), 0, "a", "b"); data != nil || err != nil {
		t.Errorf("the late checkpoint is there: %q, %v", data, err)
	}
	if v, _ := other.View(t.Context()); v.Owners[0].Revision != now {
		t.Errorf("owner %+v, want epoch %d", v.Owners[0], now)
	}
}

// Within an epoch a late checkpoint does not undo a newer one, and a late
// append does not come back below a cut.
func TestLateWithinEpoch(t *testing.T) {
	c := New()
	s := c.Open(script("store", Late))
	epoch := claim(t, s, 0)
	put := func(data string) error {
		return s.Store(t.Context(), 0, epoch, []journal.Checkpoint{{Type: "a", Key: "b", Data: []byte(data)}})
	}
	if err := put("old"); !errors.Is(err, ErrLost) {
		t.Fatal(err)
	}
	if err := put("new"); err != nil {
		t.Fatal(err)
	}
	twice := c.Open(script("append", Late))
	twice.Append(t.Context(), []journal.Append{{Epoch: epoch, Seq: 1, Data: []byte("one")}}, true)
	if err := s.Cut(t.Context(), 0, epoch, 1, []byte("head")); err != nil {
		t.Fatal(err)
	}
	c.Deliver()
	wantTail(t, c)
	if data, _ := s.Load(t.Context(), 0, "a", "b"); string(data) != "new" {
		t.Errorf("checkpoint %q, want the newer one", data)
	}
}

func TestFaultsElsewhere(t *testing.T) {
	c := New()
	var delayed []string
	s := c.Open(Faults{
		Fault: script("claim", Lost, Unanswered).Fault,
		Delay: func(op string) { delayed = append(delayed, op) },
	})
	for range 2 {
		if _, won, err := s.Claim(t.Context(), 0, 0, "n"); won || !errors.Is(err, ErrLost) {
			t.Errorf("won %t, %v", won, err)
		}
		v, err := s.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// Two claims: the first did not happen, the second did.
		if happened := v.Owners[0].Revision != 0; happened != (len(delayed) > 4) {
			t.Errorf("after %q: owner %+v", delayed, v.Owners[0])
		}
	}
	want := []string{"claim", "claim", "view", "view", "claim", "claim", "view", "view"}
	if !slices.Equal(delayed, want) {
		t.Errorf("delayed %q, want %q", delayed, want)
	}
}

// Hints may come for nothing, and may be missed.
func TestHints(t *testing.T) {
	c := New()
	deaf := make(chan struct{}, 1)
	hearing := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	for s, changed := range map[*Store]chan struct{}{c.Open(script("watch", Lost)): deaf, c.Open(Faults{}): hearing} {
		go func() {
			s.WatchOwners(ctx, changed)
			ended <- struct{}{}
		}()
	}
	for watching := 0; watching < 2; { // both will; there is nothing else to wait for
		c.mu.Lock()
		watching = len(c.watchers)
		c.mu.Unlock()
	}
	epoch := claim(t, c.Open(Faults{}), 0)
	if len(deaf) != 0 || len(hearing) != 1 {
		t.Errorf("after a claim: %d and %d hints, want 0 and 1", len(deaf), len(hearing))
	}
	<-hearing
	c.Hint()
	if v, err := c.Open(Faults{}).View(t.Context()); len(deaf) != 1 || len(hearing) != 1 || v.Owners[0].Revision != epoch {
		t.Errorf("after a hint for nothing: %d and %d hints, owner %+v, %v", len(deaf), len(hearing), v.Owners[0], err)
	}
	cancel()
	<-ended
	<-ended
}
