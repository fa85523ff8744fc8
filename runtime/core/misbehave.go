package core

import (
	"encoding/json"
	"hash/fnv"
	"time"

	"statequake/runtime/entity"
)

// activation is an entity in memory a second time, with a life of its own.
type activation struct {
	state   entity.Entity
	answers dedupe
	second  bool // the other one is the first, and the second is in use
}

// activate puts the activation in its place that the callers of op have found.
// The second one is made of the first one's checkpoint.
func (e *live) activate(op string) {
	h := fnv.New32a()
	h.Write([]byte(op))
	second := h.Sum32()%2 == 1
	if e.other == nil {
		state := e.typ.New()
		data, err := encodeState(e.state)
		if err != nil || json.Unmarshal(data, state) != nil {
			return // nor could it be stored
		}
		e.other = &activation{state: state}
		for _, a := range e.answers.list() {
			e.other.answers.remember(a)
		}
	}
	if second != e.other.second {
		e.state, e.other.state = e.other.state, e.state
		e.answers, e.other.answers = e.other.answers, e.answers
		e.other.second = second
	}
}

// decided is a decision that other commands do not wait for.
type decided struct {
	at       time.Duration
	entity   *live
	command  Command
	decision entity.Decision
}

// together carries out what was decided since the last group was closed, as if
// all of it had been decided at once.
func (s *Shard) together() {
	all := s.parallel
	s.parallel = nil
	for _, d := range all {
		s.decide(d.at, d.entity, &d.command, d.decision, nil)
	}
}

// keepRejected changes the state, and nothing else, as if op had been accepted.
func (e *live) keepRejected(op string, event entity.Event) {
	event.Op = op
	e.state.Apply(event)
}

// later is a firing of a timer that has fired already.
type later struct {
	at      int64 // on the wall clock in ns
	command Command
}

// fireAgain sends the commands that timers have sent a little before.
func (s *Shard) fireAgain(now time.Duration, wall int64) {
	for len(s.timers.twice) > 0 && s.timers.twice[0].at <= wall {
		c := s.timers.twice[0].command
		s.timers.twice = s.timers.twice[1:]
		s.submit(now, c)
	}
}

// again tells whether c is executed although it was before.
func (s *Shard) again(c Command) bool {
	_, timer := c.Ticket.(fired)
	return timer && s.cfg.Bugs.TimerFiredTwice
}

// Remembered answers a read from what was in memory when the epoch of s ended,
// as a planted bug does. It returns false if c is no read, or its entity was not
// in memory, or had records that were not durable: that is another bug.
func (s *Shard) Remembered(c Command) (Reply, bool) {
	e, ok := s.entities[c.ID]
	if !ok || e.state == nil || e.pos > s.durablePos {
		return Reply{}, false
	}
	d, err := handle(e.state, entity.Command{Op: c.Op, Key: c.ID.Key, Name: c.Name, Args: c.Args})
	if err != nil || !d.Read {
		return Reply{}, false
	}
	result, err := encodeResult(d.Result)
	version, digest := e.state.Applied()
	return Reply{Result: result, Version: version, Digest: digest}, err == nil
}
