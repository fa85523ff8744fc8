package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/entity"
	"statequake/runtime/journal"
	"statequake/runtime/ownership"
)

// The times of a node; those of ownership are in its package.
const (
	lookPause      = 20 * time.Millisecond // between two looks, however many ask for one
	beatEvery      = 200 * time.Millisecond
	dialEvery      = 50 * time.Millisecond  // between attempts to connect to a member
	storeTimeout   = 400 * time.Millisecond // one read or beat
	claimTimeout   = 2 * time.Second        // one claim, or the reading of one journal
	releaseTimeout = 5 * time.Second        // to write that a shard is released
	checkpointFrom = 2000                   // records in a shard's journal
	deadline       = 30 * time.Second       // of a command, at most
)

// Limits that a Config of zeros stands for.
const (
	defaultInFlight = 4096
	defaultMaxBytes = 512 << 20
)

// Peer is where a member of the cluster listens.
type Peer struct {
	API   string // host:port of the HTTP API
	Store string // host:port of the store's traffic
}

// Config of a node.
type Config struct {
	Name       string
	Dir        string          // data directory, created if missing
	Store      string          // "" or etcd: embedded in the nodes; postgres://...: that database (runtime/journal/postgres)
	Members    map[string]Peer // by name, this node included; the same on every node
	Listen     string          // host that this node listens on; "": that of its entry in Members, at which the others reach it
	Shards     int             // the same on every node, fixed for the life of the data
	Types      []entity.Type
	Actions    []entity.Action
	Memory     bool          // acknowledge from memory
	Window     time.Duration // of Memory
	Bugs       core.Bugs
	StoreDelay time.Duration // makes every flush take this much longer

	// Each shard may take an equal part of the memory; idle entities leave it.
	MaxBytes    int64 // of entities in memory, estimated; 0: 512 MiB
	MaxEntities int   // in memory; 0: any number
	Mailbox     int   // commands that may wait for one entity; 0: 256
	MaxInFlight int   // commands that may be under way; 0: 4096

	Log *slog.Logger
}

// Node is one running node. Its methods are safe for concurrent use.
type Node struct {
	cfg     Config
	log     *slog.Logger
	types   map[string]entity.Type
	actions map[string]entity.Action
	store   journal.Store
	client  *http.Client
	base    time.Time // zero of the node's monotonic clock

	shards     []*shard
	flush      chan struct{} // something has gathered
	look       chan struct{} // read the owners now
	room       chan struct{} // entities are to be stored to make room
	flushes    int           // of the flusher
	inFlight   atomic.Int64  // commands under way
	passivated atomic.Int64  // entities that left memory
	routes     atomic.Pointer[routes]
	draining   atomic.Bool
	silent     sync.Map // of connections to the API on which nothing came yet
	metrics    *metrics

	owning sync.Mutex // taken before the lock of a shard
	owner  *ownership.Machine

	ctx  context.Context // ends when the node is closed
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// shard is a node's side of one shard.
type shard struct {
	id int

	mu        sync.Mutex
	machine   *core.Shard // nil unless it is served here
	recovered *core.Shard // about to be served
	head      core.Head   // where its journal starts
	epoch     int64       // claimed here; 0 if none
	idle      *sync.Cond  // signalled when a flush has ended
	asks      []ask       // to be stored

	past *core.Shard // what a planted bug answers from; else nil

	storing sync.Mutex // taken before mu: checkpoints are stored in the order in which they were taken
}

// ask is what a state machine asked to be stored.
type ask struct {
	machine *core.Shard
	ids     []core.ID
}

// routes is where commands go. changed is closed when newer routes exist.
type routes struct {
	owners  map[int]journal.Owner
	members map[string]memberState
	at      time.Duration
	changed chan struct{}
}

type memberState struct {
	Addr string
	Live bool
}

// Open starts the member of the store and the node's loops. It returns when the
// member takes part in the cluster, or when ctx ends.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	n, err := newNode(cfg)
	if err != nil {
		return nil, err
	}
	store, err := openStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	n.start(store)
	return n, nil
}

