package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"statequake/runtime/entity"
	"statequake/runtime/journal/memory"
)

// list is an event-sourced entity with all that the SDK has.
type list struct {
	entity.Witness
	Words []string `json:"words"`
}

type push struct {
	Word    string        `json:"word"`
	After   time.Duration `json:"after_ns"`
	To      string        `json:"to"`
	Action  string        `json:"action"`
	Command string        `json:"command"`
}

// gate holds handlers back by the words of their commands.
type gate struct {
	mu      sync.Mutex
	waiting map[string]chan struct{}
	calls   atomic.Int64
}

func (g *gate) of(key string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == nil {
		g.waiting = map[string]chan struct{}{}
	}
	if g.waiting[key] == nil {
		g.waiting[key] = make(chan struct{})
	}
	return g.waiting[key]
}

// types are the entity types of the tests: list, and slow, whose "hold" returns
// when the gate of its word opens.
func types(g *gate) []entity.Type {
	add := func(c *entity.Context, l *list, p push) (int, error) {
		switch p.Word {
		case "":
			return 0, entity.Refuse("no word")
		case "panic":
			panic("as told")
		}
		c.Emit("added", p.Word)
		return len(l.Words) + 1, nil
	}
	commands := map[string]entity.Handler[list]{
		"add": entity.Decide(add),
		"all": entity.Query(func(l *list, _ entity.None) ([]string, error) { return l.Words, nil }),
		"later": entity.Decide(func(c *entity.Context, l *list, p push) (int, error) {
			t := entity.Timer{Name: "later", After: p.After, Command: "add", Action: p.Action}
			if p.Command != "" {
				t.Command = p.Command
			}
			if p.To != "" {
				t.Type, t.Key = "list", p.To
			}
			c.Set(t, push{Word: p.Word})
			return 0, nil
		}),
		"cancel": entity.Decide(func(c *entity.Context, l *list, _ entity.None) (int, error) {
			c.Cancel("later")
			return 0, nil
		}),
		"hold": entity.Decide(func(c *entity.Context, l *list, p push) (int, error) {
			g.calls.Add(1)
			<-g.of(p.Word)
			return add(c, l, p)
		}),
	}
	l := entity.EventSourced[list]{
		Name: "list", Commands: commands,
		Events: map[string]entity.Fold[list]{"added": entity.On(func(l *list, word string) { l.Words = append(l.Words, word) })},
	}
	slow := l
	slow.Name, slow.Slow = "slow", true
	return []entity.Type{l.Type(), slow.Type(), {Name: "tally", New: func() entity.Entity { return &tally{} }}}
}

// actions are the actions of the tests: pair.add adds a word to two lists;
// fails says how often its second half fails first.
func actions(fails *atomic.Int64) []entity.Action {
	type pair struct{ A, B, Word string }
	return []entity.Action{{Name: "pair", Commands: map[string]entity.ActionHandler{
		"add": entity.Do(func(ctx context.Context, c *entity.Calls, p pair) (int, error) {
			if p.A == "" {
				p.A, p.B = "left", "right"
			}
			n, err := entity.Call[int](ctx, c, "list", p.A, "add", push{Word: p.Word})
			if err != nil {
				return 0, err
			}
			if fails.Add(-1) >= 0 {
				return 0, errors.New("the network is down")
			}
			m, err := entity.Call[int](ctx, c, "list", p.B, "add", push{Word: p.Word})
			return n + m, err
		}),
		"panic": entity.Do(func(context.Context, *entity.Calls, entity.None) (int, error) { panic("as told") }),
	}}}
}

// inMemory is a cluster whose nodes share a store in memory.
type inMemory struct {
	*cluster
	listeners map[string]net.Listener
	gate      gate
	fails     atomic.Int64
}

func newInMemory(t *testing.T, size int, limits Config) *inMemory {
	c := &inMemory{listeners: map[string]net.Listener{}, cluster: &cluster{t: t, members: map[string]Peer{}, nodes: map[string]*Node{}, servers: map[string]*http.Server{}, client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}}
	store := memory.New()
	for i := range size {
		c.members[fmt.Sprintf("n%d", i+1)] = Peer{API: freeAddr(t), Store: "127.0.0.1:1"}
	}
	for name, p := range c.members {
		cfg := limits
		cfg.Name, cfg.Members, cfg.Types, cfg.Actions = name, c.members, types(&c.gate), actions(&c.fails)
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		if cfg.Shards == 0 {
			cfg.Shards = 8
		}
		n, err := newNode(cfg)
		if err != nil {
			t.Fatal(err)
		}
		n.start(store.Open(memory.Faults{}))
		l, err := net.Listen("tcp", p.API)
		if err != nil {
			t.Fatal(err)
		}
		server := n.Server()
		go server.Serve(l)
		c.nodes[name], c.servers[name], c.listeners[name] = n, server, l
	}
	t.Cleanup(func() {
		for name := range c.nodes {
			c.crash(name)
		}
	})
	for name := range c.members {
		c.awaitReady(name)
	}
	return c
}

