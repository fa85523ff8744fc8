package sim

import (
	"encoding/json"
	"errors"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/journal"
	"statequake/runtime/ownership"
)

// The times of a node, as in package node, but for checkpoints: so few records
// are enough that journals are cut off within a run.
const (
	lookPause      = 20 * time.Millisecond
	beatEvery      = 200 * time.Millisecond
	dialEvery      = 50 * time.Millisecond
	storeTimeout   = 400 * time.Millisecond
	claimTimeout   = 2 * time.Second
	releaseTimeout = 5 * time.Second
	attemptTimeout = time.Second
	attemptPause   = 20 * time.Millisecond
	retryPause     = 50 * time.Millisecond
	checkpointFrom = 15
	checkpointTime = 250 * time.Millisecond
)

// node is one process, over all its lives.
type node struct {
	w       *world
	i       int
	name    string
	rate    float64       // of its clock
	base    time.Duration // when its clock showed 0
	up      bool
	life    int
	paused  bool
	leaving bool    // drained, to be ended
	held    []event // while it is paused
	cut     bool    // from the store

	owner     *ownership.Machine
	shards    []*shard
	routes    journal.View
	looking   bool
	lookAgain bool
	lookAt    time.Duration // when the next one is due; 0: not planned
	flushing  bool
	flushes   int
	again     bool
	parked    []*call
	forwards  []*call
	connected []bool
}

// shard is a node's side of one shard.
type shard struct {
	id        int
	machine   *core.Shard
	recovered *core.Shard
	head      core.Head
	epoch     int64
	confirmed time.Duration
	storing   bool      // checkpoints, one round after the other
	want      []core.ID // to be stored to make room
}

// clock is the node's monotonic clock.
func (n *node) clock() time.Duration { return time.Duration(float64(n.w.now-n.base) * n.rate) }

// after has run happen when d has passed on the node's clock.
func (n *node) after(d time.Duration, run func()) {
	n.w.after(time.Duration(float64(d)/n.rate)+1, n, run) // rounded up: a wait of 1 ns must end
}

func (n *node) start() {
	n.up, n.leaving, n.base = true, false, n.w.now
	n.owner = ownership.New(ownership.Config{
		Name: n.name, Members: n.w.names, Shards: n.w.shards, Outwait: n.w.cfg.Outwait,
		Unfenced: n.w.cfg.Bugs.NoFence, Unchecked: n.w.cfg.Bugs.LeaseNotChecked,
	})
	n.shards = nil
	for i := range n.w.shards {
		n.shards = append(n.shards, &shard{id: i})
	}
	n.routes, n.looking, n.lookAgain, n.lookAt, n.flushing, n.again = journal.View{}, false, false, 0, false, false
	n.parked, n.forwards, n.connected = nil, nil, make([]bool, len(n.w.nodes))
	n.w.log("%s starts", n.name)
	n.lookIn(0)
	n.beat()
	for i := range n.w.nodes {
		if i != n.i {
			n.dial(i)
		}
	}
	n.after(checkpointTime, n.maintain)
}

// crash ends the process. Connections to it break.
func (n *node) crash() {
	n.w.log("%s crashes", n.name)
	n.up, n.paused, n.held = false, false, nil
	n.life++
	for _, other := range n.w.nodes {
		if other == n || !other.up || n.w.apart[pair(n.i, other.i)] {
			continue
		}
		if other.connected[n.i] {
			other.connected[n.i] = false
			n.w.after(n.w.wire(), other, func() { other.dial(n.i) })
		}
		for _, c := range other.forwards {
			if next := c.next; next != nil && c.target == n.i {
				n.w.after(n.w.wire(), other, func() {
					if c.next == next {
						other.park(c)
					}
				})
			}
		}
	}
}

func (n *node) pause() {
	n.w.log("%s is paused", n.name)
	n.paused = true
}

func (n *node) resume() {
	n.w.log("%s goes on", n.name)
	n.paused = false
	for _, e := range n.held {
		n.w.after(0, n, e.run)
	}
	n.held = nil
}

