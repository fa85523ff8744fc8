package doctor

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"statequake/chaos/stress"
	"statequake/scenarios"
)

func TestMain(m *testing.M) {
	stress.Main()
	Main()
	os.Exit(m.Run())
}

// Each probe is in one row, and everything that scenarios need has one.
func TestChecks(t *testing.T) {
	var used []string
	var needs []scenarios.Need
	for _, c := range checks {
		used = append(used, c.probe)
		if c.need != "" {
			needs = append(needs, c.need)
		}
		if c.name == "" || c.use == "" || c.limit == 0 {
			t.Errorf("incomplete: %+v", c)
		}
	}
	slices.Sort(used)
	if want := slices.Sorted(maps.Keys(probes)); !slices.Equal(used, want) {
		t.Errorf("the rows use %v, the probes are %v", used, want)
	}
	slices.Sort(needs)
	if want := slices.Sorted(slices.Values(scenarios.Needs)); !slices.Equal(needs, want) {
		t.Errorf("there are rows for %v, scenarios need %v", needs, want)
	}
}

// Whatever is missing, there is a word on how to get it.
func TestEnable(t *testing.T) {
	for name := range probes {
		for _, r := range []result{{State: Missing}, {State: Missing, Namespaces: true}, {State: Missing, Step: "install", Errno: syscall.ENOENT},
			{State: Limited, Errno: syscall.EACCES}, {State: Limited, Errno: syscall.EPERM}, {State: Limited, Step: "cpus"}, {State: Limited, Step: "free"}, {State: Limited, Step: "sync"}} {
			if ways := enable(name, r); len(ways) == 0 {
				t.Errorf("%s: no way out of %+v", name, r)
			}
		}
	}
	if got := enable("fuse", result{Errno: syscall.EACCES}); got[0] != "sudo chmod 666 /dev/fuse" {
		t.Errorf("a device that is closed to us: %v", got)
	}
	if got := enable("fuse", result{Errno: syscall.ENOENT}); got[0] != "sudo modprobe fuse" {
		t.Errorf("no device: %v", got)
	}
}

// children are the processes that have the environment of a probe.
func children(t *testing.T) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if strings.Contains(string(text), "TMPDIR="+os.Getenv("TMPDIR")+"\x00") && strings.Contains(string(text), marker+"=") {
			pids = append(pids, strings.Split(file, "/")[2])
		}
	}
	return pids
}

// nothingLeft checks that the probes left no process, and no file in dir.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left := children(t)
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Errorf("processes are left: %v", left)
			break
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("files are left: %v, %v", names, err)
	}
}

func TestExamine(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Chdir(dir)
	var rows []Capability
	if err := Examine(t.Context(), func(c Capability) { rows = append(rows, c) }); err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(checks) || !CanRun(rows) {
		t.Errorf("%d rows of %d, can run: %v", len(rows), len(checks), CanRun(rows))
	}
	for _, c := range rows {
		t.Logf("%s: %s: %s", c.Name, c.State, c.Found)
		switch c.State {
		case OK:
			if c.Enable != nil {
				t.Errorf("%s is ok, and still to be enabled: %v", c.Name, c.Enable)
			}
		case Limited, Missing:
			if c.Enable == nil || c.Found == "" {
				t.Errorf("%s is %s: found %q, enable %v", c.Name, c.State, c.Found, c.Enable)
			}
		default:
			t.Errorf("%s has the state %q", c.Name, c.State)
		}
		if strings.HasPrefix(c.Found, "probe: ") {
			t.Errorf("%s: the probe itself failed: %s", c.Name, c.Found)
		}
	}
	nothingLeft(t, dir)
}

// A probe that does not come back is ended with all that it started.
func TestTimeLimit(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, name := range []string{"stress", "postgres", "switch"} {
		i := slices.IndexFunc(checks, func(c check) bool { return c.probe == name })
		c := checks[i]
		c.limit = 150 * time.Millisecond
		scratch, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		r := c.try(context.Background(), scratch)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		if r.State == OK && name != "switch" || r.State == Missing && !strings.Contains(r.Found, "no result within 150ms") {
			t.Errorf("%s: %+v", name, r)
		}
		if err := os.RemoveAll(scratch); err != nil {
			t.Error(err)
		}
	}
	nothingLeft(t, dir)
}

func TestCanRun(t *testing.T) {
	for _, tt := range []struct {
		rows []Capability
		want bool
	}{
		{nil, false},
		{[]Capability{{Required: true, State: OK}, {State: Missing}}, true},
		{[]Capability{{Required: true, State: Limited}}, true},
		{[]Capability{{Required: true, State: Missing}, {State: OK}}, false},
	} {
		if got := CanRun(tt.rows); got != tt.want {
			t.Errorf("%+v: %v", tt.rows, got)
		}
	}
}
