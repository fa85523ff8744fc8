package loadgen

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"statequake/history"
	"statequake/history/model"
)

// ownConfig is the workload as a scenario has it that only names it.
func ownConfig(name string, keys int) WorkloadConfig {
	own := DefaultsOf(name)
	return WorkloadConfig{Name: name, Keys: keys, Seed: 42, Zipf: own.Skew.Zipf, Latest: own.Skew.Latest, Hot: own.Skew.Hot, Values: own.Values, Sessions: own.Sessions}
}

// golden are hashes over the first 10,000 operations of each workload with 50
// keys and seed 42, and of every skew. A run is repeated by its seed: a change
// here makes another run of every scenario that has been kept.
var golden = map[string]string{
	"approval":             "50f4b5bf1b3e30ea",
	"counter":              "947e2c609c7a1b01",
	"device-twin":          "2f9559a7cf1a705b",
	"leaderboard":          "1c725ea533390372",
	"ledger":               "35822f54aeda2eb5",
	"playback":             "2a10c62110f65a11",
	"register hot 10-1000": "c7ba6a9a0c46280f",
	"register latest":      "2f974bf6e2e076f1",
	"register zipf":        "38b74c8c2820ccea",
	"register":             "1ae93f5b2e22f7dd",
	"shop":                 "f74b87c84c76b153",
	"shopping-cart":        "ae2c25be02998bef",
	"ycsb-a":               "816881f43101841d",
	"ycsb-b":               "9409aff81cd6681e",
	"ycsb-c":               "4a214a569e73f89d",
	"ycsb-d":               "2559b638a843284a",
	"ycsb-e hot sessions":  "9e4455031dae3edc",
	"ycsb-e":               "749e7ad38f97d9b2",
	"ycsb-f":               "30245dfed8dd9540",
}

func TestOperationsStayTheSame(t *testing.T) {
	configs := map[string]WorkloadConfig{}
	for _, name := range WorkloadNames() {
		configs[name] = ownConfig(name, 50)
	}
	c := ownConfig("register", 50)
	c.Zipf = 0.99
	configs["register zipf"] = c
	c.Latest = true
	configs["register latest"] = c
	c.Zipf, c.Latest, c.Hot, c.Values = 0, false, HotSet{0.1, 0.9}, Sizes{10, 1000}
	configs["register hot 10-1000"] = c
	c = ownConfig("ycsb-e", 50)
	c.Zipf, c.Hot, c.Sessions = 0, HotSet{0.1, 0.9}, 7
	configs["ycsb-e hot sessions"] = c
	for name, c := range configs {
		w := newTestWorkload(t, c)
		h := sha256.New()
		for range 10_000 {
			op := w.Next()
			fmt.Fprintf(h, "%d %d %s/%s %s %s\n", op.N, op.Client, op.Entity, op.Key, op.Name, op.Args)
		}
		if got := fmt.Sprintf("%x", h.Sum(nil)[:8]); got != golden[name] {
			t.Errorf("%q: %q, // not %s", name, got, golden[name])
		}
	}
	if len(configs) != len(golden) {
		t.Errorf("%d hashes of %d workloads", len(golden), len(configs))
	}
}

func TestHotSet(t *testing.T) {
	const keys, total = 200, 100_000
	w := newTestWorkload(t, WorkloadConfig{Name: "counter", Keys: keys, Seed: 7, Hot: HotSet{0.05, 0.9}})
	ops := make([]int, keys)
	for range total {
		op := w.Next()
		var rank, generation int
		if _, err := fmt.Sscanf(op.Key, "counter-%d.%d", &rank, &generation); err != nil {
			t.Fatal(err)
		}
		ops[rank-1]++
	}
	within := func(what string, got int, n, share float64) {
		t.Helper()
		if sigma := math.Sqrt(n * share * (1 - share)); math.Abs(float64(got)-n*share) > 5*sigma {
			t.Errorf("%s: %d operations, want %.0f +- %.0f", what, got, n*share, 5*sigma)
		}
	}
	hot := 0
	for rank, n := range ops {
		if rank < 10 {
			hot += n
			within(fmt.Sprint("hot key ", rank), n, total, 0.09)
		} else {
			within(fmt.Sprint("key ", rank), n, total, 0.1/190)
		}
	}
	within("hot set", hot, total, 0.9)
	if _, key := w.Hottest(); !strings.HasPrefix(key, "counter-1.") {
		t.Errorf("hottest is %s", key)
	}
	all := newSkew(3, Skew{Hot: HotSet{1, 0.5}})
	for range 100 {
		if k := all.draw(w.rand, 3); k < 1 || k > 3 {
			t.Fatalf("drew %d of 3", k)
		}
	}
}

