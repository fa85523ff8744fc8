package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"statequake/reports"
	"statequake/reports/check"
	"statequake/reports/stats"
	"statequake/scenarios"
	"statequake/scenarios/shrink"
)

// errBudget ends a search that has taken its time.
var errBudget = errors.New("the budget is used up")

// shrinking is a search for a smaller scenario.
type shrinking struct {
	run, kind, binary, out string
	tries, confirm         int
	budget                 time.Duration

	original *scenarios.Scenario
	smallest *scenarios.Scenario
	accepted []*scenarios.Scenario // all that showed it, each smaller than the one before
	screen   *progress
	log      *os.File
	began    time.Time

	candidates, runs int
	asks             string // what is being run
	said             string // by the run under way, last
	judging          bool   // the run under way goes on to print its verdict
}

// findings are what a verdict found.
type findings struct {
	verdict check.Verdict
	kinds   map[string]int
	first   string // kind of the violation that is listed first
}

// found reads the verdict of a run, or judges it if it has none.
func found(dir string) (*findings, error) {
	var v struct {
		Verdict check.Verdict  `json:"verdict"`
		Checks  []check.Result `json:"checks"`
	}
	path := filepath.Join(dir, "verdict.json")
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(data, &v); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	case errors.Is(err, fs.ErrNotExist):
		judged, err := reports.Judge(dir)
		if err != nil {
			return nil, err
		}
		v.Verdict, v.Checks = judged.Verdict, judged.Checks
	default:
		return nil, err
	}
	f := &findings{verdict: v.Verdict, kinds: map[string]int{}}
	for _, c := range v.Checks {
		for kind, n := range c.Kinds {
			f.kinds[kind] += n
		}
		if f.first == "" && len(c.Violations) > 0 {
			f.first = c.Violations[0].Kind
		}
	}
	return f, nil
}

// all searches, confirms and tells.
func (s *shrinking) all(ctx context.Context) (err error) {
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	if s.log, err = os.Create(filepath.Join(s.out, "shrink.log")); err != nil {
		return err
	}
	defer s.log.Close()
	defer s.screen.end()
	defer os.RemoveAll(s.tryFile())
	s.screen.say(fmt.Sprintf("%s: shrinking a violation of kind %s, %s, into %s", s.original.Name, s.kind, size(s.original), s.out))
	ctx, cancel := stopOnInterrupt(ctx, s.screen)
	defer cancel()
	s.began, s.smallest, s.accepted = time.Now(), s.original, []*scenarios.Scenario{s.original}

	again, err := s.shows(ctx, s.original, "the original")
	switch {
	case errors.Is(err, errBudget):
		s.screen.say(err.Error() + " before the original showed the violation again")
		return exit(2)
	case err != nil:
		return s.interrupted(ctx, err)
	case !again:
		s.screen.say(fmt.Sprintf("the original does not show it again in %s\nhint: --tries", plural(s.tries, "run")))
		return exit(2)
	}
	if err := s.write(""); err != nil {
		return err
	}
	_, err = shrink.Search(ctx, s.original, func(ctx context.Context, c shrink.Candidate) (bool, error) {
		s.candidates++
		ok, err := s.shows(ctx, c.Scenario, c.Change)
		if ok && err == nil {
			s.smallest = c.Scenario
			s.accepted = append(s.accepted, c.Scenario)
			err = s.write("")
		}
		return ok, err
	})
	if err != nil && !errors.Is(err, errBudget) {
		return s.interrupted(ctx, err)
	}
	complete := err == nil
	took := time.Since(s.began)
	if s.smallest == s.original && !complete {
		s.screen.say(fmt.Sprintf("%v, and nothing smaller than the original was found in %s\nhint: --budget", errBudget, plural(s.candidates, "candidate")))
		return exit(2)
	}
	return s.conclude(ctx, complete, took)
}

// conclude confirms the smallest scenario and tells what was found. Where it was
// luck that led to a scenario, it goes back to a larger one.
func (s *shrinking) conclude(ctx context.Context, complete bool, took time.Duration) error {
	searched := fmt.Sprintf("searched %s: %s, %s", clock(took), plural(s.candidates, "candidate"), plural(s.runs, "run"))
	if !complete {
		searched += "; then " + errBudget.Error() + ", and a still smaller one may be there"
	}
	shown, back := 0, 0
	for i := len(s.accepted) - 1; ; i = max(0, i-back) {
		s.smallest = s.accepted[i]
		var err error
		if shown, err = s.confirmed(ctx); err != nil {
			return s.interrupted(ctx, err)
		}
		if shown > 0 || i == 0 {
			break
		}
		back = max(1, 2*back)
		s.screen.say("not seen again, so back to a larger one: " + size(s.accepted[max(0, i-back)]))
	}
	low, high := stats.Share(shown, s.confirm, 0.95)
	often := fmt.Sprintf("%s in %d of %s: %.0f %%, 95 %% interval %.0f %% to %.0f %%",
		s.kind, shown, plural(s.confirm, "run"), 100*float64(shown)/float64(s.confirm), 100*low, 100*high)
	if err := s.write(often); err != nil {
		return err
	}
	s.screen.say("")
	switch {
	case s.smallest != s.original:
		s.screen.say("from " + size(s.original) + "\nto   " + size(s.smallest))
	case back > 0:
		s.screen.say("nothing smaller was seen again: " + size(s.original))
	default:
		s.screen.say("nothing smaller shows it: " + size(s.original))
	}
	s.screen.say(often)
	s.screen.say(searched)
	s.screen.say(fmt.Sprintf("\nScenario: %s; the last run that shows it: %s", filepath.Join(s.out, "scenario.yaml"), filepath.Join(s.out, "run")))
	if shown == 0 || s.smallest == s.original && back > 0 {
		return exit(2)
	}
	return nil
}

