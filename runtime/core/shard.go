package core

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"statequake/runtime/entity"
)

// DedupeLimit is how many operations an entity remembers. A retry that comes
// after that many later writes and rejections on its entity is executed again.
const DedupeLimit = 1024

// maxGroupRecords bounds one group, and with it one transaction of the store.
const maxGroupRecords = 1000

// Bugs are faults of the runtime that can be switched on to prove that a
// checker finds them. Each one takes away all protection against one hazard.
type Bugs struct {
	AckBeforeJournal bool // replies leave before their group is durable
	NoFence          bool // the owner keeps serving and appending whatever its epoch
	DoubleApply      bool // a retried command is executed again
	DirtyRead        bool // reads of not yet durable state are not held back
}

// Config is what a shard needs to know. Durations and instants are on one
// monotonic clock of the caller's.
type Config struct {
	Types  map[string]entity.Type
	Memory bool          // acknowledge from memory, within Window
	Window time.Duration // oldest unflushed record with which Memory still acknowledges
	Lease  time.Duration // reads are served this long after the start of the last confirmation
	Bugs   Bugs
}

// Command is one request for an entity. Ticket comes back with the reply.
type Command struct {
	Ticket any
	Op     string
	ID     ID
	Name   string
	Args   json.RawMessage
}

// Reply answers a command. Err is ErrMoved or ErrLease if the command must be
// tried again (elsewhere), *entity.UnknownCommandError or another error if it
// made no sense; in the latter cases it had no effect. ErrMoved says nothing
// about the effect: the same Op has to be used again.
type Reply struct {
	Ticket  any
	Result  json.RawMessage
	Version int64
	Digest  string
	Err     error
}

// Output is what the caller has to do after an input: send replies, and read
// entities from the store and hand them to Loaded.
type Output struct {
	Replies []Reply
	Loads   []ID
}

var (
	// ErrMoved: this shard is not owned here any more.
	ErrMoved = errors.New("the shard has moved")
	// ErrLease: ownership was not confirmed recently enough to read.
	ErrLease = errors.New("ownership is not confirmed")
)

// Shard holds the entities of one shard for as long as its owner holds one
// epoch.
type Shard struct {
	cfg   Config
	epoch int64

	entities map[ID]*live
	tail     map[ID][]Record // recovered records of entities that are not loaded

	nextSeq    int64    // of the group that gathers
	nextPos    int64    // of the next record
	durablePos int64    // records up to here are durable
	flushing   []Record // of the group that is being made durable; nil if none
	gathering  []Record
	oldest     time.Duration // when the first record that is not durable was made
	gatherFrom time.Duration // when the first record of gathering was made
	held       []heldReply   // by pos, not decreasing

	confirmed time.Duration // start of the last confirmation of the epoch
	closed    bool          // takes no more commands
	moved     bool          // the epoch is over
	out       Output
}

// live is an entity in memory.
type live struct {
	state   entity.Entity // nil while it is being loaded
	pos     int64         // last record applied
	stored  int64         // pos of its latest checkpoint
	answers map[string]Answer
	order   []string // keys of answers, oldest first
	waiting []Command
}

type heldReply struct {
	pos   int64
	reply Reply
}

// New recovers a shard from the head and the tail of its journal. confirmed
// is an instant at or before which epoch was known to be the current one.
func New(cfg Config, epoch int64, head Head, tail []Group, confirmed time.Duration) *Shard {
	s := &Shard{
		cfg: cfg, epoch: epoch, confirmed: confirmed,
		entities: map[ID]*live{}, tail: map[ID][]Record{},
		nextSeq: head.Seq + 1, nextPos: head.Pos + 1,
	}
	for _, g := range tail {
		for _, r := range g.Records {
			s.tail[r.ID] = append(s.tail[r.ID], r)
			s.nextPos = r.Pos + 1
		}
		s.nextSeq = g.Seq + 1
	}
	s.durablePos = s.nextPos - 1
	return s
}

// Epoch is the epoch that the shard was recovered for.
func (s *Shard) Epoch() int64 { return s.epoch }

