package compare

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"statequake/reports"
)

// Bounds of the page, which has at most 1 MB whatever is compared.
const (
	longText = 600 // bytes of a text
	maxTexts = 200 // of a list
)

var (
	//go:embed compare.gohtml
	pageText string
	//go:embed compare.css
	pageStyle string
	//go:embed compare.js
	pageScript string

	pageTemplate = template.Must(template.New("compare.html").Funcs(template.FuncMap{"percent": percentOf}).Parse(pageText))
)

// page is what the page shows. Every string of unknown origin in it has been
// through Clip; the template escapes them.
type page struct {
	State, Symbol, Word, Headline string
	Scenario                      string
	Base                          string
	Heads                         []headView
	Several                       bool
	Scale                         scale
	Metrics                       []metricView
	Violations                    []string
	Reasons, Notes, Loads         []string
	Method                        []string
	Gate                          string

	Charts       *charts
	Width        string // of a bucket
	Step         string // of a bucket around a fault
	Distribution grid
	Recovery     grid

	Style  template.CSS
	Script template.JS
	Policy string
}

// headView is the outcome of a head.
type headView struct {
	Name, State, Symbol, About, Says string
	Outcome                          Outcome
}

// metricView is a metric of a head with its picture.
type metricView struct {
	*Metric
	Of, BaseText, HeadText, Change, Interval, MarginText, PText string
	State, Symbol                                               string
	First                                                       bool // of the metric
	Forest                                                      *forest
}

// forest places an interval on an axis on which worse is to the right, in shares
// of its width; 0.5 is no change.
type forest struct {
	Estimate, Margin float64
	Low, High        float64
	Bounded          bool // there is an interval
	CutLow, CutHigh  bool // it goes on beyond the axis
	Beyond           bool // and so does the estimate
	Own              bool // a scale of its own, of differences
	Says             string
}

// scale is the axis that all ratios share.
type scale struct {
	Better, Worse string // what its ends stand for
	limit         float64
}

// grid is a table of figures, a column for each side.
type grid struct {
	Head []string
	Rows [][]string
}

// Width is that of the area within the margin.
func (f *forest) Width() float64 { return f.Margin - 0.5 }

// WriteHTML writes the comparison as one offline page to the file path, as a
// whole or not at all. It reads the histories of the runs for the charts.
func (c *Comparison) WriteHTML(path string) error {
	data, err := c.html()
	if err != nil {
		return err
	}
	if err := reports.Replace(path, data); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

func (c *Comparison) html() ([]byte, error) {
	style := reports.ChartStyle() + "\n" + reports.PageStyle() + "\n" + pageStyle
	script := reports.ChartScript() + "\n" + pageScript
	names := c.names()
	lines, missing := c.lines()
	p := page{
		State: c.Outcome.state(), Symbol: c.Outcome.symbol(), Word: strings.ToUpper(string(c.Outcome)), Headline: c.headline(),
		Scenario: reports.Clip(c.Scenario, nameText), Base: reports.Clip(c.Base.about(), longText), Several: len(c.Heads) > 1,
		Reasons: clipped(c.reasons(names)), Notes: clipped(append(c.notes(), missing...)), Loads: clipped(c.loads()), Method: c.method(), Gate: reports.Clip(c.gate(), longText),
		Charts: lines, Width: reports.Duration(time.Duration(lines.Width[0] * 1e9)),
		Distribution: lines.distribution(), Recovery: c.recovery(names),
		Style: template.CSS(style), Script: template.JS(script),
		Policy: fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; img-src data:; base-uri 'none'; form-action 'none'",
			reports.PageFingerprint(style), reports.PageFingerprint(script)),
	}
	if len(lines.Recovery) > 0 {
		at := lines.Recovery[0].At
		p.Step = reports.Duration(time.Duration((at[1] - at[0]) * 1e9))
	}
	var violations []string
	for i, r := range c.Heads {
		h := headView{Name: reports.Clip(names[i], nameText), State: r.Outcome.state(), Symbol: r.Outcome.symbol(), Outcome: r.Outcome,
			About: reports.Clip(r.Head.about(), longText), Says: r.headline()}
		p.Heads = append(p.Heads, h)
		for _, v := range r.Violations {
			if p.Several {
				v = names[i] + ": " + v
			}
			violations = append(violations, v)
		}
	}
	p.Violations = clipped(violations)
	p.Scale = c.scale()
	for _, row := range c.rows(names) {
		cells := row.cells
		v := metricView{Metric: row.Metric, State: row.Decision.state(), Symbol: row.Decision.symbol(), Forest: p.Scale.place(row.Metric),
			First: len(p.Metrics) == 0 || p.Metrics[len(p.Metrics)-1].Name != row.Name}
		if p.Several {
			v.Of = reports.Clip(names[row.head], nameText)
			cells = slices.Delete(slices.Clone(cells), 1, 2)
		}
		for i := range cells {
			if utf8.RuneCountInString(cells[i]) <= 16 {
				cells[i] = strings.ReplaceAll(cells[i], " ", "\u00a0")
			}
		}
		v.BaseText, v.HeadText, v.Change, v.Interval, v.MarginText, v.PText = cells[1], cells[2], cells[3], cells[4], cells[5], cells[6]
		p.Metrics = append(p.Metrics, v)
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("render the page: %w", err)
	}
	return b.Bytes(), nil
}

