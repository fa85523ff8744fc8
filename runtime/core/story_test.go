package core_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"statequake/runtime/core"
	"statequake/runtime/entity"
)

// tally counts: add {"n":int} unless the sum would exceed 100, get. later sets
// the timer "t" to add n after a second (or to send it to "other" in n = 7, or
// to the action "act" in n = 8), never cancels it, tick sets it anew each time.
// delete sets the sum to 0.
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
	switch {
	case c.Name == "get":
		return entity.Reply(t.Sum), nil
	case c.Name == "later":
		timer := entity.Timer{Name: "t", After: time.Second, Command: "add", Args: c.Args}
		if arg.N == 7 {
			timer.Type, timer.Key = "tally", "other"
		}
		if arg.N == 8 {
			timer.Action = "act"
		}
		return entity.Decision{Result: "set", Timers: []entity.Timer{timer}}, nil
	case c.Name == "tick":
		d, err := entity.Emit("added", arg, t.Sum+arg.N)
		d.Timers = []entity.Timer{{Name: "t", After: time.Second, Command: "tick", Args: c.Args}}
		return d, err
	case c.Name == "senseless":
		return entity.Decision{Result: "set", Timers: []entity.Timer{{Name: "t", After: time.Second, Command: "steal"}}}, nil
	case c.Name == "delete":
		return entity.Decision{Event: &entity.Event{Name: entity.DeletedEvent}, Result: "deleted"}, nil
	case c.Name == "never":
		return entity.Decision{Result: "cancelled", Timers: []entity.Timer{{Name: "t", Cancel: true}}}, nil
	case c.Name != "add":
		return entity.Decision{}, c.Unknown()
	}
	d, err := entity.Emit("added", arg, t.Sum+arg.N)
	if t.Sum+arg.N > 100 {
		d.Reject = "too much" // and so without the event
	}
	return d, err
}

func (t *tally) Apply(e entity.Event) {
	if e.Name == entity.DeletedEvent {
		t.Sum = 0
		t.Record(e.Op)
		return
	}
	var arg struct {
		N int `json:"n"`
	}
	if err := json.Unmarshal(e.Data, &arg); err != nil {
		panic(err)
	}
	t.Sum += arg.N
	t.Record(e.Op)
}

// disk is what survives a crash in the stories.
type disk struct {
	head        core.Head
	journal     []core.Group
	checkpoints map[core.ID]core.Checkpoint
}

