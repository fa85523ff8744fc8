package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"statequake/reports"
	"statequake/scenarios"
)

// scenarioDoc is where docs/scenario.md begins to be made of what the parser knows.
const scenarioDoc = "<!-- from here on made by go test ./cmd/statequake -run TestScenarioDoc -update, but for the last column -->\n"

// TestScenarioDoc: docs/scenario.md has every field that the parser knows and no
// other, with the values that it takes and what is filled in. Nothing is listed
// here: the parser is asked, by its errors. What a field means is written by hand
// into the last column, which stays when the table is made anew.
func TestScenarioDoc(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs/scenario.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), scenarioDoc)
	meanings := map[string]string{}
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, " | "); len(cells) == 4 {
			meanings[strings.Trim(cells[0], "| `")] = strings.TrimSuffix(strings.TrimSpace(cells[3]), "|")
		}
	}
	fields := knownFields(t)
	if len(fields) < 80 {
		t.Fatalf("the parser told %d fields; it was not understood", len(fields))
	}
	var b strings.Builder
	b.WriteString("\n| field | value | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, f := range fields {
		meaning := strings.TrimSpace(meanings[f.path])
		if meaning == "" {
			t.Errorf("docs/scenario.md: nothing says what %s means", f.path)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.path, f.value, f.def, meaning)
		delete(meanings, f.path)
	}
	delete(meanings, "field")
	delete(meanings, "---")
	for path := range meanings {
		t.Errorf("docs/scenario.md: the parser knows no field %s", path)
	}
	made(t, "docs/scenario.md", scenarioDoc, b.String())

	var top []string
	for _, f := range fields {
		if !strings.ContainsAny(f.path, ".[") {
			top = append(top, f.path)
		}
	}
	if want := append(slices.Clone(scenarioFields), "machine", "resolved"); !sameWords(top, want) {
		t.Errorf("the parser knows %v, the tests %v", top, want)
	}
}

func sameWords(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// TestExpectDoc: docs/scenario.md has every expectation, with an example of a
// limit that is one.
func TestExpectDoc(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs/scenario.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Expectations\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var have []string
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[1], "`") {
			continue
		}
		limit := strings.Trim(cells[2], " `")
		for _, m := range codePattern.FindAllStringSubmatch(cells[1], -1) {
			have = append(have, m[2])
			if err := reports.CheckExpectation(strings.Replace(m[2], "DURATION", "1s", 1), limit); err != nil {
				t.Errorf("%s: %v", m[2], err)
			}
		}
	}
	if want := reports.Expectations(); !sameWords(have, want) {
		t.Errorf("docs/scenario.md has %v, a scenario may have %v", have, want)
	}
}

// knownField is what the parser says of a field.
type knownField struct{ path, value, def string }

// nobody is the name of a field that nobody knows; no name is like it.
const nobody = "zzzzzzzzzzzzzzzz"

// spot is a place in a scenario to which a value can be given.
type spot struct {
	path string                    // as the documents write it
	at   string                    // as errors write it
	set  func(value string) string // the argument of --set that puts a value there
}

// ask returns what the parser says of a value at a spot: the texts of its errors
// about field, with their hints.
func (s spot) ask(field, value string) string {
	_, err := scenarios.Parse("x.yaml", []byte(base), scenarios.Options{Set: []string{s.set(value)}})
	if err == nil {
		return ""
	}
	var said []string
	for _, part := range strings.Split(err.Error(), "\n--set ") {
		if _, text, ok := strings.Cut(part, ": "+field+": "); ok {
			said = append(said, text)
		} else if _, text, ok := strings.Cut(part, ": "+field+" is "); ok {
			said = append(said, "is "+text)
		}
	}
	return strings.Join(said, "\n")
}

func (s spot) child(name string) spot {
	c := spot{path: join(s.path, name), at: join(s.at, name), set: func(v string) string { return join(s.at, name) + "=" + v }}
	if s.at == "" || !strings.Contains(s.at, "[") && !slices.Contains(wholes, s.at) && !inWhole(s.at) {
		return c
	}
	c.set = func(v string) string { return s.set("{" + name + ": " + v + "}") }
	return c
}

// wholes are mappings that are set as a whole: their fields exclude those of base.
var wholes = []string{"load.arrivals", "load.workload.skew", "load.workload.value_size", "load.driver"}

// company are fields that mean something beside others only.
var company = map[string]string{
	"load.arrivals.speed":      "load.arrivals={constant: 1/s, speed: %s}",
	"load.workload.value_size": "load.workload={name: register, value_size: %s}",
	"system.http.replies":      "system.http={ops: {get: {path: /}}, replies: %s}",
}

// spelled are the values of fields of which errors tell too little.
var spelled = map[string]string{
	"system.name":                  "`reference`, or a name",
	"system.url":                   "text, or a list",
	"system.http.replies[].status": "number, class, or a list",
	"system.http.replies[].result": "JSON pointer, or a mapping",
	"load.workload.skew":           "`uniform`, `latest`, or a mapping",
	"faults[].within":              "list of two durations",
	"faults[].after":               "mapping",
	"faults[].on":                  "mapping",
	"machine":                      "mapping",
	"resolved":                     "mapping",
}