// TestLatest: the newest key is the most popular, by its age, and Hottest is
// the newest at every instant.
func TestLatest(t *testing.T) {
	const keys = 20
	w := newTestWorkload(t, WorkloadConfig{Name: "counter", Keys: keys, Seed: 7, Zipf: 0.99, Latest: true, Retire: MinRetire})
	age := make([]string, 0, keys) // live keys, the newest first
	for rank := 1; rank <= keys; rank++ {
		age = append(age, fmt.Sprintf("counter-%d.1", rank))
	}
	byAge := make([]int, keys)
	for n := range 100_000 {
		if _, hot := w.Hottest(); hot != age[0] {
			t.Fatalf("op %d: hottest is %s, the newest is %s", n, hot, age[0])
		}
		op := w.Next()
		at := slices.Index(age, op.Key)
		if at < 0 {
			t.Fatalf("op %d on %s, live are %v", n, op.Key, age)
		}
		byAge[at]++
		for _, r := range w.TakeRetired() {
			var rank, generation int
			fmt.Sscanf(r.Key, "counter-%d.%d", &rank, &generation)
			age = slices.DeleteFunc(age, func(k string) bool { return k == r.Key })
			age = slices.Insert(age, 0, fmt.Sprintf("counter-%d.%d", rank, generation+1))
		}
	}
	if x, freedom := chiSquare(byAge, 0.99); x > critical(freedom) {
		t.Errorf("popularity by age: chi-square %.1f with %d degrees of freedom: %v", x, freedom, byAge)
	}
}

// TestValues: values have the sizes asked for, are printable and unique.
func TestValues(t *testing.T) {
	for _, c := range []struct{ sizes, want Sizes }{
		{Sizes{}, Sizes{6, 9}}, {Sizes{100, 100}, Sizes{100, 100}}, {Sizes{10, 1000}, Sizes{10, 1000}}, {Sizes{1, 1}, Sizes{6, 9}}, {Sizes{8, 8}, Sizes{8, 9}},
	} {
		w := newTestWorkload(t, WorkloadConfig{Name: "register", Keys: 10, Seed: 42, Values: c.sizes, Mix: map[string]int{"set": 1}})
		seen := map[string]bool{}
		least, most, sum := math.MaxInt, 0, 0
		for range 20_000 {
			op := w.Next()
			var args struct{ Value string }
			if err := json.Unmarshal(op.Args, &args); err != nil {
				t.Fatalf("%s: %v", op.Args, err)
			}
			if seen[args.Value] || strings.ContainsFunc(args.Value, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Fatalf("value %q comes again, or does not print", args.Value)
			}
			seen[args.Value] = true
			least, most, sum = min(least, len(args.Value)), max(most, len(args.Value)), sum+len(args.Value)
		}
		if least != c.want.From && !(c.sizes.From == 1 || c.sizes == Sizes{}) || most != c.want.To && most != len("s42-n19999") {
			t.Errorf("sizes %v: %d to %d bytes, want %v", c.sizes, least, most, c.want)
		}
		if mean := float64(sum) / 20_000; c.sizes.To == 1000 && math.Abs(mean-505) > 12 {
			t.Errorf("sizes %v: %.1f bytes on average", c.sizes, mean)
		}
	}
}

// TestYCSB: a table is loaded first, and then the mix is the one of the paper;
// every row that is named is there, and with latest the newest is named most.
func TestYCSB(t *testing.T) {
	for name, want := range map[string]map[string]float64{
		"ycsb-a": {"read": 0.5, "update": 0.5}, "ycsb-b": {"read": 0.95, "update": 0.05}, "ycsb-c": {"read": 1},
		"ycsb-d": {"read": 0.95, "insert": 0.05}, "ycsb-e": {"scan": 0.95, "insert": 0.05}, "ycsb-f": {"read": 0.5, "modify": 0.5},
	} {
		w := newTestWorkload(t, ownConfig(name, 10))
		tables := map[string]model.State{}
		newest, sizes := map[string]string{}, map[string]int{}
		ops := map[string]int{}
		total, ofNewest := 0, 0
		for range 20_000 {
			op := w.Next()
			state, known := tables[op.Key]
			if !known {
				state, _ = model.For("table")
				tables[op.Key] = state
			}
			rows := sizes[op.Key]
			result, _, err := state.Apply(op.Name, op.Args, "")
			if err != nil || strings.Contains(string(result), "rejected") || strings.Contains(string(result), "null") {
				t.Fatalf("%s: %s %s %s on %d rows: %s, %v", name, op.Key, op.Name, op.Args, rows, result, err)
			}
			var args struct{ Row, From, Value string }
			json.Unmarshal(op.Args, &args)
			if op.Name == "insert" {
				newest[op.Key] = args.Row
				sizes[op.Key]++
			}
			if op.Name != "read" && op.Name != "scan" && len(args.Value) != 100 {
				t.Fatalf("%s: a value of %d bytes", name, len(args.Value))
			}
			if rows < ycsbRows {
				if op.Name != "insert" {
					t.Fatalf("%s: %s of a table of %d rows", name, op.Name, rows)
				}
				continue
			}
			total++
			ops[op.Name]++
			if args.Row == newest[op.Key] && op.Name == "read" {
				ofNewest++
			}
		}
		for op, n := range ops {
			share := want[op]
			if sigma := math.Sqrt(float64(total) * share * (1 - share)); math.Abs(float64(n)-float64(total)*share) > 5*sigma+1 {
				t.Errorf("%s: %s is %d of %d operations, want %.0f %%", name, op, n, total, 100*share)
			}
		}
		if len(ops) != len(want) {
			t.Errorf("%s: operations %v", name, ops)
		}
		// Of 10 to 502 rows the most popular takes 34 % to 15 %.
		if share := float64(ofNewest) / float64(max(1, ops["read"])); name == "ycsb-d" && (share < 0.13 || share > 0.36) || name == "ycsb-a" && share > 0.1 {
			t.Errorf("%s: %.2f of the reads are of the newest row", name, share)
		}
	}
	names := map[string]bool{}
	for row := range int32(MaxRetire) {
		names[string(appendRow(nil, "row", row))] = true
	}
	if len(names) != MaxRetire {
		t.Errorf("%d rows have %d names", MaxRetire, len(names))
	}
}

