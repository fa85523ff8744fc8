// Survive counts what the reference runtime makes of the bundled faults: it
// runs each bundled scenario that has faults again and again, each time with
// the next seed. With ack: durable no run may find a violation; with ack: memory
// under a loss of power what is lost has to be younger than the window, and is
// measured.
//
//	go run ./scripts/survive -n 20 -parallel 2
//	go run ./scripts/survive -n 3 one-way memory-power-loss
//	go run ./scripts/survive -n 10 domains        # a suite: all of scenarios/suites/domains
//
// A scenario whose faults are of kinds that another one has, too, is left out,
// unless it is named or -all is given. Each is shortened: the first fault comes earlier, and
// the load ends some time after the last.
//
// A run that is unknown for no other reason than that the load generator was
// starved is made again, at most twice; so is one that is resumed.
//
// It exits 0 if every run passed and what can be lost was, 1 if a run found a
// violation or left something behind, 2 if none did but some could not prove anything, or nothing was
// lost where something can be, 3 if it could not be told.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"statequake/chaos"
	"statequake/scenarios"
	"statequake/scripts/campaign"
)

func main() {
	var c survival
	flag.IntVar(&c.n, "n", 20, "runs of each scenario")
	flag.IntVar(&c.parallel, "parallel", 2, "runs at a time")
	flag.BoolVar(&c.all, "all", false, "also scenarios whose faults are of kinds that another one has, too")
	flag.BoolVar(&c.whole, "whole", false, "do not shorten them")
	flag.StringVar(&c.binary, "bin", "bin/statequake", "the program")
	flag.StringVar(&c.suites, "suites", suites, "folder of the suites, each a folder")
	flag.StringVar(&c.dir, "runs", "runs/survive", "folder for run directories")
	flag.Int64Var(&c.seed, "seed", 1, "seed of the first run of each scenario; each further one takes the next")
	flag.BoolVar(&c.resume, "resume", false, "keep the runs that are there, if they are the same")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := c.run(ctx, flag.Args(), os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "survive: %v\n", err)
		code = 3
	}
	os.Exit(code)
}

// repeats is how often a run is made again whose load generator was starved.
const repeats = 2

// survival is n runs of every scenario.
type survival struct {
	n, parallel int
	all, whole  bool
	binary      string
	suites      string // folder of the suites
	dir         string
	seed        int64
	resume      bool
}

// tally is what has come of one scenario so far.
type tally struct {
	scenarios.Info
	title string
	set   []string // what makes it shorter, or another

	verdicts map[string]int
	left     int            // things that runs left behind
	missed   int            // runs that missed an expectation
	causes   map[string]int // of unknown verdicts -> runs
	lost     []int          // acknowledged writes, of each run in which that is known
	outages  []time.Duration
	rpos     []time.Duration
	notes    []string
}

