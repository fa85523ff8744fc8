package jepsen

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// shownViolations is how many violations of a check the summary explains.
const shownViolations = 3

// Summary writes the verdict in words. It returns the first error of w.
func Summary(w io.Writer, v *Verdict) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s  %s, judged as %s: %d operations ok, %d failed, %d of unknown outcome\n",
		strings.ToUpper(string(v.Verdict)), printable(v.File), v.Model, v.Ops.OK, v.Ops.Fail, v.Ops.Info)
	for _, r := range v.Checks {
		fmt.Fprintf(b, "\n%-9s %s: %s", r.Verdict, r.Name, count(r.Ops, "operation"))
		if v.Keyed {
			fmt.Fprintf(b, " on %s", count(r.Keys, "key"))
		}
		if r.Undecided > 0 {
			fmt.Fprintf(b, "; %d undecided", r.Undecided)
		}
		fmt.Fprintln(b)
		for i, violation := range r.Violations {
			if i == shownViolations {
				break
			}
			on := ""
			if violation.Key != "" {
				on = " on " + brief([]byte(violation.Key))
			}
			fmt.Fprintf(b, "  %s%s: %s\n", violation.Kind, on, violation.Explanation)
			fmt.Fprintf(b, "    %s\n", printable(strings.Join(violation.Ops, ", ")))
		}
		if more := r.Total - shownViolations; more > 0 {
			fmt.Fprintf(b, "  and %d more\n", more)
		}
		for _, reason := range r.Reasons {
			fmt.Fprintf(b, "  %s\n", printable(reason))
		}
	}
	return b.Flush()
}

// count says how many there are of what noun names.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
