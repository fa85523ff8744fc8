package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"statequake/runtime/entity"
)

// single is a cluster of one node, with a config that change has changed.
func single(t *testing.T, change func(*Config)) (url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cfg := Config{
		Name: "n1", Dir: t.TempDir(), Members: map[string]Peer{"n1": {API: freeAddr(t), Store: freeAddr(t)}}, Shards: 4,
		Types: []entity.Type{{Name: "tally", New: func() entity.Entity { return &tally{} }}},
		Log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	change(&cfg)
	n, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(n.Handler())
	t.Cleanup(func() {
		n.Close()
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// Writes that wait for the store are in flight, and are the lag of their shards.
func TestClusterTellsLag(t *testing.T) {
	url := single(t, func(c *Config) { c.StoreDelay = time.Hour }) // longer than the test
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel) // before the node is closed
	ask := func() (c Cluster) {
		resp, err := http.Get(url + "/v1/cluster")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	await := func(what string, done func(Cluster) bool) {
		t.Helper()
		c := Cluster{}
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if c = ask(); done(c) {
				return
			}
		}
		text, _ := json.Marshal(c)
		t.Fatalf("waited 20 s in vain until %s; last seen: %s", what, text)
	}
	await("every shard is served, with nothing to do", func(c Cluster) bool {
		for _, s := range c.Shards {
			if s.State != "serving" || *s.Lag != (Lag{}) {
				return false
			}
		}
		return len(c.Shards) == 4 && len(c.Members) == 1 && *c.Members[0].Holds == Holding{}
	})
	for i := range 6 {
		target := fmt.Sprintf("%s/v1/entities/tally/k%d/add", url, i%2)
		req, err := http.NewRequestWithContext(ctx, "POST", target, strings.NewReader(`{"n":1}`))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if resp, err := http.DefaultClient.Do(req); err == nil {
				resp.Body.Close()
			}
		}()
	}
	await("six writes to two entities lag", func(c Cluster) bool {
		records, oldest := int64(0), int64(0)
		for _, s := range c.Shards {
			if s.Lag == nil {
				return false
			}
			records += s.Lag.Records
			oldest = max(oldest, s.Lag.Oldest)
		}
		h := c.Members[0].Holds
		return records == 6 && oldest > 0 && h.InFlight == 6 && h.Entities == 2 && h.EntityBytes > 0
	})
}

// Two entities, and room for one.
func TestClusterTellsPassivations(t *testing.T) {
	url := single(t, func(c *Config) { c.Shards, c.MaxEntities = 1, 1 })
	add := func(key string) string {
		resp, err := http.Post(url+"/v1/entities/tally/"+key+"/add", "", strings.NewReader(`{"n":1}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.Status
	}
	for _, key := range []string{"a", "b"} {
		if status := add(key); status != "200 OK" {
			t.Fatalf("add to %s: %s", key, status)
		}
	}
	last := ""
	for end := time.Now().Add(20 * time.Second); last != "1" && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		values, _ := scrape(t, url)
		last = values["statequake_passivations_total"]
	}
	if last != "1" {
		t.Errorf("%s entities have left memory, want 1", last)
	}
}
