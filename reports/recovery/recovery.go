package recovery

import (
	"cmp"
	"slices"
	"sort"
	"time"

	"statequake/history"
	"statequake/reports/stats"
)

// How slow an ok operation must be to count as bad. A system that holds
// requests during a takeover and answers them late has an outage although
// nothing fails.
const (
	SlowFloor  = 250 * time.Millisecond // up to here nothing is slow
	SlowFactor = 10                     // times the p99 before the first fault
)

// When the system as a whole counts as slow. If the p99 before the first fault was
// high, as on a busy machine, no single operation of a general slow-down need be.
const (
	PaceWindow = time.Second // before and after an operation
	PaceFactor = 10          // times the p50 before the first fault
	PaceOps    = 10          // answered ok, of fewer nothing is said
)

// When the system counts as steady again.
const (
	SteadyWindow  = time.Second            // length of one window
	SteadyWindows = 3                      // consecutive windows
	SteadyStep    = 100 * time.Millisecond // windows are tried at this grid, from the injection on
	SteadyGoodput = 0.95                   // of the goodput before the first fault
	SteadyLatency = 2                      // times the p99 before the first fault
)

// MaxGap is how long nobody may have asked for a key, between its last bad
// answer and the operation that found it well, for the time between to count
// as outage without further proof; see Outage.
const MaxGap = 250 * time.Millisecond

// Recovery is how the system came back after one fault. All instants are
// distances from the fault's injection, never negative, on the harness's
// monotonic clock; nil means unknown or never.
//
// Operations of the phases warmup, load and probe count as traffic. The traffic
// of a fault is what was sent at or after it was requested and before the next
// fault was requested or the load ended. (From requested and not from injected:
// the injection is stamped when an observer saw it, a little after it happened.
// A fault that is requested before the injection of the one before was seen
// shares its traffic.) An operation of it is bad if it was sent and its outcome
// is not ok, or if it was answered ok more than max(SlowFloor, SlowFactor x p99)
// after it was sent. That p99 is over the ok operations of the load, or of the
// probes for a probe, from sent to returned, that were sent after the warmup and
// returned before the first fault of the run was requested. An operation of load
// or probes that took more than max(SlowFloor, PaceFactor x p50), with the p50 of
// the same operations, is bad also if so did more than half of those of its phase,
// at least PaceOps, that were answered ok and sent in [t, t + PaceWindow) or in
// (t - PaceWindow, t], t being when it was sent.
//
// An affected key is one whose last operation before the fault was executed by
// a target, or that has a bad operation in the fault's traffic.
type Recovery struct {
	// Impact is when the first bad operation was sent. Nil if there was none.
	Impact *time.Duration `json:"impact_ns"`
	// FirstOK is when the first ok answer arrived to an operation on an affected
	// key that was sent after the first bad operation. Nil without impact, or if
	// there was none.
	FirstOK *time.Duration `json:"first_ok_ns"`
	// Outage is how long affected keys were without an answer.
	Outage Outage `json:"outage_ns"`
	// Steady is the start of the first SteadyWindows consecutive windows of
	// SteadyWindow, at or after the first bad operation and before the next fault
	// or the end of the load, in each of which the share of scheduled load
	// operations answered ok is at least SteadyGoodput times that before the
	// first fault, and the p99 of their latency is at most SteadyLatency times
	// that before the first fault. An operation belongs to the window of its
	// scheduled instant; a window holds its start and not its end. Nil if there
	// is no such instant, or nothing was measured before the first fault.
	Steady *time.Duration `json:"steady_ns"`
	// GoodputDeficit is the number of load operations scheduled within Window
	// that were not answered ok. Late answers are answers.
	GoodputDeficit int64 `json:"goodput_deficit_ops"`
	// LostAcks is the number of lost acknowledged writes put down to this fault:
	// to the first fault injected after the acknowledgement that affected the
	// write's key, else to the first fault injected after it, else to the last
	// fault. Nil if no check could tell.
	LostAcks *int `json:"lost_acks"`
	// RPO is the age, at the injection, of the oldest lost acknowledged write
	// counted in LostAcks; 0 if none was lost. Nil if no check could tell.
	RPO *time.Duration `json:"rpo_ns"`
	// KeysDead is the number of keys with a bad operation that were asked again
	// after it returned and never answered ok until the end of the run, audit
	// included.
	KeysDead int `json:"keys_dead"`
	// KeysAffected is the number of affected keys.
	KeysAffected int `json:"keys_affected"`

	// Window is the part of the run, on the run clock, that the fault disturbed:
	// from its request to the later of its recovery and Steady. If the fault's
	// recovery was not seen it lasts until the load ends. If the system did not
	// become steady it ends with the fault's recovery: the aftermath then counts
	// as steady operation, which it should have been.
	Window stats.Window `json:"-"`
}

