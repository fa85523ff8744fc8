package core

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"statequake/runtime/entity"
)

// Config is what a shard needs to know. Durations and instants are on one
// monotonic clock of the caller's.
type Config struct {
	Types  map[string]entity.Type
	Memory bool          // acknowledge from memory, within Window
	Window time.Duration // oldest unflushed record with which Memory still acknowledges
	Lease  time.Duration // reads are served this long after the start of the last confirmation
	Wall   int64         // the wall clock in ns since 1970 at instant zero, until the first Tick
	Bugs   Bugs

	MaxEntities int   // in memory, beyond which idle ones leave it; 0: any number
	MaxBytes    int64 // likewise, estimated from snapshots and answers; 0: any number
	Mailbox     int   // commands that may wait for one entity; 0: 256
}

// Command is one request for an entity. Ticket comes back with the reply.
type Command struct {
	Ticket any
	Op     string
	ID     ID
	Name   string
	Args   json.RawMessage
}

// Reply answers a command. Err is ErrMoved, ErrLease, ErrBusy or ErrFull if the
// command must be tried again (elsewhere, later), *entity.UnknownCommandError,
// ErrTooLarge or another error if it made no sense; in the latter cases it had
// no effect. ErrMoved says nothing about the effect: the same Op has to be used
// again.
type Reply struct {
	Ticket  any
	Result  json.RawMessage
	Version int64
	Digest  string
	Err     error
}

// Run is a command of a slow entity to decide on: call Decide, wherever and for
// however long, and hand the decision to Decided. Nothing else changes the
// entity meanwhile.
type Run struct {
	ID      ID
	Entity  entity.Entity
	Command entity.Command
	serial  int64
}

// Decide has the entity's handler decide. A panic of it is an ErrPanic.
func (r Run) Decide() (entity.Decision, error) { return handle(r.Entity, r.Command) }

// handle has an entity decide. The caller may hold locks that a panic of the
// handler would leave locked.
func handle(e entity.Entity, c entity.Command) (d entity.Decision, err error) {
	defer func() {
		if p := recover(); p != nil {
			d, err = entity.Decision{}, fmt.Errorf("%s: %w: %v", c.Name, ErrPanic, p)
		}
	}()
	return e.Handle(c)
}

// Output is what the caller has to do after an input.
type Output struct {
	Replies []Reply
	Loads   []ID   // read their checkpoints and hand them to Loaded
	Runs    []Run  // decide, and hand the decision to Decided
	Fires   []Fire // send a timer's command, and tell Fired
	Stores  []ID   // store checkpoints of them soon, then call Stored or StoreFailed

	Passivated int // entities that have left memory since the last output; nothing to do
}

// Shard holds the entities of one shard for as long as its owner holds one
// epoch.
type Shard struct {
	cfg   Config
	epoch int64

	entities map[ID]*live
	tail     map[ID][]Record // recovered records of entities that are not loaded
	recent   lru             // entities that are loaded
	bytes    int64           // they take, about
	storing  int             // of them are being stored to make room
	timers   timers
	wall     int64 // the wall clock at instant zero

	nextSeq    int64    // of the group that gathers
	nextPos    int64    // of the next record
	durablePos int64    // records up to here are durable
	flushing   []Record // of the group that is being made durable; nil if none
	gathering  []Record
	oldest     time.Duration // when the first record that is not durable was made
	gatherFrom time.Duration // when the first record of gathering was made
	held       []heldReply   // by pos, not decreasing
	split      split         // a planted bug's

	runs      int64         // handed out
	confirmed time.Duration // start of the last confirmation of the epoch
	parallel  []decided     // of a planted bug
	closed    bool          // takes no more commands
	moved     bool          // the epoch is over
	out       Output
}

