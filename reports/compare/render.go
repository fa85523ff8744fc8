package compare

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"statequake/reports"
)

// Text writes the comparison for a terminal.
func (c *Comparison) Text(w io.Writer) error {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	names := c.names()
	line("%s  %s", strings.ToUpper(string(c.Outcome)), c.headline())
	line("")
	line("Scenario  %s", reports.Harmless(c.Scenario))
	line("Base      %s", reports.Harmless(c.Base.about()))
	for _, r := range c.Heads {
		line("Head      %s", reports.Harmless(r.Head.about()))
	}
	for _, text := range c.loads() {
		line("Load      %s", reports.Harmless(text))
	}
	for i, text := range c.method() {
		label := ""
		if i == 0 {
			label = "Method"
		}
		line("%-10s%s", label, text)
	}
	if text := c.gate(); text != "" {
		line("Gate      %s", reports.Harmless(text))
	}
	write := func(rows [][]string) {
		line("")
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, cells := range rows {
			for i := range cells {
				cells[i] = reports.Harmless(cells[i])
			}
			fmt.Fprintln(table, strings.Join(cells, "\t"))
		}
		table.Flush() // of a bytes.Buffer: no error
	}
	if len(c.Heads) > 1 {
		write(c.outcomes(names))
	}
	for i, r := range c.Heads {
		if len(r.Violations) > 0 {
			line("\nViolations in %s", c.called(i, names))
			for _, v := range r.Violations {
				line("  %s", reports.Harmless(v))
			}
		}
	}
	if rows := c.rows(names); len(rows) > 0 {
		table := [][]string{c.columns()}
		for _, row := range rows {
			table = append(table, row.cells)
		}
		write(table)
	}
	for _, texts := range [][]string{c.reasons(names), c.notes()} {
		if len(texts) > 0 {
			line("")
		}
		for _, text := range texts {
			line("%s", reports.Harmless(text))
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// called is the head in a sentence.
func (c *Comparison) called(i int, names []string) string {
	if len(c.Heads) == 1 {
		return "head"
	}
	return reports.Harmless(names[i])
}

// outcomes are the rows of the table of heads, its columns first.
func (c *Comparison) outcomes(names []string) [][]string {
	rows := [][]string{{"head", "outcome", ""}}
	for i, r := range c.Heads {
		rows = append(rows, []string{reports.Clip(names[i], nameText), string(r.Outcome), r.headline()})
	}
	return rows
}

// nameText bounds the name of a head in a table, in bytes.
const nameText = 60

// row is a metric of a head in the table of all.
type row struct {
	*Metric
	head  int
	cells []string
}

// rows are the metrics, those of all heads with one name together.
func (c *Comparison) rows(names []string) []row {
	var rows []row
	for _, m := range metrics {
		for i, r := range c.Heads {
			for j := range r.Metrics {
				if r.Metrics[j].Name != m.name {
					continue
				}
				cells := r.Metrics[j].cells()
				if len(c.Heads) > 1 {
					cells = slices.Insert(cells, 1, reports.Clip(names[i], nameText))
				}
				rows = append(rows, row{&r.Metrics[j], i, cells})
			}
		}
	}
	return rows
}

func (c *Comparison) columns() []string {
	if len(c.Heads) > 1 {
		return slices.Insert(slices.Clone(columns), 1, "of")
	}
	return columns
}

// headline is the outcome in a sentence, or two.
func (c *Comparison) headline() string {
	text := c.Heads[0].headline()
	if len(c.Heads) > 1 {
		var parts []string
		for _, kind := range []struct {
			o         Outcome
			one, many string
		}{{Violation, "broke its contract", "broke their contracts"}, {Regression, "is worse", "are worse"}, {Inconclusive, "is undecided", "are undecided"}, {NoWorse, "is no worse", "are no worse"}} {
			n := 0
			for _, r := range c.Heads {
				if r.Outcome == kind.o {
					n++
				}
			}
			switch {
			case n == 1:
				parts = append(parts, "1 "+kind.one)
			case n > 1:
				parts = append(parts, fmt.Sprintf("%d %s", n, kind.many))
			}
		}
		text = fmt.Sprintf("Of %d heads %s.", len(c.Heads), strings.Join(parts, ", "))
	}
	switch {
	case c.Gate == nil || c.Outcome != Inconclusive || !c.Gate.Warn:
	case c.ExitCode == 0:
		text += " The gate warns of that, and passes."
	default:
		text += " The gate would pass what these runs do not decide, but not what they did not measure."
	}
	return text
}

// gate says what the gate file makes of the metrics, "" without one.
func (c *Comparison) gate() string {
	if c.Gate == nil {
		return ""
	}
	text := c.Gate.File + ": a regression fails (4), inconclusive "
	if c.Gate.Warn {
		text += "warns"
	} else {
		text += "fails (5)"
	}
	var inform []string
	for _, m := range metrics {
		if slices.ContainsFunc(c.Heads, func(r *Report) bool {
			return slices.ContainsFunc(r.Metrics, func(x Metric) bool { return x.Name == m.name && !x.Gates })
		}) {
			inform = append(inform, m.name)
		}
	}
	if len(inform) > 0 {
		text += "; only to inform: " + strings.Join(inform, ", ")
	}
	return text + "."
}

// method says how the comparison was made.
func (c *Comparison) method() []string {
	var how, rest []string
	add := func(to *[]string, text string) {
		if !slices.Contains(*to, text) {
			*to = append(*to, text)
		}
	}
	for _, r := range c.Heads {
		texts := r.method(c.Tested, len(c.Heads))
		add(&how, texts[0])
		add(&rest, texts[1])
		add(&rest, texts[2])
	}
	return append(how, rest...)
}

// notes of all heads, each once.
func (c *Comparison) notes() []string {
	var notes []string
	for i, r := range c.Heads {
		for _, note := range r.Notes {
			if len(c.Heads) > 1 && strings.Contains(note, " of head ") {
				note = strings.Replace(note, " of head ", " of "+c.names()[i]+" ", 1)
			}
			if !slices.Contains(notes, note) {
				notes = append(notes, note)
			}
		}
	}
	return notes
}

// reasons say why metrics are not simply no worse.
func (c *Comparison) reasons(names []string) []string {
	if len(c.Heads) == 1 {
		return c.Heads[0].reasons()
	}
	var lines []string
	for i, r := range c.Heads {
		for _, text := range r.reasons() {
			lines = append(lines, reports.Clip(names[i], nameText)+": "+text)
		}
	}
	return lines
}

// loads say how well the load generators kept up, a sentence for each side that
// has usable runs.
func (c *Comparison) loads() []string {
	var texts []string
	if text := c.Base.Load.about("base"); text != "" {
		texts = append(texts, text)
	}
	for i, r := range c.Heads {
		name := "head"
		if len(c.Heads) > 1 {
			name = c.names()[i]
		}
		if text := r.Head.Load.about(name); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}

// headline is the outcome in a sentence.
func (r *Report) headline() string {
	named := func(o Outcome) string {
		var names []string
		for _, m := range r.Metrics {
			if m.Gates && m.Decision == o {
				names = append(names, m.Name)
			}
		}
		return strings.Join(names, ", ")
	}
	switch r.Outcome {
	case Violation:
		return fmt.Sprintf("Head broke its contract in %d of %s.", len(r.Violations), plural(r.Head.Runs, "run"))
	case Regression:
		if slices.ContainsFunc(r.Metrics, func(m Metric) bool { return m.Gates && m.WithinLimit != nil && !*m.WithinLimit }) {
			return "Head is worse than base, or breaks a limit, in " + named(Regression) + "."
		}
		return "Head is worse in " + named(Regression) + "."
	case NoWorse:
		return "Head is no worse in " + named(NoWorse) + "."
	}
	switch {
	case min(r.Base.Usable, r.Head.Usable) == 0:
		return "There is no usable run on one side."
	case r.Base.Usable == 1 && r.Head.Usable == 1:
		return "One run a side: there are ratios, but no test is possible."
	case named(Inconclusive) == "":
		return "No metric that gates was measured."
	}
	return "These runs do not decide on " + named(Inconclusive) + "."
}

// method says how the comparison of the head was made, in three sentences, the
// first of which depends on the head. tested is the number of tests of all heads.
func (r *Report) method(tested, heads int) []string {
	how, runs := "Unpaired: permutation test of medians, Hodges-Lehmann shift and interval.", "runs a side"
	if r.Paired {
		how, runs = plural(r.Pairs, "pair")+": sign-flip test, Hodges-Lehmann estimate and interval.", "pairs"
	}
	of := plural(tested, "tested metric")
	if heads > 1 {
		of = fmt.Sprintf("%s of %d heads together", plural(tested, "tested metric"), heads)
	}
	return []string{
		how,
		fmt.Sprintf("If the sides are equal, the chance of a regression in any of %s is at most %s:", of, percent(r.Alpha)),
		fmt.Sprintf("the better end of an interval is wrong with at most %s (Bonferroni), which takes %d %s, the worse one with at most %s; p is one-sided (Holm).", percent(r.Tail), r.Least, runs, percent(r.Alpha)),
	}
}

var columns = []string{"metric", "base", "head", "head/base", "interval", "margin", "p", "decision"}

// cells are the columns of a metric.
func (m *Metric) cells() []string {
	value := func(v *float64) string {
		if v == nil {
			return "-"
		}
		return m.Unit.format(*v)
	}
	change := func(v *float64) string {
		switch {
		case v == nil:
			return "-"
		case m.Scale == "ratio":
			return strconv.FormatFloat(*v, 'f', 3, 64)
		case *v > 0:
			return "+" + m.Unit.format(*v)
		}
		return m.Unit.format(*v)
	}
	interval := "-"
	if m.Low != nil && m.High != nil {
		interval = change(m.Low) + " to " + change(m.High)
	}
	p := "-"
	if m.PHolm != nil {
		p = strconv.FormatFloat(*m.PHolm, 'f', 3, 64)
	}
	decision := string(m.Decision)
	if !m.Gates {
		decision += ", informs"
	}
	return []string{m.Name, value(m.Base), value(m.Head), change(m.Estimate), interval, percent(m.Margin), p, decision}
}

// reasons say why metrics are not simply no worse, those with one reason in one
// line.
func (r *Report) reasons() []string {
	var texts []string
	names := map[string][]string{}
	for _, m := range r.Metrics {
		if m.Reason == "" {
			continue
		}
		text := m.Reason
		if m.Needed != nil && *m.Needed > r.Least {
			text += fmt.Sprintf("; about %d runs a side would decide", *m.Needed)
		} else if m.Needed == nil && m.Decision == Inconclusive && m.Low != nil {
			text += fmt.Sprintf("; more than %d runs a side would be needed", maxNeeded)
		}
		if names[text] == nil {
			texts = append(texts, text)
		}
		names[text] = append(names[text], m.Name)
	}
	lines := make([]string, len(texts))
	for i, text := range texts {
		lines[i] = strings.Join(names[text], ", ") + ": " + text + "."
	}
	return lines
}

func (c Counted) about() string {
	text := fmt.Sprintf("%s: %s, %d usable", c.Path, plural(c.Runs, "run"), c.Usable)
	if c.Violations > 0 {
		text += fmt.Sprintf(", %d violated correctness", c.Violations)
	}
	if c.Unknown > 0 {
		text += fmt.Sprintf(", %d unknown", c.Unknown)
	}
	return text
}

// about says how well the load generators of a side kept up, "" of no load.
func (l *SideLoad) about(side string) string {
	if l == nil {
		return ""
	}
	text := side + ": " + perSecond.format(l.Achieved) + " achieved"
	if l.Requested != nil {
		text = fmt.Sprintf("%s: %s requested, %s achieved", side, perSecond.format(*l.Requested), perSecond.format(l.Achieved))
	}
	text += fmt.Sprintf(", %d unsent", l.Unsent)
	if l.LagMax > 0 {
		text += fmt.Sprintf("; send lag p50 %s, p99 at most %s, max %s", reports.Duration(l.LagP50), reports.Duration(l.LagP99), reports.Duration(l.LagMax))
	}
	return text
}

// format writes a value of the unit.
func (u unit) format(v float64) string {
	switch u {
	case nanoseconds:
		return reports.Duration(time.Duration(math.Round(v)))
	case perSecond:
		return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) + "/s"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*1e4)/100, 'f', -1, 64) + " %"
}

func plural(n int, thing string) string { return reports.Plural(int64(n), thing) }
