package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"syscall"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/journal"
	"statequake/runtime/ownership"
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

// follow looks at the store for the state machine that decides what this node
// claims, serves and hands over.
func (n *Node) follow() {
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
			n.step(func(m *ownership.Machine) []ownership.Action { return m.Unanswered(start) })
		} else {
			n.step(func(m *ownership.Machine) []ownership.Action {
				actions := m.Looked(start, n.now(), view)
				n.publish(start, view, m)
				return actions
			})
		}
		if took := n.now() - start; took < lookPause && !n.sleep(lookPause-took) {
			return
		}
		timer.Reset(max(0, ownership.ConfirmEvery-(n.now()-start)))
	}
}

// step gives the state machine of ownership an input and does what it asks for.
// Steps exclude each other: a shard must not be served after the action that
// ends its epoch. The caller must not hold a shard's lock.
func (n *Node) step(input func(*ownership.Machine) []ownership.Action) {
	n.owning.Lock()
	defer n.owning.Unlock()
	for _, a := range input(n.owner) {
		n.act(a)
	}
}

// act does what ownership asks for, in the background if it takes time.
func (n *Node) act(a ownership.Action) {
	if a.Do == ownership.Suspected {
		n.log.Info("suspected", "member", a.Node, "silent_ms", a.Wait.Milliseconds())
		return
	}
	s := n.shards[a.Shard]
	switch a.Do {
	case ownership.Confirm:
		s.mu.Lock()
		if s.machine != nil && s.epoch == a.Epoch {
			s.machine.Confirmed(a.Start)
		}
		s.mu.Unlock()
	case ownership.Depose:
		if a.Node != "" {
			n.log.Info("deposed", "shard", s.id, "epoch", a.Epoch, "by", a.Node)
		}
		n.end(s, a.Epoch)
	case ownership.Claim:
		n.wg.Go(func() { n.claim(s, a) })
	case ownership.Recover:
		s.mu.Lock()
		s.epoch = a.Epoch
		s.mu.Unlock()
		n.wg.Go(func() { n.recover(s, a.Epoch) })
	case ownership.Wait:
		n.wg.Go(func() {
			if n.sleep(a.Wait) {
				n.step(func(m *ownership.Machine) []ownership.Action { return m.Waited(n.now(), s.id, a.Epoch) })
			}
		})
	case ownership.Serve:
		n.serve(s, a)
	case ownership.Release:
		n.wg.Go(func() { n.release(s, a) })
	}
}

// dial keeps a connection to a member open, on which nothing is ever sent: the
// kernel tells at once when the process at the other end dies.
func (n *Node) dial(name, addr string) {
	for n.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(n.ctx, time.Second)
		conn, err := dialMember(ctx, "tcp", addr)
		cancel()
		if err == nil {
			n.step(func(m *ownership.Machine) []ownership.Action {
				m.Connected(name)
				return nil
			})
			closed := context.AfterFunc(n.ctx, func() { conn.Close() })
			_, _ = conn.Read(make([]byte, 1)) // until either side closes it
			closed()
			conn.Close()
			continue
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			n.step(func(m *ownership.Machine) []ownership.Action {
				if m.Refused(name) {
					kick(n.look)
				}
				return nil
			})
		}
		n.sleep(dialEvery)
	}
}

// publish replaces the routes and wakes those who wait for newer ones.
func (n *Node) publish(at time.Duration, view journal.View, m *ownership.Machine) {
	r := &routes{owners: view.Owners, members: map[string]memberState{}, at: at, changed: make(chan struct{})}
	for name, p := range n.cfg.Members {
		r.members[name] = memberState{Addr: p.API, Live: m.Live(name)}
	}
	close(n.routes.Swap(r).changed)
}

// claim writes this node's epoch, if nobody was faster.
func (n *Node) claim(s *shard, a ownership.Action) {
	start := n.now()
	ctx, cancel := context.WithTimeout(n.ctx, claimTimeout)
	defer cancel()
	epoch, won, err := n.store.Claim(ctx, s.id, a.Epoch, n.cfg.Name)
	if err != nil && n.ctx.Err() == nil {
		n.log.Warn("claim", "shard", s.id, "err", err)
	}
	if err != nil || !won {
		epoch = 0
	}
	n.step(func(m *ownership.Machine) []ownership.Action { return m.Claimed(start, n.now(), s.id, epoch) })
}

