package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"statequake/chaos/process"
)

// numberedNodes are n1, n2, ...; the odd ones are in zone a, the others in b.
func numberedNodes(count int) []Node {
	var nodes []Node
	for i := count; i > 0; i-- { // not in the order of names
		name := fmt.Sprintf("n%d", i)
		zone := "b"
		if i%2 == 1 {
			zone = "a"
		}
		nodes = append(nodes, Node{
			Node:   process.Node{Name: name},
			Labels: map[string]string{NodeLabel: name, "zone": zone},
		})
	}
	return nodes
}

// A system of five nodes in which n1 leads the store and n2 owns everything.
func resolveInTest(_ context.Context, label, value string) ([]string, error) {
	switch label + "=" + value {
	case RoleLabel + "=store-leader":
		return []string{"n1"}, nil
	case RoleLabel + "=store-follower":
		return []string{"n2", "n3", "n4", "n5"}, nil
	case OwnerOfLabel + "=hottest", OwnerOfLabel + "=cart/{x}.1":
		return []string{"n2"}, nil
	}
	return nil, errors.New("nobody knows " + label + "=" + value)
}

func parseWithSelector(t *testing.T, mode, selector string) *Fault {
	t.Helper()
	f, err := Parse("f", 0, []byte(podChaos(`"action":"pod-kill",`+mode+`,"selector":{`+selector+`}`)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSelectors(t *testing.T) {
	for _, tt := range []struct{ selector, want string }{
		{``, "n1 n2 n3 n4 n5"},
		{`"namespaces":["shop"]`, "n1 n2 n3 n4 n5"},
		{`"labelSelectors":{"zone":"a"}`, "n1 n3 n5"},
		{`"labelSelectors":{"zone":"c"}`, ""},
		{`"labelSelectors":{"statequake.dev/node":"n4"}`, "n4"},
		{`"expressionSelectors":[{"key":"statequake.dev/node","operator":"In","values":["n4","n5","n6"]}]`, "n4 n5"},
		{`"expressionSelectors":[{"key":"zone","operator":"NotIn","values":["a"]}]`, "n2 n4"},
		{`"expressionSelectors":[{"key":"zone","operator":"Exists"}]`, "n1 n2 n3 n4 n5"},
		{`"expressionSelectors":[{"key":"zone","operator":"DoesNotExist"}]`, ""},
		{`"labelSelectors":{"statequake.dev/owner-of":"hottest"}`, "n2"},
		{`"labelSelectors":{"statequake.dev/owner-of":"cart/{x}.1"}`, "n2"},
		{`"labelSelectors":{"statequake.dev/owner-of":"hottest","zone":"a"}`, ""},
		{`"labelSelectors":{"statequake.dev/role":"store-follower","zone":"a"}`, "n3 n5"},
		{`"expressionSelectors":[{"key":"statequake.dev/role","operator":"NotIn","values":["store-leader"]},
			{"key":"statequake.dev/owner-of","operator":"NotIn","values":["hottest"]}]`, "n3 n4 n5"},
		{`"expressionSelectors":[{"key":"statequake.dev/role","operator":"In","values":["store-leader","store-follower"]}]`, "n1 n2 n3 n4 n5"},
	} {
		f := parseWithSelector(t, `"mode":"all"`, tt.selector)
		got, err := f.selector.match(t.Context(), numberedNodes(5), resolveInTest)
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, %v, want %s", tt.selector, got, err, tt.want)
		}
	}
	f := parseWithSelector(t, `"mode":"all"`, `"labelSelectors":{"statequake.dev/role":"king"}`)
	if _, err := f.selector.match(t.Context(), numberedNodes(5), resolveInTest); err == nil {
		t.Error("no error for a role that the system does not know")
	}
}

func TestModes(t *testing.T) {
	for _, tt := range []struct {
		mode       string
		nodes      int
		least, top int // taken, over many draws
	}{
		{`"mode":"one"`, 5, 1, 1},
		{`"mode":"one"`, 0, 0, 0},
		{`"mode":"all"`, 5, 5, 5},
		{`"mode":"fixed","value":"2"`, 5, 2, 2},
		{`"mode":"fixed","value":"9"`, 5, 5, 5},
		{`"mode":"fixed-percent","value":"50"`, 5, 2, 2},
		{`"mode":"fixed-percent","value":"19"`, 5, 0, 0},
		{`"mode":"fixed-percent","value":"100"`, 5, 5, 5},
		{`"mode":"random-max-percent","value":"60"`, 5, 0, 3},
		{`"mode":"random-max-percent","value":"100"`, 5, 0, 5},
	} {
		s := parseWithSelector(t, tt.mode, ``).selector
		var names []string
		for i := range tt.nodes {
			names = append(names, fmt.Sprintf("n%d", i+1))
		}
		least, top := len(names), 0
		hit := map[string]bool{}
		for seed := range uint64(2000) {
			taken := s.take(names, rand.New(rand.NewPCG(seed, 0)))
			least, top = min(least, len(taken)), max(top, len(taken))
			if !slices.IsSorted(taken) || len(slices.Compact(slices.Clone(taken))) != len(taken) {
				t.Fatalf("%s: %v is not a sorted set", tt.mode, taken)
			}
			for _, name := range taken {
				hit[name] = true
			}
		}
		if least != tt.least || top != tt.top {
			t.Errorf("%s of %d: took %d to %d, want %d to %d", tt.mode, tt.nodes, least, top, tt.least, tt.top)
		}
		if tt.top > 0 && len(hit) != tt.nodes {
			t.Errorf("%s: only %v are ever taken", tt.mode, hit)
		}
	}
}

func TestSeedFixesTheChoice(t *testing.T) {
	choose := func(seed int64, name string) string {
		f := parseWithSelector(t, `"mode":"fixed","value":"2"`, ``)
		f.Name = name
		nodes, err := New(Config{Seed: seed, Nodes: numberedNodes(5)}).targets(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join((&injection{fault: f, targets: nodes}).names(), " ")
	}
	byName, bySeed := map[string]bool{}, map[string]bool{}
	for i := range 20 {
		if a, b := choose(int64(i), "f"), choose(int64(i), "f"); a != b {
			t.Errorf("seed %d: %s, then %s", i, a, b)
		}
		bySeed[choose(int64(i), "f")] = true
		byName[choose(1, fmt.Sprint("f", i))] = true
	}
	if len(bySeed) == 1 || len(byName) == 1 {
		t.Errorf("always the same: by seed %v, by name %v", bySeed, byName)
	}
}
