package check

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"statequake/history"
)

func mustParse(t *testing.T, text string) *history.Run {
	t.Helper()
	run, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func TestIdentity(t *testing.T) {
	const text = `
		0-1 n1.1 add a 1 -> 1 @ a
		8-9 n1.1 audit z -> a`
	for _, c := range []struct {
		name   string
		change func(*history.Run)
		want   string // in the reasons; "" for pass
	}{
		{"as written", func(*history.Run) {}, ""},
		{"one more was due", func(r *history.Run) { r.Footer.Scheduled[history.Load]++ }, "load: 2 operations scheduled, 1 recorded"},
		{"a line is missing", func(r *history.Run) { r.Ops = r.Ops[:1] }, "phase audit: the file holds 0 ok, 0 fail, 0 info, 0 unsent, its footer counts 1 ok"},
		{"an outcome differs", func(r *history.Run) { r.Ops[0].Outcome = history.Info }, "phase load: the file holds 0 ok, 0 fail, 1 info"},
		{"an id repeats", func(r *history.Run) { r.Ops[1].ID = "a" }, "1 operation ids occur more than once, the first is a"},
		{"torn", func(r *history.Run) { r.Footer = nil }, "no footer"},
	} {
		run := mustParse(t, text)
		c.change(run)
		r := find(Run(run, Options{Ack: Durable, Witness: true}), "identity")
		reasons := strings.Join(r.Reasons, "; ")
		switch {
		case c.want == "" && (r.Verdict != Pass || reasons != ""):
			t.Errorf("%s: %s, %s", c.name, r.Verdict, reasons)
		case c.want != "" && (r.Verdict != Unknown || !strings.Contains(reasons, c.want)):
			t.Errorf("%s: %s, %q does not contain %q", c.name, r.Verdict, reasons, c.want)
		}
	}
}

func TestOverall(t *testing.T) {
	for _, c := range []struct {
		verdicts []Verdict
		want     Verdict
	}{
		{nil, Unknown},
		{[]Verdict{Pass, Pass}, Pass},
		{[]Verdict{Pass, Unknown, Pass}, Unknown},
		{[]Verdict{Unknown, Violated, Pass}, Violated},
		{[]Verdict{Pass, ""}, Unknown},
	} {
		var results []Result
		for _, v := range c.verdicts {
			results = append(results, Result{Verdict: v})
		}
		if got := Overall(results); got != c.want {
			t.Errorf("%v: %s, want %s", c.verdicts, got, c.want)
		}
	}
}

func TestEmptyHistoryIsUnknown(t *testing.T) {
	for _, opt := range []Options{{Ack: Durable, Witness: true}, {Ack: Durable}, {Ack: Memory, Witness: true}, {Ack: "quorum", Witness: true}} {
		if results := Run(&history.Run{Footer: footer(nil)}, opt); Overall(results) != Unknown {
			t.Errorf("%+v: %s", opt, show(results, false))
		}
	}
	run := mustParse(t, "0-1 n1.1 add a 1 -> 1 @ a\n8-9 n1.1 audit z -> a")
	if results := Run(run, Options{Ack: "quorum", Witness: true}); Overall(results) != Unknown {
		t.Errorf("a contract that does not exist: %s", show(results, false))
	}
}

func TestPorcupineOutOfTime(t *testing.T) {
	run := mustParse(t, "0-1 n1.1 add a 2 -> 2 @ a\n2-3 n1.1 add b -1 -> 1 @ a b\n8-9 n1.1 audit z -> a b")
	opt := Options{Ack: Durable, PorcupineTime: time.Nanosecond}
	if r := find(Run(run, opt), "porcupine"); r.Verdict != Unknown || r.Undecided != 1 || r.Keys != 0 {
		t.Errorf("without a witness: %+v", r)
	}
	opt.Witness = true
	if results := Run(run, opt); len(results) != 2 || Overall(results) != Pass {
		t.Errorf("beside a witness: %s", show(results, false))
	}
}

func TestListsAreCut(t *testing.T) {
	var text strings.Builder
	for k := range 30 {
		for n := range 5 {
			fmt.Fprintf(&text, "0-1 n1.1 add a%d-%d on counter/%d 1 -> 1 @ a\n", k, n, k)
		}
		fmt.Fprintf(&text, "8-9 n1.1 audit z%d on counter/%d ->\n", k, k)
	}
	r := find(Run(mustParse(t, text.String()), Options{Ack: Durable, Witness: true}), "witness")
	if r.Total != 150 || r.Kinds[Lost] != 150 || len(r.Violations) != listedInAll || len(r.LostAcks) != 150 {
		t.Errorf("total %d, kinds %v, %d listed, %d lost acks", r.Total, r.Kinds, len(r.Violations), len(r.LostAcks))
	}
	perKey := map[string]int{}
	for _, v := range r.Violations {
		perKey[v.Key]++
		if perKey[v.Key] > listedPerKey {
			t.Errorf("key %s is listed %d times", v.Key, perKey[v.Key])
		}
	}
}

// TestResultJSON holds the field names of verdict.json.
func TestResultJSON(t *testing.T) {
	run := mustParse(t, "0-1 n1.1 add a 1 -> 1 @ a\n8-9 n1.1 audit z -> ")
	results := Run(run, Options{Ack: Durable, Witness: true})
	got, err := json.Marshal(results[:2])
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"name":"identity","verdict":"pass","ops":2,"keys":1,"total":0,"violations":[]},` +
		`{"name":"witness","verdict":"violation","ops":2,"keys":1,"total":1,"kinds":{"lost":1},"violations":[` +
		`{"entity":"counter","key":"c","kind":"lost","ops":["a","z"],"explanation":"add a was acknowledged by n1 at 0.001 s with version 1, digest 592d26ec62a8295e, epoch 1; the audit at 0.009 s does not contain it"}]}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSameJSON(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{`{"a":1,"b":[2,null]}`, ` { "b" : [2.0, null], "a" : 1 } `, true},
		{`{"a":1}`, `{"a":1,"b":null}`, false},
		{`{"a":1}`, `{"b":1}`, false},
		{`[1,2]`, `[2,1]`, false},
		{`[1]`, `[1,1]`, false},
		{`"\u0041"`, `"A"`, true},
		{`"1"`, `1`, false},
		{`9007199254740993`, `9007199254740992`, false},
		{`10`, `1e1`, true},
		{`1e400`, `2e400`, false},
		{`true`, `false`, false},
		{`{`, `{`, true},
		{`{`, `[`, false},
		{``, ``, true},
		{``, `null`, false},
	} {
		if got := sameJSON(json.RawMessage(c.a), json.RawMessage(c.b)); got != c.want {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

// TestTextFromTheSystemIsMadeFit: ids, digests and results that a broken
// system makes up must not spoil a terminal or flood a report.
func TestTextFromTheSystemIsMadeFit(t *testing.T) {
	run := mustParse(t, "0-1 n1.1 add a 1 -> 1 @ a\n8-9 n1.1 audit z -> a")
	run.Ops[0].Result = json.RawMessage(`{"value":"` + strings.Repeat("é", 1000) + `"}`)
	run.Ops[1].Result = json.RawMessage(`{"ids":["a","\u001b[2Jx"]}`)
	saw(&run.Ops[1], []string{"a", "\x1b[2Jx"})
	r := find(Run(run, Options{Ack: Durable, Witness: true}), "witness")
	if r.Kinds[Phantom] != 1 || r.Kinds[WrongResult] != 1 {
		t.Fatalf("%+v", r)
	}
	for _, v := range r.Violations {
		if len(v.Explanation) > 400 || strings.ContainsAny(v.Explanation, "\x1b\uFFFD") {
			t.Errorf("%q", v.Explanation)
		}
	}
}
