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

// TestApply runs each list of operations on a fresh entity. w marks a write.
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
	} {
		state := fresh(t, test.entity)
		for _, step := range test.steps {
			before := state.Fingerprint()
			result, wrote, err := state.Apply(step.op, json.RawMessage(step.args))
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

// program draws operations that correct clients send, from few values, so that
// they meet.
func program(entity string) *rapid.Generator[[][2]string] {
	quoted := rapid.Map(rapid.SampledFrom([]string{"", "a", "b", "null", "\"", "é<"}), func(s string) string {
		b, _ := json.Marshal(s)
		return string(b)
	})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) [2]string {
		switch op := rapid.SampledFrom(map[string][]string{
			"counter": {"add", "get"}, "register": {"set", "get"}, "cart": {"add", "add", "remove", "get"},
		}[entity]).Draw(t, "op"); {
		case op == "get":
			return [2]string{op, `{}`}
		case entity == "counter":
			return [2]string{op, fmt.Sprintf(`{"n":%d}`, rapid.IntRange(-2, 2).Draw(t, "n"))}
		case entity == "register":
			return [2]string{op, fmt.Sprintf(`{"value":%s}`, quoted.Draw(t, "value"))}
		case op == "remove":
			return [2]string{op, fmt.Sprintf(`{"item":%s}`, quoted.Draw(t, "item"))}
		default:
			return [2]string{op, fmt.Sprintf(`{"item":%s,"quantity":%d}`, quoted.Draw(t, "item"), rapid.IntRange(1, 101).Draw(t, "quantity"))}
		}
	}), 0, 12)
}

func run(t *rapid.T, state State, ops [][2]string) {
	t.Helper()
	for _, op := range ops {
		if _, _, err := state.Apply(op[0], json.RawMessage(op[1])); err != nil {
			t.Fatalf("%v: %v", op, err)
		}
	}
}

// seen is all that a client can learn about a state.
func seen(t *rapid.T, state State) string {
	t.Helper()
	result, _, err := state.Apply("get", nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(result)
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
			if (clone.Fingerprint() == state.Fingerprint()) != (seen(t, clone) == seen(t, state)) {
				t.Fatalf("fingerprints %s and %s of %s and %s", clone.Fingerprint(), state.Fingerprint(), seen(t, clone), seen(t, state))
			}
		}))
	}
}
