package reports

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"statequake/history"
	"statequake/reports/check"
	"statequake/reports/explain"
	"statequake/reports/stats"
)

// Bounds of the texts of report.html, in bytes.
const (
	longText  = 2000
	shortText = 160
	nameText  = 40
	planText  = 64 << 10
)

// shownReasons is how many reasons the first screen has room for.
const shownReasons = 4

// Bounds of the violations that report.html explains.
const (
	htmlViolations   = 50
	htmlViolationOps = 12
)

// The page and what is embedded in it. uPlot is MIT licensed; its licence goes
// into every page with it.
var (
	//go:embed html/report.gohtml
	pageText string
	//go:embed html/report.css
	pageStyle string
	//go:embed html/report.js
	pageScript string
	//go:embed html/chart.js
	chartScript string
	//go:embed html/uplot-1.6.32.iife.min.js
	uplotScript string
	//go:embed html/uplot-1.6.32.min.css
	uplotStyle string
	//go:embed html/uplot-1.6.32.LICENSE
	uplotLicense string

	pageTemplate = template.Must(template.New("report.html").Funcs(template.FuncMap{"percent": explain.Percent}).Parse(pageText))

	style  = uplotStyle + "\n" + pageStyle
	script = ChartScript() + "\n" + pageScript
)

// page is what report.html shows. Every string of unknown origin in it has been
// through clip; the template escapes them.
type page struct {
	State    string // pass, missed, violation or unknown: the colour
	Symbol   string
	Word     string
	Headline string
	Scenario string
	Claim    string
	Reasons  []string
	More     []string // reasons beyond the first few
	Answers  []answer

	Search      *searchView // nil without a search for the highest rate
	Timeline    *timeline
	BucketWidth string
	Panels      []panel // on the time axis
	Spread      string  // the distribution of latencies in words
	Latency     grid
	Throughput  []string

	Faults       grid
	Recovery     grid
	Checks       grid
	Expectations grid
	Replay       string
	Violations   []violationView
	Found        string // how many violations there are, beside those listed
	Resources    grid
	Environment  grid
	Plan         string // the resolved scenario

	Style  template.CSS
	Script template.JS
	Policy string
}

// answer is a group of figures of the first screen that answers one question.
type answer struct {
	Class, Question string
	Tiles           []tile
}

// tile is one figure of the first screen.
type tile struct {
	Name, Value, Note string
	Bad               bool
}

// grid is a table.
type grid struct {
	Name    string // for those who do not see what stands above it
	Figures bool   // numbers: aligned to the right
	Head    []string
	Rows    []gridRow
}

type gridRow struct {
	Bad   bool
	Cells []string
	Files []string // beside the report, linked from the last cell
}

// Last reports whether cell i is the last.
func (r gridRow) Last(i int) bool { return i == len(r.Cells)-1 }

// row adds a row. A short cell, such as a figure with its unit, stays on one
// line.
func (g *grid) row(bad bool, cells ...string) {
	for i := range cells {
		cells[i] = clip(cells[i], longText)
		if utf8.RuneCountInString(cells[i]) <= 16 {
			cells[i] = strings.ReplaceAll(cells[i], " ", "\u00a0")
		}
	}
	g.Rows = append(g.Rows, gridRow{Bad: bad, Cells: cells})
}

// violationView is one violation with the operations that show it.
type violationView struct {
	Open               bool
	Kind, On, Explains string
	Drawing            *drawing // nil beyond the first few
	Story              []string
	Ops                grid
	More               int    // operations left out
	Alone, Again       string // of its minimal history: in words, and the command that judges it
	Folder             string // of that history
}

// renderHTML is report.html: one file that asks nobody for anything. v comes
// from Judge.
func renderHTML(v *Verdict) ([]byte, error) {
	t := newTimeline(v)
	p := page{
		Headline: clip(upperFirst(v.headline()), longText), Scenario: clip(v.Scenario, shortText), Claim: clip(v.Claim, longText),
		Answers: v.answers(), Timeline: t, BucketWidth: duration(time.Duration(t.Width[0] * float64(time.Second))),
		Panels: v.panels(t), Spread: v.spreadSays(), Latency: v.latencyGrid(), Throughput: v.answeredOK(),
		Faults: v.faultGrid(), Recovery: v.recoveryGrid(), Checks: v.checkGrid(), Expectations: v.expectationGrid(), Replay: v.replay(scenarioFile),
		Resources: v.resourceGrid(), Environment: v.environmentGrid(), Plan: clipLines(v.plan, planText),
		Style: template.CSS(style), Script: template.JS(script),
		Policy: fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; img-src data:; base-uri 'none'; form-action 'none'",
			fingerprint(style), fingerprint(script)),
	}
	if v.FindMax != nil {
		p.Search, t.Search = newSearchView(v.FindMax), newSearchLines(v.FindMax)
	}
	p.State, p.Symbol, p.Word = v.state()
	for _, reason := range v.Reasons {
		p.Reasons = append(p.Reasons, clip(reason, longText))
	}
	if len(p.Reasons) > shownReasons {
		p.Reasons, p.More = p.Reasons[:shownReasons], p.Reasons[shownReasons:]
	}
	p.Violations, p.Found = v.violationViews()
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("render report.html: %w", err)
	}
	return b.Bytes(), nil
}

