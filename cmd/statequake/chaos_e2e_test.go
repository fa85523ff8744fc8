//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports"
)

// patience bounds waits for what should come soon.
const patience = 30 * time.Second

// byHand are fault objects by the names of their files.
var byHand = map[string]string{
	"long.yaml":      `{kind: ProcessPause, spec: {mode: one, selector: {labelSelectors: {statequake.dev/node: n2}}, duration: 60s}}`,
	"short.yaml":     `{kind: ProcessPause, spec: {mode: one, selector: {labelSelectors: {statequake.dev/role: store-leader}}, duration: 1s}}`,
	"kill.yaml":      `{kind: PodChaos, spec: {action: pod-kill, mode: one, selector: {labelSelectors: {statequake.dev/owner-of: cart/42}}}}`,
	"fail.yaml":      `{kind: PodChaos, spec: {action: pod-failure, mode: one, selector: {}, duration: 60s}}`,
	"hottest.yaml":   `{kind: PodChaos, spec: {action: pod-kill, mode: one, selector: {labelSelectors: {statequake.dev/owner-of: hottest}}}}`,
	"stress.yaml":    `{kind: StressChaos, spec: {mode: one, selector: {}, stressors: {cpu: {workers: 1, load: 20}}, duration: 60s}}`,
	"full.yaml":      `{kind: DiskFull, spec: {mode: all, selector: {}, duration: 1s}}`,
	"power.yaml":     `{kind: PowerLoss, spec: {mode: all, selector: {}}}`,
	"partition.yaml": `{kind: NetworkChaos, spec: {action: partition, mode: one, selector: {labelSelectors: {statequake.dev/node: n1}}, direction: both, target: {mode: all, selector: {}}, duration: 3s}}`,
}

// program runs in the background and says things.
type program struct {
	*exec.Cmd
	t     *testing.T
	ended chan struct{}
	err   error

	mu   sync.Mutex
	text bytes.Buffer
}

// begin starts the program; it is killed at the end of the test.
func begin(t *testing.T, binary string, args ...string) *program {
	t.Helper()
	p := &program{Cmd: exec.Command(binary, args...), t: t, ended: make(chan struct{})}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout, p.Stderr = in, in
	err = p.Start()
	in.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer out.Close()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.mu.Lock()
			fmt.Fprintln(&p.text, lines.Text())
			p.mu.Unlock()
		}
	}()
	go func() {
		p.err = p.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.Process.Kill()
		<-p.ended
	})
	return p
}

func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// hear waits until the program has said something and returns when it did.
func (p *program) hear(word string) time.Time {
	p.t.Helper()
	p.t.Logf("waiting for %q", word)
	await(p.t, word, func() bool {
		select {
		case <-p.ended:
			if !strings.Contains(p.said(), word) {
				p.t.Fatalf("ended without %q: %v\n%s", word, p.err, p.said())
			}
		default:
		}
		return strings.Contains(p.said(), word)
	})
	return time.Now()
}

// end waits for the end of the program and returns its exit code.
func (p *program) end() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return code(p.err)
	case <-time.After(patience):
		p.t.Fatalf("does not end\n%s", p.said())
		return 0
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// stopped are the processes of the program that are stopped.
func stopped(t *testing.T, binary string) []int {
	var pids []int
	for _, pid := range running(t, binary) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, rest, ok := strings.Cut(string(stat), ") "); ok && rest[0] == 'T' {
			pids = append(pids, pid)
		}
	}
	return pids
}

// workers are the processes of the program that take CPU time away.
func workers(t *testing.T, binary string) []int {
	return slices.DeleteFunc(running(t, binary), func(pid int) bool {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return bytes.Contains(line, []byte("\x00serve\x00")) || bytes.Contains(line, []byte("\x00cluster\x00")) || bytes.Contains(line, []byte("\x00chaos\x00"))
	})
}

// faultFiles writes byHand into dir.
func faultFiles(t *testing.T, dir string) {
	t.Helper()
	for name, text := range byHand {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// upCluster starts a cluster in a directory with a path that no address of a
// socket can hold, and returns that and the addresses of its nodes.
func upCluster(t *testing.T, binary string, args ...string) (p *program, dir string, addrs []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), strings.Repeat("long", 30), "cluster")
	p = begin(t, binary, append([]string{"cluster", "up", "--dir", dir}, args...)...)
	p.hear("Try: statequake chaos")
	for _, m := range regexp.MustCompile(`(?m)^n\d  http://(\S+)`).FindAllStringSubmatch(p.said(), -1) {
		addrs = append(addrs, m[1])
	}
	if len(addrs) != 3 {
		t.Fatalf("nodes at %v\n%s", addrs, p.said())
	}
	return p, dir, addrs
}

