package scenarios

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"statequake/fixtures/custom"
)

// freeKeys are the mappings whose keys are names and may hold dots; after one
// of them the rest of a --set path is one key.
var freeKeys = map[string]bool{"expect": true, "labelSelectors": true}

// set applies one --set argument, path=value, to the tree below root. The
// value is YAML; an empty one removes the field. A path is made of field
// names, list positions in brackets and, in a list of named items, their
// names: load.retry.max, faults[0].at, faults.kill-owner.at. Missing fields
// are created; whether they exist at all is found out when the tree is read.
//
// It returns what is wrong with the argument, or nil.
func (p *parser) set(root *yaml.Node, arg string) *problem {
	at := place{set: arg}
	refuse := func(hint, format string, args ...any) *problem {
		return &problem{place: at, text: fmt.Sprintf(format, args...), hint: hint}
	}
	path, text, ok := strings.Cut(arg, "=")
	if !ok || path == "" || strings.HasSuffix(path, ".") {
		return refuse("for instance load.arrivals.constant=800/s", "expected path=value")
	}
	var value *yaml.Node // nil removes
	if text != "" {
		var bad *problem
		if value, bad = document([]byte(text)); bad != nil {
			return refuse(bad.hint, "in the value: %s", bad.text)
		}
		if value == nil {
			return refuse("quote a value that begins with #", "the value is a comment")
		}
		p.mark(value, arg)
	}

	n, done := root, ""
	for {
		s, err := nextStep(n, done, path)
		if err != nil {
			return refuse(err.hint, "%s", err.text)
		}
		if s.rest == "" {
			s.assign(n, value, func(key *yaml.Node) { p.mark(key, arg) })
			return nil
		}
		next := s.value
		if next == nil || isNull(next) {
			if next = (&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}); s.rest[0] == '[' {
				return refuse("", "%s is not a list", s.path)
			}
			p.mark(next, arg)
			s.assign(n, next, func(key *yaml.Node) { p.mark(key, arg) })
		}
		n, done, path = next, s.path, s.rest
	}
}

// mark remembers that n and all below it come from a --set argument.
func (p *parser) mark(n *yaml.Node, arg string) {
	p.origin[n] = arg
	for _, c := range n.Content {
		p.mark(c, arg)
	}
}

// step is the first step of a path from one node.
type step struct {
	path  string     // from the root, this step included
	key   *yaml.Node // the key in a mapping, nil if it is not there or the node is a list
	name  string     // of the key
	index int        // position of the value in the node's content
	value *yaml.Node // nil if it is not there
	rest  string     // what is left of the path
}

// nextStep resolves the first step of path from n, which stands at done.
func nextStep(n *yaml.Node, done, path string) (step, *problem) {
	name := done
	if name == "" {
		name = "the scenario"
	}
	switch n.Kind {
	case yaml.SequenceNode:
		return itemStep(n, done, path)
	case yaml.MappingNode:
		return fieldStep(n, done, path)
	default:
		return step{}, &problem{
			text: fmt.Sprintf("%s is %s, which has no fields", name, describe(n)),
			hint: fmt.Sprintf("replace it as a whole, --set '%s={...}'", done),
		}
	}
}

func itemStep(n *yaml.Node, done, path string) (step, *problem) {
	if inside, ok := strings.CutPrefix(path, "["); ok {
		number, rest, closed := strings.Cut(inside, "]")
		i, err := strconv.Atoi(number)
		if !closed || err != nil || rest != "" && rest[0] != '.' && rest[0] != '[' {
			return step{}, &problem{text: fmt.Sprintf("%s: %q is not a position such as [0]", done, shorten(path))}
		}
		if i < 0 || i >= len(n.Content) {
			return step{}, &problem{text: fmt.Sprintf("%s[%d]: no such item; the list has %d, counted from 0", done, i, len(n.Content))}
		}
		return step{path: fmt.Sprintf("%s[%d]", done, i), index: i, value: n.Content[i], rest: strings.TrimPrefix(rest, ".")}, nil
	}
	name, rest := cutName(path)
	var names []string
	for i, item := range n.Content {
		if item.Kind != yaml.MappingNode {
			continue
		}
		if _, v := child(item, "name"); v != nil {
			if v.Value == name {
				return step{path: fmt.Sprintf("%s[%d]", done, i), index: i, value: item, rest: rest}, nil
			}
			names = append(names, v.Value)
		}
	}
	if len(names) == 0 {
		return step{}, &problem{text: fmt.Sprintf("%s: no item is named %s", done, name)}
	}
	return step{}, &problem{text: fmt.Sprintf("%s: no item is named %s; %s", done, name, oneOf(names)), hint: custom.DidYouMean(name, names)}
}

func fieldStep(n *yaml.Node, done, path string) (step, *problem) {
	if strings.HasPrefix(path, "[") {
		return step{}, &problem{text: fmt.Sprintf("%s is not a list", done)}
	}
	// A key that is there and holds dots wins over one without.
	s := step{name: ""}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		rest, ok := strings.CutPrefix(path, key.Value)
		if !ok || rest != "" && rest[0] != '.' && rest[0] != '[' || len(key.Value) <= len(s.name) {
			continue
		}
		s = step{key: key, name: key.Value, index: i + 1, value: n.Content[i+1], rest: strings.TrimPrefix(rest, ".")}
	}
	if s.key == nil {
		s.name, s.rest = cutName(path)
		if freeKeys[done[strings.LastIndexByte(done, '.')+1:]] {
			s.name, s.rest = path, ""
		}
		if s.name == "" {
			return step{}, &problem{text: "the path has an empty part"}
		}
	}
	s.path = join2(done, s.name)
	return s, nil
}

// cutName splits a path after its first name.
func cutName(path string) (name, rest string) {
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		return path, ""
	}
	return path[:end], strings.TrimPrefix(path[end:], ".")
}

// assign puts value where the step leads in n, or removes what is there if
// value is nil. A field that is not there is removed by an empty one, so that
// its name is still checked.
func (s step) assign(n, value *yaml.Node, created func(key *yaml.Node)) {
	switch {
	case s.value != nil && value != nil:
		n.Content[s.index] = value
	case s.value != nil && n.Kind == yaml.MappingNode:
		n.Content = append(n.Content[:s.index-1], n.Content[s.index+1:]...)
	case s.value != nil:
		n.Content = append(n.Content[:s.index], n.Content[s.index+1:]...)
	default:
		if value == nil {
			value = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s.name}
		created(key)
		n.Content = append(n.Content, key, value)
	}
}

func join2(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
