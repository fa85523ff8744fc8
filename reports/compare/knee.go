package compare

import (
	"fmt"
	"slices"
	"strings"

	"statequake/reports/stats"
)

// Knees says in a sentence what the searches for the highest rate in the runs of
// a side found, and how that spread; "" if they searched for none. Only runs
// whose correctness was judged as pass count.
func (s *Side) Knees() string {
	var found []float64
	var percentile stats.Bound
	searches, generator, end, none := 0, 0, 0, 0
	for _, run := range s.usable() {
		f := run.verdict.FindMax
		if f == nil {
			continue
		}
		searches++
		percentile = f.Bound
		switch {
		case f.LimitedBy == stats.LimitGenerator:
			generator++
		case f.LimitedBy == stats.LimitEnd:
			end++
		case f.Knee == nil:
			none++
		default:
			found = append(found, *f.Knee)
		}
	}
	if searches == 0 {
		return ""
	}
	parts := []string{}
	if len(found) > 0 {
		slices.Sort(found)
		parts = append(parts, fmt.Sprintf("median %s, from %s to %s, in %s", perSecond.format(medianOfSorted(found)),
			perSecond.format(found[0]), perSecond.format(found[len(found)-1]), plural(len(found), "run")))
	}
	for _, other := range []struct {
		n    int
		what string
	}{{generator, "limited by the load generator, and the system may bear more"}, {end, "ended before the bound was broken"}, {none, "broke the bound at the lowest rate"}} {
		if other.n > 0 {
			parts = append(parts, plural(other.n, "run")+" "+other.what)
		}
	}
	return fmt.Sprintf("highest rate with %s within %v: %s", percentile.Percentile, percentile.Limit, strings.Join(parts, "; "))
}
