// Package plot draws a recorded run as static pictures.
package plot

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"statequake/history"
	"statequake/reports/stats"
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

// Write draws the operations of the load phase into the folder plots of the run
// directory dir, which it creates if need be, each picture as SVG and as PNG:
//
//   - latency: p50, p99 and maximum of the operations answered ok, by the time
//     when they were due;
//   - percentiles: the distribution of the same latencies, steady and during
//     faults;
//   - throughput: operations due, answered ok, and not, per second. An operation
//     counts when it returned, an unsent one when it was due; what returned after
//     the load is not shown.
//
// Times on the axes are on the run clock. The same run and input give the same
// bytes, whatever the time and the machine's fonts. A run without an operation
// to show gives pictures that say so.
//
// Nothing is written unless everything could be drawn, and each file is replaced
// as a whole or not at all.
func Write(dir string, run *history.Run, in Input) error {
	in.Load.To = max(in.Load.To, in.Load.From+shortest)
	m := measure(run, in)
	type file struct {
		name string
		data []byte
	}
	var files []file
	for _, picture := range []struct {
		name  string
		chart *chart
	}{
		{"latency", latencyChart(m, in)},
		{"percentiles", percentileChart(m, in)},
		{"throughput", throughputChart(m, in)},
	} {
		svg, err := picture.chart.svg()
		if err != nil {
			return fmt.Errorf("draw %s.svg: %w", picture.name, err)
		}
		png, err := picture.chart.png()
		if err != nil {
			return fmt.Errorf("draw %s.png: %w", picture.name, err)
		}
		files = append(files, file{picture.name + ".svg", svg}, file{picture.name + ".png", png})
	}

	dir = filepath.Join(dir, "plots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write plots: %w", err)
	}
	for _, f := range files {
		if err := replace(filepath.Join(dir, f.name), f.data); err != nil {
			return fmt.Errorf("write plots: %w", err)
		}
	}
	return nil
}

// svg renders the chart. gonum names the one font it measured with; its
// metric-compatible relatives stand in where that is not installed.
func (c *chart) svg() ([]byte, error) {
	canvas := vgsvg.New(width, height)
	c.draw(draw.New(canvas))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, err
	}
	// Text of the run cannot hold the quote: it is escaped there.
	return bytes.ReplaceAll(out.Bytes(),
		[]byte(`style="font-family:Liberation Sans;`),
		[]byte(`style="font-family:'Liberation Sans',Arial,Helvetica,sans-serif;`)), nil
}

// png renders the chart at two pixels per CSS pixel, for screens that have them.
func (c *chart) png() ([]byte, error) {
	canvas := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(2*vgimg.DefaultDPI))}
	c.draw(draw.New(canvas))
	var out bytes.Buffer
	_, err := canvas.WriteTo(&out)
	return out.Bytes(), err
}

// replace puts a file with the data at path, whatever was there.
func replace(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
