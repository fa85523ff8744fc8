package compare

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"statequake/reports"
)

// Bounds of the Markdown form, in bytes. GitHub takes 65,536 characters in a
// comment and 1 MiB in the summary of a step: what fits the first fits both. The
// parts add up to less than maxMarkdown.
const (
	maxMarkdown = 60_000

	itemText       = 300 // of one text, before escaping makes it up to five times as long
	roomRows       = 18_000
	roomOpen       = openViolations * 5 * itemText
	roomViolations = 5_000
	roomReasons    = 6_000
	roomSides      = 4_000
	roomMethod     = 3_000

	// openViolations are shown without unfolding anything.
	openViolations = 5
)

// Markdown writes the comparison for a pull request, in less than 60,000 bytes:
// outcome and figures first, the rest folded. What does not fit is left out, and
// counted.
func (c *Comparison) Markdown(w io.Writer) error {
	m := markdown{}
	line := func(format string, args ...any) { fmt.Fprintf(&m.b, format+"\n", args...) }
	names := c.names()
	line("## %s %s: %s", c.Outcome.symbol(), strings.ToUpper(string(c.Outcome)), reports.Markdown(reports.Clip(c.Scenario, nameText)))
	line("\n**%s**", reports.Markdown(c.headline()))

	if len(c.Heads) > 1 {
		rows := c.outcomes(names)
		for i := range rows[1:] {
			rows[i+1][1] = c.Heads[i].Outcome.symbol() + " " + rows[i+1][1]
		}
		line("")
		for i, cells := range rows {
			line("%s", tableRow(cells))
			if i == 0 {
				line("|---|---|---|")
			}
		}
	}
	var violations []string
	for i, r := range c.Heads {
		for _, v := range r.Violations {
			if len(c.Heads) > 1 {
				v = names[i] + ": " + v
			}
			violations = append(violations, v)
		}
	}
	if len(violations) > 0 {
		line("\n**Violations in head**\n")
		m.list(violations[:min(len(violations), openViolations)], "violation", roomOpen)
		if rest := violations[min(len(violations), openViolations):]; len(rest) > 0 {
			m.fold(plural(len(rest), "more violation"))
			m.list(rest, "violation", roomViolations)
			m.end()
		}
	}
	m.table(c, names)
	if texts := c.reasons(names); len(texts) > 0 {
		m.fold("Why")
		m.list(texts, "reason", roomReasons)
		m.end()
	}
	m.fold("Runs, load, method")
	sides := []string{"Base: " + c.Base.about()}
	for _, r := range c.Heads {
		sides = append(sides, "Head: "+r.Head.about())
	}
	for _, text := range c.loads() {
		sides = append(sides, "Load: "+text)
	}
	m.list(sides, "line", roomSides)
	method := []string{"Method: " + strings.Join(c.method(), " ")}
	if text := c.gate(); text != "" {
		method = append(method, "Gate: "+text)
	}
	m.list(append(method, c.notes()...), "note", roomMethod)
	m.end()
	if m.left > 0 {
		line("\nShortened by %s, since a comment on GitHub holds 65,536 characters; `--format json` has all.", plural(m.left, "line"))
	}
	_, err := w.Write(m.b.Bytes())
	return err
}

// symbol says the outcome without a colour.
func (o Outcome) symbol() string {
	switch o {
	case NoWorse:
		return "✓"
	case Regression:
		return "!"
	case Violation:
		return "✗"
	}
	return "?"
}

// markdown is a text that grows in bounds.
type markdown struct {
	b    bytes.Buffer
	left int // lines left out
}

func (m *markdown) fold(title string) {
	fmt.Fprintf(&m.b, "\n<details><summary>%s</summary>\n\n", title)
}

func (m *markdown) end() { m.b.WriteString("\n</details>\n") }

// list writes texts of unknown origin as far as they fit into room bytes.
func (m *markdown) list(texts []string, thing string, room int) {
	for i, text := range texts {
		item := "- " + reports.Markdown(reports.Clip(text, itemText)) + "\n"
		if room -= len(item); room < 0 {
			fmt.Fprintf(&m.b, "- %s left out\n", plural(len(texts)-i, "more "+thing))
			m.left += len(texts) - i
			return
		}
		m.b.WriteString(item)
	}
}

// table writes the metrics, folded if there are several heads. If they do not
// fit, those that are no worse go first.
func (m *markdown) table(c *Comparison, names []string) {
	rows := c.rows(names)
	if len(rows) == 0 {
		return
	}
	texts := make([]string, len(rows))
	size := 0
	for i, row := range rows {
		texts[i] = tableRow(row.cells)
		size += len(texts[i])
	}
	if len(c.Heads) > 1 {
		m.fold("Metrics")
	} else {
		m.b.WriteString("\n")
	}
	fmt.Fprintf(&m.b, "%s\n|%s\n", tableRow(c.columns()), strings.Repeat("---|", len(c.columns())))
	left, written := 0, 0
	for i, row := range rows {
		if size > roomRows && row.Decision == NoWorse || written+len(texts[i]) > roomRows {
			left++
			continue
		}
		written += len(texts[i])
		m.b.WriteString(texts[i] + "\n")
	}
	if left > 0 {
		fmt.Fprintf(&m.b, "\n%s left out, those that are no worse before others.\n", plural(left, "row"))
		m.left += left
	}
	if len(c.Heads) > 1 {
		m.end()
	}
}

// tableRow is a row of a table whose cells are of unknown origin.
func tableRow(cells []string) string {
	escaped := make([]string, len(cells))
	for i, cell := range cells {
		escaped[i] = reports.Markdown(cell)
	}
	return "| " + strings.Join(escaped, " | ") + " |"
}
