package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func create(t *testing.T) (*Writer, string) {
	t.Helper()
	dir := t.TempDir()
	w, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Abort)
	return w, dir
}

// fullOp, fullFault, fullSample and fullFooter have every field set.
func fullOp() Op {
	o := plainOp()
	o.Error = "connection reset"
	return o
}

func fullFault() Fault {
	return Fault{Name: "kill-owner", Kind: "PodChaos", Action: "pod-kill", Event: Evidence, At: 12 * time.Second, Targets: []string{"n1", "n2"},
		Roles: map[string]string{"n1": "store-leader"}, Proof: Confirmed, Detail: "pid 17 is gone after 3 ms <proven>"}
}

func fullSample() Sample {
	return Sample{At: 13 * time.Second, Node: "generator", CPU: 1.25, RSS: 1 << 20, DiskBytes: 4096, PID: 17,
		LagP50: 1, LagP99: 2, LagMax: 3, StallMax: 4, Dispatched: 5, OwnDelayP99: 6, OwnDelayMax: 7}
}

func fullFooter() Footer {
	return Footer{Scheduled: map[Phase]int64{Warmup: 0, Load: 1}, End: 45 * time.Second, Stopped: "interrupted", Aborted: "aborted after 7.2 s: the disk is full",
		Thresholds: []Threshold{fullThreshold()}}
}

func fullThreshold() Threshold {
	measured := 312.5
	return Threshold{Metric: "statequake_op_duration{entity:cart}", Limit: "p(99)<250", Measured: &measured, Crossed: true}
}

func TestWriteAndLoad(t *testing.T) {
	w, dir := create(t)
	op, fault, sample, footer := fullOp(), fullFault(), fullSample(), fullFooter()
	w.Op(&op)
	probe := Op{ID: "7f3a-p0", Phase: Probe, Outcome: Unsent, Version: -1}
	w.Op(&probe)
	w.Fault(fault)
	w.Fault(Fault{Name: "x", Event: Requested})
	w.Sample(sample)
	w.Sample(Sample{Node: "n1"})
	if err := w.Close(footer); err != nil {
		t.Fatal(err)
	}
	run, err := LoadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	footer.Version = 1
	footer.Counts = map[Phase]Counts{Load: {OK: 1}, Probe: {Unsent: 1}}
	want := &Run{
		Dir: dir, Ops: []Op{op, probe}, Faults: []Fault{fault, {Name: "x", Event: Requested}},
		Samples: []Sample{sample, {Node: "n1"}}, Footer: &footer,
	}
	if !reflect.DeepEqual(run, want) {
		t.Errorf("got  %+v\nwant %+v", run, want)
	}
}

func TestLoadWhatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	if _, err := LoadRun(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), filepath.Join(dir, "history.jsonl")) {
		t.Errorf("no history: error %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "history.jsonl"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	run, err := LoadRun(dir)
	if err != nil || len(run.Ops)+len(run.Faults)+len(run.Samples)+run.Skipped != 0 || run.Footer != nil {
		t.Errorf("empty history: %+v, error %v", run, err)
	}
}

func TestCreateRefuses(t *testing.T) {
	if _, err := Create(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: error %v", err)
	}
	for _, name := range []string{"history.jsonl", "faults.jsonl", "samples.jsonl"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(dir); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s exists: error %v", name, err)
		}
		files, _ := os.ReadDir(dir)
		if b, _ := os.ReadFile(path); string(b) != "precious" || len(files) != 1 {
			t.Errorf("%s exists: it holds %q now, beside %d others", name, b, len(files)-1)
		}
	}
}