// fingerprint is the hash of an inline style or script as a Content Security
// Policy names it.
func fingerprint(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// clip makes text of unknown origin harmless and cuts it after about limit
// bytes, with a word on how long it was.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return harmless(s)
	}
	cut := limit
	for cut > limit-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s … (%s)", harmless(s[:cut]), bytesOf(int64(len(s))))
}

// clipLines is clip for text whose line breaks stay.
func clipLines(s string, limit int) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if b.Len()+len(line) > limit {
			b.WriteString("…\n")
			break
		}
		b.WriteString(harmless(strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", "    ")) + "\n")
	}
	return b.String()
}

// state is the verdict as a colour, a symbol and a word.
func (v *Verdict) state() (state, symbol, word string) {
	switch {
	case v.Verdict == check.Violated:
		return "violation", "✗", "VIOLATION"
	case v.Verdict != check.Pass:
		return "unknown", "?", "UNKNOWN"
	case v.missed() > 0:
		return "missed", "!", "PASS, BUT MISSED"
	}
	return "pass", "✓", "PASS"
}

// marked writes a verdict of a check with its symbol.
func marked(verdict check.Verdict) string {
	switch verdict {
	case check.Pass:
		return "✓ " + string(verdict)
	case check.Violated:
		return "✗ " + string(verdict)
	}
	return "? " + string(verdict)
}

// loadWindow is the load phase on the run clock.
func (v *Verdict) loadWindow() stats.Window {
	return stats.Window{From: v.Load.Start, To: v.Load.Start + v.Load.Duration}
}

// answers are the first screen below the verdict: is the system safe, is it
// fast, does it come back.
func (v *Verdict) answers() []answer {
	lost := tile{Name: "Lost acks", Value: "unknown", Note: "acknowledged, then gone"}
	if v.LostAcks != nil {
		lost.Value, lost.Bad = count(int64(*v.LostAcks)), *v.LostAcks > 0 && v.Verdict == check.Violated
	}
	return []answer{
		{"safe", "Is it safe?", []tile{lost, v.checksTile()}},
		{"fast", "Is it fast?", v.speedTiles()},
		{"back", "Does it come back?", v.backTiles()},
	}
}

func (v *Verdict) backTiles() []tile {
	if len(v.Faults) == 0 {
		return []tile{{Name: "Faults", Value: "none", Note: "so this run does not tell"}}
	}
	return []tile{v.outageTile(), v.steadyTile()}
}

// checksTile says how many checks passed.
func (v *Verdict) checksTile() tile {
	passed, violations := 0, 0
	for _, r := range v.Checks {
		if r.Verdict == check.Pass {
			passed++
		}
		violations += r.Total
	}
	t := tile{Name: "Checks passed", Value: fmt.Sprintf("%d of %d", passed, len(v.Checks)), Note: "no violation found", Bad: passed < len(v.Checks)}
	if violations > 0 {
		t.Note = plural(int64(violations), "violation") + " found"
	}
	return t
}

func (v *Verdict) speedTiles() []tile {
	var tiles []tile
	for _, part := range []struct {
		name    string
		latency stats.Summary
	}{{"steady", v.Latency.Steady}, {"during faults", v.Latency.DuringFaults}} {
		if v.FindMax != nil && len(v.Faults) == 0 && part.name == "during faults" {
			continue
		}
		p50, p99 := "–", "–"
		if part.latency.N > 0 {
			p50, p99 = duration(part.latency.P50), duration(part.latency.P99)
		}
		n := "of " + plural(part.latency.N, "ok answer")
		tiles = append(tiles, tile{Name: "p50 " + part.name, Value: p50, Note: n}, tile{Name: "p99 " + part.name, Value: p99, Note: n})
	}
	answered := tile{Name: "Answered ok", Value: "unknown", Note: fmt.Sprintf("%s of %s due", count(v.Load.OK), count(v.Load.Scheduled))}
	if v.Throughput.All != nil {
		answered.Value = rate(*v.Throughput.All)
	}
	generator := tile{Name: "Load generator", Value: string(v.Load.Generator), Note: "send lag p99 " + maybe(v.Load.SendLag.P99), Bad: v.Load.Generator != stats.Valid}
	switch {
	case v.FindMax != nil:
		tiles = append([]tile{kneeTile(v.FindMax)}, append(tiles, answered, generator)...)
	default: // below one another: steady, during faults
		tiles = []tile{tiles[0], tiles[1], answered, tiles[2], tiles[3], generator}
	}
	return tiles
}

