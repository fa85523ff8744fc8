// Package journal is the store of the reference runtime: who owns which shard,
// each shard's journal, and the checkpoints of entities, in an etcd member that
// is embedded in the node.
//
// Every write of an owner is fenced by the revision of the shard's owner key:
// that revision is the epoch. See runtime/DESIGN.md.
package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// Limits of the store. One transaction of etcd takes 128 operations and 1.5 MiB.
const (
	quotaBytes        = 4 << 30 // etcd refuses writes above it
	keepRevisions     = 1000    // younger ones are not compacted
	compactEvery      = 5000    // revisions
	defragmentFrom    = 256 << 20
	maxShardsPerTxn   = 60
	maxPutsPerTxn     = 60
	maxTxnBytes       = 1 << 20
	attemptTimeout    = time.Second
	ambiguousPause    = 20 * time.Millisecond
	backendBatch      = 500 * time.Millisecond
	tick              = 50  // ms
	election          = 500 // ms
	clusterPrefix     = "/statequake/cluster/"
	ownerPrefix       = clusterPrefix + "owner/"
	memberPrefix      = clusterPrefix + "member/"
	headPrefix        = "/statequake/head/"
	entriesPrefix     = "/statequake/journal/"
	checkpointsPrefix = "/statequake/checkpoint/"
)

// Config places a member.
type Config struct {
	Node  string            // name of this member
	Dir   string            // its data directory; etcd locks it
	Peers map[string]string // name -> host:port for the store's own traffic, this member included
}

// Store is one member. It is safe for concurrent use.
type Store struct {
	etcd   *embed.Etcd
	client *clientv3.Client
}

// Owner is what the key of a shard says. Revision is the key's modification
// revision; while Released is false it is the epoch of Node.
type Owner struct {
	Node     string `json:"node"`
	Released bool   `json:"released,omitempty"` // Node has stopped serving; Next should take over
	Next     string `json:"next,omitempty"`
	Revision int64  `json:"-"` // 0: never owned
}

// Member is what a node tells of itself.
type Member struct {
	Addr     string `json:"addr"` // host:port of its API
	Revision int64  `json:"-"`    // grows with every beat
}

// View is a linearizable picture of owners and members.
type View struct {
	Owners  map[int]Owner
	Members map[string]Member
}

// Open starts the member and returns when it takes part in the cluster, which
// needs a majority of the members to be up, or when ctx ends.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	c := embed.NewConfig()
	c.Name, c.Dir = cfg.Node, cfg.Dir
	var initial []string
	for name, addr := range cfg.Peers {
		initial = append(initial, name+"=http://"+addr)
	}
	c.InitialCluster = strings.Join(initial, ",")
	c.InitialClusterToken = "statequake"
	peer := []url.URL{{Scheme: "http", Host: cfg.Peers[cfg.Node]}}
	c.ListenPeerUrls, c.AdvertisePeerUrls = peer, peer
	// Only this process talks to the member, and it does so in memory.
	c.ListenClientUrls, c.AdvertiseClientUrls = nil, nil
	c.TickMs, c.ElectionMs = tick, election
	c.QuotaBackendBytes = quotaBytes
	// The log of etcd holds everything that is durable; its database may follow later.
	c.BackendBatchInterval = backendBatch
	// What goes wrong is returned to who asked; etcd's log repeats it at length.
	c.LogLevel, c.LogOutputs = "panic", []string{"stderr"}
	e, err := embed.StartEtcd(c)
	if err != nil {
		return nil, fmt.Errorf("start store member %s: %w", cfg.Node, err)
	}
	select {
	case <-e.Server.ReadyNotify():
	case <-ctx.Done():
		e.Close()
		return nil, fmt.Errorf("store member %s has no majority yet: %w", cfg.Node, ctx.Err())
	case err := <-e.Err():
		e.Close()
		return nil, fmt.Errorf("store member %s: %w", cfg.Node, err)
	}
	return &Store{etcd: e, client: v3client.New(e.Server)}, nil
}

