//go:build e2e

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shaky is a run of about 9 s with something to leave behind: a stopped node.
const shaky = `
name: shaky
seed: 7
system: {name: reference, nodes: 3, ack: durable}
load:
  workload: {name: shopping-cart, keys: 100, skew: {zipf: 0.99}}
  arrivals: {constant: 200/s}
  warmup: 500ms
  duration: 6s
  timeout: 10s
  retry: {max: 3}
faults:
  - name: pause-one
    at: 500ms
    chaos:
      kind: ProcessPause
      spec: {mode: one, selector: {labelSelectors: {statequake.dev/node: n2}}, duration: 4s}
  - name: kill-one
    at: 2s
    chaos:
      kind: PodChaos
      spec: {action: pod-kill, mode: one, selector: {labelSelectors: {statequake.dev/node: n3}}}
`

// build compiles the program into a folder of its own, so that its processes
// can be told from all others.
func build(t *testing.T) (binary, dir string) {
	t.Helper()
	dir = t.TempDir()
	binary = filepath.Join(dir, "statequake")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "shaky.yaml"), []byte(shaky), 0o644); err != nil {
		t.Fatal(err)
	}
	return binary, dir
}

// running lists the processes that run the program, by pid.
func running(t *testing.T, binary string) []int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, link := range links {
		if exe, err := os.Readlink(link); err == nil && exe == binary {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone waits until no process of the program is left and returns how long that took.
func gone(t *testing.T, binary string, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		left := running(t, binary)
		if len(left) == 0 {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			for _, pid := range left {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			t.Fatalf("%d processes are left after %v: %v", len(left), limit, left)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func code(err error) int {
	var failed *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &failed):
		return failed.ExitCode()
	}
	return -1
}

// TestInterrupt: one SIGINT stops the load and judges what there is; two leave
// at once, with nothing left behind.
func TestInterrupt(t *testing.T) {
	binary, dir := build(t)
	for _, tc := range []struct {
		name     string
		signals  int
		code     int
		contains string
	}{
		{"once", 1, 0, "PASS"},
		{"twice", 2, exitError, "left at once"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := filepath.Join(dir, tc.name)
			var text bytes.Buffer
			cmd := exec.Command(binary, "run", filepath.Join(dir, "shaky.yaml"), "--out", out)
			cmd.Stdout, cmd.Stderr = &text, &text
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// Not before the last fault: one that never came would make the run unknown.
			killed := regexp.MustCompile(`"name":"kill-one".*"event":"evidence"`)
			for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				if data, _ := os.ReadFile(filepath.Join(out, "faults.jsonl")); killed.Match(data) {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("no evidence of kill-one within 30 s\n%s", text.String())
				}
			}
			for range tc.signals {
				if err := cmd.Process.Signal(os.Interrupt); err != nil {
					t.Fatal(err)
				}
				time.Sleep(300 * time.Millisecond) // closer ones are taken for one
			}
			err := cmd.Wait()
			gone(t, binary, 5*time.Second)
			if code(err) != tc.code || !strings.Contains(text.String(), tc.contains) {
				t.Errorf("exit code %d, want %d and %q\n%s", code(err), tc.code, tc.contains, text.String())
			}
		})
	}
}

// TestDiskFull: a disk that fills up while recording is an error of the run, and
// loses nothing that was recorded.
func TestDiskFull(t *testing.T) {
	binary, dir := build(t)
	disk := filepath.Join(dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	const script = `
mount -t tmpfs -o size=600m tmpfs "$1" || exit 90
"$2" run "$3" --out "$1/run" --set abort.disk_free=0 &
until [ "$(wc -l <"$1/run/history.jsonl" 2>/dev/null || echo 0)" -gt 500 ]; do sleep 0.05; done
cat /dev/zero >"$1/filler" 2>/dev/null
wait $!
echo "run ended with $?"
rm "$1/filler"
"$2" check "$1/run"
echo "check ended with $?"`
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", disk, binary, filepath.Join(dir, "shaky.yaml"))
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{"no space left on device", "run ended with 3", "check ended with 2"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	gone(t, binary, 5*time.Second)
}
