package ownership

import (
	"fmt"
	"slices"
	"time"

	"statequake/runtime/journal"
)

// The times of ownership, each on the monotonic clock of the node that counts it.
const (
	Lease         = 500 * time.Millisecond // reads are served this long after the start of the last confirmation
	Outwait       = Lease + Lease/25       // a successor serves this long after its claim: clocks may differ by 4 %
	ConfirmEvery  = 100 * time.Millisecond // between two looks
	SilenceLimit  = 800 * time.Millisecond // without a beat, while the store answers
	SettleTime    = 2 * time.Second        // a node must have been alive for this long to be given shards
	AwayTime      = 10 * time.Second       // a node that gave a shard of its own away is given none for this long
	FormationTime = 3 * time.Second        // a new cluster waits this long for all members before others stand in
)

// Config of a machine.
type Config struct {
	Name      string   // of this node
	Members   []string // all of the cluster, this node included
	Shards    int
	Outwait   time.Duration // Outwait if zero
	Unfenced  bool          // a planted bug: does not notice that it was deposed, waits for nobody
	Unchecked bool          // a planted bug: a look that was not answered extends the leases
}

// Verb is what an Action asks for.
type Verb int

const (
	// Suspected: Node was found dead, silent for Wait; nothing has to be done.
	Suspected Verb = iota
	// Confirm: Epoch was the current one at Start; extend the lease of Shard.
	Confirm
	// Depose: stop serving Shard at once; its Epoch is over, by Node.
	Depose
	// Claim Shard if its owner key is still at Epoch, then call Claimed.
	Claim
	// Recover Shard from its journal in its new Epoch, then call Recovered.
	Recover
	// Wait for as long as Wait says, then call Waited.
	Wait
	// Serve Shard in Epoch with a lease from Start.
	Serve
	// Release Shard to Node: take no more commands, wait until all that was
	// taken is durable, stop serving, write it to the store, then call Released.
	Release
)

// Action is one thing that the caller has to do. Actions have to be done in
// their order; what takes time is done in the background, once begun.
type Action struct {
	Do    Verb
	Shard int
	Epoch int64
	Node  string
	Start time.Duration
	Wait  time.Duration
}

// phase is how far a node is with a shard.
type phase int

const (
	idle       phase = iota // not owned here, as far as is known
	claiming                // the claim is under way
	recovering              // claimed, the journal is being read
	waiting                 // recovered, the predecessor's lease is being waited out
	serving
	releasing
)

type shard struct {
	phase     phase
	epoch     int64         // claimed here; 0 if none
	confirmed time.Duration // start of the latest look (or claim) at which epoch was current
	claimed   time.Duration // when the claim had returned
	outwait   time.Duration // to be waited from then on
}

// member is what is known of one node.
type member struct {
	revision  int64
	silence   time.Duration // since its last beat, counted only while the store answers
	beating   bool          // a beat was seen since it was last suspected
	since     time.Duration // beating since
	refused   int           // connections, one after the other
	away      time.Duration // gives its own shards away; it is given none before
	suspected bool
}

// Machine is one node's part in ownership. It is not safe for concurrent use.
// All instants that it is given are on one monotonic clock.
type Machine struct {
	cfg       Config
	shards    []shard
	members   []member // as in cfg.Members
	looked    bool
	firstLook time.Duration // start of the first look that the store answered
	lastLook  time.Duration
	draining  bool
	out       []Action
}

// New is the machine of a node that has just started and owns nothing.
func New(cfg Config) *Machine {
	cfg.Members = slices.Sorted(slices.Values(cfg.Members))
	if cfg.Outwait == 0 {
		cfg.Outwait = Outwait
	}
	return &Machine{cfg: cfg, shards: make([]shard, cfg.Shards), members: make([]member, len(cfg.Members))}
}

// Live tells whether a member is not suspected. It is false for strangers.
func (m *Machine) Live(name string) bool {
	i := slices.Index(m.cfg.Members, name)
	return i >= 0 && !m.members[i].suspected
}

// Epoch is the epoch in which this node holds a shard, 0 if it does not.
func (m *Machine) Epoch(shard int) int64 { return m.shards[shard].epoch }

// Looked takes a picture of the store whose read began at start and ended at now.
func (m *Machine) Looked(start, now time.Duration, view journal.View) []Action {
	for i := range m.shards {
		m.confirm(i, start, view.Owners[i])
	}
	m.listen(start, view)
	for i := range m.shards {
		m.decide(i, now, view.Owners[i])
	}
	return m.take()
}

// Unanswered takes that the store did not answer a look that began at start. That
// says nothing of who owns what, so there is nothing to do: leases run out.
func (m *Machine) Unanswered(start time.Duration) []Action {
	if !m.cfg.Unchecked {
		return nil
	}
	for i := range m.shards {
		// Who was away for longer than a takeover takes was paused: another hazard.
		if s := &m.shards[i]; s.phase >= serving && start-s.confirmed < SilenceLimit+Outwait {
			s.confirmed = start
			m.do(Action{Do: Confirm, Shard: i, Epoch: s.epoch, Start: start})
		}
	}
	return m.take()
}