func TestReadOps(t *testing.T) {
	const footer = `{"footer":{"version":1,"scheduled":{"load":1},"counts":{"load":{"ok":1}},"end_ns":5}}`
	torn := plainLine[:200]
	long := `{"id":"` + strings.Repeat("x", maxLine) + `"}`
	for _, test := range []struct {
		name    string
		lines   []string
		ops     int
		footer  bool
		skipped int
		err     string
	}{
		{"whole", []string{plainLine, footer}, 1, true, 0, ""},
		{"blank lines", []string{"", " \t\r", plainLine, "", footer, "", ""}, 1, true, 0, ""},
		{"footer alone", []string{`{"footer":{"version":1}}`}, 0, true, 0, ""},
		{"torn", []string{plainLine, torn}, 1, false, 1, ""},
		{"torn, then blank", []string{plainLine, torn, "", " "}, 1, false, 1, ""},
		{"zeros at the end", []string{plainLine, strings.Repeat("\x00", 4096)}, 1, false, 1, ""},
		{"torn in the middle", []string{plainLine, torn, plainLine}, 0, false, 0, "history.jsonl:2: outcome: column 201: the line ends, expected a string"},
		{"two bad lines at the end", []string{plainLine, torn, torn}, 0, false, 0, "history.jsonl:2: outcome: column 201"},
		{"bad line before the footer", []string{"", `{"id":"x"}`, footer}, 0, false, 0, "history.jsonl:2: missing field: n, phase"},
		{"footer of another type", []string{plainLine, `{"footer":7}`}, 1, false, 1, ""},
		{"footer of another version", []string{plainLine, `{"footer":{"version":2}}`}, 0, false, 0, "history.jsonl:2: footer: version 2: only version 1 can be read"},
		{"line after the footer", []string{plainLine, footer, plainLine}, 0, false, 0, "history.jsonl:3: line after the footer"},
		{"two footers", []string{plainLine, footer, footer}, 0, false, 0, "history.jsonl:3: line after the footer"},
		{"a line was taken out", []string{footer}, 0, false, 0, "history.jsonl: footer: counts of load are 1 ok, 0 fail, 0 info, 0 unsent, the lines hold 0 ok, 0 fail, 0 info, 0 unsent"},
		{"a line was put in", []string{plainLine, `{"footer":{"version":1}}`}, 0, false, 0, "history.jsonl: footer: counts of load are 0 ok"},
		{"too long", []string{plainLine, long, plainLine}, 0, false, 0, "history.jsonl:2: line is longer than 16777216 bytes"},
		{"too long at the end", []string{plainLine, long}, 1, false, 1, ""},
		{"long", []string{plainLine, `{"x":"` + strings.Repeat("x", maxLine/2) + `",` + plainLine[1:], plainLine}, 3, false, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, end := range []string{"", "\n"} {
				ops := 0
				footer, skipped, err := ReadOps(strings.NewReader(strings.Join(test.lines, "\n")+end), "history.jsonl", func(o *Op) error {
					want := plainOp()
					ops++
					return sameOp(o, &want)
				})
				if test.err != "" {
					if err == nil || !strings.HasPrefix(err.Error(), test.err) {
						t.Fatalf("error %v, want %s", err, test.err)
					}
					continue
				}
				if err != nil || ops != test.ops || (footer != nil) != test.footer || skipped != test.skipped {
					t.Errorf("%d ops, footer %v, skipped %d, error %v", ops, footer, skipped, err)
				}
			}
		})
	}
	stop := errors.New("stop")
	if _, _, err := ReadOps(strings.NewReader(plainLine), "history.jsonl", func(*Op) error { return stop }); err != stop {
		t.Errorf("error of the callback came back as %v", err)
	}
	broken := errors.New("cable cut")
	if _, _, err := ReadOps(&brokenReader{strings.NewReader(plainLine + "\n{"), broken}, "history.jsonl", func(*Op) error { return nil }); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "history.jsonl:2: ") {
		t.Errorf("error of the reader came back as %v", err)
	}
}

// brokenReader ends with err instead of io.EOF.
type brokenReader struct {
	r   *strings.Reader
	err error
}

func (b *brokenReader) Read(p []byte) (int, error) {
	if b.r.Len() == 0 {
		return 0, b.err
	}
	return b.r.Read(p)
}

// TestKeptOps keeps the ops of ReadOps: later lines must not change them.
func TestKeptOps(t *testing.T) {
	want := benchOps("cart", 5000)
	var got []Op
	if _, _, err := ReadOps(bytes.NewReader(encodeOps(want)), "x", func(o *Op) error { got = append(got, *o); return nil }); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Error("the kept operations are not those written")
	}
	// Neither does what a caller appends to a raw value.
	_ = append(got[0].Args, "junk"...)
	if string(got[0].Result) != string(want[0].Result) {
		t.Errorf("appending to args changed the result to %s", got[0].Result)
	}
}

