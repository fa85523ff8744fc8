//go:build e2e

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"statequake/fixtures/sandbox/leftover"
	"statequake/reports/suite"
)

// short is a scenario of a suite of the tests: a run takes about 4 s.
const short = `# Claim: a short one.
name: %s
seed: 7
system: {name: reference, nodes: 1, ack: durable}
load: {workload: {name: counter, keys: 20}, arrivals: {constant: 100/s}, warmup: 200ms, duration: %s, timeout: 5s}
`

// shortSuite makes a folder with three scenarios.
func shortSuite(t *testing.T, dir, duration string) string {
	t.Helper()
	folder := filepath.Join(dir, "mine")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(folder, name+".yaml"), fmt.Appendf(nil, short, name, duration), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// summary reads the suite.json of a suite.
func summary(t *testing.T, out string) *suite.Summary {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(out, "suite.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s suite.Summary
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

// awaitFile waits until a file is there and holds something.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			return
		}
	}
	t.Fatalf("%s is not there after a minute", path)
}

// TestSuiteKilled kills a suite with SIGKILL at an instant of its second run:
// nothing may be left of it, the finished run is kept to the byte, the torn one is
// set aside and made again, and at the end all are there.
func TestSuiteKilled(t *testing.T) {
	binary, dir := build(t)
	folder, out := shortSuite(t, dir, "2s"), filepath.Join(dir, "out")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	watch, err := leftover.Begin(binary, out)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", folder, "--out", out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, filepath.Join(out, "b", "history.jsonl"))
	time.Sleep(time.Duration(random.Int64N(int64(time.Second)))) // the instant is what is being tested
	watch.Look()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if left, took := watch.Left(5 * time.Second); len(left) > 0 {
		t.Errorf("%v later there is left: %v", took, left)
	}
	if _, err := os.Stat(filepath.Join(out, "b", "verdict.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("b was finished when it was killed: %v", err)
	}
	kept, err := os.ReadFile(filepath.Join(out, "a", "verdict.json"))
	if err != nil {
		t.Fatal(err)
	}

	// What is there so far can be looked at, and is no pass.
	if text, err := exec.Command(binary, "report", out).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	s := summary(t, out)
	if s.Exit != exitError || s.Find("b", 1).Outcome != suite.Failed || s.Find("c", 1).Outcome != suite.NotRun {
		t.Errorf("of a killed suite the summary says %s, exit code %d; b: %s, c: %s", s.Says, s.Exit, s.Find("b", 1).Outcome, s.Find("c", 1).Outcome)
	}

	text, err := exec.Command(binary, "run", folder, "--out", out).CombinedOutput()
	s = summary(t, out)
	if code(err) != s.Exit {
		t.Errorf("exit code %d, the summary says %d", code(err), s.Exit)
	}
	for _, name := range []string{"a", "b", "c"} {
		if r := s.Find(name, 1); r.Outcome == suite.Failed || r.Outcome == suite.NotRun {
			t.Errorf("%s: %s: %s\n%s", name, r.Outcome, r.Says, text)
		}
	}
	if now, err := os.ReadFile(filepath.Join(out, "a", "verdict.json")); err != nil || !bytes.Equal(now, kept) {
		t.Errorf("a, which was finished, is not what it was: %v", err)
	}
	if _, err := os.Stat(filepath.Join(out, "b.torn", "0001-1", "history.jsonl")); err != nil {
		t.Errorf("what there was of b is not set aside: %v\n%s", err, text)
	}
	if strings.Contains(string(text), "\na: ") || !strings.Contains(string(text), "1 finished run kept") {
		t.Errorf("a was run again:\n%s", text)
	}
}

// TestSuiteInterrupted: Ctrl-C ends the run under way, which is judged, and the
// summary is of what there is; the rest is made when it goes on, and so is the
// run that was stopped.
func TestSuiteInterrupted(t *testing.T) {
	binary, dir := build(t)
	folder, out := shortSuite(t, dir, "5s"), filepath.Join(dir, "out")
	var text bytes.Buffer
	cmd := exec.Command(binary, "run", folder, "--out", out)
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, filepath.Join(out, "a", "history.jsonl"))
	time.Sleep(time.Second) // some operations
	// Nobody else may work in there at the same time.
	if more, err := exec.Command(binary, "run", folder, "--out", out).CombinedOutput(); code(err) != exitError || !strings.Contains(string(more), "another statequake is running a suite in it") {
		t.Errorf("a second one: exit code %d\n%s", code(err), more)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if code(err) != 2 {
		t.Errorf("exit code %d, want 2\n%s", code(err), &text)
	}
	s := summary(t, out)
	if s.Find("a", 1).Outcome != suite.Stopped || s.Find("b", 1).Outcome != suite.NotRun || s.Find("c", 1).Outcome != suite.NotRun {
		t.Errorf("a: %s, b: %s, c: %s\n%s", s.Find("a", 1).Outcome, s.Find("b", 1).Outcome, s.Find("c", 1).Outcome, &text)
	}
	for _, want := range []string{"Summary: " + out, "Go on    statequake run "} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &text)
		}
	}
	more, err := exec.Command(binary, "run", folder, "--out", out).CombinedOutput()
	s = summary(t, out)
	for _, name := range []string{"a", "b", "c"} {
		if r := s.Find(name, 1); r.Outcome == suite.Stopped || r.Outcome == suite.Failed || r.Outcome == suite.NotRun {
			t.Errorf("%s: %s: %s; exit code %d\n%s", name, r.Outcome, r.Says, code(err), more)
		}
	}
}

