package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gonum "gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"pgregory.net/rapid"

	"statequake/history"
	"statequake/reports/stats"
	"statequake/reports/trace"
)

var update = flag.Bool("update", false, "write testdata anew")

const (
	ms        = time.Millisecond
	sizeLimit = 200_000 // bytes of an SVG
)

var names = []string{"latency", "percentiles", "throughput"}

func operation(at, latency time.Duration, outcome history.Outcome) history.Op {
	op := history.Op{Phase: history.Load, Scheduled: at, Sent: at, Returned: at + latency, Outcome: outcome}
	if outcome == history.Unsent {
		op.Sent, op.Returned = 0, 0
	}
	return op
}

// sample is a load of 12 s at 100/s from 2 s on. A kill at 5 s takes 1 s: half
// of what is due then waits for its end, some of it in vain. For 0.8 s from 9 s
// on nothing is answered ok.
func sample() (*history.Run, Input) {
	run := &history.Run{}
	for i := range 1200 {
		at := 2*time.Second + time.Duration(i)*10*ms
		op := operation(at, time.Duration(1000+i*7919%3000)*time.Microsecond, history.OK)
		switch {
		case at >= 5*time.Second && at < 6*time.Second && i%2 == 0:
			op.Returned = 6*time.Second + time.Duration(i%50)*ms
			if i%20 == 0 {
				op.Outcome = history.Info
			}
		case at >= 9*time.Second && at < 9800*ms:
			op.Outcome = history.Fail
		}
		run.Ops = append(run.Ops, op)
	}
	for _, phase := range []history.Phase{history.Warmup, history.Probe, history.Drain, history.Audit} {
		op := operation(3*time.Second, time.Hour, history.OK)
		op.Phase = phase
		run.Ops = append(run.Ops, op)
	}
	return run, Input{
		Title: "a sample & its <faults>",
		Load:  stats.Window{From: 2 * time.Second, To: 14 * time.Second},
		Faults: []Fault{
			{"refuse everything", 9 * time.Second, 9800 * ms},
			{"kill-owner", 5 * time.Second, 6 * time.Second},
			{"pause-follower", 5500 * ms, 7 * time.Second},
			{"never-over", 13 * time.Second, 0},
			{"before the load", time.Second, 2 * time.Second},
		},
		Disturbed: []stats.Window{{From: 5 * time.Second, To: 6 * time.Second}, {From: 9 * time.Second, To: 10 * time.Second}},
	}
}

// written returns what Render draws, by name.
func written(t *testing.T, run *history.Run, in Input) map[string][]byte {
	t.Helper()
	rendered, err := Render(&trace.Of(run).Ops, in)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range rendered {
		files[f.Name] = f.Data
	}
	return files
}

// texts returns the words of an SVG, or an error if it is not well-formed or
// holds anything but shapes and words.
func texts(svg []byte) ([]string, error) {
	var out []string
	inText := false
	for decoder := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		switch e := token.(type) {
		case xml.StartElement:
			if !slices.Contains([]string{"svg", "g", "path", "text"}, e.Name.Local) {
				return nil, fmt.Errorf("element %s", e.Name.Local)
			}
			inText = e.Name.Local == "text"
		case xml.EndElement:
			inText = false
		case xml.CharData:
			if inText {
				out = append(out, string(e))
			}
		}
	}
}

// check returns the words of the three SVGs, by name, and fails the test unless
// there are six sound pictures.
func check(t *testing.T, files map[string][]byte) map[string][]string {
	t.Helper()
	if len(files) != 2*len(names) {
		t.Errorf("have %d files, want %d", len(files), 2*len(names))
	}
	words := map[string][]string{}
	for _, name := range names {
		svg := files[name+".svg"]
		var err error
		if words[name], err = texts(svg); err != nil {
			t.Errorf("%s.svg: %v", name, err)
		}
		if len(svg) > sizeLimit {
			t.Errorf("%s.svg has %d bytes, limit %d", name, len(svg), sizeLimit)
		}
		picture, err := png.Decode(bytes.NewReader(files[name+".png"]))
		if err != nil {
			t.Errorf("%s.png: %v", name, err)
		} else if size := picture.Bounds().Size(); size.X != 1280 || size.Y != 768 {
			t.Errorf("%s.png is %v, want 1280 x 768", name, size)
		}
	}
	return words
}

