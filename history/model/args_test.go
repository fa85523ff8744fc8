package model

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// shapes are the members of all args, by name; strings begin with a quote.
var shapes = [][]string{
	{"n"}, {`"value`}, {`"item`, "quantity"}, {`"item`}, {`"to`, "amount"}, {"amount"}, {`"transfer`},
	{"seq", "value"}, {`"player`, "score"}, {"position", `"device`}, {`"row`, `"value`}, {`"row`}, {`"from`, "limit"}, {`"by`, "deadline_ms"}, {`"by`}, {},
}

// agree reports how plain and encoding/json differ on args of one shape, and
// whether plain took them.
func agree(shape []string, args []byte) (taken bool, problem string) {
	var members []*arg
	var fields []reflect.StructField
	for i, name := range shape {
		m, typ := number(name), reflect.TypeFor[*int64]()
		if bare, isText := strings.CutPrefix(name, `"`); isText {
			m, typ = text(bare), reflect.TypeFor[*string]()
		}
		members = append(members, &m)
		fields = append(fields, reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: typ, Tag: reflect.StructTag(fmt.Sprintf(`json:"%s"`, m.name))})
	}
	if !plain(args, members...) {
		return false, ""
	}
	in := reflect.New(reflect.StructOf(fields))
	if err := decode(args, in.Interface()); err != nil {
		return true, fmt.Sprintf("plain takes %q, encoding/json does not: %v", args, err)
	}
	for i, m := range members {
		want := in.Elem().Field(i)
		switch {
		case m.given == want.IsNil():
			problem = fmt.Sprintf("%q: %s: given %v", args, m.name, m.given)
		case m.given && m.isText && string(m.text) != want.Elem().String(), m.given && !m.isText && m.number != want.Elem().Int():
			problem = fmt.Sprintf("%q: %s: plain reads %q %d, encoding/json %v", args, m.name, m.text, m.number, want.Elem())
		}
	}
	return true, problem
}

// TestPlain: what plain takes, encoding/json takes too and reads the same, on
// what workloads write and on neighbours of it.
func TestPlain(t *testing.T) {
	texts := []string{`""`, `"a"`, `"sku-12"`, `"é"`, `"\u0041"`, `"a\"b"`, "\"\x7f\"", "\"\x80\"", `"\`, `null`}
	numbers := []string{`0`, `1`, `-1`, `-0`, `01`, `-`, `1e2`, `1.0`, `999999999999999999`, `-999999999999999999`, `1000000000000000000`,
		`9223372036854775807`, `-9223372036854775808`, `9223372036854775808`, `null`, `true`, `{}`, `[]`, ``}
	pick := func(r *rand.Rand, from []string) string { return from[r.IntN(len(from))] }
	took, given := 0, 0
	const tries = 200_000
	for seed := range uint64(tries) {
		r := rand.New(rand.NewPCG(seed, 0))
		shape := shapes[r.IntN(len(shapes))]
		var parts []string
		for range r.IntN(4) {
			name := pick(r, []string{"n", "value", "Item", "quantity", ""})
			if len(shape) > 0 && r.IntN(20) > 0 {
				name = pick(r, shape)
			}
			bare, isText := strings.CutPrefix(name, `"`)
			values := numbers
			if isText != (r.IntN(20) == 0) {
				values = texts
			}
			parts = append(parts, fmt.Sprintf(`"%s":%s`, bare, pick(r, values)))
		}
		args := []byte("{" + strings.Join(parts, ",") + "}")
		for range max(0, r.IntN(5)-2) {
			at := r.IntN(len(args))
			args = slices.Replace(args, at, at+r.IntN(2), []byte(pick(r, []string{"", "{", "}", ",", `"`, " ", ":", "0", "-", "\\"}))...)
		}
		taken, problem := agree(shape, args)
		if problem != "" {
			t.Fatalf("seed %d: %s", seed, problem)
		}
		if taken {
			took++
			if len(args) > 2 {
				given++
			}
		}
	}
	if given < tries/50 || tries-took < tries/20 {
		t.Errorf("of %d args %d were plain, %d not empty: that tells little", tries, took, given)
	}
	t.Logf("of %d args %d were plain, %d not empty", tries, took, given)
}

// What the workloads write must not take the slow way.
func TestWorkloadsWritePlainly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64Range(-1e18+1, 1e18-1).Draw(t, "a"), rapid.StringMatching(`[ !#-\[\]-~]*`).Draw(t, "b")
		for _, args := range []string{fmt.Sprintf(`{"a":%d,"b":"%s"}`, a, b), fmt.Sprintf(`{"b":"%s","a":%d}`, b, a)} {
			n, s := number("a"), text("b")
			if !plain([]byte(args), &n, &s) || n.number != a || string(s.text) != b || !n.given || !s.given {
				t.Fatalf("%s is read as %+v, %+v", args, n, s)
			}
		}
	})
}

