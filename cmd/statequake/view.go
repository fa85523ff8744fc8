package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"statequake/history"
	"statequake/reports"
	"statequake/reports/stats"
	"statequake/scenarios"
)

// widest is how many columns a view uses at most, and sparkline of values it shows.
const (
	widest    = 160
	sparkline = 120
)

// style is how a piece of text looks on a terminal with colours: parameters of an
// SGR sequence.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "1;31"
	green  style = "32"
	yellow style = "33"
	cyan   style = "36"
)

// span is text without control characters.
type span struct {
	text  string
	style style
}

// row is one line of a view. Those of the lowest rank are shown where there is no
// room for all; rank 0 is always the first to be taken.
type row struct {
	rank  int
	spans []span
}

func line(rank int, spans ...span) row { return row{rank, spans} }

// look is what a terminal can show.
type look struct {
	color   bool
	unicode bool // block characters, one column wide
}

// view is what is shown of a run at an instant. Its texts may hold anything.
type view struct {
	title   string
	status  scenarios.Status
	past    past
	verdict stats.Fitness // of the generator so far; "" before it has done anything
	note    string        // said last; "" for nothing
}

// past are figures of complete seconds, the latest last. It is copied by value:
// its slices are never changed.
type past struct {
	second         int64 // of the run clock, of the last value
	rate, p50, p99 []float64
}

// with is p and what a status says of the last complete second.
func (p past) with(st *scenarios.Status) past {
	second := int64(st.At/time.Second) - 1
	if st.Load.Dispatched == 0 || second < 0 {
		return p
	}
	keep := len(p.rate)
	if second == p.second && keep > 0 {
		keep-- // what is said of a second is complete a little later
	}
	add := func(values []float64, v float64) []float64 {
		values = append(values[:keep:keep], v)
		return values[max(0, len(values)-sparkline):]
	}
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	return past{second, add(p.rate, st.Load.AchievedRate), add(p.p50, ms(st.Load.P50)), add(p.p99, ms(st.Load.P99))}
}

// frame draws a view into at most height lines of at most width columns each. A
// line holds printable characters, and sequences for colours if there are any.
func (v *view) frame(width, height int, look look) []string {
	width = min(width, widest)
	rows := fit(v.rows(width, look), height)
	lines := make([]string, len(rows))
	for i, r := range rows {
		lines[i] = r.text(width, look)
	}
	return lines
}

// fit leaves out what matters least until the rest fits; the order stays.
func fit(rows []row, height int) []row {
	for len(rows) > max(height, 0) {
		last := 0
		for i, r := range rows {
			if r.rank >= rows[last].rank {
				last = i
			}
		}
		rows = append(rows[:last:last], rows[last+1:]...)
	}
	return rows
}

// text is a row, cut where it is too wide.
func (r row) text(width int, look look) string {
	var b strings.Builder
	for i, s := range r.spans {
		text := reports.Harmless(s.text)
		if i == len(r.spans)-1 {
			text = strings.TrimRight(text, " ")
		}
		cut := runewidth.Truncate(text, width, "")
		if cut != text && width > 0 {
			cut = runewidth.Truncate(text, width, "~")
		}
		width -= runewidth.StringWidth(cut)
		if look.color && s.style != plain && cut != "" {
			b.WriteString("\x1b[" + string(s.style) + "m" + cut + "\x1b[0m")
		} else {
			b.WriteString(cut)
		}
		if cut != text {
			break
		}
	}
	return b.String()
}

// Layouts, by the number of columns.
const (
	roomy  = 60 // labels of eleven columns
	snug   = 30 // labels of five, of figures alone
	labels = 11
)

// label begins a row.
func label(name string, width int) span {
	switch {
	case width >= roomy:
		return span{fmt.Sprintf("%-*s", labels, name), dim}
	case width >= snug && len(name) == 4, width >= snug && len(name) == 3: // the others say what they are
		return span{fmt.Sprintf("%-5s", name), dim}
	}
	return span{}
}

