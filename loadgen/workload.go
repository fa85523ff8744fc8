package loadgen

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"statequake/history"
)

const (
	// generationWrites is how many writes a key takes at most before its next
	// generation opens, those that operations on other keys cause there
	// included. It bounds the witness that every entity carries.
	generationWrites = 512
	maxKeys          = 1_000_000
)

// Bounds of WorkloadConfig.Retire.
const (
	MinRetire = 8 // of any workload, more than one operation makes
	MaxRetire = generationWrites
)

// EntityKey addresses one entity.
type EntityKey struct{ Entity, Key string }

// WorkloadConfig says which operations a workload makes.
type WorkloadConfig struct {
	Name string         // one of WorkloadNames
	Keys int            // number of keys in use at a time, 1 to 1,000,000; of a ledger at least 2
	Mix  map[string]int // weights of the operations by name; nil for the workload's own mix; a shop has none, its journeys say what is sent
	Seed int64

	// The popularity of keys, and of the rows in one where there are rows. Key 1
	// is the most popular.
	Zipf   float64 // exponent, 0 for uniform
	Latest bool    // the newest key or row is the most popular instead of the first, by age with the exponent Zipf
	Hot    HotSet  // instead of Zipf; none if zero

	// Values are the sizes of the values that are written, where the workload
	// writes any; zero for the workload's own. A value is never shorter than the
	// name that makes it unique.
	Values Sizes

	// Sessions is how many clients the operations belong to: operation n is the
	// next one of client n mod Sessions, and is sent when that client's last one
	// has ended. 0: those that the workload needs, and most need none.
	Sessions int

	// Retire is how many writes a key takes at most before its next generation
	// opens, MinRetire to MaxRetire; 0 is MaxRetire.
	Retire int
}

// command is one kind of operation of a workload.
type command struct {
	name    string
	entity  string   // that it is sent to; "" for that of the service
	weight  int      // in the default mix; on a journey about the share of the operations in percent
	writes  int      // to its key at most, with those that it causes there
	inserts bool     // it adds a row to its key
	fields  []string // names of its args
	// args appends the args; nil if it takes none. n is the number of the
	// operation, rank that of its key.
	args func(b []byte, w *Workload, n int64, rank int) []byte
}

// probe is the write that the prober makes.
type probe struct {
	writes int // to its key at most, with those that it causes there
	make   func(n int64) (op string, args []byte)
}

// service is what a named workload talks to.
type service struct {
	entity       string // whose keys it touches
	commands     []command
	probe        probe
	minKeys      int  // 0 means 1
	skew         Skew // in the absence of another one
	values       Sizes
	writesValues bool                   // of the sizes that are asked for
	load         int                    // rows that are inserted into a key before anything else happens there
	journey      func(*Workload) *shops // of clients that are on one; then commands are not drawn
}

// Skew is how popular keys are, as in WorkloadConfig.
type Skew struct {
	Zipf   float64
	Latest bool
	Hot    HotSet
}

var boardProbe = probe{1, func(n int64) (string, []byte) {
	return "submit", fmt.Appendf(nil, `{"player":"p-%d","score":%d}`, 1+n%50, n)
}}

