package scenarios

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxErrors is how many problems are reported at once; beyond it a reader is
// looking at the wrong file.
const maxErrors = 20

// problem is one thing that is wrong with a scenario.
type problem struct {
	place place
	path  string // field, such as load.workload.keys; empty for the file as a whole
	text  string
	hint  string // how to put it right; may be empty
}

// place is where a value was written: in a line of the file or in a --set.
type place struct {
	line int    // 0 if unknown
	set  string // the whole path=value, if the value came from there
}

func (p problem) format(file string) error {
	var b strings.Builder
	switch {
	case p.place.set != "":
		fmt.Fprintf(&b, "--set %s", p.place.set)
	case p.place.line > 0:
		fmt.Fprintf(&b, "%s:%d", file, p.place.line)
	default:
		b.WriteString(file)
	}
	if p.path != "" {
		b.WriteString(": " + p.path)
	}
	b.WriteString(": " + p.text)
	if p.hint != "" {
		b.WriteString("\nhint: " + p.hint)
	}
	return errors.New(b.String())
}

// join makes one error of the problems, in the order of the file, those of
// --set last; nil if there are none.
func join(file string, problems []problem) error {
	slices.SortStableFunc(problems, func(a, b problem) int {
		if a, b := a.place.set != "", b.place.set != ""; a != b {
			if a {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.place.line, b.place.line)
	})
	var errs []error
	for i, p := range problems {
		if i == maxErrors {
			errs = append(errs, fmt.Errorf("%s: and %d more problems", file, len(problems)-maxErrors))
			break
		}
		errs = append(errs, p.format(file))
	}
	return errors.Join(errs...)
}

// oneOf lists values for an error.
func oneOf(have []string) string { return "have " + strings.Join(have, ", ") }

// splitHint separates the hint line of an error from its text.
func splitHint(err error) (text, hint string) {
	text, hint, _ = strings.Cut(err.Error(), "\nhint: ")
	return text, hint
}