// dial follows whether another node's process is there.
func (n *node) dial(i int) {
	peer := n.w.nodes[i]
	switch {
	case n.w.apart[pair(n.i, i)]:
		n.after(time.Second, func() { n.dial(i) })
	case peer.up:
		n.connected[i] = true
		n.owner.Connected(peer.name)
	default:
		if n.owner.Refused(peer.name) {
			n.lookIn(0)
		}
		n.after(dialEvery, func() { n.dial(i) })
	}
}

func (n *node) beat() {
	n.ask("beat", storeTimeout, func() { n.w.store.beat(n.name) }, func(bool) {})
	n.after(beatEvery, n.beat)
}

func (n *node) lookIn(d time.Duration) {
	if n.looking {
		n.lookAgain = true
		return
	}
	if at := n.clock() + d; n.lookAt == 0 || at < n.lookAt {
		n.lookAt = at
		n.after(d, func() {
			if n.lookAt == at && !n.looking {
				n.lookAt = 0
				n.look()
			}
		})
	}
}

func (n *node) look() {
	n.looking, n.lookAt = true, 0
	start := n.clock()
	var view journal.View
	n.ask("look", storeTimeout, func() { view = n.w.store.view() }, func(ok bool) {
		if ok {
			actions := n.owner.Looked(start, n.clock(), view)
			n.routes = view
			n.act(actions)
			n.reroute()
		} else {
			n.act(n.owner.Unanswered(start))
		}
		n.looking = false
		pause := ownership.ConfirmEvery - (n.clock() - start)
		if n.lookAgain {
			pause = lookPause
		}
		n.lookAgain = false
		n.lookIn(max(0, pause))
	})
}

// act does what ownership asks for.
func (n *node) act(actions []ownership.Action) {
	for _, a := range actions {
		if a.Do != ownership.Confirm {
			n.w.log("%s: %v", n.name, a)
		}
		if a.Do == ownership.Suspected {
			continue
		}
		s := n.shards[a.Shard]
		switch a.Do {
		case ownership.Confirm:
			if s.machine != nil && s.epoch == a.Epoch {
				s.machine.Confirmed(a.Start)
				s.confirmed = max(s.confirmed, a.Start)
				n.w.checkLeases(s.id)
			}
		case ownership.Depose:
			n.end(s, a.Epoch)
		case ownership.Claim:
			n.claim(s, a)
		case ownership.Recover:
			s.epoch = a.Epoch
			n.recover(s, a.Epoch)
		case ownership.Wait:
			n.after(a.Wait, func() { n.act(n.owner.Waited(n.clock(), s.id, a.Epoch)) })
		case ownership.Serve:
			n.serve(s, a)
		case ownership.Release:
			n.release(s, a)
		}
	}
}

func (n *node) claim(s *shard, a ownership.Action) {
	start := n.clock()
	var epoch int64
	n.ask("claim", claimTimeout, func() { epoch = n.w.store.claim(s.id, a.Epoch, n.name) }, func(ok bool) {
		if !ok {
			epoch = 0
		}
		n.act(n.owner.Claimed(start, n.clock(), s.id, epoch))
	})
}

func (n *node) recover(s *shard, epoch int64) {
	var head core.Head
	var data [][]byte
	n.ask("tail", claimTimeout, func() { head, data = n.w.store.tail(s.id) }, func(ok bool) {
		if !ok {
			n.end(s, epoch)
		} else if s.epoch == epoch {
			var tail []core.Group
			for _, d := range data {
				g, err := core.DecodeGroup(d)
				if err != nil {
					n.w.violated("shard %d: %v", s.id, err)
				}
				tail = append(tail, g)
			}
			s.head, s.recovered = head, core.New(core.Config{
				Types: types, Memory: n.w.cfg.Memory, Window: window, Lease: ownership.Lease, Bugs: n.w.cfg.Bugs, MaxEntities: 1,
			}, epoch, head, tail, 0)
		}
		n.act(n.owner.Recovered(n.clock(), s.id, epoch, ok))
	})
}

