package core_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/entity"
	"statequake/runtime/journal"
)

// pile keeps what it is given, and sets a timer of the name if told to.
type pile struct {
	Items []string `json:"items"`
}

var pileType = entity.EventSourced[pile]{
	Name: "pile",
	Commands: map[string]entity.Handler[pile]{
		"add": entity.Decide(func(c *entity.Context, p *pile, item string) (int, error) {
			c.Emit("added", item)
			return len(p.Items) + 1, nil
		}),
		"later": entity.Decide(func(c *entity.Context, _ *pile, name string) (int, error) {
			c.After(name, time.Hour, "add", name)
			return 0, nil
		}),
	},
	Events: map[string]entity.Fold[pile]{
		"added": entity.On(func(p *pile, item string) { p.Items = append(p.Items, item) }),
	},
}.Type()

// pileShard has the pile k and its timers in memory.
func pileShard(t *testing.T) *core.Shard {
	s := core.New(core.Config{Types: map[string]entity.Type{"pile": pileType}, Lease: time.Hour}, 1, core.Head{}, nil, 0)
	out := s.Tick(0, 1)
	s.Submit(0, core.Command{Op: "first", ID: core.ID{Type: "pile", Key: "k"}, Name: "later", Args: json.RawMessage(`"first"`)})
	for _, id := range append(out.Loads, core.ID{Type: "pile", Key: "k"}) {
		if _, err := s.Loaded(0, id, nil); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// fill sends a command with every argument until one is refused, and returns
// how many were taken.
func fill(t *testing.T, s *core.Shard, command string, arg func(i int) string, want error) int {
	t.Helper()
	for i := range 100_000 {
		raw, err := json.Marshal(arg(i))
		if err != nil {
			t.Fatal(err)
		}
		s.Submit(0, core.Command{Op: strconv.Itoa(i), ID: core.ID{Type: "pile", Key: "k"}, Name: command, Args: raw})
		for {
			if _, ok := s.Gather(); !ok {
				break
			}
			for _, r := range s.Durable().Replies {
				if r.Err != nil {
					t.Fatal(r.Err)
				}
			}
		}
		// A refusal has no record: it is found by one more command.
		out := s.Submit(0, core.Command{Op: strconv.Itoa(i), ID: core.ID{Type: "pile", Key: "k"}, Name: command, Args: raw})
		if len(out.Replies) != 1 {
			t.Fatalf("%s %d: %d replies to a retry", command, i, len(out.Replies))
		}
		if err := out.Replies[0].Err; errors.Is(err, want) {
			return i
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%s is never refused", command)
	return 0
}

// TestStateFits fills an entity up: what it holds at the limit still fits a checkpoint.
func TestStateFits(t *testing.T) {
	s := pileShard(t)
	item := strings.Repeat("x", 9_997)
	n := fill(t, s, "add", func(int) string { return item }, core.ErrTooLarge)
	c, ok, _, err := s.Snapshot(core.ID{Type: "pile", Key: "k"})
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if len(c.State) > core.MaxState || len(c.State) < core.MaxState-10_100 {
		t.Errorf("%d items make a snapshot of %d bytes, want as much as fits %d", n, len(c.State), core.MaxState)
	}
	if got := strings.Count(string(c.State), item); got != n {
		t.Errorf("%d items in the snapshot, %d were taken", got, n)
	}
}

// TestTimersFit sets timers with short names until there is no room: their page
// still fits a checkpoint.
func TestTimersFit(t *testing.T) {
	s := pileShard(t)
	fill(t, s, "later", func(i int) string { return strconv.Itoa(i) }, core.ErrFull)
	_, dirty := s.Plan()
	pages := 0
	for _, id := range dirty {
		if id.Type == "pile" {
			continue
		}
		c, ok, _, err := s.Snapshot(id)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		pages++
		if size := len(c.State); size > journal.MaxData || size < journal.MaxData/2 {
			t.Errorf("%d timers take %d bytes in a checkpoint, which takes %d", s.Timers(), size, journal.MaxData)
		}
	}
	if pages != 1 {
		t.Errorf("%d pages hold the timers of one entity", pages)
	}
}
