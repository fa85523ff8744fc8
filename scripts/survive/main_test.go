package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"statequake/chaos"
	"statequake/loadgen"
	"statequake/scenarios"
)

// Every fault that can be carried out here is in a scenario that is run
// against ack: durable, a loss of power of all nodes at once included.
func TestPlanHasEveryFault(t *testing.T) {
	plan, err := survival{n: 1}.plan(nil)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	memory := 0
	for _, p := range plan {
		if p.Scenario.System.Ack != "durable" {
			memory++
			continue
		}
		for _, f := range p.Scenario.Faults {
			have[strings.TrimSpace(f.Plan.Kind+" "+f.Plan.Action)] = true
			have[kindOf(p.Scenario, f)] = true
		}
	}
	for kind, actions := range chaos.Local.Can {
		if actions == nil {
			actions = []string{""}
		}
		for _, action := range actions {
			if name := strings.TrimSpace(kind + " " + action); !have[name] {
				t.Errorf("no bundled scenario with ack: durable has %s", name)
			}
		}
	}
	for _, kind := range []string{"NetworkChaos partition both on streams", "NetworkChaos partition to on streams", "NetworkChaos partition from on streams",
		"NetworkChaos partition both on packets", "NetworkChaos partition to on packets", "NetworkChaos partition from on packets",
		"PowerLoss strict of all", "PodChaos pod-kill with grace"} {
		if !have[kind] {
			t.Errorf("no bundled scenario with ack: durable has %s", kind)
		}
	}
	if !slices.ContainsFunc(plan, func(p *tally) bool { return p.Name == "memory-power-loss" }) {
		t.Error("memory-power-loss is not run")
	}
	if all, err := (survival{n: 1, all: true}).plan(nil); err != nil || len(all) <= len(plan) {
		t.Errorf("-all runs %d scenarios, without it are %d; %v", len(all), len(plan), err)
	}
}

// What is shortened is valid, and no fault is lost by it.
func TestShorten(t *testing.T) {
	short, whole := time.Duration(0), time.Duration(0)
	for _, info := range scenarios.Bundled() {
		if len(info.Scenario.Faults) == 0 {
			continue
		}
		set := shorten(info.Scenario)
		s, err := scenarios.Open(info.Name, scenarios.Options{Set: set})
		if err != nil {
			t.Errorf("%s with %v: %v", info.Name, set, err)
			continue
		}
		short, whole = short+s.Load.Duration, whole+info.Scenario.Load.Duration
		begins := map[string]time.Duration{}
		for i, f := range s.Faults {
			before := info.Scenario.Faults[i]
			if f.Plan.Duration != before.Plan.Duration {
				t.Errorf("%s: %s lasts %v", info.Name, f.Name, f.Plan.Duration)
			}
			at, ok := f.Trigger.(chaos.At)
			if !ok {
				continue
			}
			begins[f.Name] = time.Duration(at)
			if end := time.Duration(at) + f.Plan.Duration; end+after > s.Load.Duration && s.Load.Duration < info.Scenario.Load.Duration {
				t.Errorf("%s: %s ends at %v, the load at %v", info.Name, f.Name, end, s.Load.Duration)
			}
			if i > 0 {
				if other, ok := info.Scenario.Faults[0].Trigger.(chaos.At); ok {
					apart := time.Duration(before.Trigger.(chaos.At)) - time.Duration(other)
					if got := begins[f.Name] - begins[s.Faults[0].Name]; got != apart {
						t.Errorf("%s: %s begins %v after the first, not %v", info.Name, f.Name, got, apart)
					}
				}
			}
		}
	}
	if short*4 > whole*3 {
		t.Errorf("%v of load became %v", whole, short)
	}
}

