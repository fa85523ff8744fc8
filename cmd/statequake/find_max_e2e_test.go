//go:build e2e

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"statequake/reports/stats"
)

// climb is a search against a service that bears a known number of requests a
// second. The prober takes 2 of them.
const climb = `
name: climb
seed: %d
system:
  name: scripted
  exec:
    start: ["%s", "-listen", "127.0.0.1:${port}", "-data", "${data_dir}", "-rate", "%d"]
    ready_url: http://127.0.0.1:${port}/ready
  http:
    ops:
      set: {method: PUT, path: "/registers/${key}", body: '{"value": ${args.value}}'}
      get: {path: "/registers/${key}"}
    replies:
      - {status: 200, outcome: ok, result: {value: /value}}
load:
  workload: {name: register, keys: 100, mix: {set: 5, get: 95}}
  arrivals: {find_max: {from: 200/s, to: 5000/s, grow: 30%%, every: 2s, bound: {p99: 100ms}}}
  warmup: 1s
probe: {every: 500ms}
`

func climbing(t *testing.T, dir string, seed, rate int) (plan string) {
	t.Helper()
	server := filepath.Join(dir, "scripted")
	if out, err := exec.Command("go", "build", "-o", server, "../../fixtures/scripted").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	plan = filepath.Join(dir, fmt.Sprintf("climb-%d.yaml", seed))
	if err := os.WriteFile(plan, fmt.Appendf(nil, climb, seed, server, rate), 0o644); err != nil {
		t.Fatal(err)
	}
	return plan
}

// TestFindMaxLive holds the knee of real runs against what the service bears:
// 500/s, and so between the levels 439/s and 571/s. Never may a higher rate be
// said to keep the bound. Runs on a machine that was busy with other things may
// find less, by the generator's fault, and say so.
func TestFindMaxLive(t *testing.T) {
	binary, dir := build(t)
	exact := 0
	const runs = 3
	for seed := 1; seed <= runs; seed++ {
		plan, out := climbing(t, dir, seed, 500), filepath.Join(dir, fmt.Sprint("run", seed))
		printed, err := exec.Command(binary, "run", plan, "--out", out).CombinedOutput()
		v := readVerdict(t, out, printed, err)
		f := v.FindMax
		if f == nil || len(f.Levels) == 0 {
			t.Fatalf("nothing was found:\n%s", printed)
		}
		for _, l := range f.Levels {
			if l.Rate > 510 && l.Verdict == stats.Kept {
				t.Errorf("seed %d: %v/s is said to keep the bound, and the service bears 500/s\n%s", seed, l.Rate, printed)
			}
		}
		if last := f.Levels[len(f.Levels)-1].Rate; last > 1000 || !f.Ended() {
			t.Errorf("seed %d: the search went on to %v/s\n%s", seed, last, printed)
		}
		if !strings.Contains(string(printed), "Find max") || v.Verdict == "violation" {
			t.Errorf("seed %d:\n%s", seed, printed)
		}
		if f.Knee != nil && *f.Knee > 430 && f.LimitedBy == stats.LimitBound {
			exact++
		} else {
			t.Logf("seed %d: %s limited it, generator %s", seed, f.LimitedBy, v.Load.Generator)
		}
	}
	t.Logf("%d of %d runs found 439/s", exact, runs)
	if exact == 0 {
		t.Error("no run found what the service bears")
	}
}

// TestFindMaxStoppedGenerator stops the generator for 400 ms in every second, from
// the fourth second of the load on: what it then finds is its own limit.
func TestFindMaxStoppedGenerator(t *testing.T) {
	binary, dir := build(t)
	plan, out := climbing(t, dir, 1, 5000), filepath.Join(dir, "run")
	var printed bytes.Buffer
	cmd := exec.Command(binary, "run", plan, "--no-sandbox", "--out", out)
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	await := time.NewTimer(5 * time.Second)
	var err error
	for running := true; running; {
		select {
		case err = <-ended:
			running = false
		case <-await.C:
			// Errors say that it has ended.
			cmd.Process.Signal(syscall.SIGSTOP)
			time.Sleep(400 * time.Millisecond)
			cmd.Process.Signal(syscall.SIGCONT)
			await.Reset(600 * time.Millisecond)
		}
	}
	v := readVerdict(t, out, printed.Bytes(), err)
	if v.FindMax == nil || v.FindMax.LimitedBy != stats.LimitGenerator {
		t.Fatalf("the generator was stopped, and the search says %+v\n%s", v.FindMax, &printed)
	}
	if !strings.Contains(printed.String(), "limited by the load generator") {
		t.Errorf("the summary does not say so:\n%s", &printed)
	}
}