// Commands stay in their order, so that a mix means the same in every run.
var services = map[string]service{
	"shopping-cart": {entity: "cart", commands: []command{
		{name: "add", weight: 70, writes: 1, fields: []string{"item", "quantity"}, args: func(b []byte, w *Workload, _ int64, _ int) []byte {
			b = appendItem(b, w)
			b = append(b, `,"quantity":`...)
			return append(strconv.AppendInt(b, 1+w.rand.Int64N(3), 10), '}')
		}},
		{name: "remove", weight: 10, writes: 1, fields: []string{"item"}, args: func(b []byte, w *Workload, _ int64, _ int) []byte {
			return append(appendItem(b, w), '}')
		}},
		{name: "get", weight: 20},
	}, probe: probe{1, func(n int64) (string, []byte) {
		return "add", fmt.Appendf(nil, `{"item":"sku-%d","quantity":1}`, n%20) // never more than a cart holds of one item
	}}},
	"counter": {entity: "counter", commands: []command{
		{name: "add", weight: 80, writes: 1, fields: []string{"n"}, args: func(b []byte, w *Workload, _ int64, _ int) []byte {
			b = append(b, `{"n":`...)
			return append(strconv.AppendInt(b, 1+w.rand.Int64N(9), 10), '}')
		}},
		{name: "get", weight: 20},
	}, probe: probe{1, func(int64) (string, []byte) { return "add", []byte(`{"n":1}`) }}},
	"register": {entity: "register", writesValues: true, commands: []command{
		{name: "set", weight: 50, writes: 1, fields: []string{"value"}, args: func(b []byte, w *Workload, n int64, _ int) []byte {
			b = append(b, `{"value":`...)
			return append(w.appendValue(b, n), '}')
		}},
		{name: "get", weight: 50},
	}, probe: probe{1, func(n int64) (string, []byte) { return "set", fmt.Appendf(nil, `{"value":"p%d"}`, n) }}},
	"ledger": {entity: "account", minKeys: 2, commands: []command{
		// A transfer debits and settles its own key, and credits another.
		{name: "run", entity: "transfer", weight: 60, writes: 2, fields: []string{"to", "amount"}, args: func(b []byte, w *Workload, _ int64, rank int) []byte {
			other := 1 + w.rand.IntN(len(w.groups[0].bases)-1)
			if other >= rank {
				other++
			}
			return fmt.Appendf(b, `{"to":%q,"amount":%d}`, w.use(0, other, 1), 1+w.rand.IntN(50))
		}},
		{name: "get", weight: 40},
		{name: "credit", writes: 1, fields: []string{"amount"}, args: func(b []byte, w *Workload, _ int64, _ int) []byte {
			return fmt.Appendf(b, `{"amount":%d}`, 1+w.rand.IntN(50))
		}},
	}, probe: probe{1, func(int64) (string, []byte) { return "credit", []byte(`{"amount":1}`) }}},
	"device-twin": {entity: "twin", commands: []command{
		{name: "report", weight: 90, writes: 1, fields: []string{"seq", "value"}, args: func(b []byte, w *Workload, n int64, _ int) []byte {
			return fmt.Appendf(b, `{"seq":%d,"value":%d}`, n+1, w.rand.IntN(1000))
		}},
		{name: "get", weight: 10},
	}, probe: probe{1, func(n int64) (string, []byte) { return "report", fmt.Appendf(nil, `{"seq":%d,"value":%d}`, n+1, n) }}},
	"leaderboard": {entity: "board", commands: []command{
		{name: "submit", weight: 70, writes: 1, fields: []string{"player", "score"}, args: func(b []byte, w *Workload, _ int64, _ int) []byte {
			return fmt.Appendf(b, `{"player":"p-%d","score":%d}`, 1+w.rand.IntN(50), w.rand.IntN(10_000))
		}},
		{name: "top", weight: 30},
	}, probe: boardProbe},
	"shop":   shop,
	"ycsb-a": ycsb(Skew{Zipf: ycsbZipf}, 50, 50, 0, 0, 0),
	"ycsb-b": ycsb(Skew{Zipf: ycsbZipf}, 95, 5, 0, 0, 0),
	"ycsb-c": ycsb(Skew{Zipf: ycsbZipf}, 100, 0, 0, 0, 0),
	"ycsb-d": ycsb(Skew{Zipf: ycsbZipf, Latest: true}, 95, 0, 5, 0, 0),
	"ycsb-e": ycsb(Skew{Zipf: ycsbZipf}, 0, 0, 5, 95, 0),
	"ycsb-f": ycsb(Skew{Zipf: ycsbZipf}, 50, 0, 0, 0, 50),
	"playback": {entity: "playback", commands: []command{
		{name: "seek", weight: 60, writes: 1, fields: []string{"position", "device"}, args: func(b []byte, w *Workload, _ int64, _ int) []byte {
			return fmt.Appendf(b, `{"position":%d,"device":"d-%d"}`, w.rand.IntN(7200), 1+w.rand.IntN(3))
		}},
		{name: "get", weight: 40},
		{name: "delete", writes: 1},
	}, probe: probe{1, func(n int64) (string, []byte) {
		return "seek", fmt.Appendf(nil, `{"position":%d,"device":"d-1"}`, n)
	}}},
	"approval": {entity: "approval", commands: []command{
		// A submission may expire.
		{name: "submit", weight: 35, writes: 2, fields: []string{"by", "deadline_ms"}, args: func(b []byte, w *Workload, _ int64, _ int) []byte {
			b = appendUser(b, w)
			return fmt.Appendf(b, `,"deadline_ms":%d}`, 500+w.rand.IntN(1001))
		}},
		{name: "approve", weight: 25, writes: 1, fields: []string{"by"}, args: appendDecision},
		{name: "reject", weight: 10, writes: 1, fields: []string{"by"}, args: appendDecision},
		{name: "get", weight: 30},
	}, probe: probe{2, func(int64) (string, []byte) { return "submit", []byte(`{"by":"u-1","deadline_ms":300}`) }}},
}