// confirmed runs the smallest scenario some more and counts the runs that show
// the violation.
func (s *shrinking) confirmed(ctx context.Context) (shown int, err error) {
	for i := range s.confirm {
		what := fmt.Sprintf("confirm %d of %d", i+1, s.confirm)
		ok, err := s.once(ctx, s.smallest, what)
		if err != nil {
			return shown, err
		}
		if ok {
			shown++
		}
		s.screen.say(what + ": " + s.word(ok))
	}
	return shown, nil
}

// interrupted is err, or that somebody stopped the search, and what there is.
func (s *shrinking) interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if s.smallest != s.original {
		err = fmt.Errorf("%w\nhint: %s is the smallest so far: %s", err, filepath.Join(s.out, "scenario.yaml"), size(s.smallest))
	}
	return err
}

func (s *shrinking) word(shown bool) string {
	if shown {
		return s.kind
	}
	return "no " + s.kind
}

// shows runs a scenario until it shows the violation, or for all its tries.
func (s *shrinking) shows(ctx context.Context, c *scenarios.Scenario, what string) (bool, error) {
	began := time.Now()
	for try := 1; try <= s.tries; try++ {
		if time.Since(s.began) >= s.budget {
			return false, errBudget
		}
		ok, err := s.once(ctx, c, fmt.Sprintf("%s, try %d of %d", what, try, s.tries))
		if err != nil {
			return false, err
		}
		if ok || try == s.tries {
			s.screen.say(fmt.Sprintf("%s: %s, %s, took %s", what, s.word(ok), plural(try, "run"), clock(time.Since(began))))
			return ok, nil
		}
	}
	return false, nil
}

func (s *shrinking) tryFile() string { return filepath.Join(s.out, "try.yaml") }

// once makes one run and reports whether it shows the violation; then it is kept
// in the place of the last one that did. A scenario that cannot be run does not
// show it, unless it is the original.
func (s *shrinking) once(ctx context.Context, c *scenarios.Scenario, what string) (bool, error) {
	text, err := c.Resolved(scenarios.Facts{})
	if err == nil {
		err = os.WriteFile(s.tryFile(), text, 0o644)
	}
	if err != nil {
		return false, err
	}
	dir := filepath.Join(s.out, "try")
	if err := os.RemoveAll(dir); err != nil {
		return false, err
	}
	s.runs++
	s.asks, s.said, s.judging = what, "", false
	fmt.Fprintf(s.log, "\n--- run %d, %s\n", s.runs, what)
	if s.screen.live {
		s.redraw()
	} else {
		s.screen.say(s.line())
	}
	code, err := child(ctx, exec.Command(s.binary, "run", s.tryFile(), "--out", dir), s.log, s.hear, s.redraw)
	defer os.RemoveAll(dir)
	switch {
	case err != nil:
		return false, err
	case ctx.Err() != nil:
		return false, ctx.Err()
	}
	switch code {
	case exitPass, 1, 2, 4:
	default:
		if c == s.original {
			return false, fmt.Errorf("the original cannot be run: exit code %d; the end of %s:\n%s", code, s.log.Name(), tail(s.log.Name()))
		}
		s.screen.say(fmt.Sprintf("%s: it cannot be run, exit code %d", what, code))
		return false, nil
	}
	f, err := found(dir)
	if err != nil || f.kinds[s.kind] == 0 {
		return false, err
	}
	kept := filepath.Join(s.out, "run")
	if err := os.RemoveAll(kept); err != nil {
		return false, err
	}
	return true, os.Rename(dir, kept)
}

// write puts the smallest scenario into its file, as a whole or not at all.
func (s *shrinking) write(often string) error {
	text, err := s.smallest.Resolved(scenarios.Facts{})
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Shrunk by statequake %s from %s to show a violation of kind %s.\n", version, oneLine(s.run), s.kind)
	fmt.Fprintf(&b, "# From: %s\n# To:   %s\n", size(s.original), size(s.smallest))
	if often != "" {
		fmt.Fprintf(&b, "# Seen: %s\n", often)
	}
	fmt.Fprintf(&b, "#\n%s", text)
	file := filepath.Join(s.out, "scenario.yaml")
	if err := os.WriteFile(file+".new", b.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// oneLine keeps a comment a comment.
func oneLine(path string) string { return strings.Join(strings.Fields(path), " ") }

// hear shows a line of the run under way: its progress, not its verdict.
func (s *shrinking) hear(line string) {
	if line == "" || s.judging {
		return
	}
	s.said, s.judging = line, line == "judging"
	if s.screen.live {
		s.redraw()
	}
}

func (s *shrinking) redraw() {
	line := s.line()
	if s.said != "" {
		line += "\n  " + s.said
	}
	s.screen.draw(line)
}

// line says what is being run, and how long it all has taken.
func (s *shrinking) line() string {
	return fmt.Sprintf("run %d, %s  elapsed %s, budget %s", s.runs, s.asks, clock(time.Since(s.began)), clock(s.budget))
}

// size says how large a scenario is.
func size(s *scenarios.Scenario) string {
	faults := "no faults"
	if len(s.Faults) > 0 {
		faults = plural(len(s.Faults), "fault")
	}
	return fmt.Sprintf("%s, warmup %v and load %v, %s, %s, %s", faults, s.Load.Warmup, s.Load.Duration, s.Load.Arrivals, plural(s.Load.Workload.Keys, "key"), plural(s.System.Nodes, "node"))
}
