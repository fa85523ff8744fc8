package main

import (
	"errors"
	"fmt"
	"os"

	"statequake/history"
	"statequake/reports/jepsen"
)

// exportJepsen writes a run as a history of Jepsen, to stdout if out is empty.
func exportJepsen(dir, entity, out string) error {
	run, err := history.LoadRun(dir)
	if err != nil {
		return err
	}
	entity, err = jepsen.Entity(run, entity)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if run.Footer == nil {
		fmt.Fprintf(os.Stderr, "statequake: %s: the history is torn; operations may be missing at its end\n", dir)
	}
	if out == "" {
		return jepsen.Write(os.Stdout, run, entity)
	}
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	return errors.Join(jepsen.Write(file, run, entity), file.Close())
}