// Close stops the member.
func (s *Store) Close() {
	s.client.Close()
	s.etcd.Close()
}

// Failed delivers the error with which the member stopped on its own.
func (s *Store) Failed() <-chan error { return s.etcd.Err() }

// Leader names the member that leads the store, "" while there is none.
func (s *Store) Leader() string {
	id := s.etcd.Server.Leader()
	for _, m := range s.etcd.Server.Cluster().Members() {
		if m.ID == id {
			return m.Name
		}
	}
	return ""
}

// LeaderChanged returns a channel that is closed at the next change of leader.
// Requests that were under way then may never be answered.
func (s *Store) LeaderChanged() <-chan struct{} { return s.etcd.Server.LeaderChangedNotify() }

// Size is the size of this member's database file and of the part in use, in bytes.
func (s *Store) Size() (size, used int64) {
	b := s.etcd.Server.Backend()
	return b.Size(), b.SizeInUse()
}

// Compact forgets old revisions of the store's keys once enough have gathered.
// One member does it for all: the leader. etcd's own compaction runs every five
// minutes, in which groups at full rate would fill the quota.
func (s *Store) Compact(ctx context.Context) error {
	server := s.etcd.Server
	rev, first := server.KV().Rev(), server.KV().FirstRev()
	if server.Leader() != server.MemberID() || rev-first < keepRevisions+compactEvery {
		return nil
	}
	if _, err := s.client.Compact(ctx, rev-keepRevisions); err != nil {
		return fmt.Errorf("compact the store: %w", err)
	}
	return nil
}

// Defragment gives unused space of this member's database file back if more
// than half of a large file is unused. The member does not answer meanwhile,
// so the leader leaves it to a time when it is none.
func (s *Store) Defragment() error {
	size, used := s.Size()
	if size < defragmentFrom || used > size/2 || s.etcd.Server.Leader() == s.etcd.Server.MemberID() {
		return nil
	}
	if err := s.etcd.Server.Backend().Defrag(); err != nil {
		return fmt.Errorf("defragment the store: %w", err)
	}
	return nil
}

// View reads owners and members. The picture is current at some instant
// between call and return.
func (s *Store) View(ctx context.Context) (View, error) {
	resp, err := s.client.Get(ctx, clusterPrefix, clientv3.WithPrefix())
	if err != nil {
		return View{}, fmt.Errorf("read owners: %w", err)
	}
	v := View{Owners: map[int]Owner{}, Members: map[string]Member{}}
	for _, kv := range resp.Kvs {
		if name, ok := strings.CutPrefix(string(kv.Key), memberPrefix); ok {
			var m Member
			if err := json.Unmarshal(kv.Value, &m); err != nil {
				return View{}, fmt.Errorf("member %s: %w", name, err)
			}
			m.Revision = kv.ModRevision
			v.Members[name] = m
			continue
		}
		shard, err := strconv.Atoi(strings.TrimPrefix(string(kv.Key), ownerPrefix))
		if err != nil {
			return View{}, fmt.Errorf("owner key %q: %w", kv.Key, err)
		}
		var o Owner
		if err := json.Unmarshal(kv.Value, &o); err != nil {
			return View{}, fmt.Errorf("owner of shard %d: %w", shard, err)
		}
		o.Revision = kv.ModRevision
		v.Owners[shard] = o
	}
	return v, nil
}

// Beat shows that node is alive and reaches the store.
func (s *Store) Beat(ctx context.Context, node string, m Member) error {
	_, err := s.client.Put(ctx, memberPrefix+node, mustJSON(m))
	return err
}

