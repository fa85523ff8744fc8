// Package memory keeps the store of the runtime in the memory of one process,
// and loses answers, requests and hints when it is told to.
package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"statequake/runtime/journal"
)

// ErrLost is what an operation returns whose request or answer was lost.
var ErrLost = errors.New("the connection was lost")

// Fault is what happens to one attempt of an operation.
type Fault int

const (
	None       Fault = iota
	Lost             // the request: it has no effect
	Unanswered       // the answer: it has taken effect
	Late             // the answer too: it takes effect at the next Deliver
)

// Faults say what goes wrong on one handle. Both may be nil and name the
// operation by its method in lower case: view, beat, watch, claim, release,
// append, tail, store, cut, load. They are called by the goroutine that calls
// the operation; a watch by the one that changes the owner, and its fault, which
// makes it miss the change, must not call the store. Each attempt of an append
// counts; an append repeats without a pause until its ctx ends.
type Faults struct {
	Fault func(op string) Fault
	Delay func(op string) // before an attempt takes effect, and again before it is answered
}

// Cluster is what the handles of all nodes share. It is safe for concurrent
// use, has no goroutines and no clock, and depends on nothing but the order of
// the calls.
type Cluster struct {
	mu          sync.Mutex
	owners      map[int]journal.Owner
	members     map[string]journal.Member
	heads       map[int]head
	entries     map[int]map[int64]entry
	checkpoints map[entity][]byte
	revision    int64
	late        []func()
	watchers    map[int]func()
	nextWatcher int
}

// head is where a journal starts. turn orders the checkpoints and cuts of an
// epoch: one that comes late must not undo a later one.
type head struct {
	data        []byte
	cut         int64
	epoch, turn int64
}

type entry struct {
	epoch int64
	data  []byte
}

type entity struct {
	shard    int
	typ, key string
}

// New returns an empty store.
func New() *Cluster {
	return &Cluster{
		owners: map[int]journal.Owner{}, members: map[string]journal.Member{}, heads: map[int]head{},
		entries: map[int]map[int64]entry{}, checkpoints: map[entity][]byte{}, watchers: map[int]func(){},
	}
}

// Store is one node's handle; it is a journal.Store.
type Store struct {
	cluster *Cluster
	faults  Faults
	mu      sync.Mutex
	turns   int64
}

// Open returns a handle.
func (c *Cluster) Open(f Faults) *Store { return &Store{cluster: c, faults: f} }

// Deliver lets the requests that are Late take effect, in their order.
func (c *Cluster) Deliver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	late := c.late
	c.late = nil
	for _, f := range late {
		f()
	}
}

// Hint tells all who watch that an owner has changed, whether or not it is so.
func (c *Cluster) Hint() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hint()
}

func (c *Cluster) hint() {
	for _, f := range c.watchers { // their order cannot be seen: none blocks
		f()
	}
}

