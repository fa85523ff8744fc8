//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"statequake/reports"
	"statequake/reports/stats"
)

// away is a run against a service that says itself how long it was away.
const away = `
name: away
seed: %d
system:
  name: scripted
  restart_delay: %s
  exec:
    start: ["%s", "-listen", "127.0.0.1:${port}", "-data", "${data_dir}", "-extra", "%s", "-manner", "%s"]
    ready_url: http://127.0.0.1:${port}/ready
  http:
    ops:
      set: {method: PUT, path: "/registers/${key}", body: '{"value": ${args.value}}'}
      get: {path: "/registers/${key}"}
    replies:
      - {status: 200, outcome: ok, result: {value: /value}}
      - {status: 503, outcome: fail}
load:
  workload: {name: register, keys: 1, mix: {set: 5, get: 95}}
  arrivals: {constant: 500/s}
  warmup: 500ms
  duration: 5s
  timeout: 1s
faults:
  - name: away
    at: 1s
    chaos: %s
`

// recoveryError is how far the outage that the harness measures may be from the one
// in the server's own log, beside the time that an answer takes: keys are asked every
// 20 ms at least, by the prober.
const recoveryError = 20 * time.Millisecond

// TestRecoveryLive holds the outage that is measured from the history of real runs
// against the server's own log, STATEQUAKE_TIMES times (3) for each of six scripts.
// Runs in which the generator was starved, so that nothing was measured, are left
// out, and counted.
func TestRecoveryLive(t *testing.T) {
	binary, dir := build(t)
	server := filepath.Join(dir, "scripted")
	if out, err := exec.Command("go", "build", "-o", server, "../../fixtures/scripted").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	times := 3
	if s := os.Getenv("STATEQUAKE_TIMES"); s != "" {
		var err error
		if times, err = strconv.Atoi(s); err != nil || times < 1 {
			t.Fatalf("STATEQUAKE_TIMES: %q is no number of runs", s)
		}
	}
	const stop = "{kind: ProcessPause, spec: {mode: one, selector: {labelSelectors: {statequake.dev/node: n1}}, duration: %s}}"
	const kill = "{kind: PodChaos, spec: {action: pod-kill, mode: one, selector: {labelSelectors: {statequake.dev/node: n1}}}}"
	var off []time.Duration
	measured, excluded := 0, 0
	for _, script := range []struct{ name, chaos, restart, extra, manner string }{
		{"stopped", fmt.Sprintf(stop, "800ms"), "1s", "0s", "hold"},
		{"stopped-and-held", fmt.Sprintf(stop, "400ms"), "1s", "450ms", "hold"},
		{"stopped-then-refusing", fmt.Sprintf(stop, "500ms"), "1s", "700ms", "refuse"},
		{"stopped-then-silent", fmt.Sprintf(stop, "500ms"), "1s", "300ms", "silent"},
		{"killed", kill, "500ms", "0s", "refuse"},
		{"killed-and-slow-to-start", kill, "200ms", "900ms", "refuse"},
	} {
		t.Run(script.name, func(t *testing.T) {
			var here []time.Duration
			for i := range times {
				out := filepath.Join(dir, fmt.Sprint(script.name, i))
				plan := filepath.Join(dir, script.name+".yaml")
				text := fmt.Sprintf(away, i+1, script.restart, server, script.extra, script.manner, script.chaos)
				if err := os.WriteFile(plan, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				printed, err := exec.Command(binary, "run", plan, "--out", out).CombinedOutput()
				v := readVerdict(t, out, printed, err)
				if v.Load.Generator != stats.Valid {
					excluded++
					t.Logf("run %d left out: the generator was %s: %v", i, v.Load.Generator, v.Load.GeneratorReasons)
					continue
				}
				if v.Verdict == "violation" {
					t.Fatalf("run %d: the service loses nothing, and yet:\n%s", i, printed)
				}
				truth := serverAway(t, filepath.Join(out, "nodes", "n1.log"))
				r := v.Faults[0].Recovery
				if r == nil || r.Outage.Max == nil || r.Outage.P50 == nil || r.FirstOK == nil || r.Impact == nil {
					t.Fatalf("run %d: the server was away for %v, and nothing was measured\n%s", i, truth, printed)
				}
				limit := recoveryError + v.Latency.Steady.P99
				for name, figure := range map[string]time.Duration{
					"outage p50": *r.Outage.P50, "outage max": *r.Outage.Max, "first ok after the impact": *r.FirstOK - *r.Impact,
				} {
					if d := (figure - truth).Abs(); d > limit {
						t.Errorf("run %d: %s is %v, the server was away for %v: %v apart", i, name, figure, truth, d)
					}
				}
				here = append(here, *r.Outage.Max-truth)
			}
			measured += len(here)
			off = append(off, here...)
			if len(here) > 0 {
				slices.Sort(here)
				t.Logf("n=%d: measured less the server's own: median %v, from %v to %v", len(here), here[len(here)/2], here[0], here[len(here)-1])
			}
		})
	}
	if measured == 0 {
		t.Fatal("the generator was starved in every run")
	}
	slices.SortFunc(off, func(a, b time.Duration) int { return int(a.Abs() - b.Abs()) })
	t.Logf("all: n=%d, %d left out; error median %v, at most %v (limit %v)", measured, excluded, off[len(off)/2].Abs(), off[len(off)-1].Abs(), recoveryError)
}

func readVerdict(t *testing.T, dir string, printed []byte, ran error) (v reports.Verdict) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "verdict.json"))
	if err != nil {
		t.Fatalf("%v\n%v\n%s", err, ran, printed)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// serverAway reads out of a server's log how long it was away, which it was once.
func serverAway(t *testing.T, log string) time.Duration {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var all []time.Duration
	for line := range strings.Lines(string(data)) {
		var from, to time.Duration
		if n, _ := fmt.Sscanf(line, "away %d %d", &from, &to); n == 2 {
			all = append(all, to-from)
		}
	}
	if len(all) != 1 {
		t.Fatalf("the server was away %d times, want once:\n%s", len(all), data)
	}
	return all[0]
}
