package script

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"statequake/history"
	"statequake/loadgen"
)

// roleVariable makes this test program the process of a script, which plays the
// role that it names.
const roleVariable = "STATEQUAKE_SCRIPT_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		play(role)
		return
	}
	os.Exit(m.Run())
}

// hostile are texts that would break a record if they could.
var hostile = []string{"a\nb", "\r\n\r\n", "\"}\n{\"end\":{\"calls\":0}}\n", "nul\x00", "\u2028\u2029", "\xff\xfe", "../..", `\u000a`, strings.Repeat("k", maxName)}

// play is the process of a script.
func play(role string) {
	c, err := Inherited()
	if err != nil || c == nil {
		fmt.Fprintln(os.Stderr, "no harness:", err)
		os.Exit(1)
	}
	signal.Ignore(os.Interrupt) // as k6 does, which ends its users then
	ctx := context.Background()
	invoke := func(key string) history.Op {
		op, err := c.Invoke(ctx, Call{VU: 2, Entity: "cart", Key: key, Op: "add", Args: []byte(`{"item":"tea"}`), Due: c.Now()})
		if err != nil {
			fmt.Fprintln(os.Stderr, "invoke:", err)
			os.Exit(1)
		}
		return op
	}
	switch role {
	case "good":
		for _, key := range hostile {
			if op := invoke(key); op.Outcome != history.OK || op.Version != 1 || op.Returned < op.Scheduled {
				fmt.Fprintf(os.Stderr, "%+v\n", op)
				os.Exit(1)
			}
		}
		c.Unsent(Call{Entity: "k6", Key: "default", Op: "iteration", Due: c.Now(), Unsent: "dropped\n"})
		c.Report(history.Sample{At: c.Now(), Node: "generator", LagP99: 5, StallMax: 7, Dispatched: int64(len(hostile))})
		c.End([]history.Threshold{{Metric: "m", Limit: "p(99)<1", Crossed: true}})
		os.Exit(exitThresholds)
	case "refused at once":
		fmt.Fprintln(os.Stderr, `time="2026-01-02T03:04:05Z" level=error msg="SyntaxError: \"x\" at line 3" hint="script exception"`)
		os.Exit(107)
	case "silent":
		c.End(nil)
		os.Exit(0)
	case "fails":
		invoke("a")
		fmt.Fprintln(os.Stderr, `time="2026-01-02T03:04:05Z" level=error msg=broken`)
		os.Exit(107)
	case "killed in flight":
		go invoke("slow")
		time.Sleep(time.Hour)
	case "garbage":
		invoke("a")
		c.conn.Write([]byte("{\"call\":{\"n\":1,\n"))
		time.Sleep(time.Hour)
	case "too long":
		invoke("a")
		c.conn.Write(bytes.Repeat([]byte("x"), MaxCall+128<<10))
		time.Sleep(time.Hour)
	case "miscounts":
		invoke("a")
		c.calls.Add(1)
		c.End(nil)
		os.Exit(0)
	case "no last word":
		invoke("a")
		os.Exit(0)
	case "too many arguments":
		_, err := c.Invoke(ctx, Call{Entity: "cart", Key: "k", Op: "add", Args: json.RawMessage(`{"x":"` + strings.Repeat("x", MaxCall) + `"}`)})
		if err == nil || !strings.Contains(err.Error(), "limit") {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		invoke("a")
		c.End(nil)
		os.Exit(0)
	case "endless", "stubborn":
		for {
			if _, err := c.Invoke(ctx, Call{Entity: "cart", Key: "a", Op: "get", Due: c.Now()}); err != nil {
				if !errors.Is(err, ErrOver) {
					fmt.Fprintln(os.Stderr, err)
				}
				if role == "endless" {
					c.End(nil)
					os.Exit(exitAborted)
				}
				for {
					time.Sleep(time.Hour)
				}
			}
		}
	}
}

type rig struct {
	t    *testing.T
	dir  string
	seen chan string // ids that the node was asked for
	now  func() time.Duration

	mu      sync.Mutex
	ops     []history.Op
	samples []history.Sample
	config  Config
}

// codec speaks to the node of a rig.
type codec struct{}

func (codec) Request(op *history.Op) (string, string, http.Header, []byte) {
	return "POST", "/" + fmt.Sprintf("%x", op.Key), nil, op.Args
}

func (codec) Response(op *history.Op, status int, body []byte) {
	op.Outcome, op.Result, op.Version, op.Node = history.OK, json.RawMessage(body), 1, "n1"
}

func newRig(t *testing.T, role string) *rig {
	t.Helper()
	began := time.Now()
	r := &rig{t: t, dir: t.TempDir(), seen: make(chan string, 1000), now: func() time.Duration { return time.Since(began) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		select {
		case r.seen <- req.Header.Get("Statequake-Op"):
		default:
		}
		if req.URL.Path == fmt.Sprintf("/%x", "slow") {
			time.Sleep(500 * time.Millisecond)
		}
		fmt.Fprint(w, `{"fine":true}`)
	}))
	t.Cleanup(server.Close)
	script := filepath.Join(r.dir, "s.js")
	if err := os.WriteFile(script, []byte("export default function () {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.config = Config{
		Binary: os.Args[0], Script: script, Dir: filepath.Join(r.dir, "k6"), Duration: 10 * time.Second, Tag: "abcd", Rate: 12.5,
		Start: func(cmd *exec.Cmd) error {
			cmd.Env = append(cmd.Env, roleVariable+"="+role)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			return cmd.Start()
		},
		Client: loadgen.ClientConfig{
			Endpoints: []loadgen.Endpoint{{Node: "n1", Addr: strings.TrimPrefix(server.URL, "http://")}}, Codec: codec{}, Timeout: 5 * time.Second, Now: r.now,
			Record: func(op *history.Op) {
				r.mu.Lock()
				r.ops = append(r.ops, *op)
				r.mu.Unlock()
			},
		},
		Sample: func(s history.Sample) {
			r.mu.Lock()
			r.samples = append(r.samples, s)
			r.mu.Unlock()
		},
	}
	return r
}

// run runs the script to its end.
func (r *rig) run(ctx context.Context) (*Driver, loadgen.Result, error) {
	r.t.Helper()
	d, start, err := Start(ctx, r.config)
	if err != nil {
		return nil, loadgen.Result{}, err
	}
	if start > r.now() || start <= 0 {
		r.t.Errorf("the load started at %v, now it is %v: another clock", start, r.now())
	}
	result, err := d.Run(ctx)
	return d, result, err
}

func TestScript(t *testing.T) {
	r := newRig(t, "good")
	d, result, err := r.run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(len(hostile) + 1); result.Scheduled[history.Load] != want || int64(len(r.ops)) != want {
		t.Errorf("%d scheduled, %d recorded, want %d", result.Scheduled[history.Load], len(r.ops), want)
	}
	if !strings.HasPrefix(result.Stopped, "k6 ended after ") {
		t.Errorf("stopped %q: it ended long before 10s", result.Stopped)
	}
	if len(result.Thresholds) != 1 || !result.Thresholds[0].Crossed {
		t.Errorf("thresholds %+v", result.Thresholds)
	}
	if s := d.Stats(); s.LagP99 != 5 || s.StallMax < 7 || s.Dispatched != int64(len(hostile)) || s.OK != int64(len(hostile)) || s.Unsent != 1 {
		t.Errorf("stats %+v", s)
	}
	if len(r.samples) != 1 {
		t.Errorf("%d samples, want 1", len(r.samples))
	}
	var keys []string
	for _, k := range d.Touched() {
		keys = append(keys, k.Key)
	}
	want := slices.Clone(hostile)
	for i := range want {
		want[i] = strings.ToValidUTF8(want[i], "\uFFFD")
		if want[i] == "\uFFFD" {
			want[i] = "\uFFFD\uFFFD" // each byte
		}
	}
	if !slices.Equal(keys, want) {
		t.Errorf("touched %q, want %q", keys, want)
	}
	if entity, key := d.Hottest(); entity != "cart" || key == "" {
		t.Errorf("hottest is %s/%s", entity, key)
	}
	if text, err := os.ReadFile(filepath.Join(r.dir, "k6", "script.js")); err != nil || !strings.Contains(string(text), "export default") {
		t.Errorf("copy of the script: %q, %v", text, err)
	}

	// Whatever they hold, the record has a line for each.
	dir := t.TempDir()
	w, err := history.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.ops {
		w.Op(&r.ops[i])
	}
	if err := w.Close(history.Footer{Scheduled: result.Scheduled}); err != nil {
		t.Fatal(err)
	}
	n := 0
	record, err := history.ReadRun(dir, func(*history.Op) error { n++; return nil })
	if err != nil || n != len(hostile)+1 || record.Footer == nil || record.Footer.Identity() != nil {
		t.Errorf("read back %d operations, footer %+v, %v", n, record.Footer, err)
	}
}

func TestScriptFails(t *testing.T) {
	for _, tt := range []struct {
		role, want string
		recorded   int
	}{
		{"refused at once", "k6 ended with exit status 107: SyntaxError: \"x\" at line 3\nhint: all that it said is in ", 0},
		{"silent", "k6: the script ended without an operation\nhint: ", 0},
		{"fails", "k6 ended with exit status 107: broken\nhint: ", 1},
		{"garbage", "k6: its extension broke the protocol: ", 1},
		{"too long", "k6: its extension broke the protocol: a line is longer than 2097152 bytes", 1},
		{"miscounts", "identity: k6 sent 2 operations, 1 came in", 1},
		{"no last word", "k6 ended without its last word", 1},
	} {
		t.Run(tt.role, func(t *testing.T) {
			r := newRig(t, tt.role)
			_, _, err := r.run(context.Background())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if len(r.ops) != tt.recorded {
				t.Errorf("%d operations recorded, want %d", len(r.ops), tt.recorded)
			}
		})
	}
	t.Run("no program", func(t *testing.T) {
		r := newRig(t, "good")
		r.config.Binary = filepath.Join(r.dir, "nothing")
		if _, _, err := r.run(context.Background()); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("error %v", err)
		}
	})
}

