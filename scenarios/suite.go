package scenarios

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// suiteFile is what a suite's folder may hold beside its own scenarios: the
// names of others.
const suiteFile = "suite.yaml"

// Suite is a folder of scenarios that are run and reported together.
type Suite struct {
	Name    string // of the folder
	Claim   string // from the leading "# Claim:" comment of its suite.yaml; may be empty
	Members []Member
}

// Member is a scenario of a suite. No other one has its name.
type Member struct {
	Source   string // the file, which may be a bundled one
	Scenario *Scenario
}

// SuiteInfo describes a bundled suite.
type SuiteInfo struct {
	Name  string // as OpenSuite takes it, for instance "suites/smoke"
	Suite *Suite
}

// Suites returns the suites that come with the program, by name.
func Suites() []SuiteInfo {
	var infos []SuiteInfo
	for _, name := range suiteNames() {
		s, err := (&folder{name: name}).open(Options{})
		if err != nil {
			panic(err) // a defect of this build; the tests open every one
		}
		infos = append(infos, SuiteInfo{name, s})
	}
	return infos
}

func suiteNames() []string {
	entries, err := bundled.ReadDir("suites")
	if err != nil {
		panic(err) // it is embedded
	}
	var names []string
	for _, e := range entries {
		names = append(names, "suites/"+e.Name())
	}
	return names
}

// namesInSuites are the names of bundled scenarios that only a suite has.
func namesInSuites() []string {
	files, err := fs.Glob(bundled, "suites/*/*.yaml")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	var names []string
	for _, f := range files {
		if path.Base(f) != suiteFile {
			names = append(names, strings.TrimSuffix(f, ".yaml"))
		}
	}
	return names
}

// IsSuite reports whether Open would not take name, but OpenSuite may: it is
// that of a folder or of a bundled suite, and not that of a scenario.
func IsSuite(name string) bool {
	if info, err := os.Stat(name); err == nil {
		return info.IsDir() && !slices.Contains(bundledNames(), name)
	}
	return slices.Contains(suiteNames(), path.Clean(name))
}

// OpenSuite reads the suite in the folder nameOrPath or, if there is no such
// folder, the bundled suite of that name: every file *.yaml of the folder, by
// name, and before them the scenarios that its suite.yaml lists. opt holds for
// each of them. All problems of all files are reported together; a suite
// without a scenario is one.
func OpenSuite(nameOrPath string, opt Options) (*Suite, error) {
	if _, err := os.Stat(nameOrPath); err == nil {
		return (&folder{name: filepath.Clean(nameOrPath), onDisk: true}).open(opt)
	}
	name := path.Clean(nameOrPath)
	if !slices.Contains(suiteNames(), name) {
		return nil, fmt.Errorf("no folder %q and no bundled suite of that name; %s", nameOrPath, oneOf(suiteNames()))
	}
	return (&folder{name: name}).open(opt)
}

// folder is where a suite is read from.
type folder struct {
	name   string
	onDisk bool // otherwise it is bundled

	problems []error
	refused  map[string][]string // problem of a --set for all scenarios -> those that have it
}

// listed is one scenario of a suite before it is parsed.
type listed struct {
	name string   // as written; empty for a file of the folder
	file string   // that was read
	data []byte   //
	set  []string // of suite.yaml
	at   []string // place of each of set
}

func (f *folder) open(opt Options) (*Suite, error) {
	absolute, err := filepath.Abs(f.name)
	if err != nil {
		return nil, err
	}
	s := &Suite{Name: filepath.Base(absolute)}
	names, err := f.files()
	if err != nil {
		return nil, fmt.Errorf("suite: %w", err)
	}
	var all []listed
	if slices.Contains(names, suiteFile) {
		file, data, err := f.read(suiteFile)
		if err != nil {
			return nil, err
		}
		s.Claim = claim(data)
		all = f.list(file, data)
	}
	for _, name := range names {
		if name == suiteFile {
			continue
		}
		file, data, err := f.read(name)
		if err != nil {
			return nil, err
		}
		all = append(all, listed{file: file, data: data})
	}
	if len(all) == 0 && len(f.problems) == 0 {
		return nil, fmt.Errorf("%s: holds no scenario\nhint: a suite is a folder of scenarios, *.yaml; docs/suites.md", f.name)
	}
	f.refused = map[string][]string{}
	sources := map[string]string{}
	for _, l := range all {
		scenario, err := Parse(l.file, l.data, Options{Set: slices.Concat(l.set, opt.Set), CheckExpectation: opt.CheckExpectation})
		if err != nil {
			f.refuse(l, opt.Set, err)
			continue
		}
		if other, ok := sources[scenario.Name]; ok {
			f.problems = append(f.problems, fmt.Errorf("%s: name: %s is the name of %s too\nhint: in %s, {scenario: ..., set: {name: another}}", l.file, scenario.Name, other, suiteFile))
		}
		sources[scenario.Name] = l.file
		s.Members = append(s.Members, Member{l.file, scenario})
	}
	for text, files := range f.refused {
		if len(files) == len(all) {
			f.problems = append(f.problems, errors.New(text))
			continue
		}
		for _, file := range files {
			f.problems = append(f.problems, fmt.Errorf("%s: %s", file, text))
		}
	}
	if err := errors.Join(f.problems...); err != nil {
		return nil, err
	}
	return s, nil
}