// rows are all rows, most of which have ranks of their own:
//
//	0 phase, and why the run is aborted   5 outcomes          10 more nodes
//	1 violations                          6 evidence          11 title
//	2 an active fault; 4 more of them     7 p50               12 what waits or is over
//	3 rate                                8 generator         13 that nothing was found
//	4 p99                                 9 the first nodes
func (v *view) rows(width int, look look) []row {
	st := &v.status
	rows := []row{line(11, span{v.title, bold}), v.phase(width, look)}
	if st.Aborted != "" {
		rows = append(rows, line(0, span{st.Aborted, red}))
	}
	if st.Load.Dispatched > 0 {
		rows = append(rows, v.load(width, look)...)
	}
	rows = append(rows, v.faults(width)...)
	rows = append(rows, v.nodes(width)...)
	rows = append(rows, v.violations(width)...)
	if v.note != "" {
		rows = append(rows, line(1, span{v.note, bold}))
	}
	return rows
}

// phase says how far the run is.
func (v *view) phase(width int, look look) row {
	st := &v.status
	elapsed, total := st.Elapsed.Seconds(), st.Total.Seconds()
	spans := []span{{fmt.Sprintf("%-*s", min(labels, max(width/3, 5)), st.Phase), cyan}}
	loading := st.Phase == "warmup" || st.Phase == "load"
	switch {
	case loading && width >= snug:
		spans = append(spans, span{fmt.Sprintf("%.1f of %s s  ", min(elapsed, total), number(total)), plain})
	case loading:
		spans = append(spans, span{fmt.Sprintf("%.0f/%.0f s", min(elapsed, total), total), plain})
	case width >= roomy && total > 0:
		spans = append(spans, span{fmt.Sprintf("%.1f s, at most %s s", elapsed, number(total)), plain})
	default:
		spans = append(spans, span{fmt.Sprintf("%.1f s", elapsed), plain})
	}
	if loading && width >= 40 && total > 0 {
		bar := min(width-labels-20, 40)
		done := int(min(elapsed/total, 1) * float64(bar))
		full, rest := "#", "-"
		if look.unicode {
			full, rest = "█", "░"
		}
		spans = append(spans, span{strings.Repeat(full, done), cyan}, span{strings.Repeat(rest, bar-done), dim})
	}
	return line(0, spans...)
}

// load is what the generator does and what the system answers.
func (v *view) load(width int, look look) []row {
	l := &v.status.Load
	rate := number(l.AchievedRate) + " ok/s"
	if v.status.Requested > 0 && width >= roomy {
		rate = number(l.AchievedRate) + " of " + number(v.status.Requested) + " /s"
	}
	curve := func(name, value string, rank int, values []float64, height scale, paint style) row {
		if width < snug {
			return line(rank, span{name + " " + value, plain})
		}
		first := label(name, width)
		column := 14
		if width >= roomy {
			column = 18
		}
		room := min(width-runewidth.StringWidth(first.text)-column, sparkline)
		return line(rank, first, span{fmt.Sprintf("%-*s", column, value), plain}, span{spark(values, room, height, look), paint})
	}
	p50, p99 := "-", "-"
	if l.P99 > 0 {
		p50, p99 = reports.Duration(l.P50), reports.Duration(l.P99)
	}
	rows := []row{
		curve("rate", rate, 3, v.past.rate, linear, green),
		curve("p50", p50, 7, v.past.p50, logarithmic, plain),
		curve("p99", p99, 4, v.past.p99, logarithmic, yellow),
	}
	bad := plain
	if l.Fail+l.Info+l.Unsent > 0 {
		bad = yellow
	}
	rows = append(rows, v.outcomes(width, bad))
	if v.verdict != "" && width >= snug {
		paint, text := plain, string(v.verdict)+" so far"
		if v.verdict != stats.Valid {
			paint = red
		}
		lag := ""
		if l.LagMax > 0 {
			lag = fmt.Sprintf(", send lag p50 %s, p99 %s, max %s", reports.Duration(l.LagP50), reports.Duration(l.LagP99), reports.Duration(l.LagMax))
		}
		rows = append(rows, line(8, label("generator", width), span{text, paint}, span{lag, plain}))
	}
	return rows
}

