package compare

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"statequake/reports/stats"
)

// searches is a side of runs that searched for the highest rate; 0 is a run that
// found none.
func searches(path string, limit stats.Limit, knees ...float64) *Side {
	s := side(path, len(knees), func(int) figures { return typical })
	for i, knee := range knees {
		f := &stats.FindMax{Bound: stats.Bound{Percentile: "p99", Limit: 50 * time.Millisecond}, LimitedBy: limit}
		if knee > 0 {
			f.Knee = &knees[i]
		}
		s.Runs[i].verdict.FindMax = f
	}
	return s
}

// The knee is compared, and nothing that depends on how far a search went.
func TestKneeIsCompared(t *testing.T) {
	base := searches("base", stats.LimitBound, 1000, 1100, 1000, 1210, 1100, 1000, 1100, 1000, 1210)
	for _, tt := range []struct {
		head *Side
		want Outcome
	}{
		{searches("head", stats.LimitBound, 500, 550, 500, 605, 550, 500, 550, 500, 605), Regression},
		{searches("head", stats.LimitBound, 1050, 1150, 1040, 1220, 1110, 1030, 1110, 1030, 1220), NoWorse},
	} {
		r := mustCompare(t, base, tt.head, Config{})
		if m := outcome(r, "knee"); m.Decision != tt.want {
			t.Errorf("knee: %+v, want %s", m, tt.want)
		}
		for _, name := range []string{"throughput", "p50", "p99", "cpu_per_op"} {
			if m := outcome(r, name); m.Name != "" {
				t.Errorf("%s is compared: %+v", name, m)
			}
		}
		if notes := strings.Join(r.Notes, "\n"); !strings.Contains(notes, "base: highest rate with p99 within 50ms: median ") {
			t.Errorf("the spread is not told: %q", notes)
		}
	}
}

// What the generator limited is no figure of the system.
func TestKneeOfGenerator(t *testing.T) {
	base := searches("base", stats.LimitBound, 1000, 1100, 1000, 1210, 1100, 1000, 1100, 1000, 1210)
	for _, limit := range []stats.Limit{stats.LimitGenerator, stats.LimitEnd} {
		r := mustCompare(t, base, searches("head", limit, 1000, 1100, 1000, 1210, 1100, 1000), Config{})
		if m := outcome(r, "knee"); m.Decision != Inconclusive || m.Head != nil {
			t.Errorf("limited by %s: %+v", limit, m)
		}
	}
}

func TestKnees(t *testing.T) {
	s := searches("runs", stats.LimitBound, 1000, 1440, 1200, 0)
	s.Runs = append(s.Runs, searches("", stats.LimitGenerator, 800, 0).Runs...)
	s.Runs = append(s.Runs, searches("", stats.LimitEnd, 2000).Runs...)
	want := fmt.Sprintf("highest rate with p99 within 50ms: median %s, from %s to %s, in 3 runs; 2 runs limited by the load generator, and the system may bear more; 1 run ended before the bound was broken; 1 run broke the bound at the lowest rate",
		perSecond.format(1200), perSecond.format(1000), perSecond.format(1440))
	if got := s.Knees(); got != want {
		t.Errorf("have %q\nwant %q", got, want)
	}
	if got := side("runs", 2, func(int) figures { return typical }).Knees(); got != "" {
		t.Errorf("runs without a search: %q", got)
	}
}