// WatchOwners sends on changed (without blocking) whenever an owner key is
// seen to change, until ctx ends. It is a hint to look, not a source of truth.
func (s *Store) WatchOwners(ctx context.Context, changed chan<- struct{}) {
	for range s.client.Watch(ctx, ownerPrefix, clientv3.WithPrefix()) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// Claim makes node the owner of shard if its key is still at revision seen
// (0: never owned), and returns the new epoch. won is false if somebody else
// was faster. After an error the claim may or may not have happened.
func (s *Store) Claim(ctx context.Context, shard int, seen int64, node string) (epoch int64, won bool, err error) {
	key := ownerKey(shard)
	resp, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", seen)).
		Then(clientv3.OpPut(key, mustJSON(Owner{Node: node}))).Commit()
	if err != nil {
		return 0, false, fmt.Errorf("claim shard %d: %w", shard, err)
	}
	return resp.Header.Revision, resp.Succeeded, nil
}

// Release gives a shard up: next may serve at once. The caller must have
// stopped serving it.
func (s *Store) Release(ctx context.Context, shard int, epoch int64, node, next string) error {
	_, err := s.client.Txn(ctx).If(holds(shard, epoch)).
		Then(clientv3.OpPut(ownerKey(shard), mustJSON(Owner{Node: node, Released: true, Next: next}))).Commit()
	if err != nil {
		return fmt.Errorf("release shard %d: %w", shard, err)
	}
	return nil
}

// Append is one group on its way into the journal of a shard.
type Append struct {
	Shard int
	Epoch int64
	Seq   int64
	Data  []byte
}

// Fate says what became of an Append.
type Fate int

const (
	Undecided Fate = iota // ctx ended first; it may or may not be durable
	Durable               // it is durable
	Deposed               // the epoch is over; it is durable only if the successor says so
)

// Append makes groups durable, each if its epoch is still the current one of
// its shard. It tries again after errors that leave the fate open, until ctx
// ends: the position of a group is compared, so that it is never written twice.
// With fenced false the epoch and the position are not compared.
func (s *Store) Append(ctx context.Context, groups []Append, fenced bool) []Fate {
	fates := make([]Fate, len(groups))
	open := make([]int, len(groups))
	for i := range groups {
		open[i] = i
	}
	for len(open) > 0 && ctx.Err() == nil {
		n := 0
		for size := 0; n < len(open) && n < maxShardsPerTxn && (n == 0 || size+len(groups[open[n]].Data) <= maxTxnBytes); n++ {
			size += len(groups[open[n]].Data)
		}
		batch := open[:n]
		if !s.appendOnce(ctx, groups, batch, fates, fenced) {
			select {
			case <-time.After(ambiguousPause):
			case <-ctx.Done():
			}
		}
		rest := make([]int, 0, len(open))
		for _, i := range open {
			if fates[i] == Undecided {
				rest = append(rest, i)
			}
		}
		open = rest
	}
	return fates
}

// appendOnce tries one transaction and returns false if nothing was learned.
func (s *Store) appendOnce(ctx context.Context, groups []Append, batch []int, fates []Fate, fenced bool) bool {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	changed := s.LeaderChanged()
	go func() {
		// A proposal that was on its way to a leader that died is not answered.
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	var conds []clientv3.Cmp
	var puts, gets []clientv3.Op
	for _, i := range batch {
		g := groups[i]
		key := entryKey(g.Shard, g.Seq)
		if fenced {
			conds = append(conds, holds(g.Shard, g.Epoch), clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
		}
		puts = append(puts, clientv3.OpPut(key, string(g.Data)))
		gets = append(gets, clientv3.OpGet(ownerKey(g.Shard), clientv3.WithKeysOnly()), clientv3.OpGet(key))
	}
	resp, err := s.client.Txn(ctx).If(conds...).Then(puts...).Else(gets...).Commit()
	if err != nil {
		return false
	}
	for j, i := range batch {
		if resp.Succeeded {
			fates[i] = Durable
			continue
		}
		owner := resp.Responses[2*j].GetResponseRange().Kvs
		entry := resp.Responses[2*j+1].GetResponseRange().Kvs
		switch {
		case len(entry) == 1 && string(entry[0].Value) == string(groups[i].Data):
			fates[i] = Durable // by an earlier attempt
		case len(owner) != 1 || owner[0].ModRevision != groups[i].Epoch:
			fates[i] = Deposed
		}
	}
	return true
}

// Tail reads where the journal of a shard starts and all that is in it, in order.
func (s *Store) Tail(ctx context.Context, shard int) (head []byte, entries [][]byte, err error) {
	resp, err := s.client.Txn(ctx).Then(
		clientv3.OpGet(headKey(shard)),
		clientv3.OpGet(entryPrefix(shard), clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend)),
	).Commit()
	if err != nil {
		return nil, nil, fmt.Errorf("read journal of shard %d: %w", shard, err)
	}
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) == 1 {
		head = kvs[0].Value
	}
	for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
		entries = append(entries, kv.Value)
	}
	return head, entries, nil
}

