package groups

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"statequake/history"
	"statequake/reports"
	"statequake/reports/plot"
)

// Recovery says which part of runs a recovery curve shows.
type Recovery struct {
	Fault         string        // its name; "" for the first one injected
	Before, After time.Duration // the longest time to show on either side of the injection
}

// around is the injection of a run, on the run clock, and what surrounds it.
type around struct {
	injected     time.Duration
	quiet        time.Duration // length of the load before the first fault was requested
	before       time.Duration // from the start of the load to the injection
	after        time.Duration // from the injection to the end of the load
	over, steady *time.Duration
	fault        string
}

// Draw draws the recovery curve. The time shown is as long as every run has it.
// An operation of the load counts when its ok answer was read. The goodput before
// the fault is that of the load before the first fault of the run was requested.
func (c Recovery) Draw(groups []*Group) (*Picture, error) {
	if c.Before <= 0 || c.After <= 0 {
		return nil, fmt.Errorf("--before, --after: must be longer than 0 s")
	}
	before, after := c.Before, c.After
	where := map[string]around{} // by directory
	for _, g := range groups {
		if err := g.keep(func(r *Run) string {
			if why := passed(r); why != "" {
				return why
			}
			if r.verdict.FindMax != nil {
				return "searched for the highest rate"
			}
			a, why := c.around(r.verdict)
			if why == "" {
				where[r.Dir] = a
			}
			return why
		}); err != nil {
			return nil, err
		}
		for _, r := range g.Runs {
			before, after = min(before, where[r.Dir].before), min(after, where[r.Dir].after)
		}
	}
	every := plot.PartLength(before + after)
	p := plot.Recovery{Every: every, Before: int(before / every)}
	parts := p.Before + int(after/every)
	if p.Before == 0 || parts == p.Before {
		return nil, fmt.Errorf("no run has both %v of load before the injection and as much after it", every)
	}
	faults := []string{}
	for _, g := range groups {
		drawn := plot.RecoveryGroup{Name: g.Name}
		measured := map[string]plot.RecoveryRun{}
		for i := range g.Runs {
			r := &g.Runs[i]
			run, err := measure(r, where[r.Dir], every, p.Before, parts)
			if err != nil {
				return nil, err
			}
			measured[r.Dir] = run
		}
		if err := g.keep(func(r *Run) string {
			if measured[r.Dir].Goodput == 0 {
				return "without an ok answer before the fault"
			}
			return ""
		}); err != nil {
			return nil, err
		}
		for _, r := range g.Runs {
			drawn.Runs = append(drawn.Runs, measured[r.Dir])
			if name := where[r.Dir].fault; !slices.Contains(faults, name) {
				faults = append(faults, name)
			}
		}
		p.Groups = append(p.Groups, drawn)
	}
	p.Title = title("Recovery", groups)
	if len(faults) == 1 && p.Title != "Recovery: "+faults[0] {
		p.Title += ", fault " + reports.Clip(faults[0], 40)
	}
	p.Notes = notes(groups)
	picture := &Picture{Notes: p.Notes}
	for i := range p.Groups {
		picture.Lines = append(picture.Lines, reports.Harmless(p.Groups[i].About()))
	}
	var err error
	picture.Files, err = p.Files()
	return picture, err
}

// around finds the fault in a run; why says why it cannot be shown.
func (c Recovery) around(v *reports.Verdict) (a around, why string) {
	faults := slices.DeleteFunc(slices.Clone(v.Faults), func(f reports.Fault) bool { return f.Injected == nil || f.Requested == nil })
	slices.SortStableFunc(faults, func(a, b reports.Fault) int { return cmp.Compare(*a.Injected, *b.Injected) })
	i := 0
	if c.Fault != "" {
		i = slices.IndexFunc(faults, func(f reports.Fault) bool { return f.Name == c.Fault })
	}
	if i < 0 || i >= len(faults) {
		return a, "without the fault"
	}
	f := faults[i]
	first := *faults[0].Requested
	for _, o := range faults {
		first = min(first, *o.Requested)
	}
	end := v.Load.Start + v.Load.Duration
	a = around{injected: *f.Injected, quiet: first - v.Load.Start, before: *f.Injected - v.Load.Start, after: end - *f.Injected, fault: f.Name}
	if a.quiet <= 0 || a.after <= 0 {
		return a, "whose fault was not within the load"
	}
	if f.Recovered != nil {
		over := *f.Recovered - *f.Injected
		a.over = &over
	}
	if f.Recovery != nil {
		a.steady = f.Recovery.Steady
	}
	return a, ""
}

// measure counts a run's ok answers around the fault.
func measure(r *Run, a around, every time.Duration, before, parts int) (plot.RecoveryRun, error) {
	start := r.verdict.Load.Start
	counts, quiet := make([]int, parts), 0
	from := a.injected - time.Duration(before)*every
	_, err := history.ReadRun(r.Dir, func(op *history.Op) error {
		if op.Phase != history.Load || op.Outcome != history.OK {
			return nil
		}
		if op.Returned >= start && op.Returned < start+a.quiet {
			quiet++
		}
		if i := int((op.Returned - from) / every); op.Returned >= from && i < parts {
			counts[i]++
		}
		return nil
	})
	run := plot.RecoveryRun{Name: r.Name, Goodput: float64(quiet) / a.quiet.Seconds(), Over: a.over, Steady: a.steady}
	for _, n := range counts {
		run.Share = append(run.Share, float64(n)/every.Seconds()/max(run.Goodput, 1e-9))
	}
	return run, err
}