// confirm extends the lease of a shard that is owned here, or ends its epoch.
func (m *Machine) confirm(i int, start time.Duration, o journal.Owner) {
	s := &m.shards[i]
	switch {
	case s.epoch == 0:
	case o.Revision == s.epoch && !o.Released:
		s.confirmed = max(s.confirmed, start)
		if s.phase >= serving {
			m.do(Action{Do: Confirm, Shard: i, Epoch: s.epoch, Start: start})
		}
	// A picture that was taken before the claim ended is older than the epoch.
	case o.Revision > s.epoch && !m.cfg.Unfenced:
		m.depose(i, o.Node)
	}
}

func (m *Machine) depose(i int, by string) {
	s := &m.shards[i]
	m.do(Action{Do: Depose, Shard: i, Epoch: s.epoch, Node: by})
	*s = shard{}
}

// listen counts how long each member has been silent. Time during which this
// node did not reach the store itself says nothing about the others.
func (m *Machine) listen(start time.Duration, view journal.View) {
	passed := min(start-m.lastLook, 2*ConfirmEvery)
	if !m.looked {
		m.looked, m.firstLook = true, start
	}
	m.lastLook = start
	for i, name := range m.cfg.Members {
		h := &m.members[i]
		seen, known := view.Members[name]
		if known && seen.Revision != h.revision {
			// The first one seen may be of an earlier life.
			if h.revision != 0 && !h.beating {
				h.beating, h.since = true, start
			}
			h.revision, h.silence = seen.Revision, 0
		} else {
			h.silence += passed
		}
		suspected := name != m.cfg.Name && (h.silence > SilenceLimit || h.refused >= 2)
		if suspected && !h.suspected {
			m.do(Action{Do: Suspected, Node: name, Wait: h.silence})
			h.beating = false
		}
		h.suspected = suspected
	}
}

// decide claims a shard that this node should own, or hands it over if another
// should.
func (m *Machine) decide(i int, now time.Duration, o journal.Owner) {
	s, me := &m.shards[i], m.cfg.Name
	if m.draining {
		if s.phase == serving {
			m.release(i, Preferred(i, m.cfg.Members, func(name string) bool { return name != me && m.Live(name) }))
		}
		return
	}
	if s.phase == releasing || s.phase == claiming || s.phase == recovering || s.phase == waiting {
		return
	}
	stand := Preferred(i, m.cfg.Members, m.Live) == me
	switch {
	case s.epoch != 0 && s.epoch == o.Revision && !o.Released:
		settled := Preferred(i, m.cfg.Members, func(name string) bool { return name == me || m.settled(name, now) })
		if settled != me && !m.handingOver() {
			m.release(i, settled)
		}
	case m.cfg.Unfenced && s.phase == serving && !(o.Released && o.Next == me):
		// does not notice that it was deposed
	case o.Revision < s.epoch:
		// the picture is older than the epoch
	case o.Revision == 0:
		forming := now-m.firstLook < FormationTime
		if stand && (!forming || Preferred(i, m.cfg.Members, func(string) bool { return true }) == me) {
			m.claim(i, o, 0)
		}
	case o.Released:
		if o.Next == me || stand && !m.Live(o.Next) {
			m.leaves(i, now, o)
			m.claim(i, o, 0)
		}
	case o.Node == me:
		// An earlier life of this node: it is dead, but its lease may not
		// have run out in the eyes of those it answered.
		m.claim(i, o, m.cfg.Outwait)
	case stand && !m.Live(o.Node):
		m.claim(i, o, m.cfg.Outwait)
	}
}

// settled tells whether a member has been alive for long enough to be given shards.
func (m *Machine) settled(name string, now time.Duration) bool {
	h := m.members[slices.Index(m.cfg.Members, name)]
	return h.beating && !h.suspected && now-h.since > SettleTime && now >= h.away
}

// leaves notes that a node gave away a shard that it should have: it is being
// drained, still beats, and would not take the shard back.
func (m *Machine) leaves(i int, now time.Duration, o journal.Owner) {
	either := []string{o.Node, m.cfg.Name}
	if j := slices.Index(m.cfg.Members, o.Node); j >= 0 && Preferred(i, either, func(string) bool { return true }) == o.Node {
		m.members[j].away = now + AwayTime
	}
}

// handingOver tells whether a shard is on its way: they move one at a time.
func (m *Machine) handingOver() bool {
	return slices.ContainsFunc(m.shards, func(s shard) bool { return s.phase == releasing })
}

func (m *Machine) release(i int, next string) {
	if next == "" {
		return
	}
	s := &m.shards[i]
	s.phase = releasing
	m.do(Action{Do: Release, Shard: i, Epoch: s.epoch, Node: next})
}

