package check

import (
	"bytes"
	"cmp"
	"encoding/json"
	"hash/maphash"
	"html"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"

	"statequake/history"
)

// drawn is how many violations that Porcupine finds are drawn.
const drawn = 5

// policy forbids a drawing to ask anybody for anything.
const policy = `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">`

// drawing is Porcupine's picture of a key without an order: one HTML page with
// all operations and the longest orders of some of them. It is nil if that
// takes more than the limit.
func drawing(h entityKey, ops []*history.Op, limit budget) []byte {
	call := calls(ops, never)
	rows(call)
	m := sequential{entity: h.entity, seed: maphash.MakeSeed(), operations: len(call), memory: limit.memory}
	_, info := porcupine.CheckOperationsVerbose(m.model(), call, limit.time)
	if m.why.Load() != 0 {
		return nil
	}
	for _, orders := range info.PartialLinearizations() { // are in no order, and a run judged again shall give the same page
		slices.SortFunc(orders, func(a, b []int) int { return cmp.Or(cmp.Compare(len(b), len(a)), slices.Compare(a, b)) })
	}
	var page bytes.Buffer
	if porcupine.Visualize(m.model(), info, &page) != nil {
		return nil
	}
	title := html.EscapeString(short(h.String()) + ": no order explains the results")
	return []byte(strings.NewReplacer(
		"<head>", "<head>\n    "+policy,
		"<title>Porcupine</title>", "<title>"+title+"</title>",
	).Replace(page.String()))
}

// rows gives each operation the first row that is free.
func rows(call []porcupine.Operation) {
	order := make([]int, len(call))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(min(1, max(-1, call[a].Call-call[b].Call))) })
	var free []int64 // by row: from when
	for _, i := range order {
		row := slices.IndexFunc(free, func(at int64) bool { return at < call[i].Call })
		if row < 0 {
			row = len(free)
			free = append(free, 0)
		}
		free[row] = call[i].Return
		call[i].ClientId = row
	}
}

// describeOperation names an operation. The page shows it as text.
func describeOperation(input, output any) string {
	op := input.(*history.Op)
	s := op.Name + " " + op.ID
	if len(op.Args) > 0 {
		s += " " + string(op.Args)
	}
	if result, ok := output.(json.RawMessage); ok {
		s += " -> " + string(result)
	} else {
		s += " -> ?"
	}
	return short(s)
}

// describeState prints a state. The page takes it for HTML.
func describeState(state any) string { return html.EscapeString(short(state.(folded).fingerprint)) }