// Submit runs a command, or queues it until its entity is loaded. now must not
// be older than the arrival of the command: a read is linearized there.
func (s *Shard) Submit(now time.Duration, c Command) Output {
	if s.moved || s.closed {
		return Output{Replies: []Reply{{Ticket: c.Ticket, Err: ErrMoved}}}
	}
	e, ok := s.entities[c.ID]
	if !ok {
		e = &live{answers: map[string]Answer{}}
		s.entities[c.ID] = e
		s.out.Loads = append(s.out.Loads, c.ID)
	}
	if e.state == nil {
		e.waiting = append(e.waiting, c)
	} else {
		s.run(now, e, c)
	}
	return s.take()
}

// Loaded hands over the checkpoint of an entity, nil if the store has none.
// The records of the journal's tail that are not in it are folded on top.
func (s *Shard) Loaded(now time.Duration, id ID, c *Checkpoint) (Output, error) {
	e, ok := s.entities[id]
	if !ok || e.state != nil || s.moved {
		return Output{}, nil
	}
	state := s.cfg.Types[id.Type].New()
	if c != nil {
		if err := json.Unmarshal(c.State, state); err != nil {
			return Output{}, errors.Join(errors.New("checkpoint of "+id.Type+"/"+id.Key), err)
		}
		e.pos, e.stored = c.Pos, c.Pos
		for _, a := range c.Dedupe {
			e.remember(a)
		}
	}
	e.state = state
	for _, r := range s.tail[id] {
		if r.Pos > e.pos {
			e.fold(r)
		}
	}
	delete(s.tail, id)
	waiting := e.waiting
	e.waiting = nil
	for _, w := range waiting {
		s.run(now, e, w)
	}
	return s.take(), nil
}

// LoadFailed gives the commands that wait for an entity back, to be tried
// again; the next one loads it anew.
func (s *Shard) LoadFailed(id ID) Output {
	if e, ok := s.entities[id]; ok && e.state == nil {
		for _, w := range e.waiting {
			s.out.Replies = append(s.out.Replies, Reply{Ticket: w.Ticket, Err: ErrLease})
		}
		delete(s.entities, id)
	}
	return s.take()
}

// run executes one command on a loaded entity.
func (s *Shard) run(now time.Duration, e *live, c Command) {
	if a, done := e.answers[c.Op]; done && !s.cfg.Bugs.DoubleApply {
		s.reply(now, e.pos, Reply{Ticket: c.Ticket, Result: a.Result, Version: a.Version, Digest: a.Digest})
		return
	}
	d, err := e.state.Handle(entity.Command{Name: c.Name, Args: c.Args})
	if err != nil {
		s.out.Replies = append(s.out.Replies, Reply{Ticket: c.Ticket, Err: err})
		return
	}
	if d.Reject != "" {
		d.Event, d.Result = nil, map[string]string{"rejected": d.Reject}
	}
	result, err := json.Marshal(d.Result)
	if err != nil {
		s.out.Replies = append(s.out.Replies, Reply{Ticket: c.Ticket, Err: err})
		return
	}
	if d.Read {
		// State that nobody else can have changed since: a successor serves
		// only after the lease has run out.
		if !s.leased(now) {
			s.out.Replies = append(s.out.Replies, Reply{Ticket: c.Ticket, Err: ErrLease})
			return
		}
		version, digest := e.state.Applied()
		pos := e.pos
		if s.cfg.Bugs.DirtyRead {
			pos = 0
		}
		s.reply(now, pos, Reply{Ticket: c.Ticket, Result: result, Version: version, Digest: digest})
		return
	}

	r := Record{Pos: s.nextPos, ID: c.ID, Op: c.Op, Event: d.Event, Result: result}
	s.nextPos++
	if d.Event != nil {
		event := *d.Event
		event.Op = c.Op
		e.state.Apply(event)
	}
	r.Version, r.Digest = e.state.Applied()
	e.pos = r.Pos
	e.remember(Answer{Op: r.Op, Result: r.Result, Version: r.Version, Digest: r.Digest})
	if len(s.gathering) == 0 {
		s.gatherFrom = now
		if s.flushing == nil {
			s.oldest = now
		}
	}
	s.gathering = append(s.gathering, r)
	s.reply(now, r.Pos, Reply{Ticket: c.Ticket, Result: r.Result, Version: r.Version, Digest: r.Digest})
}

