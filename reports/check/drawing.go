package check

import (
	"encoding/json"
	"html"
	"slices"

	"github.com/anishathalye/porcupine"

	"statequake/history"
	"statequake/reports/check/search"
)

// drawn is how many violations that Porcupine finds are drawn.
const drawn = 5

// drawing is Porcupine's picture of a key without an order: one HTML page with
// all operations and the longest orders of some of them. It is nil if that
// takes more than the limit.
func drawing(h entityKey, ops []*history.Op, limit search.Budget) []byte {
	call := calls(ops, never)
	rows(call)
	m := newSequential(h.entity)
	page, err := m.question(call).Draw(short(h.String())+": no order explains the results", limit)
	if err != nil || m.refused.Load() {
		return nil
	}
	return page
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
