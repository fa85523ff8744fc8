package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"strings"
	"syscall"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/journal"
)

// ShardOf is where an entity lives: a hash of its type and key. If the key has
// a {tag}, only the tag is hashed, so that keys with one tag share a shard.
func ShardOf(typ, key string, shards int) int {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if end := strings.IndexByte(key[open:], '}'); end > 1 {
			key = key[open+1 : open+end]
		}
	}
	h := fnv.New64a()
	h.Write([]byte(typ))
	h.Write([]byte{0})
	h.Write([]byte(key))
	return int(mix(h.Sum64()) % uint64(shards))
}

// mix spreads the bits of an FNV hash, whose high bits are weak for short
// input (the finalizer of splitmix64, Steele et al. 2014).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// preferred is the member that should own a shard among those for which may is
// true, by rendezvous hashing (Thaler and Ravishankar 1998): when a member
// leaves only its own shards move. It is "" if there is none.
func (n *Node) preferred(shard int, may func(name string) bool) string {
	best, weight := "", uint64(0)
	for name := range n.cfg.Members {
		if !may(name) {
			continue
		}
		h := fnv.New64a()
		fmt.Fprintf(h, "%s/%d", name, shard)
		if w := mix(h.Sum64()); best == "" || w > weight || w == weight && name < best {
			best, weight = name, w
		}
	}
	return best
}

// live tells what the last look said of a member.
func (n *Node) live(name string) bool { return n.routes.Load().members[name].Live }

// ownership confirms what this node owns, follows who is alive, and claims and
// hands over shards.
func (n *Node) ownership() {
	timer := time.NewTimer(0)
	for {
		select {
		case <-timer.C:
		case <-n.look:
		case <-n.ctx.Done():
			return
		}
		start := n.now()
		ctx, cancel := context.WithTimeout(n.ctx, storeTimeout)
		view, err := n.store.View(ctx)
		cancel()
		if err != nil {
			n.log.Debug("look", "err", err)
		} else {
			n.confirm(start, view)
			n.listen(start, view)
			n.publish(view)
			n.decide(view)
		}
		if took := n.now() - start; took < lookPause && !n.sleep(lookPause-took) {
			return
		}
		timer.Reset(max(0, confirmEvery-(n.now()-start)))
	}
}

// confirm extends the leases of the shards that the view, whose read began at
// start, says are owned here, and ends the other epochs.
func (n *Node) confirm(start time.Duration, view journal.View) {
	for _, s := range n.shards {
		o := view.Owners[s.id]
		s.mu.Lock()
		holds := s.epoch != 0 && o.Revision == s.epoch && !o.Released
		if holds {
			s.confirmed = start
			if s.machine != nil {
				s.machine.Confirmed(start)
			}
		}
		// A view that began before the claim ended may be older than the epoch.
		lost := s.epoch != 0 && o.Revision > s.epoch && !n.cfg.Bugs.NoFence
		epoch := s.epoch
		s.mu.Unlock()
		if lost {
			n.log.Info("deposed", "shard", s.id, "epoch", epoch, "by", o.Node)
			n.depose(s)
		}
	}
}

// listen counts how long each member has been silent. Time during which this
// node did not reach the store itself says nothing about the others.
func (n *Node) listen(start time.Duration, view journal.View) {
	passed := min(start-n.lastView, 2*confirmEvery)
	if n.firstView == 0 {
		n.firstView = start
	}
	n.lastView = start
	for name, h := range n.heard {
		m, known := view.Members[name]
		if known && m.Revision != h.revision {
			// The first one seen may be of an earlier life.
			if h.revision != 0 && !h.beating {
				h.beating, h.since = true, start
			}
			h.revision, h.silence = m.Revision, 0
		} else {
			h.silence += passed
		}
		suspected := name != n.cfg.Name && (h.silence > silenceLimit || n.gone(name))
		if suspected && !h.suspected {
			n.log.Info("suspected", "member", name, "silent_ms", h.silence.Milliseconds(), "refuses_connections", n.gone(name))
			h.beating = false
		}
		h.suspected = suspected
	}
}

// gone tells whether the member's port has refused connections: its process is
// not there, while silence may also be a pause.
func (n *Node) gone(name string) bool {
	v, ok := n.refused.Load(name)
	return ok && v.(int) >= 2
}

