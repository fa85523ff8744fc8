// Package etcd keeps the store of the runtime in an etcd member that is embedded
// in the node.
//
// The modification revision of a shard's owner key is the epoch: every claim
// changes it, it never goes back, and it needs no counter of our own.
package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	"statequake/runtime/journal"
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
	Node   string            // name of this member
	Dir    string            // its data directory; etcd locks it
	Peers  map[string]string // name -> host:port for the store's own traffic, this member included
	Listen string            // host:port on which this member takes it; "": as in Peers

	UnsafeNoFsync bool // planted bug: never wait for the disk
}

// Store is one member; it is a journal.Store.
type Store struct {
	etcd   *embed.Etcd
	client *clientv3.Client
}

// owner is the value of an owner key.
type owner struct {
	Node     string `json:"node"`
	Released bool   `json:"released,omitempty"`
	Next     string `json:"next,omitempty"`
}

// member is the value of a member key.
type member struct {
	Addr string `json:"addr"`
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
	if cfg.Listen == "" {
		cfg.Listen = cfg.Peers[cfg.Node]
	}
	c.ListenPeerUrls = []url.URL{{Scheme: "http", Host: cfg.Listen}}
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: cfg.Peers[cfg.Node]}}
	// Only this process talks to the member, and it does so in memory.
	c.ListenClientUrls, c.AdvertiseClientUrls = nil, nil
	c.TickMs, c.ElectionMs = tick, election
	c.QuotaBackendBytes = quotaBytes
	// The log of etcd holds everything that is durable; its database may follow later.
	c.BackendBatchInterval = backendBatch
	// What goes wrong is returned to who asked; etcd's log repeats it at length.
	c.UnsafeNoFsync = cfg.UnsafeNoFsync
	c.LogLevel, c.LogOutputs = "panic", []string{"stderr"}
	e, err := embed.StartEtcd(c)
	if err != nil {
		return nil, fmt.Errorf("start store member %s: %w", cfg.Node, err)
	}
	if !cfg.UnsafeNoFsync {
		if err := syncDirs(cfg.Dir); err != nil {
			e.Close()
			return nil, fmt.Errorf("start store member %s: %w", cfg.Node, err)
		}
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

// syncDirs makes the names of a member's files durable. etcd syncs its files, but
// of the directories that it creates only the one that holds its log: on a file
// system that keeps a name only once its directory was synced, a loss of power
// would leave no member, and the node would begin with an empty one.
func syncDirs(dir string) error {
	member := filepath.Join(dir, "member")
	for _, name := range []string{filepath.Dir(dir), dir, member, filepath.Join(member, "wal"), filepath.Join(member, "snap")} {
		d, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return fmt.Errorf("sync directory %s: %w", name, err)
		}
	}
	return nil
}

// Close stops the member.
func (s *Store) Close() {
	s.client.Close()
	s.etcd.Close()
}

// Failed delivers the error with which the member stopped.
func (s *Store) Failed() <-chan error { return s.etcd.Err() }

// Status tells of the cluster's leader and of this member's database file.
func (s *Store) Status() journal.Status {
	b := s.etcd.Server.Backend()
	leader := s.leader()
	return journal.Status{Up: leader != "", Leader: leader, Size: b.Size(), Used: b.SizeInUse()}
}

func (s *Store) leader() string {
	id := s.etcd.Server.Leader()
	for _, m := range s.etcd.Server.Cluster().Members() {
		if m.ID == id {
			return m.Name
		}
	}
	return ""
}

// Maintain compacts the store and defragments this member's file, each when
// enough has gathered.
func (s *Store) Maintain(ctx context.Context) error {
	return errors.Join(s.compact(ctx), s.defragment())
}

