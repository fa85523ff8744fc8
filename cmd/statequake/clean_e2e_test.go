//go:build e2e

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"statequake/fixtures/postgres"
)

// wordy is a system that starts its server as the child of a shell, which nothing
// ends with the harness outside of a sandbox.
const wordy = `
name: wordy
seed: 7
system:
  name: wordy
  exec:
    start: ["sh", "-c", "./lossy -listen 127.0.0.1:${port} -data ${data_dir}; true"]
    ready_url: http://127.0.0.1:${port}/registers/ready
  http:
    idempotent: true
    ops:
      set: {method: PUT, path: "/registers/${key}", body: '{"value": ${args.value}}'}
      get: {path: "/registers/${key}"}
    replies:
      - {status: 200, outcome: ok, result: {value: /value}}
      - {status: 4xx, outcome: fail}
load: {workload: {name: register, keys: 100}, arrivals: {constant: 50/s}, warmup: 0s, duration: 60s}
`

// segments are the lines of the table of shared memory.
func segments(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}

// TestDoctorClean: what killed runs leave is gone after doctor --clean, while a
// run that goes on is left alone and passes.
func TestDoctorClean(t *testing.T) {
	binary, dir := build(t)
	lossy := filepath.Join(dir, "lossy")
	if out, err := exec.Command("go", "build", "-o", lossy, "statequake/examples/lossy").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Chdir(dir)
	for name, text := range map[string]string{"wordy.yaml": wordy, "dark.yaml": dark} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	runs := map[string][]string{
		"wordy": {"wordy.yaml", "--no-sandbox"},
		"shaky": {"shaky.yaml", "--no-sandbox"},
		"dark":  {"dark.yaml"},
	}
	if postgres.Installed() == nil {
		runs["postgres"] = []string{"steady", "--no-sandbox", "--set", "system.store=postgres"}
		runs["inside"] = []string{"steady", "--set", "system.store=postgres"}
	}
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		delete(runs, "dark")
	} else {
		f.Close()
	}

	living := exec.Command(binary, "run", "shaky.yaml", "--out", "runs/living", "--set", "load.duration=60s")
	var said bytes.Buffer
	living.Stdout, living.Stderr = &said, &said
	if err := living.Start(); err != nil {
		t.Fatal(err)
	}
	defer living.Process.Kill()
	awaitOps(t, "runs/living", 100)
	before := segments(t)
	for name, args := range runs {
		out := filepath.Join("runs", name)
		cmd := exec.Command(binary, append([]string{"run", "--out", out}, args...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		awaitOps(t, out, 100)
		cmd.Process.Kill()
		_ = cmd.Wait()
		if _, err := os.Stat(filepath.Join(out, "data")); err != nil {
			t.Errorf("%s left no data, so there is nothing to clean up: %v", name, err)
		}
	}
	text, err := exec.Command(binary, "doctor", "--clean").CombinedOutput()
	t.Logf("%s", text)
	if err != nil || !strings.Contains(string(text), "left, since it goes on: 1 run\n") {
		t.Errorf("clean: %v", err)
	}
	for name := range runs {
		if left, err := filepath.Glob(filepath.Join("runs", name, "[dr]*")); err != nil || left != nil {
			t.Errorf("%s: left are %v", name, left)
		}
		if _, err := os.Stat(filepath.Join("runs", name, "history.jsonl")); err != nil {
			t.Errorf("%s: the record is gone: %v", name, err)
		}
	}
	if runs["postgres"] != nil && !strings.Contains(string(text), "shared memory") {
		t.Error("no shared memory was found")
	}
	if n := segments(t); n > before { // others may have removed theirs
		t.Errorf("%d segments of shared memory, %d before", n, before)
	}
	if left := running(t, lossy); len(left) > 0 {
		t.Errorf("servers are left: %v", left)
	}
	if err := living.Process.Signal(os.Interrupt); err != nil { // enough
		t.Fatal(err)
	}
	// Unknown where the machine is too busy for the load, but not for a process
	// that somebody ended.
	if err := living.Wait(); code(err) != 0 && code(err) != 2 || strings.Contains(said.String(), "own-exit") {
		t.Errorf("the living run ended with %d\n%s", code(err), said.String())
	}
	if text, err = exec.Command(binary, "doctor", "--clean").CombinedOutput(); err != nil || string(text) != "0 leftovers of 0 dead runs removed\n" {
		t.Errorf("once more: %v\n%s", err, text)
	}
}

// awaitOps waits until a run has recorded so many operations.
func awaitOps(t *testing.T, dir string, n int) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		data, _ := os.ReadFile(filepath.Join(dir, "history.jsonl"))
		if bytes.Count(data, []byte("\n")) >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: no %d operations within 60 s", dir, n)
		}
	}
}
