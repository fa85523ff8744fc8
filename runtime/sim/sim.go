package sim

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"time"

	"statequake/runtime/core"
)

// Config of one simulation. Everything that happens follows from it.
type Config struct {
	Seed      uint64
	Memory    bool // acknowledge from memory
	Bugs      core.Bugs
	Outwait   time.Duration // as in ownership.Config
	AuditOnly bool          // judge by what clients saw alone, not by what nodes and store do
	KeepDoubt bool          // a planted bug: an epoch goes on although a checkpoint or cut of it is in doubt
	Trace     io.Writer     // every event, unless nil
}

// Result is what a simulation came to.
type Result struct {
	Violation string        // the first one, "" if there is none
	Virtual   time.Duration // simulated time
	Hash      uint64        // of the trace
	Ops       int           // completed operations
	Faults    int
	Takeovers int // shards that began to be served
	Cuts      int // journals that were cut off
}

// The times of a simulation.
const (
	window    = 300 * time.Millisecond // of memory mode
	patience  = 6 * time.Second        // of a client with one operation
	auditTime = 15 * time.Second       // after which a healed cluster must have answered the audit
)

// event is something that happens at an instant. Events of a node wait while
// it is paused, and are void after its life.
type event struct {
	at   time.Duration
	seq  int64
	node *node
	life int
	run  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(v any)   { *e = append(*e, v.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}

// world is a cluster, its store and its clients, with the time that they share.
type world struct {
	cfg     Config
	rng     *rand.Rand
	now     time.Duration
	seq     int64
	queue   events
	hash    interface{ Sum64() uint64 }
	trace   io.Writer
	result  Result
	store   *store
	nodes   []*node
	names   []string
	shards  int
	keys    []core.ID
	clients []*client
	history []*op
	byID    map[string]*op

	slow      int     // factor on the store's latency
	storeLoss float64 // of requests and answers of the store
	netLoss   float64 // of messages
	netTwice  float64 // likewise, delivered twice
	doubled   bool    // some were
	apart     map[[2]int]bool
	faults    int  // under way
	calm      bool // no more faults
	acked     []ack
}

// ack is a successful reply to a write as it left the core.
type ack struct {
	op    *op
	epoch int64
	at    time.Duration
}

// Run simulates one cluster until its audit, or until something is wrong.
func Run(cfg Config) Result {
	h := fnv.New64a()
	w := &world{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x5eed)), hash: h, trace: h,
		byID: map[string]*op{}, slow: 1, apart: map[[2]int]bool{},
	}
	if cfg.Trace != nil {
		w.trace = io.MultiWriter(h, cfg.Trace)
	}
	w.shards = 2 + w.rng.IntN(3)
	w.keys = []core.ID{{Type: "counter", Key: "a"}, {Type: "counter", Key: "b"}, {Type: "register", Key: "r"}}
	w.store = newStore(w)
	w.names = []string{"n1", "n2", "n3"}
	for i, name := range w.names {
		n := &node{w: w, i: i, name: name, rate: 1 + (w.rng.Float64()-0.5)/50}
		w.nodes = append(w.nodes, n)
		w.after(w.between(0, 200*time.Millisecond), nil, n.start)
	}
	for i := range 4 {
		c := &client{w: w, name: fmt.Sprintf("c%d", i)}
		w.clients = append(w.clients, c)
		w.after(w.between(0, time.Second), nil, c.next)
	}
	load := w.between(4*time.Second, 12*time.Second)
	w.after(w.between(0, 2*time.Second), nil, w.fault)
	w.after(load, nil, w.heal)
	for len(w.queue) > 0 && w.result.Violation == "" {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		if n := e.node; n != nil {
			if n.life != e.life {
				continue
			}
			if n.paused {
				n.held = append(n.held, e)
				continue
			}
		}
		e.run()
		if w.audited() {
			break
		}
	}
	if w.result.Violation == "" {
		w.judge()
	}
	w.result.Virtual, w.result.Hash = w.now, h.Sum64()
	return w.result
}

// after has run happen d from now, at n if it is not nil.
func (w *world) after(d time.Duration, n *node, run func()) {
	w.seq++
	e := event{at: w.now + d, seq: w.seq, node: n, run: run}
	if n != nil {
		e.life = n.life
	}
	heap.Push(&w.queue, e)
}

func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)+1))
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// log writes a line of the trace.
func (w *world) log(format string, args ...any) {
	fmt.Fprintf(w.trace, "%d ", w.now.Microseconds())
	fmt.Fprintf(w.trace, format+"\n", args...)
}

// broken notes that an invariant of nodes or store does not hold.
func (w *world) broken(format string, args ...any) {
	if !w.cfg.AuditOnly {
		w.violated(format, args...)
	}
}

func (w *world) violated(format string, args ...any) {
	if w.result.Violation == "" {
		w.result.Violation = fmt.Sprintf(format, args...)
		w.log("VIOLATION %s", w.result.Violation)
	}
}

// wire is the time that a message takes.
func (w *world) wire() time.Duration {
	d := w.between(100*time.Microsecond, 2*time.Millisecond)
	if w.chance(0.01) {
		d += w.between(0, 100*time.Millisecond)
	}
	return d
}

// send delivers a message to a node, or to nobody. from is -1 for clients.
func (w *world) send(from, to int, deliver, refused func()) {
	if w.apart[pair(from, to)] || w.chance(w.netLoss) {
		return
	}
	times := 1
	if w.chance(w.netTwice) {
		times, w.doubled = 2, true
	}
	n := w.nodes[to]
	for range times {
		d := w.wire()
		if !n.up {
			w.after(d, nil, refused)
			return
		}
		w.after(d, n, deliver)
	}
}

func pair(a, b int) [2]int { return [2]int{min(a, b), max(a, b)} }