func (n *node) serve(s *shard, a ownership.Action) {
	if s.epoch != a.Epoch {
		return
	}
	s.machine, s.recovered, s.confirmed = s.recovered, nil, a.Start
	s.storing, s.want = false, nil
	s.machine.Confirmed(a.Start)
	n.w.result.Takeovers++
	n.w.checkLeases(s.id)
	n.reroute()
}

func (n *node) end(s *shard, epoch int64) {
	if s.epoch != epoch {
		return
	}
	m := s.machine
	s.machine, s.recovered, s.epoch = nil, nil, 0
	if m != nil {
		n.deliver(s, m, m.Depose())
	}
}

func (n *node) release(s *shard, a ownership.Action) {
	m := s.machine
	if m == nil || s.epoch != a.Epoch {
		n.owner.Released(s.id, a.Epoch)
		return
	}
	n.deliver(s, m, m.Close())
	n.flush()
	var wait func()
	wait = func() {
		switch {
		case s.machine != m:
			n.owner.Released(s.id, a.Epoch)
		case m.Pending():
			n.after(time.Millisecond, wait)
		default:
			n.end(s, a.Epoch)
			n.ask("release", releaseTimeout, func() { n.w.store.release(s.id, a.Epoch, n.name, a.Node) }, func(bool) {
				n.owner.Released(s.id, a.Epoch)
			})
		}
	}
	wait()
}

// flush makes what has gathered durable, one transaction at a time.
func (n *node) flush() {
	if n.flushing {
		n.again = true
		return
	}
	n.flushing = true
	n.after(n.w.between(0, 200*time.Microsecond), n.flushOnce)
}

func (n *node) flushOnce() {
	var shards []*shard
	var machines []*core.Shard
	var groups []journal.Append
	n.again = false
	for _, s := range n.shards {
		if s.machine == nil {
			continue
		}
		g, ok := s.machine.Gather()
		if !ok {
			continue
		}
		data, err := core.EncodeGroup(g)
		if err != nil {
			n.w.violated("encode group: %v", err)
		}
		shards, machines = append(shards, s), append(machines, s.machine)
		groups = append(groups, journal.Append{Shard: s.id, Epoch: g.Epoch, Seq: g.Seq, Data: data})
	}
	if len(groups) == 0 {
		n.flushing = false
		return
	}
	n.flushes++
	written := groups
	if n.w.cfg.Bugs.BatchDropped && n.flushes%core.BatchDroppedEvery == 0 {
		written = groups[:len(groups)-1]
	}
	n.attempt(written, func(fates []journal.Fate) {
		if len(written) < len(groups) {
			fates = append(fates, journal.Durable)
		}
		for i, s := range shards {
			if fates[i] == journal.Durable {
				n.deliver(s, machines[i], machines[i].Durable())
				n.again = n.again || machines[i].Pending()
				continue
			}
			n.act(n.owner.Ended(s.id, groups[i].Epoch))
			n.lookIn(0)
		}
		n.flushing = false
		if n.again {
			n.flush()
		}
	})
}

// attempt tries an append until the store has answered.
func (n *node) attempt(groups []journal.Append, done func([]journal.Fate)) {
	var fates []journal.Fate
	n.ask("append", attemptTimeout, func() {
		decided := make([]journal.Fate, len(groups))
		for i, g := range groups {
			decided[i] = n.w.store.append(g, !n.w.cfg.Bugs.NoFence)
		}
		fates = decided
	}, func(ok bool) {
		if !ok {
			n.after(attemptPause, func() { n.attempt(groups, done) })
			return
		}
		done(fates)
	})
}

// deliver does what a shard asked for.
func (n *node) deliver(s *shard, m *core.Shard, out core.Output) {
	for _, r := range out.Replies {
		n.answer(r.Ticket.(*call), m, r)
	}
	for _, id := range out.Loads {
		n.load(s, m, id)
	}
	s.want = append(s.want, out.Stores...)
	if len(out.Stores) > 0 && s.machine == m {
		n.checkpoint(s)
	}
}

