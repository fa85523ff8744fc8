package check

import (
	"fmt"
	"slices"
	"strings"

	"statequake/history"
)

// findings collects violations and notes. The zero value is ready for use.
type findings struct {
	perKind    int // violations listed per kind
	violations []Violation
	kinds      map[string]int // found, by kind
	listed     map[string]int // of these in violations
	notes      []note
}

// note is a reason for or beside a verdict, with the keys that it concerns.
type note struct {
	text    string
	n       int      // what is counted; 0 if nothing is
	keys    []string // the first few keys
	allKeys int
	blocks  bool // something was not judged, so the check must not pass
}

func (f *findings) violation(v Violation) {
	f.count(v.Kind, 1)
	f.list(v)
}

// shown reports a violation on a key that ops show, each named once; those that are
// nil are passed over.
func (f *findings) shown(k entityKey, kind, explanation string, ops ...*history.Op) {
	v := Violation{Entity: k.entity, Key: k.key, Kind: kind, Explanation: explanation}
	for _, op := range ops {
		if op != nil && !slices.Contains(v.Ops, op.ID) {
			v.Ops = append(v.Ops, op.ID)
		}
	}
	f.violation(v)
}

func (f *findings) count(kind string, n int) {
	if f.kinds == nil {
		f.kinds, f.listed = map[string]int{}, map[string]int{}
	}
	f.kinds[kind] += n
}

func (f *findings) list(v Violation) {
	if f.listed[v.Kind] < f.perKind {
		f.listed[v.Kind]++
		f.violations = append(f.violations, v)
	}
}

// note adds n to the note with that text and says that it concerns k.
func (f *findings) note(blocks bool, k entityKey, n int, text string) {
	f.addNote(note{text: text, n: n, keys: []string{k.String()}, allKeys: 1, blocks: blocks})
}

func (f *findings) addNote(add note) {
	for i := range f.notes {
		have := &f.notes[i]
		if have.text != add.text || have.blocks != add.blocks {
			continue
		}
		have.n += add.n
		for _, k := range add.keys {
			if slices.Contains(have.keys, k) {
				add.allKeys--
			} else if len(have.keys) < 3 {
				have.keys = append(have.keys, k)
			}
		}
		have.allKeys += add.allKeys
		return
	}
	f.notes = append(f.notes, add)
}

// merge adds what was found on one key.
func (f *findings) merge(g *findings) {
	for kind, n := range g.kinds {
		f.count(kind, n)
	}
	for _, v := range g.violations {
		f.list(v)
	}
	for _, n := range g.notes {
		f.addNote(n)
	}
}

// fill writes the verdict and what led to it into r.
func (f *findings) fill(r *Result) {
	r.Violations = f.violations
	if r.Violations == nil {
		r.Violations = []Violation{}
	}
	r.Kinds = f.kinds
	for _, n := range f.kinds {
		r.Total += n
	}
	r.Verdict = Pass
	for _, n := range f.notes {
		if n.blocks {
			r.Verdict = Unknown
		}
		r.Reasons = append(r.Reasons, n.String())
	}
	if r.Total > 0 {
		r.Verdict = Violated
	}
}

func (n note) String() string {
	s := n.text
	if n.n > 0 {
		s = fmt.Sprintf("%s: %d", s, n.n)
	}
	if n.allKeys == 0 {
		return s
	}
	keys := strings.Join(n.keys, ", ")
	if n.allKeys > len(n.keys) {
		keys += ", ..."
	}
	if n.allKeys == 1 {
		return fmt.Sprintf("%s (%s)", s, keys)
	}
	return fmt.Sprintf("%s (%d keys: %s)", s, n.allKeys, keys)
}