// Outage is the distribution of outages over keys.
//
// A bad operation begins an outage of its key. The outage lasts from the
// instant the operation was sent to the first ok answer to an operation on that
// key sent after it, in any phase, or to the operation's own answer if that is
// ok (late) and came first. The outage of a key is its longest one.
//
// A key that is rarely asked tells little: nobody knows when it was well again.
// If the time from its last bad answer to the sending of the operation that
// found it well is longer than MaxGap and longer than the time up to that bad
// answer, the key is Sparse: it is left out of P50 and N, and only the proven
// part, up to the last bad answer, counts for Max. So is a key that was not
// asked again at all. Dead keys (see Recovery) have no end and are in neither.
type Outage struct {
	P50    *time.Duration `json:"p50"` // nearest rank; 0 if no operation was bad; nil if unknown
	Max    *time.Duration `json:"max"` // 0 if no operation was bad; nil if unknown
	N      int            `json:"n"`
	Sparse int            `json:"sparse"`
}

// Run is what a recovery is measured from.
type Run struct {
	Ops    []history.Op // in any order
	Faults []Fault      // ordered by Requested
	Load   stats.Window // the load phase
	Lost   []string     // ids of lost acknowledged writes
	// LostKnown is whether a check could tell which acknowledged writes are lost.
	LostKnown bool
}

// Measure returns the recovery of each fault, in the order of r.Faults; nil for
// a fault that was not injected.
func Measure(r Run) []*Recovery {
	m := newMeasurement(r)
	out := make([]*Recovery, len(r.Faults))
	affected := make([]map[key]bool, len(r.Faults))
	for i := range r.Faults {
		if r.Faults[i].Injected != nil {
			out[i], affected[i] = m.fault(i)
		}
	}
	if r.LostKnown {
		m.lost(out, affected)
	}
	return out
}

// key names one entity.
type key struct{ entity, key string }

// measurement holds what is shared by all faults of a run.
type measurement struct {
	Run
	byKey map[key][]*history.Op // sent operations of all phases, by sent
	loads []*history.Op         // load operations, by scheduled

	load, probe pace // warmup is judged by the pace of the load

	// Before the first fault; baseOK is 0 if nothing was measured.
	baseOK  float64 // share of scheduled load operations answered ok
	baseP99 time.Duration
}

func newMeasurement(r Run) *measurement {
	m := &measurement{Run: r, byKey: map[key][]*history.Op{}}
	before := r.Load.To // the request of the first fault
	for _, f := range r.Faults {
		if start := f.start(); start != nil {
			before = min(before, *start)
		}
	}
	var latencies []time.Duration
	var scheduled int
	for i := range r.Ops {
		op := &r.Ops[i]
		if op.Phase == history.Load {
			m.loads = append(m.loads, op)
			if op.Scheduled < before {
				scheduled++
				if op.Outcome == history.OK {
					latencies = append(latencies, op.Latency())
				}
			}
		}
		if op.Outcome == history.Unsent {
			continue
		}
		k := key{op.Entity, op.Key}
		m.byKey[k] = append(m.byKey[k], op)
	}
	for _, ops := range m.byKey {
		slices.SortStableFunc(ops, func(a, b *history.Op) int { return cmp.Compare(a.Sent, b.Sent) })
	}
	slices.SortStableFunc(m.loads, func(a, b *history.Op) int { return cmp.Compare(a.Scheduled, b.Scheduled) })
	m.load, m.probe = newPace(r, history.Load, before), newPace(r, history.Probe, before)
	if len(latencies) > 0 {
		m.baseOK = float64(len(latencies)) / float64(scheduled)
		m.baseP99 = percentile(latencies, 99)
	}
	return m
}