// live is an entity in memory.
type live struct {
	id      ID
	typ     entity.Type
	state   entity.Entity // nil while it is being loaded
	pos     int64         // last record applied
	stored  int64         // pos of its latest checkpoint
	answers dedupe
	waiting []Command
	busy    *Command // on which a slow handler is deciding
	run     int64    // serial of that

	encoded  int // bytes of its state when it was encoded last
	since    int // bytes of its records since then
	records  int // likewise
	size     int64
	storing  bool // to make room, or since it has changed often
	newer    *live
	older    *live
	inRecent bool
	wanted   bool // loaded to be encoded: must not leave before that

	other *activation // a planted bug's
	reset int64       // a planted bug's: version at which versions begin
}

type heldReply struct {
	pos   int64
	reply Reply
}

// New recovers a shard from the head and the tail of its journal. confirmed
// is an instant at or before which epoch was known to be the current one.
func New(cfg Config, epoch int64, head Head, tail []Group, confirmed time.Duration) *Shard {
	if cfg.Mailbox == 0 {
		cfg.Mailbox = defaultMailbox
	}
	s := &Shard{
		cfg: cfg, epoch: epoch, confirmed: confirmed, wall: cfg.Wall,
		entities: map[ID]*live{}, tail: map[ID][]Record{}, timers: timers{set: map[timerKey]*armed{}},
		nextSeq: head.Seq + 1, nextPos: head.Pos + 1,
	}
	for i, g := range tail {
		if g.Seq <= head.Seq {
			continue // was cut off; an attempt to write it came late
		}
		dropped := cfg.Bugs.TailDropped && i == len(tail)-1
		for _, r := range g.Records {
			s.nextPos = r.Pos + 1
			if dropped {
				continue
			}
			if r.Op != "" {
				s.tail[r.ID] = append(s.tail[r.ID], r)
			}
			if !s.cfg.Bugs.TimerLost {
				s.keep(r)
			}
		}
		s.nextSeq = g.Seq + 1
	}
	s.durablePos = s.nextPos - 1
	s.split.pos = s.durablePos
	return s
}

// Epoch is the epoch that the shard was recovered for.
func (s *Shard) Epoch() int64 { return s.epoch }

// Submit runs a command, or queues it until its entity is loaded and has
// decided on those before. now must not be older than the arrival of the
// command: a read is linearized there.
func (s *Shard) Submit(now time.Duration, c Command) Output {
	s.submit(now, c)
	return s.take()
}

func (s *Shard) submit(now time.Duration, c Command) {
	if s.moved || s.closed {
		s.answer(now, c, Reply{Err: ErrMoved})
		return
	}
	if s.cfg.Bugs.StaleForward && !s.leased(now) {
		s.answer(now, c, Reply{Err: ErrLease}) // so that Remembered knows of durable records alone
		return
	}
	e, ok := s.entities[c.ID]
	switch {
	case !ok && s.overfull():
		s.answer(now, c, Reply{Err: ErrFull})
	case !ok:
		s.load(c.ID).waiting = []Command{c}
	case e.state != nil && e.busy == nil:
		s.run(now, e, c)
		s.shrink()
	case len(e.waiting) >= s.cfg.Mailbox:
		s.answer(now, c, Reply{Err: ErrBusy})
	default:
		e.waiting = append(e.waiting, c)
	}
}

func (s *Shard) load(id ID) *live {
	e := &live{id: id, typ: s.cfg.Types[id.Type]}
	s.entities[id] = e
	s.out.Loads = append(s.out.Loads, id)
	return e
}

