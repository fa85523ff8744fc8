package plot

import (
	"math"
	"time"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"statequake/reports/stats"
)

// Knee draws a search for the highest rate that keeps a latency bound:
// find_max.svg and find_max.png, with latency and goodput by requested rate. A
// level that kept the bound is a full point, one that broke it a cross, one that
// the load generator spoiled a ring. The rate found is called the knee only if the
// system was the limit. title is the scenario's name, any text; says is
// what was found, in words.
func Knee(title, says string, f *stats.FindMax) ([]File, error) {
	latency, goodput := newPanel(0.58), newPanel(0.42)
	levels := f.Levels
	low, high, most := math.Inf(1), 0.0, 0.0
	see := func(d time.Duration) {
		low, high = min(low, milliseconds(d)), max(high, milliseconds(d))
	}
	see(f.Bound.Limit)
	first, last := 1.0, 10.0
	if len(levels) > 0 {
		first, last = levels[0].Rate, levels[len(levels)-1].Rate
	}
	for i := range levels {
		l := &levels[i]
		most = max(most, l.Achieved, l.Rate)
		if l.Latency.N > 0 {
			see(l.Latency.P50)
			see(bounded(f, l))
		}
	}
	most = max(most, 1)

	// A search grows by a share from level to level.
	log := last > 4*first
	for _, p := range []*panel{latency, goodput} {
		p.logX = log
		if log {
			p.plot.X.Min, p.plot.X.Max = math.Log10(first/1.1), math.Log10(last*1.1)
			p.plot.X.Tick.Marker = logTicks{}
		} else {
			span(&p.plot.X, false, first-(last-first)*0.04, last+(last-first)*0.04)
		}
	}
	latency.logY = true
	latency.plot.Y.Label.Text = "latency (ms, log)"
	span(&latency.plot.Y, true, low/1.3, high*1.3)
	latency.zeroY = latency.plot.Y.Min
	goodput.plot.X.Label.Text = "requested rate (1/s)"
	if log {
		goodput.plot.X.Label.Text = "requested rate (1/s, log scale)"
	}
	goodput.plot.Y.Label.Text = "ok per s"
	goodput.plot.Y.Min, goodput.plot.Y.Max = 0, most*1.08
	goodput.plot.Y.Tick.Marker = linearTicks(4)

	p50, p99, ok := looks[0], looks[1], looks[2]
	bound := f.Bound.Percentile
	knee := func(c draw.Canvas, x func(float64) vg.Length) {
		if f.Knee != nil {
			c.StrokeLine2(stroke(black, 1.2), x(*f.Knee), c.Min.Y, x(*f.Knee), c.Max.Y)
		}
	}
	latency.paint = func(c draw.Canvas, x, y func(float64) vg.Length) {
		at := y(milliseconds(f.Bound.Limit))
		c.StrokeLine2(stroke(black, 1, 1.5, 2), c.Min.X, at, c.Max.X, at)
		knee(c, x)
		curve(c, levels, x, y, p50, func(l *stats.Level) float64 {
			if l.Latency.N == 0 {
				return math.NaN()
			}
			return milliseconds(l.Latency.P50)
		})
		if bound != "p50" {
			curve(c, levels, x, y, p99, func(l *stats.Level) float64 {
				if l.Latency.N == 0 {
					return math.NaN()
				}
				return milliseconds(bounded(f, l))
			})
		}
	}
	goodput.paint = func(c draw.Canvas, x, y func(float64) vg.Length) {
		var asked []vg.Point
		for i := range levels {
			asked = append(asked, vg.Point{X: x(levels[i].Rate), Y: y(levels[i].Rate)})
		}
		if len(asked) > 1 {
			c.StrokeLines(stroke(black, 0.6), asked)
		}
		knee(c, x)
		curve(c, levels, x, y, ok, func(l *stats.Level) float64 { return l.Achieved })
	}

	sample := func(l look) func(draw.Canvas, vg.Point) {
		return func(c draw.Canvas, at vg.Point) { c.StrokeLine2(l.line(1.4), at.X, at.Y, at.X+sampleWidth, at.Y) }
	}
	glyph := func(state stats.LevelState) func(draw.Canvas, vg.Point) {
		return func(c draw.Canvas, at vg.Point) {
			c.DrawGlyph(draw.GlyphStyle{Color: black, Radius: 3, Shape: stateShape(state)}, vg.Point{X: at.X + sampleWidth - 5, Y: at.Y})
		}
	}
	plain := func(s draw.LineStyle) func(draw.Canvas, vg.Point) {
		return func(c draw.Canvas, at vg.Point) { c.StrokeLine2(s, at.X, at.Y, at.X+sampleWidth, at.Y) }
	}
	fig := &figure{title: "Highest rate: " + printable(title), notes: []string{says}, panels: []*panel{latency, goodput}}
	fig.legend = append(fig.legend, entry{"p50", sample(p50)})
	if bound != "p50" {
		fig.legend = append(fig.legend, entry{percentileName(bound), sample(p99)})
	}
	fig.legend = append(fig.legend, entry{"bound", plain(stroke(black, 1, 1.5, 2))}, entry{"answered ok", sample(ok)}, entry{"requested", plain(stroke(black, 0.6))})
	if f.OfSystem() != nil {
		fig.legend = append(fig.legend, entry{"knee", plain(stroke(black, 1.2))})
	} else if f.Knee != nil {
		fig.legend = append(fig.legend, entry{"kept, at least", plain(stroke(black, 1.2))})
	}
	for _, state := range []struct {
		is   stats.LevelState
		name string
	}{{stats.Kept, "bound kept"}, {stats.Broken, "bound broken"}, {stats.ByGenerator, "spoiled by the load generator"}} {
		for i := range levels {
			if levels[i].Verdict == state.is {
				fig.legend = append(fig.legend, entry{state.name, glyph(state.is)})
				break
			}
		}
	}
	return fig.files("find_max")
}

// percentileName is a percentile as reports write it.
func percentileName(p string) string {
	if p == "p999" {
		return "p99.9"
	}
	return p
}

// bounded is the latency of a level that the bound is about.
func bounded(f *stats.FindMax, l *stats.Level) time.Duration {
	switch f.Bound.Percentile {
	case "p50":
		return l.Latency.P50
	case "p90":
		return l.Latency.P90
	case "p999":
		return l.Latency.P999
	}
	return l.Latency.P99
}

func stateShape(s stats.LevelState) draw.GlyphDrawer {
	switch s {
	case stats.Kept:
		return draw.CircleGlyph{}
	case stats.Broken:
		return draw.CrossGlyph{}
	}
	return draw.RingGlyph{}
}

// curve draws a figure of each level, interrupted where it is unknown.
func curve(c draw.Canvas, levels []stats.Level, x, y func(float64) vg.Length, l look, of func(*stats.Level) float64) {
	series := line{style: l.line(1.4)}
	for i := range levels {
		v := of(&levels[i])
		if math.IsNaN(v) {
			series.interrupt()
			continue
		}
		series.to(levels[i].Rate, v)
		defer c.DrawGlyph(draw.GlyphStyle{Color: l.color, Radius: 2.8, Shape: stateShape(levels[i].Verdict)}, vg.Point{X: x(levels[i].Rate), Y: y(v)})
	}
	series.draw(c, x, y)
}
