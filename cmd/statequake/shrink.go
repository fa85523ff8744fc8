package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"statequake/scenarios"
)

// maxTries bounds --tries and --confirm.
const maxTries = 999

func shrinkCmd() *cobra.Command {
	var s shrinking
	cmd := &cobra.Command{
		Use:   "shrink RUN",
		Short: "Search for a smaller scenario that shows the same violation",
		Long: `Search for the smallest scenario that still shows a violation of the same kind as
a run did: with fewer faults, a shorter load, fewer keys, a lower rate, fewer
kinds of operations, fewer nodes, without retries and duplicates.

It is found by running. A candidate is run up to --tries times and taken if one
of these runs shows the kind; what saves most time is tried first. The faults
keep their order and stay in the load, which gets shorter before, between and
after them. The search ends when no single step is accepted any more, or when it
has taken --budget. The smallest scenario is then run --confirm times more, which
is not in the budget, to say how often it shows the violation. If none of them
does, it was found by luck, and a larger one that had shown it is run instead.

DIR/scenario.yaml is the smallest so far, written whenever there is a smaller
one; DIR/run is the last run that shows the violation with it, and
DIR/shrink.log what all runs printed. Ctrl-C ends the run under way and stops,
and keeps what was found; a second Ctrl-C leaves at once.

Exit codes: 0 the scenario in DIR is smaller, or no smaller one shows the
violation, and it was seen again when confirmed; 2 the original does not show it
again in its tries, nothing smaller was found within the budget, or nothing
smaller was seen again; 3 usage, a run without a violation, or interrupted.`,
		Example: `  statequake shrink runs/20260101-120000-mixed
  statequake shrink runs/20260101-120000-mixed --kind lost --tries 5 --budget 30m`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case s.tries < 1 || s.tries > maxTries:
				return fmt.Errorf("--tries %d: must be 1 to %d", s.tries, maxTries)
			case s.confirm < 1 || s.confirm > maxTries:
				return fmt.Errorf("--confirm %d: must be 1 to %d", s.confirm, maxTries)
			case s.budget <= 0:
				return fmt.Errorf("--budget %v: must be more than 0", s.budget)
			}
			s.run = args[0]
			if err := s.open(); err != nil {
				return err
			}
			if s.out == "" {
				s.out = filepath.Join("runs", time.Now().UTC().Format("20060102-150405")+"-"+s.original.Name+"-shrink")
			}
			if err := refuseFull(s.out); err != nil {
				return err
			}
			s.screen = newProgress(os.Stdout, nil)
			return s.all(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.kind, "kind", "", "kind of violation to keep (default the first one of the run's verdict)")
	f.IntVar(&s.tries, "tries", 3, "runs of a candidate at most; one that shows the violation is enough")
	f.DurationVar(&s.budget, "budget", 10*time.Minute, "longest time to search")
	f.IntVar(&s.confirm, "confirm", 10, "runs of the smallest scenario, to say how often it shows the violation")
	f.StringVar(&s.binary, "binary", "", "statequake program that makes the runs (default this one)")
	f.StringVarP(&s.out, "out", "o", "", "directory of the result, new or empty (default runs/TIME-NAME-shrink)")
	return cmd
}

// open reads the run and finds the program.
func (s *shrinking) open() (err error) {
	if s.original, err = scenarios.Open(filepath.Join(s.run, "scenario.yaml"), scenarios.Options{}); err != nil {
		return err
	}
	f, err := found(s.run)
	if err != nil {
		return err
	}
	switch {
	case len(f.kinds) == 0:
		return fmt.Errorf("%s: the verdict is %s, without a violation to shrink\nhint: statequake run bugs/ack-before-journal makes one", s.run, f.verdict)
	case s.kind == "":
		s.kind = f.first
	case f.kinds[s.kind] == 0:
		return fmt.Errorf("--kind %s: %s has no such violation; have %s", s.kind, s.run, strings.Join(slices.Sorted(maps.Keys(f.kinds)), ", "))
	}
	if s.binary != "" {
		if s.binary, err = exec.LookPath(s.binary); err != nil {
			return fmt.Errorf("--binary: %w", err)
		}
		return nil
	}
	if s.binary, err = os.Executable(); err != nil {
		return fmt.Errorf("find the statequake program: %w", err)
	}
	return nil
}