// Loaded hands over the checkpoint of an entity, nil if the store has none.
// The records of the journal's tail that are not in it are folded on top.
func (s *Shard) Loaded(now time.Duration, id ID, c *Checkpoint) (Output, error) {
	if p := s.page(id); p != nil {
		return s.take(), s.loadedPage(p, c)
	}
	e, ok := s.entities[id]
	if !ok || e.state != nil || s.moved {
		return Output{}, nil
	}
	if e.typ.New == nil {
		return Output{}, fmt.Errorf("unknown entity type %q", id.Type)
	}
	state := e.typ.New()
	if c != nil {
		if err := json.Unmarshal(c.State, state); err != nil {
			return Output{}, errors.Join(errors.New("checkpoint of "+id.Type+"/"+id.Key), err)
		}
		e.pos, e.stored, e.encoded = c.Pos, c.Pos, len(c.State)
		for _, a := range c.Dedupe {
			if !s.cfg.Bugs.DedupeLost {
				e.answers.remember(a)
			}
		}
		if s.cfg.Bugs.VersionReset {
			e.reset, _ = state.Applied()
		}
	}
	e.state = state
	skip := c != nil && s.cfg.Bugs.SnapshotOffByOne
	for _, r := range s.tail[id] {
		if r.Pos <= e.pos {
			continue
		}
		if skip {
			skip = false
			continue
		}
		e.fold(r)
		if !s.cfg.Bugs.DedupeLost {
			e.answers.remember(Answer{Op: r.Op, Result: r.Result, Version: r.Version, Digest: r.Digest})
		}
	}
	delete(s.tail, id)
	s.touch(e)
	s.runWaiting(now, e)
	s.shrink()
	return s.take(), nil
}

// LoadFailed gives the commands that wait for an entity back, to be tried
// again; the next one loads it anew.
func (s *Shard) LoadFailed(id ID) Output {
	if p := s.page(id); p != nil {
		p.loading = false
		return Output{}
	}
	if e, ok := s.entities[id]; ok && e.state == nil {
		delete(s.entities, id)
		for _, w := range e.waiting {
			s.answer(s.confirmed, w, Reply{Err: ErrLease})
		}
	}
	return s.take()
}

// runWaiting runs what waits for e, until a slow handler has to decide.
func (s *Shard) runWaiting(now time.Duration, e *live) {
	for len(e.waiting) > 0 && e.busy == nil {
		w := e.waiting[0]
		e.waiting[0] = Command{}
		e.waiting = e.waiting[1:]
		s.run(now, e, w)
	}
	if len(e.waiting) == 0 {
		e.waiting = nil
	}
}

// run executes one command on a loaded entity, or has its handler decide.
func (s *Shard) run(now time.Duration, e *live, c Command) {
	if s.stale(c) {
		return // cancelled or replaced before it could take effect
	}
	if s.cfg.Bugs.DoubleActivation {
		e.activate(c.Op)
	}
	if a, done := e.answers.find(c.Op); done && !s.cfg.Bugs.DoubleApply && !s.again(c) {
		s.reply(now, e.pos, c, Reply{Result: a.Result, Version: a.Version, Digest: a.Digest})
		return
	}
	command := entity.Command{Op: c.Op, Key: c.ID.Key, Name: c.Name, Args: c.Args}
	if e.typ.Slow {
		s.runs++
		busy := c // only here does it outlive the call
		e.busy, e.run = &busy, s.runs
		s.out.Runs = append(s.out.Runs, Run{ID: e.id, Entity: e.state, Command: command, serial: s.runs})
		return
	}
	d, err := handle(e.state, command)
	if s.cfg.Bugs.ConcurrentCommands && err == nil && !d.Read {
		s.parallel = append(s.parallel, decided{now, e, c, d})
		return
	}
	s.decide(now, e, &c, d, err)
}

// Decided hands over the decision of a slow handler, or the error with which it
// gave none. It is dropped if the command was given back meanwhile.
func (s *Shard) Decided(now time.Duration, r Run, d entity.Decision, err error) Output {
	e, ok := s.entities[r.ID]
	if !ok || e.busy == nil || e.run != r.serial {
		return Output{}
	}
	c := e.busy
	e.busy = nil
	if s.stale(*c) {
		err = errStale
	}
	s.decide(now, e, c, d, err)
	s.runWaiting(now, e)
	s.shrink()
	return s.take()
}

var errStale = errors.New("the timer was cancelled")