func FuzzPlain(f *testing.F) {
	for _, seed := range []string{`{}`, `{"n":1}`, `{"value":"x"}`, `{"item":"a","quantity":2}`, `{"quantity":2,"item":"a"}`, `{"n":1,"n":2}`, `{"N":1}`, `{"n":-0}`, `{"n":1}{}`, `{"seq":1,"value":-7}`, ``} {
		f.Add([]byte(seed), "a\"<é\x80")
	}
	f.Fuzz(func(t *testing.T, args []byte, s string) {
		for _, shape := range shapes {
			if _, problem := agree(shape, args); problem != "" {
				t.Errorf("%v: %s", shape, problem)
			}
		}
		want, _ := json.Marshal(s)
		if got := appendText([]byte("["), s); string(got) != "["+string(want) {
			t.Errorf("%q is written as %s, not %s", s, got[1:], want)
		}
		if got := appendText(nil, []byte(s)); string(got) != string(want) {
			t.Errorf("bytes %q are written as %s, not %s", s, got, want)
		}
	})
}

// everyday are operations as the workloads send them, on a state that knows
// their items already.
var everyday = []struct{ entity, op, args string }{
	{"counter", "add", `{"n":1}`}, {"counter", "get", `{}`},
	{"register", "set", `{"value":"7f3a-l12345"}`}, {"register", "get", `{}`},
	{"cart", "add", `{"item":"sku-25","quantity":1}`}, {"cart", "remove", `{"item":"sku-99"}`}, {"cart", "get", ``},
	{"account", "credit", `{"amount":5}`}, {"account", "debit", `{"to":"b","amount":1}`}, {"account", "settle", `{"transfer":"t9"}`}, {"account", "get", `{}`},
	{"twin", "report", `{"seq":1,"value":-7}`}, {"twin", "get", `{}`},
	{"board", "submit", `{"player":"p25","score":1}`}, {"board", "top", `{}`},
	{"playback", "seek", `{"position":1234,"device":"tv"}`}, {"playback", "get", `{}`},
	{"table", "read", `{"row":"user25"}`}, {"table", "scan", `{"from":"user25","limit":5}`}, {"table", "insert", `{"row":"user25","value":"v"}`},
	{"table", "update", `{"row":"user25","value":"w"}`}, {"table", "modify", `{"row":"user25","value":"x"}`},
	{"approval", "approve", `{"by":"u"}`}, {"approval", "submit", `{"by":"u","deadline_ms":5000}`}, {"approval", "expire", `{}`}, {"approval", "get", `{}`},
}

// lived is a state that has seen something.
func lived(t testing.TB, entity string) State {
	state := fresh(t, entity)
	for i := range 50 {
		for _, in := range []struct{ entity, op, args string }{
			{"cart", "add", fmt.Sprintf(`{"item":"sku-%d","quantity":1}`, i)},
			{"board", "submit", fmt.Sprintf(`{"player":"p%d","score":%d}`, i, i)},
			{"account", "debit", `{"to":"b","amount":1}`},
			{"table", "insert", fmt.Sprintf(`{"row":"user%d","value":"v-%d"}`, i, i)},
		} {
			if in.entity == entity {
				if _, _, err := state.Apply(in.op, json.RawMessage(in.args), "t0/1"); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return state
}

func TestApplyAllocatesNothing(t *testing.T) {
	for _, e := range everyday {
		state, args := lived(t, e.entity), json.RawMessage(e.args)
		if n := testing.AllocsPerRun(100, func() {
			if _, _, err := state.Apply(e.op, args, "t0/1"); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s %s %s: %v allocations", e.entity, e.op, e.args, n)
		}
	}
}

// A result stays until the next Apply on the state: a clone answers from a
// buffer of its own, and a fingerprint is no answer.
func TestResultsStay(t *testing.T) {
	for _, e := range everyday {
		state, args := lived(t, e.entity), json.RawMessage(e.args)
		if _, _, err := state.Apply(e.op, args, "t0/1"); err != nil {
			t.Fatal(err)
		}
		clone := state.Clone()
		mine, _, err := state.Apply(e.op, args, "t1/1")
		before := string(mine)
		for range 3 {
			for _, other := range everyday {
				if other.entity == e.entity {
					clone.Apply(other.op, json.RawMessage(other.args), "t2/1")
				}
			}
		}
		state.Fingerprint()
		if err != nil || string(mine) != before {
			t.Errorf("%s %s: the result became %s, was %s", e.entity, e.op, mine, before)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	for _, e := range everyday {
		b.Run(e.entity+"/"+e.op, func(b *testing.B) {
			state, args := lived(b, e.entity), json.RawMessage(e.args)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := state.Apply(e.op, args, "t0/1"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