// add puts tea into a cart by way of a node.
func add(addr string) (status int, body string, err error) {
	client := &http.Client{Timeout: 10 * time.Second}
	resp, err := client.Post("http://"+addr+"/v1/entities/cart/42/add", "application/json", strings.NewReader(`{"item":"tea","quantity":2}`))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// once runs chaos to its end.
func once(t *testing.T, binary, dir string, want int, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"chaos"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if code(err) != want {
		t.Errorf("chaos %v: exit code %d, want %d\n%s", args, code(err), want, out)
	}
	return string(out)
}

// wantInOrder fails unless the words stand in text, in their order.
func wantInOrder(t *testing.T, text string, words ...string) {
	t.Helper()
	rest := text
	for _, w := range words {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			t.Errorf("%q is missing, or not in its place, in\n%s", w, text)
			return
		}
		rest = after
	}
}

// TestChaosByHand: faults go into a cluster that runs, are seen, and are healed
// when whoever asked for them interrupts, or is killed.
func TestChaosByHand(t *testing.T) {
	binary, dir := build(t)
	faultFiles(t, dir)
	up, cluster, addrs := upCluster(t, binary)
	file := func(name string) string { return filepath.Join(dir, name) }

	out := once(t, binary, dir, 0, "short.yaml", "--cluster", cluster)
	wantInOrder(t, out, "requested  ProcessPause on n", "(store-leader)", "injected", "evidence   confirmed: n", "used 0 ms of CPU time", "recovered")
	if _, _, err := add(addrs[0]); err != nil {
		t.Fatal(err)
	}
	out = once(t, binary, dir, 0, "kill.yaml", "--cluster", cluster)
	wantInOrder(t, out, "requested  PodChaos pod-kill on n", "evidence   confirmed", "ran no more", "recovered", "was ready, status 200")
	out = once(t, binary, dir, exitError, "partition.yaml", "--cluster", cluster)
	wantInOrder(t, out, "partition.yaml:1: kind: NetworkChaos takes what this cluster was started without", "hint: statequake cluster up --chaos")
	out = once(t, binary, dir, exitError, "hottest.yaml", "--cluster", cluster)
	wantInOrder(t, out, "hottest.yaml:1: spec.selector", "there is no load here that has a hottest key", "hint: ")
	out = once(t, binary, dir, 0, file("shaky.yaml"), "--fault", "kill-one", "--cluster", cluster)
	wantInOrder(t, out, "its trigger does not count by hand", "PodChaos pod-kill on n3", "recovered")

	t.Run("interrupted", func(t *testing.T) {
		p := begin(t, binary, "chaos", file("long.yaml"), "--cluster", cluster)
		p.hear("injected")
		if len(stopped(t, binary)) != 1 {
			t.Errorf("stopped: %v", stopped(t, binary))
		}
		p.Process.Signal(os.Interrupt)
		sent := time.Now()
		await(t, "the node goes on", func() bool { return len(stopped(t, binary)) == 0 })
		took := time.Since(sent)
		if got := p.end(); got != 0 || took > time.Second {
			t.Errorf("healed after %v, exit code %d\n%s", took, got, p.said())
		}
		wantInOrder(t, p.said(), "healing", "evidence   confirmed", "recovered")
		t.Logf("healed %v after Ctrl-C", took)
	})
	t.Run("skipped", func(t *testing.T) {
		p := begin(t, binary, "chaos", file("shaky.yaml"), "--cluster", cluster) // pause-one, then kill-one
		p.hear("injected")
		p.Process.Signal(syscall.SIGTERM)
		if got := p.end(); got != exitUnknown {
			t.Errorf("exit code %d", got)
		}
		wantInOrder(t, p.said(), "healing", "recovered", "kill-one was not injected")
	})
	for _, tt := range []struct{ file, seen string }{{"long.yaml", "injected"}, {"stress.yaml", "injected"}, {"fail.yaml", "injected"}} {
		t.Run("killed in "+tt.file, func(t *testing.T) {
			p := begin(t, binary, "chaos", file(tt.file), "--cluster", cluster)
			p.hear(tt.seen)
			p.Process.Kill()
			killed := time.Now()
			await(t, "all is healed", func() bool {
				return len(stopped(t, binary)) == 0 && len(workers(t, binary)) == 0 && len(running(t, binary)) == 4
			})
			t.Logf("healed %v after SIGKILL", time.Since(killed))
		})
	}

	up.Process.Signal(syscall.SIGTERM)
	if got := up.end(); got != 0 {
		t.Errorf("cluster up ended with %d\n%s", got, up.said())
	}
	gone(t, binary, 5*time.Second)
	if _, err := os.Lstat(filepath.Join(cluster, "control.sock")); !os.IsNotExist(err) {
		t.Errorf("control.sock is still there: %v", err)
	}
}

