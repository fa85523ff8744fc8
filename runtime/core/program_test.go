package core_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"statequake/runtime/core"
	"statequake/runtime/entity"
)

// list only remembers: add, later (which also sets a timer of the given name to
// add), witness.
type list struct{ entity.Witness }

type listArgs struct {
	Timer string `json:"timer"`
	After int    `json:"after_ms"`
}

var listType = entity.EventSourced[list]{
	Name: "list",
	Commands: map[string]entity.Handler[list]{
		"add": entity.Decide(func(c *entity.Context, _ *list, _ entity.None) (bool, error) {
			c.Emit("added", nil)
			return true, nil
		}),
		"later": entity.Decide(func(c *entity.Context, _ *list, a listArgs) (bool, error) {
			c.Emit("added", nil)
			c.After(a.Timer, time.Duration(a.After)*time.Millisecond, "add", nil)
			return true, nil
		}),
	},
	Events: map[string]entity.Fold[list]{"added": entity.On(func(*list, entity.None) {})},
}

// world is a shard, its store, and what its clients were told.
type world struct {
	t     *rapid.T
	cfg   core.Config
	disk  disk
	epoch int64
	now   time.Duration

	s         *core.Shard
	loads     []core.ID
	runs      []core.Run
	stores    []core.ID
	group     *core.Group
	snapshots []core.Checkpoint

	commands map[string]core.Command // by op
	acked    map[string]core.Reply   // writes, by op
	reads    map[string]core.Reply   // by op
	floor    map[string]int64        // version that a read must show at least, by op
	highest  map[core.ID]int64       // version that was acknowledged
}

func (w *world) recover() {
	w.epoch++
	w.s = core.New(w.cfg, w.epoch, w.disk.head, w.disk.journal, w.now)
	w.loads, w.runs, w.stores, w.group, w.snapshots = nil, nil, nil, nil, nil
}

func (w *world) tell(o core.Output) {
	w.loads = append(w.loads, o.Loads...)
	w.runs = append(w.runs, o.Runs...)
	w.stores = append(w.stores, o.Stores...)
	for _, r := range o.Replies {
		op := r.Ticket.(string)
		c := w.commands[op]
		switch {
		case r.Err != nil:
		case c.Name == "witness":
			if r.Version < w.floor[op] {
				w.t.Fatalf("read %s shows version %d, %d was acknowledged before it", op, r.Version, w.floor[op])
			}
			w.reads[op] = r
		default:
			if before, twice := w.acked[op]; twice && before.Version != r.Version {
				w.t.Fatalf("%s was answered with versions %d and %d", op, before.Version, r.Version)
			}
			w.acked[op] = r
		}
		if r.Err == nil {
			w.highest[c.ID] = max(w.highest[c.ID], r.Version)
		}
	}
}

func (w *world) submit(c core.Command) {
	c.Ticket = c.Op
	if c.Name == "witness" {
		w.floor[c.Op] = w.highest[c.ID]
	}
	w.commands[c.Op] = c
	w.tell(w.s.Submit(w.now, c))
}

