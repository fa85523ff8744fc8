package plot

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	gonum "gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// The size of a picture: 640 by 384 CSS pixels. Text is large enough for it to
// be shown at half that width.
const (
	width  vg.Length = 480
	height vg.Length = 288
	margin vg.Length = 8
)

// Colours that people with any colour vision tell apart: M. Okabe, K. Ito,
// Color Universal Design, 2008. Lines differ in their dashes too.
var (
	black     = color.RGBA{A: 255}
	blue      = color.RGBA{R: 0x00, G: 0x72, B: 0xB2, A: 255}
	vermilion = color.RGBA{R: 0xD5, G: 0x5E, B: 0x00, A: 255}
	orange    = color.RGBA{R: 0xE6, G: 0x9F, B: 0x00, A: 255}
	tint      = color.RGBA{R: 0xFC, G: 0xEF, B: 0xD5, A: 255} // orange under white
	grey      = color.RGBA{R: 0xE2, G: 0xE2, B: 0xE2, A: 255}

	middleGrey = color.RGBA{R: 0x80, G: 0x80, B: 0x80, A: 255}
	white      = color.RGBA{R: 255, G: 255, B: 255, A: 255}
)

// stroke is a line style; widths and dashes are in points.
func stroke(c color.Color, width vg.Length, dashes ...vg.Length) draw.LineStyle {
	return draw.LineStyle{Color: c, Width: width, Dashes: dashes}
}

// letters is a text style in the one font of all pictures, which is part of
// gonum and not of the machine.
func letters(size vg.Length) text.Style {
	return text.Style{
		Color: black, Font: font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size),
		XAlign: text.XLeft, YAlign: text.YBottom, Handler: gonum.DefaultTextHandler,
	}
}

var (
	titleText = letters(12)
	usualText = letters(10.5)
	faultText = letters(9.5)
)

// chart is one picture: a title, a legend, the names of the faults over their
// bands, and the axes.
type chart struct {
	what, name, n string // the title's parts
	plot          *gonum.Plot
	log           bool   // y is the decimal logarithm of a line's values
	lines         []line // the first one on top
	note          string // at the end of the legend
	empty         string // why there are no lines
	bands         []band // by from
}

// band is the part of the time axis in which a fault was active, in seconds.
type band struct {
	name     string
	from, to float64
}

func newChart(what, name, n string) *chart {
	c := &chart{what: what, name: printable(name), n: n, plot: gonum.New()}
	c.plot.BackgroundColor = nil // it would cover the bands
	for _, axis := range []*gonum.Axis{&c.plot.X, &c.plot.Y} {
		axis.Label.TextStyle.Font = usualText.Font
		axis.Tick.Label.Font = usualText.Font
		axis.Label.Padding = 3
		axis.Padding = 0
		axis.Min, axis.Max = 0, 1
		axis.Tick.Marker = marks{}
	}
	return c
}

// timeAxis makes x the load on the run clock, with the bands of the faults.
func (c *chart) timeAxis(in Input) {
	from, to := in.Load.From, in.Load.To
	x := &c.plot.X
	x.Min, x.Max = from.Seconds(), to.Seconds()
	x.Label.Text = timeLabel
	x.Tick.Marker = timeTicks{}
	for _, f := range in.Faults {
		end := f.To
		if end <= f.From || end > to {
			end = to
		}
		if begin := max(f.From, from); begin < end {
			c.bands = append(c.bands, band{printable(f.Name), begin.Seconds(), end.Seconds()})
		}
	}
	slices.SortStableFunc(c.bands, func(a, b band) int { return cmp.Compare(a.from, b.from) })
}

// logAxis makes y logarithmic with room for low to high, at least a decade.
// (gonum's own LogScale reserves room for the axis label in the wrong place.)
func (c *chart) logAxis(low, high float64) {
	low, high = low/1.15, high*1.15
	if high < 10*low {
		middle := math.Sqrt(low * high)
		low, high = middle/math.Sqrt(10), middle*math.Sqrt(10)
	}
	y := &c.plot.Y
	y.Min, y.Max = math.Log10(low), math.Log10(high)
	y.Tick.Marker = logTicks{}
	c.log = true
}

