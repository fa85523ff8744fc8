package plot

import (
	"bytes"
	"image/png"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/plot/vg"

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

// edges are pictures of little, of much, and of what somebody else has named.
func edges() map[string]func() ([]File, error) {
	nothing := frontierSample()
	nothing.Groups = nothing.Groups[:1]
	nothing.Groups[0].Runs = nothing.Groups[0].Runs[:1]
	crowded := frontierSample()
	crowded.Groups = nil
	for i := range MaxGroups {
		g := FrontierGroup{Name: strings.Repeat("a long name ", 1+i), Volatile: i%2 == 0}
		for run := range 12 {
			g.Runs = append(g.Runs, FrontierRun{Latency: 1 + float64(i*run)/50, Loss: float64(3 + (i+run)%4)})
		}
		crowded.Groups = append(crowded.Groups, g)
	}
	crowded.Notes = []string{strings.Repeat("What the reader must know besides, and a little more. ", 6)}
	small := frontierSample()
	small.Loss = "writes lost, % of ok answers"
	for i := range small.Groups {
		for j := range small.Groups[i].Runs {
			small.Groups[i].Runs[j].Loss /= 4321
		}
	}
	hostile := recoverySample()
	hostile.Title = "</text><script>\x00"
	hostile.Groups = hostile.Groups[:1]
	hostile.Groups[0].Name = strings.Repeat("<&\x07\"", 1000)
	hostile.Groups[0].Runs = hostile.Groups[0].Runs[4:]
	many := recoverySample()
	for len(many.Groups) < MaxGroups {
		many.Groups = append(many.Groups, many.Groups[len(many.Groups)%2])
		many.Groups[len(many.Groups)-1].Name = "group " + strconv.Itoa(len(many.Groups))
	}
	wide := scaleSample()
	wide.X, wide.Y, wide.Ideal = "load.workload.keys", "p99 latency (ms)", false
	for i := range wide.Groups {
		wide.Groups[i].X = math.Pow(10, wide.Groups[i].X)
	}
	one := scaleSample()
	one.Groups = one.Groups[:1]
	none := scaleSample()
	for i := range none.Groups {
		for j := range none.Groups[i].Runs {
			none.Groups[i].Runs[j].Value = 0
		}
	}
	stuck := kneeSample()
	stuck.Knee, stuck.LimitedBy, stuck.Bound.Percentile = nil, stats.LimitGenerator, "p999"
	stuck.Levels = stuck.Levels[8:]
	return map[string]func() ([]File, error){
		"frontier-nothing-lost": nothing.Files,
		"frontier-crowded":      crowded.Files,
		"frontier-small":        small.Files,
		"recovery-hostile":      hostile.Files,
		"recovery-many":         many.Files,
		"scale-wide":            wide.Files,
		"scale-one":             one.Files,
		"scale-none":            none.Files,
		"knee-no-level":         func() ([]File, error) { return Knee("x", "", &stats.FindMax{Bound: stuck.Bound}) },
		"knee-one-level":        func() ([]File, error) { return Knee("x", "", stuck) },
	}
}

// At half its width a picture's smallest text is 7 CSS pixels high.
func TestFiguresAreSound(t *testing.T) {
	size := regexp.MustCompile(`font-size:([0-9.]+)px`)
	all := edges()
	maps.Copy(all, samples())
	for name, draw := range all {
		files, err := draw()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if dir := os.Getenv("STATEQUAKE_PICTURES"); dir != "" { // to be looked at
			if err := os.WriteFile(filepath.Join(dir, name+".png"), files[1].Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		svg := files[0].Data
		if _, err := texts(svg); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
			t.Errorf("%s draws at no place", name)
		}
		found := size.FindAllSubmatch(svg, -1)
		if len(found) == 0 {
			t.Errorf("%s has no text", name)
		}
		for _, m := range found {
			points, err := strconv.ParseFloat(string(m[1]), 64)
			if pixels := points * 96 / 72; err != nil || pixels/2 < 7 {
				t.Errorf("%s has text of %v points", name, points)
				break
			}
		}
		if len(svg) > sizeLimit {
			t.Errorf("%s has %d bytes, limit %d", name, len(svg), sizeLimit)
		}
	}
}

func TestFiguresRefuse(t *testing.T) {
	empty := frontierSample()
	empty.Groups[1].Runs = nil
	uneven := recoverySample()
	uneven.Groups[1].Runs[2].Share = uneven.Groups[1].Runs[2].Share[1:]
	twice := scaleSample()
	twice.Groups[2].X = twice.Groups[0].X
	for _, c := range []struct {
		draw func() ([]File, error)
		want string
	}{
		{(&Frontier{}).Files, "no group of runs"},
		{(&Recovery{}).Files, "no group of runs"},
		{(&Scale{}).Files, "no group of runs"},
		{empty.Files, "memory: none of its runs can be shown"},
		{uneven.Files, "head/3: 39 parts, others have 40"},
		{twice.Files, "reference, ack: durable on 5, reference, ack: durable on 1: both are at system.nodes 5"},
	} {
		if _, err := c.draw(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("have %v, want %s", err, c.want)
		}
	}
}

func TestSpread(t *testing.T) {
	var ten []float64
	for i := range 11 {
		ten = append(ten, float64(10-i))
	}
	for _, c := range []struct {
		counts []int
		values []float64
		want   spread
		words  string
	}{
		{[]int{3}, []float64{3, 1, math.NaN(), 2}, spread{3, 2, 1, 3}, "min to max"},
		{[]int{2}, []float64{4, 1}, spread{2, 2.5, 1, 4}, "min to max"},
		{[]int{11, 9}, ten, spread{11, 5, 0, 10}, "min to max"},
		{[]int{11, 10}, ten, spread{11, 5, 1, 9}, "10th to 90th percentile"},
		{[]int{10}, []float64{7}, spread{1, 7, 7, 7}, "10th to 90th percentile"},
	} {
		by := ruleFor(c.counts)
		if have := by.over(c.values); have != c.want || by.words() != c.words {
			t.Errorf("%v of %v: %v, %s", c.counts, c.values, have, by.words())
		}
	}
	if none := (rule{}).over([]float64{math.NaN()}); none.n != 0 || !math.IsNaN(none.median) {
		t.Errorf("nothing known is %v", none)
	}
}

// Where there is room no name lies on a point or on another name.
func TestBeside(t *testing.T) {
	data := vg.Rectangle{Max: vg.Point{X: 400, Y: 200}}
	var taken, names []box
	for i, at := range []vg.Point{{X: 390, Y: 100}, {X: 200, Y: 100}, {X: 205, Y: 104}, {X: 202, Y: 98}, {X: 207, Y: 101}, {X: 5, Y: 195}, {X: 200, Y: 3}} {
		taken = append(taken, box{at.X - 5, at.X + 5, at.Y - 5, at.Y + 5})
		_, b, _ := beside(data, at, "quite a long name of a group", taken, names)
		for _, o := range slices.Concat(taken, names) {
			if b.meets(o) {
				t.Errorf("name %d at %v lies on %v", i, b, o)
			}
		}
		if b.left < 0 || b.right > 400 || b.bottom < 0 || b.top > 200 {
			t.Errorf("name %d at %v is cut off", i, b)
		}
		names = append(names, b)
	}
}
