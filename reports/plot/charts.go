package plot

import (
	"fmt"
	"math"
	"time"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

const (
	timeLabel    = "time since the start of the run (s)"
	latencyLabel = "latency (ms, log scale)"
)

// latencyChart shows the latencies of ok operations by the time when they were
// due. Where none was answered the lines are interrupted.
func latencyChart(m measured, in Input) *chart {
	c := newChart("Latency", in.Title, fmt.Sprintf("n = %d ok", m.ok))
	c.timeAxis(in)
	c.plot.Y.Label.Text = latencyLabel
	p50 := line{name: "p50", style: stroke(blue, 1.6)}
	p99 := line{name: "p99", style: stroke(vermilion, 1.2, 5, 2)}
	longest := line{name: "max", style: stroke(black, 0.8, 1, 1.5)}
	low, high := math.Inf(1), math.Inf(-1)
	for i := range m.buckets {
		b := &m.buckets[i]
		if len(b.latencies) == 0 {
			for _, l := range []*line{&p50, &p99, &longest} {
				l.interrupt()
			}
			continue
		}
		x := b.middle()
		median, top := milliseconds(percentile(b.latencies, 50)), milliseconds(percentile(b.latencies, 100))
		p50.to(x, median)
		p99.to(x, milliseconds(percentile(b.latencies, 99)))
		longest.to(x, top)
		low, high = min(low, median), max(high, top)
	}
	if low > high {
		c.empty = "No operation of the load was answered ok."
		return c
	}
	c.logAxis(low, high)
	c.lines = []line{p50, p99, longest}
	c.note = "each point: " + m.length()
	return c
}

// percentileTicks are the marks of the percentile axis.
var percentileTicks = []struct {
	percent float64
	label   string
}{{50, "50"}, {90, "90"}, {99, "99"}, {99.9, "99.9"}, {99.99, "99.99"}}

// nines is the place of a percentile on its axis: 90 is at 1, 99 at 2.
func nines(percent float64) float64 { return -math.Log10(1 - percent/100) }

// percentileChart shows latency by percentile, with the same distance from 90 to
// 99 as from 99 to 99.9. A curve of n operations ends at the percentile
// 100 - 50/n, from which on the answer is the maximum.
func percentileChart(m measured, in Input) *chart {
	c := newChart("Latency percentiles", in.Title, fmt.Sprintf("n = %d ok", m.ok))
	x := &c.plot.X
	x.Label.Text = "percentile of operations answered ok (%)"
	first, last := nines(percentileTicks[0].percent), nines(percentileTicks[len(percentileTicks)-1].percent)
	x.Min, x.Max = first, last
	marks := make(marks, len(percentileTicks))
	for i, t := range percentileTicks {
		marks[i].Value, marks[i].Label = nines(t.percent), t.label
	}
	x.Tick.Marker = marks
	c.plot.Y.Label.Text = latencyLabel

	low, high := math.Inf(1), math.Inf(-1)
	for _, part := range []struct {
		name      string
		style     draw.LineStyle
		latencies []time.Duration
		shown     bool
	}{
		{"steady", stroke(blue, 1.6), m.steady, true},
		{"during faults", stroke(vermilion, 1.6, 5, 2), m.during, len(in.Disturbed) > 0},
	} {
		if !part.shown {
			continue
		}
		n := len(part.latencies)
		l := line{name: fmt.Sprintf("%s, n = %d", part.name, n), style: part.style}
		if n > 0 {
			const steps = 240
			end := nines(100 - 50/float64(n))
			for i := range steps + 1 {
				at := first + (min(end, last)-first)*float64(i)/steps
				percent := 100 * (1 - math.Pow(10, -at))
				if i == steps && end <= last {
					percent = 100 // which rank is nearest would be a matter of rounding
				}
				y := milliseconds(percentile(part.latencies, percent))
				l.to(at, y)
				low, high = min(low, y), max(high, y)
			}
		}
		c.lines = append(c.lines, l)
	}
	if low > high {
		c.empty = "No operation of the load was answered ok."
		return c
	}
	c.logAxis(low, high)
	return c
}

// throughputChart shows how many operations per second were due, answered ok,
// and not.
func throughputChart(m measured, in Input) *chart {
	c := newChart("Throughput", in.Title, fmt.Sprintf("n = %d due, %d ok", m.due, m.ok))
	c.timeAxis(in)
	c.plot.Y.Label.Text = "operations per second (1/s)"
	if m.due == 0 {
		c.empty = "The load holds no operation."
		return c
	}
	ok := line{name: "answered ok", style: stroke(blue, 1.6)}
	notOK := line{name: "not ok", style: stroke(vermilion, 1.6, 5, 2)}
	due := line{name: "due", style: stroke(black, 0.6)}
	high := 0.0
	for i := range m.buckets {
		b := &m.buckets[i]
		x, seconds := b.middle(), b.Length().Seconds()
		for _, point := range []struct {
			line *line
			n    int
		}{{&ok, b.ok}, {&notOK, b.notOK}, {&due, b.due}} {
			y := float64(point.n) / seconds
			point.line.to(x, y)
			high = max(high, y)
		}
	}
	if high == 0 {
		high = 1
	}
	y := &c.plot.Y
	y.Min, y.Max = 0, 1.08*high
	y.Tick.Marker = linearTicks(5)
	c.lines = []line{ok, notOK, due}
	c.note = "each point: " + m.length()
	return c
}

// line is a series of a chart. Drawn, it is interrupted where a value is
// missing, and a value between two gaps is a short dash.
type line struct {
	name  string
	style draw.LineStyle
	parts []plotter.XYs
	open  bool // the last part goes on
}

// to adds a point.
func (l *line) to(x, y float64) {
	if !l.open {
		l.parts = append(l.parts, nil)
		l.open = true
	}
	last := &l.parts[len(l.parts)-1]
	*last = append(*last, plotter.XY{X: x, Y: y})
}

// interrupt makes the next point begin a new part.
func (l *line) interrupt() { l.open = false }

// draw draws the line; x and y map its values to places on the canvas.
func (l *line) draw(c draw.Canvas, x, y func(float64) vg.Length) {
	for _, part := range l.parts {
		points := make([]vg.Point, 0, len(part))
		for _, p := range part {
			points = append(points, vg.Point{X: x(p.X), Y: y(p.Y)})
		}
		if len(points) == 1 {
			at := points[0]
			dash := l.style
			dash.Dashes = nil
			c.StrokeLines(dash, []vg.Point{{X: at.X - 1.5, Y: at.Y}, {X: at.X + 1.5, Y: at.Y}})
			continue
		}
		c.StrokeLines(l.style, points)
	}
}
