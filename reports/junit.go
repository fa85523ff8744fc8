package reports

import (
	"encoding/xml"
	"fmt"
	"strings"

	"statequake/reports/check"
)

// JUnitSuite is a file in the JUnit format that CI systems read:
// https://github.com/testmoapp/junitxml. Texts in it must be harmless.
type JUnitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"` // seconds of load
	Properties []JUnitProperty `xml:"properties>property"`
	Cases      []JUnitCase     `xml:"testcase"`
}

// JUnitProperty is a fact about all test cases.
type JUnitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

// JUnitCase is a test case. It passed if it has no reason against that.
type JUnitCase struct {
	Class   string       `xml:"classname,attr"`
	Name    string       `xml:"name,attr"`
	Time    string       `xml:"time,attr"`
	Failure *JUnitReason `xml:"failure"`
	Error   *JUnitReason `xml:"error"`
	Skipped *JUnitReason `xml:"skipped"`
	Output  string       `xml:"system-out,omitempty"`
}

// JUnitReason says why a test case did not pass.
type JUnitReason struct {
	Type    string `xml:"type,attr"`
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// Add adds a test case and counts it.
func (s *JUnitSuite) Add(c JUnitCase) {
	s.Tests++
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
	s.Cases = append(s.Cases, c)
}

// Encode writes the file.
func (s *JUnitSuite) Encode() ([]byte, error) {
	data, err := xml.MarshalIndent(struct {
		XMLName xml.Name    `xml:"testsuites"`
		Suite   *JUnitSuite `xml:"testsuite"`
	}{Suite: s}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode junit.xml: %w", err)
	}
	return append([]byte(xml.Header), append(data, '\n')...), nil
}

// junit is junit.xml: one test case for the verdict, for each check, for the
// evidence of each fault and for each expectation. A violation or a missed
// expectation is a failure; what proves nothing is an error, so that it is not
// green either.
func junit(v *Verdict) ([]byte, error) {
	suite := JUnitSuite{Name: harmless(v.Scenario), Time: fmt.Sprintf("%.3f", v.Load.Duration.Seconds())}
	load := v.Load.about(v.AnsweredWithin)
	for _, p := range [][2]string{
		{"verdict", string(v.Verdict)}, {"seed", fmt.Sprint(v.Seed)}, {"system", v.System.about()},
		{"load", load[0]}, {"load generator", strings.TrimPrefix(load[1], "generator ")},
		{"replay", v.replay(scenarioFile)},
	} {
		suite.Properties = append(suite.Properties, JUnitProperty{p[0], harmless(p[1])})
	}
	add := func(class, name string, failure, problem *JUnitReason, output string) {
		suite.Add(JUnitCase{
			Class: harmless("statequake." + v.Scenario + "." + class), Name: harmless(name), Time: "0",
			Failure: failure, Error: problem, Output: harmless(output),
		})
	}
	reason := func(kind, message string, lines []string) *JUnitReason {
		for i, l := range lines {
			lines[i] = harmless(l)
		}
		return &JUnitReason{kind, harmless(message), strings.Join(lines, "\n")}
	}
	judge := func(class, name string, verdict check.Verdict, message string, lines []string) {
		switch verdict {
		case check.Pass:
			add(class, name, nil, nil, message)
		case check.Violated:
			add(class, name, reason(string(verdict), message, lines), nil, "")
		default:
			add(class, name, nil, reason(string(verdict), message, lines), "")
		}
	}

	judge("verdict", "verdict", v.Verdict, v.headline(), append([]string(nil), v.Reasons...))
	for _, r := range v.Checks {
		var lines []string
		for _, violation := range r.Violations {
			lines = append(lines, fmt.Sprintf("%s on %s/%s: %s", violation.Kind, violation.Entity, violation.Key, violation.Explanation))
			if story := v.story(violation); len(story.Events) > 0 {
				for _, text := range story.Lines() {
					lines = append(lines, "    "+text)
				}
			}
			if words, command := v.again(violation, "."); command != "" {
				lines = append(lines, "    "+words+" "+command)
			}
		}
		judge("check", r.Name, r.Verdict, judged(r), append(lines, r.Reasons...))
	}
	for i := range v.Faults {
		f := &v.Faults[i]
		text := f.what() + " " + f.evidence()
		if f.confirmed() {
			add("evidence", f.Name, nil, nil, text+"; "+f.recovered())
		} else {
			add("evidence", f.Name, nil, reason(string(f.Evidence.Verdict), text, nil), "")
		}
	}
	for _, x := range v.Expectations {
		text := fmt.Sprintf("%s, limit %s", x.measured(), x.Limit)
		if x.Met {
			add("expectation", x.Name, nil, nil, text)
		} else {
			add("expectation", x.Name, reason("missed", text, nil), nil, "")
		}
	}

	return suite.Encode()
}
