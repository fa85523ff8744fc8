package model

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func fresh(t interface {
	Helper()
	Fatalf(string, ...any)
}, entity string) State {
	t.Helper()
	state, ok := For(entity)
	if !ok {
		t.Fatalf("no model of %s", entity)
	}
	return state
}

func TestFor(t *testing.T) {
	for entity := range entities {
		fresh(t, entity)
	}
	if state, ok := For("teapot"); ok || state != nil {
		t.Errorf("model of a teapot: %v", state)
	}
}

// TestApply runs each list of operations on a fresh entity. w marks a write. An
// operation's id follows its name after a #, where it matters.
func TestApply(t *testing.T) {
	type step struct{ op, args, want string }
	for _, test := range []struct {
		entity string
		steps  []step
	}{
		{"counter", []step{
			{"get", `{}`, `{"value":0}`},
			{"add", `{"n":3}`, `w {"value":3}`},
			{"add", ` {"n": -5 } `, `w {"value":-2}`},
			{"add", `{"n":0}`, `w {"value":-2}`},
			{"get", ``, `{"value":-2}`},
			{"add", `{"n":9223372036854775807}`, `w {"value":9223372036854775805}`},
			{"add", `{"n":3}`, `error counter add: args: n: 9223372036854775805 + 3 is beyond 64 bits`},
			{"add", `{"n":2}`, `w {"value":9223372036854775807}`},
			{"add", `{}`, `error counter add: args: n is missing`},
			{"add", ``, `error counter add: args: n is missing`},
			{"add", `{"n":1.5}`, `error counter add: args: json: cannot unmarshal number 1.5`},
			{"add", `{"n":1,"m":2}`, `error counter add: args: json: unknown field "m"`},
			{"add", `[1]`, `error counter add: args: "[1]" is not an object`},
			{"add", `null`, `error counter add: args: "null" is not an object`},
			{"add", `{"n":1}{}`, `error counter add: args: "{\"n\":1}{}" is more than one object`},
			{"get", `{"n":1}`, `error counter get: args: json: unknown field "n"`},
			{"witness", `{}`, `error counter: unknown operation "witness"; have add, get`},
			{"get", `{}`, `{"value":9223372036854775807}`},
		}},
		{"counter", []step{
			{"add", `{"n":-9223372036854775808}`, `w {"value":-9223372036854775808}`},
			{"add", `{"n":-1}`, `error counter add: args: n: -9223372036854775808 + -1 is beyond 64 bits`},
			{"add", `{"n":9223372036854775807}`, `w {"value":-1}`},
		}},
		{"register", []step{
			{"get", `{}`, `{"value":null}`},
			{"set", `{"value":"a"}`, `w {"value":"a"}`},
			{"get", `{}`, `{"value":"a"}`},
			{"set", `{"value":""}`, `w {"value":""}`},
			{"get", `{}`, `{"value":""}`},
			{"set", `{"value":"é\n\""}`, `w {"value":"é\n\""}`},
			{"set", `{"value":null}`, `error register set: args: value is missing`},
			{"set", `{"value":7}`, `error register set: args: json: cannot unmarshal number`},
			{"get", `[]`, `error register get: args: "[]" is not an object`},
			{"add", `{}`, `error register: unknown operation "add"; have set, get`},
			{"get", `{}`, `{"value":"é\n\""}`},
		}},
		{"cart", []step{
			{"get", `{}`, `{"items":[]}`},
			{"add", `{"item":"pear","quantity":2}`, `w {"item":"pear","quantity":2,"items":1}`},
			{"add", `{"item":"apple","quantity":99}`, `w {"item":"apple","quantity":99,"items":2}`},
			{"add", `{"item":"apple","quantity":2}`, `{"rejected":"at most 100 of one item"}`},
			{"add", `{"item":"apple","quantity":1}`, `w {"item":"apple","quantity":100,"items":2}`},
			{"add", `{"item":"apple","quantity":9223372036854775807}`, `{"rejected":"at most 100 of one item"}`},
			{"add", `{"item":"fig","quantity":101}`, `{"rejected":"at most 100 of one item"}`},
			{"get", `{}`, `{"items":[{"item":"apple","quantity":100},{"item":"pear","quantity":2}]}`},
			{"remove", `{"item":"fig"}`, `{"rejected":"no such item"}`},
			{"remove", `{"item":"apple"}`, `w {"items":1}`},
			{"remove", `{"item":"apple"}`, `{"rejected":"no such item"}`},
			{"add", `{"item":"apple","quantity":1}`, `w {"item":"apple","quantity":1,"items":2}`},
			{"add", `{"item":"apple","quantity":0}`, `error cart add: args: quantity: 0 is less than 1`},
			{"add", `{"item":"apple"}`, `error cart add: args: quantity is missing`},
			{"add", `{"quantity":1}`, `error cart add: args: item is missing`},
			{"add", `7`, `error cart add: args: "7" is not an object`},
			{"remove", `{}`, `error cart remove: args: item is missing`},
			{"remove", `{"item":1}`, `error cart remove: args: json: cannot unmarshal number`},
			{"get", `{"item":"x"}`, `error cart get: args: json: unknown field "item"`},
			{"checkout", `{}`, `error cart: unknown operation "checkout"; have add, remove, get`},
			{"remove", `{"item":"pear"}`, `w {"items":1}`},
			{"remove", `{"item":"apple"}`, `w {"items":0}`},
			{"get", `{}`, `{"items":[]}`},
		}},
		{"account", []step{
			{"get", `{}`, `{"balance":1000,"pending":0}`},
			{"debit#a/1", `{"to":"x","amount":400}`, `w {"balance":600,"pending":1}`},
			{"debit#b/1", `{"to":"x","amount":601}`, `{"rejected":"insufficient funds"}`},
			{"settle", `{"transfer":"b"}`, `{"rejected":"no such transfer"}`},
			{"debit#c/1", `{"to":"y","amount":600}`, `w {"balance":0,"pending":2}`},
			{"debit#d/1", `{"to":"y","amount":1}`, `{"rejected":"insufficient funds"}`},
			{"credit", `{"amount":7}`, `w {"balance":7}`},
			{"get", `{}`, `{"balance":7,"pending":2}`},
			{"settle", `{"transfer":"a/1"}`, `{"rejected":"no such transfer"}`},
			{"settle", `{"transfer":"a"}`, `w {"pending":1}`},
			{"settle", `{"transfer":"a"}`, `{"rejected":"no such transfer"}`},
			{"settle", `{"transfer":"c"}`, `w {"pending":0}`},
			{"debit", `{"amount":1}`, `error account debit: args: to is missing`},
			{"debit", `{"to":"x"}`, `error account debit: args: amount is missing`},
			{"debit", `{"to":"x","amount":0}`, `error account debit: args: amount: 0 is less than 1`},
			{"credit", `{"amount":-1}`, `error account credit: args: amount: -1 is less than 1`},
			{"credit", `{"amount":9223372036854775807}`, `error account credit: args: amount: 7 + 9223372036854775807 is beyond 64 bits`},
			{"settle", `{}`, `error account settle: args: transfer is missing`},
			{"run", `{}`, `error account: unknown operation "run"; have debit, credit, settle, get`},
			{"get", ``, `{"balance":7,"pending":0}`},
		}},
		{"twin", []step{
			{"get", `{}`, `{"seq":0,"value":0}`},
			{"report", `{"seq":3,"value":-9}`, `w {"seq":3}`},
			{"report", `{"seq":3,"value":1}`, `{"rejected":"stale"}`},
			{"report", `{"seq":2,"value":1}`, `{"rejected":"stale"}`},
			{"get", `{}`, `{"seq":3,"value":-9}`},
			{"report", `{"seq":4,"value":0}`, `w {"seq":4}`},
			{"report", `{"seq":0,"value":0}`, `error twin report: args: seq: 0 is less than 1`},
			{"report", `{"seq":5}`, `error twin report: args: value is missing`},
			{"report", `{"value":5}`, `error twin report: args: seq is missing`},
			{"set", `{}`, `error twin: unknown operation "set"; have report, get`},
			{"get", `{}`, `{"seq":4,"value":0}`},
		}},
		{"board", []step{
			{"top", `{}`, `{"top":[]}`},
			{"submit", `{"player":"b","score":0}`, `w {"best":0,"rank":1}`},
			{"submit", `{"player":"c","score":5}`, `w {"best":5,"rank":1}`},
			{"submit", `{"player":"a","score":5}`, `w {"best":5,"rank":1}`},
			{"submit", `{"player":"b","score":3}`, `w {"best":3,"rank":3}`},
			{"submit", `{"player":"c","score":4}`, `w {"best":5,"rank":1}`},
			{"top", `{}`, `{"top":[{"player":"a","score":5},{"player":"c","score":5},{"player":"b","score":3}]}`},
			{"submit", `{"player":"d","score":-1}`, `error board submit: args: score: -1 is less than 0`},
			{"submit", `{"score":1}`, `error board submit: args: player is missing`},
			{"submit", `{"player":"d"}`, `error board submit: args: score is missing`},
			{"get", `{}`, `error board: unknown operation "get"; have submit, top`},
		}},
		{"playback", []step{
			{"get", `{}`, `{"position":0,"device":""}`},
			{"seek", `{"position":7,"device":"tv"}`, `w {"position":7,"device":"tv"}`},
			{"seek", `{"position":0,"device":""}`, `w {"position":0,"device":""}`},
			{"seek", `{"position":-1,"device":"tv"}`, `error playback seek: args: position: -1 is less than 0`},
			{"seek", `{"position":1}`, `error playback seek: args: device is missing`},
			{"seek", `{"device":"tv"}`, `error playback seek: args: position is missing`},
			{"play", `{}`, `error playback: unknown operation "play"; have seek, delete, get`},
			{"get", `{}`, `{"position":0,"device":""}`},
			{"seek", `{"position":9,"device":"tv"}`, `w {"position":9,"device":"tv"}`},
			{"delete", `{}`, `w {"position":9,"device":"tv"}`},
			{"delete", `{}`, `w {"position":0,"device":""}`},
			{"get", `{}`, `{"position":0,"device":""}`},
		}},
		{"table", []step{
			{"read", `{"row":"b"}`, `{"value":null}`},
			{"scan", `{"from":"","limit":3}`, `{"rows":[]}`},
			{"update", `{"row":"b","value":"x"}`, `{"rejected":"no such row"}`},
			{"modify", `{"row":"b","value":"x"}`, `{"rejected":"no such row"}`},
			{"insert", `{"row":"b","value":"1"}`, `w {"rows":1}`},
			{"insert", `{"row":"b","value":"2"}`, `{"rejected":"row exists"}`},
			{"insert", `{"row":"a","value":"é"}`, `w {"rows":2}`},
			{"insert", `{"row":"c","value":""}`, `w {"rows":3}`},
			{"read", `{"row":"a"}`, `{"value":"é"}`},
			{"update", `{"row":"b","value":"2"}`, `w {"rows":3}`},
			{"modify", `{"row":"b","value":"longer than before"}`, `w {"old":"2"}`},
			{"modify", `{"row":"b","value":"3"}`, `w {"old":"longer than before"}`},
			{"scan", `{"from":"","limit":2}`, `{"rows":[{"row":"a","value":"é"},{"row":"b","value":"3"}]}`},
			{"scan", `{"from":"aa","limit":9}`, `{"rows":[{"row":"b","value":"3"},{"row":"c","value":""}]}`},
			{"scan", `{"from":"d","limit":9}`, `{"rows":[]}`},
			{"scan", `{"from":"a","limit":0}`, `error table scan: args: limit: 0 is less than 1`},
			{"scan", `{"limit":1}`, `error table scan: args: from is missing`},
			{"read", `{}`, `error table read: args: row is missing`},
			{"insert", `{"row":"e"}`, `error table insert: args: value is missing`},
			{"update", `{"value":"e"}`, `error table update: args: row is missing`},
			{"modify", `{"row":"a","value":1}`, `error table modify: args: json: cannot unmarshal number`},
			{"get", `{}`, `error table: unknown operation "get"; have read, scan, insert, update, modify`},
			{"scan", `{"from":"c","limit":1}`, `{"rows":[{"row":"c","value":""}]}`},
		}},
		{"approval", []step{
			{"get", `{}`, `{"state":"none","round":0,"by":""}`},
			{"approve", `{"by":"u"}`, `{"rejected":"not pending"}`},
			{"expire", `{}`, `{"rejected":"not pending"}`},
			{"submit", `{"by":"u","deadline_ms":1}`, `w {"state":"pending","round":1}`},
			{"submit", `{"by":"v","deadline_ms":1}`, `{"rejected":"already pending"}`},
			{"approve", `{"by":"u"}`, `{"rejected":"own request"}`},
			{"reject", `{"by":"u"}`, `{"rejected":"own request"}`},
			{"get", `{}`, `{"state":"pending","round":1,"by":"u"}`},
			{"reject", `{"by":"v"}`, `w {"state":"rejected","round":1}`},
			{"reject", `{"by":"v"}`, `{"rejected":"not pending"}`},
			{"submit", `{"by":"v","deadline_ms":9}`, `w {"state":"pending","round":2}`},
			{"expire", ``, `w {"state":"expired","round":2}`},
			{"approve", `{"by":"u"}`, `{"rejected":"not pending"}`},
			{"get", `{}`, `{"state":"expired","round":2,"by":"v"}`},
			{"submit", `{"by":"u","deadline_ms":9}`, `w {"state":"pending","round":3}`},
			{"approve", `{"by":"v"}`, `w {"state":"approved","round":3}`},
			{"submit", `{"by":"u","deadline_ms":0}`, `error approval submit: args: deadline_ms: 0 is less than 1`},
			{"submit", `{"deadline_ms":1}`, `error approval submit: args: by is missing`},
			{"approve", `{}`, `error approval approve: args: by is missing`},
			{"cancel", `{}`, `error approval: unknown operation "cancel"; have submit, approve, reject, expire, get`},
			{"get", `{}`, `{"state":"approved","round":3,"by":"u"}`},
		}},
	} {
		state := fresh(t, test.entity)
		for _, step := range test.steps {
			before := state.Fingerprint()
			op, id, _ := strings.Cut(step.op, "#")
			result, wrote, err := state.Apply(op, json.RawMessage(step.args), id)
			got := string(result)
			switch {
			case err != nil:
				got = "error " + err.Error() + got
			case wrote:
				got = "w " + got
			}
			if got != step.want && !(err != nil && strings.HasPrefix(got, step.want)) {
				t.Errorf("%s %s %s\ngot  %s\nwant %s", test.entity, step.op, step.args, got, step.want)
			}
			if !wrote && state.Fingerprint() != before {
				t.Errorf("%s %s %s: not a write, but the state went from %s to %s", test.entity, step.op, step.args, before, state.Fingerprint())
			}
		}
	}
}