// TestStories runs the files in testdata: a shard, its disk and the outputs,
// told step by step.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var (
			s         *core.Shard
			d         = disk{checkpoints: map[core.ID]core.Checkpoint{}}
			cfg       core.Config
			now       time.Duration
			group     core.Group
			snap      []core.Checkpoint
			timerPage core.ID
			cut       core.Head
			out       strings.Builder
			runs      []core.Run
			fires     = map[string]core.Fire{}
		)
		tell := func(o core.Output) {
			for _, r := range o.Replies {
				switch {
				case r.Err != nil:
					fmt.Fprintf(&out, "%v: %v\n", r.Ticket, r.Err)
				default:
					fmt.Fprintf(&out, "%v: %s at version %d\n", r.Ticket, r.Result, r.Version)
				}
			}
			slices.SortFunc(o.Loads, func(a, b core.ID) int { return strings.Compare(a.Key, b.Key) })
			timerPages := 0
			for _, id := range o.Loads {
				if id.Type != "tally" {
					timerPages++
					continue
				}
				fmt.Fprintf(&out, "load %s\n", id.Key)
			}
			if timerPages > 0 {
				fmt.Fprintf(&out, "load %d pages of timers\n", timerPages)
			}
			for _, r := range o.Runs {
				fmt.Fprintf(&out, "decide %s on %s %s\n", r.ID.Key, r.Command.Name, r.Command.Args)
				runs = append(runs, r)
			}
			for _, f := range o.Fires {
				fmt.Fprintf(&out, "fire %s%s %s %s\n", f.Action, f.Target.Key, f.Name, f.Args)
				if last, ok := fires[f.Target.Key+f.Action]; ok && last.Op != f.Op {
					fmt.Fprintf(&out, "with another op than before\n")
				}
				fires[f.Target.Key+f.Action] = f
			}
			for _, id := range o.Stores {
				fmt.Fprintf(&out, "store %s soon\n", id.Key)
			}
		}
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			out.Reset()
			arg := func(name string) (v string) { td.MaybeScanArgs(t, name, &v); return v }
			key := func() core.ID { return core.ID{Type: "tally", Key: arg("key")} }
			switch td.Cmd {
			case "recover": // recover epoch=1 [memory] [bug=NAME] [slow] [entities=N] [mailbox=N] [every=N]
				var epoch int64
				td.ScanArgs(t, "epoch", &epoch)
				var every int
				td.MaybeScanArgs(t, "every", &every)
				cfg = core.Config{
					Types: map[string]entity.Type{"tally": {
						Name: "tally", New: func() entity.Entity { return &tally{} }, Slow: td.HasArg("slow"), SnapshotEvery: every,
					}},
					Memory: td.HasArg("memory"), Window: 500 * time.Millisecond, Lease: 500 * time.Millisecond,
				}
				td.MaybeScanArgs(t, "entities", &cfg.MaxEntities)
				td.MaybeScanArgs(t, "mailbox", &cfg.Mailbox)
				if bug := arg("bug"); bug != "" {
					plant, ok := core.Planted[bug]
					if !ok {
						t.Fatalf("unknown bug %q", bug)
					}
					cfg.Bugs = plant.Bugs
				}
				s = core.New(cfg, epoch, d.head, d.journal, now)
			case "wait": // wait 100ms
				pause, err := time.ParseDuration(td.CmdArgs[0].Key)
				if err != nil {
					t.Fatal(err)
				}
				now += pause
			case "submit": // submit op=a key=k add 5 | get
				c := core.Command{Ticket: arg("op"), Op: arg("op"), ID: key(), Name: td.CmdArgs[2].Key}
				if len(td.CmdArgs) > 3 {
					c.Args = json.RawMessage(fmt.Sprintf(`{"n":%s}`, td.CmdArgs[3].Key))
				}
				tell(s.Submit(now, c))
			case "loaded": // loaded key=k: the store's answer
				var c *core.Checkpoint
				if have, ok := d.checkpoints[key()]; ok {
					c = &have
				}
				o, err := s.Loaded(now, key(), c)
				if err != nil {
					return err.Error()
				}
				tell(o)
			case "tick": // the store's answers to what it loads come at once
				o := s.Tick(now, int64(now))
				tell(o)
				loadTimers(t, s, now, d.checkpoints, o)
			case "decided": // decided: the slow handler that was asked first answers
				r := runs[0]
				runs = runs[1:]
				decision, err := r.Entity.Handle(r.Command)
				tell(s.Decided(now, r, decision, err))
			case "fired": // fired key=other [again]
				tell(s.Fired(now, fires[arg("key")], !td.HasArg("again")))
			case "memory":
				n, _ := s.Entities()
				fmt.Fprintf(&out, "%d entities, %d timers\n", n, s.Timers())
			case "store-failed":
				s.StoreFailed(key())
			case "stored": // the snapshots are in the store
				for _, c := range snap {
					d.checkpoints[c.ID] = c
					s.Stored(c.ID, c.Pos)
				}
				snap = nil
			case "load-failed":
				tell(s.LoadFailed(key()))
			case "gather":
				g, ok := s.Gather()
				if !ok {
					return "nothing\n"
				}
				group = g
				fmt.Fprintf(&out, "group %d of epoch %d:", g.Seq, g.Epoch)
				for _, r := range g.Records {
					switch {
					case r.Op == "":
						out.WriteString(" (timer done)")
					case strings.Contains(r.Op, "/"):
						out.WriteString(" (timer)")
					default:
						fmt.Fprintf(&out, " %s", r.Op)
					}
				}
				out.WriteString("\n")
			case "commit": // the store has made the group durable, the shard is not told yet
				data, err := core.EncodeGroup(group)
				if err != nil {
					t.Fatal(err)
				}
				g, err := core.DecodeGroup(data)
				if err != nil {
					t.Fatal(err)
				}
				d.journal = append(d.journal, g)
			case "durable":
				tell(s.Durable())
			case "confirm":
				s.Confirmed(now)
			case "close":
				tell(s.Close())
			case "depose":
				tell(s.Depose())
			case "plan":
				var ids []core.ID
				cut, ids = s.Plan()
				fmt.Fprintf(&out, "cut at group %d, record %d;", cut.Seq, cut.Pos)
				slices.SortFunc(ids, func(a, b core.ID) int { return strings.Compare(a.Key, b.Key) })
				for _, id := range ids {
					if id.Type != "tally" {
						fmt.Fprintf(&out, " timers")
						timerPage = id
						continue
					}
					fmt.Fprintf(&out, " %s", id.Key)
				}
				out.WriteString("\n")
			case "snapshot": // snapshot key=k | timers
				id := key()
				if td.HasArg("timers") {
					id = timerPage
				}
				c, ok, o, err := s.Snapshot(id)
				tell(o)
				loadTimers(t, s, now, d.checkpoints, o)
				if err != nil {
					return err.Error()
				}
				if ok {
					snap = append(snap, c)
					name := c.ID.Key
					if c.ID.Type != "tally" {
						name = "timers"
					}
					fmt.Fprintf(&out, "%s at record %d, durable up to %d\n", name, c.Pos, s.DurablePos())
				}
			case "store": // the snapshots are in the store and the journal is cut
				for _, c := range snap {
					d.checkpoints[c.ID] = c
					s.Stored(c.ID, c.Pos)
				}
				snap = nil
				d.head = cut
				d.journal = slices.DeleteFunc(d.journal, func(g core.Group) bool { return g.Seq <= cut.Seq })
			default:
				t.Fatalf("unknown step %q", td.Cmd)
			}
			if out.Len() == 0 {
				return "ok\n"
			}
			return out.String()
		})
	})
}

