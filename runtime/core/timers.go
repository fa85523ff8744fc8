package core

import (
	"cmp"
	"container/heap"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	"statequake/runtime/entity"
)

// timersType is the type of the pseudo-entities that hold the timers of a
// shard in its checkpoints: entities need not be loaded to know their timers.
// No type of an entity begins with an underscore.
const timersType = "_timers"

const (
	timerPages    = 8 // pseudo-entities per shard
	maxPageBytes  = 1 << 20
	maxTimerBytes = 64 << 10 // of the arguments of one timer
	maxFireOp     = 256      // bytes
	maxFires      = 256      // per Tick
	retryFire     = 100 * time.Millisecond
)

// TimerChange sets or cancels a timer, as part of the record of a command of
// its entity.
type TimerChange struct {
	Name    string          `json:"name"`
	Cancel  bool            `json:"cancel,omitempty"`
	Due     int64           `json:"due_unix_ns,omitempty"`
	Target  ID              `json:"target"` // the entity itself, another one, or {"", action}
	Command string          `json:"command,omitempty"`
	Args    json.RawMessage `json:"args,omitempty"`
}

// Timer is a timer that is set. Op is the operation that set it.
type Timer struct {
	ID ID     `json:"id"` // of its entity
	Op string `json:"op"`
	TimerChange
}

// Fire is a timer that is due and whose target is not its own entity: the
// caller sends the command Name as operation Op to Target, and tells Fired.
// The Op is the same whoever fires it, so that it takes effect once.
type Fire struct {
	Op     string
	Target ID     // if Action is ""
	Action string // the action that is the target
	Name   string
	Args   json.RawMessage

	timer timerKey
	set   string // the operation that set it
}

type timerKey struct {
	ID   ID
	Name string
}

// armed is a timer in memory.
type armed struct {
	Timer
	pos   int64 // of the record that set it
	at    int64 // when it is to be tried next, on the wall clock in ns
	index int   // in the heap; -1 while it fires
}

// fired is the Ticket of a command that a timer sent to its own entity.
type fired struct {
	timer timerKey
	set   string
}

// page is one pseudo-entity of timers.
type page struct {
	loaded  bool
	loading bool
	pos     int64 // last record that changed it
	stored  int64 // pos of its latest checkpoint
	bytes   int   // of its timers, about
	tail    []Record
}

// timers are the timers of a shard.
type timers struct {
	pages [timerPages]page
	set   map[timerKey]*armed
	due   timerHeap
	twice []later // of a planted bug
}

// timerHeap is ordered by the time at which to try, then by name: a run can be
// repeated exactly.
type timerHeap []*armed

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(cmp.Compare(a.at, b.at), compareIDs(a.ID, b.ID), cmp.Compare(a.Name, b.Name)) < 0
}
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timerHeap) Push(x any) {
	a := x.(*armed)
	a.index = len(*h)
	*h = append(*h, a)
}
func (h *timerHeap) Pop() any {
	old := *h
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	a.index = -1
	return a
}

func compareIDs(a, b ID) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Key, b.Key))
}

// pageOf is where the timers of an entity are kept.
func pageOf(id ID) int {
	h := fnv.New32a()
	h.Write([]byte(id.Type))
	h.Write([]byte{0})
	h.Write([]byte(id.Key))
	return int(h.Sum32() % timerPages)
}

func pageID(n int) ID { return ID{Type: timersType, Key: strconv.Itoa(n)} }

// page returns the page that id addresses, nil if id is an entity.
func (s *Shard) page(id ID) *page {
	if id.Type != timersType {
		return nil
	}
	n, err := strconv.Atoi(id.Key)
	if err != nil || n < 0 || n >= timerPages {
		return nil
	}
	return &s.timers.pages[n]
}

// fireOp is the operation with which a timer fires: that which set it, and its
// name. Only if that were too long for an operation is it a digest.
func fireOp(k timerKey, set string) string {
	if op := set + "/" + k.Name; len(op) <= maxFireOp {
		return op
	}
	h := sha256.New()
	for _, part := range []string{k.ID.Type, k.ID.Key, k.Name, set} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return "timer-" + hex.EncodeToString(h.Sum(nil)[:12])
}

