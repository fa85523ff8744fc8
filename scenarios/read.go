package scenarios

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"statequake/fixtures/custom"
)

// parser reads a tree and collects everything that is wrong with it.
type parser struct {
	problems []problem
	origin   map[*yaml.Node]string // node -> the --set argument it came from
	places   map[string]place      // path of every value read -> where it was written
}

// where is the place of the value at path, or of the nearest one around it.
func (p *parser) where(path string) place {
	for {
		if at, ok := p.places[path]; ok || path == "" {
			return at
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

func (p *parser) refuse(path, hint, format string, args ...any) {
	p.problems = append(p.problems, problem{p.where(path), path, fmt.Sprintf(format, args...), hint})
}

// remember notes where the value at path was written; key is nil in a list.
func (p *parser) remember(path string, key, value *yaml.Node) {
	at := place{line: value.Line, set: p.origin[value]}
	if key != nil {
		at.line = key.Line
		if at.set == "" {
			at.set = p.origin[key]
		}
	}
	p.places[path] = at
}

// object is a mapping of known fields while it is read.
type object struct {
	p      *parser
	path   string                // empty at the root
	values map[string]*yaml.Node // what is there; empty values are left out and mean the default
	broken bool                  // it is no mapping, which was reported
}

// object reads the mapping n at path. It accepts the fields of known only; nil
// known accepts any, and then each must have a value.
func (p *parser) object(path string, n *yaml.Node, known []string) object {
	o := object{p: p, path: path, values: map[string]*yaml.Node{}}
	if n == nil {
		return o
	}
	if n.Kind != yaml.MappingNode {
		hint := ""
		if known != nil {
			hint = "its fields are " + strings.Join(known, ", ")
		}
		p.refuse(path, hint, "expected a mapping, got %s", describe(n))
		o.broken = true
		return o
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			p.problems = append(p.problems, problem{place{line: key.Line}, path, "a field name must be a word, got " + describe(key), ""})
			continue
		}
		name := join2(path, key.Value)
		if seen[key.Value] {
			first := p.places[name]
			p.problems = append(p.problems, problem{place{line: key.Line}, name, fmt.Sprintf("given twice, first in line %d", first.line), ""})
			continue
		}
		seen[key.Value] = true
		p.remember(name, key, value)
		if known != nil && !slices.Contains(known, key.Value) {
			hint := custom.DidYouMean(key.Value, known)
			if hint == "" {
				hint = oneOf(known)
			}
			p.refuse(name, hint, "unknown field")
			continue
		}
		switch {
		case !isNull(value):
			o.values[key.Value] = value
		case known == nil && p.places[name].set == "":
			p.refuse(name, "", "has no value")
		}
	}
	return o
}

func (o object) has(name string) bool { return o.values[name] != nil }

// need reports the fields that are not there.
func (o object) need(name, hint string) {
	if !o.has(name) && !o.broken {
		o.p.refuse(join2(o.path, name), hint, "missing")
	}
}

func (o object) refuse(name, hint, format string, args ...any) {
	o.p.refuse(join2(o.path, name), hint, format, args...)
}

// object reads the mapping in a field; it has no fields if there is none.
func (o object) object(name string, known ...string) object {
	return o.p.object(join2(o.path, name), o.values[name], known)
}

// scalar returns the text of a field, and whether there is one.
func (o object) scalar(name string) (string, bool) {
	n := o.values[name]
	if n == nil {
		return "", false
	}
	if n.Kind != yaml.ScalarNode {
		o.refuse(name, "", "expected a single value, got %s", describe(n))
		return "", false
	}
	return n.Value, true
}

// choice reads one of have; what names it in errors.
func (o object) choice(name, def, what string, have []string) string {
	v, ok := o.scalar(name)
	if !ok {
		return def
	}
	if !slices.Contains(have, v) {
		o.refuse(name, custom.DidYouMean(v, have), "unknown %s %q; %s", what, shorten(v), oneOf(have))
		return def
	}
	return v
}

// integer reads a whole number from least to most, both included.
func (o object) integer(name string, def, least, most int64) int64 {
	v, ok := o.scalar(name)
	if !ok {
		return def
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		o.refuse(name, "", "%q is not a whole number", shorten(v))
		return def
	}
	if n < least || n > most {
		o.refuse(name, "", "%d is out of range (%d to %d)", n, least, most)
		return def
	}
	return n
}

// duration reads a time span from least to most, both included.
func (o object) duration(name string, def, least, most time.Duration) time.Duration {
	v, ok := o.scalar(name)
	if !ok {
		return def
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		o.refuse(name, "a duration has a unit, for instance 500ms, 30s or 2m", "%q is not a duration", shorten(v))
		return def
	}
	if d < least || d > most {
		o.refuse(name, "", "%s is out of range (%s to %s)", v, short(least), short(most))
		return def
	}
	return d
}

// number reads a decimal number that ends in unit, from least to most.
func (o object) number(name, unit string, def, least, most float64, example string) float64 {
	v, ok := o.scalar(name)
	if !ok {
		return def
	}
	digits, ok := strings.CutSuffix(v, unit)
	f, err := strconv.ParseFloat(digits, 64)
	if v == "0" { // needs no unit
		f, ok, err = 0, true, nil
	}
	if !ok || err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		o.refuse(name, "write "+example, "%q is not a number%s", shorten(v), map[bool]string{true: " that ends in " + unit}[unit != ""])
		return def
	}
	if f < least || f > most {
		o.refuse(name, "", "%s is out of range (%s%s to %s%s)", v, decimal(least), unit, decimal(most), unit)
		return def
	}
	return f
}

// short writes d as people do: 90s and 2h, not 1m30s and 2h0m0s.
func short(d time.Duration) string {
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= 10*time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d%time.Second == 0:
		return fmt.Sprintf("%ds", d/time.Second)
	default:
		return d.String()
	}
}
