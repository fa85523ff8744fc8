package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"statequake/runtime/core"
)

// Limits of the API.
const (
	maxArgs  = 1 << 20 // bytes of a command's arguments
	maxReply = 8 << 20 // bytes of a reply that is forwarded
	maxName  = 256     // bytes of a key or an op

	maxCallSuffix = 16 // bytes that a call of an action adds to its op
)

// lingerTime is how long connections may be idle while a node shuts down.
const lingerTime = 300 * time.Millisecond

// Handler is the node's HTTP API.
func (n *Node) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/entities/{type}/{key}/{command}", n.serveCommand)
	mux.HandleFunc("POST /v1/actions/{action}/{command}", n.serveAction)
	mux.HandleFunc("GET /v1/cluster", n.serveCluster)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", n.serveReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.metrics.registry, promhttp.HandlerOpts{}))
	return mux
}

func (n *Node) serveCommand(w http.ResponseWriter, r *http.Request) {
	typ := r.PathValue("type")
	a := n.command(w, r, typ)
	if _, known := n.types[typ]; !known {
		typ = "unknown"
	}
	n.metrics.commands.WithLabelValues(typ, strconv.Itoa(a.status)).Inc()
	n.writeAnswer(w, a)
}

// command reads a request, has it executed and returns the answer.
func (n *Node) command(w http.ResponseWriter, r *http.Request, typ string) answer {
	if _, ok := n.types[typ]; !ok {
		return refuse(http.StatusNotFound, "none", "unknown entity type %q", typ)
	}
	key := r.PathValue("key")
	if err := checkKey(key); err != nil {
		return refuse(http.StatusBadRequest, "none", "%v", err)
	}
	op, args, bad := readCommand(w, r)
	if bad != nil {
		return *bad
	}
	leave, ok := n.enter()
	if !ok {
		return overloaded()
	}
	defer leave()
	c := core.Command{Op: op, ID: core.ID{Type: typ, Key: key}, Name: r.PathValue("command"), Args: args}
	return n.execute(r.Context(), c, r.Header.Get(forwardedHeader) != "")
}

// checkKey says what is bad about a key. Servers and clients of HTTP resolve
// the path elements "." and "..".
func checkKey(key string) error {
	switch {
	case len(key) > maxName:
		return fmt.Errorf("the key is longer than %d bytes", maxName)
	case key == "", key == ".", key == "..":
		return fmt.Errorf("key %q: must be neither empty nor a dot or two", key)
	}
	return nil
}

// readCommand reads the operation and the arguments of a request, or says what
// is bad about it.
func readCommand(w http.ResponseWriter, r *http.Request) (op string, args []byte, bad *answer) {
	no := func(a answer) (string, []byte, *answer) { return "", nil, &a }
	op = r.Header.Get(opHeader)
	if op == "" {
		op = strconv.FormatUint(rand.Uint64(), 36)
	}
	limit := maxName
	if r.Header.Get(forwardedHeader) != "" {
		limit += maxCallSuffix // a call of an action
	}
	if len(op) > limit {
		return no(refuse(http.StatusBadRequest, "none", "the op is longer than %d bytes", maxName))
	}
	args, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxArgs))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return no(refuse(http.StatusRequestEntityTooLarge, "none", "arguments are longer than %d bytes", maxArgs))
	case err != nil:
		return no(refuse(http.StatusBadRequest, "none", "read arguments: %v", err))
	case len(args) > 0 && !json.Valid(args):
		return no(refuse(http.StatusBadRequest, "none", "arguments are not JSON"))
	}
	return op, args, nil
}

// Server serves Handler, until Shutdown ends it.
func (n *Node) Server() *http.Server {
	return &http.Server{Handler: n.Handler(), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10, ConnState: func(c net.Conn, s http.ConnState) {
		if s == http.StateNew {
			n.silent.Store(c, nil)
		} else {
			n.silent.Delete(c)
		}
	}}
}

// Shutdown hands every shard over, then ends Server, which listens on l: who
// connects is refused only when the successors serve, and a connection ends with
// an answer. What the kernel accepted in the instant in which l is closed, or a
// command sent into a connection that rested for lingerTime, is reset; the same
// operation, sent again elsewhere, takes effect once. It gives up when ctx ends.
func (n *Node) Shutdown(ctx context.Context, server *http.Server, l net.Listener) error {
	n.Drain(ctx)
	l.Close()
	select {
	case <-time.After(lingerTime):
	case <-ctx.Done():
	}
	// The server would wait 5 s for a first request on those of other members.
	n.silent.Range(func(c, _ any) bool {
		c.(net.Conn).Close()
		return true
	})
	return server.Shutdown(ctx)
}

