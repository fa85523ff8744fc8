package suite

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"statequake/reports"
	"statequake/reports/stats"
)

// none is a cell without a figure.
const none = "–"

// mark is a symbol that repeats what the word says.
func (o Outcome) mark() string {
	switch o {
	case Pass:
		return "✓"
	case Violation, Failed:
		return "✗"
	case Missed:
		return "!"
	case Skipped, NotRun:
		return "○"
	}
	return "?"
}

// verdicts counts the runs of a scenario by outcome, the gravest first.
func (s *Scenario) verdicts() string {
	if len(s.Runs) == 1 {
		return string(s.Outcome)
	}
	var parts []string
	for _, o := range outcomes {
		if n := s.Counts[o]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	return strings.Join(parts, ", ")
}

// figure is a spread in words: its median, and from its least to its most if
// there is more than one value.
type figure struct {
	Median string
	Range  string // "[11.2 to 14.9 ms]", empty for one value
	N      string // "n 2", empty if it is over all runs
}

// String writes all of it on one line.
func (f figure) String() string {
	return strings.TrimSpace(strings.Join([]string{f.Median, f.Range, f.N}, " "))
}

// figure writes a spread over the runs of s; format writes one value.
func (s *Scenario) figure(v *Spread, format func(float64) string) figure {
	if v == nil {
		return figure{Median: none}
	}
	f := figure{Median: format(v.Median)}
	if v.N > 1 {
		least, most := format(v.Min), format(v.Max)
		if number, unit, ok := strings.Cut(least, " "); ok && strings.HasSuffix(most, " "+unit) {
			least = number
		} else if number, ok := strings.CutSuffix(least, "/s"); ok {
			least = number
		}
		f.Range = fmt.Sprintf("[%s to %s]", least, most)
	}
	if v.N != len(s.Runs) {
		f.N = fmt.Sprintf("n %d", v.N)
	}
	return f
}

func nanoseconds(v float64) string { return reports.Duration(time.Duration(v)) }

// rates are the requested and the achieved rate. A closed loop requests none.
func (s *Scenario) rates() figure {
	if s.Achieved == nil {
		return figure{Median: none}
	}
	f := s.figure(s.Achieved, reports.Rate)
	if s.Requested == nil {
		f.Median = "closed, " + f.Median
		return f
	}
	f.Median = strings.TrimSuffix(reports.Rate(s.Requested.Median), "/s") + " → " + f.Median
	return f
}

// outage is the longest outage of a key in words.
func outage(longest *time.Duration, dead int, judged, faults bool) string {
	switch {
	case dead > 0:
		return "no end, " + reports.Plural(int64(dead), "key")
	case longest != nil:
		return reports.Duration(*longest)
	case judged && faults:
		return "unknown"
	}
	return none
}

// judged reports whether a run of s has a verdict.
func (s *Scenario) judged() bool {
	return slices.ContainsFunc(s.Runs, func(r Run) bool { return r.judged })
}

func (s *Scenario) outage() string { return outage(s.OutageMax, s.KeysDead, s.judged(), s.faults) }

func lost(n *int, judged bool) string {
	switch {
	case n != nil:
		return reports.Count(int64(*n))
	case judged:
		return "unknown"
	}
	return none
}

func (s *Scenario) lost() string { return lost(s.LostAcks, s.judged()) }

func fitness(f stats.Fitness) string {
	if f == "" {
		return none
	}
	return string(f)
}

// hasKnees reports whether a scenario searches for the highest rate.
func (s *Summary) hasKnees() bool {
	return slices.ContainsFunc(s.Scenarios, func(sc Scenario) bool {
		return slices.ContainsFunc(sc.Runs, func(r Run) bool { return r.Knee != nil })
	})
}

// columns are the figures of a scenario, in the order of cells.
func (s *Summary) columns() []string {
	names := []string{"requested → achieved", "p50", "p99", "answered ok", "outage", "lost acks", "generator"}
	if s.hasKnees() {
		names = append(names, "knee")
	}
	return names
}

// cells are the figures of a scenario.
func (s *Summary) cells(sc *Scenario) []figure {
	cells := []figure{
		sc.rates(), sc.figure(sc.P50, nanoseconds), sc.figure(sc.P99, nanoseconds), sc.figure(sc.Throughput, reports.Rate),
		{Median: sc.outage()}, {Median: sc.lost()}, {Median: fitness(sc.Generator)},
	}
	if s.hasKnees() {
		cells = append(cells, sc.figure(sc.Knee, reports.Rate))
	}
	return cells
}

// title names a run.
func (n notPlain) title() string {
	if len(n.of.Runs) == 1 {
		return n.of.Name
	}
	return fmt.Sprintf("%s, run %d", n.of.Name, n.Run.Run)
}

func maybe(d *time.Duration) string {
	if d == nil {
		return none
	}
	return reports.Duration(*d)
}

// command is the command that runs the suite again, or goes on with it.
func (s *Summary) command() string {
	var words []string
	for _, w := range s.Command {
		words = append(words, reports.ShellWord(reports.Harmless(w)))
	}
	return strings.Join(words, " ")
}

// state is the verdict as a colour, a symbol and a word.
func (s *Summary) state() (state, symbol, word string) {
	switch s.Exit {
	case 0:
		return "pass", "✓", "PASS"
	case 1:
		return "violation", "✗", "VIOLATION"
	case 4:
		return "missed", "!", "PASS, BUT MISSED"
	}
	return "unknown", "?", "UNKNOWN"
}
