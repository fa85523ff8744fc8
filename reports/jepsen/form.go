package jepsen

import (
	"errors"
	"fmt"
)

// What a form may be made of. Decoding recurses, and numbers are converted in
// more than linear time.
const (
	maxDepth  = 200  // collections within collections
	maxDigits = 1000 // of one number
	maxTags   = 16   // in a row
	maxDrops  = 1000 // forms in a form that #_ takes away
)

// step is what a byte means for the form at hand.
type step int

const (
	more   step = iota // the form goes on
	last               // the byte is its last
	behind             // the form ended before the byte
)

// extent finds where one form of EDN ends, byte by byte, without a look at what
// it means. The zero value stands before the form; its first byte must not be
// white space or begin a comment.
type extent struct {
	at        place
	closers   []byte // of the collections that are open, the innermost last
	digits    int    // in a row
	tags      int    // in a row
	drops     int    // how often #_ was met
	discards  int    // forms to come that #_ takes away, outside of collections
	discarded bool   // the form was taken away by #_
}

type place byte

const (
	between place = iota // tokens
	inAtom
	inString
	inEscape  // in a string, behind a backslash
	inChar    // behind a backslash
	inComment // to the end of the line
	behindHash
	inTag
)

func isSpace(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' || b == ',' }

// delimits reports whether b ends an atom.
func delimits(b byte) bool {
	switch b {
	case '"', ';', '(', ')', '[', ']', '{', '}', '\\':
		return true
	}
	return isSpace(b)
}

// next takes one byte more.
func (e *extent) next(b byte) (step, error) {
	switch e.at {
	case inString:
		switch b {
		case '\\':
			e.at = inEscape
		case '"':
			if e.end() {
				return last, nil
			}
		}
		return more, nil
	case inEscape:
		e.at = inString
		return more, nil
	case inComment:
		if b == '\n' {
			e.at = between
		}
		return more, nil
	case inChar:
		e.at, e.digits = inAtom, 0
		return more, nil
	case behindHash:
		switch {
		case b == '{':
			e.tags = 0
			return more, e.open('}')
		case b == '_':
			e.at = between
			if e.drops++; e.drops > maxDrops {
				return more, fmt.Errorf("more than %d times #_", maxDrops)
			}
			if len(e.closers) == 0 {
				e.discards++
			}
		case b == '"':
			e.at = inString
		case 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z':
			e.at = inTag
			if e.tags++; e.tags > maxTags {
				return more, fmt.Errorf("more than %d tags in a row", maxTags)
			}
		case delimits(b):
			return more, errors.New("# with nothing behind it")
		default:
			e.at, e.digits = inAtom, 0
		}
		return more, nil
	case inTag:
		if !delimits(b) {
			return more, nil
		}
		e.at = between
	case inAtom:
		if b >= '0' && b <= '9' {
			if e.digits++; e.digits > maxDigits {
				return more, fmt.Errorf("a number of more than %d digits", maxDigits)
			}
			return more, nil
		}
		e.digits = 0
		if !delimits(b) {
			return more, nil
		}
		if e.end() {
			return behind, nil
		}
	}
	switch {
	case isSpace(b):
		return more, nil
	case b == ';':
		e.at = inComment
		return more, nil
	case b == '#':
		e.at = behindHash
		return more, nil
	}
	e.tags = 0
	switch {
	case b == '"':
		e.at = inString
	case b == '\\':
		e.at = inChar
	case b == '(':
		return more, e.open(')')
	case b == '[':
		return more, e.open(']')
	case b == '{':
		return more, e.open('}')
	case b == ')' || b == ']' || b == '}':
		n := len(e.closers)
		if n == 0 {
			return more, fmt.Errorf("%c closes nothing", b)
		}
		if e.closers[n-1] != b {
			return more, fmt.Errorf("%c where %c should close", b, e.closers[n-1])
		}
		e.closers = e.closers[:n-1]
		if e.end() {
			return last, nil
		}
	default:
		e.at, e.digits = inAtom, 0
		if b >= '0' && b <= '9' {
			e.digits = 1
		}
	}
	return more, nil
}

// eof reports whether the form is whole if nothing follows.
func (e *extent) eof() bool { return e.at == inAtom && e.end() }

func (e *extent) open(closer byte) error {
	e.at = between
	if len(e.closers) == maxDepth {
		return fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	e.closers = append(e.closers, closer)
	return nil
}

// end takes note that a token or a collection has ended, and reports whether
// the form has.
func (e *extent) end() bool {
	e.at = between
	if len(e.closers) > 0 {
		return false
	}
	if e.discards == 0 {
		return true
	}
	e.discards--
	e.discarded = e.discards == 0
	return e.discarded
}

// reset makes e ready for another form.
func (e *extent) reset() { *e = extent{closers: e.closers[:0]} }

var errCutOff = errors.New("ends in the middle of a form")

// cut returns the first form of data, and what follows it. Forms that #_ takes
// away are passed over. The form is empty if there is none.
func cut(data []byte) (form, rest []byte, err error) {
	var e extent
	for {
		data = skipSpace(data)
		if len(data) == 0 {
			return nil, nil, nil
		}
		e.reset()
		end := -1
		for i, b := range data {
			s, err := e.next(b)
			if err != nil {
				return nil, nil, err
			}
			if s == last {
				end = i + 1
			} else if s == behind {
				end = i
			}
			if end >= 0 {
				break
			}
		}
		if end < 0 {
			if !e.eof() {
				return nil, nil, errCutOff
			}
			end = len(data)
		}
		if !e.discarded {
			return data[:end], data[end:], nil
		}
		data = data[end:]
	}
}

// skipSpace drops white space, commas and comments.
func skipSpace(data []byte) []byte {
	comment := false
	for i, b := range data {
		switch {
		case comment:
			comment = b != '\n'
		case b == ';':
			comment = true
		case !isSpace(b):
			return data[i:]
		}
	}
	return nil
}

// parts appends the forms in a collection, whose first and last bytes are its
// brackets, to forms.
func parts(forms [][]byte, collection []byte) ([][]byte, error) {
	rest := collection[1 : len(collection)-1]
	for {
		form, after, err := cut(rest)
		if err != nil || form == nil {
			return forms, err
		}
		forms, rest = append(forms, form), after
	}
}

// untag drops the tags before a form.
func untag(form []byte) (tag string, value []byte) {
	for len(form) > 1 && form[0] == '#' && form[1] != '{' && form[1] != '_' && form[1] != '"' {
		i := 1
		for i < len(form) && !delimits(form[i]) {
			i++
		}
		rest := skipSpace(form[i:])
		if len(rest) == 0 {
			break // no tag but a symbolic value, such as ##Inf
		}
		tag, form = string(form[1:i]), rest
	}
	return tag, form
}