// pace is how fast the ok operations of one phase are answered, from sent to
// returned.
type pace struct {
	alone    time.Duration   // beyond it an operation is bad, whatever the others do
	together time.Duration   // beyond it an operation is bad if most others are, too
	sent     []time.Duration // of all, in order
	slow     []int           // how many of the first i took longer than together
}

// newPace measures the operations of a phase. What is usual is told by those that
// returned before the first fault was requested.
func newPace(r Run, phase history.Phase, before time.Duration) pace {
	var ops []*history.Op
	var usual []time.Duration
	for i := range r.Ops {
		op := &r.Ops[i]
		if op.Phase != phase || op.Outcome != history.OK {
			continue
		}
		ops = append(ops, op)
		if op.Sent >= r.Load.From && op.Returned < before {
			usual = append(usual, op.Returned-op.Sent)
		}
	}
	p := pace{alone: SlowFloor, together: SlowFloor, slow: []int{0}}
	if len(usual) > 0 {
		p.alone = max(SlowFloor, SlowFactor*percentile(usual, 99))
		p.together = max(SlowFloor, PaceFactor*percentile(usual, 50))
	}
	slices.SortFunc(ops, func(a, b *history.Op) int { return cmp.Compare(a.Sent, b.Sent) })
	for i, op := range ops {
		p.sent = append(p.sent, op.Sent)
		p.slow = append(p.slow, p.slow[i])
		if op.Returned-op.Sent > p.together {
			p.slow[i+1]++
		}
	}
	return p
}

// bad tells whether an ok operation that took so long is bad.
func (p *pace) bad(sent, took time.Duration) bool {
	return took > p.alone || took > p.together && (p.slowIn(sent, sent+PaceWindow) || p.slowIn(sent-PaceWindow+1, sent+1))
}

// slowIn tells whether more than half of what was sent in [from, to) was slow.
func (p *pace) slowIn(from, to time.Duration) bool {
	i, _ := slices.BinarySearch(p.sent, from)
	j, _ := slices.BinarySearch(p.sent, to)
	return j-i >= PaceOps && 2*(p.slow[j]-p.slow[i]) > j-i
}

// start is when a fault may have begun to act.
func (f *Fault) start() *time.Duration {
	if f.Requested != nil {
		return f.Requested
	}
	return f.Injected
}

func traffic(op *history.Op) bool {
	return op.Phase == history.Warmup || op.Phase == history.Load || op.Phase == history.Probe
}

func (m *measurement) bad(op *history.Op) bool {
	p := &m.load
	if op.Phase == history.Probe {
		p = &m.probe
	}
	return op.Outcome != history.OK || p.bad(op.Sent, op.Returned-op.Sent)
}

// span is when the traffic of fault i was sent.
func (m *measurement) span(i int) stats.Window {
	w := stats.Window{From: *m.Faults[i].start(), To: m.Load.To}
	for _, next := range m.Faults {
		if start := next.start(); start != nil && *start > *m.Faults[i].Injected {
			w.To = min(w.To, *start)
		}
	}
	return w
}

