package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"statequake/reports/compare"
)

// maxPairs bounds --pairs.
const maxPairs = 999

// decidingPairs is the number of pairs below which nothing can be decided at
// the default alpha, even on five metrics only; compare says how many it takes at
// any other.
const decidingPairs = 8

func abCmd() *cobra.Command {
	var set []string
	var c comparison
	var a ab
	base, head := &abSide{name: "base"}, &abSide{name: "head"}
	cmd := &cobra.Command{
		Use:   "ab SCENARIO",
		Short: "Run a base and a head in pairs, and say whether the head is worse",
		Long: `Run a scenario, a file or the name of a bundled one, as base and as head in
pairs, and compare the two. The sides differ in fields of the scenario
(--base-set, --head-set), in the statequake program that makes the runs
(--base-binary, --head-binary), or in nothing: an A/A run, which shows the noise
of the machine.

A coin says which run of a pair is made first, so that nothing that the machine
does in the meantime can favour a side but by chance, and chance is what the
comparison reckons with. The runs of a pair have the same seed; each pair takes
the next one.

The runs are in DIR/base/0001, DIR/head/0001, ..., all that each of them printed
is in DIR/base/0001.log, ... With --format markdown or json progress goes to
standard error. Ctrl-C ends the run under way and stops; a second Ctrl-C leaves
at once. A pair that is not complete is moved to DIR/incomplete.

Exit codes and flags of the comparison are those of statequake compare; a run
that cannot be made ends with 3.`,
		Example: `  statequake ab steady --head-set system.nodes=5
  statequake ab steady --base-binary ./statequake-main --gate default --format markdown
  statequake ab my.yaml --set load.duration=10s --pairs 20 --out runs/noise   # A/A`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.pairs < 1 || a.pairs > maxPairs {
				return fmt.Errorf("--pairs %d: must be 1 to %d", a.pairs, maxPairs)
			}
			if err := c.check(); err != nil {
				return err
			}
			c.cfg.Pairing = compare.Paired
			a.scenario, a.sides = args[0], [2]*abSide{base, head}
			for _, s := range a.sides {
				s.set = slices.Concat(set, s.set)
				if err := s.open(a.scenario); err != nil {
					return err
				}
			}
			if err := a.agree(cmd.Flags().Changed("seed")); err != nil {
				return err
			}
			if !cmd.Flags().Changed("order-seed") {
				a.orderSeed = rand.Int64()
			}
			if a.out == "" {
				a.out = filepath.Join("runs", time.Now().UTC().Format("20060102-150405")+"-"+a.name+"-ab")
			}
			if err := refuseFull(a.out); err != nil {
				return err
			}
			screen := newProgress(os.Stdout, nil)
			if c.format != "text" {
				screen = newProgress(os.Stderr, nil)
			}
			if err := a.run(cmd.Context(), screen); err != nil {
				return err
			}
			return c.show(a.folder(base), a.folder(head))
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&set, "set", nil, "override a field on both sides, PATH=VALUE; may be given several times")
	f.StringArrayVar(&base.set, "base-set", nil, "the same, of base only")
	f.StringArrayVar(&head.set, "head-set", nil, "the same, of head only")
	f.StringVar(&base.binary, "base-binary", "", "statequake program that runs base (default this one)")
	f.StringVar(&head.binary, "head-binary", "", "statequake program that runs head (default this one)")
	f.IntVar(&a.pairs, "pairs", compare.DefaultPairs, "runs of each side")
	f.Int64Var(&a.seed, "seed", 0, "seed of the first pair (default the scenario's)")
	f.Int64Var(&a.orderSeed, "order-seed", 0, "seed of the coin (default drawn, and printed)")
	f.StringVarP(&a.out, "out", "o", "", "directory of the runs, new or empty (default runs/TIME-NAME-ab)")
	c.flags(cmd)
	return cmd
}

// run makes all runs. An error means that they are not complete, and says what
// can be compared nevertheless.
func (a *ab) run(ctx context.Context, screen *progress) error {
	base, head := a.sides[0], a.sides[1]
	what := "base against head"
	if base.binary == head.binary && slices.Equal(base.set, head.set) {
		what = "A/A, both sides are the same"
	}
	screen.say(fmt.Sprintf("%s: %s, %s, seeds from %d, into %s", a.name, what, plural(a.pairs, "pair"), a.seed, a.out))
	screen.say(fmt.Sprintf("order within pairs: by coin, --order-seed %d", a.orderSeed))
	if a.pairs < decidingPairs {
		screen.say(fmt.Sprintf("note: fewer than %d pairs decide nothing at the default alpha", decidingPairs))
	}
	for _, s := range a.sides {
		if err := os.MkdirAll(a.folder(s), 0o755); err != nil {
			return err
		}
	}
	ctx, cancel := stopOnInterrupt(ctx, screen)
	defer cancel()
	w := &abWatch{ab: a, screen: screen, began: time.Now()}
	for _, r := range a.order() {
		err := ctx.Err()
		if err == nil {
			err = w.run(ctx, r)
		}
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		if err != nil {
			screen.end()
			return a.stopped(r, err)
		}
	}
	screen.say("")
	screen.end()
	return nil
}

// stopped moves a pair that is not complete out of the way of compare, and says
// what is left. Both runs of it go: one that was cut short may look fast.
func (a *ab) stopped(r abRun, cause error) error {
	aside := filepath.Join(a.out, "incomplete")
	text := fmt.Sprintf("%s %d/%d: %v", r.side.name, r.pair, a.pairs, cause)
	for _, s := range a.sides {
		dir := a.dir(abRun{s, r.pair, r.seed})
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		to := filepath.Join(aside, s.name+"-"+filepath.Base(dir))
		if err := errors.Join(os.MkdirAll(aside, 0o755), os.Rename(dir, to)); err != nil {
			return fmt.Errorf("%s\n%w", text, err)
		}
		text += "\nmoved " + dir + " to " + to + ": its pair is not complete"
	}
	if r.pair > 1 {
		text += fmt.Sprintf("\nhint: statequake compare %s %s compares the %s so far", a.folder(a.sides[0]), a.folder(a.sides[1]), plural(r.pair-1, "pair"))
	}
	return errors.New(text)
}
