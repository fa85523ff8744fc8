package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/entity"
	"statequake/runtime/journal"
	"statequake/runtime/journal/memory"
)

// counter is the counter of the sample services.
type counter struct {
	entity.Witness
	Value int64 `json:"value"`
}

type addition struct {
	N int64 `json:"n"`
}

var counterType = entity.EventSourced[counter]{
	Name: "counter",
	Commands: map[string]entity.Handler[counter]{
		"add": entity.Decide(func(c *entity.Context, s *counter, a addition) (addition, error) {
			c.Emit("added", a)
			return addition{s.Value + a.N}, nil
		}),
	},
	Events: map[string]entity.Fold[counter]{"added": entity.On(func(s *counter, a addition) { s.Value += a.N })},
}.Type()

// plain is an entity that costs next to nothing: what remains is the runtime.
type plain struct{ N int64 }

var (
	plainEvent  = entity.Event{Name: "added", Data: json.RawMessage(`{"n":1}`)}
	plainResult = any(json.RawMessage(`{"n":1}`))
	plainType   = entity.Type{Name: "plain", New: func() entity.Entity { return &plain{} }}
	addOne      = json.RawMessage(`{"n":1}`)
)

func (p *plain) Handle(entity.Command) (entity.Decision, error) {
	return entity.Decision{Event: &plainEvent, Result: plainResult}, nil
}
func (p *plain) Apply(entity.Event)       { p.N++ }
func (p *plain) Applied() (int64, string) { return p.N, "0123456789abcdef" }

// discard is a store that takes groups and checkpoints at once and keeps none.
type discard struct{ *owners }

type owners = memory.Store // the rest of it

func newDiscard() discard { return discard{memory.New().Open(memory.Faults{})} }

func (discard) Append(_ context.Context, groups []journal.Append, _ bool) []journal.Fate {
	fates := make([]journal.Fate, len(groups))
	for i := range fates {
		fates[i] = journal.Durable
	}
	return fates
}

func (discard) Store(context.Context, int, int64, []journal.Checkpoint) error { return nil }
func (discard) Cut(context.Context, int, int64, int64, []byte) error          { return nil }

// benchNode is a node on store. It listens if it has other members, which would
// take it for gone otherwise.
func benchNode(b *testing.B, cfg Config, store journal.Store) *Node {
	b.Helper()
	if cfg.Name == "" {
		cfg.Name, cfg.Members = "n1", map[string]Peer{"n1": {API: "127.0.0.1:1"}}
	}
	if cfg.Shards == 0 {
		cfg.Shards = 16
	}
	cfg.Types = []entity.Type{counterType, plainType}
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	n, err := newNode(cfg)
	if err != nil {
		b.Fatal(err)
	}
	if len(cfg.Members) > 1 {
		l, err := net.Listen("tcp", cfg.Members[cfg.Name].API)
		if err != nil {
			b.Fatal(err)
		}
		server := n.Server()
		go server.Serve(l)
		b.Cleanup(func() { server.Close() })
	}
	n.start(store)
	b.Cleanup(n.Close)
	return n
}

// awaitServed waits until every shard is served by one of the nodes.
func awaitServed(b *testing.B, nodes ...*Node) {
	b.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		open := slices.DeleteFunc(slices.Clone(nodes[0].shards), func(s *shard) bool {
			return slices.ContainsFunc(nodes, func(n *Node) bool { return n.serves(n.shards[s.id]) })
		})
		if len(open) == 0 {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("waited 30 s in vain until %d shards are served", len(open))
		}
	}
}

// each calls f for the numbers below n, by so many goroutines.
func each(n, workers int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	wg.Wait()
}

// add sends one command; b fails if it is not executed.
func (n *Node) add(b *testing.B, op string, id core.ID) {
	if a := n.execute(context.Background(), core.Command{Op: op, ID: id, Name: "add", Args: addOne}, false); a.status != 200 {
		b.Errorf("add to %s: %d %+v", id.Key, a.status, a.body)
	}
}

func idsOf(typ string, n int) []core.ID {
	ids := make([]core.ID, n)
	for i := range ids {
		ids[i] = core.ID{Type: typ, Key: "key-" + strconv.Itoa(i)}
	}
	return ids
}

// quantile sorts d and returns the value that q of them do not exceed, in ms.
func quantile(d []time.Duration, q float64) float64 {
	slices.Sort(d)
	return float64(d[int(q*float64(len(d)-1))]) / 1e6
}

