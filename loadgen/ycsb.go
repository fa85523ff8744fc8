package loadgen

import (
	"fmt"
	"strconv"
)

const (
	ycsbZipf  = 0.99 // of YCSB
	ycsbRows  = 10   // that a table has before it is read
	ycsbLimit = 100  // of a scan at most; YCSB's too
)

// ycsb is a core workload of the Yahoo! Cloud Serving Benchmark (Cooper et al.,
// "Benchmarking cloud serving systems with YCSB", SoCC 2010) on tables: an
// entity is a partition, and an operation on a record is a command on its row.
// It differs in what docs/load.md says.
func ycsb(s Skew, read, update, insert, scan, modify int) service {
	put := []string{"row", "value"}
	return service{entity: "table", skew: s, values: Sizes{100, 100}, writesValues: true, load: ycsbRows, commands: []command{
		{name: "read", weight: read, fields: []string{"row"}, args: func(b []byte, w *Workload, _ int64, _ int) []byte {
			return append(appendRow(b, "row", w.anyRow()), '}')
		}},
		{name: "update", weight: update, writes: 1, fields: put, args: appendPut},
		{name: "insert", weight: insert, writes: 1, inserts: true, fields: put, args: func(b []byte, w *Workload, n int64, _ int) []byte {
			return appendRowValue(b, w, n, w.row)
		}},
		{name: "scan", weight: scan, fields: []string{"from", "limit"}, args: func(b []byte, w *Workload, _ int64, _ int) []byte {
			b = appendRow(b, "from", w.anyRow())
			b = append(b, `,"limit":`...)
			return append(strconv.AppendInt(b, 1+w.rand.Int64N(ycsbLimit), 10), '}')
		}},
		{name: "modify", weight: modify, writes: 1, fields: put, args: appendPut},
	}, probe: probe{1, func(n int64) (string, []byte) {
		return "insert", fmt.Appendf(nil, `{"row":"probe%d","value":"p%d"}`, n, n)
	}}}
}

// ofTable returns the command that an operation on a table makes: while its
// first rows are missing it inserts one, whatever was drawn.
func (w *Workload) ofTable(cmd *command, rank int) *command {
	b := &w.groups[0].bases[rank-1]
	w.row = b.rows
	for i := range w.commands {
		if w.row < w.load && w.commands[i].inserts {
			cmd = &w.commands[i]
		}
	}
	if cmd.inserts {
		b.rows++
	}
	return cmd
}

// anyRow draws one of the rows of the key.
func (w *Workload) anyRow() int32 {
	popularity := int32(w.rows.draw(w.rand, int(w.row)))
	if w.skew.age != nil {
		return w.row - popularity
	}
	return popularity - 1
}

func appendPut(b []byte, w *Workload, n int64, _ int) []byte {
	return appendRowValue(b, w, n, w.anyRow())
}

func appendRowValue(b []byte, w *Workload, n int64, row int32) []byte {
	b = appendRow(b, "row", row)
	b = append(b, `,"value":`...)
	return append(w.appendValue(b, n), '}')
}

// appendRow begins args with the name of a row. Names are all of one length, and
// one row after the other falls anywhere among those before, as YCSB's hashed
// ones do: an odd number times the row's own is different for each modulo 2^16.
func appendRow(b []byte, field string, row int32) []byte {
	b = append(b, `{"`...)
	b = append(b, field...)
	b = append(b, `":"user`...)
	name := uint16(row) * 40503
	for unit := uint16(10_000); unit > 0; unit /= 10 {
		b = append(b, '0'+byte(name/unit%10))
	}
	return append(b, '"')
}
