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
	"unicode"
)

// Text writes the comparison for a terminal.
func (r *Report) Text(w io.Writer) error {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s  %s", strings.ToUpper(string(r.Outcome)), r.headline())
	line("")
	line("Scenario  %s", harmless(r.Scenario))
	line("Base      %s", harmless(r.Base.about()))
	line("Head      %s", harmless(r.Head.about()))
	for _, text := range r.loads() {
		line("Load      %s", text)
	}
	for i, text := range r.method() {
		line("%-10s%s", []string{"Method", "", ""}[i], text)
	}
	if len(r.Violations) > 0 {
		line("\nViolations in head")
		for _, v := range r.Violations {
			line("  %s", harmless(v))
		}
	}
	if len(r.Metrics) > 0 {
		line("")
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, strings.Join(columns, "\t"))
		for i := range r.Metrics {
			fmt.Fprintln(table, strings.Join(r.Metrics[i].cells(), "\t"))
		}
		table.Flush() // of a bytes.Buffer: no error
	}
	if reasons := r.reasons(); len(reasons) > 0 {
		line("")
		for _, reason := range reasons {
			line("%s", reason)
		}
	}
	if len(r.Notes) > 0 {
		line("")
		for _, note := range r.Notes {
			line("%s", harmless(note))
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Markdown writes the comparison for a pull request.
func (r *Report) Markdown(w io.Writer) error {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# %s: %s", strings.ToUpper(string(r.Outcome)), escape(r.Scenario))
	line("\n**%s**", escape(r.headline()))
	line("\n- Base: %s", escape(r.Base.about()))
	line("- Head: %s", escape(r.Head.about()))
	for _, text := range r.loads() {
		line("- Load: %s", escape(text))
	}
	line("- Method: %s", escape(strings.Join(r.method(), " ")))
	if len(r.Violations) > 0 {
		line("\n## Violations in head\n")
		for _, v := range r.Violations {
			line("- %s", escape(v))
		}
	}
	if len(r.Metrics) > 0 {
		row := func(cells []string) { line("| %s |", strings.Join(cells, " | ")) }
		line("")
		row(columns)
		line("|%s", strings.Repeat("---|", len(columns)))
		for i := range r.Metrics {
			cells := r.Metrics[i].cells()
			for j, cell := range cells {
				cells[j] = escape(cell)
			}
			row(cells)
		}
	}
	if reasons := append(r.reasons(), r.Notes...); len(reasons) > 0 {
		line("")
		for _, reason := range reasons {
			line("- %s", escape(reason))
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// headline is the outcome in a sentence.
func (r *Report) headline() string {
	named := func(o Outcome) string {
		var names []string
		for _, m := range r.Metrics {
			if m.Decision == o {
				names = append(names, m.Name)
			}
		}
		return strings.Join(names, ", ")
	}
	switch r.Outcome {
	case Violation:
		return fmt.Sprintf("Head broke its contract in %d of %s.", len(r.Violations), plural(r.Head.Runs, "run"))
	case Regression:
		if slices.ContainsFunc(r.Metrics, func(m Metric) bool { return m.WithinLimit != nil && !*m.WithinLimit }) {
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
	}
	return "These runs do not decide on " + named(Inconclusive) + "."
}

// method says how the comparison was made, in three sentences.
func (r *Report) method() []string {
	how, runs := "Unpaired: permutation test of medians, Hodges-Lehmann shift and interval.", "runs a side"
	if r.Paired {
		how, runs = plural(r.Pairs, "pair")+": sign-flip test, Hodges-Lehmann estimate and interval.", "pairs"
	}
	return []string{
		how,
		fmt.Sprintf("If the sides are equal, the chance of a regression in any of %s is at most %s:", plural(r.Tested, "tested metric"), percent(r.Alpha)),
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
	return []string{m.Name, value(m.Base), value(m.Head), change(m.Estimate), interval, percent(m.Margin), p, string(m.Decision)}
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

// loads say how well the load generators kept up, a sentence for each side that
// has usable runs.
func (r *Report) loads() []string {
	var texts []string
	for _, side := range []struct {
		name string
		load *SideLoad
	}{{"base", r.Base.Load}, {"head", r.Head.Load}} {
		l := side.load
		if l == nil {
			continue
		}
		text := side.name + ": " + perSecond.format(l.Achieved) + " achieved"
		if l.Requested != nil {
			text = fmt.Sprintf("%s: %s requested, %s achieved", side.name, perSecond.format(*l.Requested), perSecond.format(l.Achieved))
		}
		text += fmt.Sprintf(", %d unsent", l.Unsent)
		if l.LagMax > 0 {
			text += fmt.Sprintf("; send lag p50 %s, p99 at most %s, max %s", duration(float64(l.LagP50)), duration(float64(l.LagP99)), duration(float64(l.LagMax)))
		}
		texts = append(texts, text)
	}
	return texts
}

// format writes a value of the unit.
func (u unit) format(v float64) string {
	switch u {
	case nanoseconds:
		return duration(v)
	case perSecond:
		return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) + "/s"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// duration writes nanoseconds with three digits and a unit, as the report of a
// run does: 850 ns, 4.21 ms, 0.93 s, 125 s.
func duration(ns float64) string {
	switch {
	case ns < 0:
		return "-" + duration(-ns)
	case ns == 0:
		return "0 s"
	case ns < 1e3:
		return significant(ns) + " ns"
	case ns < 1e6:
		return significant(ns/1e3) + " µs"
	case ns < 5e8:
		return significant(ns/1e6) + " ms"
	}
	return significant(ns/1e9) + " s"
}

// significant writes v with three digits, or more before the point.
func significant(v float64) string {
	switch {
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*1e4)/100, 'f', -1, 64) + " %"
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// harmless makes text of unknown origin safe to show on one line.
func harmless(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return strconv.Quote(s)
	}
	return s
}

// escape makes text of unknown origin show as it is in Markdown, in one line.
func escape(s string) string {
	var b strings.Builder
	for _, r := range harmless(s) {
		if strings.ContainsRune("\\`*_{}[]<>#|!&~$@", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
