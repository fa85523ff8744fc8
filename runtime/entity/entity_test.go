package entity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"statequake/runtime/entity"
)

// host does with one entity what a runtime does: it has commands decided,
// applies events and, after every one, goes on with a copy of the entity made
// from its snapshot.
type host struct {
	t        *testing.T
	typ      entity.Type
	entity   entity.Entity
	decision entity.Decision // the last one
	ops      int
}

func (h *host) send(command, args string) (json.RawMessage, error) {
	if h.entity == nil {
		h.entity = h.typ.New()
	}
	before := h.snapshot()
	d, err := h.entity.Handle(entity.Command{Name: command, Args: json.RawMessage(args)})
	h.decision = d
	if after := h.snapshot(); after != before {
		h.t.Errorf("%s: Handle changed %s to %s", command, before, after)
	}
	if err != nil {
		return nil, err
	}
	if d.Reject != "" {
		return json.RawMessage(fmt.Sprintf(`{"rejected":%q}`, d.Reject)), nil
	}
	if d.Event != nil {
		h.ops++
		event := *d.Event
		event.Op = fmt.Sprint("op", h.ops)
		h.entity.Apply(event)
		snapshot := h.snapshot()
		h.entity = h.typ.New()
		if err := json.Unmarshal([]byte(snapshot), h.entity); err != nil {
			h.t.Fatalf("%s: read %s back: %v", command, snapshot, err)
		}
		if again := h.snapshot(); again != snapshot {
			h.t.Errorf("snapshot %s is read back as %s", snapshot, again)
		}
	}
	raw, err := json.Marshal(d.Result)
	return raw, err
}

func (h *host) want(command, args, result string) {
	h.t.Helper()
	if got, err := h.send(command, args); err != nil || string(got) != result {
		h.t.Errorf("%s %s: %s, %v, want %s", command, args, got, err, result)
	}
}

func (h *host) wantError(command, args, part string) {
	h.t.Helper()
	if got, err := h.send(command, args); err == nil || !strings.Contains(err.Error(), part) {
		h.t.Errorf("%s %s: %s, %v, want an error with %q", command, args, got, err, part)
	}
}

func (h *host) snapshot() string {
	raw, err := json.Marshal(h.entity)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(raw)
}

// board is a value with a witness.
type board struct {
	entity.Witness
	Notes map[string]string `json:"notes"`
}

type note struct {
	Name, Text string
}

var boardType = entity.Value[board]{
	Name: "board",
	Commands: map[string]entity.Handler[board]{
		"pin": entity.Update(func(_ *entity.Context, b board, n note) (board, int, error) {
			if n.Text == "" {
				return b, 0, entity.Refuse("empty")
			}
			notes := map[string]string{n.Name: n.Text}
			for name, text := range b.Notes {
				if name != n.Name {
					notes[name] = text
				}
			}
			b.Notes = notes
			return b, len(notes), nil
		}),
		"break": entity.Update(func(_ *entity.Context, b board, _ entity.None) (board, int, error) {
			return b, 0, errors.New("out of pins")
		}),
		"clear": entity.Update(func(c *entity.Context, b board, _ entity.None) (board, int, error) {
			c.Delete()
			return b, len(b.Notes), nil
		}),
		"emit": entity.Update(func(c *entity.Context, b board, _ entity.None) (board, int, error) {
			c.Emit("no", nil)
			return b, 0, nil
		}),
		"read": entity.Query(func(b *board, n note) (string, error) {
			text, ok := b.Notes[n.Name]
			if !ok {
				return "", errors.New("no such note")
			}
			return text, nil
		}),
	},
}.Type()

