package reports

import (
	"fmt"
	"strings"
	"time"

	"statequake/history"
	"statequake/reports/check"
	"statequake/reports/stats"
)

// threshold is a limit of the scenario as a line of a chart.
type threshold struct {
	Chart    string `json:"chart"` // latency or throughput
	Value    values `json:"value"` // one value
	Unit     string `json:"unit"`  // ms or per_s
	Label    string `json:"label"` // with the limit as in the scenario
	Measured string `json:"measured,omitempty"`
	Met      bool   `json:"met"`
}

// newThresholds are the expectations that limit a latency or a rate. That so
// many operations are answered within a time is one of that time.
func newThresholds(expectations []Expectation) []threshold {
	lines := []threshold{}
	for _, x := range expectations {
		e, err := find(x.Name)
		if err != nil {
			continue // of a script of k6, in a unit of its own
		}
		limit, err := e.limit(x.Limit)
		if err != nil {
			continue
		}
		t := threshold{Chart: "latency", Unit: "ms", Met: x.Met}
		switch part, _, _ := strings.Cut(x.Name, "."); {
		case part == "all" || part == "steady" || part == "faults":
			t.Value = values{milliseconds(time.Duration(limit))}
		case strings.HasPrefix(x.Name, answeredWithin):
			bound, err := answeredBound(x.Name)
			if err != nil {
				continue
			}
			t.Value = values{milliseconds(bound)}
		case x.Name == "throughput_min" || x.Name == "knee_min":
			t.Chart, t.Unit, t.Value = "throughput", "per_s", values{limit}
		default:
			continue
		}
		word := "at most"
		if e.minimum {
			word = "at least"
		}
		t.Label = fmt.Sprintf("%s %s %s", clip(x.Name, nameText), word, clip(x.Limit, nameText))
		if x.Measured != nil {
			t.Measured = clip(*x.Measured, nameText)
		}
		lines = append(lines, t)
	}
	return lines
}

// mark is a violation on the time axis.
type mark struct {
	At     values `json:"at_s"` // one value: when the first operation that shows it was sent
	Kind   string `json:"kind"`
	On     string `json:"on"`     // entity and key
	Anchor string `json:"anchor"` // id of the element that explains it
}

// marks returns the marks of the violations that are explained, in that order,
// and how many violations have none.
func (v *Verdict) marks() ([]mark, values) {
	all, total := violationsByKind(v)
	named := map[string]*history.Op{}
	if v.evidence != nil {
		for i := range v.evidence.Ops {
			if op := &v.evidence.Ops[i]; named[op.ID] == nil {
				named[op.ID] = op
			}
		}
	}
	marks := []mark{}
	for i, x := range all[:min(len(all), htmlViolations)] {
		if at, ok := shownAt(x, named); ok {
			marks = append(marks, mark{
				At: values{at.Seconds()}, Kind: clip(x.Kind, shortText), On: clip(x.Entity+"/"+x.Key, shortText), Anchor: fmt.Sprintf("violation-%d", i),
			})
		}
	}
	return marks, values{float64(max(0, total-len(marks)))}
}

// shownAt is when the first of the operations that show a violation began; false
// if none of them is in the history.
func shownAt(x check.Violation, named map[string]*history.Op) (at time.Duration, ok bool) {
	for _, id := range x.Ops {
		if op := named[id]; op != nil && (!ok || started(op) < at) {
			at, ok = started(op), true
		}
	}
	return at, ok
}

// distribution is a latency distribution on an axis of percentiles, where p is
// at -log10(1 - p/100): a stats.Curve.
type distribution struct {
	Name    string   `json:"name"`
	N       values   `json:"n"` // one value: ok operations
	Percent percents `json:"percent"`
	Latency values   `json:"ms"`
}

// percents are values with six decimals: 99.9998 is not 99.99985 on its axis.
type percents []float64

// MarshalJSON writes at most six decimals.
func (p percents) MarshalJSON() ([]byte, error) { return appendNumbers(nil, p, 1e6), nil }

// newDistributions are steady and during faults, or all if no fault disturbed
// anything.
func newDistributions(c stats.Curves) []distribution {
	curves := map[string]stats.Curve{"all": c.All, "steady": c.Steady, "during faults": c.DuringFaults}
	names := []string{"steady", "during faults"}
	if c.DuringFaults.N == 0 {
		names = []string{"all"}
	}
	out := []distribution{}
	for _, name := range names {
		curve := curves[name]
		d := distribution{Name: name, N: values{float64(curve.N)}, Percent: curve.Percent}
		for _, l := range curve.Latency {
			d.Latency = append(d.Latency, fourDigits(milliseconds(l)))
		}
		out = append(out, d)
	}
	return out
}
