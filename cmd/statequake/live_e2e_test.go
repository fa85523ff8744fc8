//go:build e2e

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// tmux is a real terminal of a real terminal emulator.
type tmux struct {
	t      *testing.T
	socket string
}

// terminalOf starts a shell in a terminal of 80x24.
func terminalOf(t *testing.T, dir string, env ...string) *tmux {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		if os.Getenv("STATEQUAKE_REQUIRE_TMUX") == "1" {
			t.Fatal(err)
		}
		t.Skip("tmux is not installed")
	}
	m := &tmux{t: t, socket: filepath.Join(t.TempDir(), "tmux")}
	m.do("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "-c", dir,
		"env "+strings.Join(env, " ")+" PS1='$ ' sh")
	t.Cleanup(func() { exec.Command("tmux", "-S", m.socket, "kill-server").Run() })
	m.do("set-option", "-g", "window-size", "manual")
	return m
}

func (m *tmux) do(args ...string) string {
	m.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", m.socket}, args...)...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (m *tmux) keys(keys ...string) { m.t.Helper(); m.do(append([]string{"send-keys"}, keys...)...) }
func (m *tmux) resize(width, height int) {
	m.t.Helper()
	m.do("resize-window", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height))
}

// screen is what is seen, all is that and what was scrolled out of it.
func (m *tmux) screen() string { m.t.Helper(); return m.do("capture-pane", "-p") }
func (m *tmux) all() string    { m.t.Helper(); return m.do("capture-pane", "-p", "-S", "-2000") }

// await polls the screen until it matches.
func (m *tmux) await(what string, limit time.Duration) string {
	m.t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		text := m.screen()
		if regexp.MustCompile(what).MatchString(text) {
			return text
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("no %q within %v on\n%s", what, limit, m.all())
		}
	}
}

// regions counts the lines with which regions begin.
func regions(text string) int {
	return len(regexp.MustCompile(`(?m)^(starting|warmup|load|recovery|audit|stopping) +[\d.]+ ?(s|/|of)`).FindAllString(text, -1))
}

// TestLiveView: the view of a real run on a real terminal: it is drawn in one
// place, at every size that the terminal gets while it runs, and leaves nothing.
func TestLiveView(t *testing.T) {
	binary, dir := build(t)
	for _, tc := range []struct {
		name    string
		env     []string
		colored bool
	}{
		{"color", []string{"LC_ALL=C.UTF-8"}, true},
		{"NO_COLOR", []string{"LC_ALL=C", "NO_COLOR=1"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := terminalOf(t, dir, tc.env...)
			m.keys(fmt.Sprintf("%s run shaky.yaml --set load.duration=20s --set faults[0].at=2s --out %s; echo code=$?", binary, tc.name), "Enter")
			text := m.await(`(?s)load .*rate .*p99 .*outcomes .*! pause-one n2`, time.Minute)
			if n := strings.Count(text, "outcomes "); n != 1 {
				t.Errorf("%d regions:\n%s", n, text)
			}
			m.await(`n2 paused`, 10*time.Second)
			if got := strings.Contains(m.do("capture-pane", "-p", "-e"), "\x1b[36m"); got != tc.colored {
				t.Errorf("colours: %t", got)
			}
			before := regions(m.all())
			for _, size := range [][2]int{{60, 24}, {120, 40}, {40, 12}, {20, 6}, {200, 50}, {80, 24}} {
				m.resize(size[0], size[1])
				// tmux tells the size after 250 ms, and a frame is drawn after 200. What
				// tmux itself scrolls out of a smaller screen stays; at one size nothing
				// is added to it.
				time.Sleep(time.Second)
				settled := regions(m.all())
				time.Sleep(time.Second)
				if after := regions(m.all()); after > settled || settled > before+1 {
					t.Errorf("%dx%d: %d regions, then %d, then %d:\n%s", size[0], size[1], before, settled, after, m.all())
				}
				before = settled
			}
			m.await(`code=\d`, time.Minute)
			all := m.all()
			if !strings.Contains(all, "PASS") && !strings.Contains(all, "UNKNOWN") {
				t.Errorf("no verdict in\n%s", all)
			}
			if regions(all) > 6 {
				t.Errorf("the region was left %d times in\n%s", regions(all), all)
			}
			if strings.Contains(all, "[?2026") || strings.Contains(all, "^[") {
				t.Errorf("garbage in\n%s", all)
			}
		})
	}
}