func (c *chart) draw(canvas draw.Canvas) {
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	area := draw.Crop(canvas, margin, -margin, margin, -margin)

	title := c.what + ": " + c.name + " (" + c.n + ")"
	if over := titleText.Width(title) - (area.Max.X - area.Min.X); over > 0 {
		title = c.what + ": " + fit(titleText, c.name, titleText.Width(c.name)-over) + " (" + c.n + ")"
	}
	area.Max.Y -= 12
	area.FillText(titleText, vg.Point{X: area.Min.X, Y: area.Max.Y}, title)
	area.Max.Y -= 18
	legend := vg.Point{X: area.Min.X, Y: area.Max.Y}
	area.Max.Y -= 7

	// Rows above the axes do not change how seconds map to x.
	p := c.plot
	data := p.DataCanvas(area)
	x := func(v float64) vg.Length { return data.X(p.X.Norm(v)) }
	labels, rows, unnamed := c.place(data.Rectangle, x)
	c.legend(area, legend, unnamed)
	area.Max.Y -= vg.Length(rows)*rowHeight + 3
	data = p.DataCanvas(area)
	y := func(v float64) vg.Length {
		if c.log {
			v = math.Log10(v)
		}
		return data.Y(p.Y.Norm(v))
	}

	for _, b := range c.shades() {
		left, right := x(b.from), x(b.to)
		fillBox(data, tint, left, max(right, left+1), data.Min.Y, data.Max.Y)
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = grey, grey
	grid.Vertical.Width, grid.Horizontal.Width = 0.5, 0.5
	grid.Plot(data, p)
	p.Draw(area)
	for _, l := range slices.Backward(c.lines) {
		l.draw(data, x, y)
	}
	for _, l := range labels {
		bottom := data.Max.Y + 2 + vg.Length(l.row)*rowHeight
		fillBox(data, orange, x(l.from), max(x(l.to), x(l.from)+1), bottom, bottom+2)
		data.FillText(faultText, vg.Point{X: l.left, Y: bottom + 4}, l.name)
	}
	if c.empty != "" {
		style := usualText
		style.XAlign, style.YAlign = text.XCenter, text.YCenter
		data.FillText(style, data.Center(), c.empty)
	}
}

// legend names the lines from left to right, then what the bands are.
func (c *chart) legend(canvas draw.Canvas, at vg.Point, unnamed int) {
	const sample, gap, between = 20, 4, 14
	middle := at.Y + 3.5
	put := func(name string) {
		canvas.FillText(usualText, vg.Point{X: at.X, Y: at.Y}, name)
		at.X += usualText.Width(name) + between
	}
	for _, l := range c.lines {
		canvas.StrokeLine2(l.style, at.X, middle, at.X+sample, middle)
		at.X += sample + gap
		put(l.name)
	}
	if len(c.bands) > 0 {
		fillBox(canvas, tint, at.X, at.X+sample, middle-4, middle+4)
		fillBox(canvas, orange, at.X, at.X+sample, middle+4, middle+6)
		at.X += sample + gap
		name := "fault"
		if unnamed > 0 {
			name = fmt.Sprintf("fault (%d not named)", unnamed)
		}
		put(name)
	}
	if c.note != "" {
		put(c.note)
	}
}

// label is the name of a band with its place above the axes.
type label struct {
	band
	row  int // from 0 upwards
	left vg.Length
}

const (
	rowHeight = vg.Length(15)
	maxRows   = 3
)

// place finds places for the names of the bands, so that no two overlap, neither
// the text nor the bar that shows how long the fault lasted. It returns the rows
// needed, and how many bands found no place.
func (c *chart) place(data vg.Rectangle, x func(float64) vg.Length) (labels []label, rows, unnamed int) {
	const gap, least = 6, 30 // least bounds the number of labels, whatever the names
	var ends [maxRows]vg.Length
	for i := range ends {
		ends[i] = data.Min.X - gap
	}
	for _, b := range c.bands {
		l := label{band: b, row: -1}
		l.name = fit(faultText, b.name, (data.Max.X-data.Min.X)/3)
		long := max(faultText.Width(l.name), least)
		l.left = min(x(b.from), data.Max.X-long)
		for row := range ends {
			if l.left >= ends[row]+gap {
				l.row = row
				break
			}
		}
		if l.row < 0 {
			unnamed++
			continue
		}
		ends[l.row] = max(l.left+long, x(b.to))
		rows = max(rows, l.row+1)
		labels = append(labels, l)
	}
	return labels, rows, unnamed
}

// shades returns the bands as few boxes: those that overlap, or nearly touch,
// as one.
func (c *chart) shades() []band {
	near := (c.plot.X.Max - c.plot.X.Min) / 300
	var out []band
	for _, b := range c.bands {
		if n := len(out); n > 0 && b.from <= out[n-1].to+near {
			out[n-1].to = max(out[n-1].to, b.to)
			continue
		}
		out = append(out, b)
	}
	return out
}

func fillBox(c draw.Canvas, fill color.Color, left, right, bottom, top vg.Length) {
	c.FillPolygon(fill, []vg.Point{{X: left, Y: bottom}, {X: right, Y: bottom}, {X: right, Y: top}, {X: left, Y: top}})
}

// longestName is the most characters that are looked at of a name.
const longestName = 200

// printable makes a text that a system or a file may have sent fit for one line
// of XML: any space becomes a plain one, what cannot be printed U+FFFD.
func printable(s string) string {
	var out strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > longestName {
			out.WriteRune('…')
			break
		}
		switch {
		case unicode.IsSpace(r):
			r = ' '
		case !unicode.IsPrint(r):
			r = unicode.ReplacementChar
		}
		out.WriteRune(r)
	}
	return out.String()
}

