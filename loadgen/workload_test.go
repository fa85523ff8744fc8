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
			if model.Action(op.Entity) {
				if _, err := model.Answers(op.Entity, op.Key, op.Name, op.Args); err != nil {
					t.Fatalf("%s: op %+v: %v", name, op, err)
				}
				accepted++
				continue
			}
			s, ok := states[op.Key]
			if !ok {
				if s, ok = model.For(op.Entity); !ok {
					t.Fatalf("no model of %s", op.Entity)
				}
				states[op.Key] = s
			}
			_, wrote, err := s.Apply(op.Name, op.Args, "")
			if err != nil {
				t.Fatalf("%s: op %+v: %v", name, op, err)
			}
			if wrote {
				accepted++
			}
		}
		least := 1000
		if strings.HasPrefix(name, "ycsb-") { // some hardly write
			least = 20 * ycsbRows
		}
		if accepted < least {
			t.Errorf("%s: only %d of 5000 ops were accepted writes", name, accepted)
		}
	}
}

func TestWorkloadErrors(t *testing.T) {
	good := WorkloadConfig{Name: "shopping-cart", Keys: 10, Zipf: 1}
	for want, change := range map[string]func(*WorkloadConfig){
		`unknown name "cart"; have approval, counter, device-twin, leaderboard, ledger, playback, register, shop, shopping-cart, ycsb-a, ycsb-b, ycsb-c, ycsb-d, ycsb-e, ycsb-f`: func(c *WorkloadConfig) { c.Name = "cart" },
		"workload ledger: keys: 1 is less than 2":      func(c *WorkloadConfig) { c.Name, c.Keys = "ledger", 1 },
		"keys: 0 is outside 1 to 1000000":              func(c *WorkloadConfig) { c.Keys = 0 },
		"keys: 1000001 is outside":                     func(c *WorkloadConfig) { c.Keys = 1_000_001 },
		"zipf: exponent -1 is not":                     func(c *WorkloadConfig) { c.Zipf = -1 },
		"zipf: exponent NaN is not":                    func(c *WorkloadConfig) { c.Zipf = math.NaN() },
		"zipf: exponent +Inf is not":                   func(c *WorkloadConfig) { c.Zipf = math.Inf(1) },
		`mix: unknown op "set"; have add, remove, get`: func(c *WorkloadConfig) { c.Mix = map[string]int{"set": 1} },
		"mix: weight -1 of add":                        func(c *WorkloadConfig) { c.Mix = map[string]int{"add": -1} },
		"mix: all weights are 0":                       func(c *WorkloadConfig) { c.Mix = map[string]int{"add": 0} },
		"mix: it has none":                             func(c *WorkloadConfig) { c.Name, c.Mix = "shop", map[string]int{"add": 1} },
		"hot: keys 0 and ops 0.9 must be":              func(c *WorkloadConfig) { c.Zipf, c.Hot = 0, HotSet{0, 0.9} },
		"hot: keys 0.1 and ops NaN must be":            func(c *WorkloadConfig) { c.Zipf, c.Hot = 0, HotSet{0.1, math.NaN()} },
		"hot: contradicts zipf 1":                      func(c *WorkloadConfig) { c.Hot = HotSet{0.1, 0.9} },
		"values: it writes none":                       func(c *WorkloadConfig) { c.Values = Sizes{1, 2} },
		"values: 2 to 1 bytes":                         func(c *WorkloadConfig) { c.Name, c.Values = "register", Sizes{2, 1} },
		"values: 1 to 1025 bytes":                      func(c *WorkloadConfig) { c.Name, c.Values = "ycsb-a", Sizes{1, 1025} },
		"sessions: -1 is outside 0 to 65536":           func(c *WorkloadConfig) { c.Sessions = -1 },
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

// What Operations tells of entities and args is what the operations and the
// probes carry.
func TestOperations(t *testing.T) {
	for _, name := range WorkloadNames() {
		entity, ops := Operations(name)
		want := map[string]Operation{}
		mix := map[string]int{}
		reads := false
		for _, op := range ops {
			want[op.Name] = op
			mix[op.Name] = 1
			reads = reads || op.Fields == nil
		}
		// Without a witness an audit needs a read that takes none.
		if !reads && entity != "table" || name == "register" && want["get"].Name == "" {
			t.Errorf("%s: no read without args: %v", name, ops)
		}
		check := func(entity, op string, args []byte) {
			t.Helper()
			var got map[string]any
			if len(args) > 0 {
				if err := json.Unmarshal(args, &got); err != nil {
					t.Fatal(err)
				}
			}
			told, ok := want[op]
			if keys := slices.Sorted(maps.Keys(got)); !ok || entity != told.Entity || !slices.Equal(keys, slices.Sorted(slices.Values(told.Fields))) {
				t.Errorf("%s: %s %s carries %v, Operations says %+v", name, entity, op, keys, told)
			}
		}
		if DefaultsOf(name).Journey {
			mix = nil
		}
		w, err := NewWorkload(WorkloadConfig{Name: name, Keys: 10, Seed: 1, Mix: mix})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for range 2000 {
			op := w.Next()
			check(op.Entity, op.Name, op.Args)
			seen[op.Name] = true
		}
		if len(seen) != len(ops) {
			t.Errorf("%s: of %d operations only %v were sent", name, len(ops), seen)
		}
		for n := range int64(100) {
			op, args := services[name].probe.make(n)
			check(entity, op, args)
			if !want[op].Probe {
				t.Errorf("%s: the prober sends %s, Operations does not say so", name, op)
			}
		}
	}
}

// TestLedger: transfers are between different accounts, whose generations count
// what transfers write there, and the accounts are what was touched.
func TestLedger(t *testing.T) {
	for _, keys := range []int{2, 5} {
		w := newTestWorkload(t, WorkloadConfig{Name: "ledger", Keys: keys, Zipf: 0.99, Seed: 3})
		writes, payees := map[string]int{}, map[string]int{}
		var order []EntityKey
		touch := func(key string, n int) {
			if _, ok := writes[key]; !ok {
				order = append(order, EntityKey{"account", key})
			}
			if writes[key] += n; writes[key] > generationWrites {
				t.Fatalf("%d keys: %s has %d writes", keys, key, writes[key])
			}
		}
		for range 20_000 {
			entity, hot := w.Hottest()
			op := w.Next()
			if strings.HasPrefix(op.Key, "account-1.") && op.Key != hot || entity != "account" {
				t.Fatalf("%d keys: hottest was %s/%s, next op on it is on %s", keys, entity, hot, op.Key)
			}
			if op.Name == "get" {
				touch(op.Key, 0)
			}
			for _, e := range model.Derived(op.Entity, op.Key, op.Name, op.Args, "id") {
				touch(e.Key, 1)
				if e.Name == "credit" {
					payees[strings.TrimRight(e.Key, "0123456789")]++
				}
			}
		}
		if got := w.Touched(); !reflect.DeepEqual(got, order) {
			t.Errorf("%d keys: touched %v\nwant %v", keys, got, order)
		}
		if len(order) < 3*keys || len(payees) != keys {
			t.Errorf("%d keys: %d generations, money goes to %v", keys, len(order), payees)
		}
		for rank := range keys {
			for g := 1; ; g++ {
				key := fmt.Sprintf("account-%d.%d", rank+1, g)
				if _, more := writes[fmt.Sprintf("account-%d.%d", rank+1, g+1)]; !more {
					break
				}
				if writes[key] < generationWrites-1 {
					t.Errorf("%d keys: %s retired after %d writes", keys, key, writes[key])
				}
			}
		}
	}
}

// Reports of a device are numbered upwards, so that all that arrive in order
// are accepted.
func TestTwinAcceptsReportsInOrder(t *testing.T) {
	w := newTestWorkload(t, WorkloadConfig{Name: "device-twin", Keys: 3, Seed: 2})
	twins := map[string]model.State{}
	for range 2000 {
		op := w.Next()
		if twins[op.Key] == nil {
			twins[op.Key], _ = model.For("twin")
		}
		if _, wrote, err := twins[op.Key].Apply(op.Name, op.Args, ""); err != nil || wrote != (op.Name == "report") {
			t.Fatalf("%+v: wrote %v, %v", op, wrote, err)
		}
	}
}

// TestRetired: a key is told of once, with all operations that touch it, after
// as many writes as were asked for.
func TestRetired(t *testing.T) {
	for _, name := range WorkloadNames() {
		w := newTestWorkload(t, WorkloadConfig{Name: name, Keys: 20, Zipf: 0.99, Seed: 3, Retire: MinRetire})
		entity, _ := Operations(name)
		ops := map[EntityKey]int64{}
		retired := map[EntityKey]int64{}
		for range 2000 {
			op := w.Next()
			key := EntityKey{op.Entity, op.Key}
			if _, gone := retired[key]; gone {
				t.Fatalf("%s: %s is touched again", name, op.Key)
			}
			ops[key]++
			for _, r := range w.TakeRetired() {
				if _, twice := retired[r.EntityKey]; twice || r.Entity != entity && name != "shop" {
					t.Fatalf("%s: retired twice, or a stranger: %+v", name, r)
				}
				retired[r.EntityKey] = r.Ops
			}
		}
		least := 50
		switch {
		case name == "ycsb-c": // reads for ever what it has loaded
			least = 0
		case name == "shop" || strings.HasPrefix(name, "ycsb-"): // few writes to a key
			least = 15
		}
		if len(retired) < least {

			t.Errorf("%s: %d keys retired", name, len(retired))
		}
		for key, n := range retired {
			if name != "ledger" && key.Entity != "account" && n != ops[key] { // there, others' transfers touch a key too
				t.Errorf("%s: %s retired after %d operations, but %d were made", name, key.Key, n, ops[key])
			}
			if n < MinRetire/2-1 {
				t.Errorf("%s: %s retired after %d operations", name, key.Key, n)
			}
		}
	}
	for _, retire := range []int{-1, MinRetire - 1, MaxRetire + 1} {
		if _, err := NewWorkload(WorkloadConfig{Name: "counter", Keys: 1, Retire: retire}); err == nil || !strings.Contains(err.Error(), "retire: ") {
			t.Errorf("retire %d: %v", retire, err)
		}
	}
}
