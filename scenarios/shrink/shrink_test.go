package shrink

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"statequake/scenarios"
)

func parse(t interface{ Fatal(...any) }, text string) *scenarios.Scenario {
	s, err := scenarios.Parse("t.yaml", []byte(text), scenarios.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func names(s *scenarios.Scenario) string {
	var all []string
	for _, f := range s.Faults {
		all = append(all, f.Name)
	}
	return strings.Join(all, " ")
}

func has(s *scenarios.Scenario, name string) bool {
	return slices.ContainsFunc(s.Faults, func(f scenarios.Fault) bool { return f.Name == name })
}

// after is how much of the load is left when a fault comes.
func after(s *scenarios.Scenario, name string) time.Duration {
	i := slices.IndexFunc(s.Faults, func(f scenarios.Fault) bool { return f.Name == name })
	at, _ := instant(s.Faults[i])
	return s.Load.Duration - at
}

const four = `
name: four
seed: 1
system: {name: reference}
load:
  workload: {name: shopping-cart, keys: 500}
  arrivals: {constant: 300/s}
  duration: 18s
  retry: {duplicate: 1%}
faults:
  - {name: a, at: 2s, chaos: {kind: PodChaos, spec: {action: pod-kill, mode: all, selector: {}}}}
  - {name: b, at: 6s, chaos: {kind: PodChaos, spec: {action: pod-kill, mode: all, selector: {}}}}
  - {name: c, within: [10s, 11s], chaos: {kind: PodChaos, spec: {action: pod-kill, mode: all, selector: {}}}}
  - {name: d, while: b, chaos: {kind: ProcessPause, spec: {mode: all, duration: 1s, selector: {}}}}
`

// TestSearch: of four faults, five operations and seven numbers only what is
// needed is left.
func TestSearch(t *testing.T) {
	asked := 0
	got, err := Search(t.Context(), parse(t, four), func(_ context.Context, c Candidate) (bool, error) {
		asked++
		s := c.Scenario
		return has(s, "c") && after(s, "c") >= 1700*time.Millisecond && s.Load.Workload.Keys >= 40 && s.Load.Workload.Mix["add"] > 0 && s.System.Nodes >= 2, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w := got.Load.Workload
	have := fmt.Sprintf("%s; %v of %v, warmup %v, %d keys, %v/s, %v, %d nodes, %+v",
		names(got), after(got, "c"), got.Load.Duration, got.Load.Warmup, w.Keys, got.Load.Arrivals.Constant, w.Mix, got.System.Nodes, got.Load.Retry)
	const want = "c; 2s of 2s, warmup 0s, 50 keys, 1/s, map[add:70 get:0 remove:0], 2 nodes, {Max:0 Duplicate:0}"
	if have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
	if asked > 60 {
		t.Errorf("asked %d times", asked)
	}
}

// TestOrder: what saves most time comes first.
func TestOrder(t *testing.T) {
	var changes []string
	_, err := Search(t.Context(), parse(t, four), func(_ context.Context, c Candidate) (bool, error) {
		changes = append(changes, c.Change)
		return len(c.Scenario.Faults) == 1, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `without faults
without c, d
without a, b
time after c 8s -> 3s
time after c 8s -> 2s
time before c 2s -> 0s
load.warmup 2s -> 0s
system.nodes 3 -> 1
probes of a key per minute 3000 -> 1
probe.keys 3 -> 1
load.workload.keys 500 -> 1
load.arrivals.constant 300 -> 1
without operations add
without operations get
load.retry.max 3 -> 0
without duplicates
without faults`
	if have := strings.Join(changes, "\n"); have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
}

// TestFaultsTakeTheirTime: without a fault the load has no gap in its place.
func TestFaultsTakeTheirTime(t *testing.T) {
	for keep, want := range map[string]string{
		"a b c d": "a@2s b@6s c@10s d 18s",
		"a b c":   "a@2s b@6s c@10s 18s",
		"a c d":   "a@2s c@6s 14s", // d runs while b does
		"b d":     "b@2s d 6s",
		"c":       "c@2s 10s",
		"a":       "a@2s 6s",
		"":        "18s",
	} {
		s := parse(t, four)
		var list []int
		for i, f := range s.Faults {
			if slices.Contains(strings.Fields(keep), f.Name) {
				list = append(list, i)
			}
		}
		c, _ := whole(withFaults(s, list))
		if c == nil {
			t.Errorf("%s is not legal", keep)
			continue
		}
		var have []string
		for _, f := range c.Faults {
			name := f.Name
			if at, ok := instant(f); ok {
				name += "@" + at.String()
			}
			have = append(have, name)
		}
		have = append(have, c.Load.Duration.String())
		if got := strings.Join(have, " "); got != want {
			t.Errorf("keep %q: have %s, want %s", keep, got, want)
		}
	}
}

// drawn is a random scenario.
func drawn(t *rapid.T) *scenarios.Scenario {
	end := rapid.IntRange(1, 60).Draw(t, "duration")
	text := fmt.Sprintf(`
name: drawn
seed: 1
system: {name: reference, nodes: %d}
load:
  workload: {name: %s, keys: %d}
  arrivals: %s
  warmup: %dms
  duration: %ds
  retry: {max: %d, duplicate: %d%%}
faults:
`, rapid.IntRange(1, 5).Draw(t, "nodes"), rapid.SampledFrom([]string{"shopping-cart", "ledger", "register"}).Draw(t, "workload"), rapid.IntRange(2, 3000).Draw(t, "keys"),
		rapid.SampledFrom([]string{"{constant: 250/s}", "{constant: 0.5/s}", "{closed: {clients: 40}}"}).Draw(t, "arrivals"),
		rapid.IntRange(0, 3000).Draw(t, "warmup"), end, rapid.IntRange(0, 4).Draw(t, "retries"), rapid.IntRange(0, 2).Draw(t, "duplicate"))
	for i := range rapid.IntRange(0, 6).Draw(t, "faults") {
		at := rapid.IntRange(0, end*1000-1).Draw(t, "at")
		trigger := fmt.Sprintf("at: %dms", at)
		switch rapid.IntRange(0, 5).Draw(t, "trigger") {
		case 0:
			trigger = fmt.Sprintf("within: [%dms, %dms]", at, (at+end*1000-1)/2)
		case 1:
			trigger = fmt.Sprintf("after: {acks: %d}", rapid.IntRange(1, 500).Draw(t, "acks"))
		case 2:
			if i > 0 {
				trigger = fmt.Sprintf("while: f%d", rapid.IntRange(0, i-1).Draw(t, "other"))
			}
		}
		text += fmt.Sprintf("  - {name: f%d, %s, chaos: {kind: PodChaos, spec: {action: pod-kill, mode: all, selector: {}}}}\n", i, trigger)
	}
	return parse(t, strings.TrimSuffix(text, "faults:\n"))
}

// TestMinimal: with a predicate that always says the same, sensible or not, the
// result is accepted and no step from it is.
func TestMinimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawn(t)
		needs := rapid.SliceOfNDistinct(rapid.IntRange(0, 5), 0, 3, rapid.ID[int]).Draw(t, "needs")
		keys, seconds := rapid.IntRange(1, 3000).Draw(t, "least keys"), rapid.IntRange(1, 60).Draw(t, "least seconds")
		salt, odds := rapid.Uint32().Draw(t, "salt"), rapid.SampledFrom([]uint32{0, 2, 5}).Draw(t, "odds")
		holds := func(s *scenarios.Scenario) bool {
			if odds > 0 { // of any scenario, whatever is in it
				_, text := whole(s)
				h := fnv.New32a()
				fmt.Fprint(h, salt, text)
				return h.Sum32()>>8%odds == 0
			}
			for _, n := range needs {
				if !has(s, fmt.Sprintf("f%d", n)) {
					return false
				}
			}
			return s.Load.Workload.Keys >= keys && s.Load.Duration >= time.Duration(seconds)*time.Second
		}
		asked, last := map[string]bool{}, s
		got, err := Search(context.Background(), s, func(_ context.Context, c Candidate) (bool, error) {
			legal, key := whole(c.Scenario)
			if legal == nil {
				t.Fatalf("asked about one that is not legal: %s", c.Change)
			}
			if asked[key] {
				t.Fatalf("asked twice about the same: %s", c.Change)
			}
			asked[key] = true
			if holds(c.Scenario) {
				last = c.Scenario
				return true, nil
			}
			return false, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got != last {
			t.Fatalf("the result is not what was accepted last")
		}
		for _, step := range steps(got) {
			if holds(step.Scenario) {
				t.Fatalf("not minimal: %s is accepted", step.Change)
			}
		}
	})
}

// TestFlaky: what shows only now and then is never lost, since nothing is taken
// for smaller that was not accepted; with more tries it gets smaller.
func TestFlaky(t *testing.T) {
	size := func(tries int) (sum int) {
		for salt := range 30 {
			chance := rand.New(rand.NewPCG(1, uint64(salt)))
			got, err := Search(t.Context(), parse(t, four), func(_ context.Context, c Candidate) (bool, error) {
				for range tries {
					if has(c.Scenario, "b") && c.Scenario.Load.Workload.Keys >= 40 && chance.IntN(2) == 0 {
						return true, nil
					}
				}
				return false, nil
			})
			if err != nil || !has(got, "b") || got.Load.Workload.Keys < 40 {
				t.Fatalf("%v, have %s with %d keys", err, names(got), got.Load.Workload.Keys)
			}
			sum += len(got.Faults) + got.Load.Workload.Keys + int(got.Load.Duration/time.Second)
		}
		return sum
	}
	if one, five := size(1), size(5); five >= one {
		t.Errorf("with five tries %d, with one %d", five, one)
	}
}

// TestStopped: what was found stays, whatever ends the search.
func TestStopped(t *testing.T) {
	enough, over := errors.New("enough"), errors.New("over")
	for name, tc := range map[string]struct {
		end  func(context.CancelCauseFunc) error
		want error
	}{
		"error":  {func(context.CancelCauseFunc) error { return enough }, enough},
		"cancel": {func(cancel context.CancelCauseFunc) error { cancel(over); return nil }, over},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		asked := 0
		got, err := Search(ctx, parse(t, four), func(_ context.Context, c Candidate) (bool, error) {
			if asked++; asked == 3 {
				return false, tc.end(cancel)
			}
			return len(c.Scenario.Faults) > 0, nil
		})
		if !errors.Is(err, tc.want) || asked != 3 || len(got.Faults) >= 4 {
			t.Errorf("%s: %v after %d questions, %s left", name, err, asked, names(got))
		}
	}
}

// steps returns what is one step smaller than s and legal: without one of its
// faults, and what runs while that does, or with one of its numbers one step
// lower.
func steps(s *scenarios.Scenario) []Candidate {
	var smaller []Candidate
	add := func(text string, c *scenarios.Scenario) {
		if legal, _ := whole(c); legal != nil {
			smaller = append(smaller, Candidate{legal, text})
		}
	}
	for i := range s.Faults {
		keep := without(indices(s), i)
		add(droppedText(s, keep), withFaults(s, keep))
	}
	for _, d := range numbers(s) {
		if sizes := d.sizes(); len(sizes) > 0 {
			add(d.change(s, sizes[len(sizes)-1]))
		}
	}
	return smaller
}
