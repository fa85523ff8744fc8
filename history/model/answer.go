package model

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// answer is the buffer of a state's results. Each state has one of its own, so
// a copy of a state must begin with an empty one.
type answer []byte

// rejected makes the result of a business rejection.
func (a *answer) rejected(why string) json.RawMessage {
	return a.object().text("rejected", why).end()
}

// object begins a result anew.
func (a *answer) object() *answer {
	*a = append((*a)[:0], '{')
	return a
}

// end closes the object that object began.
func (a *answer) end() json.RawMessage {
	*a = append(*a, '}')
	return json.RawMessage(*a)
}

// name begins a member of an object.
func (a *answer) name(name string) {
	if last := (*a)[len(*a)-1]; last != '{' {
		*a = append(*a, ',')
	}
	b := append(*a, '"')
	b = append(b, name...)
	*a = append(b, '"', ':')
}

func (a *answer) number(name string, n int64) *answer {
	a.name(name)
	*a = strconv.AppendInt(*a, n, 10)
	return a
}

func (a *answer) text(name, s string) *answer {
	a.name(name)
	*a = appendText(*a, s)
	return a
}

func (a *answer) bytes(name string, s []byte) *answer {
	a.name(name)
	*a = appendText(*a, s)
	return a
}

// appendText appends s as the JSON string that encoding/json makes of it.
func appendText[T string | []byte](dst []byte, s T) []byte {
	for i := range len(s) {
		if !unescaped[s[i]] {
			return append(dst, encode(string(s))...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// unescaped holds the bytes that encoding/json writes into a string as they
// are: printable ASCII except those that mean something to JSON or HTML.
var unescaped = func() (t [256]bool) {
	for c := ' '; c <= '~'; c++ {
		t[c] = !strings.ContainsRune(`"\<>&`, c)
	}
	return t
}()

// encode returns v as JSON. v is a string or one of this package's structs of
// numbers and strings, which always encode.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("model: encode %T: %v", v, err))
	}
	return b
}

// rejection is the result of a business rejection.
type rejection struct {
	Rejected string `json:"rejected"`
}
