package plot

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	gonum "gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Scale is a figure of several groups of runs against a number that tells them
// apart.
type Scale struct {
	Title  string
	X, Y   string // names of the axes with their units
	Ideal  bool   // draw the line of a figure that grows with the number, from the first point on
	Groups []ScaleGroup
	Notes  []string // what the reader must know besides
}

// ScaleGroup is the runs with one value of the number.
type ScaleGroup struct {
	Name   string
	Series string  // groups of one series are joined by a line
	X      float64 // positive
	Runs   []ScaleRun
}

// ScaleRun is one run of a group.
type ScaleRun struct {
	Name  string
	Value float64 // not negative
}

// Files draws the scale curve: scale.svg, scale.png, and scale.csv, which holds
// what is drawn: every run as a small point, every group as a large one at its
// median, with its interval. Axes are linear from 0, or both logarithmic if the
// number grows more than sixteenfold. It returns an error for no groups, for more
// than MaxGroups series, for a group without runs, and for two groups of a series
// at one place.
func (s *Scale) Files() ([]File, error) {
	var series []string
	byName := map[string][]ScaleGroup{}
	var counts []int
	for _, g := range s.Groups {
		if len(g.Runs) == 0 {
			return nil, fmt.Errorf("%s: none of its runs can be shown", g.Name)
		}
		for _, o := range byName[g.Series] {
			if o.X == g.X {
				return nil, fmt.Errorf("%s, %s: both are at %s %s", o.Name, g.Name, s.X, number(g.X))
			}
		}
		if byName[g.Series] == nil {
			series = append(series, g.Series)
		}
		byName[g.Series] = append(byName[g.Series], g)
		counts = append(counts, len(g.Runs))
	}
	if err := groups(len(series), func(i int) (string, int) { return series[i], len(byName[series[i]]) }); err != nil {
		return nil, err
	}
	by := ruleFor(counts)
	left, right, least, most := math.Inf(1), 0.0, math.Inf(1), 0.0
	lines := make([][]scalePoint, len(series))
	var places []float64
	for i, name := range series {
		for _, g := range byName[name] {
			lines[i] = append(lines[i], scalePoint{g, by.over(column(g.Runs, func(r ScaleRun) float64 { return r.Value }))})
			left, right = min(left, g.X), max(right, g.X)
			places = append(places, g.X)
			for _, r := range g.Runs {
				most = max(most, r.Value)
				if r.Value > 0 {
					least = min(least, r.Value)
				}
			}
		}
		slices.SortFunc(lines[i], func(a, b scalePoint) int { return cmp.Compare(a.group.X, b.group.X) })
	}
	if most == 0 {
		least, most = 1, 1
	}
	high := most
	if s.Ideal { // as far as it is no more than as high again as what was measured
		for _, line := range lines {
			first, last := line[0], line[len(line)-1]
			high = max(high, min(2*most, first.y.median*last.group.X/first.group.X))
		}
	}

	axes := newPanel(1)
	x, y := &axes.plot.X, &axes.plot.Y
	x.Label.Text, y.Label.Text = s.X, s.Y
	if right > 16*left && least > 0 {
		axes.logX, axes.logY = true, true
		x.Label.Text += ", log scale"
		y.Label.Text += ", log scale"
		span(x, true, left/1.15, right*1.15)
		span(y, true, least/1.3, high*1.15)
		axes.zeroY = y.Min
	} else {
		span(x, false, 0, right*1.06)
		span(y, false, 0, high*1.08)
		if whole(places) {
			x.Tick.Marker = placeTicks(places)
		}
	}
	axes.paint = func(c draw.Canvas, x, y func(float64) vg.Length) {
		for i, line := range lines {
			if s.Ideal && len(line) > 1 {
				first := line[0]
				end := min(line[len(line)-1].group.X, first.group.X*high/first.y.median)
				c.StrokeLine2(stroke(light(looks[i].color, 0.6), 0.8, 1, 2), x(first.group.X), y(first.y.median), x(end), y(first.y.median*end/first.group.X))
			}
			var at []vg.Point
			for _, p := range line {
				at = append(at, vg.Point{X: x(p.group.X), Y: y(p.y.median)})
			}
			if len(at) > 1 {
				c.StrokeLines(looks[i].line(1.4), at)
			}
			for j, p := range line {
				for _, r := range p.group.Runs {
					c.DrawGlyph(draw.GlyphStyle{Color: light(looks[i].color, 0.45), Radius: 1.8, Shape: draw.CircleGlyph{}}, vg.Point{X: at[j].X - 7, Y: y(r.Value)})
				}
				if p.y.n > 1 {
					errorBar(c, looks[i].color, true, at[j].X, y(p.y.low), y(p.y.high))
				}
				looks[i].mark(c, 3.5, at[j])
			}
		}
	}
	fig := &figure{title: s.Title, panels: []*panel{axes}}
	for i, name := range series {
		fewest, largest := math.MaxInt, 0
		for _, p := range lines[i] {
			fewest, largest = min(fewest, p.y.n), max(largest, p.y.n)
		}
		runs := strconv.Itoa(fewest)
		if largest > fewest {
			runs += " to " + strconv.Itoa(largest)
		}
		fig.legend = append(fig.legend, entry{fmt.Sprintf("%s, n = %s a point", printable(name), runs), func(c draw.Canvas, at vg.Point) {
			c.StrokeLine2(looks[i].line(1.4), at.X, at.Y, at.X+sampleWidth, at.Y)
			looks[i].mark(c, 3.5, vg.Point{X: at.X + sampleWidth/2, Y: at.Y})
		}})
	}
	if s.Ideal {
		fig.legend = append(fig.legend, entry{"in proportion to the first point", func(c draw.Canvas, at vg.Point) {
			c.StrokeLine2(stroke(middleGrey, 0.8, 1, 2), at.X, at.Y, at.X+sampleWidth, at.Y)
		}})
	}
	fig.notes = append([]string{"Large: medians; bars: " + by.words() + "; small: single runs."}, s.Notes...)
	files, err := fig.files("scale")
	if err != nil {
		return nil, err
	}
	rows := [][]string{{"series", "group", "run", "n", "x", "value", "low", "high"}}
	for _, line := range lines {
		for _, p := range line {
			g := &p.group
			rows = append(rows, []string{g.Series, g.Name, "", strconv.Itoa(p.y.n), number(g.X), number(p.y.median), number(p.y.low), number(p.y.high)})
			for _, r := range g.Runs {
				rows = append(rows, []string{g.Series, g.Name, r.Name, "1", number(g.X), number(r.Value), "", ""})
			}
		}
	}
	data, err := table(rows)
	return append(files, File{"scale.csv", data}), err
}

// scalePoint is a group as it is drawn.
type scalePoint struct {
	group ScaleGroup
	y     spread
}

// whole reports whether all values are few whole numbers, to be named on an axis.
func whole(values []float64) bool {
	distinct := map[float64]bool{}
	for _, v := range values {
		if v != math.Trunc(v) {
			return false
		}
		distinct[v] = true
	}
	return len(distinct) <= 10
}

// placeTicks name the places of the points, and 0, as far as they are apart.
type placeTicks []float64

func (p placeTicks) Ticks(low, high float64) []gonum.Tick {
	out := []gonum.Tick{{Value: 0, Label: "0"}}
	for _, v := range slices.Compact(slices.Sorted(slices.Values(p))) {
		tick := gonum.Tick{Value: v, Label: number(v)}
		if v-out[len(out)-1].Value < (high-low)/20 {
			tick.Label = "" // it would lie on the one before
		}
		out = append(out, tick)
	}
	return out
}
