// Noise measures how far a comparison can be trusted on this machine, by real runs:
// how often equal sides are called a regression, how small a slowdown ten pairs
// find, whether a slowdown of that size is found when it is planted, and whether a
// lost write always ends with exit code 1.
//
//	go run ./scripts/noise -pairs 20 -runs runs/noise
//	go run ./scripts/noise -analyse runs/noise
//
// Its stages, each with runs of the scenario kill-followers by statequake ab unless said otherwise:
//
//   - aa: pairs of runs of one program.
//   - plant-p50, plant-p99: ten pairs each, whose head is slowed by about what the
//     first stage says can be found: writes to the store take longer, and killed
//     nodes are started again later.
//   - bug: pairs of bugs/ack-before-journal, whose head has the bug.
//   - loss: runs of aa from which one acknowledged write is taken away, judged
//     again, and compared with every option.
//
// Stages that are there are kept with -resume, if program and arguments are the
// same. The tables go to standard output and into noise.md beside the runs.
//
// It exits 0 if equal sides were called a regression in at most 2 % of the
// comparisons, every planted slowdown was found that was as large as what can be
// found, and every loss ended with 1; 1 if not; 2 if nothing was planted or lost, or too
// few runs of a plant passed; 3 if it could not be told.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"statequake/reports/compare"
)

// target is the largest rate of false regressions.
const target = 0.02

func main() {
	c := campaign{effort: full, out: os.Stdout}
	var dir string
	flag.IntVar(&c.pairs, "pairs", 20, "A/A pairs, an even number of at least 10")
	flag.StringVar(&c.binary, "bin", "bin/statequake", "the program")
	flag.StringVar(&c.scenario, "scenario", "kill-followers", "a closed loop with one fault, whose outage grows with system.restart_delay")
	flag.Func("set", "field of the scenario, PATH=VALUE, for all runs of it; may be given several times", func(s string) error {
		c.set = append(c.set, s)
		return nil
	})
	flag.StringVar(&c.dir, "runs", "runs/noise", "folder for the run directories")
	flag.BoolVar(&c.resume, "resume", false, "keep the stages that are there, if they are the same")
	flag.StringVar(&dir, "analyse", "", "make no run; read those in this folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var code int
	var err error
	if dir != "" {
		code, err = c.analyse(dir, c.out)
	} else {
		code, err = c.run(ctx)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "noise: %v\n", err)
		code = 3
	}
	os.Exit(code)
}

// run makes all runs and ends with their analysis.
func (c *campaign) run(ctx context.Context) (code int, err error) {
	if c.pairs < compare.DefaultPairs || c.pairs%partPairs != 0 {
		return 0, fmt.Errorf("-pairs %d: must be even, and at least the %d that a comparison takes", c.pairs, compare.DefaultPairs)
	}
	if err := c.begin(); err != nil {
		return 0, err
	}
	pairs, err := c.equal(ctx)
	if err != nil {
		return 0, err
	}
	// The loss takes runs of aa, and little time: before those that take more.
	if err := c.lose(ctx, pairs); err != nil {
		return 0, err
	}
	for i, options := range bugOptions {
		err := c.ab(ctx, fmt.Sprintf("bug/%02d", i+1), "bugs/ack-before-journal", 42+i, 1, nil, append([]string{"--base-set", "system.bug="}, options...)...)
		if err != nil {
			return 0, err
		}
	}
	planted, err := plants(c.detect(pairs), pairs)
	if err != nil {
		return 0, err
	}
	for i, p := range planted {
		if err := c.plant(ctx, p, 1001+100*i); err != nil {
			return 0, err
		}
	}
	return c.analyse(c.dir, c.out)
}

// equal makes the A/A pairs and returns those of which both runs passed. If runs are
// unknown it makes further pairs, at most half as many again.
func (c *campaign) equal(ctx context.Context) (usable []pair, err error) {
	for made := 0; len(usable) < c.pairs && made < c.pairs*3/2; {
		if made >= c.pairs {
			c.runs += 2 * partPairs
			fmt.Fprintf(c.out, "%d of %d pairs are usable: further ones are made\n", len(usable), made)
		}
		name := fmt.Sprintf("aa/part-%02d", 1+made/partPairs)
		if err := c.ab(ctx, name, c.scenario, 1+made, partPairs, c.set); err != nil {
			return nil, err
		}
		made += partPairs
		pairs, err := loadAB(filepath.Join(c.dir, name))
		if err != nil {
			return nil, err
		}
		usable = append(usable, usablePairs(pairs)...)
	}
	if len(usable) < compare.DefaultPairs {
		return nil, tooFew(c.dir, len(usable))
	}
	return usable, nil
}

// plant makes the pairs of a plant, and makes them again, once, if too few of them
// are usable to decide.
func (c *campaign) plant(ctx context.Context, p plant, seed int) error {
	for again := range 2 {
		resume := c.resume
		c.resume = resume && again == 0
		err := c.ab(ctx, p.name, c.scenario, seed, compare.DefaultPairs, c.set, "--gate", "default",
			"--head-set", "system.store_delay="+p.store.String(), "--head-set", "system.restart_delay="+p.restart.String())
		c.resume = resume
		if err != nil {
			return err
		}
		pairs, err := loadAB(filepath.Join(c.dir, p.name))
		if err != nil {
			return err
		}
		if r := comparedAsMade(pairs); r.Pairs >= r.Least {
			return nil
		}
		if again == 0 {
			c.runs += 2 * compare.DefaultPairs
			fmt.Fprintf(c.out, "%s: too few pairs are usable; they are made again\n", p.name)
		}
	}
	return nil
}

// analyse reads the runs in dir, writes the tables to out and into dir, and turns
// them into the exit code.
func (e effort) analyse(dir string, out io.Writer) (code int, err error) {
	var text strings.Builder
	r, err := e.measure(dir)
	if err != nil {
		return 0, err
	}
	r.write(&text)
	_, err = io.WriteString(out, text.String())
	return r.code(), errors.Join(err, os.WriteFile(filepath.Join(dir, "noise.md"), []byte(text.String()), 0o644))
}
