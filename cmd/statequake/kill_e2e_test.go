//go:build e2e

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"statequake/fixtures/sandbox/leftover"
)

// heavy is a run of about 12 s with all there is to leave behind: file systems,
// namespaces with a switch between them, workers, stopped processes and nodes
// that are held down.
const heavy = `
name: heavy
seed: 7
system: {name: reference, nodes: 3, ack: durable}
load: {workload: {name: shopping-cart, keys: 100}, arrivals: {constant: 100/s}, warmup: 500ms, duration: 8s, timeout: 10s, retry: {max: 3}}
faults:
  - {name: clock, at: 0s, chaos: {kind: TimeChaos, spec: {mode: one, selector: {labelSelectors: {statequake.dev/node: n2}}, timeOffset: -10m, duration: 7s}}}
  - {name: disk, at: 0s, chaos: {kind: IOChaos, spec: {action: latency, mode: one, selector: {labelSelectors: {statequake.dev/node: n1}}, volumePath: /data, methods: [fsync], delay: 5ms, duration: 7s}}}
  - {name: network, at: 200ms, chaos: {kind: NetworkChaos, spec: {action: delay, mode: one, selector: {labelSelectors: {statequake.dev/node: n3}}, delay: {latency: 5ms}, duration: 6s}}}
  - {name: stress, at: 300ms, chaos: {kind: StressChaos, spec: {mode: all, selector: {}, stressors: {cpu: {workers: 1, load: 20}, memory: {workers: 1, size: 16MiB}}, duration: 5s}}}
  - {name: pause, at: 500ms, chaos: {kind: ProcessPause, spec: {mode: one, selector: {labelSelectors: {statequake.dev/node: n2}}, duration: 3s}}}
  - {name: down, at: 1s, chaos: {kind: PodChaos, spec: {action: pod-failure, mode: one, selector: {labelSelectors: {statequake.dev/node: n3}}, duration: 2s}}}
  - {name: cut, at: 2s, chaos: {kind: NetworkChaos, spec: {action: partition, mode: one, selector: {labelSelectors: {statequake.dev/node: n1}}, direction: both, target: {mode: all, selector: {}}, duration: 2s}}}
  - {name: pause-again, at: 4s, chaos: {kind: ProcessPause, spec: {mode: one, selector: {labelSelectors: {statequake.dev/node: n1}}, duration: 2s}}}
  - {name: dark, at: 5s, chaos: {kind: PowerLoss, spec: {mode: all, selector: {}, torn: "0.5"}}}
  - {name: full, at: 6s, chaos: {kind: DiskFull, spec: {mode: one, selector: {labelSelectors: {statequake.dev/node: n3}}, free: "0", duration: 1s}}}
`

// children are the processes of the program that a process has started.
func children(t *testing.T, binary string, parent int) []int {
	t.Helper()
	var found []int
	for _, pid := range running(t, binary) {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if bytes.Contains(status, fmt.Appendf(nil, "\nPPid:\t%d\n", parent)) {
			found = append(found, pid)
		}
	}
	return found
}

// victim is the process of a run that is to be killed: who was started, the
// init of its namespaces below that, or the one below that who does the work.
// Of those that are not there yet it is the last one that is.
func victim(t *testing.T, binary string, outer, depth int) (pid int, who string) {
	pid, who = outer, "outer"
	for _, below := range []string{"init", "inner"}[:depth] {
		next := children(t, binary, pid)
		if len(next) != 1 {
			break
		}
		pid, who = next[0], below
	}
	return pid, who
}

// namespaces counts those of all processes that may be seen.
func namespaces(t *testing.T) int {
	t.Helper()
	found := map[string]bool{}
	for _, kind := range []string{"net", "mnt", "pid"} {
		links, err := filepath.Glob("/proc/[0-9]*/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if space, err := os.Readlink(link); err == nil {
				found[space] = true
			}
		}
	}
	return len(found)
}