// steadyTile is the longest time that a fault took until the system was steady
// again.
func (v *Verdict) steadyTile() tile {
	t := tile{Name: "Steady again, longest", Value: "–", Note: "no fault was injected"}
	injected, steady, longest := 0, 0, time.Duration(0)
	for i := range v.Faults {
		r := v.Faults[i].Recovery
		if r == nil {
			continue
		}
		injected++
		if r.Steady != nil {
			steady++
			longest = max(longest, *r.Steady)
		}
	}
	switch {
	case injected == 0:
	case steady == injected:
		t.Value, t.Note = duration(longest), "after the injection, of "+plural(int64(injected), "fault")
	default:
		t.Value, t.Note, t.Bad = "not seen", fmt.Sprintf("after %d of %s", injected-steady, plural(int64(injected), "fault")), true
	}
	return t
}

// outageTile is the longest outage of all faults.
func (v *Verdict) outageTile() tile {
	t := tile{Name: "Outage, longest", Value: "–", Note: "no fault was injected"}
	var longest *time.Duration
	injected, dead := 0, 0
	for i := range v.Faults {
		r := v.Faults[i].Recovery
		if r == nil {
			continue
		}
		injected++
		dead += r.KeysDead
		if r.Outage.Max != nil && (longest == nil || *r.Outage.Max >= *longest) {
			longest = r.Outage.Max
			t.Note = fmt.Sprintf("of a key; p50 %s, %s", maybe(r.Outage.P50), plural(int64(r.Outage.N), "key"))
		}
	}
	switch {
	case dead > 0:
		t.Value, t.Note, t.Bad = "no end", plural(int64(dead), "key")+" never answered again", true
	case longest != nil:
		t.Value = duration(*longest)
	case injected > 0:
		t.Value, t.Note = "unknown", "no traffic that could tell"
	}
	return t
}

func (v *Verdict) latencyGrid() grid {
	g := grid{Name: "Latency", Figures: true, Head: append([]string{"of"}, latencyColumns...)}
	for _, r := range v.latencies() {
		g.row(false, append([]string{clip(r.name, shortText)}, r.cells()...)...)
	}
	return g
}

func (v *Verdict) faultGrid() grid {
	g := grid{Name: "Faults", Head: []string{"fault", "what", "requested", "injected", "recovered", "evidence", "detail"}}
	for i := range v.Faults {
		f := &v.Faults[i]
		mark := "? "
		switch f.Evidence.Verdict {
		case history.Confirmed:
			mark = "✓ "
		case history.Mismatch:
			mark = "✗ "
		}
		g.row(!f.confirmed(), f.Name, f.what(), instantOr(f.Requested), instantOr(f.Injected), instantOr(f.Recovered),
			mark+string(f.Evidence.Verdict), f.Evidence.Detail)
	}
	return g
}

func (v *Verdict) recoveryGrid() grid {
	g := grid{Name: "Recovery", Figures: true, Head: recoveryColumns}
	for i := range v.Faults {
		g.row(false, v.Faults[i].recoveryCells()...)
	}
	return g
}

func (v *Verdict) checkGrid() grid {
	g := grid{Name: "Checks", Head: []string{"check", "verdict", "what it judged and found"}}
	searches := v.searches()
	for _, r := range v.Checks {
		g.row(r.Verdict == check.Violated, r.Name, marked(r.Verdict), judged(r))
		row := &g.Rows[len(g.Rows)-1]
		for range searched(r) {
			row.Files = append(row.Files, searches[0].Name)
			searches = searches[1:]
		}
	}
	return g
}

func (v *Verdict) expectationGrid() grid {
	g := grid{Name: "Expectations", Head: []string{"expectation", "limit", "measured", "verdict"}}
	for _, x := range v.Expectations {
		measured, met := "unknown", "✗ MISSED"
		if x.Measured != nil {
			measured = *x.Measured
		}
		if x.Met {
			met = "✓ met"
		}
		g.row(!x.Met, x.Name, x.Limit, measured, met)
	}
	return g
}

func (v *Verdict) resourceGrid() grid {
	g := grid{Name: "Resources", Figures: true, Head: []string{"node", "CPU", "largest RSS", "written to disk", "starts"}}
	nodes := slices.Sorted(maps.Keys(v.Resources))
	for _, node := range nodes[:min(len(nodes), 100)] {
		r := v.Resources[node]
		g.row(false, clip(node, shortText), fmt.Sprintf("%.1f s", r.CPU), bytesOf(r.RSSMax), bytesOf(r.DiskBytes), count(int64(r.Starts)))
	}
	r := v.GeneratorResources
	g.row(false, "load generator", fmt.Sprintf("%.1f s", r.CPU), bytesOf(r.RSSMax), "", "")
	return g
}

