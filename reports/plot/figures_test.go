package plot

import (
	"bytes"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"statequake/reports/stats"
)

// samples are one picture of each kind, by the name of its files.
func samples() map[string]func() ([]File, error) {
	return map[string]func() ([]File, error){
		"recovery": func() ([]File, error) { r := recoverySample(); return r.Files() },
		"frontier": func() ([]File, error) { f := frontierSample(); return f.Files() },
		"scale":    func() ([]File, error) { s := scaleSample(); return s.Files() },
		"find_max": func() ([]File, error) {
			return Knee("find-max", "488/s is the highest rate with p99 within 100 ms.", kneeSample())
		},
	}
}

// recoverySample is two groups whose goodput falls at the injection; one needs
// longer, and one of its runs was never steady again.
func recoverySample() Recovery {
	r := Recovery{Title: "Recovery: kill-owner", Every: 200 * ms, Before: 10, Notes: []string{"Left out: 1 of 6 runs of base (unknown)."}}
	for i, name := range []string{"base", "head"} {
		g := RecoveryGroup{Name: name}
		for run := range 5 {
			out := 4 + run%3 + 6*i
			one := RecoveryRun{Name: strconv.Itoa(run + 1), Goodput: 495 + float64(run), Over: duration(1020 + run*5 + i*40), Steady: duration(200 * (out + 2))}
			if i == 1 && run == 4 {
				one.Steady = nil
			}
			for part := range 40 {
				share := 1 + float64((part*7919+run*104729)%9-4)/100
				switch since := part - r.Before; {
				case since >= 0 && since < out:
					share *= 0.35 - 0.3*float64(i)
				case since == out:
					share = 1.6 + float64(i)
				}
				one.Share = append(one.Share, share)
			}
			g.Runs = append(g.Runs, one)
		}
		r.Groups = append(r.Groups, g)
	}
	return r
}

func duration(milliseconds int) *time.Duration {
	d := time.Duration(milliseconds) * ms
	return &d
}

// frontierSample is a system that never loses anything, two that may, and one
// that promised not to.
func frontierSample() Frontier {
	f := Frontier{Title: "Latency against loss: power-loss-all", Latency: "p50 latency, steady", Loss: "acknowledged writes lost (per run)", Notes: []string{"Left out: 1 of 6 runs of durable (unknown)."}}
	for i, g := range []FrontierGroup{
		{Name: "durable", Contract: "ack: durable"},
		{Name: "memory", Contract: "ack: memory, window 500 ms", Volatile: true},
		{Name: "memory, slow store", Contract: "ack: memory, window 500 ms", Volatile: true},
		{Name: "careless", Contract: "ack: durable"},
	} {
		for run := range 5 {
			r := FrontierRun{Name: strconv.Itoa(run + 1), Latency: []float64{2.2, 0.55, 0.6, 0.9}[i] * (1 + float64(run)/20)}
			switch i {
			case 1:
				r.Loss = float64(run % 3)
			case 2:
				r.Loss = float64(40 + 9*run)
			case 3:
				r.Loss = float64(3 + run)
				r.Broken = true
			}
			g.Runs = append(g.Runs, r)
		}
		f.Groups = append(f.Groups, g)
	}
	return f
}

func scaleSample() Scale {
	s := Scale{Title: "Scale: durable-throughput", X: "system.nodes", Y: "throughput (answered ok per second)", Ideal: true}
	for _, nodes := range []float64{5, 1, 3, 7} {
		for i, series := range []string{"reference, ack: durable", "reference, ack: memory, window 500 ms"} {
			g := ScaleGroup{Name: series + " on " + number(nodes), Series: series, X: nodes}
			for run := range 5 {
				g.Runs = append(g.Runs, ScaleRun{strconv.Itoa(run + 1), (3000 + 4000*float64(i)) * math.Pow(nodes, 0.6) * (1 + float64(run)/30)})
			}
			s.Groups = append(s.Groups, g)
		}
	}
	return s
}

func kneeSample() *stats.FindMax {
	f := &stats.FindMax{Bound: stats.Bound{Percentile: "p99", Limit: 100 * ms}, LimitedBy: stats.LimitBound}
	rate := 200.0
	for i := range 9 {
		l := stats.Level{Rate: rate, Achieved: rate, Verdict: stats.Kept}
		l.Latency = stats.Summary{P50: time.Duration(2+i) * ms, P99: time.Duration(9*(1+i)) * ms, N: 100}
		switch {
		case i == 3:
			l.Verdict, l.Latency.P99 = stats.ByGenerator, 130*ms
		case i == 4:
			f.Knee = &l.Rate
		case i == 8:
			l.Latency = stats.Summary{}
			fallthrough
		case i > 4:
			l.Verdict, l.Achieved = stats.Broken, min(rate, 700)
			if l.Latency.N > 0 {
				l.Latency.P99 = time.Duration(i) * 200 * ms
			}
		}
		f.Levels = append(f.Levels, l)
		rate *= 1.25
	}
	return f
}

func TestFiguresGolden(t *testing.T) {
	for name, draw := range samples() {
		files, err := draw()
		if err != nil {
			t.Fatal(err)
		}
		again, err := draw()
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range files {
			if !bytes.Equal(f.Data, again[i].Data) {
				t.Errorf("%s differs between two renderings", f.Name)
			}
			switch filepath.Ext(f.Name) {
			case ".png":
				picture, err := png.Decode(bytes.NewReader(f.Data))
				if err != nil {
					t.Errorf("%s: %v", f.Name, err)
				} else if size := picture.Bounds().Size(); size.X != 1280 {
					t.Errorf("%s is %v, want 1280 wide", f.Name, size)
				}
				continue
			case ".svg":
				if _, err := texts(f.Data); err != nil {
					t.Errorf("%s: %v", f.Name, err)
				}
				if len(f.Data) > sizeLimit {
					t.Errorf("%s has %d bytes, limit %d", f.Name, len(f.Data), sizeLimit)
				}
			}
			golden := filepath.Join("testdata", f.Name)
			if *update {
				if err := os.WriteFile(golden, f.Data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.Data, want) {
				t.Errorf("%s is not %s; look at it, then run go test ./reports/plot -update", f.Name, golden)
			}
		}
		if want := []string{name + ".svg", name + ".png"}; files[0].Name != want[0] || files[1].Name != want[1] {
			t.Errorf("files are %s, %s, want %q", files[0].Name, files[1].Name, want)
		}
	}
}