func TestTooManyArguments(t *testing.T) {
	r := newRig(t, "too many arguments")
	if _, _, err := r.run(context.Background()); err != nil {
		t.Error(err)
	}
}

// Whatever becomes of a script, what it had sent is in the record.
func TestScriptIsKilledInFlight(t *testing.T) {
	r := newRig(t, "killed in flight")
	d, _, err := Start(context.Background(), r.config)
	if err != nil {
		t.Fatal(err)
	}
	<-r.seen
	d.cmd.Process.Kill()
	_, err = d.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "k6 ended with signal: killed") {
		t.Errorf("error %v", err)
	}
	if len(r.ops) != 1 || r.ops[0].Outcome != history.OK || r.ops[0].ID != "abcd-l0" {
		t.Errorf("recorded %+v, want the operation that was on its way", r.ops)
	}
}

// The load ends when it is to end, with operations before and after the warmup in
// their phases and those that come later in none of both.
func TestLoadIsOver(t *testing.T) {
	r := newRig(t, "endless")
	r.config.Warmup, r.config.Duration = 200*time.Millisecond, 300*time.Millisecond
	began := time.Now()
	_, result, err := r.run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	start := r.ops[0].Scheduled
	counts := map[history.Phase]int64{}
	for _, op := range r.ops {
		start = min(start, op.Scheduled)
		counts[op.Phase]++
	}
	for _, op := range r.ops {
		want := history.Load
		switch at := op.Scheduled - start; {
		case at < 200*time.Millisecond:
			want = history.Warmup
		case at >= 500*time.Millisecond:
			want = history.Drain
		}
		if op.Phase != want {
			t.Errorf("an operation due at %v is of phase %s, want %s", op.Scheduled-start, op.Phase, want)
		}
	}
	for _, phase := range []history.Phase{history.Warmup, history.Load} {
		if counts[phase] == 0 || counts[phase] != result.Scheduled[phase] {
			t.Errorf("%s: %d recorded, %d scheduled", phase, counts[phase], result.Scheduled[phase])
		}
	}
	if result.Stopped != "" {
		t.Errorf("stopped %q", result.Stopped)
	}
}

