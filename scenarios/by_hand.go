package scenarios

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"statequake/chaos"
	"statequake/chaos/hand"
)

// ByHand are faults to be injected by hand, in their order. It is made by
// OpenByHand.
type ByHand struct {
	Faults []Fault // valid here; whether a harness can do them, and its nodes fit, it has to say
	Alone  bool    // the file holds a fault object alone, which has no trigger

	file    string
	parser  *parser
	indices []int // of the faults in the file; -1 for a fault object alone
}

// OpenByHand reads the faults of a scenario, a file or the name of a bundled
// one, or only one of them; or a file with a fault object alone (kind, spec),
// whose name is that of its metadata, of the file, or its kind. Errors are as
// those of Open.
func OpenByHand(nameOrPath, only string) (*ByHand, error) {
	file, data, err := read(nameOrPath)
	if err != nil {
		return nil, err
	}
	if len(data) > maxSize {
		return nil, problem{text: "is larger than 1 MiB"}.format(file)
	}
	root, bad := document(data)
	if bad != nil {
		return nil, bad.format(file)
	}
	if root == nil {
		return nil, problem{text: "is empty", hint: "it holds a scenario with faults, or one fault object: kind and spec"}.format(file)
	}
	p := &parser{origin: map[*yaml.Node]string{}, places: map[string]place{"": {line: 1}}}
	b := &ByHand{file: file, parser: p}
	if kind, _ := child(root, "kind"); kind != nil {
		b.Faults, b.indices, b.Alone = []Fault{p.alone(file, root)}, []int{-1}, true
	} else {
		s := p.scenario(file, root, Options{})
		b.Faults = s.Faults
		for i := range s.Faults {
			b.indices = append(b.indices, i)
		}
	}
	if err := join(file, p.problems); err != nil {
		return nil, err
	}
	if len(b.Faults) == 0 {
		return nil, problem{text: "has no faults"}.format(file)
	}
	if only != "" {
		if err := b.choose(only); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// choose leaves one fault.
func (b *ByHand) choose(only string) error {
	var names []string
	for i, f := range b.Faults {
		if f.Name == only {
			b.Faults, b.indices = b.Faults[i:i+1], b.indices[i:i+1]
			return nil
		}
		names = append(names, f.Name)
	}
	return fmt.Errorf("%s: there is no fault %q; %s", b.file, only, oneOf(names))
}

// alone reads a fault object that is no part of a scenario.
func (p *parser) alone(file string, root *yaml.Node) Fault {
	f := Fault{Name: p.nameAlone(file, root), Trigger: chaos.At(0)}
	object, ok := p.foreign("", root)
	if !ok {
		return f
	}
	plan, err := chaos.ParseFor(chaos.Local, f.Name, f.Trigger, object)
	p.refuseAll("", err)
	f.Chaos, f.Plan = object, plan
	return f
}

func (p *parser) nameAlone(file string, root *yaml.Node) string {
	base := filepath.Base(file)
	names := []string{strings.ToLower(strings.TrimSuffix(base, filepath.Ext(base)))}
	_, kind := child(root, "kind")
	names = append(names, strings.ToLower(kind.Value), "fault")
	if _, metadata := child(root, "metadata"); metadata != nil && metadata.Kind == yaml.MappingNode {
		if _, name := child(metadata, "name"); name != nil {
			names = slices.Insert(names, 0, name.Value)
		}
	}
	return names[slices.IndexFunc(names, namePattern.MatchString)]
}

// Refused words what a harness found wrong with one of the faults, with file and
// line.
func (b *ByHand) Refused(fault int, refused *hand.Refused) error {
	var problems []problem
	for _, bad := range refused.Problems {
		path := strings.TrimPrefix(strings.TrimPrefix(bad.Field, "chaos"), ".")
		if i := b.indices[fault]; i >= 0 {
			path = strings.TrimSuffix(fmt.Sprintf("faults[%d].%s", i, bad.Field), ".")
		}
		problems = append(problems, problem{b.parser.where(path), path, bad.Text, bad.Hint})
	}
	return join(b.file, problems)
}
