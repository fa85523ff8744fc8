package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"statequake/fixtures/lease"
	"statequake/reports"
	"statequake/reports/suite"
	"statequake/scenarios"
	"statequake/scenarios/doctor"
)

// endingLimit is how long a run that was killed may take to be gone.
const endingLimit = 10 * time.Second

// suiteRuns are the runs of a suite under way. Each is a process of its own, as
// if its scenario was run alone: it has the namespaces that it can have, nothing
// of it is left for the next one, and what it takes is measured by itself.
type suiteRuns struct {
	suite   *scenarios.Suite
	source  string   // as given
	out     string   //
	runs    int      // of each scenario
	allow   bool     // scenarios that cannot run here are skipped
	set     []string // PATH=VALUE for all scenarios
	options []string // arguments that each run gets as they are

	plan   suite.Plan
	screen *progress
	began  time.Time
	took   time.Duration // by the runs that were made
	made   int
	todo   int      // runs to make, the one under way included
	name   string   // of the run under way
	said   string   // by it, last: how it goes
	events []string // said by it otherwise, the latest last
}

// shownEvents is how many lines are shown of what a run says beside how it goes.
const shownEvents = 4

// runSuite runs the suite that args name, or goes on with it.
func runSuite(cmd *cobra.Command, source string, r *suiteRuns) error {
	var err error
	if r.suite, err = scenarios.OpenSuite(source, scenarios.Options{Set: r.set, CheckExpectation: reports.CheckExpectation}); err != nil {
		return err
	}
	r.source = source
	if r.out == "" {
		r.out = filepath.Join("runs", time.Now().UTC().Format("20060102-150405")+"-"+r.suite.Name)
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if !slices.Contains([]string{"set", "seed", "out", "runs", "compress", "allow-skip"}, f.Name) {
			r.options = append(r.options, "--"+f.Name+"="+f.Value.String())
		}
	})
	unlock, err := r.prepare()
	if err != nil {
		return err
	}
	defer unlock()
	r.screen = newProgress(os.Stdout, nil)
	ctx, cancel := stopOnInterrupt(cmd.Context(), r.screen)
	defer cancel()
	if err := r.run(ctx); err != nil {
		return err
	}
	return r.tell(ctx.Err() != nil)
}

// command is what is given to run the suite, or to go on with it.
func (r *suiteRuns) command() []string {
	words := []string{"statequake", "run", r.source, "--out", r.out}
	if r.runs > 1 {
		words = append(words, "--runs", strconv.Itoa(r.runs))
	}
	for _, set := range r.set {
		words = append(words, "--set", set)
	}
	if r.allow {
		words = append(words, "--allow-skip")
	}
	return append(words, r.options...)
}

// prepare makes the directory and writes the plan, or finds that the directory
// holds the same one. unlock lets others go on with it.
func (r *suiteRuns) prepare() (unlock func(), err error) {
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.Open(r.out)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%s: another statequake is running a suite in it", r.out)
	} else if err != nil {
		return nil, fmt.Errorf("lock %s: %w", r.out, err)
	}
	r.plan = suite.Plan{Suite: r.suite.Name, Claim: r.suite.Claim, Statequake: version, Command: r.command(), Runs: r.runs}
	for _, m := range r.suite.Members {
		r.plan.Scenarios = append(r.plan.Scenarios, suite.Planned{Name: m.Scenario.Name, Source: m.Source, Claim: m.Scenario.Claim, Seed: m.Scenario.Seed})
	}
	old, err := suite.ReadPlan(r.out)
	switch {
	case err == nil:
		err = r.agree(old)
	case errors.Is(err, fs.ErrNotExist):
		err = r.begin()
	}
	if err != nil {
		return nil, err
	}
	return func() { lock.Close() }, nil
}

// begin fills a directory that holds nothing. The plan comes last, so that its
// presence says that the scenarios are there.
func (r *suiteRuns) begin() error {
	if err := refuseFull(r.out); err != nil {
		return err
	}
	for _, m := range r.suite.Members {
		text, err := planText(m.Scenario)
		if err != nil {
			return err
		}
		if err := reports.Replace(filepath.Join(r.out, suite.ScenarioFile(m.Scenario.Name)), text); err != nil {
			return err
		}
	}
	return r.plan.Write(r.out)
}

// planText is the scenario as it is run, without facts about the machine.
func planText(s *scenarios.Scenario) ([]byte, error) { return s.Resolved(scenarios.Facts{}) }

// agree returns an error if what is to be run is not what the directory holds.
func (r *suiteRuns) agree(old *suite.Plan) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%s holds another suite: %s\nhint: what it holds goes on with: %s\nhint: a new --out runs all of it",
			r.out, fmt.Sprintf(format, args...), shellLine(old.Command))
	}
	names := func(p *suite.Plan) (all []string) {
		for _, s := range p.Scenarios {
			all = append(all, s.Name)
		}
		return all
	}
	if have, now := names(old), names(&r.plan); !slices.Equal(have, now) {
		return refuse("it has the scenarios %s, now they are %s", strings.Join(have, ", "), strings.Join(now, ", "))
	}
	if old.Runs != r.runs {
		return refuse("it has --runs %d, now it is %d", old.Runs, r.runs)
	}
	for _, m := range r.suite.Members {
		text, err := planText(m.Scenario)
		if err != nil {
			return err
		}
		file := filepath.Join(r.out, suite.ScenarioFile(m.Scenario.Name))
		have, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if line, was, is := firstChange(have, text); line > 0 {
			return refuse("%s has changed; %s:%d was %q and is %q", m.Source, file, line, was, is)
		}
	}
	return nil
}

