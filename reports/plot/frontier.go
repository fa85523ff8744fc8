package plot

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"fmt"
	"math"
	"slices"
	"strconv"

	gonum "gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Frontier is how much each of several groups of runs lost of what it had
// acknowledged, against its latency.
type Frontier struct {
	Title   string
	Latency string // name of the x axis without its unit, ms: p50 latency, steady
	Loss    string // name of the y axis with its unit
	Groups  []FrontierGroup
	Notes   []string // what the reader must know besides
}

// FrontierGroup is one system or configuration.
type FrontierGroup struct {
	Name     string
	Contract string // that its runs are judged by, such as ack: durable
	Volatile bool   // the contract allows losses
	Runs     []FrontierRun
}

// FrontierRun is one run of a group.
type FrontierRun struct {
	Name    string
	Latency float64 // ms, positive
	Loss    float64 // 0 or more
	Broken  bool    // the run broke its contract
}

// Files draws the frontier: frontier.svg, frontier.png, and frontier.csv, which
// holds what is drawn. The x axis is logarithmic, and so is the y axis above its
// break; below that is the line of 0, which has no logarithm. Every run is a small
// point, every group a large one at both medians, with its interval in both
// directions. A thin line joins the groups to which no other is better in both. It
// returns an error for no groups, for more than MaxGroups, and for one without
// runs.
func (f *Frontier) Files() ([]File, error) {
	if err := groups(len(f.Groups), func(i int) (string, int) { return f.Groups[i].Name, len(f.Groups[i].Runs) }); err != nil {
		return nil, err
	}
	var counts []int
	for _, g := range f.Groups {
		counts = append(counts, len(g.Runs))
	}
	by := ruleFor(counts)
	points := make([]frontierPoint, len(f.Groups))
	left, right, least, most := math.Inf(1), 0.0, math.Inf(1), 0.0
	broken, anyKinds := 0, map[bool]bool{}
	for i := range f.Groups {
		g := &f.Groups[i]
		p := frontierPoint{group: g, x: by.over(column(g.Runs, func(r FrontierRun) float64 { return r.Latency })),
			y: by.over(column(g.Runs, func(r FrontierRun) float64 { return r.Loss }))}
		for _, r := range g.Runs {
			left, right, most = min(left, r.Latency), max(right, r.Latency), max(most, r.Loss)
			if r.Loss > 0 {
				least = min(least, r.Loss)
			}
			if r.Broken {
				p.broken++
			}
		}
		for _, v := range []float64{p.y.median, p.y.low} {
			if v > 0 {
				least = min(least, v)
			}
		}
		broken += p.broken
		anyKinds[g.Volatile] = true
		points[i] = p
	}

	axes := newPanel(1)
	axes.logX, axes.logY = true, true
	axes.plot.X.Label.Text = f.Latency + " (ms, log scale)"
	span(&axes.plot.X, true, left/1.6, right*1.6)
	axes.plot.Y.Label.Text = f.Loss
	if most == 0 {
		least, most = 1, 1
	}
	bottom := math.Floor(math.Log10(least) + 1e-9)
	top := max(math.Log10(most*1.5), bottom+1)
	gap := (top - bottom) * 0.16
	axes.zeroY = bottom - gap
	axes.plot.Y.Min, axes.plot.Y.Max = bottom-1.5*gap, top
	axes.plot.Y.Tick.Marker = zeroTicks{axes.zeroY, bottom}
	axes.paint = func(c draw.Canvas, x, y func(float64) vg.Length) {
		breakAxis(c, c.Y(axes.plot.Y.Norm(bottom-gap/2)))
		paintFrontier(c, points, x, y)
	}

	fig := &figure{title: f.Title, panels: []*panel{axes}}
	for _, kind := range []struct {
		volatile bool
		name     string
	}{{false, "every loss breaks the contract"}, {true, "losses within the window are allowed"}} {
		if anyKinds[kind.volatile] {
			fig.legend = append(fig.legend, entry{kind.name, func(c draw.Canvas, at vg.Point) {
				c.DrawGlyph(draw.GlyphStyle{Color: black, Radius: 4, Shape: shapeOf(kind.volatile)}, vg.Point{X: at.X + sampleWidth - 6, Y: at.Y})
			}})
		}
	}
	if broken > 0 {
		fig.legend = append(fig.legend, entry{"run that broke its contract", func(c draw.Canvas, at vg.Point) {
			c.DrawGlyph(draw.GlyphStyle{Color: black, Radius: 3, Shape: draw.CrossGlyph{}}, vg.Point{X: at.X + sampleWidth - 6, Y: at.Y})
		}})
	}
	fig.notes = append([]string{"Large: medians; bars: " + by.words() + "; small: single runs. Better is lower and further left."}, f.Notes...)
	files, err := fig.files("frontier")
	if err != nil {
		return nil, err
	}
	data, err := f.csv(points)
	return append(files, File{"frontier.csv", data}), err
}