func TestValue(t *testing.T) {
	h := &host{t: t, typ: boardType}
	h.want("pin", `{"name":"a","text":"x"}`, `1`)
	h.want("pin", `{"name":"b","text":"y"}`, `2`)
	h.want("pin", `{"name":"b"}`, `{"rejected":"empty"}`)
	h.want("read", `{"name":"a"}`, `"x"`)
	if !h.decision.Read {
		t.Error("a query is not a read")
	}
	h.wantError("read", `{"name":"c"}`, "no such note")
	h.wantError("break", ``, "break: out of pins")
	h.wantError("emit", ``, "a value has no events")
	h.wantError("pin", `{"name":1}`, "arguments")
	var unknown *entity.UnknownCommandError
	if _, err := h.send("steal", ``); !errors.As(err, &unknown) || unknown.Command != "steal" {
		t.Errorf("steal: %v, want an UnknownCommandError", err)
	}
	h.want("witness", ``, `{"ids":["op1","op2"]}`)
	// SHA-256 over 16 zeros and op1, of its first 16 digits and op2 again.
	if version, digest := h.entity.Applied(); version != 2 || digest != "2ed43fe6b912d557" {
		t.Errorf("applied %d, digest %s", version, digest)
	}
	h.want("clear", ``, `2`)
	h.wantError("read", `{"name":"a"}`, "no such note")
	h.want("witness", ``, `{"ids":["op1","op2","op3"]}`)
}

// ledger is event-sourced and has no witness.
type ledger struct {
	Lines []string `json:"lines"`
}

var ledgerType = entity.EventSourced[ledger]{
	Name: "ledger", SnapshotEvery: 7, Slow: true,
	Commands: map[string]entity.Handler[ledger]{
		"write": entity.Decide(func(c *entity.Context, l *ledger, lines []string) (int, error) {
			for _, line := range lines {
				c.Emit("line", line)
			}
			return len(l.Lines) + len(lines), nil
		}),
		"burn": entity.Decide(func(c *entity.Context, l *ledger, _ entity.None) (int, error) {
			c.Emit("line", "last words")
			c.Delete()
			c.Emit("line", "ashes")
			return len(l.Lines), nil
		}),
		"boast": entity.Decide(func(c *entity.Context, _ *ledger, _ entity.None) (int, error) {
			c.Emit("line", "best")
			c.After("a", time.Second, "write", nil)
			return 0, entity.Refuse("boasting")
		}),
		"clear":  entity.Decide(func(c *entity.Context, _ *ledger, _ entity.None) (int, error) { c.Emit("cleared", nil); return 0, nil }),
		"forget": entity.Decide(func(c *entity.Context, _ *ledger, _ entity.None) (int, error) { c.Emit("burnt", nil); return 0, nil }),
		"channel": entity.Decide(func(c *entity.Context, _ *ledger, _ entity.None) (int, error) {
			c.Emit("line", make(chan int))
			return 0, nil
		}),
		"plan": entity.Decide(func(c *entity.Context, _ *ledger, _ entity.None) (int, error) {
			c.After("a", time.Second, "write", []string{"later"})
			c.Set(entity.Timer{Name: "b", After: time.Minute, Type: "board", Key: "k", Command: "pin"}, nil)
			c.Cancel("c")
			return 0, nil
		}),
		"misplan": entity.Decide(func(c *entity.Context, _ *ledger, _ entity.None) (int, error) {
			c.After("a", time.Second, "write", make(chan int))
			return 0, nil
		}),
	},
	Events: map[string]entity.Fold[ledger]{
		"line":    entity.On(func(l *ledger, line string) { l.Lines = append(l.Lines, line) }),
		"cleared": entity.On(func(l *ledger, _ entity.None) { l.Lines = nil }),
	},
}.Type()