func (n *node) load(s *shard, m *core.Shard, id core.ID) {
	var data []byte
	n.ask("load", claimTimeout, func() { data = n.w.store.checkpoints[s.id][id].data }, func(ok bool) {
		if !ok {
			n.deliver(s, m, m.LoadFailed(id))
			return
		}
		var c *core.Checkpoint
		if data != nil {
			c = &core.Checkpoint{}
			if err := json.Unmarshal(data, c); err != nil {
				n.w.violated("checkpoint of %s: %v", id.Key, err)
			}
		}
		out, err := m.Loaded(n.clock(), id, c)
		if err != nil {
			n.w.violated("load %s: %v", id.Key, err)
		}
		n.deliver(s, m, out)
		if m.Pending() {
			n.flush()
		}
	})
}

func (n *node) maintain() {
	for _, s := range n.shards {
		if s.machine != nil {
			n.checkpoint(s)
		}
	}
	n.after(checkpointTime, n.maintain)
}

// checkpoint stores what has to make room, or else cuts off a long journal. One
// round is under way at a time.
func (n *node) checkpoint(s *shard) {
	m := s.machine
	switch {
	case s.storing:
	case len(s.want) > 0:
		ids := s.want
		s.want = nil
		s.storing = true
		n.storeEach(s, m, ids, func(bool) { n.stored(s, m) })
	case m.Backlog(s.head) >= checkpointFrom:
		head, ids := m.Plan()
		s.storing = true
		n.storeEach(s, m, ids, func(ok bool) {
			if !ok {
				n.stored(s, m)
				return
			}
			done := false
			n.ask("cut", claimTimeout, func() { done = n.w.store.cutOff(s.id, m.Epoch(), head) }, func(ok bool) {
				switch {
				case !ok:
					n.inDoubt(s, m)
				case done && s.machine == m:
					s.head = head
				}
				n.stored(s, m)
			})
		})
	}
}

// stored ends a round.
func (n *node) stored(s *shard, m *core.Shard) {
	if s.machine != m {
		return
	}
	s.storing = false
	if len(s.want) > 0 {
		n.checkpoint(s)
	}
}

// inDoubt ends an epoch whose checkpoint or cut may still happen: over a later
// one it would take back what that had kept.
func (n *node) inDoubt(s *shard, m *core.Shard) {
	if !n.w.cfg.KeepDoubt {
		n.act(n.owner.Ended(s.id, m.Epoch()))
	}
}

// storeEach stores checkpoints of entities, one after the other.
func (n *node) storeEach(s *shard, m *core.Shard, ids []core.ID, done func(ok bool)) {
	if len(ids) == 0 {
		done(true)
		return
	}
	id := ids[0]
	if s.machine != m {
		return
	}
	c, ok, out, err := m.Snapshot(id)
	if err != nil {
		n.w.violated("snapshot: %v", err)
	}
	n.deliver(s, m, out)
	if !ok {
		n.after(5*time.Millisecond, func() { n.storeEach(s, m, ids, done) })
		return
	}
	data, err := json.Marshal(c)
	if err != nil {
		n.w.violated("encode checkpoint: %v", err)
	}
	var write func()
	write = func() {
		if s.machine != m {
			return
		}
		if m.DurablePos() < c.Pos {
			n.after(2*time.Millisecond, write)
			return
		}
		if n.w.cfg.Bugs.CheckpointAhead {
			c.Pos = m.Backlog(core.Head{}) // of the last record, durable or not
			if data, err = json.Marshal(c); err != nil {
				n.w.violated("encode checkpoint: %v", err)
			}
		}
		done1 := false
		n.ask("checkpoint", claimTimeout, func() { done1 = n.w.store.put(s.id, m.Epoch(), id, data) }, func(ok bool) {
			switch {
			case !ok || !done1:
				m.StoreFailed(id)
				if !ok {
					n.inDoubt(s, m)
				}
				done(false)
			default:
				m.Stored(id, c.Pos)
				n.storeEach(s, m, ids[1:], done)
			}
		})
	}
	write()
}

