package loadgen

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"statequake/history"
	"statequake/history/model"
)

func newTestWorkload(t *testing.T, c WorkloadConfig) *Workload {
	t.Helper()
	w, err := NewWorkload(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestSameSeedSameOps(t *testing.T) {
	for _, name := range WorkloadNames() {
		c := WorkloadConfig{Name: name, Keys: 100, Zipf: 0.99, Seed: 42}
		a, b := newTestWorkload(t, c), newTestWorkload(t, c)
		c.Seed = 43
		other := newTestWorkload(t, c)
		same := 0
		for n := range int64(5000) {
			b.Hottest() // asking must not change anything
			x, y, z := a.Next(), b.Next(), other.Next()
			if !reflect.DeepEqual(x, y) || x.N != n {
				t.Fatalf("%s: op %d: %+v, then %+v", name, n, x, y)
			}
			if x.Key == z.Key && x.Name == z.Name && string(x.Args) == string(z.Args) {
				same++
			}
		}
		if same > 2500 {
			t.Errorf("%s: seeds 42 and 43 agree on %d of 5000 ops", name, same)
		}
	}
}

// Histories are replayed by seed: what a seed means must not change unnoticed.
func TestSeedMeansTheSameForEver(t *testing.T) {
	w := newTestWorkload(t, WorkloadConfig{Name: "shopping-cart", Keys: 1000, Zipf: 0.99, Seed: 42})
	var got []string
	for range 5 {
		op := w.Next()
		got = append(got, fmt.Sprintf("%s %s %s", op.Key, op.Name, op.Args))
	}
	want := []string{
		`cart-1.1 add {"item":"sku-17","quantity":1}`,
		`cart-862.1 add {"item":"sku-13","quantity":3}`,
		`cart-306.1 add {"item":"sku-0","quantity":1}`,
		`cart-1.1 add {"item":"sku-8","quantity":3}`,
		`cart-10.1 get `,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestPopularityAndMix(t *testing.T) {
	w := newTestWorkload(t, WorkloadConfig{Name: "shopping-cart", Keys: 100, Zipf: 0.99, Seed: 1})
	ranks, ops := make([]int, 100), map[string]int{}
	const total = 200_000
	for range total {
		op := w.Next()
		var rank, generation int
		if _, err := fmt.Sscanf(op.Key, "cart-%d.%d", &rank, &generation); err != nil {
			t.Fatalf("key %q: %v", op.Key, err)
		}
		ranks[rank-1]++
		ops[op.Name]++
	}
	if x, freedom := chiSquare(ranks, 0.99); x > critical(freedom) {
		t.Errorf("popularity of keys: chi-square %.1f with %d degrees of freedom", x, freedom)
	}
	for name, share := range map[string]float64{"add": 0.7, "remove": 0.1, "get": 0.2} {
		sigma := math.Sqrt(total * share * (1 - share))
		if got := float64(ops[name]); math.Abs(got-total*share) > 5*sigma {
			t.Errorf("%s: %v of %d, want %v +- %.0f", name, got, total, total*share, 5*sigma)
		}
	}
}

func TestMixWithZeroWeights(t *testing.T) {
	w := newTestWorkload(t, WorkloadConfig{Name: "shopping-cart", Keys: 3, Mix: map[string]int{"add": 0, "remove": 1}})
	for range 1000 {
		if op := w.Next(); op.Name != "remove" {
			t.Fatalf("op of weight 0: %+v", op)
		}
	}
}

func TestGenerations(t *testing.T) {
	w := newTestWorkload(t, WorkloadConfig{Name: "counter", Keys: 2, Seed: 3})
	writes := map[string]int{}
	used := map[string]bool{}
	var order []EntityKey
	for range 10_000 {
		_, hot := w.Hottest()
		op := w.Next()
		if strings.HasPrefix(op.Key, "counter-1.") && op.Key != hot {
			t.Fatalf("hottest was %s, next op on it is on %s", hot, op.Key)
		}
		if writes[op.Key] == generationWrites {
			t.Fatalf("%s on %s after %d writes", op.Name, op.Key, generationWrites)
		}
		if op.Name == "add" {
			writes[op.Key]++
		}
		if !used[op.Key] {
			used[op.Key] = true
			order = append(order, EntityKey{"counter", op.Key})
		}
	}
	if len(order) < 10 {
		t.Fatalf("only %d generations in 10,000 ops", len(order))
	}
	if got := w.Touched(); !reflect.DeepEqual(got, order) {
		t.Errorf("touched %v\nwant %v", got, order)
	}
	for rank := 1; rank <= 2; rank++ {
		for g := 1; used[fmt.Sprintf("counter-%d.%d", rank, g+1)]; g++ {
			if got := writes[fmt.Sprintf("counter-%d.%d", rank, g)]; got != generationWrites {
				t.Errorf("counter-%d.%d retired after %d writes", rank, g, got)
			}
		}
	}
}

func TestRegisterValuesAreUnique(t *testing.T) {
	w := newTestWorkload(t, WorkloadConfig{Name: "register", Keys: 2, Seed: 9})
	seen := map[string]bool{}
	for range 5000 {
		op := w.Next()
		if op.Name != "set" {
			continue
		}
		var args struct{ Value string }
		if err := json.Unmarshal(op.Args, &args); err != nil {
			t.Fatal(err)
		}
		if seen[args.Value] || args.Value != fmt.Sprintf("s9-n%d", op.N) {
			t.Fatalf("value %q of op %d", args.Value, op.N)
		}
		seen[args.Value] = true
	}
}

// A correct client sends only what the models accept.
func TestModelsAcceptEveryOp(t *testing.T) {
	for _, name := range WorkloadNames() {
		w := newTestWorkload(t, WorkloadConfig{Name: name, Keys: 20, Zipf: 1.2, Seed: 5})
		states := map[string]model.State{}
		accepted := 0
		for range 5000 {
			op := w.Next()
			s, ok := states[op.Key]
			if !ok {
				if s, ok = model.For(op.Entity); !ok {
					t.Fatalf("no model of %s", op.Entity)
				}
				states[op.Key] = s
			}
			_, wrote, err := s.Apply(op.Name, op.Args)
			if err != nil {
				t.Fatalf("%s: op %+v: %v", name, op, err)
			}
			if wrote {
				accepted++
			}
		}
		if accepted < 1000 {
			t.Errorf("%s: only %d of 5000 ops were accepted writes", name, accepted)
		}
	}
}

func TestWorkloadErrors(t *testing.T) {
	good := WorkloadConfig{Name: "shopping-cart", Keys: 10, Zipf: 1}
	for want, change := range map[string]func(*WorkloadConfig){
		`unknown name "cart"; have counter, register, shopping-cart`: func(c *WorkloadConfig) { c.Name = "cart" },
		"keys: 0 is outside 1 to 1000000":                            func(c *WorkloadConfig) { c.Keys = 0 },
		"keys: 1000001 is outside":                                   func(c *WorkloadConfig) { c.Keys = 1_000_001 },
		"zipf: exponent -1 is not":                                   func(c *WorkloadConfig) { c.Zipf = -1 },
		"zipf: exponent NaN is not":                                  func(c *WorkloadConfig) { c.Zipf = math.NaN() },
		"zipf: exponent +Inf is not":                                 func(c *WorkloadConfig) { c.Zipf = math.Inf(1) },
		`mix: unknown op "set"; have add, remove, get`:               func(c *WorkloadConfig) { c.Mix = map[string]int{"set": 1} },
		"mix: weight -1 of add":                                      func(c *WorkloadConfig) { c.Mix = map[string]int{"add": -1} },
		"mix: all weights are 0":                                     func(c *WorkloadConfig) { c.Mix = map[string]int{"add": 0} },
	} {
		c := good
		change(&c)
		if _, err := NewWorkload(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestDuplicateShare(t *testing.T) {
	hits := 0
	for n := range int64(100_000) {
		if chance(42, n) < 0.01 {
			hits++
		}
	}
	if hits < 850 || hits > 1150 { // 5 standard deviations
		t.Errorf("%d of 100,000 for a share of 1 %%", hits)
	}
}

func BenchmarkNext(b *testing.B) {
	w, err := NewWorkload(WorkloadConfig{Name: "shopping-cart", Keys: 1000, Zipf: 0.99, Seed: 42})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var op history.Op
	for b.Loop() {
		op = w.Next()
	}
	_ = op
}

// What Operations tells of args is what the operations and the probes carry.
func TestOperations(t *testing.T) {
	for _, name := range WorkloadNames() {
		entity, ops := Operations(name)
		fields := map[string][]string{}
		reads := false
		for _, op := range ops {
			fields[op.Name] = op.Fields
			reads = reads || op.Name == "get" && op.Fields == nil
		}
		if !reads {
			t.Errorf("%s: no get without args", name)
		}
		check := func(entityGot, op string, args []byte) {
			t.Helper()
			var got map[string]any
			if len(args) > 0 {
				if err := json.Unmarshal(args, &got); err != nil {
					t.Fatal(err)
				}
			}
			want, ok := fields[op]
			if keys := slices.Sorted(maps.Keys(got)); !ok || entityGot != entity || !slices.Equal(keys, slices.Sorted(slices.Values(want))) {
				t.Errorf("%s: %s %s carries %v, Operations says %v", name, entityGot, op, keys, want)
			}
		}
		w, err := NewWorkload(WorkloadConfig{Name: name, Keys: 10, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for range 500 {
			op := w.Next()
			check(op.Entity, op.Name, op.Args)
			seen[op.Name] = true
		}
		if len(seen) != len(ops) {
			t.Errorf("%s: of %d operations only %v were sent", name, len(ops), seen)
		}
		op, args := services[name].probe(3)
		check(entity, op, args)
	}
}