// post sends a command to /v1/PATH; op may be empty.
func (c *inMemory) post(via, op, path string, args any) (int, reply, http.Header) {
	raw, err := json.Marshal(args)
	if err != nil {
		c.t.Error(err)
	}
	req, err := http.NewRequest("POST", "http://"+c.members[via].API+"/v1/"+path, strings.NewReader(string(raw)))
	if err != nil {
		c.t.Error(err)
		return 0, reply{}, nil
	}
	req.Header.Set(opHeader, op)
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, reply{Error: err.Error()}, nil
	}
	defer resp.Body.Close()
	var r reply
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		r.Error = err.Error()
	}
	return resp.StatusCode, r, resp.Header
}

func (c *inMemory) ok(via, op, path string, args any) reply {
	c.t.Helper()
	status, r, _ := c.post(via, op, path, args)
	if status != http.StatusOK {
		c.t.Fatalf("%s: %d %+v", path, status, r)
	}
	return r
}

func (c *inMemory) words(via, typ, key string) []string {
	c.t.Helper()
	var words []string
	if err := json.Unmarshal(c.ok(via, "", "entities/"+typ+"/"+key+"/all", nil).Result, &words); err != nil {
		c.t.Fatal(err)
	}
	return words
}

// awaitWords waits until the list at key is want.
func (c *inMemory) awaitWords(via, key string, want ...string) {
	c.t.Helper()
	c.await(fmt.Sprintf("list %s is %v", key, want), func() (string, bool) {
		got := c.words(via, "list", key)
		return fmt.Sprint(got), slices.Equal(got, want)
	})
}

// ownedBy finds a key with the prefix whose list the node owns.
func (c *inMemory) ownedBy(node, prefix string) string {
	c.t.Helper()
	for i := range 1000 {
		key := fmt.Sprint(prefix, i)
		for _, s := range c.nodes[node].Cluster().Shards {
			if s.Owner == node && s.State == "serving" && s.Shard == ShardOf("list", key, 8) {
				return key
			}
		}
	}
	c.t.Fatalf("%s owns nothing", node)
	return ""
}

func (c *inMemory) timersSet() int {
	n := 0
	for _, node := range c.nodes {
		for _, s := range node.shards {
			s.mu.Lock()
			if s.machine != nil {
				n += s.machine.Timers()
			}
			s.mu.Unlock()
		}
	}
	return n
}

func TestTimers(t *testing.T) {
	c := newInMemory(t, 2, Config{})
	const soon = 30 * time.Millisecond
	c.ok("n1", "", "entities/list/self/later", push{Word: "w", After: soon})
	c.ok("n1", "", "entities/list/other/later", push{Word: "w", After: soon, To: "target"})
	c.ok("n1", "", "entities/list/act/later", push{Word: "w", After: soon, Action: "pair"})
	c.ok("n1", "", "entities/list/fails/later", push{Word: "w", After: soon, Command: "unknown"})
	c.ok("n1", "", "entities/list/lost/later", push{Word: "w", After: soon, Action: "nobody"})
	c.ok("n1", "", "entities/list/panics/later", push{Word: "panic", After: soon})
	c.ok("n1", "", "entities/list/explodes/later", push{Word: "w", After: soon, Action: "pair", Command: "panic"})
	c.ok("n1", "", "entities/list/again/later", push{Word: "old", After: time.Hour})
	c.ok("n1", "", "entities/list/again/later", push{Word: "new", After: soon})
	c.ok("n1", "", "entities/list/not/later", push{Word: "w", After: time.Hour})
	c.ok("n2", "", "entities/list/not/cancel", nil)
	for _, key := range []string{"self", "target", "left", "right"} {
		c.awaitWords("n2", key, "w")
	}
	c.awaitWords("n2", "again", "new")
	// Each is taken off once it has fired, whatever came of it.
	c.await("no timer is left", func() (string, bool) {
		n := c.timersSet()
		return fmt.Sprint(n), n == 0
	})
	for _, key := range []string{"self", "target", "left", "right"} {
		if got := c.words("n1", "list", key); len(got) != 1 {
			t.Errorf("list %s is %v: its timer fired more than once", key, got)
		}
	}
	if got := c.words("n1", "list", "not"); len(got) != 0 {
		t.Errorf("a timer that was cancelled fired: %v", got)
	}
}

