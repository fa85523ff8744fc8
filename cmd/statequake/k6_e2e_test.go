//go:build e2e

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"statequake/reports"
)

// buildK6 compiles both programs into one folder, where the one looks for the
// other.
func buildK6(t *testing.T) (binary, k6, dir string) {
	t.Helper()
	binary, dir = build(t)
	k6 = filepath.Join(dir, "statequake-k6")
	cmd := exec.Command("go", "build", "-o", k6, "./statequake-k6")
	cmd.Dir = filepath.Join("..", "..", "loadgen", "k6")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build statequake-k6: %v\n%s", err, out)
	}
	return binary, k6, dir
}

// TestK6: a script is the load of a scenario. It finds a planted bug by its own
// kind of violation, passes without it, and a crossed threshold is an expectation
// that was missed.
func TestK6(t *testing.T) {
	binary, k6, dir := buildK6(t)
	scenario, err := filepath.Abs(filepath.Join("..", "..", "examples", "k6", "kill-owner.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	run := func(t *testing.T, name string, env []string, set ...string) (int, string, *reports.Verdict) {
		t.Helper()
		out := filepath.Join(dir, name)
		args := []string{"run", scenario, "--out", out}
		for _, s := range set {
			args = append(args, "--set", s)
		}
		cmd := exec.Command(binary, args...)
		cmd.Env = append(os.Environ(), env...)
		said, err := cmd.CombinedOutput()
		if left := append(running(t, binary), running(t, k6)...); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
		}
		v, judgeErr := reports.Judge(out)
		if judgeErr != nil {
			v = nil
		}
		return code(err), string(said), v
	}
	t.Run("control", func(t *testing.T) {
		got, said, v := run(t, "control", nil)
		if v == nil || v.Load.Generator == "invalid" {
			t.Skipf("the machine was too busy for a verdict:\n%s", said)
		}
		if got != 0 {
			t.Errorf("exit code %d, want 0:\n%s", got, said)
		}
		if !strings.Contains(said, "k6 statequake_fail") || len(v.Faults) != 1 || v.Load.OK == 0 {
			t.Errorf("%d ok, %d faults:\n%s", v.Load.OK, len(v.Faults), said)
		}
		if _, ok := v.Resources["k6"]; !ok {
			t.Errorf("resources %v lack k6", v.Resources)
		}
	})
	t.Run("bug", func(t *testing.T) {
		// The delay is the time in which what was answered can still be lost.
		got, said, v := run(t, "bug", nil, "system.bug=ack-before-journal", "system.store_delay=300ms", "expect=")
		if got != 1 || v == nil || !strings.Contains(said, "lost") {
			t.Fatalf("exit code %d, want 1 and lost:\n%s", got, said)
		}
		for _, c := range v.Checks {
			if c.Name == "witness" && c.Kinds["lost"] == 0 {
				t.Errorf("kinds %v, want lost", c.Kinds)
			}
		}
	})
	t.Run("without the bug", func(t *testing.T) {
		got, said, v := run(t, "late", nil, "system.store_delay=300ms", "expect=")
		if v == nil || v.Load.Generator == "invalid" {
			t.Skipf("the machine was too busy for a verdict:\n%s", said)
		}
		if got != 0 {
			t.Errorf("exit code %d, want 0:\n%s", got, said)
		}
	})
	t.Run("threshold", func(t *testing.T) {
		got, said, v := run(t, "threshold", []string{"CART_P99=p(99)<0.001"}, "faults=", "expect=")
		if v == nil || v.Load.Generator == "invalid" {
			t.Skipf("the machine was too busy for a verdict:\n%s", said)
		}
		if got != 4 || !strings.Contains(strings.Join(v.Reasons, " "), "The expectation k6 statequake_op_duration{outcome:ok} is missed") {
			t.Errorf("exit code %d, want 4 and the threshold by its name:\n%s", got, said)
		}
	})
	t.Run("broken script", func(t *testing.T) {
		script := filepath.Join(dir, "broken.js")
		if err := os.WriteFile(script, []byte("export default function ( {\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		got, said, _ := run(t, "broken", nil, "load.driver.k6="+script)
		if got != 3 || !strings.Contains(said, "could not load JS test") || !strings.Contains(said, "k6.log") {
			t.Errorf("exit code %d, want 3 and what k6 said:\n%s", got, said)
		}
	})
	t.Run("no program", func(t *testing.T) {
		elsewhere := filepath.Join(dir, "elsewhere", "statequake")
		if err := os.MkdirAll(filepath.Dir(elsewhere), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(binary, elsewhere); err != nil {
			t.Fatal(err)
		}
		said, err := exec.Command(elsewhere, "run", scenario, "--out", filepath.Join(dir, "none")).CombinedOutput()
		if code(err) != 3 || !strings.Contains(string(said), "hint: make k6 builds it") {
			t.Errorf("exit code %d, want 3 and a hint:\n%s", code(err), said)
		}
		if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
			t.Error("a run directory was made")
		}
	})
	t.Run("killed harness", func(t *testing.T) {
		cmd := exec.Command(binary, "run", scenario, "--out", filepath.Join(dir, "killed"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(60 * time.Second)
		for len(running(t, k6)) == 0 {
			if time.Now().After(deadline) {
				cmd.Process.Kill()
				t.Fatal("k6 did not run within 60 s")
			}
			time.Sleep(20 * time.Millisecond)
		}
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
		gone(t, k6, 5*time.Second)
		gone(t, binary, 5*time.Second)
	})
}

// TestK6ByHand: a script that somebody runs against a cluster leaves a run
// directory that is judged like any other.
func TestK6ByHand(t *testing.T) {
	binary, k6, dir := buildK6(t)
	cluster := filepath.Join(dir, "cluster")
	up := exec.Command(binary, "cluster", "up", "--dir", cluster)
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		up.Process.Signal(os.Interrupt)
		up.Wait()
	}()
	deadline := time.Now().Add(60 * time.Second)
	for {
		if _, err := os.Stat(filepath.Join(cluster, "control.sock")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the cluster was not up within 60 s")
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, tt := range []struct {
		limit      string
		k6, judged int
	}{{"p(99)<10000", 0, 0}, {"p(99)<0.001", 99, 4}} {
		out := filepath.Join(dir, "run-"+tt.limit[len(tt.limit)-3:])
		cmd := exec.Command(k6, "run", "--quiet", "--duration", "3s", "--out", "statequake="+out, filepath.Join("..", "..", "loadgen", "k6", "examples", "cart.js"))
		cmd.Env = append(os.Environ(), "STATEQUAKE_RUN="+cluster, "CART_P99="+tt.limit)
		said, err := cmd.CombinedOutput()
		if code(err) != tt.k6 {
			t.Fatalf("k6 ended with %d, want %d:\n%s", code(err), tt.k6, said)
		}
		said, err = exec.Command(binary, "check", out).CombinedOutput()
		if code(err) == 2 && strings.Contains(string(said), "generator invalid") {
			t.Skipf("the machine was too busy for a verdict:\n%s", said)
		}
		if code(err) != tt.judged {
			t.Errorf("judged with %d, want %d:\n%s", code(err), tt.judged, said)
		}
	}
}