func (v *Verdict) environmentGrid() grid {
	g := grid{Name: "Environment"}
	item := func(name, text string) {
		if text != "" {
			g.row(false, name, text)
		}
	}
	item("scenario", fmt.Sprintf("%s, seed %d", v.Scenario, v.Seed))
	item("system", v.System.about())
	load := v.Load.about(v.AnsweredWithin)
	item("load", load[0])
	item("load generator", strings.TrimPrefix(load[1], "generator "))
	item("machine", v.Machine.about())
	item("statequake", v.Statequake)
	item("isolation", v.Isolation)
	return g
}

// violationViews explains violations, of every kind one before a second of any,
// and says how many there are in all if not all are shown.
func (v *Verdict) violationViews() (views []violationView, found string) {
	all, total := violationsByKind(v)
	shown := all[:min(len(all), htmlViolations)]
	if total > len(shown) {
		found = fmt.Sprintf("%d of %s shown.", len(shown), plural(int64(total), "violation"))
	}
	ops := map[string]*history.Op{}
	for _, violation := range shown {
		for _, id := range violation.Ops {
			ops[id] = nil
		}
	}
	for i := range v.evidence.Ops {
		op := &v.evidence.Ops[i]
		if have, wanted := ops[op.ID]; wanted && have == nil {
			ops[op.ID] = op
		}
	}
	for i, violation := range shown {
		view := violationView{
			Open: i < shownViolations,
			Kind: clip(violation.Kind, shortText), On: clip(violation.Entity+"/"+violation.Key, shortText), Explains: clip(violation.Explanation, longText),
			Ops: grid{Name: "Operations", Head: []string{"operation", "what", "due", "sent", "returned", "outcome", "result", "version", "epoch", "node"}},
		}
		view.tell(v, violation, i)
		var known []*history.Op
		var lost []string
		for _, id := range violation.Ops {
			if op := ops[id]; op != nil {
				known = append(known, op)
			} else {
				lost = append(lost, id)
			}
		}
		slices.SortStableFunc(known, func(a, b *history.Op) int { return cmp.Compare(started(a), started(b)) })
		for _, op := range known[:min(len(known), htmlViolationOps)] {
			view.Ops.row(false, opCells(op)...)
		}
		for _, id := range lost[:min(len(lost), htmlViolationOps-len(view.Ops.Rows))] {
			view.Ops.row(true, clip(id, nameText), "not in the history", "", "", "", "", "", "", "", "")
		}
		view.More = len(violation.Ops) - len(view.Ops.Rows)
		views = append(views, view)
	}
	return views, found
}

// tell adds the story of the violation, and its drawing if it is one of the
// first.
func (view *violationView) tell(v *Verdict, x check.Violation, nth int) {
	s := v.story(x)
	if len(s.Events) > 0 {
		for _, text := range s.Lines() {
			view.Story = append(view.Story, clip(strings.TrimSpace(text), longText))
		}
	}
	if nth < drawnViolations {
		view.Drawing = draw(nth, view.On, s, view.Story)
	}
	if strings.HasPrefix(s.Conclusion, x.Explanation) && len(view.Story) > 0 {
		view.Story = view.Story[:len(view.Story)-1] // it stands above
	}
	if view.Alone, view.Again = v.again(x, "."); view.Again != "" {
		view.Folder = excerptsDir + "/" + v.excerptOf(x).name + "/"
	}
}

// started is when an operation was sent, or was due if it never was.
func started(op *history.Op) time.Duration {
	if op.Outcome == history.Unsent {
		return op.Scheduled
	}
	return op.Sent
}

func opCells(op *history.Op) []string {
	sent, returned, version, epoch := "–", "–", "–", "–"
	if op.Outcome != history.Unsent {
		sent, returned = precisely(op.Sent), precisely(op.Returned)
	}
	if op.Version >= 0 {
		version = count(op.Version)
	}
	if op.Epoch != 0 {
		epoch = count(op.Epoch)
	}
	outcome := string(op.Outcome)
	if op.Error != "" {
		outcome += ": " + op.Error
	}
	what := op.Name
	if len(op.Args) > 0 {
		what += " " + string(op.Args)
	}
	if op.Phase != history.Load {
		what += " (" + string(op.Phase) + ")"
	}
	return []string{
		clip(op.ID, nameText), clip(what, shortText), precisely(op.Scheduled), sent, returned,
		clip(outcome, shortText), clip(string(op.Result), shortText), version, epoch, clip(cmp.Or(op.Node, op.Via), shortText),
	}
}

// precisely writes a point of the run clock to the microsecond, which tells
// operations of one moment apart.
func precisely(d time.Duration) string { return fmt.Sprintf("%.6f s", d.Seconds()) }
