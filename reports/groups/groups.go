// Package groups measures folders of runs for pictures of several of them.
package groups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"statequake/reports"
	"statequake/reports/check"
	"statequake/reports/compare"
	"statequake/reports/plot"
)

// Group is the runs of one system, configuration or version.
type Group struct {
	Name     string
	Scenario string
	System   string // name of the system under test
	Ack      string // the contract that all of its runs are judged by
	Window   time.Duration
	Runs     []Run // those with a verdict that proves something
	LeftOut  []LeftOut
	all      int // runs
}

// Run is one run of a group.
type Run struct {
	Name    string // of its directory
	Dir     string
	verdict *reports.Verdict
}

// LeftOut is a run that is not shown.
type LeftOut struct {
	Run string
	Why string // in words, such as unknown
}

// Contract is what the runs of a group are judged by, in words.
func (g *Group) Contract() string {
	if g.Ack == check.Memory {
		return fmt.Sprintf("ack: %s, window %s", g.Ack, g.Window)
	}
	return "ack: " + g.Ack
}

// Load reads groups, each from NAME=DIR or DIR: a run directory, or a folder of
// run directories as compare.Load reads it. Without a name a group is called like
// its folder. Runs that prove nothing are left out.
//
// It returns an error for a group without any other run, for one whose runs are
// not of one scenario, one system and one contract, and for two of one name.
func Load(args []string) ([]*Group, error) {
	var all []*Group
	for _, arg := range args {
		g, err := load(arg)
		if err != nil {
			return nil, err
		}
		for _, o := range all {
			if o.Name == g.Name {
				return nil, fmt.Errorf("%s: there are two groups of this name\nhint: name one by NAME=DIR", g.Name)
			}
		}
		all = append(all, g)
	}
	return all, nil
}

func load(arg string) (*Group, error) {
	name, dir, named := strings.Cut(arg, "=")
	if _, err := os.Stat(arg); err == nil || !named {
		dir = arg
		name = filepath.Base(filepath.Clean(arg))
	}
	if name == "" || dir == "" {
		return nil, fmt.Errorf("%q: expected NAME=DIR or DIR", arg)
	}
	side, err := compare.Load(dir)
	if err != nil {
		return nil, err
	}
	g := &Group{Name: name}
	for _, dir := range side.Dirs() {
		run := filepath.Base(filepath.Clean(dir))
		g.all++
		v, err := reports.Read(dir)
		if errors.Is(err, fs.ErrNotExist) {
			g.leaveOut(run, "not judged")
			continue
		}
		if err != nil {
			return nil, err
		}
		if v.Verdict == check.Unknown {
			g.leaveOut(run, "unknown")
			continue
		}
		if len(g.Runs) == 0 {
			g.Scenario, g.System, g.Ack, g.Window = v.Scenario, v.System.Name, v.System.Ack, v.System.Window
		}
		for _, same := range []struct{ what, first, this string }{
			{"scenario", g.Scenario, v.Scenario},
			{"system.name", g.System, v.System.Name},
			{"system.ack", g.Ack, v.System.Ack},
			{"system.window", g.Window.String(), v.System.Window.String()},
		} {
			if same.first != same.this {
				return nil, fmt.Errorf("%s: %s: is %s, and %s in other runs of the group\nhint: the runs of a group have one contract; make two groups of them", dir, same.what, same.this, same.first)
			}
		}
		g.Runs = append(g.Runs, Run{run, dir, v})
	}
	return g, g.enough()
}

func (g *Group) leaveOut(run, why string) { g.LeftOut = append(g.LeftOut, LeftOut{run, why}) }

// keep leaves out the runs for which why says why.
func (g *Group) keep(why func(*Run) string) error {
	g.Runs = slices.DeleteFunc(g.Runs, func(r Run) bool {
		reason := why(&r)
		if reason != "" {
			g.leaveOut(r.Name, reason)
		}
		return reason != ""
	})
	return g.enough()
}

// enough returns an error if there is no run to show.
func (g *Group) enough() error {
	if len(g.Runs) > 0 {
		return nil
	}
	return fmt.Errorf("%s: none of the runs (%d) can be shown: %s", g.Name, g.all, g.reasons())
}

// reasons counts the runs that were left out by their reason, where that is not
// the same for all of them.
func (g *Group) reasons() string {
	var order []string
	counts := map[string]int{}
	for _, l := range g.LeftOut {
		if counts[l.Why] == 0 {
			order = append(order, l.Why)
		}
		counts[l.Why]++
	}
	if len(order) == 1 {
		return order[0]
	}
	for i, why := range order {
		order[i] = fmt.Sprintf("%d %s", counts[why], why)
	}
	return strings.Join(order, ", ")
}

// passed is why a run's figures cannot be believed, "" if they can: one that
// broke its contract may have been fast by doing less.
func passed(r *Run) string {
	if r.verdict.Verdict == check.Violated {
		return "broke the contract"
	}
	return ""
}

// notes say in words what was left out, and what differs that should not.
func notes(groups []*Group) []string {
	var notes, left, scenarios []string
	for _, g := range groups {
		if len(g.LeftOut) > 0 {
			left = append(left, fmt.Sprintf("%d of %s of %s (%s)", len(g.LeftOut), reports.Plural(int64(g.all), "run"), reports.Clip(g.Name, 40), g.reasons()))
		}
		if !slices.Contains(scenarios, g.Scenario) {
			scenarios = append(scenarios, g.Scenario)
		}
	}
	if len(left) > 0 {
		notes = append(notes, "Left out: "+strings.Join(left, "; ")+".")
	}
	if len(scenarios) > 1 {
		notes = append(notes, "The groups ran different scenarios: "+reports.Clip(strings.Join(scenarios, ", "), 120)+".")
	}
	return notes
}

// title names a picture and the scenario, if the groups have one in common.
func title(what string, groups []*Group) string {
	for _, g := range groups {
		if g.Scenario != groups[0].Scenario {
			return what
		}
	}
	return what + ": " + reports.Clip(groups[0].Scenario, 60)
}

// Picture is a rendered picture and what to say beside it.
type Picture struct {
	Files []plot.File
	Notes []string // those in the picture
	Lines []string // the figures, a line for each group
}