func (n *Node) writeAnswer(w http.ResponseWriter, a answer) {
	if n.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	if a.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, a.status, a.body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"error":"the reply does not encode","effect":"unknown"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	w.Write(data)
}

// Cluster is the reply to GET /v1/cluster: what the node asked knows of the
// cluster, and what it holds itself. Answers of several nodes are of different
// instants.
type Cluster struct {
	Node        string         `json:"node"`
	StoreLeader string         `json:"store_leader"`
	Members     []MemberStatus `json:"members"`
	Shards      []ShardStatus  `json:"shards"`
	Shard       *int           `json:"shard,omitempty"` // of the entity asked for
	Owner       string         `json:"owner,omitempty"` // of that shard
}

// MemberStatus is one member of the cluster. Live is false if it is suspected.
type MemberStatus struct {
	Node  string   `json:"node"`
	Addr  string   `json:"addr"`
	Live  bool     `json:"live"`
	Holds *Holding `json:"holds,omitempty"` // of the node that was asked only
}

// Holding is what a node holds now.
type Holding struct {
	Entities    int   `json:"entities"`     // in memory, of the shards that it serves
	EntityBytes int64 `json:"entity_bytes"` // that they take, estimated as for its budget
	Passivated  int64 `json:"passivated"`   // entities that left memory since it was started
	InFlight    int64 `json:"in_flight"`    // commands of its clients that are not answered
}

// ShardStatus is one shard. State is serving or claiming for shards of the node
// that was asked, owned or released for others, free if nobody ever owned it.
type ShardStatus struct {
	Shard int    `json:"shard"`
	Owner string `json:"owner"`
	Epoch int64  `json:"epoch"`
	State string `json:"state"`
	Lag   *Lag   `json:"lag,omitempty"` // of shards that the node asked serves only
}

// Lag is how far the store is behind what a shard has executed.
type Lag struct {
	Records int64 `json:"records"`   // that are not durable
	Oldest  int64 `json:"oldest_ms"` // age of the oldest of them
}

func (n *Node) serveCluster(w http.ResponseWriter, r *http.Request) {
	c := n.Cluster()
	if typ, key := r.URL.Query().Get("type"), r.URL.Query().Get("key"); typ != "" {
		shard := ShardOf(typ, key, n.cfg.Shards)
		c.Shard, c.Owner = &shard, c.Shards[shard].Owner
	}
	writeJSON(w, http.StatusOK, c)
}

// Cluster tells what this node knows of the cluster.
func (n *Node) Cluster() Cluster {
	r := n.routes.Load()
	c := Cluster{Node: n.cfg.Name, StoreLeader: n.store.Status().Leader}
	holds := &Holding{Passivated: n.passivated.Load(), InFlight: n.inFlight.Load()}
	for name, m := range r.members {
		status := MemberStatus{Node: name, Addr: m.Addr, Live: m.Live}
		if name == n.cfg.Name {
			status.Holds = holds
		}
		c.Members = append(c.Members, status)
	}
	slices.SortFunc(c.Members, func(a, b MemberStatus) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	for _, s := range n.shards {
		o := r.owners[s.id]
		st := ShardStatus{Shard: s.id, Owner: o.Node, Epoch: o.Revision, State: "owned"}
		s.mu.Lock()
		if m := s.machine; m != nil {
			entities, bytes := m.Entities()
			holds.Entities, holds.EntityBytes = holds.Entities+entities, holds.EntityBytes+bytes
			records, age := m.Lag(n.now())
			st.Lag = &Lag{Records: records, Oldest: age.Milliseconds()}
		}
		s.mu.Unlock()
		switch {
		case o.Revision == 0:
			st.State = "free"
		case o.Released:
			st.State = "released"
		case o.Node == n.cfg.Name && st.Lag != nil:
			st.State = "serving"
		case o.Node == n.cfg.Name:
			st.State = "claiming"
		}
		c.Shards = append(c.Shards, st)
	}
	return c
}

// serveReady says whether commands can be expected to work here: the store
// answered within the last second and every shard has an owner that serves, as
// far as this node knows.
func (n *Node) serveReady(w http.ResponseWriter, _ *http.Request) {
	r := n.routes.Load()
	c := n.Cluster()
	problem := ""
	switch {
	case n.draining.Load():
		problem = "draining"
	case r.owners == nil || n.now()-r.at > time.Second:
		problem = "the store does not answer"
	case !n.store.Status().Up:
		problem = "the store cannot decide"
	}
	for _, s := range c.Shards {
		if problem == "" && (s.State != "serving" && s.State != "owned" || !r.members[s.Owner].Live) {
			problem = "shard " + strconv.Itoa(s.Shard) + " is " + s.State
		}
	}
	if problem != "" {
		http.Error(w, problem, http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n")
}