// loadTimers hands over the checkpoints of timers that a shard asks for.
func loadTimers(t interface{ Fatal(...any) }, s *core.Shard, now time.Duration, checkpoints map[core.ID]core.Checkpoint, o core.Output) {
	for _, id := range o.Loads {
		if id.Type == "tally" {
			continue
		}
		var c *core.Checkpoint
		if have, ok := checkpoints[id]; ok {
			c = &have
		}
		if _, err := s.Loaded(now, id, c); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDedupeLimit: an operation is forgotten exactly when DedupeLimit later
// ones were executed on its entity.
func TestDedupeLimit(t *testing.T) {
	types := map[string]entity.Type{"tally": {Name: "tally", New: func() entity.Entity { return &tally{} }}}
	s := core.New(core.Config{Types: types, Lease: time.Hour}, 1, core.Head{}, nil, 0)
	id := core.ID{Type: "tally", Key: "k"}
	submit := func(op string) {
		s.Submit(0, core.Command{Ticket: op, Op: op, ID: id, Name: "add", Args: json.RawMessage(`{"n":0}`)})
		if _, err := s.Loaded(0, id, nil); err != nil {
			t.Fatal(err)
		}
	}
	records := func() int {
		n := 0
		for {
			g, ok := s.Gather()
			if !ok {
				return n
			}
			n += len(g.Records)
			s.Durable()
		}
	}
	submit("first")
	for i := range core.DedupeLimit - 1 {
		submit(fmt.Sprint(i))
	}
	submit("first")
	if n := records(); n != core.DedupeLimit {
		t.Errorf("%d records; the retry of the oldest remembered op must not make one (limit %d)", n, core.DedupeLimit)
	}
	submit("one more")
	submit("first")
	if n := records(); n != 2 {
		t.Errorf("%d records after the limit, want 2: the oldest op is forgotten", n)
	}
}

// TestBadCheckpoint: a checkpoint that does not decode is an error, not an
// empty entity.
func TestBadCheckpoint(t *testing.T) {
	types := map[string]entity.Type{"tally": {Name: "tally", New: func() entity.Entity { return &tally{} }}}
	s := core.New(core.Config{Types: types, Lease: time.Hour}, 1, core.Head{}, nil, 0)
	id := core.ID{Type: "tally", Key: "k"}
	s.Submit(0, core.Command{Ticket: 1, Op: "a", ID: id, Name: "get"})
	if _, err := s.Loaded(0, id, &core.Checkpoint{ID: id, State: json.RawMessage(`{"sum":"x"}`)}); err == nil {
		t.Fatal("no error")
	}
	out := s.LoadFailed(id)
	if len(out.Replies) != 1 || !errors.Is(out.Replies[0].Err, core.ErrLease) {
		t.Fatalf("waiting command got %+v, want to be tried again", out.Replies)
	}
}
