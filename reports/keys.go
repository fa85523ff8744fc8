package reports

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"statequake/history"
	"statequake/reports/recovery"
	"statequake/reports/trace"
)

// maxKeyRows is how many keys have a row of their own.
const maxKeyRows = 40

// keyStrip says for some keys when they were available: first those that were
// out, the longest outage first and one without an end before all others, then
// those that were asked most. Warmup, load and probes count, whatever was sent.
type keyStrip struct {
	At    values `json:"at_s"` // starts of the buckets, which are those of the views
	Width values `json:"width_s"`
	// Slow is from where on an ok answer is always late, counted from the sending:
	// recovery.Keys.Slow. One value; none if it is not known.
	Slow    values   `json:"slow_ms"`
	Rows    []keyRow `json:"rows"`
	More    values   `json:"more"`     // one value: keys without a row
	MoreOut values   `json:"more_out"` // one value: of them, those that were out
	Words   string   `json:"words"`    // the same in words; empty without more
}

// keyRow is one key.
type keyRow struct {
	Key string `json:"key"`
	N   values `json:"n"` // one value: operations sent
	// Cells has a letter for each bucket, by the instant due: "." nothing, "o" all
	// answered ok, "s" all ok and some late, "x" some not ok, "X" none ok.
	Cells string `json:"cells"`
	// Out is how long the key was out at a time, as recovery.Outage counts it: one
	// value, unknown if it never was well again; empty if it was never out.
	Out     values `json:"out_s"`
	AtLeast bool   `json:"at_least,omitempty"` // it was not asked often enough to tell when it was well again
}

// newKeyStrip finds the rows. known is nil if outages were not measured.
func newKeyStrip(ops *trace.Ops, known *recovery.Keys, a axis) keyStrip {
	s := keyStrip{Width: values{a.width.Seconds()}, At: values{}, Rows: []keyRow{}, More: values{0}, MoreOut: values{0}}
	if known == nil || a.n == 0 {
		return s
	}
	s.At, s.Slow = a.starts(), values{milliseconds(known.Slow)}
	sent := make([]int, len(ops.Keys()))
	asked := func(kind *trace.Kind) bool {
		return (inWorkload(kind.Phase) || kind.Phase == history.Probe) && kind.Outcome != history.Unsent
	}
	keys := 0
	for op, kind := range ops.All() {
		if asked(kind) {
			if sent[op.Key] == 0 {
				keys++
			}
			sent[op.Key]++
		}
	}
	length := func(k recovery.KeyOutage) time.Duration {
		if k.Dead {
			return math.MaxInt64
		}
		return k.Length
	}
	shown := first(known.Out, maxKeyRows, func(a, b recovery.KeyOutage) int { return cmp.Compare(length(b), length(a)) })
	place := make(map[int32]int, maxKeyRows)
	row := func(key int32) *keyRow {
		place[key] = len(s.Rows)
		k := ops.Keys()[key]
		s.Rows = append(s.Rows, keyRow{Key: clip(k.Entity+"/"+k.Key, nameText), N: values{float64(sent[key])}, Out: values{}})
		return &s.Rows[len(s.Rows)-1]
	}
	for _, k := range shown {
		r := row(k.Key)
		r.Out, r.AtLeast = values{k.Length.Seconds()}, k.Sparse
		if k.Dead {
			r.Out[0] = unknown
		}
	}
	var others []int32
	for key, times := range sent {
		if _, there := place[int32(key)]; !there && times > 0 {
			others = append(others, int32(key))
		}
	}
	busy := first(others, maxKeyRows-len(shown), func(a, b int32) int { return cmp.Compare(sent[b], sent[a]) })
	for _, key := range busy {
		row(key)
	}
	s.cells(ops, known, a, place, asked)
	hidden := len(known.Out) - len(shown)
	longest := time.Duration(0) // of those
	for _, k := range known.Out {
		if _, there := place[k.Key]; !there {
			longest = max(longest, length(k))
		}
	}
	s.More[0], s.MoreOut[0] = float64(keys-len(s.Rows)), float64(hidden)
	s.Words = rest(keys-len(s.Rows), hidden, longest)
	return s
}

// first returns the first n of all in the order of compare, equal ones in the
// order in which they are, without sorting the rest.
func first[T any](all []T, n int, compare func(a, b T) int) []T {
	var kept []T
	for _, x := range all {
		if len(kept) == n && (n == 0 || compare(x, kept[n-1]) >= 0) {
			continue
		}
		at := len(kept)
		for at > 0 && compare(x, kept[at-1]) < 0 {
			at--
		}
		kept = slices.Insert(kept, at, x)
		kept = kept[:min(len(kept), n)]
	}
	return kept
}

// cells fills the cells of the rows.
func (s *keyStrip) cells(ops *trace.Ops, known *recovery.Keys, a axis, place map[int32]int, asked func(*trace.Kind) bool) {
	type cell struct{ due, ok, late int32 }
	rows := make([]int32, len(ops.Keys())) // 1 + row of each key, 0 without one
	for key, row := range place {
		rows[key] = int32(row) + 1
	}
	cells := make([]cell, len(s.Rows)*a.n)
	i := -1
	for op, kind := range ops.All() {
		i++
		row := rows[op.Key]
		if row == 0 || !asked(kind) {
			continue
		}
		if !a.holds(op.Scheduled) { // a probe before or after the workload
			continue
		}
		c := &cells[int(row-1)*a.n+a.bucket(op.Scheduled)]
		c.due++
		if kind.Outcome == history.OK {
			c.ok++
			if known.Late(i) {
				c.late++
			}
		}
	}
	for row := range s.Rows {
		letters := make([]byte, a.n)
		for b := range letters {
			switch c := cells[row*a.n+b]; {
			case c.due == 0:
				letters[b] = '.'
			case c.ok == 0:
				letters[b] = 'X'
			case c.ok < c.due:
				letters[b] = 'x'
			case c.late > 0:
				letters[b] = 's'
			default:
				letters[b] = 'o'
			}
		}
		s.Rows[row].Cells = string(letters)
	}
}

// rest says in words what is known of the keys without a row, of which so many
// were out, at most that long; math.MaxInt64 is without end.
func rest(keys, out int, longest time.Duration) string {
	were := "were"
	if keys == 1 {
		were = "was"
	}
	further := plural(int64(keys), "further key")
	switch {
	case keys == 0:
		return ""
	case out == 0:
		return further + " " + were + " never out."
	case longest == math.MaxInt64:
		return fmt.Sprintf("%s, %s of them out, some without an end.", further, count(int64(out)))
	}
	return fmt.Sprintf("%s, %s of them out, for at most %s.", further, count(int64(out)), duration(longest))
}
