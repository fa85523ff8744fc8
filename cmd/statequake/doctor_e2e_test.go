//go:build e2e

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"statequake/scenarios"
	"statequake/scenarios/doctor"
)

// examined is what doctor --json prints where a shell script ends with it.
func examined(t *testing.T, cmd *exec.Cmd) map[string]doctor.Capability {
	t.Helper()
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var d diagnosis
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	rows := map[string]doctor.Capability{}
	for _, c := range d.Capabilities {
		rows[c.Name] = c
	}
	return rows
}

// TestDoctorWithoutNamespaces: where user namespaces are forbidden the quickstart
// runs all the same; the scenarios that doctor names are refused, and no others
// are for want of namespaces.
func TestDoctorWithoutNamespaces(t *testing.T) {
	binary, dir := build(t)
	forbidden := func(args ...string) *exec.Cmd {
		cmd := exec.Command("unshare", append([]string{"--user", "--map-root-user", "sh", "-c", `echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"`, "sh", binary}, args...)...)
		cmd.Dir = dir
		return cmd
	}
	rows := examined(t, forbidden("doctor", "--json"))
	row := rows[string(scenarios.NeedNamespaces)]
	if row.State != doctor.Missing || !strings.Contains(strings.Join(row.Enable, "\n"), "sudo sysctl user.max_user_namespaces=") {
		t.Errorf("namespaces are %+v", row)
	}
	if c := rows["moved clocks"]; c.State != doctor.OK {
		t.Errorf("clocks need no namespaces: %+v", c)
	}
	if len(row.Scenarios) == 0 {
		t.Error("no scenario is refused")
	}
	for _, name := range row.Scenarios {
		text, err := forbidden("run", name, "--out", filepath.Join(dir, name)).CombinedOutput()
		if code(err) != exitError || !strings.Contains(string(text), "of the run's own, and this run has none") {
			t.Errorf("%s: exit code %d, want a refusal\n%s", name, code(err), text)
		}
	}
	for name, set := range map[string]string{"quickstart": "faults[0].at=100ms", "clock-skew": "faults.behind="} {
		if slices.Contains(row.Scenarios, name) {
			t.Errorf("%s is said to be refused", name)
		}
		text, err := forbidden("run", name, "--out", filepath.Join(dir, name), "--set", "load.duration=3s", "--set", set).CombinedOutput()
		if !strings.Contains(string(text), "Run directory: ") {
			t.Errorf("%s: exit code %d\n%s", name, code(err), text)
		}
	}
}

// TestDoctorAsOrdinaryUser: it is of use to somebody who is not root.
func TestDoctorAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the other tests are run by an ordinary user")
	}
	binary, _ := build(t)
	dir, err := os.MkdirTemp("", "statequake-user-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "statequake")
	if err := os.WriteFile(program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	ordinary := func(args ...string) *exec.Cmd {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 23456}}
		return cmd
	}
	for name, c := range examined(t, ordinary("doctor", "--json")) {
		if c.Required && c.State == doctor.Missing || strings.HasPrefix(c.Found, "probe: ") {
			t.Errorf("%s: %+v", name, c)
		}
	}
	// Below a directory that is not theirs nothing can be recorded.
	cmd := ordinary("doctor")
	cmd.Dir = "/"
	out, err := cmd.Output()
	if code(err) != exitError || !strings.Contains(string(out), "No scenario runs here: run directory missing.") {
		t.Errorf("in /: exit code %d\n%s", code(err), out)
	}
}
