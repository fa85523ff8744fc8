package scenarios

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"statequake/chaos"
	"statequake/chaos/hand"
	"statequake/fixtures"
)

const aloneText = `# A pause.
apiVersion: statequake.dev/v1alpha1
kind: ProcessPause
spec:
  mode: one
  selector: {labelSelectors: {statequake.dev/node: n1}}
  duration: 2s
`

func openText(t *testing.T, file, text, only string) (*FaultFile, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), file)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ff, err := OpenFaults(path, chaos.Local, Options{})
	if err == nil && only != "" {
		err = ff.Only(only)
	}
	return ff, err
}

func TestOnly(t *testing.T) {
	two := withFault + "  - {name: other, at: 3s, chaos: {kind: ProcessPause, spec: {mode: all, selector: {}, duration: 1s}}}\n"
	for _, tt := range []struct{ file, text, only, want string }{
		{"pause-n1.yaml", aloneText, "", "pause-n1"},
		{"f.yaml", edit(t, aloneText, "spec:\n", "metadata: {name: named}\nspec:\n"), "", "named"},
		{"s.yaml", two, "", "kill-owner other"},
		{"s.yaml", two, "other", "other"},
	} {
		b, err := openText(t, tt.file, tt.text, tt.only)
		if err != nil {
			t.Error(err)
			continue
		}
		var names []string
		for _, f := range b.Faults {
			names = append(names, f.Name)
			if f.Plan == nil || len(f.Chaos) == 0 {
				t.Errorf("%s: %+v", tt.file, f)
			}
		}
		if got := strings.Join(names, " "); got != tt.want || (b.Scenario == nil) != (tt.text != two) {
			t.Errorf("%s: faults %s, of %+v; want %s", tt.file, got, b.Scenario, tt.want)
		}
	}
	if b, err := OpenFaults("quickstart", chaos.Local, Options{}); err != nil || b.Faults[0].Name != "kill-owner" {
		t.Errorf("quickstart: %+v, %v", b, err)
	}
}

func TestBadByHand(t *testing.T) {
	for _, tt := range []struct{ text, only, want string }{
		{"", "", "f.yaml: is empty"},
		{small, "", "f.yaml: has no faults"},
		{withFault, "other", `f.yaml: there is no fault "other"; have kill-owner`},
		{edit(t, withFault, "at: 2s", "at: 2h"), "", "f.yaml:10: faults[0].at: 2h is after the load ends (5s)"},
		{edit(t, aloneText, "mode: one", "mode: two"), "", `f.yaml:5: spec.mode: unknown mode "two"`},
		{edit(t, aloneText, "duration: 2s", "duration: two"), "", "f.yaml:7: spec.duration: "},
		{edit(t, aloneText, "duration: 2s", "lasting: 2s"), "", "f.yaml:7: spec.lasting: unknown field"},
		{edit(t, aloneText, "ProcessPause", "KernelChaos"), "", "f.yaml:3: kind: KernelChaos is for clusters"},
		{strings.Repeat("# x\n", maxSize/4) + aloneText, "", "f.yaml: is larger than 1 MiB"},
	} {
		_, err := openText(t, "f.yaml", tt.text, tt.only)
		if err == nil {
			t.Errorf("%.60q is accepted", tt.text)
			continue
		}
		_, text, _ := strings.Cut(err.Error(), "/f.yaml")
		if text = "f.yaml" + text; !strings.HasPrefix(text, tt.want) {
			t.Errorf("\n got %s\nwant %s", text, tt.want)
		}
	}
}

