package reports

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"statequake/reports/stats"
)

// findMax is load.arrivals.find_max of a resolved scenario.
type findMax struct {
	From   string                   `yaml:"from"`
	To     string                   `yaml:"to"`
	Grow   string                   `yaml:"grow"`
	Every  time.Duration            `yaml:"every"`
	Settle time.Duration            `yaml:"settle"`
	Bound  map[string]time.Duration `yaml:"bound"`
}

// search is the search as reports/stats judges it.
func (f *findMax) search() (*stats.Search, error) {
	s := &stats.Search{Every: f.Every, Settle: f.Settle}
	for _, part := range []struct {
		text, unit string
		to         *float64
	}{{f.From, "/s", &s.From}, {f.To, "/s", &s.To}, {f.Grow, "%", &s.Grow}} {
		var err error
		if *part.to, err = strconv.ParseFloat(strings.TrimSuffix(part.text, part.unit), 64); err != nil {
			return nil, fmt.Errorf("%q is not a number that ends in %s", part.text, part.unit)
		}
	}
	s.Grow /= 100
	for s.Percentile, s.Bound = range f.Bound {
	}
	if len(f.Bound) != 1 || !s.Valid() {
		return nil, fmt.Errorf("is not a search as statequake run resolves it")
	}
	return s, nil
}

// findMaxColumns and the cells of a level are the table of a search.
var findMaxColumns = []string{"requested", "ok", "p50", "p99", "p99.9", "answered ok", "in bound", "own delay", ""}

func levelCells(l *stats.Level) []string {
	p50, p99, p999, own := "-", "-", "-", "unknown"
	if l.Latency.N > 0 {
		p50, p99, p999 = duration(l.Latency.P50), duration(l.Latency.P99), duration(l.Latency.P999)
	}
	if l.OwnDelay != nil {
		own = duration(time.Duration(*l.OwnDelay))
	}
	return []string{perSecond(l.Rate), perSecond(l.Achieved), p50, p99, p999, percent(l.Answered), percent(l.Within), own, string(l.Verdict)}
}

// perSecond writes a rate without a fraction that says nothing.
func perSecond(v float64) string {
	if v < 100 {
		return rate(v)
	}
	return count(int64(v+0.5)) + "/s"
}

// kneeText says in a sentence what the search found, without a full stop.
func kneeText(f *stats.FindMax) string {
	bound := fmt.Sprintf("%s within %s", f.Bound.Percentile, duration(f.Bound.Limit))
	if len(f.Levels) == 0 {
		return "no level was complete, so no rate with " + bound + " is known"
	}
	last := f.Levels[len(f.Levels)-1].Rate
	first := f.Levels[0].Rate
	switch {
	case f.Knee == nil && f.LimitedBy == stats.LimitGenerator:
		return fmt.Sprintf("limited by the load generator: it was late itself at %s, the lowest rate, so no rate with %s is known", perSecond(first), bound)
	case f.Knee == nil:
		return fmt.Sprintf("not even %s, the lowest rate, has %s", perSecond(first), bound)
	case f.LimitedBy == stats.LimitGenerator:
		return fmt.Sprintf("limited by the load generator: at least %s with %s; above it the generator was late itself", perSecond(*f.Knee), bound)
	case f.LimitedBy == stats.LimitEnd:
		return fmt.Sprintf("at least %s with %s: no higher rate was tried", perSecond(last), bound)
	}
	text := fmt.Sprintf("%s is the highest rate with %s", perSecond(*f.Knee), bound)
	if again := f.KeptAgain(); again != nil {
		text += fmt.Sprintf(", up to which every level had it; %s had it again, so what broke it in between may have passed: more runs tell", perSecond(*again))
	}
	return text
}

// levelsText says what the levels are measured by.
func levelsText(f *stats.FindMax) string {
	return fmt.Sprintf("Levels of %s, of which the first %s are left out. Latency counts from the instant due; what was not answered ok is not in bound. Own delay is the part of a latency that may be the generator's. A level that the generator spoiled says nothing.",
		duration(f.Every), duration(f.Settle))
}

func (p *printer) findMax(f *stats.FindMax) {
	p.item("Find max", kneeText(f))
	widths := []int{11, 9, 9, 9, 12, 10, 10, 10}
	line := func(attribute string, cells []string) {
		text := ""
		for i, cell := range cells {
			if i < len(widths) {
				text += fmt.Sprintf("%*s", widths[i]-1, cell) + " "
			} else {
				text += " " + cell
			}
		}
		text = strings.TrimRight(text, " ")
		if attribute != "" {
			text = p.paint(text, attribute)
		}
		p.w.WriteString(text + "\n")
	}
	cut := func(cells []string) []string { return append(cells[:4:4], cells[5:]...) } // of 80 columns
	line(bold, cut(findMaxColumns))
	for i := range f.Levels {
		line("", cut(levelCells(&f.Levels[i])))
	}
}

// searchLines are the data of the charts of a search.
type searchLines struct {
	Rate     values `json:"rate_per_s"`
	Achieved values `json:"ok_per_s"`
	P50      values `json:"p50_ms"`
	Bounded  values `json:"bounded_ms"` // the percentile that is bounded
	Name     string `json:"percentile"`
	Bound    values `json:"bound_ms"` // one value
	Knee     values `json:"knee"`     // one value, or unknown
}

func newSearchLines(f *stats.FindMax) *searchLines {
	s := &searchLines{Name: f.Bound.Percentile, Bound: values{milliseconds(f.Bound.Limit)}, Knee: values{unknown}}
	if f.Knee != nil {
		s.Knee[0] = *f.Knee
	}
	for i := range f.Levels {
		l := &f.Levels[i]
		s.Rate, s.Achieved = append(s.Rate, l.Rate), append(s.Achieved, l.Achieved)
		p50, bounded := unknown, unknown
		if l.Latency.N > 0 {
			p50 = milliseconds(l.Latency.P50)
			bounded = milliseconds(map[string]time.Duration{"p50": l.Latency.P50, "p90": l.Latency.P90, "p99": l.Latency.P99, "p999": l.Latency.P999}[f.Bound.Percentile])
		}
		s.P50, s.Bounded = append(s.P50, p50), append(s.Bounded, bounded)
	}
	return s
}

// searchView is a search in report.html.
type searchView struct {
	Knee, About string
	Levels      grid
}

func newSearchView(f *stats.FindMax) *searchView {
	v := &searchView{Knee: upperFirst(kneeText(f)), About: levelsText(f), Levels: grid{Name: "Levels", Figures: true, Head: append(findMaxColumns[:len(findMaxColumns)-1:len(findMaxColumns)-1], "verdict")}}
	for i := range f.Levels {
		v.Levels.row(f.Levels[i].Verdict != stats.Kept, levelCells(&f.Levels[i])...)
	}
	return v
}

func kneeTile(f *stats.FindMax) tile {
	t := tile{Name: "Highest rate", Value: "unknown", Note: fmt.Sprintf("%s within %s", f.Bound.Percentile, duration(f.Bound.Limit))}
	if f.Knee != nil {
		t.Value = perSecond(*f.Knee)
	}
	switch {
	case f.LimitedBy == stats.LimitGenerator:
		t.Note, t.Bad = t.Note+"; limited by the load generator", true
		fallthrough
	case f.LimitedBy == stats.LimitEnd:
		t.Value = "≥ " + t.Value
	}
	if f.Knee == nil {
		t.Value = "none"
	}
	return t
}
