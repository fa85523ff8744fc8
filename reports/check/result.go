package check

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// rejected reports whether an operation's result is a business rejection: an
// object with a member "rejected".
func rejected(result json.RawMessage) bool {
	const shortest = `{"rejected":0}`
	if len(result) < len(shortest) || bytes.IndexByte(result, 'j') < 0 || !bytes.Contains(result, []byte(`"rejected"`)) {
		return false
	}
	if why, found := bytes.CutPrefix(result, []byte(`{"rejected":"`)); found {
		if plain, found := bytes.CutSuffix(why, []byte(`"}`)); found && plainString(plain) {
			return true
		}
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(result, &object) != nil {
		return false
	}
	_, ok := object["rejected"]
	return ok
}

// silent reports whether the answer to a write says no more than that it is
// acknowledged: nothing, null or an empty object.
func silent(result json.RawMessage) bool {
	switch string(bytes.TrimSpace(result)) {
	case "", "null", "{}":
		return true
	}
	return false
}

// sameJSON reports whether a and b are the same JSON value, whatever the order
// of members and the spelling of numbers and strings. Invalid JSON and nothing
// equal only themselves.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, errX := decode(a)
	y, errY := decode(b)
	return errX == nil && errY == nil && sameValue(x, y)
}

func decode(raw json.RawMessage) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

func sameValue(x, y any) bool {
	switch x := x.(type) {
	case map[string]any:
		y, ok := y.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for name, value := range x {
			other, ok := y[name]
			if !ok || !sameValue(value, other) {
				return false
			}
		}
		return true
	case []any:
		y, ok := y.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !sameValue(x[i], y[i]) {
				return false
			}
		}
		return true
	case json.Number:
		y, ok := y.(json.Number)
		return ok && sameNumber(x, y)
	default:
		return x == y
	}
}

func sameNumber(x, y json.Number) bool {
	if x == y {
		return true
	}
	_, errX := strconv.ParseInt(x.String(), 10, 64)
	_, errY := strconv.ParseInt(y.String(), 10, 64)
	if errX == nil && errY == nil {
		return false // as floats, large integers that differ may look equal
	}
	f, errX := x.Float64()
	g, errY := y.Float64()
	return errX == nil && errY == nil && f == g
}
