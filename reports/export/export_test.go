package export

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	vegeta "github.com/tsenart/vegeta/v12/lib"
	"pgregory.net/rapid"

	"statequake/history"
)

const ms = time.Millisecond

var formats = []Format{VegetaJSON, VegetaGob, VegetaCSV}

// decoders are those of each format, so that a file that merely looks like
// another is not taken for it.
var decoders = map[Format]vegeta.DecoderFactory{
	VegetaJSON: vegeta.NewJSONDecoder,
	VegetaGob:  vegeta.NewDecoder,
	VegetaCSV:  vegeta.NewCSVDecoder,
}

// synthetic is a history of n operations per phase, every 500 us from 0 on, of
// every outcome, in pairs that are due at one time, recorded in another order.
func synthetic(n int) []history.Op {
	var ops []history.Op
	for _, phase := range phases {
		for i := range n {
			op := history.Op{
				ID: fmt.Sprintf("7f3a-%c%d", phase[0], i), N: int64(i), Phase: phase, Entity: "counter", Key: fmt.Sprintf("k %d/%d", i%7, i%3),
				Name: []string{"add", "get", "add", "remove"}[i%4], Args: []byte(`{"n":1}`), Version: -1,
				Scheduled: time.Duration(i/2) * ms, Attempts: 1, Outcome: history.OK, Result: []byte(`{"value":12}`),
			}
			op.Sent = op.Scheduled + 100*time.Microsecond
			op.Returned = op.Sent + time.Duration(1+i*7919%40_000)*time.Microsecond
			switch i % 50 {
			case 13:
				op.Outcome, op.Result, op.Error = history.Fail, nil, "connection refused"
			case 14, 15:
				op.Outcome, op.Result, op.Error = history.Info, nil, "timeout"
				op.Returned = op.Scheduled + 10*time.Second
			case 26:
				op.Outcome, op.Result, op.Error = history.Unsent, nil, "no free connection"
				op.Sent, op.Returned, op.Attempts = 0, 0, 0
			}
			ops = append(ops, op)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
	return ops
}

// record writes a run directory, with a footer or torn, and loads it again.
func record(t *testing.T, ops []history.Op, torn bool) *history.Run {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := history.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for i := range ops {
		w.Op(&ops[i])
	}
	if torn {
		w.Abort()
		err = w.Err()
	} else {
		err = w.Close(history.Footer{})
	}
	if err != nil {
		t.Fatal(err)
	}
	run, err := history.LoadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// encoded exports the run.
func encoded(t testing.TB, run *history.Run, format Format, chosen ...history.Phase) []byte {
	t.Helper()
	results, err := Results(run, chosen)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Write(&out, format, results); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// decoded reads results to their end.
func decoded(t testing.TB, decode vegeta.Decoder) []vegeta.Result {
	t.Helper()
	if decode == nil {
		t.Fatal("vegeta does not know the encoding")
	}
	var all []vegeta.Result
	for {
		var r vegeta.Result
		if err := decode(&r); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("result %d: %v", len(all), err)
		}
		all = append(all, r)
	}
}

func TestEveryOperationIsAPoint(t *testing.T) {
	const n = 2000
	run := record(t, synthetic(n), false)
	for _, chosen := range [][]history.Phase{{history.Load}, {history.Load, history.Audit}, phases} {
		recorded := map[string]*history.Op{}
		for i := range run.Ops {
			if op := &run.Ops[i]; slices.Contains(chosen, op.Phase) {
				attack := op.Name
				if len(chosen) > 1 {
					attack = string(op.Phase) + " " + op.Name
				}
				recorded[fmt.Sprint(attack, " ", int64(op.Scheduled), " ", op.Key)] = op
			}
		}
		if want := n * len(chosen); len(recorded) != want {
			t.Fatalf("%d of %d operations can be told apart", len(recorded), want)
		}
		for _, format := range formats {
			t.Run(fmt.Sprint(format, chosen), func(t *testing.T) {
				left := maps.Clone(recorded)
				next := map[string]uint64{}
				last := time.Time{}
				for i, r := range decoded(t, decoders[format](bytes.NewReader(encoded(t, run, format, chosen...)))) {
					if r.Timestamp.Before(last) {
						t.Fatalf("result %d at %v is behind one at %v", i, r.Timestamp, last)
					}
					last = r.Timestamp
					if r.Seq != next[r.Attack] {
						t.Fatalf("result %d: seq %d of attack %q, want %d", i, r.Seq, r.Attack, next[r.Attack])
					}
					next[r.Attack]++

					key, err := url.PathUnescape(strings.Split(r.URL, "/")[4])
					if err != nil {
						t.Fatal(err)
					}
					id := fmt.Sprint(r.Attack, " ", r.Timestamp.UnixNano(), " ", key)
					op := left[id]
					if op == nil {
						t.Fatalf("result %d is of no operation, or of one that was there already: %+v", i, r)
					}
					delete(left, id)
					want := vegeta.Result{Code: 200, Latency: op.Returned - op.Scheduled, BytesOut: 7, BytesIn: 12}
					switch op.Outcome {
					case history.Fail:
						want.Code, want.BytesIn, want.Error = 0, 0, "fail: connection refused"
					case history.Info:
						want.Code, want.BytesIn, want.Error, want.Latency = 0, 0, "info: timeout", 10*time.Second
					case history.Unsent:
						want.Code, want.BytesIn, want.Error, want.Latency = 0, 0, "unsent: no free connection", 0
					}
					want.Attack, want.Seq, want.Timestamp, want.URL, want.Method = r.Attack, r.Seq, r.Timestamp, r.URL, "POST"
					if !r.Equal(want) {
						t.Fatalf("result %d: have %+v, want %+v", i, r, want)
					}
				}
				if len(left) > 0 {
					t.Errorf("%d operations are lost", len(left))
				}
			})
		}
	}
}

// The order in which operations were recorded is not a property of the run.
func TestOrderOfRecordingDoesNotMatter(t *testing.T) {
	run := &history.Run{Ops: synthetic(300)}
	for _, format := range formats {
		want := encoded(t, run, format, phases...)
		slices.Reverse(run.Ops)
		if !bytes.Equal(encoded(t, run, format, phases...), want) {
			t.Errorf("%s depends on the order of recording", format)
		}
	}
}

// The same run gives the same bytes everywhere.
func TestTimeZone(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	run := &history.Run{Ops: synthetic(1)}
	want := encoded(t, run, VegetaJSON, history.Load)
	time.Local = time.FixedZone("east", 3*60*60)
	if have := encoded(t, run, VegetaJSON, history.Load); !bytes.Equal(have, want) || !bytes.Contains(have, []byte(`"1970-01-01T00:00:00Z"`)) {
		t.Errorf("have %s, want %s", have, want)
	}
}

func TestTorn(t *testing.T) {
	run := record(t, synthetic(10), true)
	if run.Footer != nil {
		t.Fatal("the run is not torn")
	}
	for _, format := range formats {
		if have := len(decoded(t, decoders[format](bytes.NewReader(encoded(t, run, format, history.Load))))); have != 10 {
			t.Errorf("%s: have %d results, want 10", format, have)
		}
	}
}

func TestNothingToExport(t *testing.T) {
	run := &history.Run{Dir: "runs/1"}
	_, err := Results(run, []history.Phase{history.Load})
	if want := "runs/1: holds no operations of phase load"; err == nil || err.Error() != want {
		t.Errorf("have %v, want %s", err, want)
	}
	run.Ops = []history.Op{{Phase: history.Audit}, {Phase: history.Warmup}, {Phase: history.Audit}}
	_, err = Results(run, []history.Phase{history.Load, history.Probe})
	if want := "runs/1: holds no operations of phase load, probe\nhint: it holds some of phase warmup, audit"; err == nil || err.Error() != want {
		t.Errorf("have %v, want %s", err, want)
	}
}

func TestParsePhases(t *testing.T) {
	for _, tt := range []struct {
		names, want string
	}{
		{"load", "load"},
		{"audit load audit", "load, audit"},
		{"probe all", "warmup, load, probe, drain, audit"},
	} {
		chosen, err := ParsePhases(strings.Fields(tt.names))
		if err != nil || list(chosen) != tt.want {
			t.Errorf("%s: have %s, %v, want %s", tt.names, list(chosen), err, tt.want)
		}
	}
	_, err := ParsePhases([]string{"load", "Audit"})
	if want := `unknown phase "Audit"; have warmup, load, probe, drain, audit, all`; err == nil || err.Error() != want {
		t.Errorf("have %v, want %s", err, want)
	}
}

func TestWriteError(t *testing.T) {
	run := &history.Run{Ops: synthetic(1)}
	for _, format := range formats {
		results, err := Results(run, []history.Phase{history.Load})
		if err != nil {
			t.Fatal(err)
		}
		reader, writer := io.Pipe()
		reader.CloseWithError(errors.New("disk full"))
		if err := Write(writer, format, results); err == nil || !strings.Contains(err.Error(), "write "+string(format)+": disk full") {
			t.Errorf("%s: have %v", format, err)
		}
	}
}

// vegeta plot takes a result without an error for ok.
func TestErrorWithoutReason(t *testing.T) {
	for _, outcome := range []history.Outcome{history.Fail, history.Info, history.Unsent} {
		if have := result(&history.Op{Outcome: outcome}); have.Error != string(outcome) || have.Code != 0 {
			t.Errorf("%s: have code %d, error %q", outcome, have.Code, have.Error)
		}
	}
	if have := result(&history.Op{Outcome: history.OK, Error: "second thoughts"}); have.Error != "" || have.Code != 200 {
		t.Errorf("ok: have code %d, error %q", have.Code, have.Error)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"zażółć 日本 \"it's\", 50%":       "zażółć 日本 \"it's\", 50%",
		"a\r\nb\tc\x00\x1b[31m\x7f":     `a\r\nb\tc\x00\x1b[31m\x7f`,
		"\xff\xfe\xe2\x82 \u202e\u2028": "\ufffd\ufffd\ufffd\ufffd " + `\u202e\u2028`,
	} {
		if have := printable(in); have != want {
			t.Errorf("%q: have %q, want %q", in, have, want)
		}
	}
}

var hostile = []string{
	"", " ", "\n", "\r\n", "\r", "\x00", "\xff\xfe", `"`, `","`, `""",`, ",", "a,b\nc", "\t lead", "trail \n", "\\", `\n`, `\.`, "\u2028", "\ufeff",
	"{\"attack\":\"x\"}\n{", "</script>", "'", "%2F", "..", "/", "?q#f", "0,200,1,0,0,,,a,1,,,\n", strings.Repeat("x\n\"", 100_000),
}

// Strings come from a system under test: no string may break a file, and each
// format carries the same.
func TestHostileStrings(t *testing.T) {
	var ops []history.Op
	for i, s := range hostile {
		ops = append(ops,
			history.Op{ID: fmt.Sprintf("a%04d", i), Phase: history.Load, Entity: s, Key: s, Name: s, Outcome: history.OK},
			history.Op{ID: fmt.Sprintf("b%04d", i), Phase: history.Load, Entity: "e", Key: "k", Name: "add", Outcome: history.Info, Error: s, Returned: ms})
	}
	checkFormats(t, &history.Run{Ops: ops})
	// Each of them first: that is where vegeta finds out about the encoding.
	for _, op := range ops {
		checkFormats(t, &history.Run{Ops: []history.Op{op}})
	}
	checkFormats(t, record(t, ops, false))
}

func TestAnyOperation(t *testing.T) {
	text := rapid.OneOf(rapid.SampledFrom(hostile[:len(hostile)-1]), rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	rapid.Check(t, func(t *rapid.T) {
		var ops []history.Op
		for i := range rapid.IntRange(1, 5).Draw(t, "operations") {
			ops = append(ops, history.Op{
				ID: fmt.Sprint(i), Phase: history.Load,
				Entity: text.Draw(t, "entity"), Key: text.Draw(t, "key"), Name: text.Draw(t, "name"), Error: text.Draw(t, "error"),
				Outcome:   rapid.SampledFrom([]history.Outcome{history.OK, history.Fail, history.Info, history.Unsent}).Draw(t, "outcome"),
				Scheduled: time.Duration(rapid.Int64Range(0, 1<<52).Draw(t, "scheduled")),
				Returned:  time.Duration(rapid.Int64Range(0, 1<<53).Draw(t, "returned")),
			})
		}
		checkFormats(t, &history.Run{Ops: ops})
	})
}

// failer is a test, of testing or of rapid.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkFormats fails the test unless vegeta finds out which format is which and
// reads from each what was meant.
func checkFormats(t failer, run *history.Run) {
	t.Helper()
	for _, format := range formats {
		results, err := Results(run, []history.Phase{history.Load})
		if err != nil {
			t.Fatalf("%v", err)
		}
		var out bytes.Buffer
		if err := Write(&out, format, results); err != nil {
			t.Fatalf("%v", err)
		}
		if lines := bytes.Count(out.Bytes(), []byte("\n")); format != VegetaGob && lines != len(run.Ops) {
			t.Fatalf("%s: %d lines for %d operations", format, lines, len(run.Ops))
		}
		decode := vegeta.DecoderFor(&out)
		if decode == nil {
			t.Fatalf("%s: vegeta does not know the encoding", format)
		}
		for want := range results {
			var have vegeta.Result
			if err := decode(&have); err != nil {
				t.Fatalf("%s: read %+v: %v", format, want, err)
			}
			if !have.Equal(*want) {
				t.Fatalf("%s: have %+v, want %+v", format, have, *want)
			}
			if (have.Error == "") != (have.Code == 200) || !utf8.ValidString(have.Attack+have.Error+have.URL) {
				t.Fatalf("%s: %+v", format, have)
			}
		}
		if err := decode(&vegeta.Result{}); !errors.Is(err, io.EOF) {
			t.Fatalf("%s: more than was written: %v", format, err)
		}
	}
}
