package core_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/entity"
)

// fixed is an entity that costs next to nothing: what remains is the core.
type fixed struct{ n int64 }

var (
	fixedEvent  = entity.Event{Name: "added", Data: json.RawMessage(`{"n":1}`)}
	fixedResult = any(json.RawMessage(`{"value":1}`))
)

func (f *fixed) Handle(entity.Command) (entity.Decision, error) {
	return entity.Decision{Event: &fixedEvent, Result: fixedResult}, nil
}
func (f *fixed) Apply(entity.Event)       { f.n++ }
func (f *fixed) Applied() (int64, string) { return f.n, "0123456789abcdef" }

// sum is the counter of the sample services.
type sum struct {
	entity.Witness
	Value int64 `json:"value"`
}

type addition struct {
	N int64 `json:"n"`
}

var sumType = entity.EventSourced[sum]{
	Name: "sum",
	Commands: map[string]entity.Handler[sum]{
		"add": entity.Decide(func(c *entity.Context, s *sum, a addition) (addition, error) {
			c.Emit("added", a)
			return addition{s.Value + a.N}, nil
		}),
	},
	Events: map[string]entity.Fold[sum]{"added": entity.On(func(s *sum, a addition) { s.Value += a.N })},
}

// BenchmarkSubmit is one command and its share of a group of 64, without I/O:
// by the core alone, and with the counter of the SDK.
func BenchmarkSubmit(b *testing.B) {
	types := map[string]entity.Type{
		"fixed": {Name: "fixed", New: func() entity.Entity { return &fixed{} }},
		"sum":   sumType.Type(),
	}
	ops := make([]string, 1<<17) // no entity remembers all of its share
	for i := range ops {
		ops[i] = "client-1/" + strconv.Itoa(i)
	}
	ids := map[string][]core.ID{}
	for typ := range types {
		for i := range 64 {
			ids[typ] = append(ids[typ], core.ID{Type: typ, Key: "key-" + strconv.Itoa(i)})
		}
	}
	for _, typ := range []string{"fixed", "sum"} {
		b.Run(typ, func(b *testing.B) {
			s := core.New(core.Config{Types: types, Lease: time.Hour}, 1, core.Head{}, nil, 0)
			for _, id := range ids[typ] {
				s.Submit(0, core.Command{Ticket: 0, Op: "first", ID: id, Name: "add"})
				if _, err := s.Loaded(0, id, nil); err != nil {
					b.Fatal(err)
				}
			}
			args := json.RawMessage(`{"n":1}`)
			ticket := any(make(chan int))
			replies := 0
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				s.Submit(0, core.Command{Ticket: ticket, Op: ops[i%len(ops)], ID: ids[typ][i%64], Name: "add", Args: args})
				if i%64 == 63 {
					if _, ok := s.Gather(); ok {
						replies += len(s.Durable().Replies)
					}
				}
			}
			if replies < b.N-64 {
				b.Fatalf("%d replies to %d commands", replies, b.N)
			}
		})
	}
}

// BenchmarkGroup encodes and decodes a group of 64 records.
func BenchmarkGroup(b *testing.B) {
	g := core.Group{Seq: 7, Epoch: 9}
	for i := range 64 {
		g.Records = append(g.Records, core.Record{
			Pos: int64(i + 1), ID: core.ID{Type: "counter", Key: "key-" + strconv.Itoa(i)}, Op: "client-1/" + strconv.Itoa(i),
			Event: &fixedEvent, Result: json.RawMessage(`{"value":1}`), Version: int64(i), Digest: "0123456789abcdef",
		})
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := core.EncodeGroup(g); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		data, err := core.EncodeGroup(g)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for range b.N {
			if _, err := core.DecodeGroup(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPause is how long a checkpoint stops the commands of a shard: the
// encoding of one entity. p99-ms is the 99th percentile of it.
func BenchmarkPause(b *testing.B) {
	for _, ops := range []int{1000, 10_000, 60_000} {
		b.Run(fmt.Sprintf("ops=%d", ops), func(b *testing.B) {
			s := core.New(core.Config{Types: map[string]entity.Type{"sum": sumType.Type()}, Lease: time.Hour}, 1, core.Head{}, nil, 0)
			id := core.ID{Type: "sum", Key: "k"}
			for i := range ops {
				s.Submit(0, core.Command{Op: "client-1/" + strconv.Itoa(i), ID: id, Name: "add", Args: json.RawMessage(`{"n":1}`)})
				if i == 0 {
					if _, err := s.Loaded(0, id, nil); err != nil {
						b.Fatal(err)
					}
				}
				for i%64 == 63 {
					if _, ok := s.Gather(); !ok {
						break
					}
					s.Durable()
				}
			}
			var pauses []time.Duration
			size := 0
			b.ResetTimer()
			for range b.N {
				start := time.Now()
				c, _, _, err := s.Snapshot(id)
				pauses = append(pauses, time.Since(start))
				if err != nil {
					b.Fatal(err)
				}
				size = len(c.State)
			}
			slices.Sort(pauses)
			b.ReportMetric(pauses[len(pauses)*99/100].Seconds()*1000, "p99-ms")
			b.ReportMetric(float64(size), "state-bytes")
		})
	}
}