// TestTornAnywhere cuts every file of a small run at every byte.
func TestTornAnywhere(t *testing.T) {
	w, dir := create(t)
	op, probe := fullOp(), Op{ID: "7f3a-p0", Phase: Probe, Outcome: Info, Version: -1, Error: "é\n\xff"}
	w.Op(&op)
	w.Op(&probe)
	w.Op(&op)
	w.Fault(fullFault())
	w.Fault(Fault{Name: "x", Event: Requested})
	w.Sample(fullSample())
	w.Sample(Sample{Node: "n1"})
	if err := w.Close(fullFooter()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"history.jsonl", "faults.jsonl", "samples.jsonl"} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		full, err := LoadRun(dir)
		if err != nil {
			t.Fatal(err)
		}
		for cut := range len(whole) + 1 {
			if err := os.WriteFile(path, whole[:cut], 0o644); err != nil {
				t.Fatal(err)
			}
			run, err := LoadRun(dir)
			if err != nil {
				t.Fatalf("%s cut to %d bytes: %v", name, cut, err)
			}
			// A line is whole when its last brace is there.
			lines := bytes.Count(whole[:cut], []byte("\n"))
			skipped := 0
			switch rest := whole[bytes.LastIndexByte(whole[:cut], '\n')+1 : cut]; {
			case len(rest) == 0:
			case whole[cut] == '\n':
				lines++
			default:
				skipped = 1
			}
			got := map[string]int{"history.jsonl": len(run.Ops), "faults.jsonl": len(run.Faults), "samples.jsonl": len(run.Samples)}[name]
			if run.Footer != nil && name == "history.jsonl" {
				got++
			}
			if got != lines || run.Skipped != skipped {
				t.Fatalf("%s cut to %d of %d bytes: %d records, %d skipped; want %d and %d", name, cut, len(whole), got, run.Skipped, lines, skipped)
			}
			if name == "history.jsonl" && !reflect.DeepEqual(run.Ops, append([]Op{}, full.Ops[:len(run.Ops)]...)) {
				t.Fatalf("%s cut to %d bytes: other operations", name, cut)
			}
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadFaultsAndSamples(t *testing.T) {
	for _, test := range []struct{ file, line, want string }{
		{"faults.jsonl", `{"name":"x","event":"exploded"}`, `faults.jsonl:1: event: "exploded" is not one of`},
		{"faults.jsonl", `{"name":"x","event":"evidence","proof":"sure"}`, `faults.jsonl:1: proof: "sure" is not one of`},
		{"faults.jsonl", `{"name":"x","event":"injected","proof":"confirmed"}`, `faults.jsonl:1: proof: not part of a injected event`},
		{"faults.jsonl", `{"event":"injected"}`, `faults.jsonl:1: name: missing`},
		{"faults.jsonl", `{"name":"x","event"`, `faults.jsonl:1: unexpected end of JSON input`},
		{"samples.jsonl", `{}`, `samples.jsonl:1: node: missing`},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"history.jsonl": "", test.file: test.line + "\n" + test.line + "\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := LoadRun(dir); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %s", test.line, err, test.want)
		}
	}
}

// hostile draws strings as a broken system might send them.
func hostile() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.SampledFrom([]string{
			"", "null", "\"", "\\", "\n", "\r\n", "\x00\x1f\x7f", "\xff\xfe", "a\xed\xa0\x80z", "\xf0\x9f\x98", "\u2028\u2029", "😀", "\\u0041", "{\"footer\":{}}", "\"}\n{\"id\":\"",
		}),
	)
}

// clean is what is left of s on disk.
func clean(s string) string {
	var out []rune
	for _, r := range s {
		out = append(out, r) // ranging yields U+FFFD for each invalid byte
	}
	return string(out)
}