// fit cuts s so that it is at most wide, and says so by an ellipsis.
func fit(style text.Style, s string, wide vg.Length) string {
	if style.Width(s) <= wide {
		return s
	}
	runes := []rune(s)
	for len(runes) > 0 && style.Width(string(runes)+"…") > wide {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…"
}

// marks are ticks that do not depend on the range.
type marks []gonum.Tick

func (m marks) Ticks(_, _ float64) []gonum.Tick { return m }

// linearTicks is about how many ticks an axis has at most, at round values.
type linearTicks int

func (n linearTicks) Ticks(low, high float64) []gonum.Tick {
	step := niceStep((high - low) / float64(n))
	decimals := max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	var out []gonum.Tick
	for i := math.Ceil(low/step - 1e-9); i*step <= high+1e-9*step; i++ {
		v := i*step + 0 // never -0
		out = append(out, gonum.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', decimals, 64)})
	}
	return out
}

// timeTicks are linear ones with as many labels as fit side by side.
type timeTicks struct{}

func (timeTicks) Ticks(low, high float64) []gonum.Tick {
	const room, gap = 360, 8
	for n := linearTicks(11); ; n-- {
		ticks := n.Ticks(low, high)
		var wide vg.Length
		for _, t := range ticks {
			wide += usualText.Width(t.Label) + gap
		}
		if wide <= room || n == 1 {
			return ticks
		}
	}
}

// logTicks are for an axis of decimal logarithms: marks at 1 to 9 times each
// power of ten. They name 1, 2 and 5 times it where there is room, else the
// powers, or every few of them.
type logTicks struct{}

func (logTicks) Ticks(low, high float64) []gonum.Tick {
	decades := high - low
	every := math.Ceil(decades / 10)
	var out []gonum.Tick
	for power := math.Floor(low); power <= high; power++ {
		for f := 1.0; f <= 9; f++ {
			tick := gonum.Tick{Value: power + math.Log10(f)}
			if tick.Value < low || tick.Value > high {
				continue
			}
			if f == 1 && math.Mod(power, every) == 0 || decades <= 3.3 && (f == 2 || f == 5) {
				tick.Label = strconv.FormatFloat(f*math.Pow(10, power), 'f', max(0, -int(power)), 64)
			}
			out = append(out, tick)
		}
	}
	return out
}