// cpu is the CPU time of this process so far.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCommand is one command from 4096 clients in this process: by its
// handler alone, and by a node on a store that costs nothing. cpu-ns/op is the
// CPU time of all threads; ns/op is bounded by the pause between two flushes if
// replies wait for them.
func BenchmarkCommand(b *testing.B) {
	const clients = 4096
	ops := make([]string, 1<<17)
	for i := range ops {
		ops[i] = "client-1/" + strconv.Itoa(i)
	}
	measure := func(b *testing.B, do func(i int)) {
		var next atomic.Int64
		runtime.GC()
		b.ReportAllocs()
		b.SetParallelism(clients / runtime.GOMAXPROCS(0))
		b.ResetTimer()
		began := cpu(b)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				do(int(next.Add(1)))
			}
		})
		b.ReportMetric(float64(cpu(b)-began)/float64(b.N), "cpu-ns/op")
	}
	for _, typ := range []entity.Type{plainType, counterType} {
		ids := idsOf(typ.Name, 10_000) // few answers and witnesses each
		b.Run(typ.Name+"/handler", func(b *testing.B) {
			type hosted struct {
				sync.Mutex
				entity.Entity
			}
			all := make([]hosted, len(ids))
			for i := range all {
				all[i].Entity = typ.New()
			}
			measure(b, func(i int) {
				h := &all[i%len(all)]
				h.Lock()
				defer h.Unlock()
				op := ops[i%len(ops)]
				d, err := h.Handle(entity.Command{Op: op, Key: ids[i%len(ids)].Key, Name: "add", Args: addOne})
				if err != nil {
					b.Error(err)
					return
				}
				e := *d.Event
				e.Op = op
				h.Apply(e)
				h.Applied()
			})
		})
		for _, ack := range []string{"memory", "durable"} {
			b.Run(typ.Name+"/"+ack, func(b *testing.B) {
				n := benchNode(b, Config{Memory: ack == "memory", Window: time.Hour, MaxBytes: 1 << 40}, newDiscard())
				awaitServed(b, n)
				each(len(ids), 1024, func(i int) { n.add(b, "first", ids[i]) })
				measure(b, func(i int) { n.add(b, ops[i%len(ops)], ids[i%len(ids)]) })
			})
		}
	}
}

// BenchmarkActive is what 100,000 counters in memory take after three commands
// each: in all, estimated by the runtime, and as collected garbage leaves it.
func BenchmarkActive(b *testing.B) {
	const entities = 100_000
	ids := idsOf("counter", entities)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		n := benchNode(b, Config{}, newDiscard())
		awaitServed(b, n)
		before := heap()
		each(3*entities, 4096, func(i int) { n.add(b, "client-1/"+strconv.Itoa(i), ids[i%entities]) })
		took := heap() - before
		loaded, estimate := 0, int64(0)
		for _, s := range n.shards {
			s.mu.Lock()
			l, bytes := s.machine.Entities()
			s.mu.Unlock()
			loaded, estimate = loaded+l, estimate+bytes
		}
		if loaded != entities {
			b.Fatalf("%d entities in memory, want %d", loaded, entities)
		}
		b.ReportMetric(float64(took)/entities, "heap-B/entity")
		b.ReportMetric(float64(estimate)/entities, "estimated-B/entity")
		b.ReportMetric(float64(took)/1e6, "heap-MB")
	}
}

// BenchmarkCheckpointPause is the latency of commands to a node with 100,000
// counters in memory, while a checkpoint of some shard is under way and while
// none is. 64 clients rest a millisecond after each command, the store takes
// everything at once, and replies do not wait for it.
func BenchmarkCheckpointPause(b *testing.B) {
	const entities, clients = 100_000, 64
	ids := idsOf("counter", entities)
	n := benchNode(b, Config{Shards: 4, Memory: true, Window: time.Hour}, newDiscard())
	awaitServed(b, n)
	each(entities, 4096, func(i int) { n.add(b, "first", ids[i]) })

	var mu sync.Mutex
	var during, quiet []time.Duration
	var running, checkpoints atomic.Int64
	round := 0
	for b.Loop() {
		round++
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				for _, s := range n.shards {
					s.mu.Lock()
					due := s.machine.Backlog(s.head) >= checkpointFrom
					s.mu.Unlock()
					if due {
						running.Add(1)
						if err := n.checkpoint(s); err != nil {
							b.Error(err)
						}
						running.Add(-1)
						checkpoints.Add(1)
					}
				}
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
		each(50_000, clients, func(i int) {
			time.Sleep(time.Millisecond)
			was := running.Load()
			began := time.Now()
			n.add(b, fmt.Sprint(round, "/", i), ids[(i*7919)%entities])
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			if was+running.Load() > 0 {
				during = append(during, took)
			} else {
				quiet = append(quiet, took)
			}
		})
		close(stop)
		wg.Wait()
	}
	if len(during) == 0 || len(quiet) == 0 {
		b.Fatalf("%d commands during checkpoints, %d between them", len(during), len(quiet))
	}
	b.ReportMetric(quantile(during, 0.99), "p99-ms")
	b.ReportMetric(quantile(during, 1), "max-ms")
	b.ReportMetric(float64(len(during)), "commands")
	b.ReportMetric(quantile(quiet, 0.99), "quiet-p99-ms")
	b.ReportMetric(float64(checkpoints.Load()), "checkpoints")
}