func TestRoundTrip(t *testing.T) {
	raw := rapid.Custom(func(t *rapid.T) json.RawMessage {
		if rapid.Bool().Draw(t, "valid") {
			b, err := json.MarshalIndent(map[string]any{
				hostile().Draw(t, "name"): []any{hostile().Draw(t, "string"), rapid.Int64().Draw(t, "integer"), rapid.Float64Range(-1e300, 1e300).Draw(t, "float"), nil},
			}, " ", "\t")
			if err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "dos") {
				b = bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
			}
			return b
		}
		return json.RawMessage(hostile().Draw(t, "raw"))
	})
	duration := rapid.Map(rapid.Int64(), func(v int64) time.Duration { return time.Duration(v) })
	op := rapid.Custom(func(t *rapid.T) Op {
		return Op{
			ID: hostile().Draw(t, "id"), N: rapid.Int64().Draw(t, "n"), Phase: rapid.SampledFrom([]Phase{Warmup, Load, Probe, Drain, Audit}).Draw(t, "phase"),
			Client: rapid.Int().Draw(t, "client"), Entity: hostile().Draw(t, "entity"), Key: hostile().Draw(t, "key"), Name: hostile().Draw(t, "op"),
			Args: raw.Draw(t, "args"), Scheduled: duration.Draw(t, "scheduled"), Sent: duration.Draw(t, "sent"), Returned: duration.Draw(t, "returned"),
			Attempts: rapid.Int().Draw(t, "attempts"), Outcome: rapid.SampledFrom([]Outcome{OK, Fail, Info, Unsent}).Draw(t, "outcome"),
			Result: raw.Draw(t, "result"), Version: rapid.Int64().Draw(t, "version"), Digest: hostile().Draw(t, "digest"), Epoch: rapid.Int64().Draw(t, "epoch"),
			Error: hostile().Draw(t, "error"), Node: hostile().Draw(t, "node"), Via: hostile().Draw(t, "via"),
		}
	})
	onDisk := func(o Op) Op {
		for _, s := range []*string{&o.ID, &o.Entity, &o.Key, &o.Name, &o.Digest, &o.Error, &o.Node, &o.Via} {
			*s = clean(*s)
		}
		for _, raw := range []*json.RawMessage{&o.Args, &o.Result} {
			switch {
			case len(*raw) == 0:
				*raw = nil
			case !json.Valid(*raw):
				b, err := json.Marshal(string(*raw))
				if err != nil {
					t.Fatal(err)
				}
				*raw = b
			}
		}
		o.Version = max(o.Version, -1)
		return o
	}
	rapid.Check(t, func(t *rapid.T) {
		ops := rapid.SliceOfN(op, 1, 5).Draw(t, "ops")
		data := encodeOps(ops)
		if !utf8.Valid(data) {
			t.Fatalf("the lines are not UTF-8: %q", data)
		}
		if lines := bytes.Count(data, []byte("\n")); lines != len(ops) || bytes.IndexByte(data, '\r') >= 0 {
			t.Fatalf("%d ops on %d lines: %q", len(ops), lines, data)
		}
		n := 0
		_, skipped, err := ReadOps(bytes.NewReader(data), "x", func(o *Op) error {
			want := onDisk(ops[n])
			if err := sameOp(o, &want); err != nil {
				t.Fatal(err)
			}
			n++
			return nil
		})
		if err != nil || skipped != 0 || n != len(ops) {
			t.Fatalf("read %d of %d ops, skipped %d, error %v", n, len(ops), skipped, err)
		}
		for _, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
			if !json.Valid(line) {
				t.Fatalf("encoding/json does not take %q", line)
			}
		}
	})
}

func TestConcurrentRecording(t *testing.T) {
	const writers, each = 8, 2000
	w, dir := create(t)
	var wg sync.WaitGroup
	for g := range writers {
		wg.Go(func() {
			op := plainOp() // reused: the Writer must not retain it
			for i := range each {
				op.ID, op.N, op.Client = fmt.Sprintf("7f3a-l%d", g*each+i), int64(g*each+i), g
				op.Outcome = []Outcome{OK, Fail, Info, Unsent}[i%4]
				w.Op(&op)
				if i%20 == 0 {
					w.Fault(Fault{Name: fmt.Sprint(g), Event: Requested, At: time.Duration(i)})
					w.Sample(Sample{Node: fmt.Sprint(g), At: time.Duration(i)})
				}
			}
		})
	}
	wg.Wait()
	if err := w.Close(Footer{Scheduled: map[Phase]int64{Load: writers * each}}); err != nil {
		t.Fatal(err)
	}
	run, err := LoadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Footer.Identity(); err != nil {
		t.Error(err)
	}
	if c := run.Footer.Counts[Load]; c.OK != writers*each/4 || c.Unsent != writers*each/4 {
		t.Errorf("counts %v", c)
	}
	if len(run.Faults) != writers*each/20 || len(run.Samples) != writers*each/20 {
		t.Errorf("%d faults, %d samples", len(run.Faults), len(run.Samples))
	}
	next := make([]int64, writers) // each writer's lines stay in its order
	for _, op := range run.Ops {
		if want := int64(op.Client*each) + next[op.Client]; op.N != want {
			t.Fatalf("client %d: op %d, want %d", op.Client, op.N, want)
		}
		next[op.Client]++
	}
	if len(run.Ops) != writers*each {
		t.Errorf("%d ops, want %d", len(run.Ops), writers*each)
	}
}

