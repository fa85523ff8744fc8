package model

import (
	"encoding/json"
	"fmt"
	"slices"
)

// table is a part of an ordered table: rows by name, each with a value.
//
//	read {"row":string}
//	    -> {"value":string}, {"value":null} if there is no such row
//	scan {"from":string,"limit":int>=1}
//	    -> {"rows":[{"row":r,"value":v},...]}, in order of their names, from the first that is not before from, at most limit
//	insert {"row":string,"value":string}
//	    -> {"rows":number of rows}, a write
//	    -> {"rejected":"row exists"}
//	update {"row":string,"value":string}
//	    -> {"rows":number of rows}, a write
//	    -> {"rejected":"no such row"}
//	modify {"row":string,"value":string}
//	    -> {"old":the value before}, a write
//	    -> {"rejected":"no such row"}
//
// Names are ordered by their bytes.
type table struct {
	rows []tableRow // sorted by name
	out  answer
}

type tableRow struct {
	name  string
	value []byte // its own memory
}

const noSuchRow = "no such row"

func (t *table) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "read":
		return t.read(args)
	case "scan":
		return t.scan(args)
	case "insert", "update", "modify":
		return t.write(op, args)
	}
	return nil, false, fmt.Errorf("table: unknown operation %q; have read, scan, insert, update, modify", op)
}

func (t *table) read(args json.RawMessage) (json.RawMessage, bool, error) {
	row := text("row")
	if !plain(args, &row) {
		var in struct {
			Row *string `json:"row"`
		}
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("table read: %w", err)
		}
		row.setText(in.Row)
	}
	if err := row.required(); err != nil {
		return nil, false, fmt.Errorf("table read: %w", err)
	}
	i, found := t.find(row.text)
	if !found {
		t.out.object().name("value")
		t.out = append(t.out, "null"...)
		return t.out.end(), false, nil
	}
	return t.out.object().bytes("value", t.rows[i].value).end(), false, nil
}

func (t *table) scan(args json.RawMessage) (json.RawMessage, bool, error) {
	from, limit := text("from"), number("limit")
	if !plain(args, &from, &limit) {
		var in struct {
			From  *string `json:"from"`
			Limit *int64  `json:"limit"`
		}
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("table scan: %w", err)
		}
		from.setText(in.From)
		limit.setNumber(in.Limit)
	}
	if err := from.required(); err != nil {
		return nil, false, fmt.Errorf("table scan: %w", err)
	}
	if err := limit.atLeast(1); err != nil {
		return nil, false, fmt.Errorf("table scan: %w", err)
	}
	first, _ := t.find(from.text)
	rows := t.rows[first:]
	if int64(len(rows)) > limit.number {
		rows = rows[:limit.number]
	}
	return t.list(rows), false, nil
}

func (t *table) write(op string, args json.RawMessage) (json.RawMessage, bool, error) {
	row, value := text("row"), text("value")
	if !plain(args, &row, &value) {
		var in struct {
			Row   *string `json:"row"`
			Value *string `json:"value"`
		}
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("table %s: %w", op, err)
		}
		row.setText(in.Row)
		value.setText(in.Value)
	}
	if err := row.required(); err != nil {
		return nil, false, fmt.Errorf("table %s: %w", op, err)
	}
	if err := value.required(); err != nil {
		return nil, false, fmt.Errorf("table %s: %w", op, err)
	}
	i, found := t.find(row.text)
	switch {
	case op == "insert" && found:
		return t.out.rejected("row exists"), false, nil
	case op == "insert":
		t.rows = slices.Insert(t.rows, i, tableRow{string(row.text), slices.Clone(value.text)})
		return t.count(), true, nil
	case !found:
		return t.out.rejected(noSuchRow), false, nil
	case op == "modify":
		t.out.object().bytes("old", t.rows[i].value)
		t.rows[i].value = append(t.rows[i].value[:0], value.text...)
		return t.out.end(), true, nil
	}
	t.rows[i].value = append(t.rows[i].value[:0], value.text...)
	return t.count(), true, nil
}

// count makes the result that tells how many rows there are.
func (t *table) count() json.RawMessage {
	return t.out.object().number("rows", int64(len(t.rows))).end()
}

// find returns where the row is, or belongs.
func (t *table) find(name []byte) (i int, found bool) {
	low, high := 0, len(t.rows)
	for low < high {
		middle := int(uint(low+high) / 2)
		if t.rows[middle].name < string(name) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, low < len(t.rows) && t.rows[low].name == string(name)
}

// list makes the result that holds these rows.
func (t *table) list(rows []tableRow) json.RawMessage {
	t.out.object().name("rows")
	t.out = append(t.out, '[')
	for i := range rows {
		if i > 0 {
			t.out = append(t.out, ',')
		}
		t.out = append(t.out, '{')
		t.out.text("row", rows[i].name).bytes("value", rows[i].value).end()
	}
	t.out = append(t.out, ']')
	return t.out.end()
}

func (t *table) Clone() State {
	clone := &table{rows: slices.Clone(t.rows)}
	for i := range clone.rows {
		clone.rows[i].value = slices.Clone(clone.rows[i].value)
	}
	return clone
}

func (t *table) Fingerprint() string { return string((&table{}).list(t.rows)) }