// TestShop: each client is on its own journey, of which every step makes sense
// after the one before.
func TestShop(t *testing.T) {
	const total, clients = 200_000, 50
	c := ownConfig("shop", 100)
	c.Sessions = clients
	w := newTestWorkload(t, c)
	ops := map[string]int{}
	last := make([]history.Op, clients)
	takes := make([]map[string]int, clients) // items on this journey
	for i := range takes {
		takes[i] = map[string]int{}
	}
	visits, paid := 0, 0
	for n := range total {
		op := w.Next()
		if op.Client != n%clients {
			t.Fatalf("op %d is of client %d", n, op.Client)
		}
		ops[op.Name]++
		before := last[op.Client]
		own := fmt.Sprintf("-%d.", op.Client+1)
		if op.Entity != "board" && !strings.Contains(op.Key, own) {
			t.Fatalf("client %d touches %s/%s", op.Client, op.Entity, op.Key)
		}
		var args struct{ Item, To, Player string }
		json.Unmarshal(op.Args, &args)
		var follows []string
		switch op.Name {
		case "add":
			follows = []string{"top"}
			if got := "sku-" + strings.TrimPrefix(before.Key[:strings.IndexByte(before.Key, '.')], "board-"); got != args.Item {
				t.Fatalf("client %d looked at %s and takes %s", op.Client, got, args.Item)
			}
			takes[op.Client][args.Item]++
		case "get":
			follows = []string{"add", "remove", "top"}
		case "run":
			follows = []string{"get"}
			paid++
			if len(takes[op.Client]) == 0 || strings.Contains(args.To, own) {
				t.Fatalf("client %d pays for %v to %s", op.Client, takes[op.Client], args.To)
			}
		case "remove":
			follows = []string{"get", "run", "remove"}
			if takes[op.Client][args.Item] == 0 {
				t.Fatalf("client %d takes %s out of %v", op.Client, args.Item, takes[op.Client])
			}
			if takes[op.Client][args.Item]--; takes[op.Client][args.Item] == 0 {
				delete(takes[op.Client], args.Item)
			}
		case "submit":
			follows = []string{"remove"}
		case "top", "credit":
			follows = []string{"", "top", "add", "get", "remove", "submit", "credit"}
			if before.Name != "top" && before.Name != "add" && before.Name != "credit" {
				visits++
				clear(takes[op.Client])
			}
		}
		if !slices.Contains(follows, before.Name) {
			t.Fatalf("client %d: %s after %q", op.Client, op.Name, before.Name)
		}
		last[op.Client] = op
	}
	_, list := Operations("shop")
	sum := 0
	for _, o := range list {
		sum += o.Weight
		if share := 100 * float64(ops[o.Name]) / total; math.Abs(share-float64(o.Weight)) > 0.6 {
			t.Errorf("%s is %.1f %% of the operations, Operations says %d", o.Name, share, o.Weight)
		}
	}
	if sum != 100 {
		t.Errorf("shares add up to %d", sum)
	}
	if paid < visits/4 || paid > 3*visits/4 {
		t.Errorf("%d of %d visits are paid", paid, visits)
	}
}

func BenchmarkNextOf(b *testing.B) {
	for _, name := range []string{"shopping-cart", "register", "ycsb-a", "ycsb-d", "ycsb-e", "shop"} {
		b.Run(name, func(b *testing.B) {
			w, err := NewWorkload(ownConfig(name, 1000))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				w.Next()
			}
		})
	}
}
