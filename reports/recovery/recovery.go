package recovery

import (
	"cmp"
	"slices"
	"sort"
	"sync"
	"time"

	"statequake/history"
	"statequake/reports/stats"
	"statequake/reports/trace"
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
	Ops    *trace.Ops   // in any order
	Faults []Fault      // ordered by Requested
	Load   stats.Window // the load phase
	Lost   []Lost       // acknowledged writes that are gone
	// LostKnown is whether a check could tell which acknowledged writes are lost.
	LostKnown bool
}

// Lost is an acknowledged write that is gone.
type Lost struct {
	Entity, Key string
	Returned    time.Duration // when the acknowledgement was read
}

// Measure returns the recovery of each fault, in the order of r.Faults; nil for
// a fault that was not injected. It also returns how available the keys were in
// the whole run.
func Measure(r Run) ([]*Recovery, *Keys) {
	out := make([]*Recovery, len(r.Faults))
	m := newMeasurement(r)
	affected := make([]map[int32]bool, len(r.Faults))
	for i := range r.Faults {
		if r.Faults[i].Injected != nil {
			out[i], affected[i] = m.fault(i)
		}
	}
	if r.LostKnown {
		m.lost(out, affected)
	}
	return out, m.availability()
}

// measurement holds what is shared by all faults of a run. Operations are
// indexes into Ops.
type measurement struct {
	Run
	keyed []int32 // sent operations of all phases, by key, then by sent
	ends  []int32 // where the operations of each key end in keyed
	loads []int32 // load operations, by scheduled

	load, probe pace     // warmup is judged by the pace of the load
	late        []uint64 // a bit for every operation: answered ok, and late
	badKeys     []bool   // keys with bad traffic

	// Before the first fault; baseOK is 0 if nothing was measured.
	baseOK  float64 // share of scheduled load operations answered ok
	baseP99 time.Duration

	well []int32 // see outage; one slice for all keys
}

func newMeasurement(r Run) *measurement {
	m := &measurement{Run: r}
	before := r.Load.To // the request of the first fault
	for _, f := range r.Faults {
		if start := f.start(); start != nil {
			before = min(before, *start)
		}
	}
	var scheduled, answered, loads int
	m.ends = make([]int32, len(r.Ops.Keys())+1)
	for op, kind := range r.Ops.All() {
		if kind.Phase == history.Load {
			loads++
			if op.Scheduled < before {
				scheduled++
				if kind.Outcome == history.OK {
					answered++
				}
			}
		}
		if kind.Outcome != history.Unsent {
			m.ends[op.Key+1]++
		}
	}
	for k := range r.Ops.Keys() {
		m.ends[k+1] += m.ends[k]
	}
	m.keyed, m.loads = make([]int32, m.ends[len(m.ends)-1]), make([]int32, 0, loads)
	latencies := make([]time.Duration, 0, answered)
	for i := range r.Ops.Len() {
		op := r.Ops.At(i)
		kind := r.Ops.Kind(op)
		if kind.Phase == history.Load {
			m.loads = append(m.loads, int32(i))
			if op.Scheduled < before && kind.Outcome == history.OK {
				latencies = append(latencies, op.Latency())
			}
		}
		if kind.Outcome != history.Unsent {
			m.keyed[m.ends[op.Key]] = int32(i)
			m.ends[op.Key]++
		}
	}
	m.ends = m.ends[:len(m.ends)-1] // each was the start of its key, and has moved to its end
	// Of a long run each takes seconds.
	var parts sync.WaitGroup
	parts.Go(func() {
		sent := func(a, b int32) int {
			return cmp.Or(cmp.Compare(r.Ops.At(int(a)).Sent, r.Ops.At(int(b)).Sent), cmp.Compare(a, b))
		}
		for k := range m.ends {
			slices.SortFunc(m.byKey(int32(k)), sent)
		}
	})
	parts.Go(func() {
		slices.SortFunc(m.loads, func(a, b int32) int {
			return cmp.Or(cmp.Compare(r.Ops.At(int(a)).Scheduled, r.Ops.At(int(b)).Scheduled), cmp.Compare(a, b))
		})
		m.load, m.probe = newPace(r, history.Load, before), newPace(r, history.Probe, before)
	})
	parts.Wait()
	m.markBad()
	if len(latencies) > 0 {
		m.baseOK = float64(len(latencies)) / float64(scheduled)
		m.baseP99 = percentile(latencies, 99)
	}
	return m
}

