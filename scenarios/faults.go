package scenarios

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"statequake/chaos"
	"statequake/chaos/hand"
)

// FaultFile is what a file says about faults.
type FaultFile struct {
	Name     string    // of the scenario, or of the file without its ending
	Scenario *Scenario // nil: the file holds objects of faults and nothing else
	Faults   []Fault   // in the order of the file, at least one
	Places   []string  // of each fault's object: "FILE:LINE: faults[1].chaos"

	file    string
	sources []source // of the faults
}

// source is where a fault was read.
type source struct {
	parser *parser
	index  int // in a scenario; -1 for an object alone
}

// Only leaves one fault.
func (ff *FaultFile) Only(name string) error {
	var names []string
	for i, f := range ff.Faults {
		if f.Name == name {
			ff.Faults, ff.Places, ff.sources = ff.Faults[i:i+1], ff.Places[i:i+1], ff.sources[i:i+1]
			return nil
		}
		names = append(names, f.Name)
	}
	return fmt.Errorf("%s: there is no fault %q; %s", ff.file, name, oneOf(names))
}

// Refused words what a harness found wrong with one of the faults, with file and
// line.
func (ff *FaultFile) Refused(fault int, refused *hand.Refused) error {
	from := ff.sources[fault]
	var problems []problem
	for _, bad := range refused.Problems {
		path := strings.TrimPrefix(strings.TrimPrefix(bad.Field, "chaos"), ".")
		if from.index >= 0 {
			path = strings.TrimSuffix(fmt.Sprintf("faults[%d].%s", from.index, bad.Field), ".")
		}
		problems = append(problems, problem{from.parser.where(path), path, bad.Text, bad.Hint})
	}
	return join(ff.file, problems)
}

// OpenFaults reads a scenario, as Open does, or a file of one or more YAML
// documents that each are the object of a fault. Such a fault has the name in
// its metadata, or that of the file, with a number from the second on, and
// starts at once; means say which kinds there may be. Errors are those of Parse.
func OpenFaults(nameOrPath string, means chaos.Means, opt Options) (*FaultFile, error) {
	file, data, err := read(nameOrPath)
	if err != nil {
		return nil, err
	}
	var documents []*yaml.Node
	if len(data) <= maxSize {
		documents = objects(data)
	}
	if documents == nil {
		p, s, err := parse(file, data, opt)
		if err != nil {
			return nil, err
		}
		if len(s.Faults) == 0 {
			return nil, problem{text: "has no faults"}.format(file)
		}
		ff := &FaultFile{Name: s.Name, Scenario: s, Faults: s.Faults, file: file}
		for i := range s.Faults {
			path := fmt.Sprintf("faults[%d].chaos", i)
			ff.sources = append(ff.sources, source{p, i})
			ff.Places = append(ff.Places, fmt.Sprintf("%s:%d: %s", file, p.where(path).line, path))
		}
		return ff, nil
	}
	if len(opt.Set) > 0 {
		return nil, problem{text: "holds objects of faults, and --set changes fields of scenarios"}.format(file)
	}

	name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	name = strings.Trim(notOfNames.ReplaceAllString(strings.ToLower(name), "-"), "-")
	ff := &FaultFile{Name: name, file: file}
	var errs []error
	taken := map[string]bool{}
	for i, root := range documents {
		p := &parser{origin: map[*yaml.Node]string{}, places: map[string]place{"": {line: root.Line}}}
		f := Fault{Name: name, Trigger: chaos.At(0)}
		if i > 0 {
			f.Name = fmt.Sprintf("%s-%d", name, i+1)
		}
		if _, metadata := child(root, "metadata"); metadata != nil {
			if _, written := child(metadata, "name"); written != nil && written.Value != "" {
				f.Name = written.Value
			}
		}
		if taken[f.Name] {
			p.refuse("metadata.name", "", "%s is the name of another fault, too", f.Name)
		}
		taken[f.Name] = true
		if bad := refuseIndirection(root); bad != nil {
			p.problems = append(p.problems, *bad)
		} else if object, ok := p.foreign("", root); ok {
			plan, err := chaos.ParseFor(means, f.Name, f.Trigger, object)
			p.refuseAll("", err)
			f.Chaos, f.Plan = object, plan
		}
		errs = append(errs, join(file, p.problems))
		ff.Faults = append(ff.Faults, f)
		ff.sources = append(ff.sources, source{p, -1})
		ff.Places = append(ff.Places, fmt.Sprintf("%s:%d", file, root.Line))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return ff, nil
}

var notOfNames = regexp.MustCompile(`[^a-z0-9-]+`)

// objects returns the documents of data if they are objects of faults, told by
// a kind at the top; nil if they are anything else.
func objects(data []byte) []*yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var list []*yaml.Node
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		switch {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			return nil // Parse says what is wrong
		case len(doc.Content) == 0 || isNull(doc.Content[0]):
			continue // nothing between two separators
		}
		if key, _ := child(doc.Content[0], "kind"); key == nil {
			return nil
		}
		list = append(list, doc.Content[0])
	}
}