// TestFlushedWhileRecording reads the directory of a Writer that nobody closes,
// as it is found after the harness was killed.
func TestFlushedWhileRecording(t *testing.T) {
	w, dir := create(t)
	op := plainOp()
	w.Op(&op)
	w.Fault(fullFault())
	w.Sample(fullSample())
	deadline := time.Now().Add(10 * time.Second)
	for {
		run, err := LoadRun(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(run.Ops) == 1 && len(run.Faults) == 1 && len(run.Samples) == 1 {
			if run.Footer != nil {
				t.Error("a run that goes on has a footer")
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("10 s after the records: %d ops, %d faults, %d samples on disk", len(run.Ops), len(run.Faults), len(run.Samples))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// failing makes writes to a file of w fail as on a full disk.
func failing(t *testing.T, s *stream) {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("needs /dev/full: %v", err)
	}
	s.file.Close()
	s.file = full
}

func TestWriteErrorSurfaces(t *testing.T) {
	w, dir := create(t)
	failing(t, w.history)
	select {
	case <-w.Failed():
		t.Fatal("failed before the first record")
	default:
	}
	op := plainOp()
	w.Op(&op)
	w.Fault(fullFault())
	select {
	case <-w.Failed():
	case <-time.After(10 * time.Second):
		t.Fatal("Failed is not closed 10 s after a write to a full disk")
	}
	const want = "write /dev/full: no space left on device"
	if err := w.Err(); err == nil || err.Error() != want {
		t.Errorf("Err is %v, want %s", err, want)
	}
	w.Op(&op) // must not block or panic
	if err := w.Close(fullFooter()); err == nil || err.Error() != want {
		t.Errorf("Close returned %v, want %s", err, want)
	}
	run, err := LoadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(run.Ops) != 0 || run.Footer != nil || len(run.Faults) != 1 {
		t.Errorf("%d ops, footer %v, %d faults; want the faults only", len(run.Ops), run.Footer, len(run.Faults))
	}
}

// TestWaitingForTheDisk fills the buffer against a disk that takes nothing:
// recording must wait, and go on when the disk does.
func TestWaitingForTheDisk(t *testing.T) {
	w, _ := create(t)
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.history.file.Close()
	w.history.file = pipe
	op := plainOp()
	op.Result, _ = json.Marshal(strings.Repeat("x", 1<<20))
	const ops = 2*maxPending>>20 + 10 // two buffers and more
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		for range ops {
			w.Op(&op)
		}
	}()
	deadline := time.Now().Add(10 * time.Second)
	for {
		w.history.mu.Lock()
		pending := len(w.history.pending)
		w.history.mu.Unlock()
		if pending > maxPending+maxLine {
			t.Fatalf("%d bytes are buffered", pending)
		}
		if pending >= maxPending {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("10 s: %d bytes are buffered, want %d", pending, maxPending)
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case <-recorded:
		t.Fatal("recording did not wait")
	default:
	}
	read := make(chan int)
	go func() {
		n := 0
		ReadOps(r, "pipe", func(*Op) error { n++; return nil })
		read <- n
	}()
	<-recorded
	w.Abort() // a pipe cannot be synced; that is no matter here
	if n := <-read; n != ops {
		t.Errorf("read %d ops, want %d", n, ops)
	}
}

func TestRefusedRecords(t *testing.T) {
	for _, test := range []struct {
		name   string
		record func(*Writer)
		want   string
		footer bool
	}{
		{"phase", func(w *Writer) { w.Op(&Op{ID: "x", Outcome: OK}) }, `history.jsonl: operation "x": phase: "" is not one of`, false},
		{"outcome", func(w *Writer) { w.Op(&Op{ID: "x", Phase: Load}) }, `history.jsonl: operation "x": outcome: "" is not one of`, false},
		{"long key", func(w *Writer) { w.Op(&Op{ID: "x", Phase: Load, Outcome: OK, Key: strings.Repeat("k", maxLine)}) }, `history.jsonl: record of 16777`, false},
		{"event", func(w *Writer) { w.Fault(Fault{Name: "f"}) }, `faults.jsonl: fault "f": event: "" is not one of`, true},
		{"proof", func(w *Writer) { w.Fault(Fault{Name: "f", Event: Evidence}) }, `faults.jsonl: fault "f": proof: "" is not one of`, true},
		{"node", func(w *Writer) { w.Sample(Sample{}) }, `samples.jsonl: sample of node "": node: missing`, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, dir := create(t)
			op := plainOp()
			w.Op(&op)
			test.record(w)
			<-w.Failed()
			if err := w.Close(Footer{}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
			run, err := LoadRun(dir)
			if err != nil {
				t.Fatal(err)
			}
			// Without the operation the history is not whole: no footer.
			if len(run.Ops) != 1 || (run.Footer != nil) != test.footer || run.Skipped != 0 {
				t.Errorf("%d ops, footer %v, skipped %d", len(run.Ops), run.Footer, run.Skipped)
			}
		})
	}
}

// TestHugeAnswer records an answer that is too long in every field.
func TestHugeAnswer(t *testing.T) {
	w, dir := create(t)
	op := plainOp()
	huge := strings.Repeat("\x01", maxAnswer)
	op.Result, _ = json.Marshal(huge)
	op.Error, op.Digest, op.Node = huge, huge, huge
	w.Op(&op)
	if len(op.Error) != maxAnswer {
		t.Error("the Writer changed the operation")
	}
	next := plainOp()
	w.Op(&next)
	if err := w.Close(Footer{}); err != nil {
		t.Fatal(err)
	}
	run, err := LoadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(run.Ops) != 2 || run.Ops[0].ID != op.ID || run.Ops[0].Error != huge[:maxCut] {
		t.Fatalf("%d ops on disk", len(run.Ops))
	}
	var result string
	if err := json.Unmarshal(run.Ops[0].Result, &result); err != nil || !strings.HasPrefix(result, `"\u0001\u0001`) || len(result) != maxCut {
		t.Errorf("result of %d bytes, error %v; want the first %d bytes of the answer", len(result), err, maxCut)
	}
}

func TestAfterTheEnd(t *testing.T) {
	w, dir := create(t)
	op := plainOp()
	w.Op(&op)
	w.Abort()
	w.Abort()
	if err := w.Err(); err != nil {
		t.Errorf("error %v after Abort", err)
	}
	if err := w.Close(Footer{}); err == nil {
		t.Error("Close after Abort returned no error")
	}
	w.Op(&op)
	if err := w.Err(); err == nil || !strings.Contains(err.Error(), "record after the recording ended") {
		t.Errorf("error %v for a late record", err)
	}
	run, err := LoadRun(dir)
	if err != nil || len(run.Ops) != 1 || run.Footer != nil {
		t.Errorf("after Abort: %d ops, footer %v, error %v; want 1 and none", len(run.Ops), run.Footer, err)
	}
}

func TestIdentity(t *testing.T) {
	counts := Counts{OK: 4, Fail: 3, Info: 2, Unsent: 1}
	for _, test := range []struct {
		name   string
		footer Footer
		want   string
	}{
		{"empty", Footer{}, ""},
		{"holds", Footer{Scheduled: map[Phase]int64{Warmup: 10, Load: 10}, Counts: map[Phase]Counts{Warmup: counts, Load: counts, Probe: counts}}, ""},
		{"one is missing", Footer{Scheduled: map[Phase]int64{Warmup: 10, Load: 11}, Counts: map[Phase]Counts{Warmup: counts, Load: counts}},
			"load: 11 operations scheduled, 10 recorded (4 ok, 3 fail, 2 info, 1 unsent)"},
		{"both", Footer{Scheduled: map[Phase]int64{Warmup: 2}, Counts: map[Phase]Counts{Load: counts}},
			"warmup: 2 operations scheduled, 0 recorded (0 ok, 0 fail, 0 info, 0 unsent); load: 0 operations scheduled, 10 recorded (4 ok, 3 fail, 2 info, 1 unsent)"},
	} {
		got := ""
		if err := test.footer.Identity(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
