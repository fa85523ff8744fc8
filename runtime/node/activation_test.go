package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/entity"
	"statequake/runtime/journal"
)

// keysOf are n keys of counters in each of so many shards.
func keysOf(shards, n int) [][]core.ID {
	ids := make([][]core.ID, shards)
	for i, full := 0, 0; full < shards; i++ {
		id := core.ID{Type: "counter", Key: "key-" + strconv.Itoa(i)}
		s := ShardOf(id.Type, id.Key, shards)
		if len(ids[s]) == n {
			continue
		}
		if ids[s] = append(ids[s], id); len(ids[s]) == n {
			full++
		}
	}
	return ids
}

// fill claims a shard for owner and leaves counters in the store alone: as
// checkpoints after so many commands each, and so many more in the journal.
func fill(b *testing.B, store journal.Store, owner string, shard int, ids []core.ID, stored, tail int) {
	b.Helper()
	ctx := b.Context()
	epoch, won, err := store.Claim(ctx, shard, 0, owner)
	if err != nil || !won {
		b.Fatalf("claim shard %d: won %t, %v", shard, won, err)
	}
	m := core.New(core.Config{Types: map[string]entity.Type{"counter": counterType}, Lease: time.Hour}, epoch, core.Head{}, nil, 0)
	submit := func(from, n int) {
		for i := from; i < from+n; i++ {
			for _, id := range ids {
				m.Submit(0, core.Command{Op: "client-1/" + strconv.Itoa(i), ID: id, Name: "add", Args: addOne})
				if _, err := m.Loaded(0, id, nil); err != nil {
					b.Fatal(err)
				}
			}
		}
		for g, ok := m.Gather(); ok; g, ok = m.Gather() {
			data, err := core.EncodeGroup(g)
			if err != nil {
				b.Fatal(err)
			}
			if f := store.Append(ctx, []journal.Append{{Shard: shard, Epoch: epoch, Seq: g.Seq, Data: data}}, true); f[0] != journal.Durable {
				b.Fatalf("group %d of shard %d: fate %d", g.Seq, shard, f[0])
			}
			m.Durable()
		}
	}
	submit(0, stored)
	head, _ := m.Plan()
	checkpoints := make([]journal.Checkpoint, len(ids))
	for i, id := range ids {
		c, ok, _, err := m.Snapshot(id)
		if err != nil || !ok {
			b.Fatalf("snapshot of %s: %t, %v", id.Key, ok, err)
		}
		data, err := json.Marshal(c)
		if err != nil {
			b.Fatal(err)
		}
		checkpoints[i] = journal.Checkpoint{Type: id.Type, Key: id.Key, Data: data}
	}
	if err := store.Store(ctx, shard, epoch, checkpoints); err != nil {
		b.Fatal(err)
	}
	data, err := json.Marshal(head)
	if err != nil {
		b.Fatal(err)
	}
	if err := store.Cut(ctx, shard, epoch, head.Seq, data); err != nil {
		b.Fatal(err)
	}
	submit(stored, tail)
}

