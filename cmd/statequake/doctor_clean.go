package main

import (
	"fmt"
	"io"
	"os"

	"github.com/docker/go-units"

	"statequake/scenarios/doctor"
)

// printLeftovers is the last row of doctor's table.
func printLeftovers(out io.Writer, s *doctor.Survey) {
	text := "of dead runs below " + s.Dir
	if n := len(s.Found); n > 0 {
		text = fmt.Sprintf("of %s below %s, %s: statequake doctor --clean %s removes them",
			plural(s.Dead, "dead run"), s.Dir, units.BytesSize(float64(s.Bytes())), s.Dir)
	}
	for i, line := range wrap(text, tableWidth-nameWidth-stateWidth) {
		head, count := "leftovers", fmt.Sprint(len(s.Found))
		if i > 0 {
			head, count = "", ""
		}
		fmt.Fprintf(out, "%-*s%-*s%s\n", nameWidth, head, stateWidth, count, line)
	}
	for _, u := range s.Unproven {
		fmt.Fprintf(out, "%-*snot proven dead: %s\n", nameWidth+stateWidth, "", u)
	}
}

// cleanUp removes what dead runs below dir left behind, and says so.
func cleanUp(out io.Writer, dir string) error {
	failed := 0
	s, err := doctor.Clean(dir, func(l doctor.Leftover, err error) {
		size := ""
		if l.Bytes > 0 {
			size = ", " + units.BytesSize(float64(l.Bytes))
		}
		if err != nil {
			failed++
			fmt.Fprintf(os.Stderr, "statequake: %s: %s: %v\n", l.Run, l.What, err)
			return
		}
		fmt.Fprintf(out, "removed %s: %s%s\n", l.Run, l.What, size)
	})
	if err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	for _, u := range s.Unproven {
		fmt.Fprintf(out, "left, for want of proof: %s\n", u)
	}
	if s.Alive > 0 {
		fmt.Fprintf(out, "left, since it goes on: %s\n", plural(s.Alive, "run"))
	}
	fmt.Fprintf(out, "%s of %s removed\n", plural(len(s.Found)-failed, "leftover"), plural(s.Dead, "dead run"))
	if failed > 0 {
		return exit(exitError)
	}
	return nil
}