func (m *measurement) fault(i int) (*Recovery, map[key]bool) {
	f := &m.Faults[i]
	injected := *f.Injected
	span := m.span(i)
	since := func(at time.Duration) *time.Duration {
		d := max(0, at-injected)
		return &d
	}

	r := &Recovery{}
	affected := map[key]bool{}
	var outages []time.Duration
	var longest time.Duration
	var impact *time.Duration
	asked, ended := false, false
	for k, ops := range m.byKey {
		episode := m.outage(ops, span)
		asked = asked || episode.asked
		if episode.bad || slices.Contains(f.Targets, executor(ops, span.From)) {
			affected[k] = true
		}
		if !episode.bad {
			continue
		}
		if impact == nil || episode.first < *impact {
			impact = &episode.first
		}
		switch {
		case episode.dead:
			r.KeysDead++
			continue
		case episode.sparse:
			r.Outage.Sparse++
		default:
			outages = append(outages, episode.length)
		}
		ended = true
		longest = max(longest, episode.length)
	}
	r.KeysAffected = len(affected)
	r.Outage.N = len(outages)
	switch {
	case ended:
		r.Outage.Max = &longest
		if len(outages) > 0 {
			p50 := percentile(outages, 50)
			r.Outage.P50 = &p50
		}
	case asked && impact == nil:
		r.Outage.P50, r.Outage.Max = new(time.Duration), new(time.Duration)
	}

	if impact != nil {
		r.Impact = since(*impact)
		if at, ok := m.firstOK(affected, *impact); ok {
			r.FirstOK = since(at)
		}
	}
	from := injected
	if impact != nil {
		from = max(injected, *impact)
	}
	if at, ok := m.steady(injected, from, span.To); ok {
		r.Steady = since(at)
	}

	r.Window = stats.Window{From: span.From, To: m.Load.To}
	if f.Recovered != nil {
		r.Window.To = *f.Recovered
		if r.Steady != nil {
			r.Window.To = max(r.Window.To, injected+*r.Steady)
		}
	}
	for _, op := range m.scheduled(r.Window) {
		if op.Outcome != history.OK {
			r.GoodputDeficit++
		}
	}
	return r, affected
}

// executor is the node that executed the last operation that returned before
// t, "" if unknown. ops are those of one key.
func executor(ops []*history.Op, t time.Duration) string {
	var last *history.Op
	for _, op := range ops {
		if op.Node != "" && op.Returned < t && (last == nil || op.Returned >= last.Returned) {
			last = op
		}
	}
	if last == nil {
		return ""
	}
	return last.Node
}

// episode is the worst outage of one key within a fault's traffic.
type episode struct {
	asked  bool          // there was traffic
	bad    bool          // and a bad operation in it
	first  time.Duration // when the first bad operation was sent
	length time.Duration // of the longest outage, of its proven part if sparse
	sparse bool
	dead   bool
}

// outage finds the longest outage of a key. ops are all its sent operations, by
// sent.
func (m *measurement) outage(ops []*history.Op, span stats.Window) episode {
	var e episode
	// well[i] is the ok operation answered first among those sent at or after
	// ops[i], ops[i] included.
	well := make([]*history.Op, len(ops)+1)
	for i := len(ops) - 1; i >= 0; i-- {
		well[i] = well[i+1]
		if ops[i].Outcome == history.OK && (well[i] == nil || ops[i].Returned <= well[i].Returned) {
			well[i] = ops[i]
		}
	}
	var ended *history.Op // what ended the outage measured last
	for i, op := range ops {
		if !traffic(op) || !span.Contains(op.Sent) {
			continue
		}
		e.asked = true
		if !m.bad(op) {
			continue
		}
		if !e.bad {
			e.bad, e.first = true, op.Sent
		}
		if ended != nil && well[i] == ended {
			continue // the same outage, begun earlier
		}
		ended = well[i]
		length, sparse, dead := m.from(ops[i:], well[i])
		if dead {
			e.dead = true
			continue
		}
		// A sparse outage says at least so much; at the same length the surer one counts.
		if length > e.length || (length == e.length && !sparse) {
			e.length, e.sparse = length, sparse
		}
	}
	return e
}

