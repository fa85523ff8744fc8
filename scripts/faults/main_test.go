package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"statequake/chaos"
	"statequake/scenarios"
)

// Every fault that can be carried out here has a template, and every template
// is a scenario.
func TestTemplates(t *testing.T) {
	var have []string
	files := map[string]bool{}
	for _, f := range templates {
		have = append(have, f.name())
		if files[f.file()] {
			t.Errorf("%s: there are two", f.file())
		}
		files[f.file()] = true
		for _, n := range []int{1, 7} {
			s, err := scenarios.Parse(f.file()+".yaml", f.scenario(n, 3), scenarios.Options{})
			if err != nil {
				t.Errorf("%s: %v", f.title(), err)
				continue
			}
			if len(s.Faults) != n || s.Seed != 3 || s.Faults[0].Plan.Duration != f.duration {
				t.Errorf("%s: %d faults, seed %d, %v", f.title(), len(s.Faults), s.Seed, s.Faults[0].Plan.Duration)
			}
		}
		if f.every <= f.duration {
			t.Errorf("%s: one every %v, each of %v", f.title(), f.every, f.duration)
		}
	}
	want := 0
	for kind, actions := range chaos.Local.Can {
		if actions == nil {
			actions = []string{""}
		}
		for _, action := range actions {
			want++
			if name := (template{kind: kind, action: action}).name(); !slices.Contains(have, name) {
				t.Errorf("%s has no template", name)
			}
		}
	}
	slices.Sort(have)
	if got := len(slices.Compact(have)); got != want {
		t.Errorf("templates of %d faults, chaos.Local has %d", got, want)
	}
	for _, name := range []string{"both-streams", "to-streams", "from-streams", "reject-streams", "both-packets", "to-packets", "from-packets"} {
		if !files["networkchaos-partition-"+name] {
			t.Errorf("no partition %s", name)
		}
	}
}

// fake writes a program that makes a run directory in which the faults of the
// scenario, 2 s apart, are seen 5 ms after the request and recovered 100 ms
// after that. each changes what is told of one fault: its number is $i.
func fake(t *testing.T, each, rest string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "statequake")
	script := `#!/bin/sh
for dir in "$@"; do :; done # the last argument
n=$(grep -c 'name: f' "$2"); i=0; faults=
while [ $i -lt $n ]; do
  i=$((i+1)); proof=confirmed; t=$((i*2000000000)); injected=$((t+5000000)); recovered=$((injected+100000000))
  ` + each + `
  faults="$faults$comma{\"name\":\"f$i\",\"requested_ns\":$t,\"injected_ns\":$injected,\"recovered_ns\":$recovered,\"evidence\":{\"verdict\":\"$proof\"}}"; comma=,
done
verdict=pass reasons= violations=
` + rest + `
mkdir -p "$dir"
echo "{\"verdict\":\"$verdict\",\"reasons\":[$reasons],\"faults\":[$faults],\"checks\":[{\"violations\":[$violations]}]}" >"$dir/verdict.json"
`
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFaults(t *testing.T) {
	tests := []struct {
		name, each, rest string
		only             string
		ok               bool
		want             string // in the output
	}{
		{"fine", "", "", "PodChaos/pod-kill", true, "PodChaos pod-kill  SIGKILL  5  5          5.0 ms            5.0 ms  5.0 ms  100 ms           100 ms  100 ms  0         2 pass    nothing"},
		{"counted from the end of the duration", "recovered=$((t+510000000))", "", "IOChaos/latency", true, "5.0 ms  5.0 ms  10 ms "},
		{"from when it was seen", "recovered=$((injected+520000000))", "", "ProcessPause", true, "5.0 ms  5.0 ms  20 ms "},
		{"a slow one", "[ $i = 2 ] && injected=$((t+500000000))", "", "DiskFull", true, "5.0 ms            500 ms  500 ms"},
		{"mismatch", "[ $i = 2 ] && proof=mismatch", "", "DiskFull", false, "3, 2 mismatch"},
		{"not seen", "[ $i = 2 ] && proof=inconclusive injected=null recovered=null", "", "DiskFull", false, "3, 2 inconclusive"},
		{"not requested", "[ $i = 2 ] && t=null injected=null recovered=null", "", "DiskFull", false, "f2 was not requested"},
		{"not back", "[ $i = 2 ] && recovered=null", "", "DiskFull", false, "5, 2 not back"},
		{"overlap", "[ $i = 1 ] && recovered=$((t+2000000001))", "", "DiskFull", true, "2         2 pass"},
		{"violation", "", `verdict=violation violations='{"kind":"lost"}'`, "DiskFull", false, "violations: lost"},
		{"failed", "", `echo "statequake: it broke"; exit 3`, "DiskFull", false, "error: it broke"},
		{"unknown", "", `verdict=unknown reasons='"It was slow."'`, "DiskFull", true, "unknown: It was slow."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			c := faults{n: 5, perRun: 3, parallel: 1, only: tt.only, binary: fake(t, tt.each, tt.rest), dir: t.TempDir(), seed: 1}
			ok, err := c.run(t.Context(), &out)
			if err != nil {
				t.Fatal(err)
			}
			if ok != tt.ok || !strings.Contains(out.String(), tt.want) {
				t.Errorf("ok %v, want %v with %q in:\n%s", ok, tt.ok, tt.want, &out)
			}
			if markdown, err := os.ReadFile(filepath.Join(c.dir, "table.md")); err != nil || !strings.Contains(string(markdown), "| --- |") {
				t.Errorf("%s, %v", markdown, err)
			}
		})
	}
}

func TestSet(t *testing.T) {
	var out bytes.Buffer
	c := faults{n: 2, perRun: 2, parallel: 1, only: "NetworkChaos/loss", dir: t.TempDir(), seed: 1, set: []string{"load.timeout=9s"}}
	c.binary = fake(t, "", `[ "$3 $4" = "--set load.timeout=9s" ] || exit 1`)
	if ok, err := c.run(t.Context(), &out); !ok || err != nil || !strings.Contains(out.String(), "NetworkChaos loss  packets, load.timeout=9s  2") {
		t.Errorf("%v, %v:\n%s", ok, err, &out)
	}
	// What is there already counts again, unless it is another run.
	c.binary = fake(t, "", "exit 1")
	c.resume = true
	if ok, err := c.run(t.Context(), &out); !ok || err != nil || !strings.Contains(out.String(), "made before") {
		t.Errorf("resumed: %v, %v:\n%s", ok, err, &out)
	}
	c.n = 1
	if _, err := c.run(t.Context(), &out); err == nil {
		t.Error("another run counts as made before")
	}
}

func TestFaultsThatCannotRun(t *testing.T) {
	c := faults{n: 1, perRun: 1, parallel: 1, dir: t.TempDir(), binary: "/does/not/exist"}
	if _, err := c.run(t.Context(), &bytes.Buffer{}); err == nil {
		t.Error("a missing program is no error")
	}
	c.only = "PodChaos/pod-kil"
	if _, err := c.run(t.Context(), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "PodChaos/pod-kill, PodChaos/pod-failure") {
		t.Errorf("unknown fault: %v", err)
	}
}

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		n, most int
		want    []int
	}{{50, 25, []int{25, 25}}, {5, 3, []int{2, 3}}, {1, 25, []int{1}}, {51, 25, []int{17, 17, 17}}} {
		if got := split(tt.n, tt.most); !slices.Equal(got, tt.want) {
			t.Errorf("%d by %d: %v", tt.n, tt.most, got)
		}
	}
}