func appendUser(b []byte, w *Workload) []byte {
	return fmt.Appendf(b, `{"by":"u-%d"`, 1+w.rand.IntN(5))
}

func appendDecision(b []byte, w *Workload, _ int64, _ int) []byte {
	return append(appendUser(b, w), '}')
}

func appendItem(b []byte, w *Workload) []byte {
	b = append(b, `{"item":"sku-`...)
	return append(strconv.AppendInt(b, w.rand.Int64N(20), 10), '"')
}

// Workload makes the operations of a run, one after the other. The sequence is
// a function of its config alone: operation n draws from a generator seeded with
// (seed, n), and what the operations before it have come to, generations, rows
// and journeys, is counted, whatever became of them.
type Workload struct {
	groups   []group // the first is the one that skew is over
	retire   int32   // writes to one key at most
	commands []command
	bounds   []int64 // running sums of the weights of commands
	skew     *skew
	rows     *skew // of rows in a key, nil if there are none
	load     int32 // rows that are inserted into a key first
	row      int32 // rows that the key of the operation in the making has
	values   Sizes
	journeys *shops // nil: commands are drawn
	sessions int
	seed     int64
	source   rand.PCG
	rand     *rand.Rand
	next     int64

	mu      sync.Mutex // for what Next changes and others read
	touched []EntityKey
	retired []Retired
}

// group is the keys of one entity type.
type group struct {
	entity string
	prefix string // of keys: "cart-" of "cart-17.2"
	most   int32  // writes that one operation makes to one key
	bases  []base // by rank - 1
}

func newGroup(entity string, keys int, most int32) group {
	return group{entity, entity + "-", most, make([]base, keys)}
}

// Retired is a key that no further operation touches.
type Retired struct {
	EntityKey
	Ops int64 // that touched it
}

// base is a key without its generation.
type base struct {
	key        string // live generation, "" before its first use
	generation int32  // generations before the live one
	writes     int32  // generated for the live generation, at most
	rows       int32  // inserted into the live generation
	ops        int64  // generated for the live generation
}