func (v *view) outcomes(width int, bad style) row {
	l := &v.status.Load
	switch {
	case width < snug:
		return line(5, span{fmt.Sprintf("ok %d", l.OK), plain}, span{fmt.Sprintf(" bad %d", l.Fail+l.Info+l.Unsent), bad})
	case width < roomy:
		return line(5, label("outcomes", width), span{fmt.Sprintf("%d ok ", l.OK), plain},
			span{fmt.Sprintf("%d bad ", l.Fail+l.Info+l.Unsent), bad}, span{fmt.Sprintf("%d in flight", l.InFlight), plain})
	}
	return line(5, label("outcomes", width), span{reports.Count(l.OK) + " ok  ", plain},
		span{fmt.Sprintf("%s fail  %s info  %s unsent  ", reports.Count(l.Fail), reports.Count(l.Info), reports.Count(l.Unsent)), bad},
		span{reports.Count(l.InFlight) + " in flight", plain})
}

// faults are the faults: in progress, then to come, soonest first, then over,
// latest first.
func (v *view) faults(width int) []row {
	st := &v.status
	var active, waiting, over []*scenarios.FaultStatus
	for i := range st.Faults {
		f := &st.Faults[i]
		switch {
		case f.Active:
			active = append(active, f)
		case f.Waits():
			waiting = append(waiting, f)
		default:
			over = append([]*scenarios.FaultStatus{f}, over...)
		}
	}
	sortByDue(waiting)
	var rows []row
	name := "faults"
	add := func(rank int, paint style, text string) {
		rows = append(rows, line(rank, label(name, width), span{text, paint}))
		name = ""
	}
	for i, f := range active {
		add(min(2+2*i, 4), red, "! "+f.Name+" "+strings.Join(f.Targets, ",")+progressOf(f, st.At, width))
		if f.Proof != "" {
			add(6, proofStyle(f.Proof), "  "+string(f.Proof)+": "+f.Detail)
		}
	}
	for i, f := range waiting {
		rank := 12
		if i == 0 {
			rank = 5
		}
		text := ", " + f.When
		if f.Due != nil {
			text = fmt.Sprintf(" in %.1f s", max(0, (*f.Due-st.At).Seconds()))
		}
		add(rank, plain, "  "+f.Name+text+", "+what(f))
	}
	for _, f := range over {
		text, paint := "not proven", red
		if f.Proof != "" {
			text, paint = string(f.Proof), proofStyle(f.Proof)
		}
		switch {
		case f.Recovered != nil && f.Injected != nil:
			text += ", back after " + reports.Duration(*f.Recovered-*f.Injected)
		case f.Injected != nil:
			text += ", not seen back"
		}
		if f.Detail != "" {
			text += "; " + f.Detail
		}
		add(12, paint, "  "+strings.TrimSpace(f.Name+" "+strings.Join(f.Targets, ","))+": "+text)
	}
	return rows
}

func sortByDue(faults []*scenarios.FaultStatus) {
	for i := range faults { // they are few, and in order but for some
		for j := i; j > 0 && sooner(faults[j], faults[j-1]); j-- {
			faults[j], faults[j-1] = faults[j-1], faults[j]
		}
	}
}

// sooner tells whether a starts before b; what an event starts comes last.
func sooner(a, b *scenarios.FaultStatus) bool {
	return a.Due != nil && (b.Due == nil || *a.Due < *b.Due)
}

func what(f *scenarios.FaultStatus) string {
	if f.Action != "" {
		return f.Kind + " " + f.Action
	}
	return f.Kind
}

// progressOf says how long an active fault has lasted and will last.
func progressOf(f *scenarios.FaultStatus, now time.Duration, width int) string {
	if f.Requested == nil {
		return ""
	}
	if f.Injected == nil {
		return fmt.Sprintf(" requested %.1f s ago, not seen yet", max(0, (now-*f.Requested).Seconds()))
	}
	elapsed := max(0, now-*f.Injected)
	text := fmt.Sprintf(" %.1f s", elapsed.Seconds())
	switch {
	case f.Lasts > 0 && elapsed < f.Lasts:
		text += fmt.Sprintf(" of %s s", number(f.Lasts.Seconds()))
	case f.Lasts > 0:
		text += ", undone, not back yet"
	case f.Proof != "":
		text += ", not back yet"
	}
	if width >= roomy {
		text += ", " + what(f) + ", seen after " + reports.Duration(max(0, *f.Injected-*f.Requested))
	}
	return text
}

func proofStyle(p history.Proof) style {
	if p == history.Confirmed {
		return green
	}
	return red
}