// dial keeps a connection to a member open, on which nothing is ever sent: the
// kernel tells at once when the process at the other end dies.
func (n *Node) dial(name, addr string) {
	for n.ctx.Err() == nil {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			n.refused.Store(name, 0)
			closed := context.AfterFunc(n.ctx, func() { conn.Close() })
			_, _ = conn.Read(make([]byte, 1)) // until either side closes it
			closed()
			conn.Close()
			continue
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			v, _ := n.refused.LoadOrStore(name, 0)
			count := v.(int) + 1
			n.refused.Store(name, count)
			if count == 2 {
				kick(n.look)
			}
		}
		n.sleep(dialEvery)
	}
}

// publish replaces the routes and wakes those who wait for newer ones.
func (n *Node) publish(view journal.View) {
	r := &routes{owners: view.Owners, members: map[string]memberState{}, at: n.lastView, changed: make(chan struct{})}
	for name, h := range n.heard {
		r.members[name] = memberState{Addr: n.cfg.Members[name].API, Live: !h.suspected}
	}
	close(n.routes.Swap(r).changed)
}

// decide claims the shards that this node should own and hands one over that
// another should.
func (n *Node) decide(view journal.View) {
	if n.draining.Load() {
		return
	}
	now := n.now()
	forming := now-n.firstView < formationTime
	for _, s := range n.shards {
		o := view.Owners[s.id]
		s.mu.Lock()
		mine, claiming, releasing := s.epoch != 0 && s.epoch == o.Revision, s.claiming, s.releasing
		s.mu.Unlock()
		if claiming || releasing {
			continue
		}
		me := n.cfg.Name
		stand := n.preferred(s.id, n.live) == me
		switch {
		case mine && !o.Released:
			settled := n.preferred(s.id, func(name string) bool {
				h := n.heard[name]
				return name == me || h.beating && !h.suspected && now-h.since > settleTime
			})
			if settled != me && n.handingOff.CompareAndSwap(0, 1) {
				go func() {
					defer n.handingOff.Store(0)
					ctx, cancel := context.WithTimeout(n.ctx, 5*time.Second)
					defer cancel()
					n.release(ctx, s, settled)
				}()
			}
		case n.cfg.Bugs.NoFence && n.serves(s) && !(o.Released && o.Next == me):
			// does not notice that it was deposed
		case o.Revision == 0:
			if stand && (!forming || n.preferred(s.id, func(string) bool { return true }) == me) {
				n.claim(s, o, 0)
			}
		case o.Released:
			if o.Next == me || stand && !n.live(o.Next) {
				n.claim(s, o, 0)
			}
		case o.Node == me:
			// An earlier life of this node: it is dead, but its lease may not
			// have run out in the eyes of those it answered.
			n.claim(s, o, lease)
		case stand && !n.live(o.Node):
			n.claim(s, o, lease)
		}
	}
}

func (n *Node) serves(s *shard) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine != nil
}

// claim takes a shard over in the background: write the epoch, then read the
// tail, then wait until the predecessor cannot serve reads any more.
func (n *Node) claim(s *shard, seen journal.Owner, wait time.Duration) {
	s.mu.Lock()
	s.claiming = true
	s.mu.Unlock()
	n.depose(s) // an earlier epoch that is still served here, which only a planted bug leaves
	n.wg.Go(func() {
		began := n.now()
		m, head, err := n.takeOver(s, seen, wait)
		s.mu.Lock()
		s.claiming = false
		switch {
		case m == nil:
			s.epoch = 0
		case s.epoch == m.Epoch(): // not deposed meanwhile
			m.Confirmed(s.confirmed)
			s.machine, s.head = m, head
		}
		s.mu.Unlock()
		switch {
		case err != nil && n.ctx.Err() == nil:
			n.log.Warn("claim", "shard", s.id, "err", err)
		case m != nil:
			n.metrics.takeovers.Inc()
			n.log.Info("serving", "shard", s.id, "epoch", m.Epoch(), "after", seen.Node, "took_ms", (n.now() - began).Milliseconds())
		}
		n.wake()
	})
}

