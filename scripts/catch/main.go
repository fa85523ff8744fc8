// Catch proves that the checkers can fail: it runs the directed scenario of
// every planted bug, with the bug and without it, and expects each bug to be
// found by its own kind of violation and the correct runtime to be found clean.
//
//	go run ./scripts/catch -n 10 -parallel 2      # all bugs
//	go run ./scripts/catch -n 3 no-fence          # one
//
// A run that is unknown counts neither as caught nor as clean. Only if nothing
// but a starved load generator is to blame is it made again, at most twice, and
// the output says so.
//
// It exits 0 if every run ended as expected, 1 if a bug was missed or a control
// was not clean, 2 if neither happened but a run is unknown, 3 if it could not
// be told.
package main

import (
	"cmp"
	"context"
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

	"statequake/history"
	"statequake/scenarios"
	"statequake/scripts/campaign"
)

// repeats is how often a run is made again whose load generator was starved.
const repeats = 2

func main() {
	var c catch
	flag.IntVar(&c.n, "n", 10, "runs of each scenario with the bug, and as many without")
	flag.IntVar(&c.parallel, "parallel", 2, "runs at a time")
	flag.StringVar(&c.binary, "bin", "bin/statequake", "the program")
	flag.StringVar(&c.dir, "runs", "runs/catch", "folder for run directories; those that ended as expected are removed")
	flag.Int64Var(&c.seed, "seed", 1, "seed of the first run; each further one takes the next")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := c.run(ctx, flag.Args(), os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "catch: %v\n", err)
		code = 3
	}
	os.Exit(code)
}

// catch is n runs of every directed scenario, with the bug and without.
type catch struct {
	n, parallel int
	binary      string
	dir         string
	seed        int64
}

// tally is what has come of one bug so far.
type tally struct {
	bug     string
	reveals string

	caught, clean int
	missed        int             // runs with the bug that did not find it
	alarms        int             // controls with a violation
	took          []time.Duration // of the runs that caught it, from their start to the verdict
	proofs        []time.Duration // in the same, on the run clock
	notes         []string
}

// job is one run: of a bug, or its control.
type job struct {
	*tally
	planted bool
	seed    int64
}

// end is how a run ended.
type end int

const (
	asExpected end = iota
	missed         // the bug was not found by its own kind
	alarm          // the control is not clean
	unknown
)

// run makes all runs and returns the exit code. bugs selects; none is all.
func (c catch) run(ctx context.Context, bugs []string, out io.Writer) (code int, err error) {
	plan, err := directed(bugs)
	if err != nil {
		return 0, err
	}
	if c.n < 1 {
		return 0, fmt.Errorf("-n %d: there is nothing to run", c.n)
	}
	// A round of all, then the next: runs at the same time are of different bugs.
	var jobs []job
	for i := range c.n {
		for _, planted := range []bool{true, false} {
			for _, t := range plan {
				jobs = append(jobs, job{t, planted, c.seed + int64(i)})
			}
		}
	}
	began := time.Now()
	var mu sync.Mutex
	done, made, controls, unknowns := 0, 0, 0, 0
	causes := map[string]int{} // of unknown runs
	err = campaign.Each(ctx, len(jobs), c.parallel, func(ctx context.Context, i int) error {
		j := jobs[i]
		for try := 0; ; try++ {
			r, err := c.once(ctx, j)
			if err != nil {
				return fmt.Errorf("%s: %w", j, err)
			}
			mu.Lock()
			made++
			again := r.starved && try < repeats
			if !again {
				done++
			}
			if !j.planted {
				controls++
			}
			if r.end == unknown {
				unknowns++
			}
			j.count(r, causes, try)
			fmt.Fprintf(out, "[%d/%d, %s] %s exit %d %5.1f s  %s\n", done, len(jobs), time.Since(began).Round(time.Second), j, r.Code, r.Took.Seconds(), r.words(again, try))
			mu.Unlock()
			if !again {
				return nil
			}
		}
	})
	if err != nil {
		return 0, err
	}
	return c.report(plan, out, time.Since(began), made, controls, unknowns, causes)
}

