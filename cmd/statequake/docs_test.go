package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"statequake/reports"
	"statequake/scenarios"
)

// repository is the root of the repository, seen from this package.
const repository = "../.."

// page is one Markdown file, read as far as the tests need it.
type page struct {
	path    string // from the root of the repository
	anchors map[string]bool
	links   []piece // targets of links and pictures
	spans   []piece // code within lines
	blocks  []block // fenced and indented
}

// piece is a part of a line.
type piece struct {
	line int // from 1
	text string
}

// block is a fenced or an indented block of code.
type block struct {
	line int      // of its first line of text, from 1
	info []string // the words behind ```; empty for an indented block
	text string   // without the indentation
}

// indented reports whether the block has no fence: output, or what is shown and
// not run.
func (b block) indented() bool { return b.info == nil }

var (
	linkPattern = regexp.MustCompile(`\]\(([^()\s]+(?:\([^()\s]*\))?)\)`)
	codePattern = regexp.MustCompile("``(.+?)``|`([^`]+)`")
	itemPattern = regexp.MustCompile(`^\s*(?:[-*]|\d+\.) `)
)

// readPage reads a Markdown file. It knows what the documents of this repository
// use: headings with #, fences of three backticks, blocks indented by four
// spaces, and links within one line.
func readPage(path string) (page, error) {
	text, err := os.ReadFile(filepath.Join(repository, path))
	if err != nil {
		return page{}, err
	}
	p := page{path: path, anchors: map[string]bool{}}
	var open *block
	fenced, blank, list := false, true, false
	for i, line := range strings.Split(string(text), "\n") {
		word, isFence := strings.CutPrefix(line, "```")
		text, isIndented := strings.CutPrefix(line, "    ")
		switch {
		case isFence && fenced:
			fenced, open = false, nil
		case fenced:
			open.text += line + "\n"
		case isFence:
			p.blocks = append(p.blocks, block{line: i + 2, info: append([]string{}, strings.Fields(word)...)})
			fenced, open = true, &p.blocks[len(p.blocks)-1]
		case open != nil && (isIndented || strings.TrimSpace(line) == ""):
			open.text += text + "\n"
		case isIndented && blank && !list:
			p.blocks = append(p.blocks, block{line: i + 1, text: text + "\n"})
			open = &p.blocks[len(p.blocks)-1]
		default:
			open = nil
			p.prose(i+1, line)
		}
		blank = strings.TrimSpace(line) == ""
		if !blank && !isIndented && !fenced {
			list = itemPattern.MatchString(line)
		}
	}
	if fenced {
		return page{}, fmt.Errorf("%s:%d: the block is not closed", path, open.line)
	}
	return p, nil
}

// prose reads a line outside of blocks.
func (p *page) prose(n int, line string) {
	for _, m := range codePattern.FindAllStringSubmatch(line, -1) {
		p.spans = append(p.spans, piece{n, m[1] + m[2]})
	}
	for _, m := range linkPattern.FindAllStringSubmatch(codePattern.ReplaceAllString(line, ""), -1) {
		p.links = append(p.links, piece{n, m[1]})
	}
	if level := len(line) - len(strings.TrimLeft(line, "#")); level > 0 && level <= 6 && strings.HasPrefix(line[level:], " ") {
		anchor := slug(line[level:])
		for base, k := anchor, 1; p.anchors[anchor]; k++ {
			anchor = fmt.Sprintf("%s-%d", base, k)
		}
		p.anchors[anchor] = true
	}
}

// slug is the anchor that GitHub gives a heading: its letters and digits in lower
// case, spaces as dashes, and no other punctuation than - and _.
func slug(heading string) string {
	heading = linkTextPattern.ReplaceAllString(strings.TrimSpace(heading), "$1")
	return strings.Map(func(c rune) rune {
		switch {
		case c == ' ':
			return '-'
		case unicode.IsLetter(c), unicode.IsDigit(c), c == '-', c == '_':
			return unicode.ToLower(c)
		}
		return -1
	}, heading)
}

var linkTextPattern = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// readPages reads every Markdown file of the repository.
func readPages(t *testing.T) []page {
	t.Helper()
	var pages []page
	err := filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != repository && (strings.HasPrefix(name, ".") || slices.Contains([]string{"testdata", "node_modules", "runs", "bin"}, name)):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(name) != ".md":
			return nil
		}
		rel, err := filepath.Rel(repository, path)
		if err != nil {
			return err
		}
		p, err := readPage(rel)
		if err != nil {
			return err
		}
		pages = append(pages, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 10 {
		t.Fatalf("%d Markdown files; they are not checked", len(pages))
	}
	return pages
}

