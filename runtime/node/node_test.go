package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"statequake/runtime/entity"
	"statequake/runtime/journal/postgres/pgtest"
)

// tally counts: add {"n":int}, get, and witness.
type tally struct {
	entity.Witness
	Sum int `json:"sum"`
}

func (t *tally) Handle(c entity.Command) (entity.Decision, error) {
	var arg struct {
		N int `json:"n"`
	}
	if err := c.Bind(&arg); err != nil {
		return entity.Decision{}, err
	}
	switch c.Name {
	case "add":
		return entity.Emit("added", arg, t.Sum+arg.N)
	case "get":
		return entity.Reply(t.Sum), nil
	case "witness":
		return t.List(), nil
	}
	return entity.Decision{}, c.Unknown()
}

func (t *tally) Apply(e entity.Event) {
	var arg struct {
		N int `json:"n"`
	}
	if err := json.Unmarshal(e.Data, &arg); err != nil {
		panic(err)
	}
	t.Sum += arg.N
	t.Record(e.Op)
}

// cluster is a cluster of nodes in this process.
type cluster struct {
	t       *testing.T
	dir     string
	store   string
	members map[string]Peer
	nodes   map[string]*Node
	servers map[string]*http.Server
	client  *http.Client
}

func newCluster(t *testing.T, size int) *cluster { return newClusterOn(t, "", size) }