// directed returns the named bugs, or all.
func directed(bugs []string) ([]*tally, error) {
	var plan []*tally
	have := map[string]bool{}
	for _, info := range scenarios.Bundled() {
		bug := info.Scenario.System.Bug
		if bug == "" {
			continue
		}
		have[bug] = true
		if len(bugs) == 0 || slices.Contains(bugs, bug) {
			plan = append(plan, &tally{bug: bug, reveals: info.Scenario.Reveals})
		}
	}
	for _, bug := range bugs {
		if !have[bug] {
			return nil, fmt.Errorf("unknown bug %q; have %s", bug, strings.Join(slices.Sorted(maps.Keys(have)), ", "))
		}
	}
	return plan, nil
}

func (j job) kind() string {
	if j.planted {
		return "bug"
	}
	return "control"
}

func (j job) String() string { return fmt.Sprintf("%-20s %-7s seed %-3d", j.bug, j.kind(), j.seed) }

// result is what has come of one run.
type result struct {
	campaign.Outcome
	end     end
	kinds   []string // of violations, by name, each once
	causes  []string // of an unknown one
	starved bool     // and nothing else is to blame
	proof   time.Duration
	dir     string
	planted bool
}

// once makes one run. What ended as expected, or is made again, leaves nothing
// in the folder.
func (c catch) once(ctx context.Context, j job) (*result, error) {
	args := []string{"bugs/" + j.bug, "--set", fmt.Sprintf("seed=%d", j.seed)}
	if !j.planted {
		args = append(args, "--set", "system.bug=")
	}
	r := &result{dir: filepath.Join(c.dir, fmt.Sprintf("%s-%s-%d", j.bug, j.kind(), j.seed)), planted: j.planted}
	outcome, v, err := campaign.Run{Binary: c.binary, Dir: r.dir, Args: args}.Do(ctx)
	if err != nil {
		return nil, err
	}
	r.Outcome = outcome
	kinds := v.Violations()
	slices.Sort(kinds)
	r.kinds = slices.Compact(kinds)
	r.end = judge(outcome.Code, v.Verdict, r.kinds, j.reveals, j.planted)
	switch {
	case r.end == unknown:
		r.causes, r.starved = v.Causes(), v.OnlyStarved()
	case r.end == asExpected && j.planted:
		r.proof = firstProof(r.dir, v, j.reveals)
	}
	if r.end != asExpected && !r.starved {
		return r, nil
	}
	var errs []error
	for _, path := range []string{r.dir, r.dir + ".log", r.dir + ".json"} {
		errs = append(errs, os.RemoveAll(path))
	}
	return r, errors.Join(errs...)
}

// judge says how a run ended: with the bug it must exit 1 with the named kind
// among its violations; without it must be clean, though it may miss an
// expectation (exit 4), since the scenario slows the system down.
func judge(code int, verdict string, kinds []string, reveals string, planted bool) end {
	switch {
	case verdict == "unknown" || verdict == campaign.Failed:
		return unknown
	case planted && code == 1 && slices.Contains(kinds, reveals):
		return asExpected
	case planted:
		return missed
	case (code == 0 || code == 4) && len(kinds) == 0:
		return asExpected
	}
	return alarm
}

// firstProof is the instant on the run clock at which the clients had seen
// enough to prove a violation of kind: the earliest at which the operations that
// show one had all returned. It is 0 if that cannot be told.
func firstProof(dir string, v *campaign.Verdict, kind string) time.Duration {
	shown := map[string]time.Duration{}
	for _, c := range v.Checks {
		for _, x := range c.Violations {
			if x.Kind == kind {
				for _, op := range x.Ops {
					shown[op] = 0
				}
			}
		}
	}
	run, err := history.LoadRun(dir)
	if err != nil {
		return 0
	}
	for i := range run.Ops {
		op := &run.Ops[i]
		if _, ok := shown[op.ID]; ok {
			shown[op.ID] = op.Returned
		}
	}
	var proof time.Duration
	for _, c := range v.Checks {
		for _, x := range c.Violations {
			last := time.Duration(0)
			for _, op := range x.Ops {
				last = max(last, shown[op])
			}
			if x.Kind == kind && last > 0 && (proof == 0 || last < proof) {
				proof = last
			}
		}
	}
	return proof
}

// words says how a run ended. again: it is made again.
func (r *result) words(again bool, try int) string {
	word := "found " + list(r.kinds)
	switch r.end {
	case unknown:
		word = "UNKNOWN: " + strings.Join(r.causes, "; ")
	case missed:
		word = "MISSED: " + word
	case alarm:
		word = "FALSE ALARM: " + word
	}
	if try > 0 {
		word += fmt.Sprintf(" (repetition %d of %d)", try, repeats)
	}
	if again {
		word += "; is made again"
	}
	return word
}

