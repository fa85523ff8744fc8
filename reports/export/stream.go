package export

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"statequake/history"
)

// Summary is what a reader of an export should know beside it.
type Summary struct {
	Torn   bool  // operations may be missing at the end of the history
	Unsent int64 // operations of the chosen phases that an HDR log leaves out
}

// streams are the formats that are written while the history is read, so that a
// run of any size takes little memory.
var streams = map[Format]func(w io.Writer, phases int) sink{HDR: newHDR, CSV: newCSV}

// sink takes operations in the order of the history.
type sink struct {
	op  func(*history.Op) error
	end func() error // after the last one
}

// Streamed tells whether a format is written by Stream, and not by Write.
func (f Format) Streamed() bool { return streams[f] != nil }

// Stream writes the operations of the chosen phases of a run directory to w, in
// the order in which they were recorded. Nothing is written if there are none,
// which is an error.
//
// CSV is a line of names, then one line per operation whatever its outcome: the
// fields of a history as history/FORMAT.md names them, args and result as JSON. A
// text that a spreadsheet would take for a formula, because it begins with =, +, -,
// @, a tab or a carriage return, has an apostrophe before it.
//
// HDR is a log of HdrHistogram, version 1.3: for every second of the run and every
// tag a histogram of latencies in nanoseconds (returned - scheduled), to three
// digits, by the second in which they returned; those over a day count as a day.
// Tags are the operation's name, behind its phase if several are chosen, and behind
// fail: or info: if it was not ok: "add", "info:add", "load:info:add". Letters,
// digits, - _ . and ~ stand for themselves in a name, all else is escaped as in a
// URL's query. A run does not record the wall clock: its start is second 0. An
// operation that was recorded seconds after others that returned later, such as a
// deliberate duplicate whose copy hung, makes a further line of its second, which
// readers add.
func Stream(w io.Writer, dir string, format Format, chosen []history.Phase) (Summary, error) {
	buffered := bufio.NewWriterSize(w, 64<<10)
	out := streams[format](buffered, len(chosen))
	var s Summary
	has := map[history.Phase]bool{}
	wanted := false
	run, err := history.ReadRun(dir, func(op *history.Op) error {
		has[op.Phase] = true
		if !slices.Contains(chosen, op.Phase) {
			return nil
		}
		wanted = true
		if op.Outcome == history.Unsent {
			s.Unsent++
		}
		return out.op(op)
	})
	if err != nil {
		return s, err
	}
	if !wanted {
		return s, none(dir, chosen, has)
	}
	s.Torn = run.Footer == nil
	if err := out.end(); err != nil {
		return s, fmt.Errorf("write %s: %w", format, err)
	}
	if err := buffered.Flush(); err != nil {
		return s, fmt.Errorf("write %s: %w", format, err)
	}
	return s, nil
}

// columns are the fields of an operation, in the order of the history.
var columns = []string{
	"id", "n", "phase", "client", "entity", "key", "op", "args", "scheduled_ns", "sent_ns", "returned_ns",
	"attempts", "outcome", "result", "version", "digest", "epoch", "error", "node", "via",
}

func newCSV(w io.Writer, _ int) sink {
	out := csv.NewWriter(w)
	named := false
	return sink{
		op: func(o *history.Op) error {
			if !named {
				named = true
				if err := out.Write(columns); err != nil {
					return err
				}
			}
			number := func(n int64) string { return strconv.FormatInt(n, 10) }
			version, epoch := "", ""
			if o.Version >= 0 {
				version = number(o.Version)
			}
			if o.Epoch != 0 {
				epoch = number(o.Epoch)
			}
			return out.Write([]string{
				tame(o.ID), number(o.N), string(o.Phase), number(int64(o.Client)), tame(o.Entity), tame(o.Key), tame(o.Name), string(o.Args),
				number(int64(o.Scheduled)), number(int64(o.Sent)), number(int64(o.Returned)),
				number(int64(o.Attempts)), string(o.Outcome), string(o.Result), version, tame(o.Digest), epoch, tame(o.Error), tame(o.Node), tame(o.Via),
			})
		},
		end: func() error {
			out.Flush()
			return out.Error()
		},
	}
}

// tame is a text that no spreadsheet takes for a formula. JSON needs none of it:
// it begins with a formula's character only as a negative number.
func tame(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
