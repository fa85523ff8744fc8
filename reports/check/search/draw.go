package search

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// policy forbids a page to ask anybody for anything.
const policy = `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">`

// Draw returns one HTML page: all operations on a time axis, a row for each
// ClientId, and the longest orders of some of them. The same question gives the
// same page, unless the search runs out of time on the way: then there are fewer
// orders. Its errors are those of Linearizable, and what Porcupine could not write.
func (q Question) Draw(title string, limit Budget) ([]byte, error) {
	if limit.Time <= 0 {
		return nil, ErrTime
	}
	m, exhausted := q.bounded(limit.Memory)
	_, info := porcupine.CheckOperationsVerbose(m, q.Ops, limit.Time)
	if exhausted.Load() {
		return nil, ErrMemory
	}
	for _, orders := range info.PartialLinearizations() { // are in no order, and a run judged again shall give the same page
		slices.SortFunc(orders, func(a, b []int) int { return cmp.Or(cmp.Compare(len(b), len(a)), slices.Compare(a, b)) })
	}
	var page bytes.Buffer
	if err := porcupine.Visualize(q.Model, info, &page); err != nil {
		return nil, fmt.Errorf("draw the search: %w", err)
	}
	return []byte(strings.NewReplacer(
		"<head>", "<head>\n    "+policy,
		"<title>Porcupine</title>", "<title>"+html.EscapeString(title)+"</title>",
	).Replace(page.String())), nil
}
