package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// arg is one member of an operation's args, a string or an integer.
type arg struct {
	name   string
	isText bool
	given  bool   // it is there, and not null
	text   []byte // of a string; shares memory with the args
	number int64  // of an integer
}

func text(name string) arg   { return arg{name: name, isText: true} }
func number(name string) arg { return arg{name: name} }

// plain reads args that are written as the workloads write them: an object
// without spaces, of the given members alone, in any order and each once at
// most, strings of ASCII without escapes, integers without fraction and
// exponent. For everything else it returns false, whether it is JSON or not,
// and what it left in members means nothing: decode must read it.
func plain(args []byte, members ...*arg) bool {
	if len(args) < 2 || args[0] != '{' {
		return false
	}
	rest := args[1:]
	if rest[0] == '}' {
		return len(rest) == 1
	}
	for {
		var m *arg
		for _, try := range members {
			end := len(try.name) + 3
			if len(rest) > end && rest[0] == '"' && rest[end-2] == '"' && rest[end-1] == ':' && string(rest[1:end-2]) == try.name {
				m, rest = try, rest[end:]
				break
			}
		}
		if m == nil || m.given {
			return false
		}
		read := m.plainNumber
		if m.isText {
			read = m.plainText
		}
		n := read(rest)
		// A value has something behind it: another member or the end.
		if n == 0 || n == len(rest) {
			return false
		}
		m.given = true
		c := rest[n]
		rest = rest[n+1:]
		if c == '}' {
			return len(rest) == 0
		}
		if c != ',' {
			return false
		}
	}
}

// plainText reads a string at the start of b and returns how long it is there,
// 0 if it is not plain.
func (a *arg) plainText(b []byte) int {
	if b[0] != '"' {
		return 0
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			a.text = b[1:i]
			return i + 1
		case c < ' ' || c == '\\' || c > '~':
			return 0
		}
	}
	return 0
}

// plainNumber reads an integer of at most 18 digits, which always fits, at the
// start of b and returns how long it is there, 0 if it is not plain.
func (a *arg) plainNumber(b []byte) int {
	i := 0
	if b[0] == '-' {
		i = 1
	}
	first := i
	var v int64
	for i < len(b) && b[i]-'0' <= 9 {
		v = v*10 + int64(b[i]-'0')
		i++
		if i-first > 18 {
			return 0
		}
	}
	if i == first || b[first] == '0' && i-first > 1 {
		return 0
	}
	if first > 0 {
		v = -v
	}
	a.number = v
	return i
}

// setText takes what decode read.
func (a *arg) setText(s *string) {
	a.text, a.given = nil, s != nil
	if s != nil {
		a.text = []byte(*s)
	}
}

// setNumber takes what decode read.
func (a *arg) setNumber(n *int64) {
	a.number, a.given = 0, n != nil
	if n != nil {
		a.number = *n
	}
}

// required returns an error if the argument is missing.
func (a *arg) required() error {
	if !a.given {
		return errors.New("args: " + a.name + " is missing")
	}
	return nil
}

// atLeast returns an error if the argument is missing or too small.
func (a *arg) atLeast(least int64) error {
	switch {
	case !a.given:
		return a.required()
	case a.number < least:
		return fmt.Errorf("args: %s: %d is less than %d", a.name, a.number, least)
	}
	return nil
}

// noArgs returns an error if args hold a member.
func noArgs(args json.RawMessage) error {
	if len(args) == 0 || string(args) == "{}" {
		return nil
	}
	return decode(args, &struct{}{})
}

// decode reads args into v; no args are an empty object. Members that v lacks
// are an error, since a service may give them a meaning that the model misses.
func decode(args json.RawMessage, v any) error {
	if len(args) == 0 {
		return nil
	}
	if trimmed := bytes.TrimLeft(args, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return fmt.Errorf("args: %q is not an object", args)
	}
	d := json.NewDecoder(bytes.NewReader(args))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("args: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("args: %q is more than one object", args)
	}
	return nil
}