// TestSuiteCannotRun: what the machine lacks is said, and counts as unknown,
// unless it was to be skipped; a suite of nothing else never passes.
func TestSuiteCannotRun(t *testing.T) {
	binary, dir := build(t)
	folder := filepath.Join(dir, "mine")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	disk := fmt.Sprintf(short, "disk", "2s") + "faults: [{name: slow, at: 0s, chaos: {kind: IOChaos, spec: {action: latency, mode: all, selector: {}, volumePath: /data, delay: 5ms, duration: 1s}}}]\n"
	if err := os.WriteFile(filepath.Join(folder, "disk.yaml"), []byte(disk), 0o644); err != nil {
		t.Fatal(err)
	}
	without := func(args ...string) ([]byte, error) {
		cmd := exec.Command("unshare", append([]string{"--user", "--map-root-user", "sh", "-c", `echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"`, "sh", binary, "run", folder}, args...)...)
		cmd.Dir = dir
		return cmd.CombinedOutput()
	}
	text, err := without("--out", "alone")
	if code(err) != 2 || !strings.Contains(string(text), "disk: cannot run here: ") {
		t.Errorf("exit code %d\n%s", code(err), text)
	}
	if text, err = without("--out", "skipped", "--allow-skip"); code(err) != 2 || !strings.Contains(string(text), "every scenario was skipped, so the suite proves nothing") {
		t.Errorf("exit code %d\n%s", code(err), text)
	}
	if err := os.WriteFile(filepath.Join(folder, "fine.yaml"), fmt.Appendf(nil, short, "fine", "1s"), 0o644); err != nil {
		t.Fatal(err)
	}
	text, err = without("--out", "both")
	if s := summary(t, filepath.Join(dir, "both")); code(err) != 2 || s.Find("disk", 1).Outcome != suite.CannotRun {
		t.Errorf("exit code %d, %s\n%s", code(err), s.Says, text)
	}
	text, err = without("--out", "both", "--allow-skip")
	s := summary(t, filepath.Join(dir, "both"))
	fine := s.Find("fine", 1)
	if s.Find("disk", 1).Outcome != suite.Skipped || code(err) != map[suite.Outcome]int{suite.Pass: 0, suite.Unknown: 2}[fine.Outcome] {
		t.Errorf("exit code %d, %s: %s\n%s", code(err), s.Says, fine.Says, text)
	}
}
