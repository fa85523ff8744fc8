package chaos

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The tables of docs/faults.md say what the code knows, and its examples parse.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	_, table, _ := strings.Cut(string(text), "## Kinds and actions")
	table, rest, _ := strings.Cut(table, "## Selectors")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| kind ") || strings.HasPrefix(line, "| ---") {
			continue
		}
		if len(cells) != 9 {
			t.Errorf("%d cells: %s", len(cells)-2, line)
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		kind, action, here, example := cells[1], cells[2], cells[3], cells[4]
		name := strings.TrimSpace(kind + " " + action)
		have = append(have, name)

		actions, local := Local.Can[kind]
		local = local && (action == "" || slices.Contains(actions, action))
		want := "cluster only"
		if local {
			want = "local"
		}
		if here != want {
			t.Errorf("%s: %q, want %q", name, here, want)
		}
		spec := map[string]any{"mode": "one", "selector": map[string]any{}}
		if action != "" {
			spec["action"] = action
		}
		if err := yaml.Unmarshal([]byte(strings.Trim(example, "`")), &spec); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		object, err := json.Marshal(map[string]any{"kind": kind, "spec": spec})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseFor(Everything(), "f", At(0), object); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, want := strings.Join(have, ", "), Everything().String(); got != want {
		t.Errorf("table:\n got %s\nwant %s", got, want)
	}
	if want := strings.Join(slices.Sorted(maps.Keys(clusterOnly)), ", ") + "; and PodChaos container-kill"; !strings.Contains(table, want) {
		t.Errorf("the refused kinds are not %s", want)
	}

	_, triggers, _ := strings.Cut(rest, "## Triggers")
	for _, name := range Triggers() {
		_, example, ok := strings.Cut(triggers, "| `"+name+":")
		example, _, _ = strings.Cut(example, "`")
		var form map[string]any
		if err := yaml.Unmarshal([]byte(name+":"+example), &form); !ok || err != nil {
			t.Errorf("%s: no example, %v", name, err)
			continue
		}
		object, err := json.Marshal(form)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseTrigger(object); err != nil {
			t.Errorf("%s: %v", object, err)
		}
	}
	for _, word := range []string{NodeLabel, OwnerOfLabel, RoleLabel, Minority, Majority} {
		if !strings.Contains(rest, "`"+word+"`") {
			t.Errorf("no word on %s", word)
		}
	}
}