// compact forgets old revisions of the store's keys once enough have gathered.
// One member does it for all: the leader. etcd's own compaction runs every five
// minutes, in which groups at full rate would fill the quota.
func (s *Store) compact(ctx context.Context) error {
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

// defragment gives unused space of this member's database file back if more
// than half of a large file is unused. The member does not answer meanwhile,
// so the leader leaves it to a time when it is none.
func (s *Store) defragment() error {
	b := s.etcd.Server.Backend()
	if b.Size() < defragmentFrom || b.SizeInUse() > b.Size()/2 || s.etcd.Server.Leader() == s.etcd.Server.MemberID() {
		return nil
	}
	if err := b.Defrag(); err != nil {
		return fmt.Errorf("defragment the store: %w", err)
	}
	return nil
}

// View reads all keys of owners and members in one linearizable range.
func (s *Store) View(ctx context.Context) (journal.View, error) {
	resp, err := s.client.Get(ctx, clusterPrefix, clientv3.WithPrefix())
	if err != nil {
		return journal.View{}, fmt.Errorf("read owners: %w", err)
	}
	v := journal.View{Owners: map[int]journal.Owner{}, Members: map[string]journal.Member{}}
	for _, kv := range resp.Kvs {
		if name, ok := strings.CutPrefix(string(kv.Key), memberPrefix); ok {
			var m member
			if err := json.Unmarshal(kv.Value, &m); err != nil {
				return journal.View{}, fmt.Errorf("member %s: %w", name, err)
			}
			v.Members[name] = journal.Member{Addr: m.Addr, Revision: kv.ModRevision}
			continue
		}
		shard, err := strconv.Atoi(strings.TrimPrefix(string(kv.Key), ownerPrefix))
		if err != nil {
			return journal.View{}, fmt.Errorf("owner key %q: %w", kv.Key, err)
		}
		var o owner
		if err := json.Unmarshal(kv.Value, &o); err != nil {
			return journal.View{}, fmt.Errorf("owner of shard %d: %w", shard, err)
		}
		v.Owners[shard] = journal.Owner{Node: o.Node, Released: o.Released, Next: o.Next, Revision: kv.ModRevision}
	}
	return v, nil
}

// Beat writes the node's member key.
func (s *Store) Beat(ctx context.Context, node, addr string) error {
	if _, err := s.client.Put(ctx, memberPrefix+node, mustJSON(member{Addr: addr})); err != nil {
		return fmt.Errorf("beat of %s: %w", node, err)
	}
	return nil
}

// WatchOwners follows the owner keys.
func (s *Store) WatchOwners(ctx context.Context, changed chan<- struct{}) {
	for range s.client.Watch(ctx, ownerPrefix, clientv3.WithPrefix()) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// Claim writes the owner key if it is still at revision seen.
func (s *Store) Claim(ctx context.Context, shard int, seen int64, node string) (epoch int64, won bool, err error) {
	key := ownerKey(shard)
	resp, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", seen)).
		Then(clientv3.OpPut(key, mustJSON(owner{Node: node}))).Commit()
	if err != nil {
		return 0, false, fmt.Errorf("claim shard %d: %w", shard, err)
	}
	return resp.Header.Revision, resp.Succeeded, nil
}

// Release writes the owner key if it is still at revision epoch.
func (s *Store) Release(ctx context.Context, shard int, epoch int64, node, next string) error {
	_, err := s.client.Txn(ctx).If(holds(shard, epoch)).
		Then(clientv3.OpPut(ownerKey(shard), mustJSON(owner{Node: node, Released: true, Next: next}))).Commit()
	if err != nil {
		return fmt.Errorf("release shard %d: %w", shard, err)
	}
	return nil
}

// Append puts as many groups into one transaction as it takes: if one of them
// is refused none is written, so the others are tried again without it.
func (s *Store) Append(ctx context.Context, groups []journal.Append, fenced bool) []journal.Fate {
	fates := make([]journal.Fate, len(groups))
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
			if fates[i] == journal.Undecided {
				rest = append(rest, i)
			}
		}
		open = rest
	}
	return fates
}

// appendOnce tries one transaction and returns false if nothing was learned.
func (s *Store) appendOnce(ctx context.Context, groups []journal.Append, batch []int, fates []journal.Fate, fenced bool) bool {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	changed := s.etcd.Server.LeaderChangedNotify()
	go func() {
		// A proposal that was on its way to a leader that died is not answered.
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	var conds []clientv3.Cmp
	var puts []clientv3.Op
	for _, i := range batch {
		g := groups[i]
		key := entryKey(g.Shard, g.Seq)
		if fenced {
			conds = append(conds, holds(g.Shard, g.Epoch), clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
		}
		puts = append(puts, clientv3.OpPut(key, string(g.Data)))
	}
	resp, err := s.client.Txn(ctx).If(conds...).Then(puts...).Commit()
	if err != nil {
		return false
	}
	if !resp.Succeeded {
		return s.whyRefused(ctx, groups, batch, fates)
	}
	for _, i := range batch {
		fates[i] = journal.Durable
	}
	return true
}

// whyRefused finds out which groups of a refused transaction are to blame, or
// returns false. They are looked at now and not in the transaction, every one of
// which would have to carry the question: an epoch that is over stays over, and
// within an epoch only its owner writes and cuts.
func (s *Store) whyRefused(ctx context.Context, groups []journal.Append, batch []int, fates []journal.Fate) bool {
	var gets []clientv3.Op
	for _, i := range batch {
		g := groups[i]
		gets = append(gets, clientv3.OpGet(ownerKey(g.Shard), clientv3.WithKeysOnly()), clientv3.OpGet(entryKey(g.Shard, g.Seq)))
	}
	resp, err := s.client.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return false
	}
	for j, i := range batch {
		owner := resp.Responses[2*j].GetResponseRange().Kvs
		entry := resp.Responses[2*j+1].GetResponseRange().Kvs
		switch {
		case len(entry) == 1 && string(entry[0].Value) == string(groups[i].Data):
			fates[i] = journal.Durable // by an earlier attempt
		case len(entry) == 1, len(owner) != 1, owner[0].ModRevision != groups[i].Epoch:
			fates[i] = journal.Deposed
		}
	}
	return true
}

// Tail reads head and entries in one transaction.
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

// Store writes as many checkpoints at a time as a transaction takes.
func (s *Store) Store(ctx context.Context, shard int, epoch int64, checkpoints []journal.Checkpoint) error {
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

// Cut writes the head and removes the entries in one transaction.
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
		err = journal.ErrDeposed
	}
	return err
}

// Load reads the key of one checkpoint.
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
	// The type is escaped, so that a slash in it does not make it another type's key.
	return fmt.Sprintf(checkpointsPrefix+"%04d/%s/%s", shard, url.PathEscape(typ), key)
}

func mustJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only types of this package come here
	}
	return string(data)
}
