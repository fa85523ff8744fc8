package recovery

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"statequake/history"
)

// scripts is how many systems TestScripts writes down and measures.
const scripts = 50

// script is a system in virtual milliseconds of which everything is known
// beforehand: who is asked when, and which node answers how from when to when. Its
// clients are open: they ask by the clock, whatever is answered. The load runs
// from 0 to 30 s, and all that is not stalled is answered after latency.
type script struct {
	latency int
	asked   []asked
	stalls  []stall
}

// asked is one key, sent to every period from offset on.
type asked struct {
	phase          history.Phase
	key, node      string
	period, offset int
}

// stall is what a fault makes of one node: from begin to end it answers by how.
type stall struct {
	fault                          string
	node                           string
	how                            manner
	begin, end                     int
	requested, injected, recovered int
	lost                           int // acknowledged writes of each key of the load that vanish, the last ones before begin
	limit                          int // the next fault is requested, or the load ends
}

// manner is how a node answers while it is stalled.
type manner int

const (
	refuses manner = iota // at once: certainly nothing happened
	silent                // not at all: the client gives up after patience
	holds                 // ok, at the end of the stall
	dies                  // refuses, and the end never comes
)

const (
	loadEnd  = 30000
	patience = 1000
)

// first is the first instant at or after t at which the key is asked.
func (a asked) first(t int) int { return a.offset + max(0, (t-a.offset+a.period-1)/a.period)*a.period }

// count is how often the key is asked in [from, to).
func (a asked) count(from, to int) int {
	from, to = max(from, 0), min(to, loadEnd)
	if from >= to {
		return 0
	}
	return (a.first(to) - a.first(from)) / a.period
}

// newScript draws a system with up to three faults, whose stalls lie apart.
func newScript(rng *rand.Rand) script {
	s := script{latency: 2 + rng.IntN(8)}
	for i := range 3 + rng.IntN(6) {
		period := 5 + rng.IntN(120)
		s.asked = append(s.asked, asked{history.Load, fmt.Sprint("key", i), fmt.Sprint("n", 1+i%3), period, rng.IntN(period)})
	}
	for i := range 3 {
		s.asked = append(s.asked, asked{history.Probe, fmt.Sprint("probe", i), fmt.Sprint("n", 1+i), 20, rng.IntN(20)})
	}
	at := 4000
	for i := range 1 + rng.IntN(3) {
		x := stall{fault: fmt.Sprint("fault", i), node: fmt.Sprint("n", 1+rng.IntN(3)), how: manner(rng.IntN(3))}
		x.requested = at + rng.IntN(1000)
		x.injected = x.requested + rng.IntN(30)
		x.begin = x.requested + rng.IntN(300)
		x.end = x.begin + 1 + rng.IntN(2500)
		x.recovered = x.injected + rng.IntN(2000)
		x.lost = rng.IntN(4)
		s.stalls = append(s.stalls, x)
		at += 8000
	}
	if last := &s.stalls[len(s.stalls)-1]; rng.IntN(5) == 0 {
		last.how, last.end = dies, 1<<30
	}
	for i := range s.stalls {
		s.stalls[i].limit = loadEnd
		if i+1 < len(s.stalls) {
			s.stalls[i].limit = s.stalls[i+1].requested
		}
	}
	return s
}

// tell lets the clients ask.
func (s script) tell() *story {
	var out story
	for _, a := range s.asked {
		out.send(a.phase, a.key, a.node, a.offset, loadEnd, a.period, func(sent int) (history.Outcome, int) {
			for _, x := range s.stalls {
				if x.node != a.node || sent < x.begin || sent >= x.end {
					continue
				}
				switch x.how {
				case silent:
					return history.Info, patience
				case holds:
					return history.OK, x.end - sent
				}
				return history.Fail, 1
			}
			return history.OK, s.latency
		})
	}
	for _, x := range s.stalls {
		at := func(n int) *time.Duration { d := time.Duration(n) * ms; return &d }
		out.faults = append(out.faults, Fault{Name: x.fault, Targets: []string{x.node}, Requested: at(x.requested), Injected: at(x.injected), Recovered: at(x.recovered)})
		for _, a := range s.asked {
			for i := range x.lost {
				if a.phase == history.Load && a.node == x.node {
					out.lost = append(out.lost, fmt.Sprintf("%s-%s-%d", a.phase, a.key, s.lastAnswered(a, x)-i*a.period))
				}
			}
		}
	}
	return &out
}

// lastAnswered is when the last operation was sent that was answered before the
// fault was injected and the stall began.
func (s script) lastAnswered(a asked, x stall) int {
	return a.first(min(x.begin, x.injected)-s.latency) - a.period
}