// wake makes those look again who wait for a shard to be served here.
func (n *Node) wake() {
	old := n.routes.Load()
	next := *old
	next.changed = make(chan struct{})
	if n.routes.CompareAndSwap(old, &next) {
		close(old.changed)
	}
}

func (n *Node) takeOver(s *shard, seen journal.Owner, wait time.Duration) (*core.Shard, core.Head, error) {
	start := n.now()
	ctx, cancel := context.WithTimeout(n.ctx, 2*time.Second)
	defer cancel()
	epoch, won, err := n.store.Claim(ctx, s.id, seen.Revision, n.cfg.Name)
	if err != nil || !won {
		return nil, core.Head{}, err
	}
	claimed := n.now()
	s.mu.Lock()
	s.epoch, s.confirmed = epoch, start
	s.mu.Unlock()
	head, tail, err := n.readTail(ctx, s.id)
	if err != nil {
		return nil, head, err
	}
	m := core.New(core.Config{
		Types: n.types, Memory: n.cfg.Memory, Window: n.cfg.Window, Lease: lease, Bugs: n.cfg.Bugs,
	}, epoch, head, tail, start)
	if n.cfg.Bugs.NoFence {
		wait = 0
	}
	if left := wait - (n.now() - claimed); left > 0 && !n.sleep(left) {
		return nil, head, n.ctx.Err()
	}
	return m, head, nil
}

func (n *Node) readTail(ctx context.Context, shard int) (head core.Head, tail []core.Group, err error) {
	data, entries, err := n.store.Tail(ctx, shard)
	if err != nil {
		return head, nil, err
	}
	if data != nil {
		if err := json.Unmarshal(data, &head); err != nil {
			return head, nil, fmt.Errorf("head of shard %d: %w", shard, err)
		}
	}
	for _, e := range entries {
		g, err := core.DecodeGroup(e)
		if err != nil {
			return head, nil, fmt.Errorf("shard %d: %w", shard, err)
		}
		tail = append(tail, g)
	}
	return head, tail, nil
}

func (n *Node) readCheckpoint(shard int, id core.ID) (*core.Checkpoint, error) {
	ctx, cancel := context.WithTimeout(n.ctx, 2*time.Second)
	defer cancel()
	data, err := n.store.Load(ctx, shard, id.Type, id.Key)
	if err != nil || data == nil {
		return nil, err
	}
	var c core.Checkpoint
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("checkpoint of %s/%s: %w", id.Type, id.Key, err)
	}
	return &c, nil
}

// depose ends the epoch of a shard here.
func (n *Node) depose(s *shard) {
	s.mu.Lock()
	m := s.machine
	s.machine, s.epoch = nil, 0
	var out core.Output
	if m != nil {
		out = m.Depose()
	}
	s.idle.Broadcast()
	s.mu.Unlock()
	n.deliver(s, m, out)
}

// deposeMachine is depose, unless another epoch has begun here since.
func (n *Node) deposeMachine(s *shard, m *core.Shard) {
	s.mu.Lock()
	current := s.machine == m
	s.mu.Unlock()
	if current {
		n.depose(s)
	}
}

// release stops serving a shard, makes what it holds durable, and lets next
// serve it at once.
func (n *Node) release(ctx context.Context, s *shard, next string) {
	s.mu.Lock()
	m := s.machine
	if m == nil || s.releasing {
		s.mu.Unlock()
		return
	}
	s.releasing = true
	out := m.Close()
	s.mu.Unlock()
	n.deliver(s, m, out)
	kick(n.flush)

	wakeUp := context.AfterFunc(ctx, s.idle.Broadcast)
	s.mu.Lock()
	for s.machine == m && m.Pending() && ctx.Err() == nil {
		s.idle.Wait()
	}
	mine := s.machine == m && !m.Pending()
	s.mu.Unlock()
	wakeUp()
	if mine {
		n.depose(s)
		if err := n.store.Release(ctx, s.id, m.Epoch(), n.cfg.Name, next); err != nil {
			n.log.Warn("release", "shard", s.id, "err", err)
		} else {
			n.log.Info("released", "shard", s.id, "to", next)
		}
	}
	s.mu.Lock()
	s.releasing = false
	s.mu.Unlock()
}
