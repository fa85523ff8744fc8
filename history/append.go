package history

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// appendOp appends the line of o to b, newline included. Whatever the fields
// hold, the line is one valid JSON object.
func appendOp(b []byte, o *Op) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, o.ID)
	b = appendInt(b, `,"n":`, o.N)
	b = append(b, `,"phase":`...)
	b = appendString(b, string(o.Phase))
	b = appendInt(b, `,"client":`, int64(o.Client))
	b = append(b, `,"entity":`...)
	b = appendString(b, o.Entity)
	b = append(b, `,"key":`...)
	b = appendString(b, o.Key)
	b = append(b, `,"op":`...)
	b = appendString(b, o.Name)
	if len(o.Args) > 0 {
		b = append(b, `,"args":`...)
		b = appendRaw(b, o.Args)
	}
	b = appendInt(b, `,"scheduled_ns":`, int64(o.Scheduled))
	b = appendInt(b, `,"sent_ns":`, int64(o.Sent))
	b = appendInt(b, `,"returned_ns":`, int64(o.Returned))
	b = appendInt(b, `,"attempts":`, int64(o.Attempts))
	b = append(b, `,"outcome":`...)
	b = appendString(b, string(o.Outcome))
	if len(o.Result) > 0 {
		b = append(b, `,"result":`...)
		b = appendRaw(b, o.Result)
	}
	if o.Version >= 0 {
		b = appendInt(b, `,"version":`, o.Version)
	}
	b = appendOptional(b, `,"digest":`, o.Digest)
	if o.Epoch != 0 {
		b = appendInt(b, `,"epoch":`, o.Epoch)
	}
	b = appendOptional(b, `,"error":`, o.Error)
	b = appendOptional(b, `,"node":`, o.Node)
	b = appendOptional(b, `,"via":`, o.Via)
	return append(b, "}\n"...)
}

// appendInt appends a member whose name is given with its punctuation.
func appendInt(b []byte, name string, v int64) []byte {
	return strconv.AppendInt(append(b, name...), v, 10)
}

// appendOptional appends a member unless its value is empty.
func appendOptional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value)
}

// appendString appends s as a JSON string. Invalid UTF-8 becomes U+FFFD.
func appendString[S string | []byte](b []byte, s S) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r == utf8.RuneError && n == 1 {
				b = append(b, s[start:i]...)
				b = append(b, "\uFFFD"...)
				start = i + 1
			}
			i += n
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// appendRaw appends raw on one line if it is one JSON value; anything else is
// appended as a JSON string of its bytes, so that it cannot break the line.
func appendRaw(b []byte, raw json.RawMessage) []byte {
	s := scanner{line: raw}
	s.space()
	value, err := s.raw()
	s.space()
	if err != nil || s.pos < len(raw) {
		return appendString(b, []byte(raw))
	}
	at := len(b)
	b = append(b, value...)
	// A valid value has line breaks between its tokens only, where a space
	// means the same.
	if bytes.IndexByte(value, '\n') >= 0 || bytes.IndexByte(value, '\r') >= 0 {
		for i, c := range b[at:] {
			if c == '\n' || c == '\r' {
				b[at+i] = ' '
			}
		}
	}
	return b
}