// fake writes a program whose runs have this verdict with seed 2, and pass
// otherwise.
func fake(t *testing.T, verdict string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "statequake")
	script := `#!/bin/sh
for dir in "$@"; do :; done # the last argument
mkdir -p "$dir"
case "$*" in
*seed=2*) echo '` + verdict + `' ;;
*) echo '{"verdict":"pass","lost_acks":'$LOST',"faults":[{"name":"a","recovery":{"outage_ns":{"max":2000000000},"rpo_ns":'$RPO'}}]}' ;;
esac >"$dir/verdict.json"
`
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSurvival(t *testing.T) {
	tests := []struct {
		name, scenario, lost string
		verdict              string // of the run with seed 2
		code                 int
		want                 string // in the output
	}{
		{"all pass", "one-way", "0", `{"verdict":"pass","lost_acks":0,"faults":[{"recovery":{"outage_ns":{"max":4000000000}}}]}`, 0,
			"one-way          NetworkChaos partition to on streams  3     0        0          0       0                    0          2.00 s         4.00 s"},
		{"violation", "one-way", "0", `{"verdict":"violation","lost_acks":2,"checks":[{"violations":[{"kind":"lost"},{"kind":"lost"}]}]}`, 1, "violation: lost, 2 acknowledged writes lost"},
		{"unknown", "one-way", "0", `{"verdict":"unknown","reasons":["The load generator did not get to run for 404ms (limit 250ms).","The load generator'"'"'s send lag p99 was 1s (limit 10ms)."]}`, 2,
			"unknown or failed in 2 runs: the load generator was starved\n"},
		{"unknown for another reason", "one-way", "0", `{"verdict":"unknown","reasons":["Whatever."]}`, 2, "unknown or failed in 2 runs: Whatever.\n"},
		{"missed", "one-way", "0", `{"verdict":"pass","lost_acks":0,"expectations":[{"name":"x","met":false}]}`, 0, "3     0        0          0       1  "},
		{"within the window", "memory-power-loss", "5", `{"verdict":"pass","lost_acks":70,"faults":[{"recovery":{"rpo_ns":400000000}}]}`, 0,
			"3     0        0          0       5                 70   300 ms              400 ms  500ms"},
		{"beyond the window", "memory-power-loss", "5", `{"verdict":"pass","lost_acks":7,"faults":[{"recovery":{"rpo_ns":600000000}}]}`, 1, "lost what was acknowledged 600ms before"},
		{"nothing lost", "memory-power-loss", "0", `{"verdict":"pass","lost_acks":0}`, 2, "nothing was lost"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("LOST", tt.lost)
			t.Setenv("RPO", map[bool]string{true: "300000000", false: "0"}[tt.lost != "0"])
			var out bytes.Buffer
			c := survival{n: 3, parallel: 1, binary: fake(t, tt.verdict), dir: t.TempDir(), seed: 1}
			code, err := c.run(context.Background(), []string{tt.scenario}, &out)
			if err != nil || code != tt.code || !strings.Contains(out.String(), tt.want) {
				t.Errorf("%d, %v; want %d with %q in:\n%s", code, err, tt.code, tt.want, &out)
			}
		})
	}
}

// A run that only the starvation of the load generator made unknown is made
// again, and that is said.
func TestStarvedRunsAreMadeAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "statequake")
	script := `#!/bin/sh
for dir in "$@"; do :; done # the last argument
mkdir -p "$dir"
verdict='{"verdict":"pass","lost_acks":0}'
case "$*" in
*seed=2*) [ -e "$0.again" ] || verdict='{"verdict":"unknown","reasons":["The load generator did not get to run for 404ms (limit 250ms)."]}'
	touch "$0.again" ;;
esac
echo "$verdict" >"$dir/verdict.json"
`
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := survival{n: 3, parallel: 1, binary: path, dir: t.TempDir(), seed: 1}
	code, err := c.run(context.Background(), []string{"kill-owner"}, &out)
	if err != nil || code != 0 {
		t.Errorf("%d, %v:\n%s", code, err, &out)
	}
	for _, want := range []string{"kill-owner seed 2: the load generator was starved; is made again\n", "3 of 3 runs passed", " 1 runs were made again"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
}

// A suite is all scenarios of a folder, and there is one for every workload.
func TestSuite(t *testing.T) {
	c := survival{n: 1, suites: "../../" + suites}
	plan, err := c.plan([]string{"domains"})
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, p := range plan {
		have[p.Scenario.Load.Workload.Name] = true
		if p.title != "domains-"+p.Scenario.Name || len(p.set) == 0 || p.Scenario.System.Ack != "durable" {
			t.Errorf("%s: %v of %s, ack %s", p.title, p.set, p.Name, p.Scenario.System.Ack)
		}
		if kinds := kindsOf(p.Scenario); len(kinds) != 1 || kinds[0] != "PodChaos pod-kill" {
			t.Errorf("%s has %v", p.title, kinds)
		}
	}
	for _, name := range loadgen.WorkloadNames() {
		if !have[name] {
			t.Errorf("no scenario of the suite domains has the workload %s", name)
		}
	}
	if _, err := c.plan([]string{"no-such-suite"}); err == nil {
		t.Error("an unknown suite is no error")
	}
}

func TestSurvivalThatCannotRun(t *testing.T) {
	c := survival{n: 1, parallel: 1, binary: "/does/not/exist", dir: t.TempDir()}
	if _, err := c.run(context.Background(), nil, &bytes.Buffer{}); err == nil {
		t.Error("a missing program is no error")
	}
	if _, err := c.run(context.Background(), []string{"one-wey"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "one-way") {
		t.Errorf("unknown scenario: %v", err)
	}
}
