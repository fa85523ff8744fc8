package jepsen

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
)

// maxForm is the largest operation in EDN, and the longest line of a log, in
// bytes.
const maxForm = 16 << 20

// event is one entry of a history: an operation is invoked, or completes.
type event struct {
	line     int
	process  int64
	kind     kind
	f        string // without its colon
	value    []byte // a form of EDN; nil if there is none. Valid until the next event
	returned []byte // in histories of our own: see Op
	index    int64  // -1 if not told
	time     int64  // nanoseconds; -1 if not told
	final    bool   // a read after the load
}

type kind byte

const (
	invoke kind = iota
	ok
	fail
	info
)

var kinds = map[string]kind{"invoke": invoke, "ok": ok, "fail": fail, "info": info}

func (k kind) String() string { return [...]string{"invoke", "ok", "fail", "info"}[k] }

// problem is what is wrong at a line of the file.
type problem struct {
	line int
	text string
	hint string
}

func (p *problem) Error() string { return p.text }

func at(line int, format string, args ...any) *problem {
	return &problem{line: line, text: fmt.Sprintf(format, args...)}
}

func (p *problem) because(hint string) *problem {
	p.hint = hint
	return p
}

// eachEvent calls fn with the operations of clients in a history, in their
// order. What the nemesis does is passed over. It reports whether a last line of
// a log was passed over as it has no end. Errors are *problem, those of fn, or
// those of r.
func eachEvent(r io.Reader, fn func(*event) error) (torn bool, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	isLog, err := sniff(in)
	if err != nil {
		return false, err
	}
	if isLog {
		return eachLine(in, fn)
	}
	forms := formReader{in: in, line: 1}
	var fields [][]byte // reused
	for {
		form, line, err := forms.next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		e, client, err := parseOp(form, &fields)
		if err != nil {
			return false, at(line, "%v", err)
		}
		if !client {
			continue
		}
		e.line = line
		if err := fn(&e); err != nil {
			return false, err
		}
	}
}

// sniff reports whether what is in front of in is a log: behind white space and
// comments, no form of EDN that could hold operations.
func sniff(in *bufio.Reader) (isLog bool, err error) {
	comment := false
	for n := 1; ; n++ {
		head, err := in.Peek(n)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) {
				err = nil
			}
			return false, err
		}
		switch b := head[n-1]; {
		case comment:
			comment = b != '\n'
		case b == ';':
			comment = true
		case isSpace(b):
		case b == '{' || b == '[' || b == '(' || b == '#':
			return false, nil
		default:
			return true, nil
		}
	}
}

// formReader cuts a file in EDN into operations: forms one after the other, or
// in one vector or list.
type formReader struct {
	in     *bufio.Reader
	line   int
	closer byte // of the vector or list that is open, else 0
	whole  bool // there was one, so nothing may stand outside of it
	forms  int  // read so far
	buf    []byte
	extent extent
}

// next returns the next form and the number of its first line. The form is
// valid until the next call. At the end the error is io.EOF.
func (f *formReader) next() (form []byte, line int, err error) {
	for {
		b, err := f.skip()
		if errors.Is(err, io.EOF) && f.closer != 0 {
			return nil, 0, at(f.line, "the history ends without its %c", f.closer).because("is the file cut off?")
		}
		if err != nil {
			return nil, 0, err
		}
		switch {
		case f.closer != 0 && b == f.closer:
			f.closer = 0
			continue
		case f.closer == 0 && f.whole:
			return nil, 0, at(f.line, "something stands behind the end of the history")
		case f.closer == 0 && (b == '[' || b == '('):
			if f.forms > 0 {
				return nil, 0, at(f.line, "operations both outside of a collection and in one")
			}
			f.closer, f.whole = ']', true
			if b == '(' {
				f.closer = ')'
			}
			continue
		}
		line = f.line
		discarded, err := f.read(b)
		if err != nil {
			return nil, 0, err
		}
		if !discarded {
			f.forms++
			return f.buf, line, nil
		}
	}
}

// skip drops white space and comments and returns the byte behind them.
func (f *formReader) skip() (byte, error) {
	comment := false
	for {
		b, err := f.in.ReadByte()
		if err != nil {
			return 0, err
		}
		switch {
		case b == '\n':
			f.line++
			comment = false
		case comment || isSpace(b):
		case b == ';':
			comment = true
		default:
			return b, nil
		}
	}
}

// read reads the form that begins with b into buf.
func (f *formReader) read(b byte) (discarded bool, err error) {
	f.buf = f.buf[:0]
	f.extent.reset()
	start := f.line
	for {
		s, err := f.extent.next(b)
		if err != nil {
			return false, at(f.line, "%v", err)
		}
		if s == behind {
			if err := f.in.UnreadByte(); err != nil {
				return false, err
			}
			return f.extent.discarded, nil
		}
		if len(f.buf) == maxForm {
			return false, at(start, "an operation of more than %d MiB", maxForm>>20)
		}
		f.buf = append(f.buf, b)
		if b == '\n' {
			f.line++
		}
		if s == last {
			return f.extent.discarded, nil
		}
		b, err = f.in.ReadByte()
		if errors.Is(err, io.EOF) {
			if f.extent.eof() {
				return f.extent.discarded, nil
			}
			return false, at(start, "%v", errCutOff)
		}
		if err != nil {
			return false, err
		}
	}
}

