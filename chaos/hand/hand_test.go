package hand

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"statequake/history"
)

// soon bounds what happens at once.
const soon = 10 * time.Second

// office is a desk whose faults last until they are healed.
type office struct {
	active atomic.Int32
	err    error // of every fault
}

func (o *office) desk() Desk {
	return Desk{
		Now:  func() time.Duration { return 7 },
		Info: func() Info { return Info{Harness: "test", Active: []string{fmt.Sprint(o.active.Load())}} },
		Take: func(order Order) (func(context.Context, func(Line)) error, error) {
			switch order.Name {
			case "wrong":
				return nil, &Refused{[]Problem{{Field: "chaos.kind", Text: "is no kind", Hint: "think"}, {Text: "and more"}}}
			case "closed":
				return nil, errors.New("come back later")
			}
			return func(ctx context.Context, tell func(Line)) error {
				o.active.Add(1)
				defer o.active.Add(-1)
				tell(Line{Note: string(order.Chaos)})
				tell(Line{Event: &history.Fault{Name: order.Name + "-2", Event: history.Requested, At: 5}})
				<-ctx.Done()
				tell(Line{Event: &history.Fault{Name: order.Name + "-2", Event: history.Recovered}})
				return o.err
			}, nil
		},
	}
}

func (o *office) await(t *testing.T, active int32) {
	t.Helper()
	for end := time.Now().Add(soon); o.active.Load() != active; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d faults are active, want %d", o.active.Load(), active)
		}
	}
}

// longDir is a directory with a path that no address of a socket can hold.
func longDir(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40), "run")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func serve(t *testing.T, dir string, o *office) *Server {
	t.Helper()
	s, err := Serve(dir, o.desk())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dial(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestInjectAndHeal(t *testing.T) {
	dir, o := longDir(t), &office{}
	s := serve(t, dir, o)
	defer s.Close()
	info, err := os.Lstat(filepath.Join(dir, socketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket: %v, %v", info.Mode(), err)
	}
	c := dial(t, dir)
	var heard []string
	err = c.Inject(t.Context(), Order{Name: "pause", Chaos: json.RawMessage(`{"kind":"K"}`)}, func(l Line) {
		if l.Now != 7 {
			t.Errorf("the clock of a line is %v", l.Now)
		}
		if l.Note != "" {
			heard = append(heard, l.Note)
			return
		}
		heard = append(heard, l.Event.Name+" "+string(l.Event.Event))
		if l.Event.Event == history.Requested {
			if info, err := c.Info(t.Context()); err != nil || info.Harness != "test" || info.Active[0] != "1" {
				t.Errorf("info %+v, %v", info, err)
			}
			if err := c.Heal(t.Context(), l.Event.Name); err != nil {
				t.Error(err)
			}
		}
	})
	if got := strings.Join(heard, "; "); err != nil || got != `{"kind":"K"}; pause-2 requested; pause-2 recovered` {
		t.Errorf("heard %s, %v", got, err)
	}
	if err := c.Heal(t.Context(), "pause-2"); err == nil || !strings.Contains(err.Error(), `no fault "pause-2" by hand is in progress`) {
		t.Errorf("healed twice: %v", err)
	}
}

// A client that goes away takes its fault with it.
func TestClientGone(t *testing.T) {
	dir, o := t.TempDir(), &office{}
	s := serve(t, dir, o)
	defer s.Close()
	c := dial(t, dir)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Inject(ctx, Order{Name: "a", Chaos: json.RawMessage("{}")}, func(Line) {}) }()
	o.await(t, 1)
	leave()
	if err := <-done; err == nil {
		t.Error("no word that it was left")
	}
	o.await(t, 0)
}

func TestServerCloses(t *testing.T) {
	dir, o := t.TempDir(), &office{err: errors.New("it is still there")}
	s := serve(t, dir, o)
	c := dial(t, dir)
	var last Line
	done := make(chan error)
	go func() {
		done <- c.Inject(t.Context(), Order{Name: "a", Chaos: json.RawMessage("{}")}, func(l Line) { last = l })
	}()
	o.await(t, 1)
	s.Close()
	if err := <-done; err != nil || last.Error != "it is still there" {
		t.Errorf("%v, last line %+v", err, last)
	}
	if o.active.Load() != 0 {
		t.Error("Close returned before the fault was over")
	}
	if _, err := os.Lstat(filepath.Join(dir, socketName)); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := Dial(dir); err == nil || !strings.Contains(err.Error(), "nobody takes faults there\nhint: ") {
		t.Errorf("dialled: %v", err)
	}
}

// A socket that a killed harness left is told apart from one that is in use.
func TestStaleSocket(t *testing.T) {
	dir, o := t.TempDir(), &office{}
	left, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	if _, err := Dial(dir); err == nil || !strings.Contains(err.Error(), "its harness is gone") {
		t.Errorf("dialled: %v", err)
	}
	s := serve(t, dir, o)
	defer s.Close()
	if _, err := Serve(dir, o.desk()); err == nil || !strings.Contains(err.Error(), "another harness takes faults there") {
		t.Errorf("a second one: %v", err)
	}
	dial(t, dir)
}

func TestRefused(t *testing.T) {
	dir, o := t.TempDir(), &office{}
	s := serve(t, dir, o)
	defer s.Close()
	c := dial(t, dir)
	nothing := func(l Line) { t.Errorf("heard %+v", l) }
	var refused *Refused
	err := c.Inject(t.Context(), Order{Name: "wrong", Chaos: json.RawMessage("{}")}, nothing)
	if !errors.As(err, &refused) || err.Error() != "chaos.kind: is no kind\nhint: think\nand more" {
		t.Errorf("got %v", err)
	}
	if err := c.Inject(t.Context(), Order{Name: "closed", Chaos: json.RawMessage("{}")}, nothing); err == nil || !strings.Contains(err.Error(), "come back later") {
		t.Errorf("got %v", err)
	}
	large := json.RawMessage(`"` + strings.Repeat("x", maxOrder) + `"`)
	if err := c.Inject(t.Context(), Order{Name: "a", Chaos: large}, nothing); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("got %v", err)
	}
	for _, body := range []string{"", "{", `{"name":"a","chaos":{},"more":1}`, `{"name":"a","chaos":{}}{}`, `{"name":"` + strings.Repeat("x", 2*maxOrder)} {
		req, err := http.NewRequest(http.MethodPost, "http://harness/v1/faults", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%.40q: status %d", body, resp.StatusCode)
		}
	}
	if o.active.Load() != 0 {
		t.Error("something was injected")
	}
}

func TestTooMany(t *testing.T) {
	dir, o := t.TempDir(), &office{}
	s := serve(t, dir, o)
	c := dial(t, dir)
	order := Order{Name: "a", Chaos: json.RawMessage("{}")}
	done := make(chan error, maxFaults)
	for range maxFaults {
		go func() { done <- c.Inject(t.Context(), order, func(Line) {}) }()
	}
	o.await(t, maxFaults)
	if err := c.Inject(t.Context(), order, func(Line) {}); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("one more: %v", err)
	}
	s.Close()
	for range maxFaults {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
