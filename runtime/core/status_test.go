package core_test

import (
	"fmt"
	"testing"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/entity"
)

// Three commands for an entity that is loaded first: they wait, then lag, and
// the lag goes as the store follows. The entity leaves for the next one.
func TestStatus(t *testing.T) {
	s := core.New(core.Config{
		Types: map[string]entity.Type{"tally": {Name: "tally", New: func() entity.Entity { return &tally{} }}}, Lease: time.Hour, MaxEntities: 1,
	}, 1, core.Head{}, nil, 0)
	check := func(now time.Duration, waiting int, records int64, age time.Duration) {
		t.Helper()
		if r, a := s.Lag(now); s.Waiting() != waiting || r != records || a != age {
			t.Errorf("%d wait, lag %d since %s; want %d, %d, %s", s.Waiting(), r, a, waiting, records, age)
		}
	}
	submit := func(key string, at time.Duration, op int) core.Output {
		return s.Submit(at, core.Command{Ticket: op, Op: fmt.Sprint(op), ID: core.ID{Type: "tally", Key: key}, Name: "add", Args: []byte(`{"n":1}`)})
	}
	must := func(_ core.Output, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(0, 0, 0, 0)
	for i := range 3 {
		submit("a", 10*time.Millisecond, i)
	}
	check(12*time.Millisecond, 3, 0, 0)
	must(s.Loaded(20*time.Millisecond, core.ID{Type: "tally", Key: "a"}, nil))
	check(50*time.Millisecond, 0, 3, 30*time.Millisecond)
	s.Gather()
	submit("a", 60*time.Millisecond, 3)
	check(70*time.Millisecond, 0, 4, 50*time.Millisecond)
	s.Durable()
	check(70*time.Millisecond, 0, 1, 10*time.Millisecond)
	s.Gather()
	s.Durable()
	check(70*time.Millisecond, 0, 0, 0)

	submit("b", 80*time.Millisecond, 4)
	must(s.Loaded(90*time.Millisecond, core.ID{Type: "tally", Key: "b"}, nil))
	s.Stored(core.ID{Type: "tally", Key: "a"}, 4)
	if out := submit("b", 90*time.Millisecond, 5); out.Passivated != 1 {
		t.Errorf("%d entities have left memory, want 1", out.Passivated)
	}
	if out := submit("b", 90*time.Millisecond, 6); out.Passivated != 0 {
		t.Errorf("%d more entities have left memory, want none", out.Passivated)
	}
}