// call is a command on its way through a node.
type call struct {
	op        *op
	parent    *call // of a forwarded one, at the node that forwarded it
	forwarded bool
	parked    bool
	parks     int  // so that only the latest pause ends
	gone      bool // nobody waits for it any more
	next      *call
	target    int   // of next
	revision  int64 // of the owner that next went to
	respond   func(ok bool, epoch int64, r core.Reply)
}

func (c *call) abandoned() bool {
	return c.gone || c.parent != nil && (c.parent.gone || c.parent.next != c)
}

// execute has a command executed here or elsewhere, or waits.
func (n *node) execute(c *call) {
	s := n.shards[n.w.shardOf(c.op.key)]
	owner := n.routes.Owners[s.id]
	switch {
	case c.abandoned():
	case s.machine != nil:
		m := s.machine
		out := m.Submit(n.clock(), core.Command{Ticket: c, Op: c.op.id, ID: c.op.key, Name: c.op.name, Args: c.op.args})
		n.deliver(s, m, out)
		if m.Pending() {
			n.flush()
		}
	case s.epoch != 0 || owner.Node == n.name || owner.Released || owner.Node == "":
		n.park(c)
	case c.forwarded:
		c.respond(false, 0, core.Reply{})
	default:
		n.forward(c, owner)
	}
}

// answer takes the core's reply to a call.
func (n *node) answer(c *call, m *core.Shard, r core.Reply) {
	if errors.Is(r.Err, core.ErrMoved) || errors.Is(r.Err, core.ErrLease) || errors.Is(r.Err, core.ErrBusy) || errors.Is(r.Err, core.ErrFull) {
		n.park(c)
		return
	}
	if r.Err != nil {
		n.w.violated("%s: %v", c.op.id, r.Err)
		return
	}
	if c.op.write {
		n.w.ack(c.op, m.Epoch(), r)
	}
	epoch := m.Epoch()
	n.after(n.w.between(0, 200*time.Microsecond), func() { c.respond(true, epoch, r) })
}

// park has a call tried again soon, or as soon as routes change.
func (n *node) park(c *call) {
	c.next = nil
	if c.parked || c.abandoned() {
		return
	}
	c.parked = true
	n.parked = append(n.parked, c)
	c.parks++
	number := c.parks
	n.after(retryPause, func() {
		if c.parks == number {
			n.unpark(c)
		}
	})
	n.lookIn(lookPause)
}

func (n *node) unpark(c *call) {
	if c.parked {
		c.parked = false
		n.execute(c)
	}
}

// reroute tries what waits for routes again.
func (n *node) reroute() {
	parked := n.parked
	n.parked = nil
	for _, c := range parked {
		n.unpark(c)
	}
	forwards := n.forwards
	n.forwards = nil
	for _, c := range forwards {
		switch {
		case c.next == nil || c.abandoned():
		case n.routes.Owners[n.w.shardOf(c.op.key)].Revision != c.revision:
			c.next = nil
			n.execute(c)
		default:
			n.forwards = append(n.forwards, c)
		}
	}
}

func (n *node) forward(c *call, owner journal.Owner) {
	target := 0
	for i, name := range n.w.names {
		if name == owner.Node {
			target = i
		}
	}
	next := &call{op: c.op, parent: c, forwarded: true}
	c.next, c.target, c.revision = next, target, owner.Revision
	life := n.life
	next.respond = func(ok bool, epoch int64, r core.Reply) {
		if n.life != life {
			return
		}
		n.w.send(target, n.i, func() {
			switch {
			case c.next != next:
			case ok:
				c.next, c.gone = nil, true
				c.respond(true, epoch, r)
			default:
				n.park(c)
			}
		}, func() {})
	}
	n.forwards = append(n.forwards, c)
	n.w.send(n.i, target, func() { n.w.nodes[target].execute(next) }, func() {
		if n.life == life && c.next == next {
			n.park(c)
		}
	})
}
