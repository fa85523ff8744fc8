package reports

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"statequake/reports/check"
)

// What the summary of a suite and a comparison say in the words and the look of the reports of
// its runs.

// PageStyle is the style sheet of report.html, without that of its charts.
func PageStyle() string { return pageStyle }

// ChartStyle is that of uPlot, ChartScript uPlot, its licence, and what the charts of
// every page share.
func ChartStyle() string { return uplotStyle }

// ChartScript defines uPlot, ink, round and ms, see ChartStyle.
func ChartScript() string {
	return "/* uPlot\n\n" + uplotLicense + "*/\n" + uplotScript + "\n" + chartScript
}

// PageFingerprint is the hash of an inline style as a Content Security Policy
// names it. It serves for a script, too.
func PageFingerprint(style string) string { return fingerprint(style) }

// Read reads the verdict.json of a run directory. What verdict.json does not
// hold, such as the record of the run, the result does not have either: it can
// be looked at, but not written. The error is fs.ErrNotExist if the run was not
// judged.
func Read(dir string) (*Verdict, error) {
	path := filepath.Join(dir, "verdict.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var v Verdict
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if v.Version != version {
		return nil, fmt.Errorf("%s: version %d, this program reads %d", path, v.Version, version)
	}
	switch v.Verdict {
	case check.Pass, check.Violated, check.Unknown:
		v.dir = dir
		return &v, nil
	}
	return nil, fmt.Errorf("%s: verdict %q; have pass, violation, unknown", path, v.Verdict)
}

// Headline is the verdict in words, without the verdict itself.
func (v *Verdict) Headline() string { return v.headline() }

// LongestOutage is the longest outage of a key over all faults, nil if there was
// none or it is unknown, and on how many keys it did not end.
func (v *Verdict) LongestOutage() (longest *time.Duration, dead int) {
	for i := range v.Faults {
		r := v.Faults[i].Recovery
		if r == nil {
			continue
		}
		dead += r.KeysDead
		if r.Outage.Max != nil && (longest == nil || *r.Outage.Max > *longest) {
			longest = r.Outage.Max
		}
	}
	return longest, dead
}

// Duration writes d with three digits and a unit.
func Duration(d time.Duration) string { return duration(d) }

// Rate writes operations per second.
func Rate(perSecond float64) string { return rate(perSecond) }

// Count writes n with separators.
func Count(n int64) string { return count(n) }

// Plural writes n things.
func Plural(n int64, thing string) string { return plural(n, thing) }

// Harmless makes text of unknown origin safe to show on one line.
func Harmless(s string) string { return harmless(s) }

// Clip is Harmless, cut after about limit bytes.
func Clip(s string, limit int) string { return clip(s, limit) }

// Markdown makes text of unknown origin show as it is in Markdown, in one line.
func Markdown(s string) string { return escape(s) }

// ShellWord quotes a word for a POSIX shell where that is needed.
func ShellWord(s string) string { return shellWord(s) }

// UpperFirst begins a sentence.
func UpperFirst(s string) string { return upperFirst(s) }

// About describes the machine; empty if nothing is known.
func (m Machine) About() string { return m.about() }

// About describes the system in words.
func (s System) About() string { return s.about() }

// Replace puts a file with the data at path, whatever was there, as a whole or
// not at all.
func Replace(path string, data []byte) error { return replace(path, data) }