// reply sends r as soon as the contract allows, given that it tells of the
// record at pos.
func (s *Shard) reply(now time.Duration, pos int64, r Reply) {
	early := s.cfg.Memory && s.leased(now) && (!s.Pending() || now-s.oldest <= s.cfg.Window)
	if pos <= s.durablePos || early || s.cfg.Bugs.AckBeforeJournal {
		s.out.Replies = append(s.out.Replies, r)
		return
	}
	at := len(s.held)
	for at > 0 && s.held[at-1].pos > pos {
		at--
	}
	s.held = slices.Insert(s.held, at, heldReply{pos, r})
}

// leased tells whether no successor can be serving at now.
func (s *Shard) leased(now time.Duration) bool {
	return s.cfg.Bugs.NoFence || now-s.confirmed < s.cfg.Lease
}

// Confirmed notes that the epoch was found to be the current one by a
// linearizable read of the store that began at start.
func (s *Shard) Confirmed(start time.Duration) {
	s.confirmed = max(s.confirmed, start)
}

// Gather closes the group that gathers and hands it out to be made durable. It
// returns false if there is nothing to flush or a flush is under way: groups
// become durable one after the other.
func (s *Shard) Gather() (Group, bool) {
	if s.moved || s.flushing != nil || len(s.gathering) == 0 {
		return Group{}, false
	}
	n := min(len(s.gathering), maxGroupRecords)
	s.flushing, s.gathering = s.gathering[:n:n], s.gathering[n:]
	g := Group{Seq: s.nextSeq, Epoch: s.epoch, Records: s.flushing}
	s.nextSeq++
	return g, true
}

// Durable says that the group handed out last is durable.
func (s *Shard) Durable() Output {
	if s.flushing == nil {
		return Output{}
	}
	s.durablePos = s.flushing[len(s.flushing)-1].Pos
	s.flushing = nil
	s.oldest = s.gatherFrom
	n := 0
	for n < len(s.held) && s.held[n].pos <= s.durablePos {
		s.out.Replies = append(s.out.Replies, s.held[n].reply)
		n++
	}
	s.held = slices.Delete(s.held, 0, n)
	return s.take()
}

// Pending tells whether records are not durable yet.
func (s *Shard) Pending() bool { return s.flushing != nil || len(s.gathering) > 0 }

// Close takes no more commands: they are answered with ErrMoved. What was
// taken before still becomes durable and is answered.
func (s *Shard) Close() Output {
	s.closed = true
	s.giveBackWaiting()
	return s.take()
}

// Depose ends the epoch: nothing that is not durable will become so here, and
// every command that waits has to be tried again elsewhere.
func (s *Shard) Depose() Output {
	s.moved = true
	for _, h := range s.held {
		s.out.Replies = append(s.out.Replies, Reply{Ticket: h.reply.Ticket, Err: ErrMoved})
	}
	s.giveBackWaiting()
	s.held, s.flushing, s.gathering = nil, nil, nil
	return s.take()
}

func (s *Shard) giveBackWaiting() {
	for _, e := range s.entities {
		for _, w := range e.waiting {
			s.out.Replies = append(s.out.Replies, Reply{Ticket: w.Ticket, Err: ErrMoved})
		}
		e.waiting = nil
	}
}

func (s *Shard) take() Output {
	out := s.out
	s.out = Output{}
	return out
}

// fold applies a record of the journal to an entity that is being recovered.
func (e *live) fold(r Record) {
	if r.Event != nil {
		event := *r.Event
		event.Op = r.Op
		e.state.Apply(event)
	}
	e.pos = r.Pos
	e.remember(Answer{Op: r.Op, Result: r.Result, Version: r.Version, Digest: r.Digest})
}

func (e *live) remember(a Answer) {
	if _, known := e.answers[a.Op]; !known {
		e.order = append(e.order, a.Op)
	}
	e.answers[a.Op] = a
	if len(e.order) > DedupeLimit {
		delete(e.answers, e.order[0])
		e.order = e.order[1:]
	}
}
