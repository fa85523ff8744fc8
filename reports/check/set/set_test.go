package set

import (
	"reflect"
	"testing"
	"time"
)

// TestLatencies: what becomes of elements, and when, by the rules of Jepsen's
// set-full.
func TestLatencies(t *testing.T) {
	add := func(e int32, call, returned time.Duration, open bool) Op {
		return Op{Call: call, Return: returned, Element: e, Open: open}
	}
	read := func(call, returned time.Duration, elements ...int32) Op {
		return Op{Call: call, Return: returned, Read: true, Elements: elements}
	}
	got := Check([]Op{
		add(0, 0, 10, false),  // there from the start
		add(1, 0, 10, false),  // missed once at 30, so stable from 31: 21 after it was known
		add(2, 0, 10, false),  // there at 20, then gone: lost 11 after it was known
		add(3, 0, 10, false),  // never there: lost at once
		add(4, 0, 10, true),   // unknown outcome, known by the read at 50
		add(5, 0, 10, true),   // unknown outcome, never there
		add(6, 58, 70, false), // not asked for after it was known
		read(20, 25, 0, 1, 2),
		read(30, 35, 0),
		read(50, 55, 4, 1, 0),
	})
	want := Result{
		Twice:     [2]int32{None, None},
		Attempted: 7, Acknowledged: 5, Stable: 3, Lost: 2, NeverRead: 2, Stale: 1,
		StableLatency: Latency{P50: 0, Max: 21, N: 3},
		LostLatency:   Latency{P50: 11, Max: 11, N: 2},
		Violations: []Violation{
			{StaleRead, 8, 1, 1},
			{Lost, 9, 2, 2},
			{Lost, 9, 3, 3},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if twice := Check([]Op{add(0, 0, 1, false), read(2, 3), add(0, 4, 5, true)}).Twice; twice != [2]int32{0, 2} {
		t.Errorf("two adds of one element: %v", twice)
	}
}
