package suite

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"unicode/utf8"

	"statequake/reports"
)

// Bounds of the texts of summary.html, in bytes.
const (
	longText  = 2000
	shortText = 160
)

// maxReasons bounds the reasons that are told of one run.
const maxReasons = 6

var (
	//go:embed summary.gohtml
	pageText string
	//go:embed summary.css
	pageStyle string

	pageTemplate = template.Must(template.New("summary.html").Parse(pageText))
)

// page is what summary.html shows. Every string of unknown origin in it has been
// through clip; the template escapes them.
type page struct {
	State, Symbol, Word, Headline string
	Suite, Claim                  string
	Tiles                         []tile
	About                         string
	Columns                       []string
	Span                          int // columns of the table of scenarios, the first included
	Scenarios                     []scenarioView
	Several                       bool // runs of each scenario
	NotPlain                      []runView
	More                          int // that are not plain, beside those
	Runs                          []runView
	Environment                   [][2]string
	Command                       string
	Exit                          int
	Style                         template.CSS
	Policy                        string
}

type tile struct {
	Name, Value, Note string
	Bad               bool
}

// scenarioView is a row of the table of scenarios.
type scenarioView struct {
	Name, Claim, Verdicts string
	Outcome               Outcome
	Mark, State           string
	Link                  string // to the report of its only run
	Runs                  int
	Cells                 []cellView
	Strip                 *strip // nil for a single run
}

type cellView struct {
	Column string
	figure
	Bad bool
}

// runView is one run.
type runView struct {
	Title, Scenario, Mark, State, Says    string
	Outcome                               Outcome
	Run                                   int
	Seed                                  int64
	P50, P99, Rate, Outage, Lost, Fitness string
	Reasons                               []string
	Report, Log, Dir                      string
}

// strip is a picture of the runs of a scenario: a bar each, as high as its p99
// against the largest of them, in the colour of its outcome.
type strip struct {
	Width, Height int
	Label         string
	Bars          []bar
}

type bar struct {
	X, Y, H     int
	State, Says string
	Link        string
	Hollow      bool // no p99 is known
}

// Dimensions of a strip.
const (
	barWidth    = 9
	stripHeight = 26
	maxBars     = 40 // of a strip; the table of runs has all
)

// html is summary.html: one file that asks nobody for anything and runs no
// script.
func (s *Summary) html() ([]byte, error) {
	style := reports.PageStyle() + "\n" + pageStyle
	p := page{
		Headline: reports.Clip(reports.UpperFirst(s.Says), longText), Suite: reports.Clip(s.Suite, shortText), Claim: reports.Clip(s.Claim, longText),
		Tiles: s.tiles(), About: figuresAbout, Columns: s.columns(), Span: 1 + len(s.columns()), Several: s.planned > len(s.Scenarios),
		Command: s.command(), Exit: s.Exit, Style: template.CSS(style),
		Policy: fmt.Sprintf("default-src 'none'; style-src '%s'; img-src data:; base-uri 'none'; form-action 'none'", reports.PageFingerprint(style)),
	}
	p.State, p.Symbol, p.Word = s.state()
	for i := range s.Scenarios {
		sc := &s.Scenarios[i]
		p.Scenarios = append(p.Scenarios, s.view(sc))
		for j := range sc.Runs {
			p.Runs = append(p.Runs, sc.viewRun(&sc.Runs[j]))
		}
	}
	notPlain := s.worstFirst()
	for _, r := range notPlain[:min(len(notPlain), maxNotPlain)] {
		p.NotPlain = append(p.NotPlain, r.of.viewRun(r.Run))
	}
	p.More = len(notPlain) - len(p.NotPlain)
	p.Environment = s.environment()
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("render summary.html: %w", err)
	}
	return b.Bytes(), nil
}

// state is the outcome as a colour.
func (o Outcome) state() string {
	switch o {
	case Pass:
		return "pass"
	case Violation, Failed:
		return "violation"
	case Missed:
		return "missed"
	case Skipped, NotRun:
		return "idle"
	}
	return "unknown"
}

func (s *Summary) tiles() []tile {
	n := func(o ...Outcome) int64 {
		sum := 0
		for _, o := range o {
			sum += s.Counts[o]
		}
		return int64(sum)
	}
	of := "of " + reports.Plural(int64(s.planned), "run")
	var lostAcks int64
	lostNote, lostValue := "acknowledged writes that are gone", none
	for i := range s.Scenarios {
		if l := s.Scenarios[i].LostAcks; l != nil {
			lostAcks += int64(*l)
			lostValue = reports.Count(lostAcks)
		} else if s.Scenarios[i].judged() {
			lostNote = "acknowledged writes that are gone, as far as known"
		}
	}
	tiles := []tile{
		{Name: "Passed", Value: reports.Count(n(Pass)), Note: of},
		{Name: "Violations", Value: reports.Count(n(Violation)), Note: "runs that broke the contract", Bad: n(Violation) > 0},
		{Name: "Unknown", Value: reports.Count(n(Unknown, Stopped, Failed, NotRun)), Note: "runs that prove nothing, or were not made", Bad: n(Unknown, Stopped, Failed, NotRun) > 0},
		{Name: "Missed", Value: reports.Count(n(Missed)), Note: "passed, but missed an expectation", Bad: n(Missed) > 0},
		{Name: "Lost acks", Value: lostValue, Note: lostNote, Bad: lostAcks > 0 && n(Violation) > 0},
	}
	if cannot := n(CannotRun, Skipped); cannot > 0 {
		note := "need what this machine lacks"
		if s.Counts[Skipped] > 0 {
			note += "; " + reports.Count(n(Skipped)) + " skipped on purpose"
		}
		tiles = append(tiles, tile{Name: "Cannot run here", Value: reports.Count(cannot), Note: note, Bad: n(CannotRun) > 0})
	}
	return tiles
}