func (a *armed) key() timerKey { return timerKey{a.ID, a.Name} }

func (c TimerChange) bytes() int {
	return len(c.Name) + len(c.Target.Type) + len(c.Target.Key) + len(c.Command) + len(c.Args) + 64
}

// bytes is about what a timer takes in a checkpoint, with the names of its fields.
func (t Timer) bytes() int {
	return 128 + t.TimerChange.bytes() + len(t.ID.Type) + len(t.ID.Key) + len(t.Op)
}

// changes turns the timers of a decision into what its record says.
func (s *Shard) changes(now time.Duration, c *Command, asked []entity.Timer) ([]TimerChange, error) {
	var changes []TimerChange
	if f, ok := c.Ticket.(fired); ok {
		// It fires in the same record in which its command takes effect.
		changes = append(changes, TimerChange{Name: f.timer.Name, Cancel: true})
	}
	more := 0
	for _, t := range asked {
		if t.Cancel {
			changes = append(changes, TimerChange{Name: t.Name, Cancel: true})
			continue
		}
		change := TimerChange{Name: t.Name, Due: s.wall + int64(now) + int64(t.After), Target: c.ID, Command: t.Command, Args: t.Args}
		switch {
		case t.Action != "":
			change.Target = ID{Key: t.Action}
		case t.Type != "":
			change.Target = ID{Type: t.Type, Key: t.Key}
		}
		if len(t.Args) > maxTimerBytes {
			return nil, tooLarge("arguments of timer "+t.Name, len(t.Args), maxTimerBytes)
		}
		if len(t.Args) > 0 && !json.Valid(t.Args) {
			return nil, fmt.Errorf("timer %s: arguments are not JSON", t.Name)
		}
		more += Timer{ID: c.ID, Op: c.Op, TimerChange: change}.bytes()
		changes = append(changes, change)
	}
	if more > 0 && s.timers.pages[pageOf(c.ID)].bytes+more > maxPageBytes {
		return nil, fmt.Errorf("%w: its timers take more than %d bytes", ErrFull, maxPageBytes)
	}
	return changes, nil
}

// keep notes what a record says of timers.
func (s *Shard) keep(r Record) {
	if len(r.Timers) == 0 {
		return
	}
	p := &s.timers.pages[pageOf(r.ID)]
	p.pos = r.Pos
	if !p.loaded {
		p.tail = append(p.tail, Record{Pos: r.Pos, ID: r.ID, Op: r.Op, Timers: r.Timers})
		return
	}
	s.change(p, r)
}

// change applies a record to a page that is loaded.
func (s *Shard) change(p *page, r Record) {
	for _, c := range r.Timers {
		k := timerKey{r.ID, c.Name}
		if old, ok := s.timers.set[k]; ok {
			p.bytes -= old.bytes()
			if old.index >= 0 {
				heap.Remove(&s.timers.due, old.index)
			}
			delete(s.timers.set, k)
		}
		if !c.Cancel {
			s.arm(p, Timer{ID: r.ID, Op: r.Op, TimerChange: c}, r.Pos)
		}
	}
}

func (s *Shard) arm(p *page, t Timer, pos int64) {
	a := &armed{Timer: t, pos: pos, at: t.Due}
	p.bytes += t.bytes()
	s.timers.set[a.key()] = a
	heap.Push(&s.timers.due, a)
}

// loadedPage hands over the checkpoint of a page.
func (s *Shard) loadedPage(p *page, c *Checkpoint) error {
	if p.loaded {
		return nil
	}
	if c != nil && !s.cfg.Bugs.TimerLost {
		var list []Timer
		if err := json.Unmarshal(c.State, &list); err != nil {
			return errors.Join(errors.New("checkpoint of timers"), err)
		}
		for _, t := range list {
			s.arm(p, t, c.Pos)
		}
		p.pos, p.stored = max(p.pos, c.Pos), c.Pos
	}
	p.loaded, p.loading = true, false
	for _, r := range p.tail {
		if r.Pos > p.stored {
			s.change(p, r)
		}
	}
	p.tail = nil
	return nil
}

