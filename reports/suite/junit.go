package suite

import (
	"fmt"
	"strings"
	"time"

	"statequake/reports"
)

// junit is junit.xml: one test case for each planned run. A violation or a
// missed expectation is a failure; what proves nothing is an error, so that it is
// not green either. What was skipped on purpose is skipped.
func (s *Summary) junit() ([]byte, error) {
	suite := reports.JUnitSuite{Name: reports.Harmless(s.Suite)}
	for _, p := range [][2]string{{"verdict", string(s.Verdict)}, {"exit_code", fmt.Sprint(s.Exit)}, {"statequake", s.Statequake}, {"replay", s.command()}} {
		suite.Properties = append(suite.Properties, reports.JUnitProperty{Name: p[0], Value: reports.Harmless(p[1])})
	}
	var total time.Duration
	for i := range s.Scenarios {
		sc := &s.Scenarios[i]
		for j := range sc.Runs {
			r := &sc.Runs[j]
			total += r.Load
			c := reports.JUnitCase{
				Class: reports.Harmless("statequake." + s.Suite + "." + sc.Name), Name: fmt.Sprintf("run %d, seed %d", r.Run, r.Seed),
				Time: fmt.Sprintf("%.3f", r.Load.Seconds()),
			}
			reason := &reports.JUnitReason{Type: string(r.Outcome), Message: reports.Harmless(r.Says), Text: r.details()}
			switch r.Outcome {
			case Pass:
				c.Output = reports.Harmless(r.Says) + "\n" + r.details()
			case Violation, Missed:
				c.Failure = reason
			case Skipped:
				c.Skipped = reason
			default:
				c.Error = reason
			}
			suite.Add(c)
		}
	}
	if len(suite.Cases) == 0 {
		suite.Add(reports.JUnitCase{
			Class: reports.Harmless("statequake." + s.Suite), Name: "scenarios", Time: "0.000",
			Error: &reports.JUnitReason{Type: string(Unknown), Message: reports.Harmless(s.Says)},
		})
	}
	suite.Time = fmt.Sprintf("%.3f", total.Seconds())
	return suite.Encode()
}

// details are the reasons of a run and where more is said, a line each.
func (r *Run) details() string {
	var lines []string
	for _, reason := range r.Reasons {
		lines = append(lines, reports.Harmless(reason))
	}
	switch {
	case r.judged:
		lines = append(lines, r.Dir+"/report.html")
	case r.log != "":
		lines = append(lines, r.log)
	}
	return strings.Join(lines, "\n")
}