// slow is how long an operation may take before it counts as bad, since ten times
// the latency of a script is less.
const slow = int(SlowFloor / time.Millisecond)

// bad is whether what is sent at an instant within the stall is bad.
func (x stall) bad(sent int) bool {
	return sent < x.end && (x.how != holds || x.end-sent > slow)
}

// truth is what the script says about the recovery from a stall, as show writes it.
func (s script) truth(x stall) string {
	var outages []int
	impact, firstOK, dead, affected, lost, rpo := -1, -1, 0, 0, 0, 0
	for _, a := range s.asked {
		if a.node != x.node {
			continue
		}
		affected++
		if a.phase == history.Load && x.lost > 0 {
			lost += x.lost
			rpo = max(rpo, x.injected-(s.lastAnswered(a, x)-(x.lost-1)*a.period+s.latency))
		}
		begin := a.first(x.begin)
		if !x.bad(begin) {
			continue
		}
		if impact < 0 || begin < impact {
			impact = begin
		}
		switch x.how {
		case dies:
			dead++
		case holds:
			outages = append(outages, x.end-begin)
		default:
			outages = append(outages, a.first(x.end)+s.latency-begin)
		}
	}
	if impact >= 0 && x.how != dies {
		for _, a := range s.asked {
			if a.node != x.node {
				continue
			}
			ok := a.first(max(x.end, impact+1)) + s.latency
			if x.how == holds && a.first(impact+1) < x.end {
				ok = x.end
			}
			if firstOK < 0 || ok < firstOK {
				firstOK = ok
			}
		}
	}

	since := func(at int) string {
		if at < 0 {
			return "-"
		}
		return fmt.Sprint(max(0, at-x.injected))
	}
	p50, longest := "0", "0"
	if dead > 0 {
		p50, longest = "-", "-"
	}
	if len(outages) > 0 {
		slices.Sort(outages)
		p50, longest = fmt.Sprint(outages[(len(outages)-1)/2]), fmt.Sprint(outages[len(outages)-1])
	}
	steady := s.steady(x, impact)
	end := max(x.recovered, steady)
	deficit := 0
	for _, a := range s.asked {
		if a.phase == history.Load && a.node == x.node && x.how != holds {
			deficit += a.count(max(x.requested, x.begin), min(end, x.end))
		}
	}
	return fmt.Sprintf("impact %s first_ok %s outage %s/%s n %d sparse 0 steady %s deficit %d lost %d rpo %d dead %d affected %d window %d-%d",
		since(impact), since(firstOK), p50, longest, len(outages), since(steady), deficit, lost, rpo, dead, affected, x.requested, end)
}

// steady is when three good seconds begin, -1 if never: on a grid of 100 ms from
// the injection on, each with 95 % of its operations answered and at most 1 % of
// the answers later than twice the latency.
func (s script) steady(x stall, impact int) int {
	for at := x.injected; at+3000 <= x.limit; at += 100 {
		if at >= impact && s.good(x, at) && s.good(x, at+1000) && s.good(x, at+2000) {
			return at
		}
	}
	return -1
}

func (s script) good(x stall, at int) bool {
	all, missed, late := 0, 0, 0
	for _, a := range s.asked {
		if a.phase != history.Load {
			continue
		}
		all += a.count(at, at+1000)
		if a.node != x.node {
			continue
		}
		if x.how == holds {
			late += a.count(max(at, x.begin), min(at+1000, x.end-2*s.latency))
		} else {
			missed += a.count(max(at, x.begin), min(at+1000, x.end))
		}
	}
	answered := all - missed
	return 100*answered >= 95*all && 100*late <= answered && answered > 0
}

// What is measured from the history of a scripted system is what its script says,
// to the millisecond and to the operation.
func TestScripts(t *testing.T) {
	kinds := map[manner]int{}
	for seed := range uint64(scripts) {
		s := newScript(rand.New(rand.NewPCG(seed, 1)))
		out := s.tell()
		got := out.measure(t)
		for i, x := range s.stalls {
			kinds[x.how]++
			if have, want := show(got[i]), s.truth(x); have != want {
				t.Errorf("script %d, %s: %+v\nhave %s\nwant %s", seed, x.fault, x, have, want)
			}
		}
	}
	t.Logf("%d scripts: stalls that refuse %d, are silent %d, hold %d, never end %d",
		scripts, kinds[refuses], kinds[silent], kinds[holds], kinds[dies])
	for how := refuses; how <= dies; how++ {
		if kinds[how] == 0 {
			t.Errorf("no stall of manner %d", how)
		}
	}
}