// newNode is a node that does nothing yet.
func newNode(cfg Config) (*Node, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = defaultInFlight
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	n := &Node{
		cfg: cfg, log: cfg.Log.With("node", cfg.Name), base: time.Now(),
		types: map[string]entity.Type{}, actions: map[string]entity.Action{},
		flush: make(chan struct{}, 1), look: make(chan struct{}, 1), room: make(chan struct{}, 1),
		client: &http.Client{Transport: &http.Transport{DialContext: dialMember, MaxIdleConnsPerHost: 512, DisableCompression: true}},
	}
	n.metrics = newMetrics(n)
	for _, t := range cfg.Types {
		if t.Name == "" || t.Name[0] == '_' {
			return nil, fmt.Errorf("entity type %q: the name is empty or begins with _", t.Name)
		}
		n.types[t.Name] = t
	}
	for _, a := range cfg.Actions {
		n.actions[a.Name] = a
	}
	for i := range cfg.Shards {
		s := &shard{id: i}
		s.idle = sync.NewCond(&s.mu)
		n.shards = append(n.shards, s)
	}
	n.owner = ownership.New(ownership.Config{
		Name: cfg.Name, Members: slices.Sorted(maps.Keys(cfg.Members)), Shards: cfg.Shards,
		Unfenced: cfg.Bugs.NoFence, Unchecked: cfg.Bugs.LeaseNotChecked,
	})
	n.routes.Store(&routes{changed: make(chan struct{})})
	n.ctx, n.stop = context.WithCancel(context.Background())
	return n, nil
}

// start lets the node take part in the cluster that shares the store.
func (n *Node) start(store journal.Store) {
	n.store = store
	for _, loop := range []func(){n.follow, n.beats, n.flusher, n.maintenance, n.timers, n.makeRoom} {
		n.wg.Go(loop)
	}
	for name, p := range n.cfg.Members {
		if name != n.cfg.Name {
			n.wg.Go(func() { n.dial(name, p.API) })
		}
	}
	n.wg.Go(func() { n.store.WatchOwners(n.ctx, n.look) })
}

// Failed delivers the error with which the store stopped on its own.
func (n *Node) Failed() <-chan error { return n.store.Failed() }

// now is the node's monotonic clock.
func (n *Node) now() time.Duration { return time.Since(n.base) }

// Drain hands every shard over to the other members, then returns; commands
// are still taken and forwarded. It gives up when ctx ends.
func (n *Node) Drain(ctx context.Context) {
	n.draining.Store(true)
	n.step((*ownership.Machine).Drain)
	// The successors must be serving before this node's listener closes.
	for ctx.Err() == nil && n.ownsAny() {
		select {
		case <-n.routes.Load().changed:
		case <-ctx.Done():
		}
	}
}

// ownsAny tells whether the routes still lead some command here.
func (n *Node) ownsAny() bool {
	for _, o := range n.routes.Load().owners {
		if o.Node == n.cfg.Name && len(n.cfg.Members) > 1 {
			return true
		}
	}
	return false
}

// Close stops the node at once. Shards that it still owns are taken over as
// after a crash.
func (n *Node) Close() {
	n.stop()
	for _, s := range n.shards {
		n.depose(s)
	}
	n.wg.Wait()
	n.store.Close()
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// beats tells the other members that this node is alive.
func (n *Node) beats() {
	for n.sleep(beatEvery) {
		ctx, cancel := context.WithTimeout(n.ctx, storeTimeout)
		if err := n.store.Beat(ctx, n.cfg.Name, n.cfg.Members[n.cfg.Name].API); err != nil {
			n.log.Debug("beat", "err", err)
		}
		cancel()
	}
}

func (n *Node) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-n.ctx.Done():
		return false
	}
}

// maintenance keeps the store and the journals small.
func (n *Node) maintenance() {
	for n.sleep(time.Second) {
		if err := n.store.Maintain(n.ctx); err != nil {
			n.log.Warn("maintenance", "err", err)
		}
		status := n.store.Status()
		n.metrics.storeBytes.Set(float64(status.Size))
		n.metrics.storeUsedBytes.Set(float64(status.Used))
		for _, s := range n.shards {
			if err := n.checkpoint(s); err != nil && n.ctx.Err() == nil {
				n.log.Warn("checkpoint", "shard", s.id, "err", err)
			}
		}
	}
}