// possible tells whether a scenario can be run here, or why not.
func possible(t *testing.T, binary, file, out string) (ok bool, why string) {
	t.Helper()
	var text bytes.Buffer
	cmd := exec.Command(binary, "run", file, "--out", out)
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if data, _ := os.ReadFile(filepath.Join(out, "history.jsonl")); len(data) > 0 {
			ok = true
			break
		}
		select {
		case <-ended:
			return false, text.String()
		default:
		}
	}
	_ = cmd.Process.Kill()
	<-ended
	gone(t, binary, 5*time.Second)
	return ok, text.String()
}

// TestKilledHarness kills the harness with SIGKILL at 20 random instants, or as
// many as STATEQUAKE_KILLS says: nothing may be left 5 s later, and what was
// recorded can be judged.
func TestKilledHarness(t *testing.T) {
	kills := 20
	if text := os.Getenv("STATEQUAKE_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil || kills < 1 {
			t.Fatalf("STATEQUAKE_KILLS=%s: want a number from 1 on", text)
		}
	}
	binary, dir := build(t)
	file, span := filepath.Join(dir, "heavy.yaml"), 11*time.Second
	if err := os.WriteFile(file, []byte(heavy), 0o644); err != nil {
		t.Fatal(err)
	}
	if ok, why := possible(t, binary, file, filepath.Join(dir, "possible")); !ok {
		if os.Getenv("STATEQUAKE_REQUIRE_NAMESPACES") == "1" || os.Getenv("STATEQUAKE_REQUIRE_FUSE") == "1" || strings.Contains(why, "heavy.yaml:") {
			t.Fatalf("a run with all faults is required, but:\n%s", why)
		}
		t.Logf("a run with all faults is not possible here, so it is one with few:\n%s", why)
		file, span = filepath.Join(dir, "shaky.yaml"), 8*time.Second
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	before := namespaces(t)
	var slowest time.Duration
	clean, stopped, spaces := 0, 0, 0
	victims, codes := map[string]int{}, map[int]int{}
	for i := range kills {
		out := filepath.Join(dir, fmt.Sprint("run", i))
		watch, err := leftover.Begin(binary, out)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(binary, "run", file, "--out", out)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		instant := time.Duration(random.Int64N(int64(span)))
		time.Sleep(instant) // the instant is what is being tested
		watch.Look()
		if watch.Stopped() > 0 {
			stopped++
		}
		pid, who := victim(t, binary, cmd.Process.Pid, i%3)
		victims[who]++
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		left, took := watch.Left(5 * time.Second)
		<-ended
		spaces = max(spaces, watch.Namespaces())
		slowest = max(slowest, took)
		if len(left) == 0 {
			clean++
		} else {
			t.Errorf("%s killed after %v: %v later there is left: %v", who, instant, took, left)
			for _, thing := range left {
				if thing.PID != 0 {
					syscall.Kill(thing.PID, syscall.SIGKILL)
				}
			}
		}

		record, err := os.ReadFile(filepath.Join(out, "history.jsonl"))
		if err != nil {
			_ = os.RemoveAll(out)
			continue // killed before there was anything to judge
		}
		text, err := exec.Command(binary, "check", out).CombinedOutput()
		codes[code(err)]++
		// Of a run that was whole a fault may be unproven, on a busy machine.
		whole := bytes.Contains(record, []byte(`{"footer":`))
		if code(err) != 2 && !(whole && code(err) == exitPass) {
			t.Errorf("%s killed after %v: check ended with %d\n%s", who, instant, code(err), text)
			continue
		}
		if err := os.RemoveAll(out); err != nil { // its disks are large
			t.Error(err)
		}
	}
	t.Logf("%d SIGKILLs (%v): nothing left %d/%d, at most %v later; in %d of them a process was stopped; up to %d namespaces per run; "+
		"namespaces on the machine: %d before, %d after; exit codes of check: %v",
		kills, victims, clean, kills, slowest.Round(time.Millisecond), stopped, spaces, before, namespaces(t), codes)
}