func (w *world) loaded() {
	if len(w.loads) == 0 {
		return
	}
	id := w.loads[0]
	w.loads = w.loads[1:]
	var c *core.Checkpoint
	if have, ok := w.disk.checkpoints[id]; ok {
		c = &have
	}
	o, err := w.s.Loaded(w.now, id, c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.tell(o)
}

func (w *world) decided() {
	if len(w.runs) == 0 {
		return
	}
	r := w.runs[0]
	w.runs = w.runs[1:]
	d, err := r.Entity.Handle(r.Command)
	w.tell(w.s.Decided(w.now, r, d, err))
}

func (w *world) commit() {
	if w.group == nil {
		return
	}
	data, err := core.EncodeGroup(*w.group)
	if err != nil {
		w.t.Fatal(err)
	}
	g, err := core.DecodeGroup(data)
	if err != nil {
		w.t.Fatal(err)
	}
	if n := len(w.disk.journal); n == 0 || w.disk.journal[n-1].Seq < g.Seq {
		w.disk.journal = append(w.disk.journal, g)
	}
}

func (w *world) flush() {
	if w.group == nil {
		if g, ok := w.s.Gather(); ok {
			w.group = &g
		}
		return
	}
	w.commit()
	w.group = nil
	w.tell(w.s.Durable())
}

// snapshot takes the snapshot of an entity, loading it first if need be.
func (w *world) snapshot(id core.ID) {
	for range 1000 {
		c, ok, o, err := w.s.Snapshot(id)
		w.tell(o)
		if err != nil {
			w.t.Fatal(err)
		}
		if ok {
			w.snapshots = append(w.snapshots, c)
			return
		}
		w.loaded()
	}
	w.t.Fatalf("no snapshot of %s can be taken", id.Key)
}

// store stores the oldest snapshot if its records are durable.
func (w *world) store() bool {
	if len(w.snapshots) == 0 || w.snapshots[0].Pos > w.s.DurablePos() {
		return false
	}
	c := w.snapshots[0]
	w.snapshots = w.snapshots[1:]
	w.disk.checkpoints[c.ID] = c
	w.s.Stored(c.ID, c.Pos)
	return true
}

// round stores all that changed and cuts the journal, unless the process dies
// at one of its steps.
func (w *world) round(dieAt int) {
	head, ids := w.s.Plan()
	for _, id := range ids {
		if dieAt--; dieAt == 0 {
			w.recover()
			return
		}
		w.snapshot(id)
		for len(w.snapshots) > 0 {
			if !w.store() {
				w.flush()
			}
		}
	}
	w.disk.head = head
	w.disk.journal = slices.DeleteFunc(w.disk.journal, func(g core.Group) bool { return g.Seq <= head.Seq })
}

func (w *world) tick() {
	w.s.Confirmed(w.now)
	w.tell(w.s.Tick(w.now, int64(w.now)))
}

// settle lets everything that is under way end.
func (w *world) settle() {
	for range 1000 {
		if len(w.loads) == 0 && len(w.runs) == 0 && w.group == nil && !w.s.Pending() {
			return
		}
		w.loaded()
		w.decided()
		w.flush()
	}
	w.t.Fatal("it does not come to rest")
}

// TestProgram runs random programs of commands, retries, flushes, checkpoints,
// passivation, timers and crashes at any point, and then reads everything back:
// what was acknowledged is there exactly once and in its place, and each timer
// that was set has fired exactly once.
func TestProgram(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		typ := listType.Type()
		typ.Slow = rapid.Bool().Draw(t, "slow")
		typ.SnapshotEvery = rapid.SampledFrom([]int{0, 3}).Draw(t, "every")
		w := &world{
			t: t, disk: disk{checkpoints: map[core.ID]core.Checkpoint{}},
			cfg: core.Config{
				Types: map[string]entity.Type{"list": typ}, Lease: time.Hour,
				MaxEntities: rapid.IntRange(0, 2).Draw(t, "entities"), Mailbox: rapid.IntRange(1, 4).Draw(t, "mailbox"),
			},
			commands: map[string]core.Command{}, acked: map[string]core.Reply{}, reads: map[string]core.Reply{},
			floor: map[string]int64{}, highest: map[core.ID]int64{},
		}
		w.recover()
		var ids []core.ID
		for i := range 4 {
			ids = append(ids, core.ID{Type: "list", Key: fmt.Sprint("k", i)})
		}
		steps := []string{"add", "add", "later", "retry", "read", "loaded", "loaded", "loaded", "decided", "decided", "flush", "flush", "tick", "asked", "snapshot", "store", "store", "round", "commit and crash", "crash"}
		var ops []string
		for i := range rapid.IntRange(1, 120).Draw(t, "length") {
			op := fmt.Sprintf("op%d", i)
			id := rapid.SampledFrom(ids).Draw(t, "key")
			switch step := rapid.SampledFrom(steps).Draw(t, "step"); step {
			case "add":
				ops = append(ops, op)
				w.submit(core.Command{Op: op, ID: id, Name: "add"})
			case "later":
				ops = append(ops, op)
				args := fmt.Sprintf(`{"timer":%q,"after_ms":%d}`, op, rapid.IntRange(0, 200).Draw(t, "after"))
				w.submit(core.Command{Op: op, ID: id, Name: "later", Args: json.RawMessage(args)})
			case "retry":
				if len(ops) > 0 {
					w.submit(w.commands[rapid.SampledFrom(ops).Draw(t, "op")])
				}
			case "read":
				w.submit(core.Command{Op: op, ID: id, Name: "witness"})
			case "loaded":
				w.loaded()
			case "decided":
				w.decided()
			case "flush":
				w.flush()
			case "tick":
				w.now += 50 * time.Millisecond
				w.tick()
			case "asked":
				for _, id := range w.stores {
					w.snapshot(id)
				}
				w.stores = nil
			case "snapshot":
				w.snapshot(id)
			case "store":
				w.store()
			case "round":
				w.round(rapid.IntRange(0, 6).Draw(t, "dies at"))
			case "commit and crash":
				w.commit()
				w.recover()
			case "crash":
				w.recover()
			}
		}

		w.cfg.MaxEntities = 0
		w.recover()
		for range 20 {
			w.now += 100 * time.Millisecond
			w.tick()
			w.settle()
		}
		if n := w.s.Timers(); n != 0 {
			t.Fatalf("%d timers are left", n)
		}
		for _, id := range ids {
			w.audit(id)
		}
	})
}

