package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"statequake/fixtures"
	"statequake/fixtures/services"
	"statequake/runtime/node"
)

// member answers GET /v1/cluster as c, which may change until it is asked.
func member(t *testing.T, c *node.Cluster) (addr string) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/cluster", func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(c); err != nil {
			t.Error(err)
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// Each member tells its own part. n2 has taken shard 1 over, which n1 has not
// seen; n3 does not answer.
func TestClusterShow(t *testing.T) {
	var one, two node.Cluster
	a, b := member(t, &one), member(t, &two)
	members := func(own string, holds node.Holding) []node.MemberStatus {
		all := []node.MemberStatus{{Node: "n1", Addr: a, Live: true}, {Node: "n2", Addr: b, Live: true}, {Node: "n3", Addr: "127.0.0.1:1"}}
		for i := range all {
			if all[i].Node == own {
				all[i].Holds = &holds
			}
		}
		return all
	}
	one = node.Cluster{
		Node: "n1", StoreLeader: "n2", Members: members("n1", node.Holding{Entities: 10, EntityBytes: 2048, Passivated: 7, InFlight: 3}),
		Shards: []node.ShardStatus{
			{Shard: 0, Owner: "n1", Epoch: 7, State: "serving", Lag: &node.Lag{Records: 4, Oldest: 12}},
			{Shard: 1, Owner: "n3", Epoch: 8, State: "owned"},
			{Shard: 2, Owner: "n2", Epoch: 9, State: "owned"},
			{Shard: 3, State: "free"},
		},
	}
	two = node.Cluster{
		Node: "n2", StoreLeader: "n2", Members: members("n2", node.Holding{Entities: 5}),
		Shards: []node.ShardStatus{
			{Shard: 0, Owner: "n3", Epoch: 2, State: "owned"},
			{Shard: 1, Owner: "n2", Epoch: 11, State: "claiming"},
			{Shard: 2, Owner: "n2", Epoch: 9, State: "serving", Lag: &node.Lag{}},
			{Shard: 3, State: "free"},
		},
	}
	c, silent, err := gatherCluster(t.Context(), []string{"127.0.0.1:1", a}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(silent) != 1 || !strings.HasPrefix(silent[0].Error(), "n3: ask 127.0.0.1:1: ") {
		t.Errorf("silent: %v", silent)
	}
	var out strings.Builder
	if err := printCluster(&out, c); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"NODE ADDRESS LIVE STORE ENTITIES BYTES PASSIVATED IN FLIGHT SHARDS",
		"n1 " + a + " true follower 10 2048 7 3 0",
		"n2 " + b + " true leader 5 0 0 0 1 2",
		"n3 127.0.0.1:1 false follower - - - - -",
		"",
		"SHARD OWNER EPOCH STATE LAG RECORDS OLDEST MS",
		"0 n1 7 serving 4 12",
		"1 n2 11 claiming - -",
		"2 n2 9 serving 0 0",
		"3 - 0 free - -",
	}
	if text := strings.Join(got, "\n"); text != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", text, strings.Join(want, "\n"))
	}
}

// A node that runs, as scripts see it.
func TestClusterShowJSON(t *testing.T) {
	dir := t.TempDir()
	ports, err := fixtures.Ports(filepath.Join(dir, "ports.json"), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	peer := node.Peer{API: fmt.Sprintf("127.0.0.1:%d", ports[0]), Store: fmt.Sprintf("127.0.0.1:%d", ports[1])}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n, err := node.Open(ctx, node.Config{
		Name: "n1", Dir: dir, Members: map[string]node.Peer{"n1": peer}, Shards: 2, Types: services.All(),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	server := httptest.NewServer(n.Handler())
	defer server.Close()
	add, err := http.Post(server.URL+"/v1/entities/counter/a/add", "", strings.NewReader(`{"n":1}`)) // answered when it is durable
	if err != nil {
		t.Fatal(err)
	}
	defer add.Body.Close()
	if add.StatusCode != http.StatusOK {
		t.Fatalf("add: %s", add.Status)
	}
	var out bytes.Buffer
	root := rootCmd()
	root.SetOut(&out)
	root.SetArgs([]string{"cluster", "show", server.URL, "--json"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	var c node.Cluster
	if err := json.Unmarshal(out.Bytes(), &c); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if h := c.Members[0].Holds; c.Node != "n1" || c.StoreLeader != "n1" || h == nil || h.Entities != 1 || h.EntityBytes == 0 || h.InFlight != 0 {
		t.Errorf("it shows %s", out.String())
	}
	for _, s := range c.Shards {
		if s.Owner == "n1" && s.State == "serving" && (s.Epoch == 0 || s.Lag == nil || s.Lag.Records != 0) {
			t.Errorf("it shows %+v", s)
		}
	}
}