// firstChange is the first line, from 1, in which two texts differ; 0 if they do
// not.
func firstChange(a, b []byte) (line int, was, is string) {
	if bytes.Equal(a, b) {
		return 0, "", ""
	}
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := 0; ; i++ {
		var was, is string
		if i < len(x) {
			was = x[i]
		}
		if i < len(y) {
			is = y[i]
		}
		if was != is || i >= len(x) && i >= len(y) {
			return i + 1, strings.TrimSpace(was), strings.TrimSpace(is)
		}
	}
}

func shellLine(words []string) string {
	var quoted []string
	for _, w := range words {
		quoted = append(quoted, reports.ShellWord(reports.Harmless(w)))
	}
	return strings.Join(quoted, " ")
}

// turn is one planned run.
type turn struct {
	index int // of the scenario
	run   int // from 1
}

// run makes all runs that are not there yet: the first of every scenario, then
// the second ones, so that a machine which slows down does so for all alike. An
// error means that the suite cannot go on; the summary is of what there is.
func (r *suiteRuns) run(ctx context.Context) error {
	var turns []turn
	kept := 0
	for n := 1; n <= r.runs; n++ {
		for i := range r.plan.Scenarios {
			finished, err := r.finished(i, n)
			if err != nil {
				return err
			}
			if finished {
				kept++
				continue
			}
			turns = append(turns, turn{i, n})
		}
	}
	text := fmt.Sprintf("%s: %s, %s, into %s", r.suite.Name, plural(len(r.plan.Scenarios), "scenario"), plural(kept+len(turns), "run"), r.out)
	if kept > 0 {
		text += fmt.Sprintf("; %s kept", plural(kept, "finished run"))
	}
	r.screen.say(text)
	if err := r.examine(ctx, turns); err != nil {
		return err
	}
	turns = slices.DeleteFunc(turns, func(t turn) bool { return r.plan.Scenarios[t.index].CannotRun != "" })
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the statequake program: %w", err)
	}
	r.began, r.todo = time.Now(), len(turns)
	for _, t := range turns {
		if ctx.Err() != nil {
			break
		}
		if err := r.make(ctx, binary, t); err != nil {
			return err
		}
	}
	r.screen.end()
	return nil
}

// examine finds out what the scenarios that are to be run need and the machine
// does not have, and puts it into the plan.
func (r *suiteRuns) examine(ctx context.Context, turns []turn) error {
	var needs []scenarios.Need
	for _, t := range turns {
		needs = append(needs, r.suite.Members[t.index].Scenario.Needs()...)
	}
	lacks, err := doctor.Lacks(ctx, needs)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("find out what this machine can do: %w", err)
	}
	for i := range r.plan.Scenarios {
		p := &r.plan.Scenarios[i]
		var why []string
		for _, n := range r.suite.Members[i].Scenario.Needs() {
			if found, ok := lacks[n]; ok {
				why = append(why, fmt.Sprintf("%s: %s", n, found))
			}
		}
		if p.CannotRun = strings.Join(why, "; "); p.CannotRun != "" {
			p.Skipped = r.allow
			r.screen.say(fmt.Sprintf("%s: cannot run here: %s", p.Name, p.CannotRun))
		}
	}
	return r.plan.Write(r.out)
}

// dir is the directory of a run.
func (r *suiteRuns) dir(t turn) string {
	return filepath.Join(r.out, r.plan.Dir(&r.plan.Scenarios[t.index], t.run))
}

