package reports

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"statequake/reports/check"
)

// shownViolations is how many violations the summary explains.
const shownViolations = 3

// minWidth is the narrowest terminal that the latency table fits.
const minWidth = 72

// Summary writes the verdict for a terminal that is width columns wide, or 80
// if width is 0. Colour only repeats what the words say. Control characters in
// what the system said are written as escapes. It returns the first error of w.
func Summary(w io.Writer, v *Verdict, color bool, width int) error {
	p := &printer{w: bufio.NewWriter(w), color: color, width: max(cmp.Or(width, 80), minWidth)}
	p.verdict(v)

	p.section()
	if v.Claim != "" {
		p.item("Claim", v.Claim)
	}
	p.item("Scenario", fmt.Sprintf("%s, seed %d", v.Scenario, v.Seed))
	p.item("System", v.System.about())
	load := v.Load.about(v.AnsweredWithin)
	p.item("Load", load[0])
	p.item("", load[1])

	if v.FindMax != nil {
		p.section()
		p.findMax(v.FindMax)
	}

	p.section()
	p.latencies(v)

	if len(v.Faults) > 0 {
		p.section()
		p.heading("Faults")
		for i := range v.Faults {
			f := &v.Faults[i]
			p.entry(f.Name+": "+f.what()+" "+f.evidence(), f.confirmed())
			if text := f.recovered(); text != "" {
				p.wrap("      ", "      ", text)
			}
		}
	}

	p.section()
	p.heading("Checks")
	for _, r := range v.Checks {
		p.wrap("  "+p.paint(fmt.Sprintf("%-9s ", r.Verdict), colorOf(r.Verdict)), strings.Repeat(" ", 12), r.Name+": "+judged(r))
	}

	if len(v.Expectations) > 0 {
		p.section()
		p.heading("Expectations")
		for _, x := range v.Expectations {
			word, paint := "met", green
			if !x.Met {
				word, paint = "MISSED", red
			}
			p.wrap("  "+p.paint(fmt.Sprintf("%-9s ", word), paint), strings.Repeat(" ", 12),
				fmt.Sprintf("%s: %s, limit %s", x.Name, x.measured(), x.Limit))
		}
	}

	if shown, total := firstViolations(v); len(shown) > 0 {
		p.section()
		p.heading(fmt.Sprintf("Violations, %d of %s", len(shown), count(int64(total))))
		for _, violation := range shown {
			p.story(v, violation)
		}
	}

	if len(v.Reasons) > 0 && (v.Verdict != check.Pass || len(v.Reasons) > v.missed()) {
		p.section()
		p.heading("Reasons")
		for _, reason := range v.Reasons {
			p.wrap("  ", "    ", reason)
		}
	}

	p.section()
	// Not wrapped, so that it can be pasted.
	p.w.WriteString("Replay    " + v.replay(filepath.Join(v.dir, scenarioFile)) + "\n")
	return p.w.Flush()
}

// story tells a violation: a line per event, the conclusion, and how to judge it
// by itself.
func (p *printer) story(v *Verdict, x check.Violation) {
	s := v.story(x)
	on := fmt.Sprintf("%s on %s/%s", x.Kind, x.Entity, x.Key)
	if len(s.Events) == 0 {
		p.wrap("  ", "    ", on+": "+x.Explanation)
		return
	}
	p.wrap("  ", "    ", on)
	instants := make([]string, len(s.Events))
	width := 0
	for i, e := range s.Events {
		instants[i] = instant(e.At)
		width = max(width, len(instants[i]))
	}
	for i, e := range s.Events {
		p.wrap(fmt.Sprintf("    %*s  ", width, instants[i]), strings.Repeat(" ", width+6), e.Text)
	}
	words, command := v.again(x, v.dir)
	p.wrap("    ", "    ", s.Conclusion+" "+words)
	if command != "" {
		p.w.WriteString("      " + command + "\n") // not wrapped, so that it can be pasted
	}
}

// firstViolations returns the violations to explain, and how many were found in
// all.
func firstViolations(v *Verdict) (shown []check.Violation, total int) {
	all, total := violationsByKind(v)
	return all[:min(len(all), shownViolations)], total
}