// refuse notes what is wrong with a scenario. What suite.yaml sets is blamed on
// it.
func (f *folder) refuse(l listed, set []string, err error) {
	for _, err := range split(err) {
		text := err.Error()
		for i, arg := range l.set {
			if rest, ok := strings.CutPrefix(text, "--set "+arg); ok {
				text = l.at[i] + rest
			}
		}
		if slices.ContainsFunc(set, func(arg string) bool { return strings.HasPrefix(text, "--set "+arg+":") }) {
			f.refused[text] = append(f.refused[text], l.file)
			continue
		}
		f.problems = append(f.problems, errors.New(text))
	}
}

// files lists the scenarios of the folder, suite.yaml included.
func (f *folder) files() ([]string, error) {
	read := bundled.ReadDir
	if f.onDisk {
		read = os.ReadDir
	}
	entries, err := read(f.name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		switch name := e.Name(); {
		case f.onDisk && slices.Contains([]string{"history.jsonl", "history.jsonl.zst", "verdict.json"}, name):
			return nil, fmt.Errorf("%s is a run directory\nhint: statequake run %s runs it again", f.name, filepath.Join(f.name, "scenario.yaml"))
		case f.onDisk && name == "plan.json":
			return nil, fmt.Errorf("%s holds the runs of a suite\nhint: statequake run SUITE --out %s goes on with them", f.name, f.name)
		case !e.IsDir() && filepath.Ext(name) == ".yaml" && !strings.HasPrefix(name, "."):
			names = append(names, name)
		}
	}
	return names, nil
}

// read returns a file of the folder, and how errors name it.
func (f *folder) read(name string) (file string, data []byte, err error) {
	if f.onDisk {
		return read(filepath.Join(f.name, name))
	}
	file = path.Join(f.name, name)
	data, err = bundled.ReadFile(file)
	return file, data, err
}

// list reads suite.yaml and the scenarios that it names.
func (f *folder) list(file string, data []byte) []listed {
	refuse := func(p problem) { f.problems = append(f.problems, p.format(file)) }
	root, bad := document(data)
	if bad != nil {
		refuse(*bad)
		return nil
	}
	if root == nil {
		refuse(problem{text: "is empty", hint: "scenarios: [kill-owner, ...]"})
		return nil
	}
	p := &parser{origin: map[*yaml.Node]string{}, places: map[string]place{"": {line: 1}}}
	o := p.object("", root, []string{"scenarios"})
	o.need("scenarios", "scenarios: [kill-owner, {scenario: mixed, set: {load.duration: 10s}}]")
	var all []listed
	if n := o.values["scenarios"]; n != nil && n.Kind != yaml.SequenceNode {
		o.refuse("scenarios", "scenarios: [kill-owner, ...]", "expected a list, got %s", describe(n))
	} else if n != nil {
		for i, item := range n.Content {
			field := fmt.Sprintf("scenarios[%d]", i)
			p.remember(field, nil, item)
			l := listed{name: item.Value}
			if item.Kind != yaml.ScalarNode {
				o := p.object(field, item, []string{"scenario", "set"})
				o.need("scenario", "scenario: kill-owner")
				l.name, _ = o.scalar("scenario")
				l.set, l.at = p.sets(file, o)
			}
			if l.name == "" {
				continue // reported already, or by what follows
			}
			var err error
			if l.file, l.data, err = f.find(l.name); err != nil {
				text, hint := splitHint(err)
				p.refuse(field, hint, "%s", text)
				continue
			}
			all = append(all, l)
		}
	}
	if err := join(file, p.problems); err != nil {
		f.problems = append(f.problems, split(err)...)
	}
	return all
}

// sets reads the overrides of a scenario in suite.yaml as arguments of --set,
// and where each was written.
func (p *parser) sets(file string, item object) (set, at []string) {
	n := item.values["set"]
	if n == nil {
		return nil, nil
	}
	o := item.object("set")
	if o.broken {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		text, err := inline(value)
		if err != nil {
			o.refuse(key.Value, "", "%v", err)
			continue
		}
		set = append(set, key.Value+"="+text)
		at = append(at, fmt.Sprintf("%s:%d: %s.%s", file, key.Line, o.path, key.Value))
	}
	return set, at
}

// inline writes a value on one line.
func inline(n *yaml.Node) (string, error) {
	plain(n)
	text, err := yaml.Marshal(n)
	if err != nil {
		return "", err
	}
	line := strings.TrimSuffix(string(text), "\n")
	if strings.Contains(line, "\n") {
		return "", errors.New("is too long for one line")
	}
	return line, nil
}

// plain puts n into the flow style, without comments.
func plain(n *yaml.Node) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	if n.Kind != yaml.ScalarNode {
		n.Style = yaml.FlowStyle
	}
	for _, c := range n.Content {
		plain(c)
	}
}

// find reads a scenario by the name that suite.yaml gives it: that of a file,
// seen from the folder, or that of a bundled one.
func (f *folder) find(name string) (file string, data []byte, err error) {
	if f.onDisk {
		file := name
		if !filepath.IsAbs(file) {
			file = filepath.Join(f.name, name)
		}
		if _, err := os.Stat(file); err == nil {
			return read(file)
		}
	}
	return readBundled(name, fs.ErrNotExist)
}