// frontierPoint is a group as it is drawn.
type frontierPoint struct {
	group  *FrontierGroup
	x, y   spread
	broken int // runs
}

// label is the name, cut where it is too long, with the number of runs, and of
// those that broke their contract.
func (p *frontierPoint) label(longest vg.Length) string {
	name := fit(usualText, printable(p.group.Name), longest)
	if p.broken > 0 {
		return fmt.Sprintf("%s (n = %d, %d broken)", name, p.x.n, p.broken)
	}
	return fmt.Sprintf("%s (n = %d)", name, p.x.n)
}

func shapeOf(volatile bool) draw.GlyphDrawer {
	if volatile {
		return draw.BoxGlyph{}
	}
	return draw.CircleGlyph{}
}

func paintFrontier(c draw.Canvas, points []frontierPoint, x, y func(float64) vg.Length) {
	var best []frontierPoint // to which none is better in both
	for _, p := range points {
		if !slices.ContainsFunc(points, func(o frontierPoint) bool {
			return o.x.median <= p.x.median && o.y.median <= p.y.median && (o.x.median < p.x.median || o.y.median < p.y.median)
		}) {
			best = append(best, p)
		}
	}
	slices.SortStableFunc(best, func(a, b frontierPoint) int { return cmp.Compare(a.x.median, b.x.median) })
	var stairs []vg.Point
	for i, p := range best {
		if i > 0 {
			stairs = append(stairs, vg.Point{X: x(p.x.median), Y: y(best[i-1].y.median)})
		}
		stairs = append(stairs, vg.Point{X: x(p.x.median), Y: y(p.y.median)})
	}
	if len(stairs) > 1 {
		c.StrokeLines(stroke(middleGrey, 0.8, 2, 2), stairs)
	}
	var taken []box
	for i := 1; i < len(stairs); i++ {
		a, b := stairs[i-1], stairs[i]
		taken = append(taken, box{min(a.X, b.X) - 1, max(a.X, b.X) + 1, min(a.Y, b.Y) - 1, max(a.Y, b.Y) + 1})
	}
	for i, p := range points {
		ink := looks[i].color
		for _, r := range p.group.Runs {
			at := vg.Point{X: x(r.Latency), Y: y(r.Loss)}
			if r.Broken {
				c.DrawGlyph(draw.GlyphStyle{Color: ink, Radius: 3, Shape: draw.CrossGlyph{}}, at)
			} else {
				c.DrawGlyph(draw.GlyphStyle{Color: light(ink, 0.45), Radius: 1.8, Shape: draw.CircleGlyph{}}, at)
			}
			taken = append(taken, box{at.X - 2, at.X + 2, at.Y - 2, at.Y + 2})
		}
	}
	for i, p := range points {
		ink := looks[i].color
		at := vg.Point{X: x(p.x.median), Y: y(p.y.median)}
		if p.x.n > 1 {
			left, right, bottom, top := x(p.x.low), x(p.x.high), y(p.y.low), y(p.y.high)
			errorBar(c, ink, false, at.Y, left, right)
			errorBar(c, ink, true, at.X, bottom, top)
			taken = append(taken, box{left, right, at.Y - 3, at.Y + 3}, box{at.X - 3, at.X + 3, bottom, top})
		}
		c.DrawGlyph(draw.GlyphStyle{Color: ink, Radius: 4, Shape: shapeOf(p.group.Volatile)}, at)
		taken = append(taken, box{at.X - 5, at.X + 5, at.Y - 5, at.Y + 5})
	}
	var names []box
	for _, i := range fromTheRight(points) {
		p := points[i]
		at := vg.Point{X: x(p.x.median), Y: y(p.y.median)}
		name := p.label((c.Max.X - c.Min.X) * 0.45)
		avoid := slices.Clone(taken)
		for j, o := range points { // a name close to another point would seem to be its
			if j != i {
				x, y := x(o.x.median), y(o.y.median)
				avoid = append(avoid, box{x - 12, x + 12, y - 12, y + 12})
			}
		}
		place, b, far := beside(c.Rectangle, at, name, avoid, names)
		if far {
			end := b.end(at)
			c.StrokeLine2(stroke(light(looks[i].color, 0.6), 0.6), at.X, at.Y, end.X, end.Y)
			taken = append(taken, b.lineFrom(at)...)
		}
		fillBox(c, light(white, 0.8), b.left, b.right, b.bottom, b.top)
		c.FillText(usualText, place, name)
		names = append(names, b)
	}
}

