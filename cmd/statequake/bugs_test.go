package main

import (
	"flag"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"statequake/fixtures/services"
	"statequake/runtime/core"
	"statequake/scenarios"
)

var update = flag.Bool("update", false, "write anew the documents that are made by tests")

// TestPlantedBugs: every planted bug has its directed scenario, and every
// directed scenario a bug that exists, of the runtime or of a service.
func TestPlantedBugs(t *testing.T) {
	for name := range services.Planted {
		if _, twice := core.Planted[name]; twice {
			t.Errorf("%s is a bug of the runtime and of a service", name)
		}
	}
	var directed []string
	for _, info := range scenarios.Bundled() {
		if name, ok := strings.CutPrefix(info.Name, "bugs/"); ok {
			directed = append(directed, name)
			if info.Scenario.System.Bug != name || info.Scenario.Reveals == "" {
				t.Errorf("%s plants %q and reveals %q", info.Name, info.Scenario.System.Bug, info.Scenario.Reveals)
			}
		}
	}
	if have := strings.Join(directed, ", "); have != plantedNames() {
		t.Errorf("directed scenarios for %s, the runtime has %s", have, plantedNames())
	}
}

// bugsDoc is where docs/bugs.md begins to be made of the bugs.
const bugsDoc = "<!-- from here on made by go test ./cmd/statequake -run TestBugsDoc -update -->\n"

// TestBugsDoc: docs/bugs.md says of every planted bug what its switch and its
// scenario say.
func TestBugsDoc(t *testing.T) {
	made(t, "docs/bugs.md", bugsDoc, describeBugs(t))
}

// thread is an issue or a pull request, as GitHub abbreviates it.
var thread = regexp.MustCompile(`\b([\w-]+/[\w.-]+)#(\d+)\b`)

// describeBugs is a table of the bugs, then a section for each.
func describeBugs(t *testing.T) string {
	var table, sections strings.Builder
	table.WriteString("\n| bug | what it does | found as |\n| --- | --- | --- |\n")
	for _, info := range scenarios.Bundled() {
		name, ok := strings.CutPrefix(info.Name, "bugs/")
		if !ok {
			continue
		}
		reveals := info.Scenario.Reveals
		fmt.Fprintf(&table, "| [`%s`](#%s) | %s | %s |\n", name, name, does(name), reveals)
		source, err := scenarios.Source(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		paragraphs := comment(string(source))
		// What a service decides is its own: nobody else has to have seen that bug.
		_, service := services.Planted[name]
		if seen := len(paragraphs) == 3 && strings.HasPrefix(paragraphs[2], "Seen in: "); !seen && !(service && len(paragraphs) == 2) || !strings.HasPrefix(paragraphs[0], "Claim: ") {
			t.Errorf("scenarios/%s.yaml: its comment is %d paragraphs; want the claim, the bug, and, if it is one of the runtime, after \"Seen in:\" where it was seen", info.Name, len(paragraphs))
			continue
		}
		last := &paragraphs[len(paragraphs)-1]
		*last = thread.ReplaceAllString(*last, "[$0](https://github.com/$1/issues/$2)")
		fmt.Fprintf(&sections, "\n## %s\n\n%s\n\nFound as *%s* (`statequake run %s`).\n", name, strings.Join(paragraphs, "\n\n"), reveals, info.Name)
	}
	return table.String() + sections.String()
}

// does says what the runtime or a service does while a bug is planted.
func does(name string) string {
	if plant, ok := services.Planted[name]; ok {
		return plant.Does
	}
	return core.Planted[name].Does
}

// comment returns the paragraphs of the comment with which a file begins.
func comment(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line, ok := strings.CutPrefix(line, "#")
		if !ok {
			break
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	var paragraphs []string
	for p := range strings.SplitSeq(strings.Join(lines, "\n"), "\n\n") {
		paragraphs = append(paragraphs, strings.Join(strings.Fields(p), " "))
	}
	return paragraphs
}