func clipped(texts []string) []string {
	more := len(texts) - maxTexts
	texts = slices.Clone(texts[:min(len(texts), maxTexts)])
	for i := range texts {
		texts[i] = reports.Clip(texts[i], longText)
	}
	if more > 0 {
		texts = append(texts, reports.Count(int64(more))+" more are in the JSON form.")
	}
	return texts
}

// state is the outcome as a colour.
func (o Outcome) state() string {
	switch o {
	case NoWorse:
		return "pass"
	case Regression:
		return "missed"
	case Violation:
		return "violation"
	}
	return "unknown"
}

// scale chooses an axis that holds all that is drawn on it, but no change by
// more than twice: small changes are what a margin is about.
func (c *Comparison) scale() scale {
	s := scale{limit: math.Log(1.2)}
	for _, r := range c.Heads {
		for i := range r.Metrics {
			m := &r.Metrics[i]
			if m.Scale != "ratio" {
				continue
			}
			s.limit = max(s.limit, 1.1*math.Log1p(m.Margin))
			for _, v := range []*float64{m.Low, m.High, m.Estimate} {
				if v != nil && *v > 0 {
					s.limit = max(s.limit, 1.1*math.Abs(math.Log(*v)))
				}
			}
		}
	}
	s.limit = min(s.limit, math.Log(2))
	end := strconv.FormatFloat(math.Exp(s.limit), 'g', 3, 64)
	s.Better, s.Worse = "÷"+end, "×"+end
	return s
}