// NewWorkload returns the named workload. The error names the field at fault
// and what it may be.
func NewWorkload(c WorkloadConfig) (*Workload, error) {
	s, ok := services[c.Name]
	if !ok {
		return nil, fmt.Errorf("workload: unknown name %q; have %s", c.Name, strings.Join(WorkloadNames(), ", "))
	}
	if c.Keys < 1 || c.Keys > maxKeys {
		return nil, fmt.Errorf("workload %s: keys: %d is outside 1 to %d", c.Name, c.Keys, maxKeys)
	}
	if c.Keys < s.minKeys {
		return nil, fmt.Errorf("workload %s: keys: %d is less than %d", c.Name, c.Keys, s.minKeys)
	}
	if c.Retire != 0 && (c.Retire < MinRetire || c.Retire > MaxRetire) {
		return nil, fmt.Errorf("workload %s: retire: %d is outside %d to %d", c.Name, c.Retire, MinRetire, MaxRetire)
	}
	if !(c.Zipf >= 0 && c.Zipf <= math.MaxFloat64) {
		return nil, fmt.Errorf("workload %s: zipf: exponent %v is not a number from 0 up", c.Name, c.Zipf)
	}
	if err := c.Hot.check(); err != nil {
		return nil, fmt.Errorf("workload %s: %w", c.Name, err)
	}
	if c.Hot != (HotSet{}) && (c.Zipf != 0 || c.Latest) {
		return nil, fmt.Errorf("workload %s: hot: contradicts zipf %v, latest %v", c.Name, c.Zipf, c.Latest)
	}
	if err := c.Values.check(); err != nil {
		return nil, fmt.Errorf("workload %s: values: %w", c.Name, err)
	}
	if c.Values != (Sizes{}) && !s.writesValues {
		return nil, fmt.Errorf("workload %s: values: it writes none", c.Name)
	}
	if c.Sessions < 0 || c.Sessions > MaxSessions {
		return nil, fmt.Errorf("workload %s: sessions: %d is outside 0 to %d", c.Name, c.Sessions, MaxSessions)
	}
	w := &Workload{
		commands: s.commands, retire: int32(cmp.Or(c.Retire, MaxRetire)), skew: newSkew(c.Keys, Skew{c.Zipf, c.Latest, c.Hot}),
		values: s.values, sessions: c.Sessions, seed: c.Seed,
	}
	if c.Values != (Sizes{}) {
		w.values = c.Values
	}
	if s.load > 0 {
		w.load = min(int32(s.load), w.retire/2)
		w.rows = newSkew(MaxRetire, Skew{c.Zipf, false, c.Hot})
	}
	w.rand = rand.New(&w.source)
	var have []string
	var most int32
	for _, cmd := range s.commands {
		have = append(have, cmd.name)
		most = max(most, int32(cmd.writes))
	}
	w.groups = []group{newGroup(s.entity, c.Keys, most)}
	if s.journey != nil {
		if c.Mix != nil {
			return nil, fmt.Errorf("workload %s: mix: it has none, its journeys say what is sent", c.Name)
		}
		w.sessions = cmp.Or(w.sessions, defaultSessions)
		w.journeys = s.journey(w)
		return w, nil
	}
	for name, weight := range c.Mix {
		if !slices.Contains(have, name) {
			return nil, fmt.Errorf("workload %s: mix: unknown op %q; have %s", c.Name, name, strings.Join(have, ", "))
		}
		if weight < 0 || weight > math.MaxInt32 {
			return nil, fmt.Errorf("workload %s: mix: weight %d of %s is outside 0 to %d", c.Name, weight, name, math.MaxInt32)
		}
	}
	var sum int64
	for _, cmd := range s.commands {
		weight := cmd.weight
		if c.Mix != nil {
			weight = c.Mix[cmd.name]
		}
		sum += int64(weight)
		w.bounds = append(w.bounds, sum)
	}
	if sum == 0 {
		return nil, fmt.Errorf("workload %s: mix: all weights are 0", c.Name)
	}
	return w, nil
}

// Operation is one kind of operation of a workload.
type Operation struct {
	Entity string // entity type or action that it is sent to
	Name   string
	Weight int      // in the workload's own mix
	Fields []string // names of its args
	Probe  bool     // the prober sends it too
}

// Operations returns the operations of the named workload and the entity type
// whose keys the skew is over, which is also what the prober writes to; none and
// "" if there is no such workload. Operations on actions are sent to the action
// under the key of an entity.
//
// The read of register that takes no args is named get; it is the one to audit a
// system with that keeps no witness.
func Operations(workload string) (entity string, ops []Operation) {
	s, ok := services[workload]
	if !ok {
		return "", nil
	}
	probe, _ := s.probe.make(0)
	for _, c := range s.commands {
		ops = append(ops, Operation{cmp.Or(c.entity, s.entity), c.name, c.weight, slices.Clone(c.fields), c.name == probe})
	}
	return s.entity, ops
}

// Defaults are what a workload has where nothing else is said.
type Defaults struct {
	Skew     Skew
	Values   Sizes // zero: as long as the name that makes a value unique, if it writes any
	Writes   bool  // it writes values
	Sessions int
	Journey  bool // its clients are on journeys, which have no mix
}