// parseOp reads an operation in EDN. client is false for what is done by
// somebody who is no client, such as the nemesis. reuse is room for its fields.
func parseOp(form []byte, reuse *[][]byte) (e event, client bool, err error) {
	_, form = untag(form)
	if form[0] != '{' {
		return e, false, fmt.Errorf("%s is no operation, which is a map with :process, :type, :f and :value", brief(form))
	}
	e.index, e.time = -1, -1
	fields, err := parts((*reuse)[:0], form)
	*reuse = fields
	if err != nil {
		return e, false, err
	}
	if len(fields)%2 == 1 {
		return e, false, errors.New("a map with a key that has no value")
	}
	var process, kindName []byte
	for i := 0; i < len(fields); i += 2 {
		value := fields[i+1]
		switch string(fields[i]) {
		case ":process":
			process = value
		case ":type":
			kindName = value
		case ":f":
			e.f = name(value)
		case ":value":
			e.value = value
		case ":returned":
			e.returned = value
		case ":index":
			if e.index, err = whole(value); err != nil {
				return e, false, fmt.Errorf(":index: %w", err)
			}
		case ":time":
			if e.time, err = whole(value); err != nil {
				return e, false, fmt.Errorf(":time: %w", err)
			}
		case ":final?":
			e.final = string(value) == "true"
		}
	}
	if process == nil {
		return e, false, errors.New("an operation without a :process")
	}
	if e.process, err = whole(process); err != nil {
		return e, false, nil
	}
	kind, known := kinds[name(kindName)]
	if !known {
		return e, false, fmt.Errorf(":type: %s is not one of :invoke, :ok, :fail, :info", brief(kindName))
	}
	e.kind = kind
	return e, true, nil
}

// whole reads a whole number of 64 bits, which Clojure may write with an N.
func whole(form []byte) (int64, error) {
	n, err := strconv.ParseInt(string(bytes.TrimSuffix(form, []byte("N"))), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is no whole number of 64 bits", brief(form))
	}
	return n, nil
}

// name is the text of a keyword, or of a string or symbol in its place.
func name(form []byte) string {
	if len(form) > 1 && form[0] == ':' {
		return string(form[1:])
	}
	return string(bytes.Trim(form, `"`))
}

// logged finds an operation of a client in a line of Jepsen's log, whatever is
// in front of it: process, type and function, up to where the value begins.
//
//	INFO  jepsen.util - 3	:invoke	:write	4
//	INFO [2026-01-31 10:48:13,039] jepsen worker 3 - jepsen.util 3	:ok	:read	4
//	2026-01-31 10:48:13,039{GMT}	INFO	[jepsen worker 3] jepsen.util: 3	:info	:write	4	:timeout
var logged = regexp.MustCompile(`(?:^|[\t ])(\d+)[\t ]+:(invoke|ok|fail|info)[\t ]+(:\S+)(?:[\t ]+|$)`)

// eachLine calls fn with the operations in a log. Other lines are passed over,
// and so is a last line that does not end, since its value may be cut off.
func eachLine(in *bufio.Reader, fn func(*event) error) (torn bool, err error) {
	var buf []byte
	for line := 1; ; line++ {
		buf = buf[:0]
		for {
			chunk, err := in.ReadSlice('\n')
			if len(buf)+len(chunk) > maxForm {
				return false, at(line, "a line of more than %d MiB", maxForm>>20)
			}
			buf = append(buf, chunk...)
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			if errors.Is(err, io.EOF) {
				return logged.Match(buf), nil
			}
			if err != nil {
				return false, err
			}
			break
		}
		text := bytes.TrimRight(buf, "\r\n")
		m := logged.FindSubmatchIndex(text)
		if m == nil {
			continue
		}
		e := event{line: line, index: -1, time: -1, kind: kinds[string(text[m[4]:m[5]])], f: string(text[m[6]+1 : m[7]])}
		if e.process, err = whole(text[m[2]:m[3]]); err != nil {
			return false, at(line, "process: %v", err)
		}
		// Behind the value there may be an error in words. What failed, or is
		// unknown, may have words in the place of its value, too.
		if e.value, _, err = cut(text[m[1]:]); err != nil {
			if e.kind == invoke || e.kind == ok {
				return false, at(line, "the value of :%s: %v", e.f, err)
			}
			e.value = nil
		}
		if err := fn(&e); err != nil {
			return false, err
		}
	}
}

// brief prints a form.
func brief(form []byte) string {
	const limit = 60
	if len(form) == 0 {
		return "nothing"
	}
	if len(form) > limit {
		return printable(string(form[:limit])) + "..."
	}
	return printable(string(form))
}
