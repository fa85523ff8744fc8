package plot

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	gonum "gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Recovery is goodput around a fault, over runs in which it is aligned at the
// injection.
type Recovery struct {
	Title  string
	Every  time.Duration // length of a part of the time axis
	Before int           // parts before the injection
	Groups []RecoveryGroup
	Notes  []string // what the reader must know besides
}

// RecoveryGroup is one system, configuration or version.
type RecoveryGroup struct {
	Name string
	Runs []RecoveryRun
}

// RecoveryRun is one run of a group. Part i of Share lasts from
// (i - Before) * Every to (i + 1 - Before) * Every after the injection, the end
// not in it. All runs of a Recovery have as many parts.
type RecoveryRun struct {
	Name    string
	Goodput float64        // before the fault, operations answered ok per second
	Share   []float64      // of Goodput, by part
	Over    *time.Duration // from the injection to the end of the fault; nil if it was not seen
	Steady  *time.Duration // from the injection until the system was steady again; nil if never
}

// mostShare is the largest share of the goodput before the fault that is drawn:
// what had waited for the end of a fault is answered at once, and would squeeze
// the rest.
const mostShare = 2

// Files draws the recovery: recovery.svg, recovery.png, and recovery.csv, which
// holds what is drawn. The line of a group is the median over its runs, its band
// the interval that the picture names. It returns an error for no groups, for
// more than MaxGroups, and for one without runs.
func (r *Recovery) Files() ([]File, error) {
	if err := groups(len(r.Groups), func(i int) (string, int) { return r.Groups[i].Name, len(r.Groups[i].Runs) }); err != nil {
		return nil, err
	}
	var counts []int
	parts := len(r.Groups[0].Runs[0].Share)
	for _, g := range r.Groups {
		counts = append(counts, len(g.Runs))
		for _, run := range g.Runs {
			if len(run.Share) != parts {
				return nil, fmt.Errorf("%s/%s: %d parts, others have %d", g.Name, run.Name, len(run.Share), parts)
			}
		}
	}
	if parts == 0 {
		return nil, fmt.Errorf("no time around the fault is in all runs")
	}
	by := ruleFor(counts)
	curves := make([][]spread, len(r.Groups))
	high := 1.1
	for i, g := range r.Groups {
		for part := range parts {
			s := by.over(column(g.Runs, func(run RecoveryRun) float64 { return run.Share[part] }))
			curves[i] = append(curves[i], s)
			high = max(high, s.high)
		}
	}
	cut := high > mostShare
	high = min(high, mostShare)

	axes := newPanel(1)
	x, y := &axes.plot.X, &axes.plot.Y
	x.Label.Text = "time since the fault was injected (s)"
	x.Min, x.Max = r.at(0), r.at(parts)
	x.Tick.Marker = timeTicks{}
	y.Label.Text = "goodput (% of that before the fault)"
	y.Min, y.Max = 0, high*(1.04+0.05*float64(len(r.Groups)))
	y.Tick.Marker = percentTicks{high}
	axes.paint = func(c draw.Canvas, x, y func(float64) vg.Length) { r.paint(c, curves, x, y) }

	fig := &figure{title: r.Title, panels: []*panel{axes}}
	for i := range r.Groups {
		g := &r.Groups[i]
		fig.legend = append(fig.legend, entry{g.about(fit(usualText, printable(g.Name), longestGroup)), func(c draw.Canvas, at vg.Point) {
			if len(g.Runs) > 1 {
				fillBox(c, light(looks[i].color, bandAlpha), at.X, at.X+sampleWidth, at.Y-5, at.Y+5)
			}
			c.StrokeLine2(looks[i].line(1.8), at.X, at.Y, at.X+sampleWidth, at.Y)
		}})
	}
	fig.legend = append(fig.legend,
		entry{"fault in force", func(c draw.Canvas, at vg.Point) { fillBox(c, black, at.X, at.X+sampleWidth, at.Y-1.5, at.Y+1.5) }},
		entry{"steady again", func(c draw.Canvas, at vg.Point) {
			c.DrawGlyph(draw.GlyphStyle{Color: black, Radius: 4, Shape: draw.PyramidGlyph{}}, vg.Point{X: at.X + sampleWidth - 6, Y: at.Y - 1})
		}})
	about := "Line: median over runs; band: " + by.words() + ". Each point: " + partText(r.Every) + "."
	if slices.Max(counts) == 1 {
		about = "Each group is one run, without a band. Each point: " + partText(r.Every) + "."
	}
	if cut {
		about += fmt.Sprintf(" Cut off at %d %%: what had waited is answered at once.", mostShare*100)
	}
	fig.notes = append([]string{about}, r.Notes...)
	files, err := fig.files("recovery")
	if err != nil {
		return nil, err
	}
	data, err := r.csv(curves)
	return append(files, File{"recovery.csv", data}), err
}

const (
	bandAlpha    = 0.22
	longestGroup = vg.Length(140) // of its name in the legend
)

