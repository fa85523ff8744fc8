package jepsen

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"statequake/reports/check"
)

const (
	invoked   = "{:process 0, :type :invoke, :f :write, :value 1}\n"
	completed = "{:process 0, :type :ok, :f :write, :value 1}\n"
)

// TestBadHistories: what cannot be read or judged ends with file, line and what
// to do.
func TestBadHistories(t *testing.T) {
	tests := []struct {
		name, text string
		model      string // register if empty
		keys       bool
		want       string
	}{
		{name: "two in flight", text: invoked + "\n" + invoked,
			want: "f:3: process 0 invokes :write, but its :write of line 1 has not completed\nhint: a process has one operation in flight"},
		{name: "two in flight, in a log", text: "INFO  jepsen.util - 3\t:invoke\t:read\tnil\nnoise\nINFO  jepsen.util - 3\t:invoke\t:write\t1\n",
			want: "f:3: process 3 invokes :write, but its :read of line 1"},
		{name: "not invoked", text: invoked + completed + completed, want: "f:3: process 0 completes :write with :ok, but has not invoked it"},
		{name: "another function", text: invoked + strings.Replace(completed, ":write", ":read", 1), want: "f:2: process 0 completes :read, but had invoked :write in line 1"},
		{name: "order", text: "{:index 4 :process 0, :type :invoke, :f :read}\n{:index 3 :process 1, :type :invoke, :f :read}", want: "f:2: :index 3 after :index 4\nhint: "},
		{name: "index", text: "{:index x :process 0, :type :invoke, :f :read}", want: "f:1: :index: x is no whole number of 64 bits"},
		{name: "time", text: "{:time 99999999999999999999 :process 0, :type :invoke, :f :read}", want: "f:1: :time: 99999999999999999999 is no whole number"},
		{name: "type", text: "{:process 0, :type :start, :f :read}", want: "f:1: :type: :start is not one of :invoke, :ok, :fail, :info"},
		{name: "no type", text: "{:process 0, :f :read}", want: "f:1: :type: nothing is not one of"},
		{name: "no process", text: "[\n{:type :ok, :f :read}]", want: "f:2: an operation without a :process"},
		{name: "no map", text: "[[:process 0]]", want: "f:1: [:process 0] is no operation"},
		{name: "key without a value", text: "{:process}", want: "f:1: a map with a key that has no value"},
		{name: "wrong bracket", text: "{:process 0,\n :value [1}\n", want: "f:2: } where ] should close"},
		{name: "closes nothing", text: invoked + "]", want: "f:2: ] closes nothing"},
		{name: "cut off", text: invoked + "{:process 0, :type\n :ok, :val", want: "f:2: ends in the middle of a form"},
		{name: "cut off in a string", text: invoked + `{:process 0, :error "}`, want: "f:2: ends in the middle of a form"},
		{name: "vector cut off", text: "[" + invoked + completed, want: "f:3: the history ends without its ]\nhint: is the file cut off?"},
		{name: "two histories", text: "[]\n[]", want: "f:2: something stands behind the end of the history"},
		{name: "in and outside", text: invoked + "[]", want: "f:2: operations both outside of a collection and in one"},
		{name: "deep", text: invoked + strings.Repeat("[", 1000), want: "f:2: operations both"},
		{name: "deep value", text: "{:value " + strings.Repeat("[", 1000), want: "f:1: nested deeper than 200 levels"},
		{name: "many tags", text: "{:value " + strings.Repeat("#a ", 100), want: "f:1: more than 16 tags in a row"},
		{name: "much discarded", text: "{:value " + strings.Repeat("#_ 1 ", 2000), want: "f:1: more than 1000 times #_"},
		{name: "long number", text: "{:value " + strings.Repeat("9", 2000), want: "f:1: a number of more than 1000 digits"},
		{name: "bad value", text: strings.Replace(invoked, "1", "1/2x~", 1), want: "f:1: the value of :write: 1/2x~: invalid character"},
		{name: "bad value in a log", text: "INFO  jepsen.util - 3\t:invoke\t:write\t[1\n", want: "f:1: the value of :write: ends in the middle of a form"},
		{name: "process of a log", text: "INFO  jepsen.util - 99999999999999999999\t:invoke\t:write\t1\n", want: "f:1: process: 99999999999999999999 is no whole number"},
		{name: "function", text: strings.ReplaceAll(invoked, "write", "cas"), want: "f:1: function :cas is none of the model register, which has :read, :write\nhint: --model cas-register"},
		{name: "pair", text: strings.ReplaceAll(invoked, "write", "cas"), model: "cas-register", want: "f:1: the value of :cas is 1, not [old new]"},
		{name: "no tuple", text: invoked, keys: true, want: "f:1: :write: value 1 is no tuple [key value]"},
		{name: "another key", text: "{:process 0, :type :invoke, :f :read, :value [1 nil]}\n{:process 0, :type :ok, :f :read, :value [2 nil]}",
			want: "f:2: process 0 completes :read on key 2, but had invoked it on key 1 in line 1"},
		{name: "no amount", text: "{:process 0, :type :invoke, :f :add, :value :x}", model: "counter", want: "f:1: the value of :add: :x is no whole number of 64 bits"},
		{name: "no sum", text: "{:process 0, :type :invoke, :f :read}{:process 0, :type :ok, :f :read}", model: "counter", want: "f:1: the value of :read: nil is no whole number"},
		{name: "large sums", text: "{:process 0, :type :invoke, :f :add, :value 9223372036854775807}\n{:process 1, :type :invoke, :f :add, :value 1}", model: "counter",
			want: "f:2: the amounts sum up to more than 64 bits hold"},
		{name: "no set", text: "{:process 0, :type :invoke, :f :read}{:process 0, :type :ok, :f :read, :value 7}", model: "set", want: "f:1: the value of :read is 7, not a set"},
		{name: "no balances", text: "{:process 0, :type :invoke, :f :read}{:process 0, :type :ok, :f :read, :value #{7}}", model: "bank", want: "f:1: the value of :read is #{7}, not a map of balances"},
		{name: "balance", text: "{:process 0, :type :invoke, :f :read}{:process 0, :type :ok, :f :read, :value {7 :x}}", model: "bank", want: "f:1: the balance of account 7: :x is no whole number"},
		{name: "model", text: invoked, model: "queue", want: `unknown model "queue"; have register, cas-register, counter, set, bank`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.model == "" {
				tt.model = "register"
			}
			h, err := Read(iotest.OneByteReader(strings.NewReader(tt.text)), "f")
			if err == nil {
				_, err = Judge(h, Options{Model: tt.model, Keys: tt.keys})
			}
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// endless is a text that goes on for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// TestLimits: a line or an operation without an end does not fill the memory.
func TestLimits(t *testing.T) {
	for want, text := range map[string]string{
		"f:1: a line of more than 16 MiB":       "INFO ",
		"f:1: an operation of more than 16 MiB": `{"`,
	} {
		if _, err := Read(io.MultiReader(strings.NewReader(text), endless{}), "f"); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := Read(iotest.TimeoutReader(strings.NewReader(strings.Repeat(" ", 100<<10)+invoked)), "f"); err == nil || !strings.HasPrefix(err.Error(), "f: ") {
		t.Errorf("an error of the disk: %v", err)
	}
}

// TestLogForms: the forms in which Jepsen has logged operations over the years.
func TestLogForms(t *testing.T) {
	const log = `
INFO  jepsen.core - Worker 3 starting
INFO  jepsen.util - 3	:invoke	:write	4
WARN  jepsen.core - Process 3 indeterminate
java.net.SocketTimeoutException: Read timed out
INFO  jepsen.util - 3	:info	:write	4	java.net.SocketTimeoutException: [Read timed out
INFO [2026-01-31 10:48:13,039] jepsen worker 3 - jepsen.util 8  :invoke :read   nil
INFO [2026-01-31 10:48:13,040] jepsen worker 3 - jepsen.util 8  :ok :read "a	b; \"c\"" :cached
2026-01-31 10:48:13,041{GMT}	INFO	[jepsen worker 0] jepsen.util: 0	:invoke	:cas	[6 [0 1]]
2026-01-31 10:48:13,042{GMT}	INFO	[jepsen worker 0] jepsen.util: 0	:fail	:cas	[6 [0 1]]	:conn-closed
2026-01-31 10:48:13,042{GMT}	INFO	[jepsen nemesis] jepsen.util: :nemesis	:info	:start	:primaries
1	:invoke	:drain	nil
`
	h, err := Read(strings.NewReader(strings.ReplaceAll(log, "\n", "\r\n")), "f")
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, op := range h.Ops {
		got += fmt.Sprintf("%d %s %s -> %s %d lines %d %d\n", op.Process, op.F, op.Value, op.Result, op.Kind, op.Line, op.DoneLine)
	}
	want := "3 write 4 ->  0 lines 3 6\n" +
		"8 read nil -> \"a\tb; \\\"c\\\"\" 1 lines 7 8\n" +
		"0 cas [6 [0 1]] ->  2 lines 9 10\n" +
		"1 drain nil ->  0 lines 12 0\n"
	if got != want || h.Torn {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestTornLog: the value of a last line without an end may be cut off, so it is
// not believed.
func TestTornLog(t *testing.T) {
	const log = "INFO  jepsen.util - 0\t:invoke\t:write\t12\nINFO  jepsen.util - 0\t:ok\t:write\t12\nINFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok\t:read\t1"
	for _, tt := range []struct {
		text string
		want check.Verdict
	}{{log, check.Unknown}, {log + "2\n", check.Pass}, {log + "\n", check.Violated}} {
		h, err := Read(strings.NewReader(tt.text), "f")
		if err != nil {
			t.Fatal(err)
		}
		v, err := Judge(h, Options{Model: "register"})
		if err != nil || v.Verdict != tt.want {
			t.Errorf("%v, %s\n%s", err, tt.want, summary(t, v))
		}
	}
}

// TestBudget: a search that runs out of time or memory is undecided.
func TestBudget(t *testing.T) {
	var b strings.Builder
	for i := range 60 { // of unknown outcome, so that each may be anywhere
		fmt.Fprintf(&b, "{:process %d, :type :invoke, :f :cas, :value [%d %d]}\n", i, i%5, (i+1)%5)
	}
	for i := range 40 {
		fmt.Fprintf(&b, "{:process 100, :type :invoke, :f :read}{:process 100, :type :ok, :f :read, :value %d}\n", i*7%5)
	}
	b.WriteString("{:process 100, :type :invoke, :f :read}{:process 100, :type :ok, :f :read, :value 9}\n")
	h, err := Read(strings.NewReader(b.String()), "f")
	if err != nil {
		t.Fatal(err)
	}
	for name, opt := range map[string]Options{
		"time":   {Timeout: 100 * time.Millisecond},
		"memory": {Timeout: time.Hour, Memory: 1 << 20},
	} {
		opt.Model = "cas-register"
		start := time.Now()
		v, err := Judge(h, opt)
		if err != nil {
			t.Fatal(err)
		}
		if r := v.Checks[0]; v.Verdict != check.Unknown || r.Undecided != 1 || len(r.Reasons) == 0 || time.Since(start) > time.Minute {
			t.Errorf("%s: after %s\n%s", name, time.Since(start), summary(t, v))
		}
	}
}

// TestBothWays: a register with unique values gets the same verdict by its zones
// and by a search.
func TestBothWays(t *testing.T) {
	verdicts := map[check.Verdict]int{}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 2))
		var b strings.Builder
		written := 0
		inFlight := map[int]string{}
		process := [3]int{0, 1, 2}
		for range 4 + r.IntN(20) {
			c := r.IntN(len(process))
			p := process[c]
			op, busy := inFlight[p]
			switch {
			case !busy && r.IntN(2) == 0:
				written++
				op = fmt.Sprintf(":f :write, :value %d", written)
			case !busy:
				op = ":f :read"
			}
			if !busy {
				inFlight[p] = op
				fmt.Fprintf(&b, "{:process %d, :type :invoke, %s}\n", p, op)
				continue
			}
			delete(inFlight, p)
			kind := [...]string{"ok", "ok", "ok", "ok", "fail", "info"}[r.IntN(6)]
			if kind == "info" {
				process[c] += len(process)
			}
			if op == ":f :read" && kind == "ok" {
				if n := max(0, written-r.IntN(3)); n > 0 {
					op += fmt.Sprintf(", :value %d", n)
				}
			}
			fmt.Fprintf(&b, "{:process %d, :type :%s, %s}\n", p, kind, op)
		}
		h, err := Read(strings.NewReader(b.String()), "f")
		if err != nil {
			t.Fatalf("%v\n%s", err, &b)
		}
		fast, err := Judge(h, Options{Model: "register"})
		if err != nil {
			t.Fatal(err)
		}
		all, _, _ := split(h, Options{Model: "register"})
		j := &judge{History: h, opt: Options{Timeout: time.Minute, Memory: 1 << 30}}
		for i := range all {
			ops, err := registerOps(&all[i])
			if err != nil {
				t.Fatal(err)
			}
			calls, model := registerSearch(ops)
			j.hard = append(j.hard, hard{&all[i], calls, model})
		}
		j.searchAll()
		if (fast.Verdict == check.Violated) != (j.search.Total > 0) || j.search.Undecided > 0 {
			t.Fatalf("seed %d: %s, searched %+v\n%s%s", seed, fast.Verdict, j.search, &b, summary(t, fast))
		}
		if fast.Verdict == check.Violated {
			var page, again bytes.Buffer
			if err := errors.Join(fast.Draw(&page), fast.Draw(&again)); !fast.Drawable() || err != nil || !bytes.Contains(page.Bytes(), []byte("no order explains")) {
				t.Fatalf("seed %d: no drawing: %v", seed, err)
			}
			if !bytes.Equal(page.Bytes(), again.Bytes()) {
				t.Fatalf("seed %d: drawn again, the page is another", seed)
			}
		}
		verdicts[fast.Verdict]++
	}
	if verdicts[check.Pass] < 300 || verdicts[check.Violated] < 300 {
		t.Errorf("one-sided: %v", verdicts)
	}
	t.Logf("%v", verdicts)
}

func FuzzForm(f *testing.F) {
	for _, seed := range []string{
		"1", "-0", "12N", "1.5e-7M", ":a/b", `"a\nb\u00e9"`, `\newline`, `\u0041`, "nil", "true", "#{1 [2] {3 4}}", "{:a (1 2), [1] #{}}",
		"#inst \"2026-01-31T10:48:13.039Z\"", "#a #b [1]", "#_ x y", "#_ #_ 1 2 3", "; c\n(1,2)", "##Inf", "#\"r\"", "[1", "a]", "\\", "#", "\"\\", "#_", `#base64 "aGk="`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		form, rest, err := cut(data)
		if err != nil || form == nil {
			return
		}
		if !bytes.HasSuffix(data, rest) || !bytes.HasSuffix(data[:len(data)-len(rest)], form) {
			t.Fatalf("cut %q into %q and %q", data, form, rest)
		}
		if again, after, err := cut(form); err != nil || !bytes.Equal(again, form) || len(after) > 0 {
			t.Fatalf("%q is cut again into %q and %q, %v", form, again, after, err)
		}
		// What is spelled canonically stays as it is.
		text, err := canonical(form)
		if err != nil {
			return
		}
		if again, err := canonical([]byte(text)); err != nil || again != text {
			t.Fatalf("%q is %q, and that is %q, %v", form, text, again, err)
		}
	})
}

func FuzzHistory(f *testing.F) {
	names, err := filepath.Glob("testdata/*.*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := Read(bytes.NewReader(data), "f")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		for _, model := range Models {
			v, err := Judge(h, Options{Model: model, Timeout: 20 * time.Millisecond, Memory: 1 << 20})
			if err != nil {
				if !strings.HasPrefix(err.Error(), "f:") {
					t.Fatalf("%s: error without a place: %v", model, err)
				}
				continue
			}
			if v.Verdict == check.Pass && v.Ops.OK == 0 {
				t.Fatalf("%s: nothing passes\n%s", model, summary(t, v))
			}
		}
	})
}