// TestDocLinks: every link to a file or to a heading of this repository leads
// somewhere, and every document in docs is in its index.
func TestDocLinks(t *testing.T) {
	pages := readPages(t)
	known := map[string]page{}
	for _, p := range pages {
		known[p.path] = p
	}
	linked := map[string]bool{}
	for _, p := range pages {
		for _, l := range p.links {
			if bad := checkLink(p, l.text, known); bad != "" {
				t.Errorf("%s:%d: %s", p.path, l.line, bad)
			}
			if p.path == "docs/README.md" {
				file, _, _ := strings.Cut(l.text, "#")
				linked[filepath.Join("docs", file)] = true
			}
		}
	}
	for _, p := range pages {
		if filepath.Dir(p.path) == "docs" && p.path != "docs/README.md" && !linked[p.path] {
			t.Errorf("%s is not in docs/README.md", p.path)
		}
	}
}

// checkLink says what is wrong with the target of a link.
func checkLink(p page, target string, known map[string]page) string {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return ""
	}
	file, anchor, _ := strings.Cut(target, "#")
	at := p.path
	if file != "" {
		at = filepath.Join(filepath.Dir(p.path), file)
		if _, err := os.Stat(filepath.Join(repository, at)); err != nil || strings.HasPrefix(at, "..") {
			return fmt.Sprintf("link to %s, which is not there", target)
		}
	}
	if to, ok := known[at]; anchor != "" && (!ok || !to.anchors[anchor]) {
		return fmt.Sprintf("link to %s, which has no heading #%s", cmp.Or(file, "this page"), anchor)
	}
	return ""
}

var (
	filePattern   = regexp.MustCompile(`^(\.?[a-z_0-9-]+(?:/[\w.-]+)+\.(?:go|yaml|md|js|sh|json))$`)
	testPattern   = regexp.MustCompile(`\bTest[A-Z]\w*\b`)
	targetPattern = regexp.MustCompile(`\bmake ([a-z][a-z0-9-]*)`)
	runDirPattern = regexp.MustCompile(`^(?:runs|my|shared|violations|violation|store|k6|plots|nodes|head|base)/`)
)

