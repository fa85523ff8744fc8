package compare

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxHeads bounds the heads of one comparison, and with them the size of what
// shows it.
const maxHeads = 20

// comparisonVersion is that of the JSON form.
const comparisonVersion = 1

// Comparison is a comparison of heads with one base, as its JSON form holds it;
// history/FORMAT.md defines it.
type Comparison struct {
	Version  int     `json:"version"`
	Outcome  Outcome `json:"outcome"`   // the worst of the heads
	ExitCode int     `json:"exit_code"` // see Config.Gate
	Gate     *Gate   `json:"gate"`      // null without one
	Scenario string  `json:"scenario"`
	Alpha    float64 `json:"alpha"`  // see Config
	Tested   int     `json:"tested"` // tests of all heads, which share alpha

	Base  Counted   `json:"base"`
	Heads []*Report `json:"heads"` // in the order in which they were given

	base  *Side
	sides []*Side // of the heads
}

// Compare compares each of heads, of which there are one to 20, with base. It
// returns an error if they are not comparable: not runs of one scenario, or not
// in pairs as cfg wants.
//
// The tests of all heads share alpha: with Bonferroni's correction for their
// number, which needs no independence, the chance that any head is called a
// regression if all are equal to base is at most alpha, however many there are.
func Compare(base *Side, heads []*Side, cfg Config) (*Comparison, error) {
	if cfg.Alpha == 0 {
		cfg.Alpha = DefaultAlpha
	}
	if !(cfg.Alpha >= 0.0001 && cfg.Alpha < 0.5) {
		return nil, fmt.Errorf("alpha: %v is not at least 0.0001 and less than 0.5", cfg.Alpha)
	}
	if len(heads) == 0 || len(heads) > maxHeads {
		return nil, fmt.Errorf("%d heads: must be 1 to %d", len(heads), maxHeads)
	}
	scenario, err := oneScenario(slices.Concat([]*Side{base}, heads)...)
	if err != nil {
		return nil, err
	}
	c := &Comparison{
		Version: comparisonVersion, Outcome: NoWorse, Gate: cfg.Gate, Scenario: scenario, Alpha: cfg.Alpha,
		Base: base.count(), base: base, sides: heads,
	}
	var problems []error
	for _, head := range heads {
		r, err := compare(base, head, cfg)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		c.Tested += r.Tested
		c.Heads = append(c.Heads, r)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	var p []float64
	var of []*Metric
	for _, r := range c.Heads {
		r.test(cfg.Alpha / float64(max(c.Tested, 1)))
		r.decide()
		for i := range r.Metrics {
			if m := &r.Metrics[i]; m.P != nil && m.Gates {
				p, of = append(p, *m.P), append(of, m)
			}
		}
		if r.Outcome.gravity() > c.Outcome.gravity() {
			c.Outcome = r.Outcome
		}
	}
	for i, corrected := range holm(p) {
		of[i].PHolm = &corrected
	}
	c.ExitCode = c.exitCode()
	return c, nil
}

// gravity orders outcomes as the exit codes do.
func (o Outcome) gravity() int {
	return slices.Index([]Outcome{NoWorse, Inconclusive, Regression, Violation}, o)
}

// exitCode is 1 if a head broke its contract. With a gate it is also 4 if a head
// is a regression, and 5 if one is inconclusive; else 0. A gate that only warns
// of what is inconclusive does not let pass what was not measured.
func (c *Comparison) exitCode() int {
	switch {
	case c.Outcome == Violation:
		return 1
	case c.Gate == nil:
		return 0
	case c.Outcome == Regression:
		return 4
	case c.Outcome == Inconclusive && (!c.Gate.Warn || slices.ContainsFunc(c.Heads, (*Report).blank)):
		return 5
	}
	return 0
}

// blank reports whether the head is inconclusive because a metric that gates was
// not measured, and not because the runs are too few or too noisy.
func (r *Report) blank() bool {
	gates := 0
	for _, m := range r.Metrics {
		if !m.Gates {
			continue
		}
		gates++
		if !m.Measured && m.Decision == Inconclusive {
			return true
		}
	}
	return gates == 0
}

// Violated says for each run of the side that broke its contract how it did.
func (s *Side) Violated() []string {
	var found []string
	for i := range s.Runs {
		if run := &s.Runs[i]; run.violated() {
			found = append(found, run.explain())
		}
	}
	return found
}

// names tells the heads of a comparison apart in as few words as are needed: the
// last elements of their paths.
func (c *Comparison) names() []string {
	paths := make([][]string, len(c.Heads))
	for i, r := range c.Heads {
		paths[i] = strings.FieldsFunc(r.Head.Path, func(r rune) bool { return r == '/' || r == '\\' })
	}
	last := func(path []string, n int) string {
		return strings.Join(path[max(0, len(path)-n):], "/")
	}
	names := make([]string, len(paths))
	for i := range paths {
		n := 1
		for n < len(paths[i]) && slices.ContainsFunc(paths, func(p []string) bool {
			return !slices.Equal(p, paths[i]) && last(p, n) == last(paths[i], n)
		}) {
			n++
		}
		names[i] = last(paths[i], n)
		switch names[i] {
		case "", ".", "..":
			names[i] = c.Heads[i].Head.Path
		case "base": // that is what the base is called
			names[i] = "head base"
		}
	}
	seen := map[string]int{} // paths that are given twice
	for i, name := range names {
		if seen[name]++; seen[name] > 1 {
			names[i] = fmt.Sprintf("%s (%d)", name, seen[name])
		}
	}
	return names
}
