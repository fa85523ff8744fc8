package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"statequake/chaos"
)

func TestOpenFaults(t *testing.T) {
	const kill = "kind: PodChaos\nspec: {action: pod-kill, mode: one, selector: {}}\n"
	const shop = `name: shop
seed: 1
system: {name: reference}
load: {workload: {name: counter}, arrivals: {constant: 10/s}, duration: 9s}
faults: [{name: kill, at: 1s, chaos: {kind: PodChaos, spec: {action: pod-kill, mode: one, selector: {}}}}]
`
	for _, tt := range []struct {
		text string
		want string // names and places, or the error
	}{
		{kill, "my-file@1"},
		{"---\n" + kill + "---\n---\n" + kill, "my-file@2 my-file-2@6"},
		{"metadata: {name: kill}\n" + kill, "kill@1"},
		{shop, "kill@5"},
		{"kind: ProcessPause\nspec: {mode: one, selector: {}, duration: 1s}\n", "my-file@1"},
		{"metadata: {name: a}\n" + kill + "---\nmetadata: {name: a}\n" + kill, ":5: metadata.name: a is the name of another fault, too"},
		{"kind: PodChaos\nspec: {action: pod-kill, mode: some, selector: {}}\n", `:2: spec.mode: unknown mode "some"`},
		{"kind: IOChaos\nspec: {}\n", ":2: spec.action: is missing"},
		{"kind: PodChaos\nspec: &a {action: pod-kill, mode: one, selector: {}}\n", ":2: anchor &a"},
		{kill + "at: 8s\n", ":3: at: unknown field"},
		{"kind: DNSChaos\nspec: {}\n", ":1: kind: DNSChaos is for clusters"},
		{kill + "---\nseed: 1\n", ": a second document begins"},
		{"kind: PodChaos\n  spec: x\n", "not YAML"},
		{"", ": is empty"},
		{kill + strings.Repeat("#\n", maxSize/2), "larger than 1 MiB"},
	} {
		file := filepath.Join(t.TempDir(), "My file.yaml")
		if err := os.WriteFile(file, []byte(tt.text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := OpenFaults(file, chaos.Everything(), Options{})
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q:\n got %v\nwant %s", tt.text[:min(len(tt.text), 99)], err, tt.want)
			}
			continue
		}
		var list []string
		for i, f := range got.Faults {
			line := strings.TrimPrefix(got.Places[i], file+":")
			line, _, _ = strings.Cut(line, ":")
			list = append(list, f.Name+"@"+line)
		}
		if have := strings.Join(list, " "); have != tt.want {
			t.Errorf("%q: %s, want %s", tt.text, have, tt.want)
		}
	}
}