// finished reports whether a run is there that need not be made again. One that
// was cut short is set aside.
func (r *suiteRuns) finished(index, n int) (bool, error) {
	t := turn{index, n}
	dir := r.dir(t)
	v, err := reports.Read(dir)
	switch {
	case err == nil && v.Load.Stopped == "":
		return true, r.same(t)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("%w\nhint: statequake check %s writes it anew", err, dir)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := awaitEnd(dir); err != nil {
		return false, err
	}
	return false, r.setAside(t)
}

// same returns an error if the finished run is not of the scenario.
func (r *suiteRuns) same(t turn) error {
	file := filepath.Join(r.dir(t), "scenario.yaml")
	is, err := scenarios.Open(file, scenarios.Options{})
	if err != nil {
		return err
	}
	want := *r.suite.Members[t.index].Scenario
	want.Seed += int64(t.run - 1)
	if kept, asked := is.Load.Arrivals.Replay, want.Load.Arrivals.Replay; kept != nil && asked != nil {
		if !slices.Equal(kept.Instants, asked.Instants) {
			return fmt.Errorf("%s replayed another schedule than there is in %s now\nhint: move it away to have it run again", r.dir(t), asked.File)
		}
		copied := *asked // a run keeps the schedule in its directory
		copied.File = kept.File
		want.Load.Arrivals.Replay = &copied
	}
	have, err := planText(is)
	if err != nil {
		return err
	}
	text, err := planText(&want)
	if err != nil {
		return err
	}
	if line, was, is := firstChange(have, text); line > 0 {
		return fmt.Errorf("%s is of another scenario: %q, not %q\nhint: move it away to have it run again", r.dir(t), was, is)
	}
	return nil
}

// awaitEnd waits until the run in dir, whose suite was killed, is gone itself.
func awaitEnd(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for end := time.Now().Add(endingLimit); ; time.Sleep(50 * time.Millisecond) {
		dead, err := lease.Bury(root)
		switch {
		case err == nil:
			return dead.Close()
		case !errors.Is(err, lease.ErrAlive):
			return nil // it has ended, or nobody can tell
		case time.Now().After(end):
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
}

// setAside moves what there is of a run that was cut short out of the way, to
// NAME.torn.
func (r *suiteRuns) setAside(t turn) error {
	p := &r.plan.Scenarios[t.index]
	aside := filepath.Join(r.out, p.Name+".torn")
	if err := os.MkdirAll(aside, 0o755); err != nil {
		return err
	}
	to := ""
	for i := 1; to == "" || exists(to); i++ {
		to = filepath.Join(aside, fmt.Sprintf("%04d-%d", t.run, i))
	}
	dir := r.dir(t)
	if err := os.Rename(dir, to); err != nil {
		return fmt.Errorf("set aside a run that was cut short: %w", err)
	}
	if err := os.Rename(dir+".log", to+".log"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fmt.Fprintf(os.Stdout, "%s was cut short: moved to %s, run again\n", dir, to)
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// make makes one run and says how it ended.
func (r *suiteRuns) make(ctx context.Context, binary string, t turn) error {
	p := &r.plan.Scenarios[t.index]
	r.name, r.said, r.events = p.Name, "", nil
	if r.runs > 1 {
		r.name = fmt.Sprintf("%s %d/%d", p.Name, t.run, r.runs)
	}
	r.redraw()
	dir := r.dir(t)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	log, err := os.Create(dir + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"run", filepath.Join(r.out, suite.ScenarioFile(p.Name)), "--seed", strconv.FormatInt(p.Seed+int64(t.run-1), 10), "--out", dir}
	began := time.Now()
	code, err := child(ctx, exec.Command(binary, append(args, r.options...)...), log, r.hear, r.redraw)
	if err != nil {
		return err
	}
	took := time.Since(began)
	r.took += took
	r.made++
	sum, err := r.sum()
	if err != nil {
		return err
	}
	ended := sum.Find(p.Name, t.run)
	line := fmt.Sprintf("%s: %s", r.name, ended.Outcome)
	if ended.P99 != nil {
		line += ", p99 " + reports.Duration(*ended.P99)
	}
	r.screen.say(fmt.Sprintf("%s, exit code %d, took %s", line, code, clock(took)))
	return nil
}

// sum writes the summary of what there is.
func (r *suiteRuns) sum() (*suite.Summary, error) {
	s, err := suite.Load(r.out)
	if err != nil {
		return nil, err
	}
	return s, s.Write(r.out)
}

// hear notes a line of the run under way; all of them are in its log.
func (r *suiteRuns) hear(line string) {
	if line == "" || !r.screen.live || r.said == "judging" { // its verdict follows
		return
	}
	switch first, _, _ := strings.Cut(line, " "); {
	case !slices.Contains(phases, first):
		r.events = append(r.events, line)
		r.events = r.events[max(0, len(r.events)-shownEvents):]
	default:
		r.said = line
	}
	r.redraw()
}

func (r *suiteRuns) redraw() {
	elapsed := time.Since(r.began)
	line := fmt.Sprintf("run %d of %d (%s)  elapsed %s", r.made+1, r.todo, r.name, clock(elapsed))
	if r.made > 0 {
		line += " of about " + clock(max(r.took/time.Duration(r.made)*time.Duration(r.todo), elapsed))
	}
	if r.said != "" {
		line += "\n  " + r.said
	}
	for _, event := range slices.Backward(r.events) {
		line += "\n  " + event
	}
	r.screen.draw(line)
}

// tell prints the table of the suite and turns it into the exit code.
func (r *suiteRuns) tell(interrupted bool) error {
	s, err := r.sum()
	if err != nil {
		return err
	}
	fmt.Println()
	if err := s.Text(os.Stdout); err != nil {
		return fmt.Errorf("print the summary: %w", err)
	}
	fmt.Printf("\nSummary: %s (summary.md, junit.xml, suite.json)\n", filepath.Join(r.out, "summary.html"))
	if interrupted {
		fmt.Printf("Go on    %s\n", shellLine(r.plan.Command))
	}
	if code := s.ExitCode(); code != exitPass {
		return exit(code)
	}
	return nil
}
