package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"statequake/reports"
	"statequake/scenarios"
)

// ab is two sides of one scenario, run in pairs.
type ab struct {
	scenario string // a file, or the name of a bundled one
	name     string // of the scenario, as far as it is known before the first run
	sides    [2]*abSide
	pairs    int
	seed     int64 // of the first pair; each pair takes the next one
	out      string

	orderSeed int64 // of the coin that says which side of a pair is first
}

// abSide is what is compared: the base or the head.
type abSide struct {
	name   string              // base or head
	binary string              // statequake program that makes the runs
	set    []string            // PATH=VALUE, those of both sides first
	parsed *scenarios.Scenario // nil if another program is to read it
}

// abRun is one run of a side.
type abRun struct {
	side *abSide
	pair int // from 1
	seed int64
}

// open finds the side's program and, if that is this one, reads the scenario.
func (s *abSide) open(scenario string) (err error) {
	if s.binary != "" {
		if s.binary, err = exec.LookPath(s.binary); err != nil {
			return fmt.Errorf("--%s-binary: %w", s.name, err)
		}
		return nil
	}
	if s.binary, err = os.Executable(); err != nil {
		return fmt.Errorf("find the statequake program: %w", err)
	}
	s.parsed, err = scenarios.Open(scenario, scenarios.Options{Set: s.set, CheckExpectation: reports.CheckExpectation})
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// agree settles the name and the first seed, which are one for both sides.
func (a *ab) agree(seeded bool) error {
	base, head := a.sides[0].parsed, a.sides[1].parsed
	if base == nil {
		base = head
	}
	if head == nil {
		head = base
	}
	switch {
	case base == nil && !seeded:
		return errors.New("seed: unknown, since other programs read the scenario\nhint: --seed N")
	case base == nil:
		a.name = strings.TrimSuffix(filepath.Base(a.scenario), ".yaml")
		return nil
	case base.Name != head.Name:
		return fmt.Errorf("name: base is %q and head is %q, but only runs of one scenario can be compared", base.Name, head.Name)
	case base.Seed != head.Seed && !seeded:
		return fmt.Errorf("seed: base has %d and head has %d, but the runs of a pair have one seed\nhint: --seed N", base.Seed, head.Seed)
	}
	a.name = base.Name
	if !seeded {
		a.seed = base.Seed
	}
	return nil
}

// refuseFull returns an error if dir is there and holds something.
func refuseFull(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("directory %s is not empty (it holds %s)\nhint: name a new one with --out", dir, entries[0].Name())
	}
	return nil
}

// order lists the runs, those of a pair one after the other. Which is first is
// drawn independently for every pair: then equal sides are exchangeable within
// each, whatever else differs between one run and the next, and that is all that
// the tests of compare assume (Fisher 1935, The Design of Experiments, section
// 20). With turns instead a disturbance over several runs meets the same sides
// again: base head head base ... makes the differences of neighbouring pairs
// alike.
func (a *ab) order() []abRun {
	coin := rand.New(rand.NewPCG(uint64(a.orderSeed), 0))
	var runs []abRun
	for i := range a.pairs {
		first, seed := coin.IntN(2), a.seed+int64(i)
		runs = append(runs, abRun{a.sides[first], i + 1, seed}, abRun{a.sides[1-first], i + 1, seed})
	}
	return runs
}

func (a *ab) folder(s *abSide) string { return filepath.Join(a.out, s.name) }

func (a *ab) dir(r abRun) string { return filepath.Join(a.folder(r.side), fmt.Sprintf("%04d", r.pair)) }

// args are what the side's program is called with for a run.
func (a *ab) args(r abRun) []string {
	args := []string{"run", a.scenario, "--seed", strconv.FormatInt(r.seed, 10)}
	for _, set := range r.side.set {
		args = append(args, "--set", set)
	}
	return append(args, "--out", a.dir(r))
}
