package shrink

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"statequake/chaos"
	"statequake/scenarios"
)

// number is something of a scenario that can be less.
type number struct {
	name  string
	now   int64
	least int64
	unit  time.Duration // of a time, in which it is counted; 0 for a count
	words string        // for the change, where the numbers say nothing
	set   func(s *scenarios.Scenario, to int64)
}

// sizes are those below the present one, in ascending order: the least one, then
// 1, 2, 3, 5 and 7 times powers of ten, which read well and are as close to each
// other as is worth a run.
func (d number) sizes() []int64 {
	var sizes []int64
	if d.least < d.now {
		sizes = append(sizes, d.least)
	}
	for power := int64(1); power < d.now; power *= 10 {
		for _, digit := range []int64{1, 2, 3, 5, 7} {
			if n := digit * power; n > d.least && n < d.now {
				sizes = append(sizes, n)
			}
		}
	}
	return sizes
}

// change returns a copy of s, of which the number is, with the number changed,
// and says so in words.
func (d number) change(s *scenarios.Scenario, to int64) (string, *scenarios.Scenario) {
	c := clone(s)
	d.set(c, to)
	switch {
	case d.words != "":
		return d.words, c
	case d.unit > 0:
		return fmt.Sprintf("%s %v -> %v", d.name, time.Duration(d.now)*d.unit, time.Duration(to)*d.unit), c
	}
	return fmt.Sprintf("%s %d -> %d", d.name, d.now, to), c
}

// timeUnit is how exactly the instants of a smaller scenario are found.
const timeUnit = 100 * time.Millisecond

// numbers are what can be less in s, faults apart.
func numbers(s *scenarios.Scenario) []number {
	all := gaps(s)
	count := func(name string, now, least int64, set func(*scenarios.Scenario, int64)) {
		all = append(all, number{name: name, now: now, least: least, set: set})
	}
	span := func(name string, now time.Duration, set func(*scenarios.Scenario, time.Duration)) {
		all = append(all, number{name: name, now: ceil(now), unit: timeUnit, set: func(s *scenarios.Scenario, n int64) { set(s, time.Duration(n)*timeUnit) }})
	}
	span("load.warmup", s.Load.Warmup, func(s *scenarios.Scenario, d time.Duration) { s.Load.Warmup = d })
	// The probes first: what they alone can show as well is better shown by the load.
	count("probes of a key per minute", int64(time.Minute/s.Probe.Every), 1, func(s *scenarios.Scenario, n int64) { s.Probe.Every = time.Minute / time.Duration(n) })
	count("probe.keys", int64(s.Probe.Keys), 1, func(s *scenarios.Scenario, n int64) { s.Probe.Keys = int(n) })
	count("load.workload.keys", int64(s.Load.Workload.Keys), 1, func(s *scenarios.Scenario, n int64) { s.Load.Workload.Keys = int(n) })
	if s.Load.Arrivals.Clients > 0 {
		count("load.arrivals.closed.clients", int64(s.Load.Arrivals.Clients), 1, func(s *scenarios.Scenario, n int64) { s.Load.Arrivals.Clients = int(n) })
	} else if s.Load.Arrivals.Constant > 0 { // how the others change is not to be made less
		count("load.arrivals.constant", int64(s.Load.Arrivals.Constant), 1, func(s *scenarios.Scenario, n int64) { s.Load.Arrivals.Constant = float64(n) })
	}
	if own := s.System.Own; own == nil || own.Started() {
		count("system.nodes", int64(s.System.Nodes), 1, func(s *scenarios.Scenario, n int64) { s.System.Nodes = int(n) })
	}
	for _, op := range slices.Sorted(maps.Keys(s.Load.Workload.Mix)) {
		// An operation is in the mix or not; how often says little.
		all = append(all, number{
			name: "load.workload.mix." + op, now: int64(min(s.Load.Workload.Mix[op], 1)), words: "without operations " + op,
			set: func(s *scenarios.Scenario, _ int64) { s.Load.Workload.Mix[op] = 0 },
		})
	}
	count("load.retry.max", int64(s.Load.Retry.Max), 0, func(s *scenarios.Scenario, n int64) { s.Load.Retry.Max = int(n) })
	if s.Load.Retry.Duplicate > 0 {
		all = append(all, number{name: "load.retry.duplicate", now: 1, words: "without duplicates", set: func(s *scenarios.Scenario, _ int64) { s.Load.Retry.Duplicate = 0 }})
	}
	for i, f := range s.Faults {
		switch t := f.Trigger.(type) {
		case chaos.AfterAcks:
			count("faults."+f.Name+".after.acks", int64(t), 1, func(s *scenarios.Scenario, n int64) { s.Faults[i].Trigger = chaos.AfterAcks(n) })
		case chaos.OnFile:
			count("faults."+f.Name+".on.nth", int64(t.Nth), 1, func(s *scenarios.Scenario, n int64) {
				t.Nth = int(n)
				s.Faults[i].Trigger = t
			})
		}
	}
	return all
}

