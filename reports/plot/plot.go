// Package plot draws static pictures of one recorded run, or of several groups of
// runs.
package plot

import (
	"bytes"
	"fmt"
	"time"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"statequake/reports/stats"
	"statequake/reports/trace"
)

// Fault is a fault as a band over the time axis, on the run clock: From, when
// it was requested, belongs to it, To, when it was seen to be over, does not. A
// To that is not after From says that it never was: the band ends with the load.
type Fault struct {
	Name     string
	From, To time.Duration
}

// Input is what the pictures show besides the operations themselves.
type Input struct {
	Title     string         // the scenario's name; any text, cut where it does not fit
	Load      stats.Window   // the load phase, the range of the time axes; see stats.LoadWindow; drawn as at least 100 ms
	Faults    []Fault        // may overlap; parts outside the load are not shown
	Disturbed []stats.Window // operations due or on their way then count as during faults, as in stats.Config
}

// File is a rendered picture.
type File struct {
	Name string // such as latency.svg
	Data []byte
}

// Render draws the operations of the load phase of one run, each picture as SVG and as PNG:
//
//   - latency: p50, p99 and maximum of the operations answered ok, by the time
//     when they were due;
//   - percentiles: the distribution of the same latencies, steady and during
//     faults;
//   - throughput: operations due, answered ok, and not, per second. An operation
//     counts when it returned, an unsent one when it was due; what returned after
//     the load is not shown.
//
// Times on the axes are on the run clock. The same operations and input give the same
// bytes, whatever the time and the machine's fonts. A run without an operation
// to show gives pictures that say so.
func Render(ops *trace.Ops, in Input) ([]File, error) {
	in.Load.To = max(in.Load.To, in.Load.From+shortest)
	m := measure(ops, in)
	var files []File
	for _, picture := range []struct {
		name  string
		chart *chart
	}{
		{"latency", latencyChart(m, in)},
		{"percentiles", percentileChart(m, in)},
		{"throughput", throughputChart(m, in)},
	} {
		drawn, err := both(picture.name, height, picture.chart.draw)
		if err != nil {
			return nil, err
		}
		files = append(files, drawn...)
	}
	return files, nil
}

// both renders a picture as SVG and as PNG.
func both(name string, high vg.Length, paint func(draw.Canvas)) ([]File, error) {
	svg, err := asSVG(high, paint)
	if err != nil {
		return nil, fmt.Errorf("draw %s.svg: %w", name, err)
	}
	png, err := asPNG(high, paint)
	if err != nil {
		return nil, fmt.Errorf("draw %s.png: %w", name, err)
	}
	return []File{{name + ".svg", svg}, {name + ".png", png}}, nil
}

// asSVG renders a picture. gonum names the one font it measured with; its
// metric-compatible relatives stand in where that is not installed.
func asSVG(high vg.Length, paint func(draw.Canvas)) ([]byte, error) {
	canvas := vgsvg.New(width, high)
	paint(draw.New(canvas))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, err
	}
	// Text of the run cannot hold the quote: it is escaped there.
	return bytes.ReplaceAll(out.Bytes(),
		[]byte(`style="font-family:Liberation Sans;`),
		[]byte(`style="font-family:'Liberation Sans',Arial,Helvetica,sans-serif;`)), nil
}

// asPNG renders a picture at two pixels per CSS pixel, for screens that have them.
func asPNG(high vg.Length, paint func(draw.Canvas)) ([]byte, error) {
	canvas := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, high), vgimg.UseDPI(2*vgimg.DefaultDPI))}
	paint(draw.New(canvas))
	var out bytes.Buffer
	_, err := canvas.WriteTo(&out)
	return out.Bytes(), err
}
