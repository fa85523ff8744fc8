package reports

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"statequake/reports/check"
)

// markdown is report.md.
func markdown(v *Verdict) []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }

	line("# %s: %s", strings.ToUpper(string(v.Verdict)), escape(v.Scenario))
	line("\n**%s.**", escape(upperFirst(v.headline())))
	if len(v.Reasons) > 0 {
		line("")
		for _, reason := range v.Reasons {
			line("- %s", escape(reason))
		}
	}
	line("")
	if v.Claim != "" {
		line("- Claim: %s", escape(v.Claim))
	}
	line("- System: %s", escape(v.System.about()))
	for _, text := range v.Load.about(v.AnsweredWithin) {
		line("- Load: %s", escape(text))
	}
	line("- Scenario: %s, seed %d", escape(v.Scenario), v.Seed)
	if m := v.Machine.about(); m != "" {
		line("- Machine: %s", escape(m))
	}
	if v.Statequake != "" {
		made := "statequake " + v.Statequake
		if v.Isolation != "" {
			made += ", isolation: " + v.Isolation
		}
		line("- Made by: %s", escape(made))
	}

	if f := v.FindMax; f != nil {
		line("\n## Highest rate\n\n%s.\n", escape(upperFirst(kneeText(f))))
		table := newTable(&b, findMaxColumns...)
		for i := range f.Levels {
			table.row(levelCells(&f.Levels[i])...)
		}
		line("\n%s", escape(levelsText(f)))
	}

	line("\n## Latency\n\nOf operations answered ok, from the instant they were due to the last byte of the answer.\n")
	table := newTable(&b, append([]string{""}, latencyColumns...)...)
	for _, r := range v.latencies() {
		table.row(append([]string{r.name}, r.cells()...)...)
	}
	line("")
	for _, text := range v.answeredOK() {
		line("- %s", text)
	}

	if len(v.Faults) > 0 {
		line("\n## Faults\n")
		table = newTable(&b, "fault", "what", "requested", "injected", "recovered", "evidence", "detail")
		for i := range v.Faults {
			f := &v.Faults[i]
			table.row(f.Name, f.what(), instantOr(f.Requested), instantOr(f.Injected), instantOr(f.Recovered), string(f.Evidence.Verdict), f.Evidence.Detail)
		}
		line("\n## Recovery\n\nFrom the injection. An outage lasts from the sending of the first operation on a key that fails, or is answered late, to the next ok answer.\n")
		table = newTable(&b, recoveryColumns...)
		for i := range v.Faults {
			table.row(v.Faults[i].recoveryCells()...)
		}
	}

	line("\n## Checks\n")
	table = newTable(&b, "check", "verdict", "operations", "keys", "found")
	for _, r := range v.Checks {
		found := slices.Clone(r.Reasons)
		if r.Total > 0 {
			found = append([]string{kinds(r)}, found...)
		}
		table.row(r.Name, string(r.Verdict), count(int64(r.Ops)), count(int64(r.Keys)), strings.Join(found, "; "))
	}

	if len(v.Expectations) > 0 {
		line("\n## Expectations\n")
		table = newTable(&b, "expectation", "limit", "measured", "")
		for _, x := range v.Expectations {
			measured, met := "unknown", "MISSED"
			if x.Measured != nil {
				measured = *x.Measured
			}
			if x.Met {
				met = "met"
			}
			table.row(x.Name, x.Limit, measured, met)
		}
	}

	if violations := allViolations(v); len(violations) > 0 {
		line("\n## Violations\n")
		for _, violation := range violations {
			line("- **%s** on %s: %s", escape(violation.Kind), escape(violation.Entity+"/"+violation.Key), escape(violation.Explanation))
			line("  Operations: %s", escape(strings.Join(violation.Ops, ", ")))
			if story := v.story(violation); len(story.Events) > 0 {
				line("")
				for _, text := range story.Lines() {
					line("  - %s", escape(strings.TrimSpace(text)))
				}
			}
			if words, command := v.again(violation, "."); command != "" {
				line("\n  %s\n\n      %s\n", words, command)
			}
		}
	}

	line("\n## Resources\n\nFrom the start of the processes to their last samples.\n")
	table = newTable(&b, "", "CPU", "largest RSS", "written to disk", "starts")
	for _, node := range slices.Sorted(maps.Keys(v.Resources)) {
		r := v.Resources[node]
		table.row(node, fmt.Sprintf("%.1f s", r.CPU), bytesOf(r.RSSMax), bytesOf(r.DiskBytes), count(int64(r.Starts)))
	}
	g := v.GeneratorResources
	table.row("load generator", fmt.Sprintf("%.1f s", g.CPU), bytesOf(g.RSSMax), "", "")

	line("\n## Replay\n\nIn this directory:\n\n    %s", v.replay(scenarioFile))
	line("\nThe seed fixes operations and fault times, not interleavings. `statequake check .` judges this run again.")
	return b.Bytes()
}

// instantOr is the instant, or a dash if it is unknown.
func instantOr(d *time.Duration) string {
	if d == nil {
		return "-"
	}
	return instant(*d)
}

// allViolations are the listed violations of all checks.
func allViolations(v *Verdict) []check.Violation {
	var all []check.Violation
	for _, r := range v.Checks {
		all = append(all, r.Violations...)
	}
	return all
}

// table writes a Markdown table whose cells are of unknown origin.
type table struct {
	b *bytes.Buffer
}

func newTable(b *bytes.Buffer, columns ...string) table {
	t := table{b}
	t.row(columns...)
	b.WriteString("|" + strings.Repeat("---|", len(columns)) + "\n")
	return t
}

func (t table) row(cells ...string) {
	for _, c := range cells {
		t.b.WriteString("| " + escape(c) + " ")
	}
	t.b.WriteString("|\n")
}

// escape makes text of unknown origin show as it is in Markdown, in one line:
// no markup, HTML, link or table cell can come of it.
func escape(s string) string {
	const special = "\\`*_{}[]<>#|!&~$@"
	s = harmless(s)
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		// Some readers make links of bare addresses.
		address := strings.HasPrefix(s[i:], "://") || i >= 3 && strings.EqualFold(s[i-3:i], "www") && c == '.'
		if strings.IndexByte(special, c) >= 0 || address {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

func upperFirst(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// about describes the machine; empty if nothing is known.
func (m Machine) about() string {
	var parts []string
	for _, part := range []string{strings.Trim(m.OS+"/"+m.Arch, "/"), m.Kernel, m.Go} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if m.CPUs > 0 {
		parts = append(parts, plural(int64(m.CPUs), "CPU"))
	}
	if m.Memory > 0 {
		parts = append(parts, bytesOf(m.Memory))
	}
	return strings.Join(parts, ", ")
}