// Checkpoint is the stored state of one entity of a shard, with the owner's encoding.
type Checkpoint struct {
	Type, Key string
	Data      []byte
}

// ErrDeposed: the epoch is over, nothing was written.
var ErrDeposed = errors.New("the epoch is over")

// Store writes checkpoints, each whole or not at all, if epoch is still the
// current one of shard.
func (s *Store) Store(ctx context.Context, shard int, epoch int64, checkpoints []Checkpoint) error {
	for len(checkpoints) > 0 {
		var puts []clientv3.Op
		n := 0
		for size := 0; n < len(checkpoints) && n < maxPutsPerTxn && (n == 0 || size+len(checkpoints[n].Data) <= maxTxnBytes); n++ {
			c := checkpoints[n]
			size += len(c.Data)
			puts = append(puts, clientv3.OpPut(checkpointKey(shard, c.Type, c.Key), string(c.Data)))
		}
		if err := s.fencedTxn(ctx, shard, epoch, puts...); err != nil {
			return fmt.Errorf("checkpoint shard %d: %w", shard, err)
		}
		checkpoints = checkpoints[n:]
	}
	return nil
}

// Cut removes the journal up to and with seq and notes head in its place.
func (s *Store) Cut(ctx context.Context, shard int, epoch, seq int64, head []byte) error {
	err := s.fencedTxn(ctx, shard, epoch,
		clientv3.OpPut(headKey(shard), string(head)),
		clientv3.OpDelete(entryPrefix(shard), clientv3.WithRange(entryKey(shard, seq+1))))
	if err != nil {
		return fmt.Errorf("cut journal of shard %d: %w", shard, err)
	}
	return nil
}

func (s *Store) fencedTxn(ctx context.Context, shard int, epoch int64, ops ...clientv3.Op) error {
	resp, err := s.client.Txn(ctx).If(holds(shard, epoch)).Then(ops...).Commit()
	if err == nil && !resp.Succeeded {
		err = ErrDeposed
	}
	return err
}

// Load reads the checkpoint of an entity, nil if there is none.
func (s *Store) Load(ctx context.Context, shard int, typ, key string) ([]byte, error) {
	resp, err := s.client.Get(ctx, checkpointKey(shard, typ, key))
	if err != nil {
		return nil, fmt.Errorf("load %s/%s: %w", typ, key, err)
	}
	if len(resp.Kvs) == 0 {
		return nil, nil
	}
	return resp.Kvs[0].Value, nil
}

// holds compares the fence: the owner key of the shard has not changed since
// epoch was given out.
func holds(shard int, epoch int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(ownerKey(shard)), "=", epoch)
}

func ownerKey(shard int) string    { return fmt.Sprintf(ownerPrefix+"%04d", shard) }
func headKey(shard int) string     { return fmt.Sprintf(headPrefix+"%04d", shard) }
func entryPrefix(shard int) string { return fmt.Sprintf(entriesPrefix+"%04d/", shard) }
func entryKey(shard int, seq int64) string {
	return fmt.Sprintf("%s%016x", entryPrefix(shard), seq)
}
func checkpointKey(shard int, typ, key string) string {
	return fmt.Sprintf(checkpointsPrefix+"%04d/%s/%s", shard, typ, key)
}

func mustJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only types of this package come here
	}
	return string(data)
}