// TestChaosHarnessKilled: the harness is killed in the middle of a fault by hand;
// nothing is left, and its socket is known to be stale.
func TestChaosHarnessKilled(t *testing.T) {
	binary, dir := build(t)
	faultFiles(t, dir)
	for _, args := range [][]string{nil, {"--chaos"}} {
		up, cluster, _ := upCluster(t, binary, args...)
		p := begin(t, binary, "chaos", filepath.Join(dir, "long.yaml"), "--cluster", cluster)
		p.hear("injected")
		up.Process.Kill()
		if got := p.end(); got != exitError || !strings.Contains(p.said(), "the harness went away") {
			t.Errorf("%v: exit code %d\n%s", args, got, p.said())
		}
		gone(t, binary, 5*time.Second)
		out := once(t, binary, dir, exitError, "long.yaml", "--cluster", cluster)
		wantInOrder(t, out, "control.sock: its harness is gone")
	}
}

// TestChaosInSandbox: with --chaos a cluster takes faults of its network and
// disks, and its nodes answer who is outside.
func TestChaosInSandbox(t *testing.T) {
	binary, dir := build(t)
	faultFiles(t, dir)
	up, cluster, addrs := upCluster(t, binary, "--chaos")
	if strings.Contains(up.said(), "without namespaces of its own") {
		t.Skipf("no namespaces:\n%s", up.said())
	}
	for i := range 3 {
		if status, body, err := add(addrs[i]); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s %v", addrs[i], status, body, err)
		}
	}
	out, err := exec.Command(binary, "cluster", "show", cluster).CombinedOutput()
	if err != nil || !strings.Contains(string(out), addrs[2]) || strings.Contains(string(out), "statequake:") {
		t.Errorf("cluster show: %v\n%s", err, out)
	}

	p := begin(t, binary, "chaos", filepath.Join(dir, "partition.yaml"), "--cluster", cluster)
	p.hear("injected")
	if status, body, err := add(addrs[1]); err != nil || status != http.StatusOK {
		t.Errorf("by the majority: %d %s %v", status, body, err)
	}
	if got := p.end(); got != 0 {
		t.Errorf("partition: exit code %d\n%s", got, p.said())
	}
	wantInOrder(t, p.said(), "confirmed: n1->n2: ", "probes were lost", "recovered")
	for _, name := range []string{"full.yaml", "power.yaml"} {
		if strings.Contains(up.said(), "Not DiskFull") {
			t.Logf("no FUSE:\n%s", up.said())
			break
		}
		wantInOrder(t, once(t, binary, dir, 0, name, "--cluster", cluster), "evidence   confirmed", "recovered")
	}
	status, body, err := add(addrs[0])
	if err != nil || status != http.StatusOK || !strings.Contains(body, `"quantity":10`) {
		t.Errorf("after all that: %d %s %v", status, body, err)
	}
	up.Process.Signal(syscall.SIGTERM)
	if got := up.end(); got != 0 {
		t.Errorf("cluster up ended with %d\n%s", got, up.said())
	}
	gone(t, binary, 5*time.Second)
	if _, err := os.Stat(filepath.Join(cluster, "data", "n1", "store")); err != nil {
		t.Errorf("the data is not where it was: %v", err)
	}
}

// TestChaosOnStreams: without namespaces a cluster takes faults of what its nodes
// send each other, and none of disks.
func TestChaosOnStreams(t *testing.T) {
	binary, dir := build(t)
	faultFiles(t, dir)
	up, cluster, addrs := upCluster(t, binary, "--chaos", "--no-sandbox")
	wantInOrder(t, up.said(), "It takes ", "NetworkChaos", "Not DiskFull, IOChaos, PowerLoss: faults of disks need a mount namespace")
	out, err := exec.Command(binary, "cluster", "show", cluster).CombinedOutput()
	if err != nil || !strings.Contains(string(out), addrs[2]) || strings.Contains(string(out), "statequake:") {
		t.Errorf("cluster show: %v\n%s", err, out)
	}
	for _, addr := range addrs { // a path that nothing has passed yet proves nothing
		if status, body, err := add(addr); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s %v", addr, status, body, err)
		}
	}
	said := once(t, binary, dir, 0, "partition.yaml", "--cluster", cluster)
	wantInOrder(t, said, "confirmed: n1->n2: ", "recovered")
	wantInOrder(t, once(t, binary, dir, exitError, "full.yaml", "--cluster", cluster), "full.yaml:1: kind: faults of disks need a mount namespace", "hint: ")
	if status, body, err := add(addrs[0]); err != nil || status != http.StatusOK {
		t.Errorf("afterwards: %d %s %v", status, body, err)
	}
}