// fromTheRight orders points for their names: one near the right edge has the
// fewest places for it.
func fromTheRight(points []frontierPoint) []int {
	order := make([]int, len(points))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(points[b].x.median, points[a].x.median) })
	return order
}

// zeroTicks are those of a logarithmic axis with 0 below its break, at bottom.
type zeroTicks struct{ zero, bottom float64 }

func (z zeroTicks) Ticks(_, high float64) []gonum.Tick {
	return append([]gonum.Tick{{Value: z.zero, Label: "0"}}, logTicks{}.Ticks(z.bottom, high)...)
}

// breakAxis shows that the y axis is interrupted at a height.
func breakAxis(c draw.Canvas, at vg.Length) {
	fillBox(c, white, c.Min.X-5, c.Min.X+5, at-2.5, at+2.5)
	for _, d := range []vg.Length{-2.5, 2.5} {
		c.StrokeLine2(stroke(black, 0.6), c.Min.X-4, at+d-2, c.Min.X+4, at+d+2)
	}
}

func (f *Frontier) csv(points []frontierPoint) ([]byte, error) {
	rows := [][]string{{"group", "contract", "run", "n", "latency_ms", "latency_low", "latency_high", "loss", "loss_low", "loss_high", "broke_contract"}}
	for _, p := range points {
		g := p.group
		rows = append(rows, []string{g.Name, g.Contract, "", strconv.Itoa(p.x.n), number(p.x.median), number(p.x.low), number(p.x.high),
			number(p.y.median), number(p.y.low), number(p.y.high), strconv.Itoa(p.broken)})
		for _, r := range g.Runs {
			broke := "0"
			if r.Broken {
				broke = "1"
			}
			rows = append(rows, []string{g.Name, g.Contract, r.Name, "1", number(r.Latency), "", "", number(r.Loss), "", "", broke})
		}
	}
	return table(rows)
}

// column is one figure of all runs.
func column[T any](runs []T, of func(T) float64) []float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = of(r)
	}
	return values
}

// groups returns an error if n groups, each with a name and a number of runs,
// make no picture.
func groups(n int, of func(i int) (name string, runs int)) error {
	if n == 0 {
		return fmt.Errorf("no group of runs")
	}
	if n > MaxGroups {
		return fmt.Errorf("%d groups: a picture can tell %d apart", n, MaxGroups)
	}
	for i := range n {
		if name, runs := of(i); runs == 0 {
			return fmt.Errorf("%s: none of its runs can be shown", name)
		}
	}
	return nil
}

// number writes a value without what a float does not know; "" is unknown.
func number(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', 8, 64)
}

func table(rows [][]string) ([]byte, error) {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	err := w.WriteAll(rows)
	return out.Bytes(), err
}
