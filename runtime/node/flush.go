package node

import (
	"time"

	"statequake/runtime/core"
	"statequake/runtime/journal"
)

// A node with much to do waits a little for more: what a transaction costs hardly
// depends on its size, and every member pays for it. Clients that were just
// answered send their next commands meanwhile. Single commands wait for nobody.
const (
	flushMany   = 8                     // records in a flush after which the next one waits
	flushGap    = 3 * time.Millisecond  // after the end of a flush
	flushGapMem = 10 * time.Millisecond // if no command waits for it
)

// flusher makes what has gathered durable, one transaction at a time: while it
// is under way the next groups gather.
func (n *Node) flusher() {
	gap := flushGap
	if n.cfg.Memory {
		gap = flushGapMem
	}
	for {
		select {
		case <-n.flush:
		case <-n.ctx.Done():
			return
		}
		if n.flushOnce() >= flushMany {
			n.sleep(gap)
		}
	}
}

// flushOnce returns how many records it flushed.
func (n *Node) flushOnce() (records int) {
	type flight struct {
		shard   *shard
		machine *core.Shard
	}
	var flights []flight
	var groups []journal.Append
	for _, s := range n.shards {
		s.mu.Lock()
		m := s.machine
		if m == nil {
			s.mu.Unlock()
			continue
		}
		g, ok := m.Gather()
		s.mu.Unlock()
		if !ok {
			continue
		}
		data, err := core.EncodeGroup(g)
		if err != nil {
			n.log.Error("encode group", "shard", s.id, "err", err)
			n.depose(s)
			continue
		}
		records += len(g.Records)
		flights = append(flights, flight{s, m})
		groups = append(groups, journal.Append{Shard: s.id, Epoch: g.Epoch, Seq: g.Seq, Data: data})
	}
	if len(groups) == 0 {
		return 0
	}
	n.flushes++
	began := time.Now()
	if n.cfg.StoreDelay > 0 && !n.sleep(n.cfg.StoreDelay) {
		return 0
	}
	written := groups
	if n.cfg.Bugs.BatchDropped && n.flushes%core.BatchDroppedEvery == 0 {
		written = groups[:len(groups)-1]
	}
	fates := n.store.Append(n.ctx, written, !n.cfg.Bugs.NoFence)
	if len(written) < len(groups) {
		fates = append(fates, journal.Durable)
	}
	n.metrics.flush.Observe(time.Since(began).Seconds())
	n.metrics.group.Observe(float64(records))
	for i, f := range flights {
		switch fates[i] {
		case journal.Durable:
			f.shard.mu.Lock()
			out := f.machine.Durable()
			again := f.machine.Pending()
			f.shard.idle.Broadcast()
			f.shard.mu.Unlock()
			n.deliver(f.shard, f.machine, out)
			if again {
				kick(n.flush)
			}
		case journal.Deposed:
			n.log.Info("deposed by the fence", "shard", f.shard.id, "epoch", groups[i].Epoch)
			n.deposeMachine(f.shard, f.machine)
			kick(n.look)
		}
	}
	return records
}

// call waits for the reply to one command.
type call chan core.Reply

// deliver does what a state machine asked for. The shard must not be locked.
func (n *Node) deliver(s *shard, m *core.Shard, out core.Output) {
	n.passivated.Add(int64(out.Passivated))
	for _, r := range out.Replies {
		r.Ticket.(call) <- r // buffered: one command, one reply
	}
	for _, id := range out.Loads {
		go n.load(s, m, id)
	}
	for _, r := range out.Runs {
		go n.decide(s, m, r)
	}
	for _, f := range out.Fires {
		go n.fire(s, m, f)
	}
	if len(out.Stores) > 0 {
		s.mu.Lock()
		s.asks = append(s.asks, ask{m, out.Stores})
		s.mu.Unlock()
		kick(n.room)
	}
}

// load reads an entity from the store for its state machine.
func (n *Node) load(s *shard, m *core.Shard, id core.ID) {
	c, err := n.readCheckpoint(s.id, id)
	s.mu.Lock()
	var out core.Output
	if err == nil {
		out, err = m.Loaded(n.now(), id, c)
	}
	if err != nil {
		out = m.LoadFailed(id)
	}
	pending := m.Pending()
	s.mu.Unlock()
	if err != nil {
		n.log.Warn("load", "type", id.Type, "key", id.Key, "err", err)
	}
	n.deliver(s, m, out)
	if pending {
		kick(n.flush)
	}
}