// step is one operation of a program.
type step struct {
	op, args, id string
}

// program draws operations that correct clients send, from few values, so that
// they meet.
func program(entity string) *rapid.Generator[[]step] {
	quoted := rapid.Map(rapid.SampledFrom([]string{"", "a", "b", "null", "\"", "é<"}), func(s string) string {
		b, _ := json.Marshal(s)
		return string(b)
	})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		op := rapid.SampledFrom(map[string][]string{
			"counter": {"add", "get"}, "register": {"set", "get"}, "cart": {"add", "add", "remove", "get"},
			"account": {"debit", "credit", "settle", "get"}, "twin": {"report", "get"}, "board": {"submit", "top"},
			"playback": {"seek", "delete", "get"}, "table": {"insert", "insert", "update", "modify", "read", "scan"}, "approval": {"submit", "approve", "reject", "expire", "get"},
		}[entity]).Draw(t, "op")
		text := func() string { return quoted.Draw(t, "text") }
		number := func(least, most int) int { return rapid.IntRange(least, most).Draw(t, "number") }
		args := `{}`
		switch entity + " " + op {
		case "counter add":
			args = fmt.Sprintf(`{"n":%d}`, number(-2, 2))
		case "register set":
			args = fmt.Sprintf(`{"value":%s}`, text())
		case "cart add":
			args = fmt.Sprintf(`{"item":%s,"quantity":%d}`, text(), number(1, 101))
		case "cart remove":
			args = fmt.Sprintf(`{"item":%s}`, text())
		case "account debit":
			args = fmt.Sprintf(`{"to":%s,"amount":%d}`, text(), rapid.SampledFrom([]int{1, 2, 900}).Draw(t, "amount"))
		case "account credit":
			args = fmt.Sprintf(`{"amount":%d}`, number(1, 2))
		case "account settle":
			args = fmt.Sprintf(`{"transfer":"t%d"}`, number(0, transfers-1))
		case "twin report":
			args = fmt.Sprintf(`{"seq":%d,"value":%d}`, number(1, 5), number(-1, 1))
		case "board submit":
			args = fmt.Sprintf(`{"player":%s,"score":%d}`, text(), number(0, 3))
		case "playback seek":
			args = fmt.Sprintf(`{"position":%d,"device":%s}`, number(0, 2), text())
		case "table insert", "table update", "table modify":
			args = fmt.Sprintf(`{"row":%s,"value":%s}`, text(), text())
		case "table read":
			args = fmt.Sprintf(`{"row":%s}`, text())
		case "table scan":
			args = fmt.Sprintf(`{"from":%s,"limit":%d}`, text(), number(1, 3))
		case "approval submit":
			args = fmt.Sprintf(`{"by":%s,"deadline_ms":%d}`, text(), number(1, 2))
		case "approval approve", "approval reject":
			args = fmt.Sprintf(`{"by":%s}`, text())
		}
		return step{op, args, fmt.Sprintf("t%d/1", number(0, transfers-1))}
	}), 0, 12)
}