// TestTimersSurvive kills the owner between set and due.
func TestTimersSurvive(t *testing.T) {
	c := newInMemory(t, 3, Config{})
	self, other, act := c.ownedBy("n1", "self"), c.ownedBy("n1", "other"), c.ownedBy("n1", "act")
	target := c.ownedBy("n2", "target")
	const due = 300 * time.Millisecond
	c.ok("n2", "", "entities/list/"+self+"/later", push{Word: "w", After: due})
	c.ok("n2", "", "entities/list/"+other+"/later", push{Word: "w", After: due, To: target})
	c.ok("n2", "", "entities/list/"+act+"/later", push{Word: "w", After: due, Action: "pair"})
	c.crash("n1")
	for _, key := range []string{self, target, "left", "right"} {
		c.awaitWords("n2", key, "w")
	}
	c.await("no timer is left", func() (string, bool) {
		n := c.timersSet()
		return fmt.Sprint(n), n == 0
	})
	for _, key := range []string{self, target, "left", "right"} {
		if got := c.words("n3", "list", key); len(got) != 1 {
			t.Errorf("list %s is %v, want one word", key, got)
		}
	}
}

func TestActions(t *testing.T) {
	c := newInMemory(t, 2, Config{})
	args := map[string]string{"A": "a", "B": "b", "Word": "w"}
	if r := c.ok("n1", "op1", "actions/pair/add", args); string(r.Result) != "2" {
		t.Errorf("result %s, want 2", r.Result)
	}
	if r := c.ok("n2", "op1", "actions/pair/add", args); string(r.Result) != "2" {
		t.Errorf("a retry elsewhere got %s, want 2", r.Result)
	}
	// A run that broke off between its calls is completed by a retry.
	c.fails.Store(1)
	if status, r, _ := c.post("n1", "op2", "actions/pair/add", args); status != http.StatusBadRequest || r.Effect != "unknown" {
		t.Errorf("half an action: %d %+v, want 400 with effect unknown", status, r)
	}
	if r := c.ok("n2", "op2", "actions/pair/add", args); string(r.Result) != "4" {
		t.Errorf("the retry got %s, want 4", r.Result)
	}
	for _, key := range []string{"a", "b"} {
		if got := c.words("n1", "list", key); len(got) != 2 {
			t.Errorf("list %s is %v, want two words", key, got)
		}
	}
	for range 2 {
		if r := c.ok("n1", "op3", "actions/pair/add", map[string]string{"A": "a", "B": "b"}); string(r.Result) != `{"rejected":"no word"}` {
			t.Errorf("refused: %s", r.Result)
		}
	}
	for _, tc := range []struct {
		path   string
		args   any
		status int
		effect string
	}{
		{"actions/nobody/add", nil, 404, "none"},
		{"actions/pair/steal", nil, 404, "none"},
		{"actions/pair/add", map[string]int{"A": 1}, 400, "none"},
		{"actions/pair/add", map[string]string{"A": "..", "B": "b", "Word": "w"}, 400, "none"},
		{"actions/pair/panic", nil, 500, "none"},
		{"entities/list/k/add", push{Word: "panic"}, 500, "none"},
		{"entities/slow/k/add", push{Word: "panic"}, 500, "none"},
	} {
		if status, r, _ := c.post("n1", "", tc.path, tc.args); status != tc.status || r.Effect != tc.effect {
			t.Errorf("%s %v: %d %+v, want %d with effect %s", tc.path, tc.args, status, r, tc.status, tc.effect)
		}
	}
	// The shards of handlers that panicked go on.
	c.ok("n2", "", "entities/list/k/add", push{Word: "w"})
	c.ok("n2", "", "entities/slow/k/add", push{Word: "w"})
}