func newClusterOn(t *testing.T, store string, size int) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), store: store, members: map[string]Peer{}, nodes: map[string]*Node{}, servers: map[string]*http.Server{}, client: &http.Client{Timeout: 20 * time.Second}}
	for i := range size {
		c.members[fmt.Sprintf("n%d", i+1)] = Peer{API: freeAddr(t), Store: freeAddr(t)}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for name := range c.members {
		wg.Go(func() {
			n, s := c.open(name)
			mu.Lock()
			defer mu.Unlock()
			c.nodes[name], c.servers[name] = n, s
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for name := range c.members {
		c.awaitReady(name)
	}
	t.Cleanup(func() {
		for name := range c.nodes {
			c.crash(name)
		}
	})
	return c
}

// freeAddr is a free loopback address below the ports that the kernel gives to
// outgoing connections, so that it stays free while a node is down.
func freeAddr(t *testing.T) string {
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

func (c *cluster) open(name string) (*Node, *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n, err := Open(ctx, Config{
		Name: name, Dir: filepath.Join(c.dir, name), Store: c.store, Members: c.members, Shards: 8,
		Types: []entity.Type{{Name: "tally", New: func() entity.Entity { return &tally{} }}},
		Log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		c.t.Errorf("open %s: %v", name, err)
		return nil, nil
	}
	l, err := net.Listen("tcp", c.members[name].API)
	if err != nil {
		c.t.Errorf("listen for %s: %v", name, err)
		return nil, nil
	}
	server := &http.Server{Handler: n.Handler()}
	go server.Serve(l)
	return n, server
}

// crash ends a node without handing anything over.
func (c *cluster) crash(name string) {
	c.servers[name].Close()
	c.nodes[name].Close()
	delete(c.nodes, name)
}

func (c *cluster) awaitReady(name string) {
	c.t.Helper()
	c.await(name+" is ready", func() (string, bool) {
		resp, err := c.client.Get("http://" + c.members[name].API + "/readyz")
		if err != nil {
			return err.Error(), false
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return string(body), resp.StatusCode == http.StatusOK
	})
}

func (c *cluster) await(what string, done func() (string, bool)) {
	c.t.Helper()
	last := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var ok bool
		if last, ok = done(); ok {
			return
		}
	}
	c.t.Fatalf("waited 20 s in vain until %s; last seen: %s", what, last)
}

func (c *cluster) send(via, op, key, command, args string) (int, reply) {
	req, err := http.NewRequest("POST", fmt.Sprintf("http://%s/v1/entities/tally/%s/%s", c.members[via].API, key, command), strings.NewReader(args))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set(opHeader, op)
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, reply{Error: err.Error()}
	}
	defer resp.Body.Close()
	var r reply
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return resp.StatusCode, reply{Error: err.Error()}
	}
	return resp.StatusCode, r
}

func (c *cluster) must(via, op, key, command, args string) reply {
	c.t.Helper()
	status, r := c.send(via, op, key, command, args)
	if status != 200 {
		c.t.Fatalf("%s %s via %s: %d %+v", command, key, via, status, r)
	}
	return r
}

// keyOf finds a key whose shard the node owns.
func (c *cluster) keyOf(owner string) string {
	for i := range 1000 {
		key := fmt.Sprintf("k%d", i)
		for _, s := range c.nodes[owner].Cluster().Shards {
			if s.Owner == owner && s.Shard == ShardOf("tally", key, 8) {
				return key
			}
		}
	}
	c.t.Fatalf("%s owns nothing", owner)
	return ""
}

func TestTakeover(t *testing.T) {
	t.Run("etcd", func(t *testing.T) { takeover(t, "") })
	t.Run("postgres", func(t *testing.T) { takeover(t, pgtest.Start(t).URL("")) })
}

func takeover(t *testing.T, store string) {
	c := newClusterOn(t, store, 3)
	key := c.keyOf("n1")
	for i := range 20 {
		c.must("n2", fmt.Sprintf("op%d", i), key, "add", `{"n":1}`)
	}
	before := c.must("n3", "", key, "witness", "")
	c.crash("n1")
	after := c.must("n2", "", key, "witness", "")
	if string(after.Result) != string(before.Result) || after.Digest != before.Digest || after.Version != 20 {
		t.Errorf("after the takeover %+v, before %+v", after, before)
	}
	if after.Node == "n1" || after.Epoch <= before.Epoch {
		t.Errorf("served by %s in epoch %d, was n1 in epoch %d", after.Node, after.Epoch, before.Epoch)
	}
	if again := c.must("n3", "op7", key, "add", `{"n":1}`); string(again.Result) != "8" || again.Version != 8 {
		t.Errorf("a retry after the takeover got %s at version %d, want the original reply 8 at version 8", again.Result, again.Version)
	}
	if r := c.must("n2", "new", key, "add", `{"n":1}`); r.Version != 21 {
		t.Errorf("version %d after one more add, want 21", r.Version)
	}

	c.nodes["n1"], c.servers["n1"] = c.open("n1")
	c.awaitReady("n1")
	c.await("n1 owns shards again", func() (string, bool) {
		for _, s := range c.nodes["n1"].Cluster().Shards {
			if s.Owner == "n1" && s.State == "serving" {
				return "", true
			}
		}
		return "it owns none", false
	})
	if r := c.must("n1", "", key, "get", ""); string(r.Result) != "21" {
		t.Errorf("%s after n1 came back, want 21", r.Result)
	}
}

// TestDrain stops a node gracefully under load: no request may fail and no
// write may be lost or doubled.
func TestDrain(t *testing.T) {
	c := newCluster(t, 3)
	keys := []string{c.keyOf("n1"), c.keyOf("n2"), c.keyOf("n3")}
	var acked [3]atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, key := range keys {
		for worker := range 2 {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					via := []string{"n2", "n3"}[n%2]
					if status, r := c.send(via, fmt.Sprintf("%d-%d-%d", i, worker, n), key, "add", `{"n":1}`); status != 200 {
						t.Errorf("add via %s: %d %+v", via, status, r)
						return
					}
					acked[i].Add(1)
				}
			})
		}
	}
	c.await("writes on n1's key", func() (string, bool) { return "", acked[0].Load() > 20 })
	drain, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c.nodes["n1"].Drain(drain)
	if drain.Err() != nil {
		t.Error("drain took 10 s")
	}
	if c.nodes["n1"].ownsAny() {
		t.Error("n1 still owns shards")
	}
	c.crash("n1")
	mark := acked[0].Load()
	c.await("more writes on n1's key", func() (string, bool) { return "", t.Failed() || acked[0].Load() > mark+20 })
	stop()
	wg.Wait()
	for i, key := range keys {
		if r := c.must("n2", "", key, "get", ""); string(r.Result) != fmt.Sprint(acked[i].Load()) {
			t.Errorf("%s is %s, %d adds were acknowledged", key, r.Result, acked[i].Load())
		}
	}
}