// transfers is how many transfers the programs of accounts know.
const transfers = 3

func run(t *rapid.T, state State, ops []step) {
	t.Helper()
	for _, s := range ops {
		if _, _, err := state.Apply(s.op, json.RawMessage(s.args), s.id); err != nil {
			t.Fatalf("%v: %v", s, err)
		}
	}
}

// seen is all that clients can learn about a state.
func seen(t *rapid.T, entity string, state State) string {
	t.Helper()
	learn := func(op, args string) string {
		result, _, err := state.Clone().Apply(op, json.RawMessage(args), "")
		if err != nil {
			t.Fatal(err)
		}
		return string(result)
	}
	switch entity {
	case "board":
		return learn("top", "")
	case "table":
		return learn("scan", `{"from":"","limit":99}`)
	case "account":
		all := learn("get", "")
		for n := range transfers {
			all += learn("settle", fmt.Sprintf(`{"transfer":"t%d"}`, n))
		}
		return all
	}
	return learn("get", "")
}

func TestCloneAndFingerprint(t *testing.T) {
	for entity := range entities {
		t.Run(entity, rapid.MakeCheck(func(t *rapid.T) {
			state := fresh(t, entity)
			run(t, state, program(entity).Draw(t, "before"))
			before := state.Fingerprint()
			clone, other := state.Clone(), state.Clone()
			if clone.Fingerprint() != before {
				t.Fatalf("fingerprint %s, of the clone %s", before, clone.Fingerprint())
			}

			// Neither of the two sees what is done to the other.
			after := program(entity).Draw(t, "after")
			run(t, clone, after)
			if state.Fingerprint() != before {
				t.Fatalf("%v on the clone changed the original from %s to %s", after, before, state.Fingerprint())
			}
			changed := clone.Fingerprint()
			run(t, state, program(entity).Draw(t, "original"))
			if clone.Fingerprint() != changed {
				t.Fatalf("the original changed the clone from %s to %s", changed, clone.Fingerprint())
			}

			// The same operations lead to the same state by another way.
			run(t, other, after)
			if other.Fingerprint() != changed {
				t.Fatalf("%v led to %s and to %s", after, changed, other.Fingerprint())
			}

			// Fingerprints are equal for states that look equal, and for no others.
			if (clone.Fingerprint() == state.Fingerprint()) != (seen(t, entity, clone) == seen(t, entity, state)) {
				t.Fatalf("fingerprints %s and %s of %s and %s", clone.Fingerprint(), state.Fingerprint(), seen(t, entity, clone), seen(t, entity, state))
			}
		}))
	}
}