func (s *Summary) view(sc *Scenario) scenarioView {
	v := scenarioView{
		Name: reports.Clip(sc.Name, shortText), Claim: reports.Clip(sc.Claim, longText), Verdicts: sc.verdicts(),
		Outcome: sc.Outcome, Mark: sc.Outcome.mark(), State: sc.Outcome.state(), Runs: len(sc.Runs), Strip: sc.strip(),
	}
	if len(sc.Runs) == 1 && sc.Runs[0].judged {
		v.Link = sc.Runs[0].Dir + "/report.html"
	}
	columns := s.columns()
	for i, f := range s.cells(sc) {
		c := cellView{Column: columns[i], figure: f}
		switch c.Column {
		case "outage":
			c.Bad = sc.KeysDead > 0
		case "lost acks":
			c.Bad = sc.Counts[Violation] > 0 && sc.LostAcks != nil && *sc.LostAcks > 0
		case "generator":
			c.Bad = sc.Generator != "" && sc.Generator != "valid"
		}
		for _, text := range []*string{&c.Median, &c.Range} {
			*text = nonBreaking(*text)
		}
		v.Cells = append(v.Cells, c)
	}
	return v
}

// nonBreaking keeps a short cell on one line.
func nonBreaking(s string) string {
	if utf8.RuneCountInString(s) > 24 {
		return s
	}
	return strings.ReplaceAll(s, " ", "\u00a0")
}

func (sc *Scenario) viewRun(r *Run) runView {
	v := runView{
		Title: reports.Clip(notPlain{sc, r}.title(), shortText), Scenario: reports.Clip(sc.Name, shortText), Mark: r.Outcome.mark(), State: r.Outcome.state(),
		Says: reports.Clip(reports.UpperFirst(r.Says), longText), Outcome: r.Outcome, Run: r.Run, Seed: r.Seed, Dir: r.Dir,
		P50: maybe(r.P50), P99: maybe(r.P99), Rate: none, Outage: outage(r.OutageMax, r.KeysDead, r.judged, sc.faults), Lost: lost(r.LostAcks, r.judged), Fitness: fitness(r.Generator),
		Log: r.log,
	}
	if r.judged {
		v.Report = r.Dir + "/report.html"
	}
	if r.Achieved != nil {
		v.Rate = reports.Rate(*r.Achieved)
		if r.Requested != nil {
			v.Rate = strings.TrimSuffix(reports.Rate(*r.Requested), "/s") + " → " + v.Rate
		}
	}
	for _, text := range []*string{&v.P50, &v.P99, &v.Rate, &v.Outage} {
		*text = nonBreaking(*text)
	}
	for i, reason := range r.Reasons {
		if i == maxReasons {
			v.Reasons = append(v.Reasons, fmt.Sprintf("%d more are in the report.", len(r.Reasons)-i))
			break
		}
		v.Reasons = append(v.Reasons, reports.Clip(reason, longText))
	}
	return v
}

func (sc *Scenario) strip() *strip {
	if len(sc.Runs) < 2 {
		return nil
	}
	runs := sc.Runs[:min(len(sc.Runs), maxBars)]
	var most float64
	for i := range runs {
		if p := runs[i].P99; p != nil {
			most = max(most, float64(*p))
		}
	}
	s := &strip{
		Width: len(runs) * barWidth, Height: stripHeight,
		Label: fmt.Sprintf("p99 of %s, the highest bar is %s", reports.Plural(int64(len(runs)), "run"), nanoseconds(most)),
	}
	for i := range runs {
		r := &runs[i]
		b := bar{
			X: i * barWidth, H: stripHeight, State: r.Outcome.state(), Hollow: r.P99 == nil,
			Says: fmt.Sprintf("run %d: %s, p99 %s", r.Run, r.Outcome, maybe(r.P99)),
		}
		if r.P99 != nil && most > 0 {
			b.H = max(2, int(float64(*r.P99)/most*stripHeight))
		}
		b.Y = stripHeight - b.H
		if r.judged {
			b.Link = r.Dir + "/report.html"
		}
		s.Bars = append(s.Bars, b)
	}
	return s
}

func (s *Summary) environment() [][2]string {
	var rows [][2]string
	item := func(name, text string) {
		if text != "" {
			rows = append(rows, [2]string{name, reports.Clip(text, longText)})
		}
	}
	seen := map[string]bool{}
	for i := range s.Scenarios {
		if sys := s.Scenarios[i].System; sys != nil && !seen[sys.About()] {
			seen[sys.About()] = true
			item("system", sys.About())
		}
	}
	item("machine", s.Machine.About())
	item("statequake", s.Statequake)
	return rows
}