// violationsByKind returns the listed violations, of every kind one before a
// second of any, and how many were found in all.
func violationsByKind(v *Verdict) (listed []check.Violation, total int) {
	listed = allViolations(v)
	for _, r := range v.Checks {
		total += r.Total
	}
	type ranked struct {
		check.Violation
		nth int // of its kind
	}
	nth := map[string]int{}
	order := make([]ranked, len(listed))
	for i, violation := range listed {
		order[i] = ranked{violation, nth[violation.Kind]}
		nth[violation.Kind]++
	}
	slices.SortStableFunc(order, func(a, b ranked) int { return cmp.Compare(a.nth, b.nth) })
	for i := range order {
		listed[i] = order[i].Violation
	}
	return listed, total
}

// Terminal attributes.
const (
	green  = "\x1b[1;32m"
	red    = "\x1b[1;31m"
	yellow = "\x1b[1;33m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

func colorOf(v check.Verdict) string {
	switch v {
	case check.Pass:
		return green
	case check.Violated:
		return red
	}
	return yellow
}

// printer writes wrapped text. Errors of w are sticky in bufio.Writer.
type printer struct {
	w     *bufio.Writer
	color bool
	width int
}

func (p *printer) paint(s, attribute string) string {
	if !p.color {
		return s
	}
	return attribute + s + plain
}

func (p *printer) section() { p.w.WriteString("\n") }

func (p *printer) heading(s string) { p.w.WriteString(p.paint(s, bold) + "\n") }

// verdict writes the verdict as the first line.
func (p *printer) verdict(v *Verdict) {
	word := strings.ToUpper(string(v.Verdict))
	p.wrap(p.paint(word, colorOf(v.Verdict))+"  ", strings.Repeat(" ", len(word)+2), v.headline())
}

// item writes a named paragraph.
func (p *printer) item(name, text string) {
	p.wrap(fmt.Sprintf("%-10s", name), strings.Repeat(" ", 10), text)
}

// entry writes a list entry, marked if it is not in order.
func (p *printer) entry(text string, ok bool) {
	mark := "  "
	if !ok {
		mark = p.paint("! ", yellow)
	}
	p.wrap("  "+mark, "      ", text)
}

// wrap writes text of unknown origin with a first and a further indent. first
// may hold attributes and must look as wide as it is without them.
func (p *printer) wrap(first, further, text string) {
	column := visible(first)
	p.w.WriteString(first)
	empty := true // nothing but the indent on this line
	for _, word := range strings.Fields(harmless(text)) {
		n := utf8.RuneCountInString(word)
		switch {
		case empty:
		case column+1+n <= p.width:
			p.w.WriteString(" ")
			column++
		default:
			p.w.WriteString("\n" + further)
			column = len(further)
		}
		for n > p.width-column { // longer than a line
			cut := len(string([]rune(word)[:p.width-column]))
			p.w.WriteString(word[:cut] + "\n" + further)
			word, column = word[cut:], len(further)
			n = utf8.RuneCountInString(word)
		}
		p.w.WriteString(word)
		column += n
		empty = false
	}
	p.w.WriteString("\n")
}

// visible is the width of s without terminal attributes.
func visible(s string) int {
	for {
		start := strings.Index(s, "\x1b[")
		if start < 0 {
			return utf8.RuneCountInString(s)
		}
		end := strings.IndexByte(s[start:], 'm')
		s = s[:start] + s[start+end+1:]
	}
}

func (p *printer) latencies(v *Verdict) {
	const nameWidth, cellWidth, lastWidth = 14, 9, 12
	line := func(attribute, name string, cells []string) {
		name = harmless(name)
		if r := []rune(name); len(r) > nameWidth {
			name = string(r[:nameWidth-1]) + "…"
		}
		text := fmt.Sprintf("%-*s", nameWidth, name)
		for i, cell := range cells {
			width := cellWidth
			if i == len(cells)-1 {
				width = lastWidth
			}
			text += fmt.Sprintf("%*s", width, cell)
		}
		if attribute != "" {
			text = p.paint(text, attribute)
		}
		p.w.WriteString(text + "\n")
	}
	line(bold, "Latency", latencyColumns)
	for _, r := range v.latencies() {
		line("", r.name, r.cells())
	}
}

// shellWord quotes a path for a POSIX shell where that is needed.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