func (c survival) run(ctx context.Context, names []string, out io.Writer) (code int, err error) {
	plan, err := c.plan(names)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	var mu sync.Mutex
	done, again, runs := 0, 0, c.n*len(plan)
	err = campaign.Each(ctx, runs, c.parallel, func(ctx context.Context, i int) error {
		t, seed := plan[i%len(plan)], c.seed+int64(i/len(plan)) // a round of all, then the next
		dir := filepath.Join(c.dir, fmt.Sprintf("%s-%d", t.title, seed))
		args := []string{t.Name, "--set", fmt.Sprintf("seed=%d", seed)}
		for _, s := range t.set {
			args = append(args, "--set", s)
		}
		run := campaign.Run{Binary: c.binary, Dir: dir, Args: args, Resume: c.resume}
		outcome, v, err := run.Do(ctx)
		for try := 0; err == nil && v.OnlyStarved() && try < repeats; try++ {
			mu.Lock()
			again++
			fmt.Fprintf(out, "%s seed %d: the load generator was starved; is made again\n", t.title, seed)
			mu.Unlock()
			run.Resume = false
			outcome, v, err = run.Do(ctx)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", t.title, err)
		}
		mu.Lock()
		defer mu.Unlock()
		done++
		word := t.count(dir, outcome, v)
		fmt.Fprintf(out, "[%d/%d, %s] %-23s seed %-3d exit %d, %3.0f s  %s\n",
			done, runs, time.Since(began).Round(time.Second), t.title, seed, outcome.Code, outcome.Took.Seconds(), word)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return c.report(plan, time.Since(began), again, out)
}

// plan selects the scenarios: the named ones, or those that have faults and no
// planted bug, of ack: memory only those that lose power or a node.
func (c survival) plan(names []string) ([]*tally, error) {
	if c.n < 1 {
		return nil, fmt.Errorf("-n %d: there is nothing to run", c.n)
	}
	var plan []*tally
	var have []string
	for _, info := range scenarios.Bundled() {
		s := info.Scenario
		if s.System.Bug != "" || len(s.Faults) == 0 {
			continue
		}
		have = append(have, info.Name)
		if len(names) > 0 && !slices.Contains(names, info.Name) {
			continue
		}
		t := &tally{Info: info, title: info.Name, verdicts: map[string]int{}, causes: map[string]int{}}
		if !c.whole {
			t.set = shorten(s)
		}
		plan = append(plan, t)
		if s.System.Network == "streams" {
			other := *s
			other.System.Network = "packets"
			plan = append(plan, &tally{Info: scenarios.Info{Name: info.Name, Scenario: &other}, title: info.Name + "-packets",
				set: slices.Concat(t.set, []string{"system.network=packets"}), verdicts: map[string]int{}, causes: map[string]int{}})
		}
	}
	for _, name := range names {
		if slices.Contains(have, name) {
			continue
		}
		more, err := c.suite(name)
		if err != nil {
			return nil, err
		}
		if len(more) == 0 {
			return nil, fmt.Errorf("unknown scenario or suite %q; have %s", name, strings.Join(have, ", "))
		}
		plan = append(plan, more...)
	}
	if len(names) == 0 && !c.all {
		plan = withoutCovered(plan)
	}
	return plan, nil
}

// suites is where a suite is a folder of scenarios.
const suites = "scenarios/suites"

// suite returns what is run of a suite, the scenarios in its folder but not those
// that its suite.yaml names; nothing if there is none of that name.
func (c survival) suite(name string) (plan []*tally, err error) {
	files, err := filepath.Glob(filepath.Join(c.suites, filepath.Base(name), "*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if filepath.Base(file) == "suite.yaml" {
			continue
		}
		s, err := scenarios.Open(file, scenarios.Options{})
		if err != nil {
			return nil, err
		}
		if s.System.Bug != "" || len(s.Faults) == 0 {
			return nil, fmt.Errorf("%s: has no fault to survive, or a bug", file)
		}
		t := &tally{Info: scenarios.Info{Name: file, Scenario: s}, title: filepath.Base(name) + "-" + s.Name, verdicts: map[string]int{}, causes: map[string]int{}}
		if !c.whole {
			t.set = shorten(s)
		}
		plan = append(plan, t)
	}
	return plan, nil
}

// withoutCovered leaves out scenarios that have no kind of fault that another
// one with the same contract does not have.
func withoutCovered(plan []*tally) []*tally {
	covers := func(a, b *scenarios.Scenario) bool {
		return a.System.Ack == b.System.Ack && !slices.ContainsFunc(kindsOf(b), func(kind string) bool { return !slices.Contains(kindsOf(a), kind) })
	}
	var kept []*tally
	for i, t := range plan {
		if !slices.ContainsFunc(plan[:i], func(other *tally) bool { return covers(other.Scenario, t.Scenario) }) &&
			!slices.ContainsFunc(plan[i+1:], func(other *tally) bool {
				return covers(other.Scenario, t.Scenario) && !covers(t.Scenario, other.Scenario)
			}) {
			kept = append(kept, t)
		}
	}
	return kept
}

// kindsOf are the kinds of the faults of a scenario, each once, by name.
func kindsOf(s *scenarios.Scenario) []string {
	kinds := map[string]bool{}
	for _, f := range s.Faults {
		kinds[kindOf(s, f)] = true
	}
	return slices.Sorted(maps.Keys(kinds))
}

// kindOf is what a fault does, without to whom and for how long.
func kindOf(s *scenarios.Scenario, f scenarios.Fault) string {
	var object struct {
		Spec struct {
			Mode             string   `json:"mode"`
			Direction        string   `json:"direction"`
			GracePeriod      int      `json:"gracePeriod"`
			Methods          []string `json:"methods"`
			DirectoryEntries string   `json:"directoryEntries"`
		} `json:"spec"`
	}
	_ = json.Unmarshal(f.Chaos, &object) // it was parsed before
	spec := object.Spec
	word := strings.TrimSpace(f.Plan.Kind + " " + f.Plan.Action)
	if f.Plan.Kind == chaos.NetworkChaos {
		word += " " + cmp.Or(spec.Direction, "to") + " on " + s.System.Network
	}
	if f.Plan.Kind == chaos.PowerLoss {
		word += " " + cmp.Or(spec.DirectoryEntries, "ext4")
	}
	if spec.Mode == "all" {
		word += " of all"
	}
	if spec.GracePeriod > 0 {
		word += " with grace"
	}
	return strings.Join(append([]string{word}, spec.Methods...), " ")
}

// What is left of a scenario that is shortened.
const (
	warmup = time.Second
	first  = 2 * time.Second         // when its first fault starts, or earlier
	after  = 2500 * time.Millisecond // load after its last fault is over
	brief  = time.Second             // what a fault without a duration counts as
)

// shorten returns what to set so that the faults come earlier and the load ends
// after them; nothing if they do not start at instants.
func shorten(s *scenarios.Scenario) []string {
	begins := map[string]time.Duration{} // of faults that start at an instant
	for _, f := range s.Faults {
		switch t := f.Trigger.(type) {
		case chaos.At:
			begins[f.Name] = time.Duration(t)
		case chaos.While:
		default:
			return nil
		}
	}
	if len(begins) == 0 {
		return nil
	}
	early := slices.Min(slices.Collect(maps.Values(begins)))
	shift := max(0, early-first)
	var set []string
	end := time.Duration(0)
	for _, f := range s.Faults {
		if at, ok := begins[f.Name]; ok {
			end = max(end, at+cmp.Or(f.Plan.Duration, brief)-shift)
			if shift > 0 {
				set = append(set, fmt.Sprintf("faults.%s.at=%v", f.Name, at-shift))
			}
		}
	}
	if short := end + after; short < s.Load.Duration {
		set = append(set, fmt.Sprintf("load.duration=%v", short))
	}
	if s.Load.Warmup > warmup {
		set = append(set, fmt.Sprintf("load.warmup=%v", warmup))
	}
	return set
}

// count adds what has come of a run and says it.
func (t *tally) count(dir string, outcome campaign.Outcome, v *campaign.Verdict) string {
	t.verdicts[v.Verdict]++
	word := v.Verdict
	note := func(format string, args ...any) {
		t.notes = append(t.notes, fmt.Sprintf("%s: %s\n  replay: statequake run %s", dir, fmt.Sprintf(format, args...), strings.Join(outcome.Args, " ")))
	}
	if v.Verdict == "violation" {
		kinds := v.Violations()
		slices.Sort(kinds)
		word += ": " + strings.Join(slices.Compact(kinds), ", ")
		note("%s", word)
	}
	if v.Verdict == "unknown" || v.Verdict == campaign.Failed {
		list := v.Causes()
		for _, cause := range list {
			t.causes[cause]++
		}
		word += ": " + strings.Join(list, "; ")
		note("%s", strings.Join(v.Reasons, " "))
	}
	if v.LostAcks != nil {
		t.lost = append(t.lost, *v.LostAcks)
		if *v.LostAcks > 0 {
			word += fmt.Sprintf(", %d acknowledged writes lost", *v.LostAcks)
		}
	}
	if slices.ContainsFunc(v.Expectations, func(x campaign.Expectation) bool { return !x.Met }) {
		t.missed++
	}
	var outage, rpo *time.Duration
	for _, f := range v.Faults {
		outage, rpo = longest(outage, f.Recovery.Outage.Max), longest(rpo, f.Recovery.RPO)
	}
	if outage != nil {
		t.outages = append(t.outages, *outage)
	}
	if rpo != nil {
		t.rpos = append(t.rpos, *rpo)
		if window := t.Scenario.System.Window; *rpo > window && v.Verdict != "violation" {
			note("lost what was acknowledged %v before, while the window is %v", *rpo, window)
			t.verdicts["violation"]++
			t.verdicts[v.Verdict]--
		}
	}
	t.left += len(outcome.Left)
	for _, thing := range outcome.Left {
		note("left behind: %s", thing)
	}
	return word
}

func longest(a, b *time.Duration) *time.Duration {
	if a == nil || b != nil && *b > *a {
		return b
	}
	return a
}

// report prints the tables and returns the exit code. again counts the runs that
// were made again.
func (c survival) report(plan []*tally, took time.Duration, again int, out io.Writer) (int, error) {
	durable, memory := [][]string{{"ack: durable", "faults", "pass", "unknown", "violation", "failed", "missed expectations", "lost acks", "outage median", "max"}},
		[][]string{{"ack: memory", "faults", "pass", "unknown", "violation", "failed", "lost acks median", "max", "oldest lost median", "max", "window"}}
	runs, passed, violations, left, nothingLost := 0, 0, 0, 0, false
	for _, t := range plan {
		runs += c.n
		left += t.left
		passed += t.verdicts["pass"]
		violations += t.verdicts["violation"]
		faults := strings.Join(kindsOf(t.Scenario), ", ")
		row := []string{t.title, faults, fmt.Sprint(t.verdicts["pass"]), fmt.Sprint(t.verdicts["unknown"]), fmt.Sprint(t.verdicts["violation"]), fmt.Sprint(t.verdicts[campaign.Failed])}
		slices.Sort(t.lost)
		if t.Scenario.System.Ack == "memory" {
			lost, most := "-", "-"
			if n := len(t.lost); n > 0 {
				lost, most = fmt.Sprint(t.lost[(n-1)/2]), fmt.Sprint(t.lost[n-1])
			}
			if most == "0" || most == "-" {
				nothingLost = true
				t.notes = append(t.notes, t.title+": nothing was lost, so that the window was not tried")
			}
			memory = append(memory, append(row, lost, most, middle(t.rpos), largest(t.rpos), t.Scenario.System.Window.String()))
			continue
		}
		sum := 0
		for _, n := range t.lost {
			sum += n
		}
		lost := fmt.Sprint(sum)
		if len(t.lost) < c.n {
			lost += fmt.Sprintf(", not known of %d runs", c.n-len(t.lost))
		}
		durable = append(durable, append(row, fmt.Sprint(t.missed), lost, middle(t.outages), largest(t.outages)))
	}
	var markdown strings.Builder
	var errs []error
	for _, rows := range [][][]string{durable, memory} {
		if len(rows) == 1 {
			continue
		}
		fmt.Fprintln(out)
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for i, row := range rows {
			fmt.Fprintln(table, strings.Join(row, "\t"))
			fmt.Fprintf(&markdown, "| %s |\n", strings.Join(row, " | "))
			if i == 0 {
				fmt.Fprintf(&markdown, "|%s\n", strings.Repeat(" --- |", len(row)))
			}
		}
		errs = append(errs, table.Flush())
		markdown.WriteString("\n")
	}
	fmt.Fprintln(out)
	all := map[string]int{}
	for _, t := range plan {
		for cause, n := range t.causes {
			all[cause] += n
		}
		for _, line := range t.notes {
			fmt.Fprintln(out, line)
		}
	}
	for _, cause := range slices.SortedFunc(maps.Keys(all), func(a, b string) int { return cmp.Or(cmp.Compare(all[b], all[a]), cmp.Compare(a, b)) }) {
		line := fmt.Sprintf("unknown or failed in %d runs: %s\n", all[cause], cause)
		fmt.Fprint(out, line)
		markdown.WriteString("- " + line)
	}
	fmt.Fprintf(out, "%d of %d runs passed, %d found a violation, %d things were left behind, %d runs were made again, in %s; Markdown in %s\n",
		passed, runs, violations, left, again, took.Round(time.Second), filepath.Join(c.dir, "table.md"))
	errs = append(errs, os.WriteFile(filepath.Join(c.dir, "table.md"), []byte(markdown.String()), 0o644))
	switch {
	case violations > 0 || left > 0:
		return 1, errors.Join(errs...)
	case passed < runs || nothingLost:
		return 2, errors.Join(errs...)
	}
	return 0, errors.Join(errs...)
}

func middle(values []time.Duration) string {
	if len(values) == 0 {
		return "-"
	}
	return campaign.Words(campaign.Quantile(values, 0.5))
}

func largest(values []time.Duration) string {
	if len(values) == 0 {
		return "-"
	}
	return campaign.Words(campaign.Quantile(values, 1))
}
