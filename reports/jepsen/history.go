package jepsen

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Op is one operation of a client, from its invocation to its completion.
type Op struct {
	Process int64
	F       string // function, without its colon
	Value   string // with which it was invoked, as EDN; "" if none was told
	Result  string // with which it completed, as EDN; "" if none was told

	Kind Outcome

	// Call and Done number the entries of the history from 0; Done is that of the
	// completion. Operations without one, and those of unknown outcome, are open
	// to the end, whatever Done is.
	Call, Done int

	Line, DoneLine int // of the file; DoneLine is 0 without a completion

	Called, Returned time.Duration // as the history tells it; -1 if it does not

	Final    bool   // marked as a read after the load
	returned string // in histories of our own: what an add of a counter was answered with, or a write with another value than it wrote
}

// Outcome is what is known about the effect of an operation.
type Outcome byte

const (
	Open   Outcome = iota // may have had an effect, now or later
	OK                    // was answered
	Failed                // certainly had no effect
)

// History is a history of Jepsen, read and paired.
type History struct {
	Name    string // of the file, for errors and explanations
	Ops     []Op   // in the order of invocation
	Entries int    // invocations and completions
	Torn    bool   // the last line of the log was cut off, and passed over
}

// Read reads a history: operations in EDN, one after the other or in one vector
// or list, or the operation lines of Jepsen's log between others. name is the
// file's name for errors, which are `NAME:LINE: problem`.
//
// The file is streamed; one operation has at most 16 MiB. The operations are
// kept in memory.
func Read(r io.Reader, name string) (*History, error) {
	h := &History{Name: name}
	p := pairing{History: h, open: map[int64]int{}, names: map[string]string{}, index: -1}
	torn, err := eachEvent(r, p.add)
	if err != nil {
		return nil, h.place(err)
	}
	h.Torn = torn
	return h, nil
}

// place puts file and line before a problem.
func (h *History) place(err error) error {
	var p *problem
	if !errors.As(err, &p) {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	if p.hint != "" {
		return fmt.Errorf("%s:%d: %s\nhint: %s", h.Name, p.line, p.text, p.hint)
	}
	return fmt.Errorf("%s:%d: %s", h.Name, p.line, p.text)
}

// pairing puts completions to invocations.
type pairing struct {
	*History
	open  map[int64]int // the operation in flight of each process
	names map[string]string
	index int64 // of the entry before
}

func (p *pairing) add(e *event) error {
	if e.index >= 0 {
		if e.index <= p.index {
			return at(e.line, ":index %d after :index %d", e.index, p.index).because("the entries of a history stand in their order")
		}
		p.index = e.index
	}
	n, busy := p.open[e.process]
	if e.kind == invoke {
		if busy {
			was := &p.Ops[n]
			return at(e.line, "process %d invokes :%s, but its :%s of line %d has not completed", e.process, printable(e.f), printable(was.F), was.Line).
				because("a process has one operation in flight; what is of unknown outcome completes with :info, and goes on as another process")
		}
		p.open[e.process] = len(p.Ops)
		f, known := p.names[e.f]
		if !known {
			f = e.f
			p.names[f] = f
		}
		p.Ops = append(p.Ops, Op{
			Process: e.process, F: f, Value: string(e.value), Call: p.Entries, Line: e.line,
			Called: time.Duration(e.time), Returned: -1, Final: e.final,
		})
		p.Entries++
		return nil
	}
	if !busy {
		return at(e.line, "process %d completes :%s with :%s, but has not invoked it", e.process, printable(e.f), e.kind)
	}
	op := &p.Ops[n]
	if op.F != e.f {
		return at(e.line, "process %d completes :%s, but had invoked :%s in line %d", e.process, printable(e.f), printable(op.F), op.Line)
	}
	delete(p.open, e.process)
	op.Done, op.DoneLine, op.Returned = p.Entries, e.line, time.Duration(e.time)
	p.Entries++
	op.Final = op.Final || e.final
	switch e.kind {
	case ok:
		op.Kind, op.Result, op.returned = OK, string(e.value), string(e.returned)
	case fail:
		op.Kind = Failed
	}
	return nil
}

// printable makes text of a file fit to print.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
