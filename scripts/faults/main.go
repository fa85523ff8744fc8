// Faults measures every fault that the program can carry out on local
// processes: it injects each so many times, one after the other, into a cluster
// of the reference runtime under light load, and reads from the run directories
// how many were confirmed by their evidence, how long it took until they were
// seen injected and recovered, and what was left behind.
//
//	go run ./scripts/faults -n 50                               # all
//	go run ./scripts/faults -n 10 -only PodChaos/pod-kill       # one
//	go run ./scripts/faults -n 50 -resume                       # go on after an interruption
//
// It exits 0 if every injection was confirmed and undone, no run found a
// violation and none left anything behind, 1 if that is not so, 3 if it could
// not be told.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
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
	"statequake/scripts/campaign"
)

func main() {
	var c faults
	flag.IntVar(&c.n, "n", 50, "injections of each fault")
	flag.IntVar(&c.perRun, "per-run", 25, "injections in one run, at most")
	flag.StringVar(&c.only, "only", "", "only faults of this KIND or KIND/ACTION")
	flag.StringVar(&c.binary, "bin", "bin/statequake", "the program")
	flag.StringVar(&c.dir, "runs", "runs/faults", "folder for scenarios and run directories")
	flag.IntVar(&c.parallel, "parallel", 1, "runs at a time")
	flag.Int64Var(&c.seed, "seed", 1, "seed of the first run of each fault; each further one takes the next")
	flag.BoolVar(&c.resume, "resume", false, "keep the runs that are there, if they are the same")
	flag.Func("set", "override a field of all scenarios, PATH=VALUE; may be given several times", func(s string) error {
		c.set = append(c.set, s)
		return nil
	})
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := c.run(ctx, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "faults: %v\n", err)
		os.Exit(3)
	case !ok:
		os.Exit(1)
	}
}

// faults is n injections of every fault.
type faults struct {
	n, perRun int
	parallel  int
	only      string
	binary    string
	dir       string
	seed      int64
	resume    bool
	set       []string
}

// tally is what has come of one fault so far.
type tally struct {
	template
	variant string // with what was set

	injections          int
	proofs              map[history.Proof]int
	injection, recovery []time.Duration
	notBack             int // not seen recovered
	overlaps            int // began before the one before it was seen recovered
	verdicts            map[string]int
	violations          int
	left                int      // things that runs left behind
	notes               []string // one line each
}

// run reports whether all is as it should be.
func (c faults) run(ctx context.Context, out io.Writer) (bool, error) {
	plan, err := c.plan()
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return false, err
	}
	var jobs []job
	for _, t := range plan {
		for i, n := range split(c.n, c.perRun) {
			jobs = append(jobs, job{t, i, n})
		}
	}
	began := time.Now()
	var mu sync.Mutex
	done := 0
	err = campaign.Each(ctx, len(jobs), c.parallel, func(ctx context.Context, i int) error {
		dir, outcome, v, err := c.once(ctx, jobs[i])
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		done++
		fmt.Fprintf(out, "[%d/%d, %s] %s\n", done, len(jobs), time.Since(began).Round(time.Second), jobs[i].count(dir, outcome, v))
		return nil
	})
	if err != nil {
		return false, err
	}
	return c.report(plan, time.Since(began), out)
}

// job is the run i of a fault, with n injections.
type job struct {
	*tally
	i, n int
}

// plan selects the faults.
func (c faults) plan() ([]*tally, error) {
	if c.n < 1 || c.perRun < 1 {
		return nil, fmt.Errorf("-n %d, -per-run %d: there is nothing to run", c.n, c.perRun)
	}
	var plan []*tally
	var have []string
	for _, t := range templates {
		have = append(have, t.name())
		if c.only == "" || c.only == t.kind || c.only == t.name() {
			plan = append(plan, &tally{template: t, variant: strings.Join(slices.Concat(t.variants(), c.set), ", "), proofs: map[history.Proof]int{}, verdicts: map[string]int{}})
		}
	}
	if plan == nil {
		return nil, fmt.Errorf("-only %s: no such fault; have %s", c.only, strings.Join(slices.Compact(have), ", "))
	}
	return plan, nil
}

// split is n in parts of at most most, as even as possible.
func split(n, most int) []int {
	runs := (n + most - 1) / most
	var parts []int
	for i := range runs {
		parts = append(parts, n*(i+1)/runs-n*i/runs)
	}
	return parts
}

// once makes a run.
func (c faults) once(ctx context.Context, j job) (dir string, outcome campaign.Outcome, v *campaign.Verdict, err error) {
	name := strings.Join(append([]string{j.file()}, c.set...), "-")
	name = strings.NewReplacer("/", "-", "=", "-").Replace(name)
	dir = filepath.Join(c.dir, fmt.Sprintf("%s-%d", name, j.i+1))
	file := dir + ".yaml"
	text := j.scenario(j.n, c.seed+int64(j.i))
	before, _ := os.ReadFile(file)
	same := slices.Equal(before, text)
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return dir, outcome, nil, err
	}
	args := []string{file}
	for _, s := range c.set {
		args = append(args, "--set", s)
	}
	run := campaign.Run{Binary: c.binary, Dir: dir, Args: args, Resume: c.resume && same}
	outcome, v, err = run.Do(ctx)
	if err != nil {
		err = fmt.Errorf("%s: %w", j.title(), err)
	}
	return dir, outcome, v, err
}