func TestEventSourced(t *testing.T) {
	if ledgerType.SnapshotEvery != 7 || !ledgerType.Slow || ledgerType.Name != "ledger" {
		t.Errorf("type %+v", ledgerType)
	}
	h := &host{t: t, typ: ledgerType}
	h.want("write", `["a","b","c"]`, `3`)
	h.want("write", `["d"]`, `4`)
	if got, want := h.snapshot(), `{"version":2,"state":{"lines":["a","b","c","d"]}}`; got != want {
		t.Errorf("snapshot %s, want %s", got, want)
	}
	h.want("write", `[]`, `4`)
	if h.decision.Event != nil || h.decision.Read {
		t.Errorf("a command without events decides %+v, want a write without an event", h.decision)
	}
	h.want("boast", ``, `{"rejected":"boasting"}`)
	if d := h.decision; d.Event == nil || d.Timers != nil {
		t.Errorf("a refusal after an event decides %+v, want the event for the runtime to drop", d)
	}
	h.want("write", `[]`, `4`)
	h.want("burn", ``, `4`)
	if got, want := h.snapshot(), `{"version":3,"state":{"lines":["ashes"]}}`; got != want {
		t.Errorf("snapshot %s, want %s", got, want)
	}
	h.want("clear", ``, `0`)
	h.wantError("forget", ``, `no event "burnt"`)
	h.wantError("channel", ``, "encode event line")
	h.wantError("misplan", ``, "arguments of timer a")
	h.wantError("witness", ``, "unknown command")

	h.want("plan", ``, `0`)
	want := []entity.Timer{
		{Name: "a", After: time.Second, Command: "write", Args: json.RawMessage(`["later"]`)},
		{Name: "b", After: time.Minute, Type: "board", Key: "k", Command: "pin"},
		{Name: "c", Cancel: true},
	}
	if got := h.decision.Timers; fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("timers %+v, want %+v", got, want)
	}

	defer func() {
		if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), `no event "burnt"`) {
			t.Errorf("an unknown event in the journal: %v, want a panic that names it", p)
		}
	}()
	h.entity.Apply(entity.Event{Name: "burnt"})
}

func TestAction(t *testing.T) {
	type args struct{ Stop int }
	var ops []string
	refuse := ""
	send := func(_ context.Context, op, typ, key string, c entity.Command) (json.RawMessage, error) {
		ops = append(ops, fmt.Sprintf("%s %s/%s %s %s", op, typ, key, c.Name, c.Args))
		switch {
		case key == "down":
			return nil, context.DeadlineExceeded
		case key == refuse:
			return json.RawMessage(`{"rejected":"closed"}`), nil
		}
		return json.RawMessage(fmt.Sprint(len(ops))), nil
	}
	three := entity.Do(func(ctx context.Context, c *entity.Calls, _ entity.None) ([]int, error) {
		var got []int
		for _, key := range []string{"x", "y", "z"} {
			n, err := entity.Call[int](ctx, c, "board", key, "pin", note{Name: key})
			if err != nil {
				return nil, fmt.Errorf("three: %w", err)
			}
			got = append(got, n)
		}
		if c.Made() != len(got) {
			return nil, fmt.Errorf("made %d calls", c.Made())
		}
		return got, nil
	})
	run := func(h entity.ActionHandler, args string) (string, error) {
		ops = nil
		raw, err := h(t.Context(), entity.NewCalls("op", send), entity.Command{Name: "three", Args: json.RawMessage(args)})
		return string(raw), err
	}
	if got, err := run(three, ``); got != "[1,2,3]" || err != nil {
		t.Errorf("three: %s, %v", got, err)
	}
	want := []string{
		`op/1 board/x pin {"Name":"x","Text":""}`,
		`op/2 board/y pin {"Name":"y","Text":""}`,
		`op/3 board/z pin {"Name":"z","Text":""}`,
	}
	if !slices.Equal(ops, want) {
		t.Errorf("calls %q, want %q", ops, want)
	}
	refuse = "y"
	if got, err := run(three, ``); got != `{"rejected":"closed"}` || err != nil || len(ops) != 2 {
		t.Errorf("refused by the second: %s, %v after %d calls", got, err, len(ops))
	}
	lost := entity.Do(func(ctx context.Context, c *entity.Calls, _ entity.None) (int, error) {
		return entity.Call[int](ctx, c, "board", "down", "pin", nil)
	})
	if _, err := run(lost, ``); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "board/down: pin") {
		t.Errorf("a call that fails: %v", err)
	}
	wrong := entity.Do(func(ctx context.Context, c *entity.Calls, _ args) (string, error) {
		return entity.Call[string](ctx, c, "board", "x", "pin", nil)
	})
	if _, err := run(wrong, ``); err == nil || !strings.Contains(err.Error(), "board/x: pin: result") {
		t.Errorf("a result of another type: %v", err)
	}
	if _, err := run(wrong, `{"Stop":"x"}`); err == nil || len(ops) != 0 {
		t.Errorf("bad arguments: %v after %d calls", err, len(ops))
	}
}