// byKey returns the sent operations of a key, by sent.
func (m *measurement) byKey(key int32) []int32 {
	start := int32(0)
	if key > 0 {
		start = m.ends[key-1]
	}
	return m.keyed[start:m.ends[key]]
}

// at returns an operation and its kind.
func (m *measurement) at(i int32) (*trace.Op, *trace.Kind) {
	op := m.Ops.At(int(i))
	return op, m.Ops.Kind(op)
}

// pace is how fast the ok operations of one phase are answered, from sent to
// returned.
type pace struct {
	alone    time.Duration   // beyond it an operation is bad, whatever the others do
	together time.Duration   // beyond it an operation is bad if most others are, too
	sent     []time.Duration // of all, in order
	slow     []time.Duration // sent of those that took longer than together, in order
}

// newPace measures the operations of a phase. What is usual is told by those that
// returned before the first fault was requested.
func newPace(r Run, phase history.Phase, before time.Duration) pace {
	isUsual := func(op *trace.Op) bool { return op.Sent >= r.Load.From && op.Returned < before }
	n, usually := 0, 0
	for op, kind := range r.Ops.All() {
		if kind.Phase == phase && kind.Outcome == history.OK {
			n++
			if isUsual(op) {
				usually++
			}
		}
	}
	p := pace{alone: SlowFloor, together: SlowFloor, sent: make([]time.Duration, 0, n)}
	usual := make([]time.Duration, 0, usually)
	for op, kind := range r.Ops.All() {
		if kind.Phase == phase && kind.Outcome == history.OK {
			p.sent = append(p.sent, op.Sent)
			if isUsual(op) {
				usual = append(usual, op.Returned-op.Sent)
			}
		}
	}
	if len(usual) > 0 {
		p.alone = max(SlowFloor, SlowFactor*percentile(usual, 99))
		p.together = max(SlowFloor, PaceFactor*percentile(usual, 50))
	}
	for op, kind := range r.Ops.All() {
		if kind.Phase == phase && kind.Outcome == history.OK && op.Returned-op.Sent > p.together {
			p.slow = append(p.slow, op.Sent)
		}
	}
	slices.Sort(p.sent)
	slices.Sort(p.slow)
	return p
}

// bad tells whether an ok operation that took so long is bad.
func (p *pace) bad(sent, took time.Duration) bool {
	return took > p.alone || took > p.together && (p.slowIn(sent, sent+PaceWindow) || p.slowIn(sent-PaceWindow+1, sent+1))
}

// slowIn tells whether more than half of what was sent in [from, to) was slow.
func (p *pace) slowIn(from, to time.Duration) bool {
	within := func(sent []time.Duration) int {
		i, _ := slices.BinarySearch(sent, from)
		j, _ := slices.BinarySearch(sent, to)
		return j - i
	}
	n := within(p.sent)
	return n >= PaceOps && 2*within(p.slow) > n
}

// start is when a fault may have begun to act.
func (f *Fault) start() *time.Duration {
	if f.Requested != nil {
		return f.Requested
	}
	return f.Injected
}

func traffic(kind *trace.Kind) bool {
	return kind.Phase == history.Warmup || kind.Phase == history.Load || kind.Phase == history.Probe
}