// hottest explains the mark of a node.
const hottest = "* owns the hottest key"

// nodes are the nodes, several in a row where there is room.
func (v *view) nodes(width int) []row {
	nodes := v.status.Nodes
	if len(nodes) == 0 || width < snug {
		return nil
	}
	longest := 2
	for _, n := range nodes {
		longest = max(longest, min(runewidth.StringWidth(reports.Harmless(n.Name)), 12))
	}
	cell := longest + len(" restarting 1000 % 9999M  ")
	first := label("nodes", width)
	each := max(1, (width-runewidth.StringWidth(first.text))/cell)
	var rows []row
	hot := false
	for i, n := range nodes {
		if i%each == 0 {
			rank := 9
			if i > 0 {
				rank = 10
				first = label("", width)
			}
			rows = append(rows, line(rank, first))
		}
		r := &rows[len(rows)-1]
		name := runewidth.FillRight(runewidth.Truncate(reports.Harmless(n.Name), longest, "~"), longest)
		cpu, rss, mark := "     -", "    -", "  "
		if n.CPU >= 0 {
			cpu = fmt.Sprintf("%4.0f %%", 100*n.CPU)
		}
		if n.RSS > 0 {
			rss = fmt.Sprintf("%4dM", n.RSS>>20)
		}
		if n.Hottest {
			mark, hot = "* ", true
		}
		state, paint := n.State, plain
		switch n.State {
		case "":
			state = "-"
		case "up":
			paint = green
		default:
			paint = red
			r.rank = min(r.rank, 3)
		}
		r.spans = append(r.spans, span{name + " ", plain}, span{fmt.Sprintf("%-10s", state), paint}, span{" " + cpu + " " + rss + mark, plain})
	}
	if hot && width >= roomy {
		r := &rows[len(rows)-1]
		used := 0
		for _, s := range r.spans {
			used += runewidth.StringWidth(s.text)
		}
		if used+len(hottest) < width {
			r.spans = append(r.spans, span{hottest, dim})
		}
	}
	return rows
}

// violations says what was found so far, where it is looked for.
func (v *view) violations(width int) []row {
	st := &v.status
	if st.Violations == 0 {
		switch {
		case width < snug || st.Load.Dispatched == 0 || len(st.Nodes) == 0: // a load alone is not judged
			return nil
		case st.Looked:
			return []row{line(13, label("violations", width), span{"none so far", dim})}
		}
		return []row{line(13, label("violations", width), span{"looked for at the end", dim})}
	}
	rows := []row{line(1, label("violations", width), span{strings.ToUpper(plural(st.Violations, "violation")) + " so far", red})}
	for _, f := range st.Findings {
		rows = append(rows, line(2, label("", width), span{f.Kind + " on " + f.Entity + "/" + f.Key, red}, span{": " + f.Explanation, plain}))
	}
	return rows
}

// number writes a figure without more digits than it is worth.
func number(f float64) string {
	switch {
	case f == float64(int64(f)):
		return reports.Count(int64(f))
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strconv.FormatFloat(f, 'f', 1, 64)
}

// scale says how high a column is: 0 to 1 for values from least, which is above 0,
// to top.
type scale func(v, least, top float64) float64

// linear is for amounts: the height is the value.
func linear(v, _, top float64) float64 { return v / top }

// logarithmic is for latencies: a fault that makes them a hundred times as long is
// not to hide all the rest. Values within a factor of four look much alike.
func logarithmic(v, least, top float64) float64 {
	return math.Log(v/least) / math.Log(max(top/least, 4))
}

// spark draws the last values as columns; 0 is none.
func spark(values []float64, width int, height scale, look look) string {
	steps := []rune(" ▁▂▃▄▅▆▇█")
	if !look.unicode {
		steps = []rune(" _.-:=+*#")
	}
	values = values[max(0, len(values)-max(width, 0)):]
	least, top := math.Inf(1), 0.0
	for _, v := range values {
		if top = max(top, v); v > 0 {
			least = min(least, v)
		}
	}
	var b strings.Builder
	for _, v := range values {
		step := 0
		if v > 0 {
			step = 1 + int(height(v, least, top)*float64(len(steps)-2)+0.5)
		}
		b.WriteRune(steps[min(step, len(steps)-1)])
	}
	return b.String()
}