// ceil is a time in timeUnits, rounded up.
func ceil(d time.Duration) int64 { return int64((d + timeUnit - 1) / timeUnit) }

// instant is when a fault comes, at the earliest; false if that is not given by
// the clock.
func instant(f scenarios.Fault) (time.Duration, bool) {
	switch t := f.Trigger.(type) {
	case chaos.At:
		return time.Duration(t), true
	case chaos.Within:
		return t.From, true
	}
	return 0, false
}

// timed are the faults that come by the clock, in the order of their instants.
func timed(s *scenarios.Scenario) []int {
	var order []int
	for i, f := range s.Faults {
		if _, ok := instant(f); ok {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, _ := instant(s.Faults[a])
		y, _ := instant(s.Faults[b])
		return cmp.Compare(x, y)
	})
	return order
}

// gaps are the times from the start of the load to its first fault, from each
// fault to the next, and from the last one to the end. When one is less, all that
// comes later moves with it, so every fault stays in the load and in its order.
func gaps(s *scenarios.Scenario) []number {
	order := timed(s)
	if len(order) == 0 {
		return []number{gap("load.duration", 0, s.Load.Duration, int64(time.Second/timeUnit))}
	}
	var all []number
	from := time.Duration(0)
	for _, i := range order {
		at, _ := instant(s.Faults[i])
		all = append(all, gap("time before "+s.Faults[i].Name, from, at, 0))
		from = at
	}
	// Exactly at the end there is no load any more.
	return append(all, gap("time after "+s.Faults[order[len(order)-1]].Name, from, s.Load.Duration, 1))
}

func gap(name string, from, to time.Duration, least int64) number {
	return number{name: name, now: ceil(to - from), least: least, unit: timeUnit, set: func(s *scenarios.Scenario, n int64) {
		shift(s, to, to-from-time.Duration(n)*timeUnit)
	}}
}

// shift takes a time out of the load: what was at the instant from, or later,
// comes so much earlier.
func shift(s *scenarios.Scenario, from, by time.Duration) {
	for i, f := range s.Faults {
		if at, ok := instant(f); ok && at >= from {
			s.Faults[i].Trigger = earlier(f.Trigger, by)
		}
	}
	s.Load.Duration -= by
}

// earlier is a trigger by the clock, so much earlier.
func earlier(t chaos.Trigger, by time.Duration) chaos.Trigger {
	if w, ok := t.(chaos.Within); ok {
		return chaos.Within{From: w.From - by, To: w.To - by}
	}
	return t.(chaos.At) - chaos.At(by)
}

// withFaults is s with some of its faults, less those that run while another
// does that is gone. A fault takes its time with it, from its instant to that of
// the next one or to the end of the load; but if none is left that comes by the
// clock, the load stays as long as it was.
func withFaults(s *scenarios.Scenario, keep []int) *scenarios.Scenario {
	c := clone(s)
	kept := map[int]bool{}
	for _, i := range keep {
		kept[i] = true
	}
	for again := true; again; {
		again = false
		for i := range kept {
			other, ok := s.Faults[i].Trigger.(chaos.While)
			if ok && !kept[slices.IndexFunc(s.Faults, func(f scenarios.Fault) bool { return f.Name == string(other) })] {
				delete(kept, i)
				again = true
			}
		}
	}
	if order := timed(s); slices.ContainsFunc(order, func(i int) bool { return kept[i] }) {
		taken := time.Duration(0)
		for n, i := range order {
			at, _ := instant(s.Faults[i])
			next := s.Load.Duration
			if n+1 < len(order) {
				next, _ = instant(s.Faults[order[n+1]])
			}
			if kept[i] {
				c.Faults[i].Trigger = earlier(s.Faults[i].Trigger, taken)
			} else {
				taken += next - at
			}
		}
		c.Load.Duration -= taken
	}
	i := -1
	c.Faults = slices.DeleteFunc(c.Faults, func(scenarios.Fault) bool { i++; return !kept[i] })
	return c
}

func clone(s *scenarios.Scenario) *scenarios.Scenario {
	c := *s
	c.Faults = slices.Clone(s.Faults)
	c.Load.Workload.Mix = maps.Clone(s.Load.Workload.Mix)
	return &c
}

// droppedText says which faults are not among those kept.
func droppedText(s *scenarios.Scenario, keep []int) string {
	if len(keep) == 0 {
		return "without faults"
	}
	var gone []string
	for _, i := range without(indices(s), keep...) {
		gone = append(gone, s.Faults[i].Name)
	}
	return "without " + strings.Join(gone, ", ")
}
