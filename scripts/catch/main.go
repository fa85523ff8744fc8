// Catch proves that the checkers can fail: it runs the directed scenario of
// every planted bug, with the bug and without it, and expects each bug to be
// found by its own kind of violation and the correct runtime to be found clean.
//
//	go run ./scripts/catch -n 10                  # all bugs
//	go run ./scripts/catch -n 3 no-fence          # one
//
// It exits 0 if every run ended as expected, 1 if one did not, 3 if it could
// not be told.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"statequake/scenarios"
)

func main() {
	var c campaign
	flag.IntVar(&c.n, "n", 10, "runs of each scenario with the bug, and as many without")
	flag.StringVar(&c.binary, "bin", "bin/statequake", "the program")
	flag.StringVar(&c.dir, "runs", "runs/catch", "folder for run directories; those that ended as expected are removed")
	flag.Int64Var(&c.seed, "seed", 1, "seed of the first run; each further one takes the next")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := c.run(ctx, flag.Args(), os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "catch: %v\n", err)
		os.Exit(3)
	case !ok:
		os.Exit(1)
	}
}

// campaign is n runs of every directed scenario, with the bug and without.
type campaign struct {
	n      int
	binary string
	dir    string
	seed   int64
}

// tally is what has come of one scenario so far.
type tally struct {
	scenario       string // bundled name
	reveals        string
	caught, passed int
	unexpected     []string // one line each
}

// run reports whether every run ended as expected. bugs selects; none is all.
func (c campaign) run(ctx context.Context, bugs []string, out io.Writer) (bool, error) {
	plan, err := directed(bugs)
	if err != nil {
		return false, err
	}
	if c.n < 1 {
		return false, fmt.Errorf("-n %d: there is nothing to run", c.n)
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return false, err
	}
	began := time.Now()
	for _, t := range plan {
		for i := range c.n {
			for _, planted := range []bool{true, false} {
				if err := c.once(ctx, t, c.seed+int64(i), planted, out); err != nil {
					return false, err
				}
			}
		}
	}
	return c.report(plan, time.Since(began), out), nil
}

// directed returns the bundled scenarios of the named bugs, or of all.
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
			plan = append(plan, &tally{scenario: info.Name, reveals: info.Scenario.Reveals})
		}
	}
	for _, bug := range bugs {
		if !have[bug] {
			return nil, fmt.Errorf("unknown bug %q; have %s", bug, strings.Join(slices.Sorted(maps.Keys(have)), ", "))
		}
	}
	return plan, nil
}

// once makes one run and counts it.
func (c campaign) once(ctx context.Context, t *tally, seed int64, planted bool, out io.Writer) error {
	kind := "bug"
	args := []string{"run", t.scenario, "--set", fmt.Sprintf("seed=%d", seed)}
	if !planted {
		kind = "control"
		args = append(args, "--set", "system.bug=")
	}
	dir := filepath.Join(c.dir, fmt.Sprintf("%s-%s-%d", filepath.Base(t.scenario), kind, seed))
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	began := time.Now()
	cmd := exec.CommandContext(ctx, c.binary, append(args, "--out", dir)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if exited := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exited) {
		return err
	}
	code := cmd.ProcessState.ExitCode()
	kinds, err := violations(dir)
	if err != nil && (code == 0 || code == 1 || code == 4) {
		return fmt.Errorf("exit code %d without a verdict: %w\n%s", code, err, output)
	}

	ok := expected(code, kinds, t.reveals, planted)
	fmt.Fprintf(out, "%-24s %-8s seed %-4d exit %d  %5.1fs  %s\n",
		t.scenario, kind, seed, code, time.Since(began).Seconds(), outcome(ok, kinds))
	switch {
	case !ok:
		if err := os.WriteFile(filepath.Join(c.dir, filepath.Base(dir)+".log"), output, 0o644); err != nil {
			return err
		}
		t.unexpected = append(t.unexpected, fmt.Sprintf("%s %s: exit %d, found %s; see %s\n  replay: %s %s",
			t.scenario, kind, code, list(kinds), dir, c.binary, strings.Join(args, " ")))
		return nil
	case planted:
		t.caught++
	default:
		t.passed++
	}
	return os.RemoveAll(dir)
}

// expected says whether a run ended as it should: with the bug it exits 1 and
// the named kind is among its violations; without, it is clean, though it may
// miss an expectation (exit 4), since the scenario slows the system down.
func expected(code int, kinds []string, reveals string, planted bool) bool {
	if planted {
		return code == 1 && slices.Contains(kinds, reveals)
	}
	return (code == 0 || code == 4) && len(kinds) == 0
}

func outcome(ok bool, kinds []string) string {
	if !ok {
		return "NOT AS EXPECTED: found " + list(kinds)
	}
	return "found " + list(kinds)
}

func list(kinds []string) string {
	if len(kinds) == 0 {
		return "nothing"
	}
	return strings.Join(kinds, ", ")
}

// violations returns the kinds of violation in the verdict of a run, sorted.
func violations(dir string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "verdict.json"))
	if err != nil {
		return nil, err
	}
	var verdict struct {
		Checks []struct {
			Violations []struct {
				Kind string `json:"kind"`
			} `json:"violations"`
		} `json:"checks"`
	}
	if err := json.Unmarshal(data, &verdict); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "verdict.json"), err)
	}
	kinds := map[string]bool{}
	for _, c := range verdict.Checks {
		for _, v := range c.Violations {
			kinds[v.Kind] = true
		}
	}
	return slices.Sorted(maps.Keys(kinds)), nil
}

// report prints the totals and returns whether all is as expected.
func (c campaign) report(plan []*tally, took time.Duration, out io.Writer) bool {
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "scenario\treveals\tcaught\tcontrol clean")
	good := 0
	for _, t := range plan {
		fmt.Fprintf(table, "%s\t%s\t%d/%d\t%d/%d\n", t.scenario, t.reveals, t.caught, c.n, t.passed, c.n)
		good += t.caught + t.passed
	}
	table.Flush()
	for _, t := range plan {
		for _, line := range t.unexpected {
			fmt.Fprintln(out, line)
		}
	}
	all := 2 * c.n * len(plan)
	fmt.Fprintf(out, "\n%d of %d runs as expected, in %s\n", good, all, took.Round(time.Second))
	return good == all
}