// markBad fills late and badKeys.
func (m *measurement) markBad() {
	m.late, m.badKeys = make([]uint64, (m.Ops.Len()+63)/64), make([]bool, len(m.ends))
	i := -1
	for op, kind := range m.Ops.All() {
		i++
		switch kind.Outcome {
		case history.Unsent:
			continue
		case history.OK:
			p := &m.load
			if kind.Phase == history.Probe {
				p = &m.probe
			}
			if !p.bad(op.Sent, op.Returned-op.Sent) {
				continue
			}
			m.late[i/64] |= 1 << (i % 64)
		}
		if traffic(kind) {
			m.badKeys[op.Key] = true
		}
	}
}

// bad tells whether operation i, which is of the kind, is bad.
func (m *measurement) bad(i int32, kind *trace.Kind) bool {
	return kind.Outcome != history.OK || m.late[i/64]>>(i%64)&1 != 0
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

func (m *measurement) fault(i int) (*Recovery, map[int32]bool) {
	f := &m.Faults[i]
	injected := *f.Injected
	span := m.span(i)
	since := func(at time.Duration) *time.Duration {
		d := max(0, at-injected)
		return &d
	}

	r := &Recovery{}
	affected := map[int32]bool{}
	var outages []time.Duration
	var longest time.Duration
	var impact *time.Duration
	asked, ended := false, false
	for key := range int32(len(m.ends)) {
		ops := m.byKey(key)
		var episode episode
		if m.badKeys[key] || !asked {
			episode = m.outage(ops, span)
		}
		asked = asked || episode.asked
		if episode.bad || slices.Contains(f.Targets, m.executor(ops, span.From)) {
			affected[key] = true
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
	for _, i := range m.scheduled(r.Window) {
		if _, kind := m.at(i); kind.Outcome != history.OK {
			r.GoodputDeficit++
		}
	}
	return r, affected
}

// executor is the node that executed the last operation that returned before
// t, "" if unknown. ops are those of one key.
func (m *measurement) executor(ops []int32, t time.Duration) string {
	node, returned := "", time.Duration(0)
	for _, i := range ops {
		if op, kind := m.at(i); kind.Node != "" && op.Returned < t && (node == "" || op.Returned >= returned) {
			node, returned = kind.Node, op.Returned
		}
	}
	return node
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
func (m *measurement) outage(ops []int32, span stats.Window) episode {
	var e episode
	// well[i] is the ok operation answered first among those sent at or after
	// ops[i], ops[i] included, as an index into ops; none if there is none.
	well, first, firstAt := slices.Grow(m.well[:0], len(ops))[:len(ops)], none, time.Duration(0)
	m.well = well
	for i := len(ops) - 1; i >= 0; i-- {
		if op, kind := m.at(ops[i]); kind.Outcome == history.OK && (first == none || op.Returned <= firstAt) {
			first, firstAt = int32(i), op.Returned
		}
		well[i] = first
	}
	ended := none // what ended the outage measured last
	for i := range ops {
		op, kind := m.at(ops[i])
		if !traffic(kind) || !span.Contains(op.Sent) {
			continue
		}
		e.asked = true
		if !m.bad(ops[i], kind) {
			continue
		}
		if !e.bad {
			e.bad, e.first = true, op.Sent
		}
		if ended != none && well[i] == ended {
			continue // the same outage, begun earlier
		}
		ended = well[i]
		length, sparse, dead := m.from(ops, i, well[i])
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

// none is no operation.
const none = int32(-1)

// from measures the outage that ops[i], which is bad, begins; ops[well] ended
// it, or nothing did if that is none.
func (m *measurement) from(ops []int32, i int, well int32) (length time.Duration, sparse, dead bool) {
	first, _ := m.at(ops[i])
	begin := first.Sent
	if well == int32(i) {
		return first.Returned - begin, false, false
	}
	var end *trace.Op
	if well != none {
		end, _ = m.at(ops[well])
	}
	proven := first.Returned // the last bad answer
	for _, n := range ops[i+1:] {
		op, kind := m.at(n)
		if op == end || (end != nil && op.Sent > end.Sent) {
			break
		}
		if end == nil && op.Sent >= first.Returned {
			return 0, false, true
		}
		if m.bad(n, kind) {
			proven = max(proven, op.Returned)
		}
	}
	if end == nil {
		return proven - begin, true, false
	}
	if gap := end.Sent - proven; gap > MaxGap && gap > proven-begin {
		return proven - begin, true, false
	}
	return end.Returned - begin, false, false
}

// firstOK is when the first ok answer arrived to an operation on an affected
// key that was sent after t.
func (m *measurement) firstOK(affected map[int32]bool, t time.Duration) (at time.Duration, found bool) {
	for key := range affected {
		for _, i := range m.byKey(key) {
			if op, kind := m.at(i); kind.Outcome == history.OK && op.Sent > t && (!found || op.Returned < at) {
				at, found = op.Returned, true
			}
		}
	}
	return at, found
}

// scheduled returns the load operations scheduled within w.
func (m *measurement) scheduled(w stats.Window) []int32 {
	due := func(t time.Duration) int {
		return sort.Search(len(m.loads), func(i int) bool { return m.Ops.At(int(m.loads[i])).Scheduled >= t })
	}
	from := due(w.From)
	return m.loads[from:max(from, due(w.To))]
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
	for _, i := range ops {
		if op, kind := m.at(i); kind.Outcome == history.OK {
			latencies = append(latencies, op.Latency())
		}
	}
	return len(latencies) > 0 &&
		float64(len(latencies)) >= SteadyGoodput*m.baseOK*float64(len(ops)) &&
		percentile(latencies, 99) <= SteadyLatency*m.baseP99
}

// lost puts each lost acknowledged write down to one fault.
func (m *measurement) lost(out []*Recovery, affected []map[int32]bool) {
	for _, r := range out {
		if r != nil {
			r.LostAcks, r.RPO = new(int), new(time.Duration)
		}
	}
	for _, ack := range m.Lost {
		key, known := m.Ops.KeyOf(trace.Key{Entity: ack.Entity, Key: ack.Key})
		chosen, sure := -1, false
		for i, r := range out {
			switch {
			case r == nil || sure:
			case *m.Faults[i].Injected < ack.Returned:
				chosen = i
			case known && affected[i][key]:
				chosen, sure = i, true
			case chosen < 0 || *m.Faults[chosen].Injected < ack.Returned:
				chosen = i
			}
		}
		if chosen < 0 {
			continue
		}
		r := out[chosen]
		*r.LostAcks++
		*r.RPO = max(*r.RPO, *m.Faults[chosen].Injected-ack.Returned)
	}
}

// percentile is the nearest-rank percentile of a non-empty set; it reorders d.
func percentile(d []time.Duration, percent int) time.Duration {
	rank := (len(d)*percent + 99) / 100
	return nth(d, max(rank, 1)-1)
}

// nth is what d[n] would be if d were sorted, which takes several times as long.
// It reorders d. (C. A. R. Hoare, "Algorithm 65: Find", CACM 4(7), 1961, with the
// middle one of three as the bound.)
func nth(d []time.Duration, n int) time.Duration {
	for rounds := 0; len(d) > 32 && rounds < 64; rounds++ { // an unlucky order is sorted
		a, b, c := d[0], d[len(d)/2], d[len(d)-1]
		bound := max(min(a, b), min(max(a, b), c))
		i, j := 0, len(d)-1
		for i <= j {
			for d[i] < bound {
				i++
			}
			for d[j] > bound {
				j--
			}
			if i <= j {
				d[i], d[j] = d[j], d[i]
				i++
				j--
			}
		}
		switch {
		case n <= j:
			d = d[:j+1]
		case n >= i:
			d, n = d[i:], n-i
		default:
			return bound
		}
	}
	slices.Sort(d)
	return d[n]
}