// place draws a metric. Without an estimate there is nothing to draw.
func (s scale) place(m *Metric) *forest {
	if m.Estimate == nil {
		return nil
	}
	sign := 1.0
	if m.Better == "higher" {
		sign = -1
	}
	f := &forest{Bounded: m.Low != nil && m.High != nil, Own: m.Scale != "ratio"}
	worse := func(v float64) float64 { return sign * math.Log(v) }
	limit, margin := s.limit, math.Log1p(m.Margin)
	if f.Own {
		worse = func(v float64) float64 { return sign * v }
		margin = 0
		if m.Base != nil {
			margin = m.Margin * *m.Base
		}
		limit = max(margin, math.Abs(*m.Estimate))
		if f.Bounded {
			limit = max(limit, math.Abs(*m.Low), math.Abs(*m.High))
		}
		if limit *= 1.1; limit == 0 {
			limit = 1
		}
	}
	at := func(v float64) float64 { return 0.5 + 0.5*v/limit }
	estimate := at(worse(*m.Estimate))
	f.Estimate, f.Margin = min(max(estimate, 0), 1), min(at(margin), 1)
	f.CutLow, f.CutHigh, f.Beyond = estimate < 0, estimate > 1, estimate < 0 || estimate > 1
	f.Low, f.High = f.Estimate, f.Estimate
	if f.Bounded {
		f.Low, f.High = at(worse(*m.Low)), at(worse(*m.High))
		if f.Low > f.High {
			f.Low, f.High = f.High, f.Low
		}
		f.CutLow, f.CutHigh = f.CutLow || f.Low < 0, f.CutHigh || f.High > 1
		f.Low, f.High = min(max(f.Low, 0), 1), min(max(f.High, 0), 1)
	}
	where := "between no change and the margin"
	switch {
	case f.Estimate < 0.5:
		where = "better"
	case f.Estimate >= f.Margin:
		where = "beyond the margin"
	}
	f.Says = "estimate " + where
	if f.Bounded {
		f.Says += fmt.Sprintf(", interval all worse: %s, all within the margin: %s", yes(f.Low > 0.5), yes(f.High < f.Margin && !f.CutHigh))
	} else {
		f.Says += ", no interval"
	}
	return f
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// percentOf writes a share as an SVG coordinate.
func percentOf(share float64) string { return strconv.FormatFloat(100*share, 'f', 2, 64) + "%" }

// distribution is the table under the chart of the same figures.
func (t *charts) distribution() grid {
	g := grid{Head: []string{"percentile"}}
	for _, s := range t.Sides {
		g.Head = append(g.Head, s.Name)
	}
	for i, at := range t.Nines {
		if i > 0 && at != math.Round(at) {
			continue // 50, 90, 99, 99.9 and 99.99 remain
		}
		cells := []string{"p" + strconv.FormatFloat(100*(1-math.Pow(10, -at)), 'g', 4, 64)}
		known := false
		for _, s := range t.Sides {
			text := "–"
			if i < len(s.Dist.Median) && !math.IsNaN(s.Dist.Median[i]) {
				known = true
				ms := func(l line) string { return reports.Duration(time.Duration(l[i] * 1e6)) }
				if text = ms(s.Dist.Median); s.Dist.Low != nil {
					text += " (" + ms(s.Dist.Low) + " to " + ms(s.Dist.High) + ")"
				}
			}
			cells = append(cells, text)
		}
		if known {
			g.Rows = append(g.Rows, cells)
		}
	}
	return g
}

// recovery is the table of outages and recoveries by fault.
func (c *Comparison) recovery(names []string) grid {
	g := grid{Head: []string{"fault", "side", "runs", "longest outage of a key", "steady after", "keys dead"}}
	sides := slices.Concat([]*Side{c.base}, c.sides)
	labels := append([]string{"base"}, names...)
	var faults []string
	for _, s := range sides {
		for _, run := range s.usable() {
			for _, f := range run.verdict.Faults {
				if f.Recovery != nil && !slices.Contains(faults, f.Name) {
					faults = append(faults, f.Name)
				}
			}
		}
	}
	for _, name := range faults[:min(len(faults), maxBands)] {
		for i, s := range sides {
			var outages, steady []float64
			runs, dead := 0, 0
			for _, run := range s.usable() {
				for _, f := range run.verdict.Faults {
					if f.Name != name || f.Recovery == nil {
						continue
					}
					runs++
					dead += f.Recovery.KeysDead
					if d := f.Recovery.Outage.Max; d != nil {
						outages = append(outages, float64(*d))
					}
					if d := f.Recovery.Steady; d != nil {
						steady = append(steady, float64(*d))
					}
				}
			}
			if runs > 0 {
				g.Rows = append(g.Rows, []string{reports.Clip(name, nameText), reports.Clip(labels[i], nameText), strconv.Itoa(runs), ranged(outages, runs), ranged(steady, runs), strconv.Itoa(dead)})
			}
		}
	}
	return g
}

// ranged writes durations as their median and range, and in how many of the runs
// they are known if not in all.
func ranged(values []float64, runs int) string {
	if len(values) == 0 {
		return "–"
	}
	text := nanoseconds.format(median(values))
	if len(values) > 1 {
		text += " (" + nanoseconds.format(slices.Min(values)) + " to " + nanoseconds.format(slices.Max(values)) + ")"
	}
	if len(values) < runs {
		text += fmt.Sprintf(", in %d of %d", len(values), runs)
	}
	return text
}
