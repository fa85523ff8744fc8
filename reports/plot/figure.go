package plot

import (
	"image/color"
	"math"
	"slices"
	"strings"

	gonum "gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// figure is a picture of several runs: a title, rows of a legend, one or more
// panels with one x axis in common, and notes below them.
type figure struct {
	title  string
	legend []entry
	panels []*panel
	notes  []string
}

// entry is one part of the legend. sample draws what it names in a box of the
// width sampleWidth, whose left middle is at the point; nil for words alone.
type entry struct {
	name   string
	sample func(c draw.Canvas, at vg.Point)
}

// panel is one pair of axes. paint draws what is between them; x and y map
// values to places on the canvas.
type panel struct {
	plot  *gonum.Plot
	share float64 // of the height of all panels together
	logX  bool
	logY  bool
	zeroY float64 // place of 0 on a logarithmic y axis, if it has one
	paint func(c draw.Canvas, x, y func(float64) vg.Length)
}

const (
	figureHeight = vg.Length(300) // with one row of legend and without notes
	lineHeight   = vg.Length(14)
	sampleWidth  = vg.Length(20)
	longestLabel = vg.Length(230) // of an axis
)

func newPanel(share float64) *panel {
	p := &panel{plot: gonum.New(), share: share}
	p.plot.BackgroundColor = nil
	for _, axis := range []*gonum.Axis{&p.plot.X, &p.plot.Y} {
		axis.Label.TextStyle.Font = usualText.Font
		axis.Tick.Label.Font = usualText.Font
		axis.Label.Padding = 3
		axis.Padding = 0
		axis.Min, axis.Max = 0, 1
	}
	return p
}

// span makes the range of an axis such that it holds low to high, by its own
// rule for logarithmic axes: see chart.logAxis.
func span(axis *gonum.Axis, log bool, low, high float64) {
	if !log {
		axis.Min, axis.Max = low, high
		axis.Tick.Marker = linearTicks(6)
		return
	}
	if high < 10*low {
		middle := math.Sqrt(low * high)
		low, high = middle/math.Sqrt(10), middle*math.Sqrt(10)
	}
	axis.Min, axis.Max = math.Log10(low), math.Log10(high)
	axis.Tick.Marker = logTicks{}
}

// files draws the figure, as name.svg and name.png.
func (f *figure) files(name string) ([]File, error) {
	const wide = width - 2*margin
	rows := f.rows(wide)
	for _, p := range f.panels {
		for _, axis := range []*gonum.Axis{&p.plot.X, &p.plot.Y} {
			axis.Label.Text = fit(usualText, printable(axis.Label.Text), longestLabel)
		}
	}
	var notes []string
	for _, n := range f.notes {
		notes = append(notes, wrap(usualText, n, wide)...)
	}
	high := figureHeight + lineHeight*vg.Length(max(0, len(rows)-1)+len(notes))
	return both(name, high, func(c draw.Canvas) { f.draw(c, rows, notes) })
}

func (f *figure) draw(canvas draw.Canvas, rows [][]entry, notes []string) {
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	area := draw.Crop(canvas, margin, -margin, margin, -margin)
	area.Max.Y -= 12
	area.FillText(titleText, vg.Point{X: area.Min.X, Y: area.Max.Y}, fit(titleText, printable(f.title), area.Max.X-area.Min.X))
	area.Max.Y -= 4
	for _, row := range rows {
		area.Max.Y -= lineHeight
		at := area.Min.X
		for _, e := range row {
			if e.sample != nil {
				e.sample(canvas, vg.Point{X: at, Y: area.Max.Y + 3.5})
				at += sampleWidth + sampleGap
			}
			area.FillText(usualText, vg.Point{X: at, Y: area.Max.Y}, e.name)
			at += usualText.Width(e.name) + entryGap
		}
	}
	area.Max.Y -= 7
	for i := len(notes) - 1; i >= 0; i-- {
		area.FillText(usualText, vg.Point{X: area.Min.X, Y: area.Min.Y}, notes[i])
		area.Min.Y += lineHeight
	}
	if len(notes) > 0 {
		area.Min.Y += 3
	}

	top, all := area.Max.Y, area.Max.Y-area.Min.Y
	areas := make([]draw.Canvas, len(f.panels))
	left := area.Min.X
	for i, p := range f.panels {
		areas[i] = area
		areas[i].Max.Y = top
		top -= vg.Length(p.share) * all
		areas[i].Min.Y = top
		if i < len(f.panels)-1 {
			areas[i].Min.Y += 6
		}
		left = max(left, p.plot.DataCanvas(areas[i]).Min.X)
	}
	for i, p := range f.panels {
		areas[i].Min.X += left - p.plot.DataCanvas(areas[i]).Min.X // the panels' axes are in line
		p.draw(areas[i])
	}
}

func (p *panel) draw(area draw.Canvas) {
	data := p.plot.DataCanvas(area)
	x := func(v float64) vg.Length {
		if p.logX {
			v = math.Log10(v)
		}
		return data.X(p.plot.X.Norm(v))
	}
	y := func(v float64) vg.Length {
		switch {
		case p.logY && v <= 0:
			v = p.zeroY
		case p.logY:
			v = math.Log10(v)
		}
		return data.Y(p.plot.Y.Norm(v))
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = grey, grey
	grid.Vertical.Width, grid.Horizontal.Width = 0.5, 0.5
	grid.Plot(data, p.plot)
	p.plot.Draw(area)
	p.paint(data, x, y)
}

const (
	sampleGap = vg.Length(4)
	entryGap  = vg.Length(14)
)

// rows breaks the legend into rows that are at most wide.
func (f *figure) rows(wide vg.Length) [][]entry {
	rows := [][]entry{nil}
	used := vg.Length(0)
	for _, e := range f.legend {
		need := vg.Length(0)
		if e.sample != nil {
			need = sampleWidth + sampleGap
		}
		e.name = fit(usualText, printable(e.name), wide-need)
		need += usualText.Width(e.name)
		last := len(rows) - 1
		if used > 0 && used+need > wide {
			rows = append(rows, nil)
			last, used = last+1, 0
		}
		rows[last] = append(rows[last], e)
		used += need + entryGap
	}
	return rows
}

// wrap breaks words into lines that are at most wide.
func wrap(style text.Style, s string, wide vg.Length) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		word = fit(style, printable(word), wide)
		switch {
		case line == "":
			line = word
		case style.Width(line+" "+word) <= wide:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	if line == "" {
		return lines
	}
	return append(lines, line)
}

// look is how one of several groups is drawn: by its colour, its dashes and its
// marker, so that each is told apart without the others.
type look struct {
	color  color.RGBA
	dashes []vg.Length
	marker draw.GlyphDrawer
}

// MaxGroups is how many groups a picture can tell apart.
const MaxGroups = 6

var looks = [MaxGroups]look{
	{blue, nil, draw.CircleGlyph{}},
	{vermilion, []vg.Length{5, 2}, draw.BoxGlyph{}},
	{color.RGBA{R: 0x00, G: 0x9E, B: 0x73, A: 255}, []vg.Length{1.5, 1.5}, draw.PyramidGlyph{}}, // bluish green
	{black, []vg.Length{7, 2, 1.5, 2}, draw.RingGlyph{}},
	{color.RGBA{R: 0xCC, G: 0x79, B: 0xA7, A: 255}, []vg.Length{3, 1}, draw.SquareGlyph{}}, // reddish purple
	{orange, []vg.Length{9, 3}, draw.TriangleGlyph{}},
}

func (l *look) line(width vg.Length) draw.LineStyle { return stroke(l.color, width, l.dashes...) }

func (l *look) mark(c draw.Canvas, radius vg.Length, at vg.Point) {
	c.DrawGlyph(draw.GlyphStyle{Color: l.color, Radius: radius, Shape: l.marker}, at)
}

// light is the colour with so much of it, on white or over others.
func light(c color.RGBA, alpha float64) color.NRGBA {
	return color.NRGBA{R: c.R, G: c.G, B: c.B, A: uint8(math.Round(255 * alpha))}
}

// errorBar draws an interval with ends across it.
func errorBar(c draw.Canvas, ink color.Color, upright bool, at, low, high vg.Length) {
	const end = vg.Length(3)
	style := stroke(ink, 1)
	if upright {
		c.StrokeLine2(style, at, low, at, high)
		c.StrokeLine2(style, at-end, low, at+end, low)
		c.StrokeLine2(style, at-end, high, at+end, high)
		return
	}
	c.StrokeLine2(style, low, at, high, at)
	c.StrokeLine2(style, low, at-end, low, at+end)
	c.StrokeLine2(style, high, at-end, high, at+end)
}

// box is a part of the canvas that is taken.
type box struct{ left, right, bottom, top vg.Length }

func (b box) meets(o box) bool {
	return b.left < o.right && o.left < b.right && b.bottom < o.top && o.bottom < b.top
}

// end is the point of the box that is closest to another.
func (b box) end(from vg.Point) vg.Point {
	return vg.Point{X: min(max(from.X, b.left), b.right), Y: min(max(from.Y, b.bottom), b.top)}
}

// lineFrom is the line from a point to the box, as small boxes along it.
func (b box) lineFrom(from vg.Point) []box {
	const parts = 10
	end := b.end(from)
	line := make([]box, parts)
	for i := range line {
		x, y := from.X+(end.X-from.X)*vg.Length(i)/parts, from.Y+(end.Y-from.Y)*vg.Length(i)/parts
		line[i] = box{x - 2, x + 2, y - 2, y + 2}
	}
	return line
}

// nearby is the distance of a name from its point up to which no line leads to it.
const nearby = 2

// beside finds the place of a name near a point, inside of data: of some places
// around the point, the near ones first, the one that hides the least. taken is
// what is drawn already, names what is written. far says that the place is so far
// off that a line must lead to it.
func beside(data vg.Rectangle, at vg.Point, name string, taken, names []box) (place vg.Point, b box, far bool) {
	const gap, ascent, descent = vg.Length(7), vg.Length(8), vg.Length(2.5)
	wide := usualText.Width(name)
	least := math.MaxInt
	for _, distance := range []vg.Length{1, 2.2, 3.6, 6, 9, 12, 16} {
		d := gap * distance
		for _, p := range []vg.Point{
			{X: at.X + d, Y: at.Y - 3.5}, {X: at.X - d - wide, Y: at.Y - 3.5},
			{X: at.X + d*0.6, Y: at.Y + d*0.8}, {X: at.X + d*0.6, Y: at.Y - d*0.8 - ascent},
			{X: at.X - d*0.6 - wide, Y: at.Y + d*0.8}, {X: at.X - d*0.6 - wide, Y: at.Y - d*0.8 - ascent},
			{X: at.X - wide/2, Y: at.Y + d}, {X: at.X - wide/2, Y: at.Y - d - ascent},
		} {
			tried := box{p.X - 1, p.X + wide + 1, p.Y - descent, p.Y + ascent}
			hidden := 0
			for _, o := range taken {
				if tried.meets(o) {
					hidden++
				}
			}
			for _, o := range names {
				if tried.meets(o) {
					hidden += 100
				}
			}
			if distance > nearby {
				line := tried.lineFrom(at)
				for _, o := range names {
					if slices.ContainsFunc(line, o.meets) {
						hidden += 4 // the line would lead through a name
					}
				}
			}
			if tried.left < data.Min.X || tried.right > data.Max.X || tried.bottom < data.Min.Y || tried.top > data.Max.Y {
				hidden += 10_000 // it would be cut off, or lie on an axis
			}
			if hidden < least {
				least, place, b, far = hidden, p, tried, distance > nearby
			}
		}
	}
	return place, b, far
}
