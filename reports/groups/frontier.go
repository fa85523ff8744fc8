package groups

import (
	"fmt"
	"math"
	"strings"
	"time"

	"statequake/reports"
	"statequake/reports/check"
	"statequake/reports/plot"
)

// Frontier names what the two axes of a latency-versus-loss frontier show.
type Frontier struct {
	Latency string // p50 or p99, of the operations that no fault disturbed
	Loss    string // writes, share or rpo
}

// losses are what the y axis of a frontier can show.
var losses = []choice{
	{"writes", "acknowledged writes lost in a run"},
	{"share", "writes lost, % of ok answers"},
	{"rpo", "age of the oldest lost write (ms)"},
}

// steady are what latencies can be shown.
var steady = []choice{
	{"p50", "p50 latency, steady"},
	{"p99", "p99 latency, steady"},
}

// choice is one of a few words that a flag takes, with what it means.
type choice struct{ name, label string }

func pick(flag, name string, from []choice) (label string, err error) {
	var names []string
	for _, c := range from {
		if c.name == name {
			return c.label, nil
		}
		names = append(names, c.name)
	}
	return "", fmt.Errorf("--%s: unknown %q; have %s", flag, name, strings.Join(names, ", "))
}

// Draw draws the frontier. Runs that broke their contract are shown as such:
// losses are the subject, and to leave out the runs that lost most would be to
// hide them. Runs of which it is not known what they lost are left out.
func (f Frontier) Draw(groups []*Group) (*Picture, error) {
	latency, err := pick("latency", f.Latency, steady)
	if err != nil {
		return nil, err
	}
	loss, err := pick("loss", f.Loss, losses)
	if err != nil {
		return nil, err
	}
	p := plot.Frontier{Title: title("Latency against loss", groups), Latency: latency, Loss: loss}
	picture := &Picture{}
	for _, g := range groups {
		if err := g.keep(f.why); err != nil {
			return nil, err
		}
		drawn := plot.FrontierGroup{Name: g.Name, Contract: g.Contract(), Volatile: g.Ack == check.Memory}
		lost, answered := 0, int64(0)
		for i := range g.Runs {
			v := g.Runs[i].verdict
			drawn.Runs = append(drawn.Runs, plot.FrontierRun{
				Name: g.Runs[i].Name, Latency: f.latency(v), Loss: f.loss(v), Broken: v.Verdict == check.Violated,
			})
			lost += *v.LostAcks
			answered += v.Load.OK
		}
		p.Groups = append(p.Groups, drawn)
		picture.Lines = append(picture.Lines, fmt.Sprintf("%s: %s; %s, %s ok answers, %s lost",
			reports.Harmless(g.Name), g.Contract(), reports.Plural(int64(len(g.Runs)), "run"), reports.Count(answered), reports.Plural(int64(lost), "acknowledged write")))
	}
	p.Notes = notes(groups)
	picture.Notes = p.Notes
	picture.Files, err = p.Files()
	return picture, err
}

// why is why a run is left out, "" if it is not.
func (f Frontier) why(r *Run) string {
	switch {
	case r.verdict.LostAcks == nil:
		return "with unknown losses"
	case math.IsNaN(f.latency(r.verdict)):
		return "without a steady latency"
	case math.IsNaN(f.loss(r.verdict)):
		return "with an unknown RPO"
	}
	return ""
}

// latency is in ms, NaN if unknown.
func (f Frontier) latency(v *reports.Verdict) float64 {
	s := v.Latency.Steady
	if s.N == 0 {
		return math.NaN()
	}
	d := s.P50
	if f.Latency == "p99" {
		d = s.P99
	}
	return milliseconds(max(d, time.Microsecond))
}

// loss is NaN if unknown.
func (f Frontier) loss(v *reports.Verdict) float64 {
	switch f.Loss {
	case "share":
		if v.Load.OK == 0 {
			return math.NaN()
		}
		return 100 * float64(*v.LostAcks) / float64(v.Load.OK)
	case "rpo":
		oldest := 0.0
		for i := range v.Faults {
			r := v.Faults[i].Recovery
			if r == nil || r.RPO == nil {
				return math.NaN()
			}
			oldest = max(oldest, milliseconds(*r.RPO))
		}
		if oldest == 0 && *v.LostAcks > 0 {
			return math.NaN() // lost without a fault to count from
		}
		return oldest
	}
	return float64(*v.LostAcks)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