func inWhole(at string) bool {
	return slices.ContainsFunc(wholes, func(w string) bool { return strings.HasPrefix(at, w+".") })
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

var (
	unknownPattern = regexp.MustCompile(`unknown field.*\nhint: (?:have|its fields are) (.*)`)
	rangePattern   = regexp.MustCompile(`out of range \((.*?)\)`)
	havePattern    = regexp.MustCompile(`unknown [\w ]+ "[^"]*"; have (.*)`)
	endsPattern    = regexp.MustCompile(`is not a number(?: that ends in (\S+))?`)
)

// members are maps whose keys are names that the scenario gives, with one.
var members = map[string]string{"system.http.ops": "get"}

// knownFields asks for all fields, depth first, in the parser's order.
func knownFields(t *testing.T) []knownField {
	t.Helper()
	s, err := scenarios.Parse("x.yaml", []byte(base), scenarios.Options{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.Resolved(scenarios.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	var filled map[string]any
	if err := yaml.Unmarshal(text, &filled); err != nil {
		t.Fatal(err)
	}
	var fields []knownField
	var walk func(s spot, names []string)
	walk = func(s spot, names []string) {
		for _, name := range names {
			c := s.child(name)
			if c.path == "system" {
				c.set = func(v string) string { return "system=" + v }
			}
			if whole := company[c.path]; whole != "" {
				c.set = func(v string) string { return fmt.Sprintf(whole, v) }
			}
			f := knownField{path: c.path, value: c.values(), def: c.fallback(s, filled)}
			inner, isList := c, false
			below := c.below()
			if below == nil {
				inner = spot{path: c.path + "[]", at: c.at + "[0]", set: func(v string) string { return c.set("[" + v + "]") }}
				below = inner.below()
				isList = below != nil
			}
			if key := members[c.path]; below == nil && key != "" {
				inner = spot{path: c.path + ".NAME", at: c.at + "." + key, set: func(v string) string { return c.set("{" + key + ": " + v + "}") }}
				below = inner.below()
			}
			switch {
			case isList:
				f.value = "list"
			case below != nil && (f.value == "mapping" || f.value == "text"):
				f.value = "mapping"
			case below != nil:
				f.value += ", or a mapping"
			}
			f.value = cmp.Or(spelled[c.path], f.value)
			fields = append(fields, f)
			if c.path != "system.http.ops.NAME.replies" { // the same as system.http.replies
				walk(inner, below)
			}
		}
	}
	root := spot{set: func(v string) string { return v }}
	_, err = scenarios.Parse("x.yaml", []byte(base), scenarios.Options{Set: []string{nobody + "=1"}})
	m := unknownPattern.FindStringSubmatch(fmt.Sprint(err))
	if m == nil {
		t.Fatalf("an unknown field is not refused: %v", err)
	}
	walk(root, strings.Split(m[1], ", "))
	return fields
}

// below are the fields of the mapping at a spot, nil if there can be none.
func (s spot) below() []string {
	if m := unknownPattern.FindStringSubmatch(s.ask(s.at+"."+nobody, "{"+nobody+": 1}")); m != nil {
		return strings.Split(m[1], ", ")
	}
	return nil
}

// values says what a spot takes, from what the parser says of values that no
// field takes.
func (s spot) values() string {
	said := s.ask(s.at, nobody)
	bounds := func(what, most string) string {
		if m := rangePattern.FindStringSubmatch(s.ask(s.at, most)); m != nil {
			what += ", " + m[1]
		}
		return what
	}
	switch {
	case strings.Contains(said, "is not a whole number"):
		return bounds("whole number", "9223372036854775807")
	case strings.Contains(said, "is not a duration"):
		return bounds("duration", "2000000h")
	case strings.Contains(said, "is not a size"):
		return bounds("size", "9000000TiB")
	case endsPattern.MatchString(said):
		ends := endsPattern.FindStringSubmatch(said)[1]
		return bounds(strings.TrimSpace(map[string]string{"/s": "rate", "%": "percentage", "": "number"}[ends]), "1e300"+ends)
	case havePattern.MatchString(said):
		have := strings.Split(havePattern.FindStringSubmatch(said)[1], ", ")
		if len(have) > 12 {
			return "name"
		}
		return "`" + strings.Join(have, "`, `") + "`"
	case strings.Contains(said, "expected true or false"):
		return "`true`, `false`"
	case strings.Contains(said, "expected a list"):
		return "list"
	case strings.Contains(said, "expected a mapping"):
		return "mapping"
	}
	return "text"
}

// fallback says what holds if a field is left out: what the parser fills in, or
// that it cannot be.
func (s spot) fallback(parent spot, filled map[string]any) string {
	var v any = filled
	for name := range strings.SplitSeq(s.at, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	empty := parent.set("{}")
	if parent.at == "" || parent.at == "load" || parent.at == "system" {
		empty = s.at + "="
	}
	_, err := scenarios.Parse("x.yaml", []byte(base), scenarios.Options{Set: []string{empty}})
	if err != nil && regexp.MustCompile(": "+regexp.QuoteMeta(s.at)+": (is )?missing").MatchString(err.Error()) {
		return "required"
	}
	switch v := v.(type) {
	case string, int, float64, bool:
		if s.at == "name" || s.at == "seed" || v == "" || inWhole(s.at) {
			return ""
		}
		return fmt.Sprintf("`%v`", v)
	}
	return ""
}
