package suite

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"statequake/reports"
)

// maxNotPlain bounds the runs of a report that are told of one by one.
const maxNotPlain = 100

// Text writes the table of the suite for a terminal. It returns the first error
// of w.
func (s *Summary) Text(w io.Writer) error {
	var b bytes.Buffer
	_, _, word := s.state()
	fmt.Fprintf(&b, "%s  %s: %s.\n\n", word, reports.Harmless(s.Suite), reports.Harmless(s.Says))
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "scenario\tverdict\t"+strings.Join(s.columns(), "\t"))
	for i := range s.Scenarios {
		sc := &s.Scenarios[i]
		line := sc.Name + "\t" + sc.verdicts()
		for _, c := range s.cells(sc) {
			line += "\t" + c.String()
		}
		fmt.Fprintln(table, line)
	}
	table.Flush() // of a bytes.Buffer: no error
	for i, r := range s.worstFirst() {
		if i == 0 {
			b.WriteString("\n")
		}
		if i == maxNotPlain {
			b.WriteString("...\n")
			break
		}
		fmt.Fprintf(&b, "%s: %s: %s\n", r.title(), r.Outcome, reports.Harmless(r.Says))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// markdown is summary.md.
func (s *Summary) markdown() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	row := func(cells ...string) { line("| %s |", strings.Join(cells, " | ")) }
	escape := reports.Markdown

	_, _, word := s.state()
	line("# %s: %s", word, escape(s.Suite))
	line("\n**%s.**", escape(reports.UpperFirst(s.Says)))
	line("")
	if s.Claim != "" {
		line("- Claim: %s", escape(s.Claim))
	}
	if about := s.Machine.About(); about != "" {
		line("- Machine: %s", escape(about))
	}
	line("- Made by: statequake %s", escape(s.Statequake))

	line("\n## Scenarios\n\n%s\n", figuresAbout)
	heads := []string{"scenario", "claim", "verdict"}
	row(append(heads, s.columns()...)...)
	line("|%s", strings.Repeat("---|", len(heads)+len(s.columns())))
	for i := range s.Scenarios {
		sc := &s.Scenarios[i]
		cells := []string{escape(sc.Name), escape(sc.Claim), sc.Outcome.mark() + " " + sc.verdicts()}
		for _, c := range s.cells(sc) {
			cells = append(cells, escape(c.String()))
		}
		row(cells...)
	}

	if runs := s.worstFirst(); len(runs) > 0 {
		line("\n## Not a plain pass\n")
		for i, r := range runs {
			if i == maxNotPlain {
				line("- and %d more", len(runs)-i)
				break
			}
			link := ""
			if r.judged {
				link = fmt.Sprintf(" ([report](%s/report.md))", r.Dir)
			} else if r.log != "" {
				link = fmt.Sprintf(" ([log](%s))", r.log)
			}
			line("- %s **%s**: %s. %s.%s", r.Outcome.mark(), escape(r.title()), r.Outcome, escape(reports.UpperFirst(reports.Clip(r.Says, longText))), link)
		}
	}
	line("\n## Again\n\n    %s", s.command())
	line("\nFinished runs are kept; in another folder, or with another `--out`, all are run. `statequake report` on this directory writes this page again.")
	return b.Bytes()
}

// figuresAbout says what the figures of the table are.
const figuresAbout = "Median over the runs that passed, with the least and the most of them; n where not all runs count. " +
	"Latency is of operations answered ok in the load, from the instant they were due. Outage is the longest of a key in any run; lost acknowledgements are those of all runs."