// DefaultsOf returns what the named workload has where nothing else is said.
func DefaultsOf(workload string) Defaults {
	s := services[workload]
	own := Defaults{Skew: s.skew, Values: s.values, Writes: s.writesValues, Journey: s.journey != nil}
	if own.Journey {
		own.Sessions = defaultSessions
	}
	return own
}

// WorkloadNames returns the names NewWorkload knows, sorted.
func WorkloadNames() []string {
	names := make([]string, 0, len(services))
	for name := range services {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Next returns the next operation: N, Client, Entity, Key, Name and Args are
// set; Args is nil for an operation that takes none, and Client 0 unless there
// are sessions. One goroutine at a time may call it.
func (w *Workload) Next() history.Op {
	n := w.next
	w.next++
	w.source.Seed(mix(uint64(w.seed)), mix(uint64(n)))
	if w.journeys != nil {
		return w.journeys.next(w, n)
	}
	rank := w.skew.key(w.skew.draw(w.rand, w.skew.n))
	ticket := w.rand.Int64N(w.bounds[len(w.bounds)-1])
	i := 0
	for w.bounds[i] <= ticket {
		i++
	}
	cmd := &w.commands[i]
	if w.load > 0 {
		cmd = w.ofTable(cmd, rank)
	}
	op := w.operation(n, cmd, 0, rank)
	if w.sessions > 0 {
		op.Client = int(n % int64(w.sessions))
	}
	return op
}

// operation makes operation n on a key of a group.
func (w *Workload) operation(n int64, cmd *command, group, rank int) history.Op {
	op := history.Op{N: n, Entity: cmp.Or(cmd.entity, w.groups[0].entity), Key: w.use(group, rank, cmd.writes), Name: cmd.name, Version: -1}
	if cmd.args != nil {
		op.Args = cmd.args(make([]byte, 0, 48+w.values.To), w, n, rank)
	}
	return op
}

func (w *Workload) taken() bool { return w.next != 0 }

// use returns the live generation of a key for one operation, which makes so
// many writes to it, and retires the generation if another operation might be
// too much for it.
func (w *Workload) use(group, rank, writes int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := &w.groups[group]
	b := &g.bases[rank-1]
	if b.key == "" {
		b.key = g.keyOf(rank, b.generation)
		w.touched = append(w.touched, EntityKey{g.entity, b.key})
	}
	key := b.key
	b.writes += int32(writes)
	b.ops++
	if writes > 0 && b.writes+g.most > w.retire {
		w.retired = append(w.retired, Retired{EntityKey{g.entity, key}, b.ops})
		*b = base{generation: b.generation + 1}
		if group == 0 {
			w.skew.renew(rank)
		}
	}
	return key
}

func (g *group) keyOf(rank int, generation int32) string {
	b := append(make([]byte, 0, 24), g.prefix...)
	b = strconv.AppendInt(b, int64(rank), 10)
	b = append(b, '.')
	return string(strconv.AppendInt(b, int64(generation)+1, 10))
}

// Sessions is how many clients the operations belong to, 0 if they belong to
// none.
func (w *Workload) Sessions() int { return w.sessions }

// Hottest returns the entity that the next operation on the most popular key
// will touch: of a hot set the first one. Safe for concurrent use.
func (w *Workload) Hottest() (entity, key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rank, g := w.skew.key(1), &w.groups[0]
	return g.entity, g.keyOf(rank, g.bases[rank-1].generation)
}

// Touched returns every entity that an operation returned by Next touches, in
// order of first use: those that it is sent to, and those that actions call,
// but no actions. Safe for concurrent use.
func (w *Workload) Touched() []EntityKey {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.touched)
}

// TakeRetired returns the keys that were retired since it was last called, in
// that order. Safe for concurrent use.
func (w *Workload) TakeRetired() []Retired {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.retired
	w.retired = nil
	return taken
}

// mix is one step of SplitMix64 (Steele, Lea and Flood, "Fast splittable
// pseudorandom number generators", OOPSLA 2014): it spreads neighbouring numbers
// over all 64 bits.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// chance is a number in [0, 1) that depends on seed and n alone, and not on what
// Workload draws from them.
func chance(seed, n int64) float64 {
	return float64(mix(mix(uint64(seed))^uint64(n))>>11) / (1 << 53)
}