func (w *world) audit(id core.ID) {
	op := "audit " + id.Key
	w.submit(core.Command{Op: op, ID: id, Name: "witness"})
	w.settle()
	var final struct {
		IDs []string `json:"ids"`
	}
	if r, ok := w.reads[op]; !ok || json.Unmarshal(r.Result, &final) != nil {
		w.t.Fatalf("audit of %s: %+v", id.Key, r)
	}
	var chain entity.Witness
	_, zero := chain.Applied()
	digests := []string{zero}
	seen := map[string]bool{}
	set, fired := 0, 0
	for _, op := range final.IDs {
		if seen[op] {
			w.t.Fatalf("%s: %s took effect twice: %v", id.Key, op, final.IDs)
		}
		seen[op] = true
		chain.Record(op)
		digests = append(digests, chain.Digest)
		switch {
		case strings.Contains(op, "/"):
			fired++
		case w.commands[op].Name == "later":
			set++
		}
	}
	if set != fired {
		w.t.Fatalf("%s: %d timers were set, %d fired: %v", id.Key, set, fired, final.IDs)
	}
	for op, r := range w.acked {
		if w.commands[op].ID == id && (r.Version < 1 || r.Version > int64(len(final.IDs)) || final.IDs[r.Version-1] != op) {
			w.t.Fatalf("%s: %s was acknowledged as version %d of %v", id.Key, op, r.Version, final.IDs)
		}
	}
	for op, r := range w.reads {
		if w.commands[op].ID == id && (r.Version >= int64(len(digests)) || digests[r.Version] != r.Digest) {
			w.t.Fatalf("%s: read %s saw version %d, digest %s, which never was", id.Key, op, r.Version, r.Digest)
		}
	}
}

// FuzzDecodeGroup: no input makes the decoder panic, and what it accepts is
// decoded again from what it encodes to.
func FuzzDecodeGroup(f *testing.F) {
	g := core.Group{Seq: 3, Epoch: 4, Records: []core.Record{
		{Pos: 9, ID: core.ID{Type: "t", Key: "k"}, Op: "a", Event: &entity.Event{Name: "e", Data: json.RawMessage(`{}`)}, Result: json.RawMessage(`1`), Version: 2, Digest: "d"},
		{Pos: 10, ID: core.ID{Type: "t", Key: "k"}, Timers: []core.TimerChange{{Name: "n", Cancel: true}, {Name: "m", Due: 5, Target: core.ID{Type: "u", Key: "l"}, Command: "c", Args: json.RawMessage(`{}`)}}},
	}}
	data, err := core.EncodeGroup(g)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := core.DecodeGroup(data)
		if err != nil {
			return
		}
		again, err := core.EncodeGroup(g)
		if err != nil {
			t.Fatal(err)
		}
		h, err := core.DecodeGroup(again)
		if err != nil || fmt.Sprintf("%+v", h.Records) != fmt.Sprintf("%+v", g.Records) && !strings.Contains(fmt.Sprintf("%+v", g.Records), "0x") {
			t.Fatalf("%+v became %+v (%v)", g, h, err)
		}
	})
}