// recover reads the journal of a shard that was claimed.
func (n *Node) recover(s *shard, epoch int64) {
	ctx, cancel := context.WithTimeout(n.ctx, claimTimeout)
	defer cancel()
	head, tail, err := n.readTail(ctx, s.id)
	if err != nil {
		if n.ctx.Err() == nil {
			n.log.Warn("recover", "shard", s.id, "err", err)
		}
		n.end(s, epoch)
	} else {
		s.mu.Lock()
		if s.epoch == epoch { // not deposed meanwhile
			s.head, s.recovered = head, core.New(n.coreConfig(), epoch, head, tail, 0)
		}
		s.mu.Unlock()
	}
	n.step(func(m *ownership.Machine) []ownership.Action { return m.Recovered(n.now(), s.id, epoch, err == nil) })
}

// serve begins to serve a shard that was recovered.
func (n *Node) serve(s *shard, a ownership.Action) {
	s.mu.Lock()
	if s.epoch == a.Epoch && n.ctx.Err() == nil {
		s.machine, s.recovered = s.recovered, nil
		s.machine.Confirmed(a.Start)
	}
	s.mu.Unlock()
	n.metrics.takeovers.Inc()
	n.log.Info("serving", "shard", s.id, "epoch", a.Epoch)
	n.wake()
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
	epoch := s.epoch
	s.mu.Unlock()
	n.step(func(m *ownership.Machine) []ownership.Action { return m.Ended(s.id, epoch) })
}

// deposeMachine is depose, unless another epoch has begun here since.
func (n *Node) deposeMachine(s *shard, m *core.Shard) {
	n.step(func(o *ownership.Machine) []ownership.Action { return o.Ended(s.id, m.Epoch()) })
}

// inDoubt ends the epoch of m if a checkpoint or a cut of it may still happen
// although the store has returned err: late, over a newer one, it would take
// back records that are not in the journal any more. The fence stops it only
// when the epoch is over.
func (n *Node) inDoubt(s *shard, m *core.Shard, err error) {
	if !errors.Is(err, journal.ErrDeposed) && n.ctx.Err() == nil {
		n.log.Warn("a checkpoint is in doubt", "shard", s.id, "epoch", m.Epoch(), "err", err)
	}
	n.deposeMachine(s, m)
}

// end stops serving a shard, unless another epoch has begun here since. Who
// waits for a reply is told to try elsewhere.
func (n *Node) end(s *shard, epoch int64) {
	s.mu.Lock()
	if s.epoch != epoch {
		s.mu.Unlock()
		return
	}
	m := s.machine
	s.machine, s.recovered, s.epoch = nil, nil, 0
	var out core.Output
	if m != nil {
		out = m.Depose()
		if n.cfg.Bugs.StaleForward {
			s.past = m
		}
	}
	s.idle.Broadcast()
	s.mu.Unlock()
	n.deliver(s, m, out)
}

// release stops serving a shard, makes what it holds durable, and lets another
// node serve it at once.
func (n *Node) release(s *shard, a ownership.Action) {
	defer n.step(func(m *ownership.Machine) []ownership.Action {
		m.Released(s.id, a.Epoch)
		return nil
	})
	s.mu.Lock()
	m := s.machine
	if m == nil || s.epoch != a.Epoch {
		s.mu.Unlock()
		return
	}
	out := m.Close()
	s.mu.Unlock()
	n.deliver(s, m, out)
	kick(n.flush)

	wakeUp := context.AfterFunc(n.ctx, s.idle.Broadcast)
	s.mu.Lock()
	// However long it takes: a shard that is closed must not be kept.
	for s.machine == m && m.Pending() && n.ctx.Err() == nil {
		s.idle.Wait()
	}
	mine := s.machine == m && !m.Pending()
	s.mu.Unlock()
	wakeUp()
	if !mine {
		return
	}
	n.end(s, a.Epoch)
	ctx, cancel := context.WithTimeout(n.ctx, releaseTimeout)
	defer cancel()
	if err := n.store.Release(ctx, s.id, a.Epoch, n.cfg.Name, a.Node); err != nil {
		n.log.Warn("release", "shard", s.id, "err", err)
	} else {
		n.log.Info("released", "shard", s.id, "to", a.Node)
	}
}