// TestSlow has a handler of one entity take its time.
func TestSlow(t *testing.T) {
	const mailbox = 4
	c := newInMemory(t, 2, Config{Mailbox: mailbox, Shards: 1})
	var wg sync.WaitGroup
	hold := func(i int, typ, key string) {
		wg.Go(func() {
			word := fmt.Sprint("w", i)
			if status, r, _ := c.post("n1", "op-"+word, "entities/"+typ+"/"+key+"/hold", push{Word: word}); status != http.StatusOK || string(r.Result) != fmt.Sprint(i) {
				t.Errorf("hold %d: %d %+v", i, status, r)
			}
		})
	}
	underWay := func() (commands int64) {
		for _, n := range c.nodes {
			if n.serves(n.shards[0]) {
				commands = n.inFlight.Load()
			}
		}
		return commands
	}
	hold(1, "slow", "k")
	c.await("the handler is called", func() (string, bool) { return "", c.gate.calls.Load() == 1 })
	for i := 2; i <= mailbox+1; i++ {
		hold(i, "slow", "k")
		c.await(fmt.Sprint(i, " commands are under way"), func() (string, bool) {
			n := underWay()
			return fmt.Sprint(n), n == int64(i)
		})
	}
	for _, via := range []string{"n1", "n2"} {
		status, r, header := c.post(via, "", "entities/slow/k/add", push{Word: "more"})
		if status != http.StatusServiceUnavailable || r.Effect != "none" || header.Get("Retry-After") == "" {
			t.Errorf("beyond the mailbox via %s: %d %+v, Retry-After %q", via, status, r, header.Get("Retry-After"))
		}
	}
	c.ok("n1", "", "entities/slow/other/add", push{Word: "w"})
	c.ok("n1", "", "entities/list/k/add", push{Word: "w"})
	if got := c.gate.calls.Load(); got != 1 {
		t.Errorf("%d handlers of one entity were called at once", got)
	}
	for i := mailbox + 1; i >= 1; i-- { // the order of the queue counts, not that of the gates
		close(c.gate.of(fmt.Sprint("w", i)))
	}
	wg.Wait()
	if got := c.words("n2", "slow", "k"); fmt.Sprint(got) != "[w1 w2 w3 w4 w5]" {
		t.Errorf("the list is %v, want the words in the order in which they came", got)
	}
}

func TestInFlight(t *testing.T) {
	const most = 3
	c := newInMemory(t, 1, Config{MaxInFlight: most})
	var wg sync.WaitGroup
	for i := range most {
		wg.Go(func() { c.post("n1", "", fmt.Sprint("entities/slow/k", i, "/hold"), push{Word: "w"}) })
	}
	c.await("all are under way", func() (string, bool) {
		n := c.gate.calls.Load()
		return fmt.Sprint(n), n == most
	})
	for _, path := range []string{"entities/list/k/add", "actions/pair/add"} {
		status, r, header := c.post("n1", "", path, push{Word: "w"})
		if status != http.StatusServiceUnavailable || r.Effect != "none" || header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %+v, Retry-After %q", path, status, r, header.Get("Retry-After"))
		}
	}
	close(c.gate.of("w"))
	wg.Wait()
	// What panics leaves as well.
	for range most + 1 {
		if status, _, _ := c.post("n1", "", "actions/pair/panic", nil); status != http.StatusInternalServerError {
			t.Fatalf("panic: %d", status)
		}
	}
	c.ok("n1", "", "entities/list/k/add", push{Word: "w"})
}

// TestPassivation addresses far more entities than may stay in memory.
func TestPassivation(t *testing.T) {
	t.Run("entities", func(t *testing.T) { passivation(t, 10_000, Config{MaxEntities: 800}) })
	t.Run("bytes", func(t *testing.T) { passivation(t, 4_000, Config{MaxBytes: 500 << 10}) })
}

func passivation(t *testing.T, keys int, limits Config) {
	c := newInMemory(t, 1, limits)
	n := c.nodes["n1"]
	inMemory := func() (entities int, bytes int64) {
		for _, s := range n.shards {
			s.mu.Lock()
			if s.machine != nil {
				e, b := s.machine.Entities()
				entities, bytes = entities+e, bytes+b
			}
			s.mu.Unlock()
		}
		return entities, bytes
	}
	const workers = 32
	peak := atomic.Int64{}
	each := func(round int, word, want string) {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := w; i < keys && !t.Failed(); i += workers {
					path, op := fmt.Sprint("entities/list/k", i, "/add"), fmt.Sprint(word, "-", i)
					for {
						status, r, _ := c.post("n1", op, path, push{Word: word})
						if status == http.StatusServiceUnavailable && r.Effect == "none" {
							time.Sleep(time.Millisecond) // as a client does
							continue
						}
						if status != http.StatusOK || string(r.Result) != want || fmt.Sprint(r.Version) != want {
							t.Errorf("round %d: %s: %d %+v, want %s", round, path, status, r, want)
						}
						break
					}
					if i%64 == 0 {
						e, _ := inMemory()
						peak.Store(max(peak.Load(), int64(e)))
					}
				}
			})
		}
		wg.Wait()
	}
	each(1, "a", "1")
	each(2, "b", "2")
	each(3, "a", "1") // retries: every answer is remembered
	e, b := inMemory()
	t.Logf("%d entities, %d bytes at the end; %d at most", e, b, peak.Load())
	if peak.Load() > 2400 { // twice the budget, and a round of the workers
		t.Errorf("%d entities were in memory, the budget is 600 to 800", peak.Load())
	}
	c.await("the budget is kept", func() (string, bool) {
		e, b := inMemory()
		return fmt.Sprintf("%d entities, %d bytes", e, b), (limits.MaxEntities == 0 || e <= limits.MaxEntities) && (limits.MaxBytes == 0 || b <= limits.MaxBytes)
	})
	for _, i := range []int{0, keys / 2, keys - 1} {
		if got := c.words("n1", "list", fmt.Sprint("k", i)); fmt.Sprint(got) != "[a b]" {
			t.Errorf("k%d is %v, want [a b]", i, got)
		}
	}
}