// decide carries a decision out.
func (s *Shard) decide(now time.Duration, e *live, c *Command, d entity.Decision, err error) {
	if err != nil {
		s.answer(now, *c, Reply{Err: err})
		return
	}
	if d.Reject != "" {
		if d.Event != nil && s.cfg.Bugs.RejectedStateKept {
			e.keepRejected(c.Op, *d.Event)
		}
		d.Event, d.Timers, d.Result = nil, nil, map[string]string{"rejected": d.Reject}
	}
	result, err := encodeResult(d.Result)
	if err == nil && d.Read && (d.Event != nil || len(d.Timers) > 0) {
		err = errors.New(c.Name + ": a read has events or timers")
	}
	if err != nil {
		s.answer(now, *c, Reply{Err: err})
		return
	}
	if d.Read {
		// State that nobody else can have changed since: a successor serves
		// only after the lease has run out.
		if !s.leased(now) {
			s.answer(now, *c, Reply{Err: ErrLease})
			return
		}
		version, digest := e.applied()
		pos := e.pos
		if s.cfg.Bugs.DirtyRead {
			pos = 0
		}
		s.touch(e)
		s.reply(now, pos, *c, Reply{Result: result, Version: version, Digest: digest})
		return
	}

	r := Record{ID: c.ID, Op: c.Op, Event: d.Event, Result: result}
	r.Timers, err = s.changes(now, c, d.Timers)
	switch {
	case err != nil:
	case len(result) > DedupeBytes:
		err = tooLarge(c.Name+": the result", len(result), DedupeBytes)
	case r.bytes() > maxRecordBytes:
		err = tooLarge(c.Name+": the record", r.bytes(), maxRecordBytes)
	case d.Event != nil:
		event := *d.Event
		event.Op = c.Op
		err = e.apply(event, r.bytes())
		if s.cfg.Bugs.DeletedResurrected && event.Name == entity.DeletedEvent {
			r.Event = nil
		}
	}
	if err != nil {
		s.answer(now, *c, Reply{Err: err})
		return
	}
	r.Version, r.Digest = e.applied()
	e.pos = s.append(now, r)
	e.answers.remember(Answer{Op: r.Op, Result: r.Result, Version: r.Version, Digest: r.Digest})
	e.since += r.bytes()
	e.records++
	s.touch(e)
	if n := e.typ.SnapshotEvery; n > 0 && e.records >= n {
		s.ask(e)
	}
	s.reply(now, e.pos, *c, Reply{Result: r.Result, Version: r.Version, Digest: r.Digest})
}

// apply folds an event of a record of so many bytes into the state, unless that
// would make it too large for a checkpoint. Only close to the limit is it
// encoded to know: what records take is more than what they add, mostly.
func (e *live) apply(event entity.Event, bytes int) error {
	if e.encoded+e.since+bytes <= MaxState {
		e.state.Apply(event)
		return nil
	}
	before, err := encodeState(e.state)
	if err != nil {
		return err
	}
	e.state.Apply(event)
	after, err := encodeState(e.state)
	if err == nil && len(after) <= MaxState {
		e.encoded, e.since = len(after), 0
		return nil
	}
	if err == nil {
		err = tooLarge("the state", len(after), MaxState)
	}
	e.state = e.typ.New()
	return errors.Join(err, json.Unmarshal(before, e.state))
}

// append adds a record to the group that gathers and returns its position.
func (s *Shard) append(now time.Duration, r Record) int64 {
	r.Pos = s.nextPos
	s.nextPos++
	if len(s.gathering) == 0 {
		s.gatherFrom = now
		if s.flushing == nil {
			s.oldest = now
		}
	}
	s.gathering = append(s.gathering, r)
	s.keep(r)
	return r.Pos
}

// answer gives the outcome of a command to who sent it: its caller, or a timer.
func (s *Shard) answer(now time.Duration, c Command, r Reply) {
	if f, ok := c.Ticket.(fired); ok {
		again := errors.Is(r.Err, ErrMoved) || errors.Is(r.Err, ErrLease) || errors.Is(r.Err, ErrBusy) || errors.Is(r.Err, ErrFull)
		s.settle(now, f.timer, f.set, !again)
		return
	}
	r.Ticket = c.Ticket
	s.out.Replies = append(s.out.Replies, r)
}