func (m *Machine) claim(i int, o journal.Owner, outwait time.Duration) {
	if m.shards[i].epoch != 0 { // which only a planted bug leaves
		m.depose(i, o.Node)
	}
	if m.cfg.Unfenced {
		outwait = 0
	}
	m.shards[i] = shard{phase: claiming, outwait: outwait}
	m.do(Action{Do: Claim, Shard: i, Epoch: o.Revision, Node: o.Node})
}

// Claimed takes the end of a claim that began at start and ended at now: the
// epoch, or 0 if it was lost or nothing is known of it.
func (m *Machine) Claimed(start, now time.Duration, i int, epoch int64) []Action {
	s := &m.shards[i]
	if s.phase != claiming {
		return nil
	}
	if epoch == 0 {
		*s = shard{}
		return nil
	}
	s.phase, s.epoch, s.confirmed, s.claimed = recovering, epoch, start, now
	m.do(Action{Do: Recover, Shard: i, Epoch: epoch})
	return m.take()
}

// Recovered takes the end of the reading of the journal for an epoch. If it
// did not succeed, the shard is claimed anew.
func (m *Machine) Recovered(now time.Duration, i int, epoch int64, ok bool) []Action {
	s := &m.shards[i]
	switch {
	case s.phase != recovering || s.epoch != epoch:
		return nil
	case !ok:
		*s = shard{}
		return nil
	}
	s.phase = waiting
	if left := s.claimed + s.outwait - now; left > 0 {
		m.do(Action{Do: Wait, Shard: i, Epoch: epoch, Wait: left})
		return m.take()
	}
	return m.Waited(now, i, epoch)
}

// Waited takes the end of a wait. If it ended too early there is another one.
func (m *Machine) Waited(now time.Duration, i int, epoch int64) []Action {
	s := &m.shards[i]
	if s.phase != waiting || s.epoch != epoch {
		return nil
	}
	if left := s.claimed + s.outwait - now; left > 0 {
		m.do(Action{Do: Wait, Shard: i, Epoch: epoch, Wait: left})
		return m.take()
	}
	s.phase = serving
	m.do(Action{Do: Serve, Shard: i, Epoch: epoch, Start: s.confirmed})
	return m.take()
}

// Ended takes that an epoch was found to be over otherwise than by a look: the
// fence refused it, or the node cannot go on with it.
func (m *Machine) Ended(i int, epoch int64) []Action {
	if epoch == 0 || m.shards[i].epoch != epoch {
		return nil
	}
	m.depose(i, "")
	return m.take()
}

// Released takes the end of a release, whatever the store said: the epoch is
// not served here any more.
func (m *Machine) Released(i int, epoch int64) {
	if m.shards[i].epoch == epoch {
		m.shards[i] = shard{}
	}
}

// Refused takes that a member's port refused a connection: its process is not
// there, while silence may also be a pause. It returns whether to look now.
func (m *Machine) Refused(name string) (look bool) {
	i := slices.Index(m.cfg.Members, name)
	if i < 0 {
		return false
	}
	m.members[i].refused++
	return m.members[i].refused == 2
}

// Connected takes that a member's port accepted a connection.
func (m *Machine) Connected(name string) {
	if i := slices.Index(m.cfg.Members, name); i >= 0 {
		m.members[i].refused = 0
	}
}

// Drain gives up all shards, now and whenever one is served again: this node
// claims no more, and each shard goes to the live member that should have it.
func (m *Machine) Drain() []Action {
	m.draining = true
	for i := range m.shards {
		m.decide(i, 0, journal.Owner{})
	}
	return m.take()
}

func (m *Machine) do(a Action) { m.out = append(m.out, a) }

func (m *Machine) take() []Action {
	out := m.out
	m.out = nil
	return out
}

// String is the action as the stories tell it.
func (a Action) String() string {
	switch a.Do {
	case Suspected:
		return fmt.Sprintf("suspected %s, silent for %v", a.Node, a.Wait)
	case Confirm:
		return fmt.Sprintf("confirm shard %d in epoch %d from %v", a.Shard, a.Epoch, a.Start)
	case Depose:
		return fmt.Sprintf("depose shard %d, epoch %d, by %q", a.Shard, a.Epoch, a.Node)
	case Claim:
		return fmt.Sprintf("claim shard %d from %q at %d", a.Shard, a.Node, a.Epoch)
	case Recover:
		return fmt.Sprintf("recover shard %d in epoch %d", a.Shard, a.Epoch)
	case Wait:
		return fmt.Sprintf("wait %v with shard %d in epoch %d", a.Wait, a.Shard, a.Epoch)
	case Serve:
		return fmt.Sprintf("serve shard %d in epoch %d from %v", a.Shard, a.Epoch, a.Start)
	case Release:
		return fmt.Sprintf("release shard %d, epoch %d, to %s", a.Shard, a.Epoch, a.Node)
	}
	return fmt.Sprintf("verb %d", int(a.Do))
}