// attempt lets f take effect under the lock, unless a fault is in its way.
func (s *Store) attempt(ctx context.Context, op string, f func()) error {
	if s.faults.Delay != nil {
		s.faults.Delay(op)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	fault := None
	if s.faults.Fault != nil {
		fault = s.faults.Fault(op)
	}
	s.cluster.mu.Lock()
	switch fault {
	case None, Unanswered:
		f()
	case Late:
		s.cluster.late = append(s.cluster.late, f)
	}
	s.cluster.mu.Unlock()
	if s.faults.Delay != nil {
		s.faults.Delay(op)
	}
	if fault != None {
		return ErrLost
	}
	return nil
}

// View copies owners and members.
func (s *Store) View(ctx context.Context) (journal.View, error) {
	v := journal.View{Owners: map[int]journal.Owner{}, Members: map[string]journal.Member{}}
	err := s.attempt(ctx, "view", func() {
		for shard, o := range s.cluster.owners {
			v.Owners[shard] = o
		}
		for name, m := range s.cluster.members {
			v.Members[name] = m
		}
	})
	if err != nil {
		return journal.View{}, fmt.Errorf("read owners: %w", err)
	}
	return v, nil
}

// Beat counts the member's revision up.
func (s *Store) Beat(ctx context.Context, node, addr string) error {
	err := s.attempt(ctx, "beat", func() {
		s.cluster.revision++
		s.cluster.members[node] = journal.Member{Addr: addr, Revision: s.cluster.revision}
	})
	if err != nil {
		return fmt.Errorf("beat of %s: %w", node, err)
	}
	return nil
}

// WatchOwners passes hints on until ctx ends.
func (s *Store) WatchOwners(ctx context.Context, changed chan<- struct{}) {
	c := s.cluster
	c.mu.Lock()
	id := c.nextWatcher
	c.nextWatcher++
	c.watchers[id] = func() {
		if s.faults.Fault != nil && s.faults.Fault("watch") != None {
			return
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	delete(c.watchers, id)
	c.mu.Unlock()
}

// Claim gives the shard the store's next revision.
func (s *Store) Claim(ctx context.Context, shard int, seen int64, node string) (epoch int64, won bool, err error) {
	c := s.cluster
	err = s.attempt(ctx, "claim", func() {
		if c.owners[shard].Revision != seen {
			return
		}
		c.revision++
		epoch, won = c.revision, true
		c.owners[shard] = journal.Owner{Node: node, Revision: epoch}
		c.hint()
	})
	if err != nil {
		return 0, false, fmt.Errorf("claim shard %d: %w", shard, err)
	}
	return epoch, won, nil
}

// Release gives the shard the store's next revision, too.
func (s *Store) Release(ctx context.Context, shard int, epoch int64, node, next string) error {
	c := s.cluster
	err := s.attempt(ctx, "release", func() {
		if !c.holds(shard, epoch) {
			return
		}
		c.revision++
		c.owners[shard] = journal.Owner{Node: node, Released: true, Next: next, Revision: c.revision}
		c.hint()
	})
	if err != nil {
		return fmt.Errorf("release shard %d: %w", shard, err)
	}
	return nil
}

func (c *Cluster) holds(shard int, epoch int64) bool {
	o := c.owners[shard]
	return o.Revision == epoch && epoch != 0 && !o.Released
}

// Append repeats an attempt that was not answered until ctx ends.
func (s *Store) Append(ctx context.Context, groups []journal.Append, fenced bool) []journal.Fate {
	copies := slices.Clone(groups)
	for i := range copies {
		copies[i].Data = clone(groups[i].Data)
	}
	for ctx.Err() == nil {
		fates := make([]journal.Fate, len(groups))
		err := s.attempt(ctx, "append", func() {
			for i, g := range copies {
				fates[i] = s.cluster.append(g, fenced)
			}
		})
		if err == nil {
			return fates
		}
	}
	return make([]journal.Fate, len(groups))
}

func (c *Cluster) append(g journal.Append, fenced bool) journal.Fate {
	if c.entries[g.Shard] == nil {
		c.entries[g.Shard] = map[int64]entry{}
	}
	stands, taken := c.entries[g.Shard][g.Seq]
	switch {
	case !fenced:
	case taken && stands.epoch == g.Epoch && bytes.Equal(stands.data, g.Data):
		return journal.Durable
	case taken, !c.holds(g.Shard, g.Epoch), g.Seq <= c.heads[g.Shard].cut:
		return journal.Deposed
	}
	c.entries[g.Shard][g.Seq] = entry{g.Epoch, g.Data}
	return journal.Durable
}

// Tail copies the journal.
func (s *Store) Tail(ctx context.Context, shard int) (head []byte, entries [][]byte, err error) {
	c := s.cluster
	err = s.attempt(ctx, "tail", func() {
		if h := c.heads[shard]; h.data != nil {
			head = clone(h.data)
		}
		var seqs []int64
		for seq := range c.entries[shard] {
			seqs = append(seqs, seq)
		}
		slices.Sort(seqs)
		for _, seq := range seqs {
			entries = append(entries, clone(c.entries[shard][seq].data))
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read journal of shard %d: %w", shard, err)
	}
	return head, entries, nil
}

// fenced runs f if the epoch holds and no later checkpoint or cut of it came first.
func (s *Store) fenced(ctx context.Context, op string, shard int, epoch int64, f func()) error {
	s.mu.Lock()
	s.turns++
	turn := s.turns
	s.mu.Unlock()
	c := s.cluster
	done := false
	err := s.attempt(ctx, op, func() {
		h := c.heads[shard]
		if !c.holds(shard, epoch) || h.epoch == epoch && h.turn >= turn {
			return
		}
		h.epoch, h.turn = epoch, turn
		c.heads[shard] = h
		f()
		done = true
	})
	if err == nil && !done {
		err = journal.ErrDeposed
	}
	return err
}

// Store writes all checkpoints at once.
func (s *Store) Store(ctx context.Context, shard int, epoch int64, checkpoints []journal.Checkpoint) error {
	copies := slices.Clone(checkpoints)
	for i := range copies {
		copies[i].Data = clone(checkpoints[i].Data)
	}
	err := s.fenced(ctx, "store", shard, epoch, func() {
		for _, p := range copies {
			s.cluster.checkpoints[entity{shard, p.Type, p.Key}] = p.Data
		}
	})
	if err != nil {
		return fmt.Errorf("checkpoint shard %d: %w", shard, err)
	}
	return nil
}

// Cut removes entries.
func (s *Store) Cut(ctx context.Context, shard int, epoch, seq int64, data []byte) error {
	c := s.cluster
	data = clone(data)
	err := s.fenced(ctx, "cut", shard, epoch, func() {
		h := c.heads[shard]
		h.data, h.cut = data, max(h.cut, seq)
		c.heads[shard] = h
		for at := range c.entries[shard] {
			if at <= seq {
				delete(c.entries[shard], at)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("cut journal of shard %d: %w", shard, err)
	}
	return nil
}

// Load copies a checkpoint.
func (s *Store) Load(ctx context.Context, shard int, typ, key string) ([]byte, error) {
	var data []byte
	err := s.attempt(ctx, "load", func() {
		if stored, ok := s.cluster.checkpoints[entity{shard, typ, key}]; ok {
			data = clone(stored)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("load %s/%s: %w", typ, key, err)
	}
	return data, nil
}

// Maintain has nothing to do.
func (s *Store) Maintain(context.Context) error { return nil }

// Status is always Up.
func (s *Store) Status() journal.Status { return journal.Status{Up: true} }

// Failed never delivers.
func (s *Store) Failed() <-chan error { return nil }

// Close does nothing; the other handles go on.
func (s *Store) Close() {}

// clone copies b and is never nil.
func clone(b []byte) []byte { return append([]byte{}, b...) }