// TestLiveViewInterrupted: Ctrl-C once stops the load and is said above the
// region; twice leaves a clean terminal at once.
func TestLiveViewInterrupted(t *testing.T) {
	binary, dir := build(t)
	m := terminalOf(t, dir, "LC_ALL=C.UTF-8")
	m.keys(binary+" run shaky.yaml --out once; echo code=$?", "Enter")
	m.await(`load +[\d.]+ of`, time.Minute)
	m.keys("C-z") // does nothing
	m.keys("C-c")
	m.await(`stopping the load; what there is will be judged`, 5*time.Second)
	text := m.await(`code=\d`, time.Minute)
	if strings.Contains(text, "outcomes ") {
		t.Errorf("the region is still there:\n%s", text)
	}
	m.keys("clear", "Enter")
	m.keys(binary+" run shaky.yaml --out twice; echo code=$?", "Enter")
	m.await(`! pause-one`, time.Minute)
	m.keys("C-c")
	m.await(`stopping the load`, 5*time.Second)
	time.Sleep(200 * time.Millisecond) // the same signal within 100 ms is the same request
	m.keys("C-c")
	text = m.await(`code=3`, 10*time.Second)
	if !strings.Contains(text, "left at once") || strings.Contains(text, "outcomes ") {
		t.Errorf("after Ctrl-C twice:\n%s", text)
	}
}

// TestStoppedTerminal: a terminal that is stopped with Ctrl-S, or a pipe that
// nobody reads, does not hold up the run.
func TestStoppedTerminal(t *testing.T) {
	binary, dir := build(t)
	m := terminalOf(t, dir, "LC_ALL=C.UTF-8")
	m.keys(binary+" run shaky.yaml --out stopped; echo code=$?", "Enter")
	m.await(`load +[\d.]+ of`, time.Minute)
	m.keys("C-s")
	judged := filepath.Join(dir, "stopped", "verdict.json")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(judged); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the run waits for its terminal:\n%s", m.screen())
		}
	}
	m.keys("C-q")
	m.await(`code=\d`, 20*time.Second)
}

// metricsRun starts a run that serves /metrics and returns where.
func metricsRun(t *testing.T, binary, dir, out string) (cmd *exec.Cmd, url string, said *bytes.Buffer) {
	t.Helper()
	cmd = exec.Command(binary, "run", "shaky.yaml", "--out", out, "--metrics", "127.0.0.1:0")
	cmd.Dir = dir
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	said = &bytes.Buffer{}
	one := make([]byte, 1)
	for !strings.Contains(said.String(), "/metrics\n") {
		if _, err := pipe.Read(one); err != nil {
			t.Fatalf("%v after %q", err, said)
		}
		said.Write(one)
	}
	go io.Copy(io.Discard, pipe)
	return cmd, regexp.MustCompile(`http://127\.0\.0\.1:\d+/metrics`).FindString(said.String()), said
}

// TestLiveMetrics: /metrics of a run in its namespaces is read from outside of
// them, its counters only grow, it tells of the faults and nodes, and it is gone
// when the run is over, or killed.
func TestLiveMetrics(t *testing.T) {
	binary, dir := build(t)
	cmd, url, _ := metricsRun(t, binary, dir, "metrics")
	var ended error
	over := make(chan struct{})
	go func() { ended = cmd.Wait(); close(over) }()
	seen := map[string]bool{}
	total, scrapes := 0.0, 0
	for running := true; running; {
		select {
		case <-over:
			running = false
		case <-time.After(100 * time.Millisecond):
		}
		resp, err := http.Get(url)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			continue
		}
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		scrapes++
		sum := 0.0
		if ops := families["statequake_run_operations_total"]; ops != nil {
			for _, m := range ops.Metric {
				sum += m.Counter.GetValue()
			}
		}
		if sum < total {
			t.Errorf("%v operations after %v", sum, total)
		}
		total = sum
		for line := range strings.Lines(string(text)) {
			if strings.HasSuffix(line, " 1\n") {
				seen[strings.TrimSpace(line)] = true
			}
			if strings.HasSuffix(line, " 0\n") && strings.HasPrefix(line, "statequake_run_node_up") {
				seen[strings.TrimSpace(line)] = true
			}
		}
	}
	for _, want := range []string{
		`statequake_run_phase{phase="load"} 1`, `statequake_run_node_up{node="n1"} 1`, `statequake_run_node_up{node="n2"} 0`,
		`statequake_run_fault_state{fault="pause-one",kind="ProcessPause",state="active"} 1`,
		`statequake_run_fault_state{fault="kill-one",kind="PodChaos",state="over"} 1`,
		`statequake_run_fault_evidence{fault="kill-one",proof="confirmed"} 1`,
	} {
		if !seen[want] {
			t.Errorf("never seen in %d scrapes: %s", scrapes, want)
		}
	}
	if total < 1300 { // 6.5 s of 200/s, and probes
		t.Errorf("%v operations in the end", total)
	}
	if c := code(ended); c != 0 && c != 2 { // a busy machine
		t.Errorf("exit code %d", c)
	}
	if _, err := http.Get(url); err == nil {
		t.Error("/metrics answers after the run")
	}

	killed, url, _ := metricsRun(t, binary, dir, "killed")
	if _, err := http.Get(url); err != nil {
		t.Fatal(err)
	}
	killed.Process.Signal(syscall.SIGKILL)
	killed.Wait()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := http.Get(url); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("/metrics answers 5 s after the run was killed")
		}
	}
	gone(t, binary, 5*time.Second)
}
