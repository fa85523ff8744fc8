package reports

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"statequake/reports/stats"
)

// panel is a chart on the time axis of report.html, with its figures in a
// sentence for those who do not see it.
type panel struct {
	ID, Title, Says string
	Links           bool // it holds links, so it is more than a picture
}

func (v *Verdict) panels(t *timeline) []panel {
	panels := []panel{
		{ID: "throughput", Title: "Answered ok, per second", Says: v.throughputSays()},
		{ID: "errors", Title: "Not answered ok, per second", Says: v.errorsSays()},
		{ID: "latency", Title: "Latency of ok operations", Says: v.latencySays()},
		{ID: "in-flight", Title: "In flight, operations", Says: inFlightSays(t)},
		{ID: "cpu", Title: "CPU per node, % of one CPU", Says: v.cpuSays()},
		{ID: "rss", Title: "Resident memory per node, MiB", Says: v.memorySays()},
		{ID: "keys", Title: "Availability per key", Says: keysSay(&t.Keys)},
	}
	if says := v.eventsSays(); says != "" {
		panels = slices.Insert(panels, 0, panel{ID: "events", Title: "Faults and violations", Says: says, Links: true})
	}
	return panels
}

// saidFaults is how many faults a sentence names.
const saidFaults = 5

// eventsSays says when the faults were; empty if there is nothing to say.
func (v *Verdict) eventsSays() string {
	var said []string
	for i := range v.Faults[:min(len(v.Faults), saidFaults)] {
		f := &v.Faults[i]
		text := clip(f.Name, nameText)
		switch {
		case f.Injected == nil:
			text += " was not injected"
		case f.Recovered == nil:
			text += " from " + instant(*f.Injected) + " on"
		default:
			text += " from " + instant(*f.Injected) + " to " + instant(*f.Recovered)
		}
		if f.Injected != nil && f.Recovery != nil && f.Recovery.Steady != nil {
			text += ", steady again at " + instant(*f.Injected+*f.Recovery.Steady)
		}
		said = append(said, text)
	}
	if more := len(v.Faults) - len(said); more > 0 {
		said = append(said, plural(int64(more), "further fault"))
	}
	violations := 0
	for _, r := range v.Checks {
		violations += r.Total
	}
	if violations > 0 {
		said = append(said, plural(int64(violations), "violation"))
	}
	if len(said) == 0 {
		return ""
	}
	return strings.Join(said, "; ") + "."
}

func (v *Verdict) throughputSays() string {
	if v.Throughput.All == nil {
		return "Unknown."
	}
	said := []string{fmt.Sprintf("%s over the load of %s", rate(*v.Throughput.All), duration(v.Load.Duration))}
	if v.Throughput.Steady != nil && v.Throughput.DuringFaults != nil {
		said = append(said, rate(*v.Throughput.Steady)+" steady", rate(*v.Throughput.DuringFaults)+" during faults")
	}
	if v.Load.RequestedRate != nil {
		said = append(said, rate(*v.Load.RequestedRate)+" requested")
	}
	return sentence(said)
}

func (v *Verdict) errorsSays() string {
	l := v.Load
	if l.Fail+l.Info+l.Unsent == 0 {
		return fmt.Sprintf("None of the %s of the load.", plural(l.Scheduled, "operation"))
	}
	return fmt.Sprintf("%s fail, %s info and %s unsent of the %s of the load.", count(l.Fail), count(l.Info), count(l.Unsent), plural(l.Scheduled, "operation"))
}

// percentilesSay is a summary in words.
func percentilesSay(name string, s stats.Summary) string {
	return fmt.Sprintf("%s p50 %s, p90 %s, p99 %s, p99.9 %s, max %s", name, duration(s.P50), duration(s.P90), duration(s.P99), duration(s.P999), duration(s.Max))
}

func (v *Verdict) latencySays() string {
	var said []string
	if s := v.Latency.Steady; s.N > 0 {
		said = append(said, percentilesSay("steady", s))
	}
	if s := v.Latency.DuringFaults; s.N > 0 {
		said = append(said, percentilesSay("during faults", s))
	}
	if len(said) == 0 {
		return "No operation was answered ok."
	}
	return sentence(said)
}

// spreadSays compares the latencies during faults with the steady ones.
func (v *Verdict) spreadSays() string {
	steady, faulted := v.Latency.Steady, v.Latency.DuringFaults
	switch {
	case steady.N == 0 && faulted.N == 0:
		return "No operation was answered ok."
	case faulted.N == 0:
		return sentence([]string{percentilesSay("steady", steady) + " of " + count(steady.N)})
	case steady.N == 0:
		return sentence([]string{percentilesSay("during faults", faulted) + " of " + count(faulted.N)})
	}
	return fmt.Sprintf("One in a hundred ok answers took %s or more while steady (of %s) and %s or more during faults (of %s).",
		duration(steady.P99), count(steady.N), duration(faulted.P99), count(faulted.N))
}

// nodesSay says one figure of each node and of the load generator.
func (v *Verdict) nodesSay(figure func(r stats.Resources) string) string {
	var said []string
	names := slices.Sorted(maps.Keys(v.Resources))
	for _, name := range names[:min(len(names), maxNodes)] {
		said = append(said, clip(name, nameText)+" "+figure(v.Resources[name]))
	}
	if more := len(names) - len(said); more > 0 {
		said = append(said, plural(int64(more), "further node"))
	}
	return strings.Join(append(said, "load generator "+figure(v.GeneratorResources)), "; ") + "."
}

func (v *Verdict) cpuSays() string {
	return v.nodesSay(func(r stats.Resources) string { return fmt.Sprintf("%.1f s in all", r.CPU) })
}

func (v *Verdict) memorySays() string {
	return v.nodesSay(func(r stats.Resources) string { return "at most " + bytesOf(r.RSSMax) })
}

func inFlightSays(t *timeline) string {
	most, at := unknown, 0
	for i, n := range t.Views[0].InFlight {
		if math.IsNaN(most) || n > most {
			most, at = n, i
		}
	}
	if math.IsNaN(most) {
		return "Unknown."
	}
	return fmt.Sprintf("At most %s due and not yet returned at one instant, in the step from %.2f s.", plural(int64(most), "operation"), t.At[at])
}

// keysSay says which keys were out for how long.
func keysSay(k *keyStrip) string {
	if len(k.Rows) == 0 {
		return "Unknown."
	}
	out := int(k.MoreOut[0])
	for _, r := range k.Rows {
		if len(r.Out) > 0 {
			out++
		}
	}
	said := plural(int64(len(k.Rows))+int64(k.More[0]), "key")
	if out == 0 {
		return sentence([]string{said, "none was out"})
	}
	worst := k.Rows[0]
	longest := "never well again"
	if !math.IsNaN(worst.Out[0]) {
		longest = duration(time.Duration(worst.Out[0] * float64(time.Second)))
		if worst.AtLeast {
			longest = "at least " + longest
		}
	}
	return sentence([]string{said, fmt.Sprintf("%s out, longest %s (%s)", count(int64(out)), worst.Key, longest)}) + " " + k.Words
}

// sentence joins what is said.
func sentence(said []string) string {
	return upperFirst(strings.Join(said, "; ")) + "."
}