func list(kinds []string) string {
	if len(kinds) == 0 {
		return "nothing"
	}
	return strings.Join(kinds, ", ")
}

// count adds a run, the try'th repetition of its job, to what is known of its
// bug, and to the causes of unknown runs.
func (j job) count(r *result, causes map[string]int, try int) {
	for _, cause := range r.causes {
		causes[cause]++
	}
	switch {
	case r.end == alarm:
		j.alarms++
	case r.end == missed:
		j.missed++
	case r.end == asExpected && j.planted:
		j.caught++
		j.took = append(j.took, r.Took)
		if r.proof > 0 {
			j.proofs = append(j.proofs, r.proof)
		}
	case r.end == asExpected:
		j.clean++
	}
	if try > 0 {
		j.notes = append(j.notes, fmt.Sprintf("%s seed %d was made again, %s", j.kind(), j.seed, r.words(false, try)))
	}
	if r.end != asExpected && !r.starved || r.starved && try == repeats {
		j.notes = append(j.notes, fmt.Sprintf("%s seed %d: %s; see %s\n  replay: statequake run %s",
			j.kind(), j.seed, r.words(false, 0), r.dir, strings.Join(r.Args, " ")))
	}
}

// report prints the totals, writes the table as Markdown and returns the exit
// code. made, controls and unknowns count runs, repetitions included.
func (c catch) report(plan []*tally, out io.Writer, took time.Duration, made, controls, unknowns int, causes map[string]int) (int, error) {
	rows := [][]string{{"bug", "found as", "caught", "control clean", "time to verdict, median", "first proof in the run, median"}}
	score, misses, alarms, expected := 0, 0, 0, 0
	var all []time.Duration
	for _, t := range plan {
		rows = append(rows, []string{t.bug, t.reveals, fmt.Sprintf("%d/%d", t.caught, c.n), fmt.Sprintf("%d/%d", t.clean, c.n), median(t.took), median(t.proofs)})
		if t.caught == c.n {
			score++
		}
		misses += t.missed
		alarms += t.alarms
		expected += t.caught + t.clean
		all = append(all, t.took...)
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var markdown strings.Builder
	for i, row := range rows {
		fmt.Fprintln(table, strings.Join(row, "\t"))
		fmt.Fprintf(&markdown, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&markdown, "|%s\n", strings.Repeat(" --- |", len(row)))
		}
	}
	errs := []error{table.Flush()}
	fmt.Fprintln(out)
	for _, t := range plan {
		for _, line := range t.notes {
			fmt.Fprintf(out, "%s %s\n", t.bug, line)
		}
	}
	why := "no unknown runs"
	if unknowns > 0 {
		var parts []string
		for _, cause := range slices.SortedFunc(maps.Keys(causes), func(a, b string) int { return cmp.Or(cmp.Compare(causes[b], causes[a]), cmp.Compare(a, b)) }) {
			parts = append(parts, fmt.Sprintf("%d because %s", causes[cause], cause))
		}
		why = fmt.Sprintf("unknown runs: %d of %d; a run may have several causes: %s", unknowns, made, strings.Join(parts, ", "))
	}
	jobs := 2 * c.n * len(plan)
	totals := []string{
		fmt.Sprintf("mutation score: %d of %d bugs were caught by their own kind in each of %d runs", score, len(plan), c.n),
		fmt.Sprintf("median time to catch: %s from the start of a run to its verdict (n=%d)", median(all), len(all)),
		fmt.Sprintf("false alarms: %d of %d control runs", alarms, controls),
		why,
		fmt.Sprintf("%d of %d runs as expected, %d made again, %d at a time, in %s", expected, jobs, made-jobs, c.parallel, took.Round(time.Second)),
	}
	for _, line := range totals {
		fmt.Fprintln(out, line)
		fmt.Fprintf(&markdown, "\n%s\n", line)
	}
	errs = append(errs, os.WriteFile(filepath.Join(c.dir, "table.md"), []byte(markdown.String()), 0o644))
	err := errors.Join(errs...)
	switch {
	case expected == jobs:
		return 0, err
	case alarms == 0 && misses == 0:
		return 2, err
	}
	return 1, err
}

func median(values []time.Duration) string {
	if len(values) == 0 {
		return "-"
	}
	return campaign.Words(campaign.Quantile(values, 0.5))
}