// reply answers c with r as soon as the contract allows, given that it tells of
// the record at pos.
func (s *Shard) reply(now time.Duration, pos int64, c Command, r Reply) {
	early := s.cfg.Memory && s.leased(now) && (!s.Pending() || now-s.oldest <= s.cfg.Window || s.cfg.Bugs.WindowExceeded)
	_, timer := c.Ticket.(fired)
	if pos <= s.durablePos || early || s.cfg.Bugs.AckBeforeJournal || timer {
		s.answer(now, c, r)
		return
	}
	r.Ticket = c.Ticket
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
	if s.moved || s.flushing != nil {
		return Group{}, false
	}
	s.together()
	if len(s.gathering) == 0 && len(s.split.half) == 0 {
		return Group{}, false
	}
	n, size := 0, 0
	for n < min(len(s.gathering), maxGroupRecords) && (n == 0 || size+s.gathering[n].bytes() <= maxGroupBytes) {
		size += s.gathering[n].bytes()
		n++
	}
	s.flushing, s.gathering = s.gathering[:n:n], s.gathering[n:]
	g := Group{Seq: s.nextSeq, Epoch: s.epoch, Records: s.flushing}
	switch {
	case s.cfg.Bugs.ReorderedGroup:
		g.Records = backwards(g.Records)
	case s.cfg.Bugs.SplitGroup:
		g.Records = s.split.write(g.Records)
		if len(s.flushing) == 0 {
			s.flushing = g.Records
		}
	}
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
func (s *Shard) Pending() bool {
	return s.flushing != nil || len(s.gathering) > 0 || len(s.split.half) > 0 || len(s.parallel) > 0
}

// Close takes no more commands: they are answered with ErrMoved. What was
// taken before still becomes durable and is answered.
func (s *Shard) Close() Output {
	s.closed = true
	s.giveBackWaiting()
	if s.cfg.Bugs.ShutdownLoss {
		for _, h := range s.held {
			s.out.Replies = append(s.out.Replies, h.reply)
		}
		s.held, s.flushing, s.gathering = nil, nil, nil
	}
	return s.take()
}

// Depose ends the epoch: nothing that is not durable will become so here, and
// every command that waits has to be tried again elsewhere.
func (s *Shard) Depose() Output {
	s.moved = true
	for _, h := range s.held {
		s.out.Replies = append(s.out.Replies, Reply{Ticket: h.reply.Ticket, Err: ErrMoved})
	}
	for _, d := range s.parallel {
		s.answer(d.at, d.command, Reply{Err: ErrMoved})
	}
	s.giveBackWaiting()
	s.held, s.flushing, s.gathering, s.parallel = nil, nil, nil, nil
	return s.take()
}

// giveBackWaiting answers what was not decided yet, slow handlers or not.
func (s *Shard) giveBackWaiting() {
	var ids []ID
	for id, e := range s.entities {
		if e.busy != nil || len(e.waiting) > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	for _, id := range ids {
		e := s.entities[id]
		if e.busy != nil {
			s.answer(s.confirmed, *e.busy, Reply{Err: ErrMoved})
			e.busy = nil
		}
		for _, w := range e.waiting {
			s.answer(s.confirmed, w, Reply{Err: ErrMoved})
		}
		e.waiting = nil
	}
}

func (s *Shard) take() Output {
	out := s.out
	s.out = Output{}
	return out
}

// fold applies a record of the journal to the state of an entity that is being
// recovered.
func (e *live) fold(r Record) {
	if r.Event != nil {
		event := *r.Event
		event.Op = r.Op
		e.state.Apply(event)
	}
	e.pos = r.Pos
	e.since += r.bytes()
	e.records++
}

// applied is how many operations the state tells of, and their digest.
func (e *live) applied() (version int64, digest string) {
	version, digest = e.state.Applied()
	return version - e.reset, digest
}