// count adds what has come of a run to its fault and tells of it.
func (j job) count(dir string, outcome campaign.Outcome, v *campaign.Verdict) string {
	t := j.tally
	note := func(format string, args ...any) {
		t.notes = append(t.notes, fmt.Sprintf("%s: %s", dir, fmt.Sprintf(format, args...)))
	}
	t.injections += j.n
	t.verdicts[v.Verdict]++
	violations := v.Violations()
	t.violations += len(violations)
	t.left += len(outcome.Left)
	for _, thing := range outcome.Left {
		note("left behind after %s: %s", campaign.Words(outcome.LeftFor), thing)
	}
	if len(violations) > 0 {
		note("violations: %s", strings.Join(violations, ", "))
	}
	if v.Verdict != "pass" {
		for _, reason := range v.Reasons {
			note("%s: %s", v.Verdict, reason)
		}
	}
	line := func(confirmed int) string {
		line := fmt.Sprintf("%-42s %d/%d confirmed, %s, %s left, exit %d, %.0f s", t.title(), confirmed, j.n, v.Verdict,
			number(len(outcome.Left)), outcome.Code, outcome.Took.Seconds())
		if outcome.Resumed {
			line += ", made before"
		}
		return line
	}
	if v.Verdict == campaign.Failed {
		t.proofs[history.Inconclusive] += j.n
		return line(0)
	}
	byName := map[string]campaign.Fault{}
	for _, f := range v.Faults {
		byName[f.Name] = f
	}
	confirmed := 0
	var injected []campaign.Fault
	for i := range j.n {
		f, ok := byName[injectionName(i)]
		if !ok || f.Requested == nil {
			t.proofs[history.Inconclusive]++
			note("%s was not requested", injectionName(i))
			continue
		}
		t.proofs[cmp.Or(f.Evidence.Verdict, history.Inconclusive)]++
		if f.Evidence.Verdict == history.Confirmed {
			confirmed++
		}
		injected = append(injected, f)
		if f.Injected == nil {
			continue
		}
		t.injection = append(t.injection, *f.Injected-*f.Requested)
		if f.Recovered == nil {
			t.notBack++
			note("%s was not seen recovered", f.Name)
			continue
		}
		t.recovery = append(t.recovery, *f.Recovered-t.end(f))
	}
	slices.SortFunc(injected, func(a, b campaign.Fault) int { return cmp.Compare(*a.Requested, *b.Requested) })
	for i := 1; i < len(injected); i++ {
		if back := injected[i-1].Recovered; back != nil && *back > *injected[i].Requested {
			t.overlaps++
		}
	}
	return line(confirmed)
}

// end is when a fault was to end: for one without a duration when it was seen.
func (t *tally) end(f campaign.Fault) time.Duration {
	if t.duration > 0 && !t.fromSeen {
		return *f.Requested + t.duration
	}
	return *f.Injected + t.duration
}

// good tells whether all injections are as they should be.
func (t *tally) good() bool {
	return t.proofs[history.Confirmed] == t.injections && t.notBack == 0 && t.violations == 0 && t.left == 0
}

var header = []string{"fault", "variant", "n", "confirmed", "injection median", "p99", "max", "recovery median", "p99", "max", "overlaps", "verdicts", "left behind"}

func (t *tally) row() []string {
	confirmed := fmt.Sprint(t.proofs[history.Confirmed])
	for _, proof := range []history.Proof{history.Mismatch, history.Inconclusive} {
		if n := t.proofs[proof]; n > 0 {
			confirmed += fmt.Sprintf(", %d %s", n, proof)
		}
	}
	if t.notBack > 0 {
		confirmed += fmt.Sprintf(", %d not back", t.notBack)
	}
	row := []string{strings.TrimSpace(t.kind + " " + t.action), t.variant, fmt.Sprint(t.injections), confirmed}
	for _, delays := range [][]time.Duration{t.injection, t.recovery} {
		for _, q := range []float64{0.5, 0.99, 1} {
			word := "-"
			if len(delays) > 0 {
				word = campaign.Words(campaign.Quantile(delays, q))
			}
			row = append(row, word)
		}
	}
	var verdicts []string
	for _, v := range []string{"pass", "unknown", "violation", campaign.Failed} {
		if n := t.verdicts[v]; n > 0 {
			verdicts = append(verdicts, fmt.Sprintf("%d %s", n, v))
		}
	}
	return append(row, fmt.Sprint(t.overlaps), strings.Join(verdicts, ", "), number(t.left))
}

func number(n int) string {
	if n == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%d THINGS", n)
}

// report prints the table, writes it as Markdown into the folder, and returns
// whether all is as it should be.
func (c faults) report(plan []*tally, took time.Duration, out io.Writer) (bool, error) {
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(header, "\t"))
	var markdown strings.Builder
	fmt.Fprintf(&markdown, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat(" --- |", len(header)))
	good, injections := 0, 0
	for _, t := range plan {
		fmt.Fprintln(table, strings.Join(t.row(), "\t"))
		fmt.Fprintf(&markdown, "| %s |\n", strings.Join(t.row(), " | "))
		injections += t.injections
		if t.good() {
			good++
		}
	}
	err := table.Flush()
	for _, t := range plan {
		for _, line := range t.notes {
			fmt.Fprintln(out, line)
		}
	}
	fmt.Fprintf(out, "\nInjection: from the request until an observer saw the fault. Recovery: from the end of its duration,\n"+
		"or without one from when it was seen, until an observer saw it gone and the node ready (started again after 200 ms).\n"+
		"%d injections of %d faults, %d of which are as they should be, in %s; Markdown in %s\n",
		injections, len(plan), good, took.Round(time.Second), filepath.Join(c.dir, "table.md"))
	return good == len(plan), errors.Join(err, os.WriteFile(filepath.Join(c.dir, "table.md"), []byte(markdown.String()), 0o644))
}