// TestTooLarge fills an entity up: what does not fit has no effect, and what it
// holds can still be stored and read.
func TestTooLarge(t *testing.T) {
	c := newInMemory(t, 2, Config{})
	word := strings.Repeat("x", 200<<10)
	fit := 0
	for ; fit < 20; fit++ {
		status, r, _ := c.post("n1", "", "entities/list/k/add", push{Word: word})
		if status == http.StatusRequestEntityTooLarge && r.Effect == "none" {
			break
		}
		if status != http.StatusOK {
			t.Fatalf("word %d: %d %+v", fit, status, r)
		}
	}
	if fit != 5 { // of 200 KiB into 1 MiB
		t.Errorf("%d words fit, want 5", fit)
	}
	if got := c.words("n2", "list", "k"); len(got) != fit {
		t.Errorf("%d words, want %d: one that was refused had an effect", len(got), fit)
	}
	r := c.ok("n1", "", "entities/list/k/add", push{Word: "small"})
	if string(r.Result) != fmt.Sprint(fit+1) || r.Version != int64(fit+1) {
		t.Errorf("a small word after it: %+v", r)
	}
	if status, r, _ := c.post("n1", "", "entities/list/k/add", push{Word: strings.Repeat("x", maxArgs)}); status != http.StatusRequestEntityTooLarge || r.Effect != "none" {
		t.Errorf("large arguments: %d %+v", status, r)
	}
	if status, r, _ := c.post("n1", "", "entities/list/j/later", push{Word: word, After: time.Hour}); status != http.StatusRequestEntityTooLarge || r.Effect != "none" {
		t.Errorf("large arguments of a timer: %d %+v", status, r)
	}
}

// TestDrainUnderLoad stops a node gracefully under load, with clients that talk
// to all nodes and send the same operation elsewhere when a connection is refused
// or reset. Nothing else may go wrong, and every operation takes effect once.
func TestDrainUnderLoad(t *testing.T) {
	c := newInMemory(t, 3, Config{})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var acked [6]atomic.Int64
	for w := range acked {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil && !t.Failed(); i++ {
				for via := i; ; via++ {
					typ := []string{"list", "slow"}[w%2]
					status, r, _ := c.post([]string{"n1", "n2", "n3"}[via%3], fmt.Sprint(w, "-", i), fmt.Sprint("entities/", typ, "/d", w, "/add"), push{Word: "w"})
					// Refused, or reset while it waited to be accepted.
					if status == 0 && (strings.Contains(r.Error, "dial tcp") || strings.Contains(r.Error, "reset by peer")) {
						continue
					}
					if status != http.StatusOK {
						t.Errorf("worker %d, op %d: %d %+v", w, i, status, r)
					}
					break
				}
				acked[w].Add(1)
			}
		})
	}
	progress := func(what string) {
		var from [len(acked)]int64
		for w := range acked {
			from[w] = acked[w].Load()
		}
		c.await(what, func() (string, bool) {
			for w := range acked {
				if acked[w].Load() < from[w]+20 && !t.Failed() {
					return fmt.Sprintf("worker %d has %d", w, acked[w].Load()), false
				}
			}
			return "", true
		})
	}
	progress("all workers write")
	drain, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.nodes["n1"].Shutdown(drain, c.servers["n1"], c.listeners["n1"]); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	c.nodes["n1"].Close()
	delete(c.nodes, "n1")
	progress("all workers write without n1")
	stop()
	wg.Wait()
	for w := range acked {
		if got := c.words("n2", []string{"list", "slow"}[w%2], fmt.Sprint("d", w)); int64(len(got)) != acked[w].Load() {
			t.Errorf("worker %d: %d words, %d were acknowledged", w, len(got), acked[w].Load())
		}
	}
}

func (n *Node) serves(s *shard) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine != nil
}