// freePort is a loopback address on which nobody listens.
func freePort(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// etcdCluster opens a store of so many embedded members, n1 and so on.
func etcdCluster(b *testing.B, size int) (map[string]Peer, map[string]journal.Store) {
	b.Helper()
	dir, members := b.TempDir(), map[string]Peer{}
	for i := range size {
		members[fmt.Sprint("n", i+1)] = Peer{API: freePort(b), Store: freePort(b)}
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	stores := map[string]journal.Store{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name := range members {
		wg.Go(func() {
			s, err := openStore(ctx, Config{Name: name, Dir: filepath.Join(dir, name), Members: members})
			if err != nil {
				b.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			stores[name] = s
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return members, stores
}

// BenchmarkActivation is the latency of the first command to a counter that is
// not in memory, one at a time, as p50-ms and p99-ms, and of a second one to
// the same as warm-p50-ms and warm-p99-ms. The counter's checkpoint holds 100
// commands. After a takeover another 100 are in the journal's tail; one that left
// memory has all of them in its checkpoint.
func BenchmarkActivation(b *testing.B) {
	const shards, perShard = 32, 19 // tails below what starts a checkpoint
	var ids []core.ID               // in turn of each shard
	for i := range perShard {
		for _, of := range keysOf(shards, perShard) {
			ids = append(ids, of[i])
		}
	}
	round := 0
	measure := func(b *testing.B, nodes ...*Node) (cold, warm []time.Duration) {
		round++
		send := func(op string, id core.ID) time.Duration {
			shard := ShardOf(id.Type, id.Key, shards)
			i := slices.IndexFunc(nodes, func(n *Node) bool { return n.serves(n.shards[shard]) })
			if i < 0 {
				b.Fatalf("nobody serves shard %d", shard)
			}
			began := time.Now()
			nodes[i].add(b, op, id)
			return time.Since(began)
		}
		for i, id := range ids {
			cold = append(cold, send(fmt.Sprint("cold/", round, "/", i), id))
			warm = append(warm, send(fmt.Sprint("warm/", round, "/", i), id))
		}
		return cold, warm
	}
	report := func(b *testing.B, cold, warm []time.Duration) {
		b.ReportMetric(quantile(cold, 0.5), "p50-ms")
		b.ReportMetric(quantile(cold, 0.99), "p99-ms")
		b.ReportMetric(quantile(warm, 0.5), "warm-p50-ms")
		b.ReportMetric(quantile(warm, 0.99), "warm-p99-ms")
		b.ReportMetric(float64(len(cold)), "commands")
	}
	for _, size := range []int{1, 3} {
		b.Run(fmt.Sprintf("takeover/members=%d", size), func(b *testing.B) {
			var cold, warm []time.Duration
			for b.Loop() {
				members, stores := etcdCluster(b, size)
				for shard, ids := range keysOf(shards, perShard) {
					fill(b, stores["n1"], "n1", shard, ids, 100, 100)
				}
				if size > 1 { // n1 is gone before it ever ran
					stores["n1"].Close()
					delete(stores, "n1")
				}
				var nodes []*Node
				for name, store := range stores {
					nodes = append(nodes, benchNode(b, Config{Name: name, Members: members, Shards: shards}, store))
				}
				awaitServed(b, nodes...)
				c, w := measure(b, nodes...)
				cold, warm = append(cold, c...), append(warm, w...)
			}
			report(b, cold, warm)
		})
	}
	b.Run("passivated", func(b *testing.B) {
		members, stores := etcdCluster(b, 1)
		for shard, ids := range keysOf(shards, perShard) {
			fill(b, stores["n1"], "n1", shard, ids, 100, 100)
		}
		n := benchNode(b, Config{Name: "n1", Members: members, Shards: shards, MaxEntities: 8 * shards}, stores["n1"])
		awaitServed(b, n)
		// Twice the budget at most is in memory, and the others come first.
		each(len(ids), 1, func(i int) { n.add(b, "first", ids[i]) })
		var cold, warm []time.Duration
		b.ResetTimer()
		for b.Loop() {
			c, w := measure(b, n)
			cold, warm = append(cold, c...), append(warm, w...)
		}
		report(b, cold, warm)
	})
}

// BenchmarkTakeover is what a successor does for a shard with 1,000 records in
// its journal's tail, until its first command is decided on: claim it, read and
// fold the tail, load one entity. Medians over the shards of a store with 1,000
// checkpoints and of one with a million, taken in turn, and their ratio.
func BenchmarkTakeover(b *testing.B) {
	const shards, rounds = 8, 5
	sizes := []int{1000, 1_000_000}
	stores := make([]journal.Store, len(sizes))
	ids := keysOf(shards, 100)
	for i, size := range sizes {
		_, opened := etcdCluster(b, 1)
		stores[i] = opened["n1"]
		defer stores[i].Close()
		for shard := range shards {
			fill(b, stores[i], "n1", shard, ids[shard], 10, 10)
			idle(b, stores[i], shard, size/shards-len(ids[shard]))
		}
	}
	types := map[string]entity.Type{"counter": counterType}
	n := &Node{}
	took := make([][]time.Duration, len(sizes))
	for b.Loop() {
		runtime.GC() // what the one store left must not be paid for by the other
		for round := range rounds * shards {
			shard := round % shards
			for i, store := range stores {
				view, err := store.View(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				n.store = store
				began := time.Now()
				epoch, won, err := store.Claim(b.Context(), shard, view.Owners[shard].Revision, "n2")
				if err != nil || !won {
					b.Fatalf("claim shard %d: won %t, %v", shard, won, err)
				}
				head, tail, err := n.readTail(b.Context(), shard)
				if err != nil {
					b.Fatal(err)
				}
				m := core.New(core.Config{Types: types, Lease: time.Hour}, epoch, head, tail, 0)
				id := ids[shard][round%len(ids[shard])]
				m.Submit(0, core.Command{Op: "after", ID: id, Name: "add", Args: addOne})
				data, err := store.Load(b.Context(), shard, id.Type, id.Key)
				if err != nil {
					b.Fatal(err)
				}
				var c core.Checkpoint
				if err := json.Unmarshal(data, &c); err != nil {
					b.Fatal(err)
				}
				if _, err := m.Loaded(0, id, &c); err != nil {
					b.Fatal(err)
				}
				took[i] = append(took[i], time.Since(began))
				if g, ok := m.Gather(); !ok || g.Records[0].Version != 21 {
					b.Fatalf("%s was decided on as %+v, want version 21", id.Key, g.Records)
				}
			}
		}
	}
	small, large := quantile(took[0], 0.5), quantile(took[1], 0.5)
	b.ReportMetric(small, "p50-ms-1k")
	b.ReportMetric(quantile(took[0], 0.9), "p90-ms-1k")
	b.ReportMetric(large, "p50-ms-1M")
	b.ReportMetric(quantile(took[1], 0.9), "p90-ms-1M")
	b.ReportMetric(large/small, "ratio")
	b.ReportMetric(float64(len(took[0])), "takeovers")
}

// idle stores n checkpoints of entities that nobody addresses.
func idle(b *testing.B, store journal.Store, shard, n int) {
	b.Helper()
	view, err := store.View(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	const batch = 60 // one transaction of etcd
	each((n+batch-1)/batch, 64, func(i int) {
		var checkpoints []journal.Checkpoint
		for j := i * batch; j < min(n, (i+1)*batch); j++ {
			c := core.Checkpoint{ID: core.ID{Type: "counter", Key: "idle-" + strconv.Itoa(j)}, Pos: 1, State: json.RawMessage(`{"version":1,"state":{"value":1}}`)}
			data, err := json.Marshal(c)
			if err != nil {
				b.Error(err)
				return
			}
			checkpoints = append(checkpoints, journal.Checkpoint{Type: c.ID.Type, Key: c.ID.Key, Data: data})
		}
		if err := store.Store(b.Context(), shard, view.Owners[shard].Revision, checkpoints); err != nil {
			b.Error(err)
		}
	})
}