// What a harness finds wrong is told with the line of the file.
func TestByHandRefused(t *testing.T) {
	const label = "chaos.spec.selector.labelSelectors.statequake.dev/"
	refused := &hand.Refused{Problems: []hand.Problem{{Field: label + "node", Text: "is not there", Hint: "look"}, {Text: "and no"}}}
	b, err := openText(t, "f.yaml", aloneText, "")
	if err != nil {
		t.Fatal(err)
	}
	want := b.file + ":2: and no\n" + b.file + ":6: spec.selector.labelSelectors.statequake.dev/node: is not there\nhint: look"
	if got := b.Refused(0, refused).Error(); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	b, err = openText(t, "f.yaml", withFault, "")
	if err != nil {
		t.Fatal(err)
	}
	refused.Problems[0].Field = label + "owner-of"
	want = b.file + ":9: faults[0]: and no\n" + b.file + ":13: faults[0]." + label + "owner-of: is not there\nhint: look"
	if got := b.Refused(0, refused).Error(); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// A harness trusts nobody: it judges a fault by its own system, load and means.
func TestDeskChecks(t *testing.T) {
	s, err := Parse("f.yaml", []byte(small), Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{
		scenario: s, kinds: append([]string{chaos.PowerLoss}, always...),
		cannot: map[string]string{chaos.TimeChaos: "clocks stand still\nhint: wind them"},
		refuse: func(f *chaos.Fault) *hand.Problem {
			if f.Kind == chaos.PowerLoss {
				return &hand.Problem{Field: "chaos.kind", Text: "the lights stay on"}
			}
			return nil
		},
	}
	const pause = `{"kind":"ProcessPause","spec":{"mode":"one","selector":{},"duration":"2s"}}`
	for _, tt := range []struct{ name, object, want string }{
		{"fine", pause, ""},
		{"Not A Name", pause, `name: "Not A Name" is not a name`},
		{"a", `{"kind":`, "chaos: not a JSON object of a fault"},
		{"a", `[]`, "chaos: "},
		{"a", strings.Replace(pause, "one", "two", 1), `chaos.spec.mode: unknown mode "two"`},
		{"a", strings.Replace(pause, "2s", "20s", 1), "chaos.spec.duration: 20s is not shorter than load.timeout (10s)"},
		{"a", strings.Replace(pause, `"selector":{}`, `"selector":{"labelSelectors":{"statequake.dev/node":"n4"}}`, 1),
			`chaos.spec.selector.labelSelectors.statequake.dev/node: there is no node "n4"; the nodes are n1 to n3`},
		{"a", strings.Replace(pause, `"selector":{}`, `"selector":{"labelSelectors":{"statequake.dev/owner-of":"hottest"}}`, 1),
			"chaos.spec.selector.labelSelectors.statequake.dev/owner-of: there is no load here that has a hottest key"},
		{"a", `{"kind":"TimeChaos","spec":{"mode":"one","selector":{},"timeOffset":"-1s","duration":"2s"}}`, "chaos.kind: clocks stand still\nhint: wind them"},
		{"a", `{"kind":"PowerLoss","spec":{"mode":"one","selector":{}}}`, "chaos.kind: the lights stay on"},
	} {
		_, err := d.take(hand.Order{Name: tt.name, Chaos: json.RawMessage(tt.object)})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.object, err)
		case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
			t.Errorf("%s:\n got %v\nwant %s", tt.object, err, tt.want)
		}
	}
}

func TestDeskOfURL(t *testing.T) {
	text := strings.Replace(ownScenario[:strings.Index(ownScenario, "faults:")],
		"  exec:\n    start: [./my-store, --port, \"${port}\"]\n    dir: server\n", "  url: http://127.0.0.1:9\n", 1)
	s, err := Parse("f.yaml", []byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{scenario: s, kinds: always, refuse: func(*chaos.Fault) *hand.Problem { return nil }}
	_, err = d.take(hand.Order{Name: "a", Chaos: json.RawMessage(`{"kind":"ProcessPause","spec":{"mode":"one","selector":{},"duration":"2s"}}`)})
	if err == nil || !strings.HasPrefix(err.Error(), "nothing is known of the processes of a system that runs at a url") {
		t.Errorf("got %v", err)
	}
}

// A cluster that is held opens what is light, or all; what cannot be had it
// tells, and goes on.
func TestOpenHeld(t *testing.T) {
	exe, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	for all, want := range map[bool]string{false: "", true: chaos.DiskFull + " " + chaos.IOChaos + " " + chaos.PowerLoss} {
		r := &run{held: true, scenario: &Scenario{System: System{Name: "reference", Nodes: 3}}, opt: RunOptions{Dir: t.TempDir(), Binary: exe}, began: time.Now()}
		failed := r.openHeld(t.Context(), all)
		kinds, cannot := r.missing(func(kind string) string { return kind })
		if len(kinds)+len(cannot) != len(chaos.Local.Can) {
			t.Errorf("all %v: can %v, cannot %v", all, kinds, cannot)
		}
		for kind := range strings.FieldsSeq(want) { // not inside of a sandbox
			if failed[kind] == nil || cannot[kind] != kind {
				t.Errorf("all %v: %s: %v", all, kind, failed[kind])
			}
		}
		if !all && len(failed) > 0 && failed[chaos.TimeChaos] == nil {
			t.Errorf("failed: %v", failed)
		}
		if err := r.equipment.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPrepareData(t *testing.T) {
	r := &run{scenario: &Scenario{System: System{Nodes: 2}}, opt: RunOptions{Dir: t.TempDir()}}
	path := func(name string) string { return filepath.Join(r.opt.Dir, "data", name) }
	for _, dir := range []string{"n1.disk/store", "n1", "n2/store"} { // n1 of a harness that was killed
		if err := os.MkdirAll(path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.prepareData(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"n1/store", "n2/store"} {
		if _, err := os.Stat(path(dir)); err != nil {
			t.Error(err)
		}
	}

	disks := &opened{executors: map[string]chaos.Executor{chaos.DiskFull: &chaos.Disks{}}}
	r.equipment = equipment{disks}
	if err := r.prepareData(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path("n2.disk/store")); err != nil {
		t.Error(err)
	}
	if err := os.MkdirAll(path("n2/store"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.prepareData(); err == nil || !strings.Contains(err.Error(), "have files") {
		t.Errorf("two sets of files: %v", err)
	}
	if err := os.RemoveAll(path("n2")); err != nil {
		t.Fatal(err)
	}

	disks.net = &fixtures.Net{Host: func(node string) string { return "10.0.0." + node[1:] }}
	if err := r.prepareData(); err == nil || !strings.Contains(err.Error(), "is of nodes at 127.0.0.1, 127.0.0.1, and these are at 10.0.0.1, 10.0.0.2") {
		t.Errorf("other hosts: %v", err)
	}
}
