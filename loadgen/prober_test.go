package loadgen

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/history/model"
)

func prober(t *testing.T, rec *recorder, nodes ...*fakeNode) *Prober {
	t.Helper()
	p, err := NewProber(ProberConfig{
		Endpoints: endpoints(nodes...), Codec: testCodec{}, Keys: []EntityKey{{"counter", "{probe-0}"}, {"counter", "{probe-1}"}},
		Every: 10 * time.Millisecond, Timeout: 400 * time.Millisecond, Tag: "7f3a", Now: clock(), Record: rec.record,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProber(t *testing.T) {
	for _, c := range []struct {
		name    string
		answer  answerFunc
		outcome history.Outcome
	}{{"good", okAnswer, history.OK}, {"resets", resetAnswer, history.Info}, {"silent", silentAnswer, history.Info}, {"down", nil, history.Fail}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rec := &recorder{}
			good, other := startNode(t, "n1", okAnswer), startNode(t, "n2", c.answer)
			if c.answer == nil {
				other.down()
			}
			p := prober(t, rec, good, other)
			ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
			defer cancel()
			r, err := p.Run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if n := r.Scheduled[history.Probe]; n != int64(len(rec.ops)) || n < 80 || n > 200 {
				t.Fatalf("%d probes scheduled in about 500 ms, %d recorded", n, len(rec.ops))
			}
			for _, op := range rec.ops {
				want := history.OK
				if op.Via == "n2" {
					want = c.outcome
				}
				if op.Outcome == history.Unsent {
					continue // due when it was stopped
				}
				if op.Outcome != want || op.Attempts != 1 {
					t.Errorf("want %s in one attempt, got %+v", want, op)
				}
				if op.Phase != history.Probe || op.ID != fmt.Sprintf("7f3a-p%d", op.N) || op.Name != "add" || string(op.Args) != `{"n":1}` {
					t.Fatalf("probe %+v", op)
				}
				if want := time.Duration(op.N) * 5 * time.Millisecond; op.Scheduled != want {
					t.Fatalf("probe %d was due at %v, want %v", op.N, op.Scheduled, want)
				}
				if want := fmt.Sprintf("{probe-%d}.1", op.N%2); op.Key != want {
					t.Fatalf("probe %d on %s, want %s", op.N, op.Key, want)
				}
				// Every node sees every key, in turn.
				if want := []string{"n1", "n2", "n2", "n1"}[op.N%4]; op.Via != want {
					t.Fatalf("probe %d via %s, want %s", op.N, op.Via, want)
				}
			}
		})
	}
}

func TestProberGenerations(t *testing.T) {
	rec := &recorder{}
	p := prober(t, rec, startNode(t, "n1", okAnswer))
	writes := map[EntityKey]int{}
	var order []EntityKey
	for n := range int64(2*(2*512) + 1) {
		op := p.flight(n, 0).op
		k := EntityKey{op.Entity, op.Key}
		if writes[k] == 0 {
			order = append(order, k)
		}
		writes[k]++
		if got := p.Touched(); (n < 3 || n > 1000) && !reflect.DeepEqual(got, order) {
			t.Fatalf("after probe %d: touched %v, want %v", n, got, order)
		}
	}
	want := map[EntityKey]int{
		{"counter", "{probe-0}.1"}: 512, {"counter", "{probe-1}.1"}: 512,
		{"counter", "{probe-0}.2"}: 512, {"counter", "{probe-1}.2"}: 512, {"counter", "{probe-0}.3"}: 1,
	}
	if !reflect.DeepEqual(writes, want) {
		t.Errorf("writes %v, want %v", writes, want)
	}
}

// A probe may cause a second write to its key: generations are shorter then, and
// none takes more than 512 writes.
func TestProberCountsDerivedWrites(t *testing.T) {
	p, err := NewProber(ProberConfig{
		Endpoints: []Endpoint{{Node: "n1", Addr: "127.0.0.1:1"}}, Codec: testCodec{}, Timeout: time.Second, Tag: "a", Now: clock(), Record: func(*history.Op) {},
		Keys: []EntityKey{{"counter", "c"}, {"approval", "a"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	writes := map[EntityKey]int{}
	for n := range int64(2*256 + 1) {
		op := p.flight(n, 0).op
		writes[EntityKey{op.Entity, op.Key}] += 1 + len(model.Derived(op.Entity, op.Key, op.Name, op.Args, op.ID))
	}
	want := map[EntityKey]int{{"counter", "c.1"}: 256, {"approval", "a.1"}: 512, {"counter", "c.2"}: 1}
	if !reflect.DeepEqual(writes, want) {
		t.Errorf("writes %v, want %v", writes, want)
	}
	if got := p.Touched(); !reflect.DeepEqual(got, []EntityKey{{"counter", "c.1"}, {"approval", "a.1"}, {"counter", "c.2"}}) {
		t.Errorf("touched %v", got)
	}
}

func TestProberErrors(t *testing.T) {
	for want, c := range map[string]ProberConfig{
		"keys: none given":      {},
		"every: 1µs is below":   {Keys: []EntityKey{{"counter", "a"}}, Every: time.Microsecond},
		"max conns: -1":         {Keys: []EntityKey{{"counter", "a"}}, MaxConns: -1},
		"endpoints: none given": {Endpoints: []Endpoint{}},
	} {
		if c.Endpoints == nil {
			c.Endpoints = []Endpoint{{Node: "n1", Addr: "127.0.0.1:1"}}
		}
		c.Codec, c.Timeout, c.Tag, c.Now, c.Record = testCodec{}, time.Second, "a", clock(), func(*history.Op) {}
		if _, err := NewProber(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