func TestGolden(t *testing.T) {
	run, in := sample()
	files := written(t, run, in)
	check(t, files)
	again := written(t, run, in)
	for name, data := range files {
		if !bytes.Equal(data, again[name]) {
			t.Errorf("%s differs between two renderings", name)
		}
	}
	for _, name := range names {
		golden := filepath.Join("testdata", name+".svg")
		if *update {
			if err := os.WriteFile(golden, files[name+".svg"], 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(files[name+".svg"], want) {
			t.Errorf("%s.svg is not %s; look at it, then run go test ./reports/plot -update", name, golden)
		}
	}
}

// The order in which operations were recorded is not a property of the run.
func TestOrderOfRecordingDoesNotMatter(t *testing.T) {
	run, in := sample()
	want := written(t, run, in)
	slices.Reverse(run.Ops)
	slices.Reverse(in.Faults)
	for name, data := range written(t, run, in) {
		if !bytes.Equal(data, want[name]) {
			t.Errorf("%s depends on the order of recording", name)
		}
	}
}

func TestWords(t *testing.T) {
	run, in := sample()
	words := check(t, written(t, run, in))
	for name, want := range map[string][]string{
		"latency": {
			"Latency: a sample & its <faults> (n = 1115 ok)", "p50", "p99", "max", "fault", "each point: 200 ms",
			"kill-owner", "pause-follower", "refuse everything", "never-over", timeLabel, latencyLabel, "2", "14", "500",
		},
		"percentiles": {
			"Latency percentiles: a sample & its <faults> (n = 1115 ok)", "steady, n = 1000", "during faults, n = 115",
			"50", "90", "99", "99.9", "99.99", latencyLabel,
		},
		"throughput": {
			"Throughput: a sample & its <faults> (n = 1200 due, 1115 ok)", "answered ok", "not ok", "due",
			"kill-owner", "0", "100", timeLabel, "operations per second (1/s)",
		},
	} {
		for _, w := range want {
			if !slices.Contains(words[name], w) {
				t.Errorf("%s: no %q in %q", name, w, words[name])
			}
		}
	}
	if slices.Contains(words["latency"], "before the load") {
		t.Error("a fault that was over when the load began is shown")
	}
}

func TestSmallRuns(t *testing.T) {
	second := stats.Window{From: 3 * time.Second, To: 4 * time.Second}
	const none, nothing = "No operation of the load was answered ok.", "The load holds no operation."
	var short []history.Op
	for i := range 10 {
		short = append(short, operation(3*time.Second+time.Duration(i)*100*ms, 0, history.OK))
	}
	tests := []struct {
		name                             string
		ops                              []history.Op
		load                             stats.Window
		latency, percentiles, throughput string // a word each of them must hold
	}{
		{"nothing", nil, stats.Window{}, none, none, nothing},
		{"no operation", nil, second, none, none, nothing},
		{"none ok", []history.Op{operation(3*time.Second, 5*time.Second, history.Info), operation(3100*ms, 0, history.Unsent)}, second, none, none, "Throughput: none ok (n = 2 due, 0 ok)"},
		{"one second", short, second, "Latency: one second (n = 10 ok)", "steady, n = 10", "answered ok"},
		{"torn after one", short[:1], stats.Window{From: second.From, To: second.From + 1}, "0.001", "steady, n = 1", "3.00"},
		{"answered after the load", []history.Op{operation(3*time.Second, time.Hour, history.OK)}, second, "5000000", "steady, n = 1", "4"},
		{"operation outside of the load", append([]history.Op{operation(0, time.Second, history.OK)}, short...), second, "p50", "steady, n = 11", "due"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			words := check(t, written(t, &history.Run{Ops: tt.ops}, Input{Title: tt.name, Load: tt.load}))
			for name, want := range map[string]string{"latency": tt.latency, "percentiles": tt.percentiles, "throughput": tt.throughput} {
				if !slices.Contains(words[name], want) {
					t.Errorf("%s: no %q in %q", name, want, words[name])
				}
			}
		})
	}
}

func TestHostileNames(t *testing.T) {
	run, in := sample()
	in.Title = "</text><script>alert(1)</script> ]]> \x00\x1b[31m\xff \ufffe\uffff \u202e &amp; \"' a\nb\u2028c"
	in.Faults[1].Name = strings.Repeat("<&\x07\"", 1<<20)
	in.Faults[2].Name = strings.Repeat("\u0301", 1<<20)
	words := check(t, written(t, run, in))
	want := "Throughput: </text><script>alert(1)</script> ]]> \ufffd\ufffd[31m\ufffd \ufffd\ufffd \ufffd &amp; \"' a b c"
	if have := words["throughput"]; !slices.ContainsFunc(have, func(s string) bool { return strings.HasPrefix(s, want[:60]) }) {
		t.Errorf("no %q in %q", want[:60], have)
	}
	rapid.Check(t, func(t *rapid.T) {
		in.Title = rapid.String().Draw(t, "title")
		in.Faults[1].Name = string(rapid.SliceOf(rapid.Byte()).Draw(t, "fault"))
		svg, err := asSVG(height, throughputChart(measure(&trace.Of(run).Ops, in), in).draw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := texts(svg); err != nil {
			t.Fatal(err)
		}
	})
}

// A day of load, four faults a minute, and as many levels of latency as
// operations.
func TestSize(t *testing.T) {
	run := &history.Run{}
	for i := range 200_000 {
		run.Ops = append(run.Ops, operation(time.Duration(i)*432*ms, time.Duration(1+i*i%100_003)*time.Millisecond, history.OK))
	}
	in := Input{Title: "long", Load: stats.Window{To: 24 * time.Hour}}
	for i := range 24 * 60 * 4 {
		from := time.Duration(i) * 15 * time.Second
		in.Faults = append(in.Faults, Fault{fmt.Sprintf("<kill> %d", i), from, from + time.Second})
		if i%240 == 0 {
			in.Disturbed = append(in.Disturbed, stats.Window{From: from, To: from + time.Minute})
		}
	}
	check(t, written(t, run, in))
}

// The pictures and the verdict must not tell two stories.
func TestSameAsStats(t *testing.T) {
	run, in := sample()
	in.Disturbed = append(in.Disturbed,
		stats.Window{From: 8 * time.Second, To: 7 * time.Second},
		stats.Window{From: 14 * time.Second, To: 20 * time.Second})
	// On its way after the load, when no fault of the load disturbs it.
	run.Ops[1199].Returned = 16 * time.Second
	m := measure(&trace.Of(run).Ops, in)
	s := stats.Measure(trace.Of(run), stats.Config{Load: in.Load, Faults: in.Disturbed})
	for _, part := range []struct {
		name string
		have []time.Duration
		want stats.Summary
	}{{"steady", m.steady, s.Latency.Steady}, {"during faults", m.during, s.Latency.DuringFaults}} {
		if int64(len(part.have)) != part.want.N {
			t.Errorf("%s: n = %d, stats say %d", part.name, len(part.have), part.want.N)
			continue
		}
		for percent, want := range map[float64]time.Duration{50: part.want.P50, 90: part.want.P90, 99: part.want.P99, 99.9: part.want.P999, 100: part.want.Max} {
			if have := percentile(part.have, percent); have > want || float64(want-have) > 0.001*float64(want) {
				t.Errorf("%s: percentile %v is %v, stats say %v", part.name, percent, have, want)
			}
		}
	}
	if int64(m.ok) != s.Counts.OK || int64(m.notOK) != s.Counts.Fail+s.Counts.Info+s.Counts.Unsent || m.due != m.ok+m.notOK {
		t.Errorf("%d due, %d ok, %d not ok; stats say %v", m.due, m.ok, m.notOK, s.Counts)
	}
}

func TestBuckets(t *testing.T) {
	in := Input{Load: stats.Window{From: time.Second, To: 1650 * ms}}
	m := measure(&trace.Of(&history.Run{Ops: []history.Op{
		operation(time.Second, 250*ms, history.OK),        // due in the first, back in the second
		operation(1199*ms, 2*time.Second, history.Info),   // back after the load
		operation(1200*ms, 0, history.Unsent),             // counts when due
		operation(1400*ms, 50*ms, history.Fail),           //
		operation(1640*ms, 9*ms, history.OK),              // in the rest, which belongs to the third
		operation(1650*ms, 0, history.OK),                 // after the load
		operation(999*ms, time.Millisecond*2, history.OK), // due before the load, back in it
	}}).Ops, in)
	var have []string
	for i := range m.buckets {
		b := &m.buckets[i]
		have = append(have, fmt.Sprintf("[%v %v) due %d ok %d not %d %v", b.From, b.To, b.due, b.ok, b.notOK, b.latencies))
	}
	want := []string{
		"[1s 1.2s) due 2 ok 1 not 0 [250ms]",
		"[1.2s 1.4s) due 1 ok 1 not 1 []",
		"[1.4s 1.65s) due 2 ok 1 not 1 [9ms]",
	}
	if !slices.Equal(have, want) {
		t.Errorf("have %q\nwant %q", have, want)
	}
	if rest := divide(stats.Window{To: 700 * ms}, 200*ms); len(rest) != 4 || rest[3].From != 600*ms || rest[3].To != 700*ms {
		t.Errorf("half a bucket at the end is no bucket: %v", rest)
	}
	for _, c := range []struct{ load, want time.Duration }{
		{time.Second, 200 * ms}, {time.Minute, 200 * ms}, {time.Minute + 1, time.Second}, {5 * time.Minute, time.Second},
		{6 * time.Minute, 2 * time.Second}, {time.Hour, 20 * time.Second}, {math.MaxInt64, 50_000_000 * time.Second},
	} {
		if have := bucketLength(c.load); have != c.want {
			t.Errorf("%v has buckets of %v, want %v", c.load, have, c.want)
		}
	}
}

// An outage is a gap, not a line from its one side to the other.
func TestGap(t *testing.T) {
	run, in := sample()
	c := latencyChart(measure(&trace.Of(run).Ops, in), in)
	for _, l := range c.lines {
		if len(l.parts) != 2 || len(l.parts[0]) != 35 || len(l.parts[1]) != 21 {
			t.Errorf("%s has %d parts, want two, of 35 and 21 points", l.name, len(l.parts))
		}
	}
}

func TestLabelsDoNotOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChart("", "", "")
		in := Input{Load: stats.Window{From: time.Second, To: 101 * time.Second}}
		for range rapid.IntRange(0, 20).Draw(t, "faults") {
			from := rapid.Int64Range(1000, 100_999).Draw(t, "from")
			long := rapid.Int64Range(1, 40_000).Draw(t, "long")
			name := strings.Repeat("n", rapid.IntRange(1, 60).Draw(t, "name"))
			in.Faults = append(in.Faults, Fault{name, time.Duration(from) * ms, time.Duration(from+long) * ms})
		}
		c.timeAxis(in)
		data := vg.Rectangle{Min: vg.Point{X: 50}, Max: vg.Point{X: 450}}
		x := func(s float64) vg.Length { return 50 + vg.Length(s-1)*4 }
		labels, rows, unnamed := c.place(data, x)
		if len(labels)+unnamed != len(in.Faults) {
			t.Fatalf("%d labels and %d without one of %d faults", len(labels), unnamed, len(in.Faults))
		}
		for i, l := range labels {
			left, right := l.left, max(l.left+faultText.Width(l.name), x(l.to))
			if left < data.Min.X || right > data.Max.X+0.01 || l.row >= rows {
				t.Fatalf("%q reaches from %v to %v in row %d of %d", l.name, left, right, l.row, rows)
			}
			for _, before := range labels[:i] {
				if end := max(before.left+faultText.Width(before.name), x(before.to)); before.row == l.row && end > left {
					t.Fatalf("row %d: %q ends at %v, %q begins at %v", l.row, before.name, end, l.name, left)
				}
			}
		}
	})
}