// checkpoint stores the changed entities of a shard and cuts its journal off,
// if the journal has grown long. Commands go on meanwhile.
func (n *Node) checkpoint(s *shard) error {
	s.mu.Lock()
	m := s.machine
	if m == nil || m.Backlog(s.head) < checkpointFrom {
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()

	s.storing.Lock()
	defer s.storing.Unlock()
	s.mu.Lock()
	head, ids := m.Plan()
	s.mu.Unlock()
	if err := n.storeEntities(s, m, ids); err != nil {
		return err
	}
	data, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("encode head: %w", err)
	}
	if err := n.store.Cut(n.ctx, s.id, m.Epoch(), head.Seq, data); err != nil {
		n.inDoubt(s, m, err)
		return err
	}
	s.mu.Lock()
	if s.machine == m {
		s.head = head
	}
	s.mu.Unlock()
	n.metrics.checkpoints.Inc()
	return nil
}

// makeRoom stores entities that have to leave memory, or that change often.
func (n *Node) makeRoom() {
	for {
		select {
		case <-n.room:
		case <-n.ctx.Done():
			return
		}
		for _, s := range n.shards {
			s.mu.Lock()
			asks := s.asks
			s.asks = nil
			s.mu.Unlock()
			for _, a := range asks {
				s.storing.Lock()
				err := n.storeEntities(s, a.machine, a.ids)
				s.storing.Unlock()
				if err != nil && n.ctx.Err() == nil && !errors.Is(err, journal.ErrDeposed) {
					n.log.Warn("make room", "shard", s.id, "err", err)
				}
				s.mu.Lock()
				for _, id := range a.ids {
					a.machine.StoreFailed(id) // unless it was stored
				}
				s.mu.Unlock()
			}
		}
	}
}

// storeEntities stores checkpoints of entities. The caller holds s.storing.
func (n *Node) storeEntities(s *shard, m *core.Shard, ids []core.ID) error {
	var batch []journal.Checkpoint
	var stored []core.Checkpoint
	size := 0
	write := func() error {
		if len(batch) == 0 {
			return nil
		}
		if err := n.awaitDurable(s, m, stored); err != nil {
			return err
		}
		if n.cfg.Bugs.CheckpointAhead {
			n.ahead(s, m, batch, stored)
		}
		if err := n.store.Store(n.ctx, s.id, m.Epoch(), batch); err != nil {
			n.inDoubt(s, m, err)
			return err
		}
		s.mu.Lock()
		for _, c := range stored {
			m.Stored(c.ID, c.Pos)
		}
		s.mu.Unlock()
		batch, stored, size = nil, nil, 0
		return nil
	}
	for _, id := range ids {
		c, err := n.snapshot(s, m, id)
		if err != nil {
			return err
		}
		data, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("encode checkpoint: %w", err)
		}
		batch, stored = append(batch, journal.Checkpoint{Type: id.Type, Key: id.Key, Data: data}), append(stored, c)
		if size += len(data); size >= 1<<19 {
			if err := write(); err != nil {
				return err
			}
		}
	}
	return write()
}

// snapshot encodes one entity, loading it first if need be.
func (n *Node) snapshot(s *shard, m *core.Shard, id core.ID) (core.Checkpoint, error) {
	for {
		s.mu.Lock()
		if s.machine != m {
			s.mu.Unlock()
			return core.Checkpoint{}, journal.ErrDeposed
		}
		c, ok, out, err := m.Snapshot(id)
		s.mu.Unlock()
		n.deliver(s, m, out)
		if ok || err != nil {
			return c, err
		}
		if !n.sleep(5 * time.Millisecond) {
			return core.Checkpoint{}, n.ctx.Err()
		}
	}
}

// awaitDurable returns when the records that the checkpoints hold are durable.
func (n *Node) awaitDurable(s *shard, m *core.Shard, stored []core.Checkpoint) error {
	var pos int64
	for _, c := range stored {
		pos = max(pos, c.Pos)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for m.DurablePos() < pos {
		if s.machine != m {
			return journal.ErrDeposed
		}
		s.idle.Wait()
	}
	return nil
}

// ahead is a planted bug: checkpoints name the position that their shard has
// reached when they are written.
func (n *Node) ahead(s *shard, m *core.Shard, batch []journal.Checkpoint, stored []core.Checkpoint) {
	s.mu.Lock()
	pos := m.Backlog(core.Head{}) // of the last record, durable or not
	s.mu.Unlock()
	for i := range stored {
		stored[i].Pos = pos
		if data, err := json.Marshal(stored[i]); err == nil { // as before
			batch[i].Data = data
		}
	}
}