// TestCheckpoint cuts a long journal and recovers from what is left.
func TestCheckpoint(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes["n1"]
	var wg sync.WaitGroup
	const each = 450
	for w := range 10 {
		wg.Go(func() {
			for i := range each {
				c.must("n1", fmt.Sprintf("%d-%d", w, i), fmt.Sprintf("{one}%d", w%4), "add", `{"n":1}`)
			}
		})
	}
	wg.Wait()
	s := n.shards[ShardOf("tally", "{one}0", 8)]
	c.await("the journal is cut", func() (string, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Sprintf("backlog %d of %d", s.machine.Backlog(s.head), 10*each), s.head.Pos > 0 && s.machine.Backlog(s.head) < checkpointFrom
	})
	before := c.must("n1", "", "{one}2", "witness", "")
	c.crash("n1")
	c.nodes["n1"], c.servers["n1"] = c.open("n1")
	head, tail, err := c.nodes["n1"].readTail(t.Context(), s.id)
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	for _, g := range tail {
		records += len(g.Records)
	}
	if head.Pos == 0 || int(head.Pos)+records != 10*each {
		t.Errorf("head at record %d and %d records in the tail, want %d in all", head.Pos, records, 10*each)
	}
	after := c.must("n1", "", "{one}2", "witness", "")
	if string(after.Result) != string(before.Result) || after.Version != before.Version {
		t.Errorf("recovered version %d, was %d", after.Version, before.Version)
	}
	// Operations of before the checkpoint are remembered by it.
	r := c.must("n1", "2-449", "{one}2", "add", `{"n":1}`)
	if got := c.must("n1", "", "{one}2", "get", ""); got.Version != before.Version {
		t.Errorf("a retry made version %d of %d (answer %+v)", got.Version, before.Version, r)
	}
}

func TestAPI(t *testing.T) {
	c := newCluster(t, 1)
	base := "http://" + c.members["n1"].API
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/v1/entities/tally/k/add", `{"n":2}`, 200, `"result":2,"version":1`},
		{"POST", "/v1/entities/tally/k/get", "", 200, `"result":2,"version":1`},
		{"POST", "/v1/entities/tally/k/steal", "", 404, `"effect":"none"`},
		{"POST", "/v1/entities/nothing/k/add", "", 404, `unknown entity type`},
		{"POST", "/v1/entities/tally/k/add", `{`, 400, `"effect":"none"`},
		{"POST", "/v1/entities/tally/k/add", `{"n":"x"}`, 400, `"effect":"none"`},
		{"POST", "/v1/entities/tally/k/add", `{"n":` + strings.Repeat(" ", maxArgs) + `1}`, 413, `"effect":"none"`},
		{"POST", "/v1/entities/tally/" + strings.Repeat("k", maxName+1) + "/add", "", 400, `longer than`},
		{"GET", "/v1/entities/tally/k/get", "", 405, ""},
		{"GET", "/healthz", "", 200, "ok"},
		{"GET", "/readyz", "", 200, "ready"},
		{"GET", "/metrics", "", 200, `statequake_commands_total{status="200",type="tally"} 2`},
		{"GET", "/v1/cluster?type=tally&key=k", "", 200, `"owner":"n1"`},
	} {
		req, err := http.NewRequest(tc.method, base+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.client.Do(req)
		if err != nil {
			t.Fatalf("%s %.60s: %v", tc.method, tc.path, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tc.status || !strings.Contains(string(body), tc.want) {
			t.Errorf("%s %.60s: %d %.200s (%v), want %d with %s", tc.method, tc.path, resp.StatusCode, body, err, tc.status, tc.want)
		}
	}
}

func TestShardOf(t *testing.T) {
	if a, b := ShardOf("tally", "{x}.1", 1024), ShardOf("tally", "{x}.2", 1024); a != b {
		t.Errorf("one tag, shards %d and %d", a, b)
	}
	if a, b := ShardOf("tally", "{}.1", 1024), ShardOf("tally", "{}.2", 1024); a == b {
		t.Errorf("an empty tag is none, yet both are in shard %d", a)
	}
	count := make([]int, 16)
	for i := range 16000 {
		count[ShardOf("cart", fmt.Sprintf("cart-%d.1", i), 16)]++
	}
	for s, n := range count {
		if n < 800 || n > 1200 {
			t.Errorf("shard %d holds %d of 16000 keys", s, n)
		}
	}
}