func TestTicks(t *testing.T) {
	log := func(low, high float64) []gonum.Tick { return logTicks{}.Ticks(math.Log10(low), math.Log10(high)) }
	for _, c := range []struct {
		ticks     func(low, high float64) []gonum.Tick
		low, high float64
		want      string
	}{
		{timeTicks{}.Ticks, 2.45, 22.45, "4 6 8 10 12 14 16 18 20 22"},
		{timeTicks{}.Ticks, 1000, 1000.1, "1000.00 1000.02 1000.04 1000.06 1000.08 1000.10"},
		{timeTicks{}.Ticks, 1e6, 1e6 + 86400, "1000000 1020000 1040000 1060000 1080000"},
		{linearTicks(11).Ticks, 0, 1, "0.0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0"},
		{linearTicks(5).Ticks, 0, 1080, "0 500 1000"},
		{log, 0.4, 4, "0.5 1 2"},
		{log, 0.0009, 0.3, "0.001 0.002 0.005 0.01 0.02 0.05 0.1 0.2"},
		{log, 0.9, 20000, "1 10 100 1000 10000"},
		{log, 0.0009, 1.1e12, "0.01 1 100 10000 1000000 100000000 10000000000 1000000000000"},
	} {
		var have []string
		for _, tick := range c.ticks(c.low, c.high) {
			if tick.Label != "" {
				have = append(have, tick.Label)
			}
		}
		if have := strings.Join(have, " "); have != c.want {
			t.Errorf("%v to %v: have %s, want %s", c.low, c.high, have, c.want)
		}
	}
}