// from measures the outage that ops[0], which is bad, begins; well ended it,
// or nothing did if it is nil.
func (m *measurement) from(ops []*history.Op, well *history.Op) (length time.Duration, sparse, dead bool) {
	begin := ops[0].Sent
	if well == ops[0] {
		return well.Returned - begin, false, false
	}
	proven := ops[0].Returned // the last bad answer
	for _, op := range ops[1:] {
		if op == well || (well != nil && op.Sent > well.Sent) {
			break
		}
		if well == nil && op.Sent >= ops[0].Returned {
			return 0, false, true
		}
		if m.bad(op) {
			proven = max(proven, op.Returned)
		}
	}
	if well == nil {
		return proven - begin, true, false
	}
	if gap := well.Sent - proven; gap > MaxGap && gap > proven-begin {
		return proven - begin, true, false
	}
	return well.Returned - begin, false, false
}

// firstOK is when the first ok answer arrived to an operation on an affected
// key that was sent after t.
func (m *measurement) firstOK(affected map[key]bool, t time.Duration) (at time.Duration, found bool) {
	for k := range affected {
		for _, op := range m.byKey[k] {
			if op.Outcome == history.OK && op.Sent > t && (!found || op.Returned < at) {
				at, found = op.Returned, true
			}
		}
	}
	return at, found
}

// scheduled returns the load operations scheduled within w.
func (m *measurement) scheduled(w stats.Window) []*history.Op {
	from := sort.Search(len(m.loads), func(i int) bool { return m.loads[i].Scheduled >= w.From })
	to := sort.Search(len(m.loads), func(i int) bool { return m.loads[i].Scheduled >= w.To })
	return m.loads[from:max(from, to)]
}

// steady searches the grid of SteadyStep from injected on, at from or later,
// for the start of SteadyWindows good windows that end at to or before.
func (m *measurement) steady(injected, from, to time.Duration) (time.Duration, bool) {
	if m.baseOK == 0 {
		return 0, false
	}
	steps := (from - injected + SteadyStep - 1) / SteadyStep
	for at := injected + steps*SteadyStep; at+SteadyWindows*SteadyWindow <= to; at += SteadyStep {
		good := 0
		for good < SteadyWindows && m.good(at+time.Duration(good)*SteadyWindow) {
			good++
		}
		if good == SteadyWindows {
			return at, true
		}
	}
	return 0, false
}

// good tells whether the window that starts at from is like those before the
// first fault. A window in which nothing was scheduled tells nothing.
func (m *measurement) good(from time.Duration) bool {
	ops := m.scheduled(stats.Window{From: from, To: from + SteadyWindow})
	var latencies []time.Duration
	for _, op := range ops {
		if op.Outcome == history.OK {
			latencies = append(latencies, op.Latency())
		}
	}
	return len(latencies) > 0 &&
		float64(len(latencies)) >= SteadyGoodput*m.baseOK*float64(len(ops)) &&
		percentile(latencies, 99) <= SteadyLatency*m.baseP99
}

// lost puts each lost acknowledged write down to one fault.
func (m *measurement) lost(out []*Recovery, affected []map[key]bool) {
	for _, r := range out {
		if r != nil {
			r.LostAcks, r.RPO = new(int), new(time.Duration)
		}
	}
	ids := map[string]bool{}
	for _, id := range m.Lost {
		ids[id] = true
	}
	for i := range m.Ops {
		op := &m.Ops[i]
		if !ids[op.ID] {
			continue
		}
		chosen, sure := -1, false
		for i, r := range out {
			switch {
			case r == nil || sure:
			case *m.Faults[i].Injected < op.Returned:
				chosen = i
			case affected[i][key{op.Entity, op.Key}]:
				chosen, sure = i, true
			case chosen < 0 || *m.Faults[chosen].Injected < op.Returned:
				chosen = i
			}
		}
		if chosen < 0 {
			continue
		}
		r := out[chosen]
		*r.LostAcks++
		*r.RPO = max(*r.RPO, *m.Faults[chosen].Injected-op.Returned)
	}
}

// percentile is the nearest-rank percentile of a non-empty set; it sorts d.
func percentile(d []time.Duration, percent int) time.Duration {
	slices.Sort(d)
	rank := (len(d)*percent + 99) / 100
	return d[max(rank, 1)-1]
}