// TestChaosOfStrangers: faults go into nodes that somebody else has started, and
// are healed when whoever asked for them is killed.
func TestChaosOfStrangers(t *testing.T) {
	binary, dir := build(t)
	faultFiles(t, dir)
	_, _, addrs := upCluster(t, binary) // of which nothing but an address is used
	out := once(t, binary, dir, 0, "short.yaml", "--cluster", "http://"+addrs[1])
	wantInOrder(t, out, "ProcessPause on n", "(store-leader)", "confirmed", "recovered")
	out = once(t, binary, dir, exitError, "fail.yaml", "--cluster", addrs[1])
	wantInOrder(t, out, "fail.yaml:1: spec.action: pod-failure has to keep a node down", "hint: pod-kill")
	out = once(t, binary, dir, exitError, "partition.yaml", "--cluster", addrs[1])
	wantInOrder(t, out, "partition.yaml:1: kind: NetworkChaos takes nodes that this program has started", "hint: ")
	out = once(t, binary, dir, 0, "kill.yaml", "--cluster", addrs[1])
	wantInOrder(t, out, "has to start the node again", "confirmed", "recovered")

	p := begin(t, binary, "chaos", filepath.Join(dir, "long.yaml"), "--cluster", addrs[0])
	p.hear("injected")
	if len(stopped(t, binary)) != 1 {
		t.Errorf("stopped: %v", stopped(t, binary))
	}
	p.Process.Kill()
	killed := time.Now()
	await(t, "the node goes on", func() bool { return len(stopped(t, binary)) == 0 })
	if took := time.Since(killed); took > time.Second {
		t.Errorf("healed after %v", took)
	}
	await(t, "its harness ends", func() bool { return len(running(t, binary)) == 4 })
}

// TestChaosIntoRun: what somebody does by hand to a run is in its record and its
// verdict, and over before the audit.
func TestChaosIntoRun(t *testing.T) {
	binary, dir := build(t)
	faultFiles(t, dir)
	scenario := filepath.Join(dir, "calm.yaml")
	const calm = `
name: calm
seed: 7
system: {name: reference, nodes: 3, ack: durable}
load: {workload: {name: shopping-cart, keys: 100}, arrivals: {constant: 50/s}, warmup: 500ms, duration: 10s, timeout: 5s}
`
	if err := os.WriteFile(scenario, []byte(calm), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "run")
	run := begin(t, binary, "run", scenario, "--out", out)
	await(t, "the run takes faults", func() bool {
		_, err := os.Lstat(filepath.Join(out, "control.sock"))
		return err == nil
	})
	wantInOrder(t, once(t, binary, dir, 0, "short.yaml", "--cluster", out), "confirmed", "recovered")
	wantInOrder(t, once(t, binary, dir, 0, "hottest.yaml", "--cluster", out), "confirmed", "recovered")
	wantInOrder(t, once(t, binary, dir, exitError, "long.yaml", "--cluster", out), "long.yaml:1: spec.duration: 60s is not shorter than load.timeout (5s)")
	wantInOrder(t, once(t, binary, dir, exitError, "full.yaml", "--cluster", out), "full.yaml:1: kind: DiskFull takes what this run has not opened")
	last := begin(t, binary, "chaos", filepath.Join(dir, "fail.yaml"), "--cluster", out) // until the load ends
	last.hear("injected")
	if got := last.end(); got != 0 {
		t.Errorf("the last fault: exit code %d\n%s", got, last.said())
	}
	got := run.end()
	starved := got == exitUnknown && strings.Contains(run.said(), "the load generator did not get to run")
	if got != 0 && !starved {
		t.Errorf("run ended with %d\n%s", got, run.said())
	}
	v, err := reports.Judge(out)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]history.Proof{}
	for _, f := range v.Faults {
		if f.Injected == nil || f.Recovered == nil {
			t.Errorf("%s: %+v", f.Name, f)
		}
		names[f.Name] = f.Evidence.Verdict
	}
	for _, name := range []string{"short", "hottest", "fail"} {
		if names[name] != history.Confirmed {
			t.Errorf("the verdict has %v, without a confirmed %s", names, name)
		}
	}
	if !strings.Contains(strings.Join(v.Reasons, " "), "Injected by hand, and no part of the scenario that a replay runs: short, hottest, fail.") {
		t.Errorf("reasons: %q", v.Reasons)
	}
	gone(t, binary, 5*time.Second)
	wantInOrder(t, once(t, binary, dir, exitError, "short.yaml", "--cluster", out), "control.sock: nobody takes faults there")
}