// at is where part i begins, in seconds after the injection.
func (r *Recovery) at(i int) float64 { return float64(i-r.Before) * r.Every.Seconds() }

// About says whose line it is, of how many runs, and the medians of when the fault
// was over and when the system was steady again.
func (g *RecoveryGroup) About() string { return g.about(printable(g.Name)) }

func (g *RecoveryGroup) about(name string) string {
	when := func(what, never string, of func(RecoveryRun) *time.Duration) string {
		s := rule{}.over(column(g.Runs, seconds(of)))
		switch s.n {
		case 0:
			return never
		case len(g.Runs):
			return fmt.Sprintf("%s at %.2f s", what, s.median)
		}
		return fmt.Sprintf("%s at %.2f s (in %d of %d)", what, s.median, s.n, len(g.Runs))
	}
	goodput := rule{}.over(column(g.Runs, func(r RecoveryRun) float64 { return r.Goodput })).median
	return fmt.Sprintf("%s, n = %d, 100 %% = %.4g/s; %s, %s", name, len(g.Runs), goodput,
		when("fault over", "end of the fault not seen", overOf), when("steady", "never steady", steadyOf))
}

func overOf(r RecoveryRun) *time.Duration   { return r.Over }
func steadyOf(r RecoveryRun) *time.Duration { return r.Steady }

func seconds(of func(RecoveryRun) *time.Duration) func(RecoveryRun) float64 {
	return func(r RecoveryRun) float64 {
		if d := of(r); d != nil {
			return d.Seconds()
		}
		return math.NaN()
	}
}

func (r *Recovery) paint(c draw.Canvas, curves [][]spread, x, y func(float64) vg.Length) {
	top := func(v float64) vg.Length { return y(min(v, mostShare)) }
	middle := func(i int) vg.Length { return x(r.at(i) + r.Every.Seconds()/2) }
	c.StrokeLine2(stroke(middleGrey, 0.8), c.Min.X, y(1), c.Max.X, y(1))
	for i, curve := range curves {
		if len(r.Groups[i].Runs) < 2 {
			continue
		}
		var outline []vg.Point
		for part, s := range curve {
			outline = append(outline, vg.Point{X: middle(part), Y: top(s.high)})
		}
		for part := len(curve) - 1; part >= 0; part-- {
			outline = append(outline, vg.Point{X: middle(part), Y: top(curve[part].low)})
		}
		c.FillPolygon(light(looks[i].color, bandAlpha), outline)
	}
	for i, curve := range curves {
		var line []vg.Point
		for part, s := range curve {
			line = append(line, vg.Point{X: middle(part), Y: top(s.median)})
		}
		c.StrokeLines(looks[i].line(1.6), line)
	}
	c.StrokeLine2(stroke(black, 1.2), x(0), c.Min.Y, x(0), c.Max.Y)
	c.FillText(usualText, vg.Point{X: x(0) - 4 - usualText.Width("injected"), Y: c.Min.Y + 4}, "injected")
	for i := range r.Groups {
		ink, at := looks[i].color, c.Max.Y-5-vg.Length(i)*markHeight
		if over := middleOf(r.Groups[i].Runs, overOf); !math.IsNaN(over) {
			fillBox(c, ink, x(0), min(x(over), c.Max.X), at-1.5, at+1.5)
		}
		if steady := middleOf(r.Groups[i].Runs, steadyOf); !math.IsNaN(steady) && x(steady) <= c.Max.X {
			c.DrawGlyph(draw.GlyphStyle{Color: ink, Radius: 4, Shape: draw.PyramidGlyph{}}, vg.Point{X: x(steady), Y: at - 1})
		}
	}
}

// markHeight is the height of a row of marks at the top of the axes.
const markHeight = vg.Length(10)

// middleOf is the median over the runs in which there was such an instant, in
// seconds after the injection; NaN if there was none.
func middleOf(runs []RecoveryRun, of func(RecoveryRun) *time.Duration) float64 {
	return rule{}.over(column(runs, seconds(of))).median
}

// percentTicks are of shares.
type percentTicks struct{ most float64 }

func (t percentTicks) Ticks(low, _ float64) []gonum.Tick {
	ticks := linearTicks(6).Ticks(100*low, 100*t.most)
	for i := range ticks {
		ticks[i].Value /= 100
	}
	return ticks
}

func (r *Recovery) csv(curves [][]spread) ([]byte, error) {
	rows := [][]string{{"group", "n", "from_s", "to_s", "share_median", "share_low", "share_high", "goodput_before_per_s"}}
	for i := range r.Groups {
		g := &r.Groups[i]
		before := rule{}.over(column(g.Runs, func(run RecoveryRun) float64 { return run.Goodput })).median
		for part, s := range curves[i] {
			rows = append(rows, []string{g.Name, strconv.Itoa(s.n), number(r.at(part)), number(r.at(part + 1)), number(s.median), number(s.low), number(s.high), number(before)})
		}
	}
	return table(rows)
}

// PartLength is a length of Recovery.Every that suits a time axis.
func PartLength(axis time.Duration) time.Duration { return bucketLength(axis) }