// TestDocNames: the files, tests and make targets that documents name in code
// are there.
func TestDocNames(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(repository, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	functions := goTests(t)
	for _, p := range readPages(t) {
		pieces := slices.Clone(p.spans)
		for _, b := range p.blocks {
			if len(b.info) > 0 && b.info[0] == "sh" || b.indented() && commandLines(b.text) != nil {
				pieces = append(pieces, piece{b.line, b.text})
			}
		}
		for _, s := range pieces {
			if m := filePattern.FindString(s.text); m != "" && !runDirPattern.MatchString(m) && !strings.Contains(m, "NAME") {
				_, fromRoot := os.Stat(filepath.Join(repository, m))
				_, fromPage := os.Stat(filepath.Join(repository, filepath.Dir(p.path), m))
				if fromRoot != nil && fromPage != nil {
					t.Errorf("%s:%d: there is no file %s", p.path, s.line, m)
				}
			}
			for _, name := range testPattern.FindAllString(s.text, -1) {
				if !functions[name] {
					t.Errorf("%s:%d: there is no %s", p.path, s.line, name)
				}
			}
			for _, m := range targetPattern.FindAllStringSubmatch(s.text, -1) {
				if !bytes.Contains(makefile, []byte("\n"+m[1]+":")) {
					t.Errorf("%s:%d: there is no make %s", p.path, s.line, m[1])
				}
			}
		}
	}
}

// goTests are the names of all test functions of the repository.
func goTests(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestDocCommands: the statequake commands of all documents have subcommands and
// flags that exist; in blocks, their scenarios and what --set changes exist, too.
func TestDocCommands(t *testing.T) {
	n := 0
	for _, p := range readPages(t) {
		written := writtenFiles(t, p)
		for _, b := range p.blocks {
			shell := len(b.info) > 0 && b.info[0] == "sh"
			if !shell && !b.indented() {
				continue
			}
			for _, c := range commandLines(b.text) {
				n++
				err := checkCommand(c.words, shell, written)
				if m := exitPattern.FindStringSubmatch(strings.Split(b.text, "\n")[c.line]); m != nil && m[1] == "3" {
					if err == nil {
						t.Errorf("%s:%d: %s: nothing is wrong with it", p.path, b.line+c.line, strings.Join(c.words, " "))
					}
					continue
				}
				if err != nil {
					t.Errorf("%s:%d: %s: %v", p.path, b.line+c.line, strings.Join(c.words, " "), err)
				}
			}
		}
		for _, s := range p.spans {
			if words := strings.Fields(s.text); len(words) > 1 && isProgram(words[0]) {
				n++
				if err := checkFlags(words[1:]); err != nil {
					t.Errorf("%s:%d: %s: %v", p.path, s.line, s.text, err)
				}
			}
		}
	}
	for _, c := range everyCommand(rootCmd()) {
		for _, line := range commandLines(c.Example) {
			n++
			if err := checkCommand(line.words, false, nil); err != nil {
				t.Errorf("example of %s: %s: %v", c.CommandPath(), strings.Join(line.words, " "), err)
			}
		}
	}
	if n < 100 {
		t.Errorf("%d commands; they are not checked", n)
	}
}

// exitPattern is a comment behind a command that says how it ends.
var exitPattern = regexp.MustCompile(`#.*\bexit (\d)`)

// isProgram reports whether a word of a shell line starts this program.
func isProgram(word string) bool { return word == "statequake" || word == "bin/statequake" }

// commandLine is one call of the program in a block.
type commandLine struct {
	line  int // in the block, from 0
	words []string
}

// commandLines finds the calls of the program in the text of a block: words
// between the operators of a shell, without comments.
func commandLines(text string) []commandLine {
	var lines []commandLine
	start, joined := 0, ""
	for i, line := range strings.Split(text, "\n") {
		if joined == "" {
			start = i
		}
		if cut, ok := strings.CutSuffix(line, `\`); ok {
			joined += cut + " "
			continue
		}
		words := shellWords(joined + line)
		joined = ""
		for len(words) > 0 {
			end := slices.IndexFunc(words, func(w string) bool { return slices.Contains(operators, w) })
			if end < 0 {
				end = len(words)
			}
			if command := words[:end]; len(command) > 0 && isProgram(command[0]) {
				lines = append(lines, commandLine{start, command})
			}
			words = words[min(end+1, len(words)):]
		}
	}
	return lines
}

// operators end a command.
var operators = []string{"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "$(", ")"}

// shellWords splits a line as a shell does, as far as the documents go: quotes,
// comments and operators that stand alone. Lines that it does not understand
// have no words.
func shellWords(line string) []string {
	var words []string
	word, in, quote := "", false, rune(0)
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word += string(c)
		case c == '\'' || c == '"':
			quote, in = c, true
		case c == ' ' || c == '\t':
			if in {
				words, word, in = append(words, word), "", false
			}
		case c == '#' && !in:
			return words
		default:
			word, in = word+string(c), true
		}
	}
	if quote != 0 {
		return nil
	}
	if in {
		words = append(words, word)
	}
	return words
}

// everyCommand lists a command and all below it that can be called or lead to
// one that can.
func everyCommand(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			all = append(all, everyCommand(sub)...)
		}
	}
	return all
}

// checkFlags says what is wrong with a call whose values may be placeholders.
func checkFlags(args []string) error {
	root := rootCmd()
	c, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if c == root && !strings.HasPrefix(rest[0], "-") {
		return fmt.Errorf("unknown subcommand %q", rest[0])
	}
	c.InitDefaultHelpFlag()
	for _, word := range rest {
		name, _, _ := strings.Cut(strings.Trim(word, "[]"), "=")
		long, isLong := strings.CutPrefix(name, "--")
		short, isShort := strings.CutPrefix(name, "-")
		if isLong && c.Flags().Lookup(long) == nil || !isLong && isShort && (len(short) != 1 || c.Flags().ShorthandLookup(short) == nil) {
			return fmt.Errorf("unknown flag %s", name)
		}
	}
	return nil
}

// checkCommand says what is wrong with a call. written are the files that the
// document writes; strict calls are run, so that all that they name has to be
// there.
func checkCommand(words []string, strict bool, written map[string][]byte) error {
	root := rootCmd()
	c, args, err := root.Find(words[1:])
	if err != nil {
		return err
	}
	if c == root && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return fmt.Errorf("unknown subcommand %q", args[0])
	}
	c.InitDefaultHelpFlag()
	if !strict && slices.ContainsFunc(args, func(a string) bool { return strings.ToUpper(a) == a && strings.ContainsFunc(a, unicode.IsLetter) }) {
		return checkFlags(words[1:]) // it has placeholders
	}
	if err := c.ParseFlags(args); err != nil {
		return err
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		return err
	}
	takes := []string{"run", "ab", "chaos", "scenarios"}
	if !slices.Contains(takes, c.Name()) || c.Flags().NArg() == 0 {
		return nil
	}
	return checkScenario(c, c.Flags().Arg(0), strict, written)
}

// checkScenario says what is wrong with the scenario of a call, after what its
// --set flags change.
func checkScenario(c *cobra.Command, name string, strict bool, written map[string][]byte) error {
	var set []string
	for _, flag := range []string{"set", "base-set", "head-set"} {
		if f := c.Flags().Lookup(flag); f != nil {
			set = append(set, f.Value.(pflag.SliceValue).GetSlice()...)
		}
	}
	if slices.ContainsFunc(set, func(arg string) bool { return strings.Contains(arg, "{replay: runs/") }) {
		return nil // the schedule of a run that was not made yet cannot be read
	}
	opt := scenarios.Options{Set: set, CheckExpectation: reports.CheckExpectation}
	text, ok := written[name]
	if ok && text == nil {
		return nil // a folder
	}
	if ok {
		if c.Name() == "chaos" {
			return nil
		}
		_, err := scenarios.Parse(filepath.Join(repository, name), text, opt)
		return err
	}
	if _, err := os.Stat(filepath.Join(repository, name)); err == nil {
		name = filepath.Join(repository, name)
	} else if strings.Contains(name, "/") && !strings.HasPrefix(name, "bugs/") && !strings.HasPrefix(name, "suites/") || filepath.Ext(name) == ".yaml" {
		if strict && !strings.HasPrefix(name, "runs/") { // a directory of a run that was made before
			return fmt.Errorf("there is no %s, and nothing here writes it", name)
		}
		return nil
	}
	if scenarios.IsSuite(name) {
		_, err := scenarios.OpenSuite(name, opt)
		return err
	}
	_, err := scenarios.Open(name, opt)
	return err
}

var heredocPattern = regexp.MustCompile(`(?ms)^cat > ?(\S+) <<'?EOF'?\n(.*?)^EOF$`)

var madePattern = regexp.MustCompile(`(?m)^mkdir -p (\S+)$`)

// writtenFiles are the files that the sh blocks of a document write with cat, and
// without a text the folders that they make.
func writtenFiles(t *testing.T, p page) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, b := range p.blocks {
		if len(b.info) == 0 || b.info[0] != "sh" {
			continue
		}
		for _, m := range madePattern.FindAllStringSubmatch(b.text, -1) {
			files[m[1]] = nil
		}
		for _, m := range heredocPattern.FindAllStringSubmatch(b.text, -1) {
			files[m[1]] = []byte(m[2])
		}
	}
	return files
}

// TestDocScenarios: every block that is a scenario, or the part of one, is read
// by the parser: it has no field that is not known.
func TestDocScenarios(t *testing.T) {
	n := 0
	for _, p := range readPages(t) {
		for name, text := range writtenFiles(t, p) {
			if filepath.Ext(name) == ".yaml" {
				n += parsed(t, p, block{text: string(text)})
			}
		}
		for _, b := range p.blocks {
			if b.indented() || len(b.info) > 0 && b.info[0] == "yaml" {
				n += parsed(t, p, b)
			}
		}
	}
	if n < 8 {
		t.Errorf("%d scenarios; they are not checked", n)
	}
}

// scenarioFields are the fields of a scenario at its top.
var scenarioFields = []string{"name", "seed", "system", "load", "probe", "record", "faults", "abort", "expect", "reveals"}

// base is what the part of a scenario is completed with.
const base = `{name: base, seed: 1, system: {name: reference}, load: {workload: {name: shopping-cart}, arrivals: {constant: 100/s}, duration: 60s}}`

// parsed counts a block if it is a scenario, and reports what is wrong with it.
func parsed(t *testing.T, p page, b block) int {
	t.Helper()
	ok, err := checkYAML(b.text)
	if err != nil {
		t.Errorf("%s:%d: a scenario that is not one: %v", p.path, b.line, err)
	}
	if !ok {
		return 0
	}
	return 1
}

// checkYAML parses a text if it is a scenario, or a part of one.
func checkYAML(text string) (scenario bool, err error) {
	var doc, whole yaml.Node
	if yaml.Unmarshal([]byte(text), &doc) != nil || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return false, nil
	}
	root := doc.Content[0]
	for i := 0; i < len(root.Content); i += 2 {
		if !slices.Contains(scenarioFields, root.Content[i].Value) {
			return false, nil
		}
	}
	if !hasFields(root, "name", "seed", "system", "load") {
		if err := yaml.Unmarshal([]byte(base), &whole); err != nil {
			return true, err
		}
		complete(root, whole.Content[0])
		completed, err := yaml.Marshal(root)
		if err != nil {
			return true, err
		}
		text = string(completed)
	}
	_, err = scenarios.Parse(filepath.Join(repository, "docs", "block.yaml"), []byte(text), scenarios.Options{CheckExpectation: reports.CheckExpectation})
	return true, err
}

func hasFields(n *yaml.Node, names ...string) bool {
	for _, name := range names {
		if field(n, name) == nil {
			return false
		}
	}
	return true
}

func field(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// complete adds to a part of a scenario what it lacks, load by field.
func complete(part, from *yaml.Node) {
	for i := 0; i+1 < len(from.Content); i += 2 {
		name, value := from.Content[i], from.Content[i+1]
		have := field(part, name.Value)
		switch {
		case have == nil:
			part.Content = append(part.Content, name, value)
		case name.Value == "load" && have.Kind == yaml.MappingNode:
			complete(have, value)
		}
	}
}

// TestDocChecks: the tests of documents see what is wrong with one.
func TestDocChecks(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "page.md")
	text := "# A page, of `code`\n\n[one](#a-page-of-code) [two](#nowhere) [three](gone.md)\n\n```sh\nstatequake run quickstart\n```\n\n    output\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	if rel, err = filepath.Rel(rel, path); err != nil {
		t.Fatal(err)
	}
	p, err := readPage(rel)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.blocks) != 2 || p.blocks[0].text != "statequake run quickstart\n" || !p.blocks[1].indented() || len(p.links) != 3 {
		t.Fatalf("read as %+v", p)
	}
	p.path = "page.md"
	known := map[string]page{"page.md": p}
	for i, want := range []string{"", "no heading #nowhere", "gone.md, which is not there"} {
		if bad := checkLink(p, p.links[i].text, known); !strings.Contains(bad, want) || (bad == "") != (want == "") {
			t.Errorf("%s: %q, want %q", p.links[i].text, bad, want)
		}
	}

	for line, want := range map[string]string{
		"statequake run quickstart --set load.duration=25s":   "",
		"statequake check runs/1 | grep PASS":                 "",
		"statequake run quickstart --outt runs/1":             "unknown flag",
		"statequake rum quickstart":                           "unknown",
		"statequake run quickstar":                            "quickstart",
		"statequake run quickstart --set load.durations=5s":   "load.durations",
		"statequake run my-own.yaml":                          "nothing here writes it",
		"statequake run bugs/no-fenc":                         "no-fence",
		"statequake compare runs/1":                           "at least 2 arg",
		"sleep 1 && statequake run quickstart --runs a":       "invalid",
		"statequake run examples/lossy/witness.yaml --seed 1": "",
	} {
		commands := commandLines(line)
		if len(commands) != 1 {
			t.Errorf("%s: %d commands", line, len(commands))
			continue
		}
		if err := checkCommand(commands[0].words, true, nil); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
	if err := checkFlags(strings.Fields("export RUN --format FORMAT [--phases PHASE]")); err == nil {
		t.Error("the flag --phases is not missed")
	}

	for text, want := range map[string]string{
		"load:\n  timeout: 2s\n":    "",
		"load:\n  timeouts: 2s\n":   "load.timeouts: unknown field",
		"expect: {lost_ack: 0}\n":   "lost_ack",
		"abort: {error_rate: 50}\n": "abort.error_rate",
		"faults:\n  - {name: f, at: 1s, chaos: {kind: PodChaos, spec: {action: pod-kil, mode: one, selector: {}}}}\n": "pod-kil",
	} {
		if ok, err := checkYAML(text); !ok || (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", text, ok, err, want)
		}
	}
	if ok, _ := checkYAML("margins: {p99: 5%}\n"); ok {
		t.Error("a text that is no scenario is taken for one")
	}
}