// snapshotPage encodes a page, as Snapshot does an entity.
func (s *Shard) snapshotPage(id ID, p *page) (c Checkpoint, ok bool, out Output, err error) {
	if !p.loaded {
		s.loadPage(id, p)
		return c, false, s.take(), nil
	}
	list := []Timer{}
	for k, a := range s.timers.set {
		if pageID(pageOf(k.ID)) == id {
			list = append(list, a.Timer)
		}
	}
	slices.SortFunc(list, func(a, b Timer) int {
		return cmp.Or(cmp.Compare(a.Due, b.Due), compareIDs(a.ID, b.ID), cmp.Compare(a.Name, b.Name))
	})
	c = Checkpoint{ID: id, Pos: p.pos}
	if c.State, err = json.Marshal(list); err != nil {
		return c, false, Output{}, fmt.Errorf("snapshot of timers: %w", err)
	}
	return c, true, Output{}, nil
}

func (s *Shard) loadPage(id ID, p *page) {
	if !p.loading {
		p.loading = true
		s.out.Loads = append(s.out.Loads, id)
	}
}

// Tick fires the timers that are due at wall, the caller's wall clock in
// nanoseconds since 1970 at its instant now. It is to be called often: timers
// are late by as much as it is. The first one has the timers loaded.
func (s *Shard) Tick(now time.Duration, wall int64) Output {
	s.wall = wall - int64(now)
	if s.moved || s.closed {
		return Output{}
	}
	for n := range s.timers.pages {
		if p := &s.timers.pages[n]; !p.loaded {
			s.loadPage(pageID(n), p)
		}
	}
	s.fireAgain(now, wall)
	for range maxFires {
		if len(s.timers.due) == 0 || s.timers.due[0].at > wall {
			break
		}
		a := s.timers.due[0]
		self := a.Target == a.ID
		if !self && (a.pos > s.durablePos || !s.leased(now)) {
			// Its cause could still be lost, or a successor fire it as well.
			a.at = wall + int64(retryFire)
			heap.Fix(&s.timers.due, 0)
			continue
		}
		heap.Pop(&s.timers.due)
		op := fireOp(a.key(), a.Op)
		if self {
			c := Command{Ticket: fired{a.key(), a.Op}, Op: op, ID: a.ID, Name: a.Command, Args: a.Args}
			if s.cfg.Bugs.TimerFiredTwice {
				s.timers.twice = append(s.timers.twice, later{wall + int64(retryFire), c})
			}
			s.submit(now, c)
			continue
		}
		f := Fire{Op: op, Target: a.Target, Name: a.Command, Args: a.Args, timer: a.key(), set: a.Op}
		if a.Target.Type == "" {
			f.Action, f.Target = a.Target.Key, ID{}
			if s.cfg.Bugs.TransferHalfApplied {
				continue
			}
		}
		s.out.Fires = append(s.out.Fires, f)
	}
	return s.take()
}

// Fired says what became of a fire: done if its target has executed the
// command durably, or will never do so. If not, it fires again a little later.
func (s *Shard) Fired(now time.Duration, f Fire, done bool) Output {
	s.settle(now, f.timer, f.set, done)
	return s.take()
}

// settle ends the firing of a timer, unless it was replaced or cancelled.
func (s *Shard) settle(now time.Duration, k timerKey, set string, done bool) {
	a, ok := s.timers.set[k]
	if !ok || a.Op != set || s.moved {
		return
	}
	if !done {
		a.at = s.wall + int64(now) + int64(retryFire)
		if a.index < 0 {
			heap.Push(&s.timers.due, a)
		}
		return
	}
	if s.closed {
		return // the successor fires it again, with the same op
	}
	// A record without an op concerns timers alone.
	s.append(now, Record{ID: k.ID, Timers: []TimerChange{{Name: k.Name, Cancel: true}}})
}

// stale tells whether c was sent by a timer that does not stand any more.
func (s *Shard) stale(c Command) bool {
	f, ok := c.Ticket.(fired)
	if !ok || s.cfg.Bugs.TimerFiredTwice {
		return false
	}
	a, ok := s.timers.set[f.timer]
	return !ok || a.Op != f.set
}

// Timers is the number of timers that are set, as far as they are loaded.
func (s *Shard) Timers() int { return len(s.timers.set) }
