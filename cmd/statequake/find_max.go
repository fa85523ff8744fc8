package main

import (
	"fmt"

	"statequake/reports/compare"
)

// sayKnees prints how the highest rates spread that the runs in a folder found,
// if they looked for one.
func sayKnees(dir string) {
	side, err := compare.Load(dir)
	if err != nil {
		return // none was judged, which was said
	}
	if text := side.Knees(); text != "" {
		fmt.Printf("%s: %s\n", dir, text)
	}
}