func TestStop(t *testing.T) {
	r := newRig(t, "endless")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(300*time.Millisecond, func() { cancel(errors.New("enough")) })
	d, result, err := r.run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(result.Stopped, "enough") {
		t.Errorf("stopped %q", result.Stopped)
	}
	if got := d.client.Stats(); got.OK == 0 || got.OK+got.Unsent != result.Scheduled[history.Load] {
		t.Errorf("%+v, %v scheduled", got, result.Scheduled)
	}
}

func TestScriptThatDoesNotEnd(t *testing.T) {
	r := newRig(t, "stubborn")
	r.config.Duration, r.config.StopLimit = 100*time.Millisecond, 200*time.Millisecond
	d, result, err := r.run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if result.Stopped != "k6 did not end within 200ms after the load and was killed" || d.Running() {
		t.Errorf("stopped %q, running %v", result.Stopped, d.Running())
	}
}

// A line is read whole or not at all.
func TestReadLine(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	go func() {
		b.Write([]byte("{\"call\":{\"n\":1}}\n{\"call\":{\"n\":2"))
		b.Close()
	}()
	c := bufio.NewReader(a)
	var m fromScript
	if err := readLine(c, 100, &m); err != nil || m.Call.N != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	if err := readLine(c, 100, &m); !isEOF(err) {
		t.Errorf("a torn line: %v", err)
	}
}

func FuzzCall(f *testing.F) {
	f.Add("cart", "k", "add", []byte(`{}`))
	f.Add("a\nb", "\x00", "\"", []byte("{\"a\":\n1}"))
	f.Fuzz(func(t *testing.T, entity, key, op string, args []byte) {
		call := Call{Entity: entity, Key: key, Op: op, Args: args}
		if call.Check() != nil {
			return
		}
		line, err := encode(fromScript{Call: &call})
		if err != nil {
			return // args that are no JSON
		}
		if n := bytes.Count(line, []byte("\n")); n != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("%d newlines in %q", n, line)
		}
		var back fromScript
		if err := readLine(bufio.NewReader(bytes.NewReader(line)), len(line), &back); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if back.Call == nil || utf8.ValidString(entity) && back.Call.Entity != entity {
			t.Fatalf("%q became %+v", line, back.Call)
		}
	})
}
