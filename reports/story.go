package reports

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"statequake/history"
	"statequake/reports/check"
	"statequake/reports/explain"
)

// Bounds of what is explained: the first violations, of every kind one before a
// second of any.
const (
	drawnViolations = 20        // have a drawing
	excerpted       = 10        // have a history of their own
	mostEvidence    = 200_000   // operations kept for all of them
	minimalOps      = 1_000_000 // operations judged in the search for these: a few seconds
)

// excerptsDir is the folder in a run directory that holds a run directory for
// each of the first violations.
const excerptsDir = "violations"

// excerpt is a violation with the operations that show it.
type excerpt struct {
	check.Violation
	explain.Excerpt
	name    string // of its folder in excerptsDir
	written bool   // it is less than the run
}

// explain collects what the first violations can be told by, and finds a
// minimal history for some.
func (v *Verdict) explain(each explain.Each, faults []history.Fault, footer *history.Footer, opt check.Options) error {
	listed, _ := violationsByKind(v)
	listed = listed[:min(len(listed), htmlViolations)]
	whole := 0 // operations of the run
	ops, complete, err := explain.Related(func(fn func(*history.Op) error) error {
		whole = 0
		return each(func(op *history.Op) error {
			whole++
			return fn(op)
		})
	}, listed, mostEvidence)
	if err != nil {
		return err
	}
	v.evidence = &history.Run{Ops: ops, Faults: faults}
	if complete {
		v.evidence.Footer = footer
	}
	budget := explain.Budget(minimalOps)
	nth := map[string]int{}
	for _, violation := range listed[:min(len(listed), excerpted)] {
		nth[violation.Kind]++
		found, ok := explain.Minimal(v.evidence, opt, v.foundBy(violation), violation, &budget)
		if !ok {
			continue
		}
		v.excerpts = append(v.excerpts, excerpt{
			Violation: violation, Excerpt: found, name: fmt.Sprintf("%s-%d", folderName(violation.Kind), nth[violation.Kind]),
			written: len(found.Run.Ops) < whole,
		})
	}
	return nil
}

// foundBy names the check that found a violation.
func (v *Verdict) foundBy(x check.Violation) string {
	for _, r := range v.Checks {
		if slices.ContainsFunc(r.Violations, func(y check.Violation) bool { return sameViolation(x, y) }) {
			return r.Name
		}
	}
	return ""
}

func sameViolation(a, b check.Violation) bool {
	return a.Kind == b.Kind && a.Entity == b.Entity && a.Key == b.Key && a.Explanation == b.Explanation && slices.Equal(a.Ops, b.Ops)
}

// folderName is a kind as the name of a folder.
func folderName(kind string) string {
	if kind == "" || len(kind) > nameText || strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return "violation"
	}
	return kind
}

// excerptOf returns the excerpt of a violation, nil if there is none.
func (v *Verdict) excerptOf(x check.Violation) *excerpt {
	for i := range v.excerpts {
		if sameViolation(x, v.excerpts[i].Violation) {
			return &v.excerpts[i]
		}
	}
	return nil
}

// story tells a violation by its excerpt, or else by the operations that it
// names.
func (v *Verdict) story(x check.Violation) explain.Story {
	if e := v.excerptOf(x); e != nil {
		return explain.Tell(x, e.Run.Ops, v.evidence.Faults)
	}
	var named []history.Op
	for i := range v.evidence.Ops {
		if slices.Contains(x.Ops, v.evidence.Ops[i].ID) {
			named = append(named, v.evidence.Ops[i])
		}
	}
	return explain.Tell(x, named, v.evidence.Faults)
}

// again says how the minimal history of a violation is judged by itself: in
// words, and the command for a shell in whose folder the run directory is dir.
// Both are empty if there is no such history.
func (v *Verdict) again(x check.Violation, dir string) (words, command string) {
	e := v.excerptOf(x)
	if e == nil || !e.written {
		return "", ""
	}
	words = plural(int64(len(e.Run.Ops)), "operation") + " alone"
	if !e.Minimal {
		words += " (perhaps not the fewest, as the search was cut short)"
	}
	if len(e.Run.Ops) == 1 {
		words += " is judged the same:"
	} else {
		words += " are judged the same:"
	}
	return words, "statequake check " + shellWord(harmless(filepath.Join(dir, excerptsDir, e.name)))
}

// writeExcerpts writes every excerpt as a run directory, in place of those of
// an earlier judgement.
func (v *Verdict) writeExcerpts(dir string) (err error) {
	at := filepath.Join(dir, excerptsDir)
	if err := os.RemoveAll(at); err != nil {
		return err
	}
	if !slices.ContainsFunc(v.excerpts, func(e excerpt) bool { return e.written }) {
		return nil
	}
	made, err := os.MkdirTemp(dir, "."+excerptsDir+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(made)
		}
	}()
	if err := os.Chmod(made, 0o755); err != nil {
		return err
	}
	for i := range v.excerpts {
		if e := &v.excerpts[i]; e.written {
			if err := e.write(filepath.Join(made, e.name), v.plan); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
		}
	}
	return os.Rename(made, at)
}

// write writes a run directory that holds the excerpt.
func (e *excerpt) write(dir, plan string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, scenarioFile), []byte(plan), 0o644); err != nil {
		return err
	}
	w, err := history.Create(dir)
	if err != nil {
		return err
	}
	defer w.Abort()
	for i := range e.Run.Ops {
		w.Op(&e.Run.Ops[i])
	}
	for _, f := range e.Run.Faults {
		w.Fault(f)
	}
	if e.Run.Footer != nil {
		return w.Close(*e.Run.Footer)
	}
	w.Abort()
	return w.Err()
}

// drawing is explain.Drawing for the template.
type drawing struct {
	explain.Drawing
	ID    int // of the violation in the page
	Title string
	Words []string // the same in words
}

// draw returns the drawing of a story, nil if there is nothing to draw. What it
// says is harmless.
func draw(id int, on string, s explain.Story, words []string) *drawing {
	d, ok := s.Draw()
	if !ok {
		return nil
	}
	for i := range d.Lanes {
		d.Lanes[i].Label = harmless(d.Lanes[i].Label)
	}
	for i := range d.Marks {
		d.Marks[i].Label = harmless(d.Marks[i].Label)
	}
	return &drawing{Drawing: d, ID: id, Title: clip(cmp.Or(s.Kind, "violation"), shortText) + " on " + on, Words: words}
}
