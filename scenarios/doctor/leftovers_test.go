package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"statequake/fixtures/lease"
)

// runVariable makes the test binary a run in that directory: it takes a lease and
// leaves what a run can leave. "keep " before the directory keeps the data.
const runVariable = "DOCTOR_TEST_RUN"

func init() {
	dir, keep := strings.CutPrefix(os.Getenv(runVariable), "keep ")
	if dir == "" {
		return
	}
	check := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	l, err := lease.Take(dir, keep)
	check(err)
	check(os.Setenv(lease.Variable, l.Token))
	check(os.MkdirAll(filepath.Join(dir, "data", "postgres"), 0o755))
	check(os.WriteFile(filepath.Join(dir, "data", "file"), make([]byte, 100<<10), 0o644))
	const key = 0x5174_0001
	id, err := unix.SysvShmGet(key, 56, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if errors.Is(err, unix.EEXIST) {
		id, err = 0, nil // another run of this test has it
	}
	check(err)
	if id != 0 {
		pid := os.Getpid()
		if keep {
			pid = -pid // as a server writes it that initdb runs
		}
		text := fmt.Sprintf("%d\n/data\n0\n1\n\n127.0.0.1\n%d %d\nready\n", pid, key, id)
		check(os.WriteFile(filepath.Join(dir, "data", "postgres", "postmaster.pid"), []byte(text), 0o600))
	}
	_, err = net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "control.sock")})
	check(err)
	os.Unsetenv(runVariable)
	child := exec.Command("sleep", "600") // by no parent death signal
	check(child.Start())
	fmt.Println(child.Process.Pid, id)
	io.Copy(io.Discard, os.Stdin)
	check(l.End())
	os.Exit(0)
}

// fakeRun is a run that is killed by kill.
type fakeRun struct {
	dir     string
	child   int
	segment int // 0 if there is none
	kill    func()
}

func startRun(t *testing.T, dir, keep string) fakeRun {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), runVariable+"="+keep+dir)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := fakeRun{dir: dir, kill: func() { cmd.Process.Kill(); cmd.Wait() }}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &r.child, &r.segment)
	}
	t.Cleanup(func() {
		r.kill()
		unix.Kill(r.child, unix.SIGKILL)
		if r.segment != 0 {
			unix.SysvShmCtl(r.segment, unix.IPC_RMID, nil)
		}
	})
	if err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return r
}

// runs tells whether the run's child still runs.
func (r fakeRun) runs() bool {
	return unix.Kill(r.child, 0) == nil && !strings.Contains(status(r.child), "\nState:\tZ")
}

func status(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return string(text)
}

func (r fakeRun) names(t *testing.T) (names []string) {
	t.Helper()
	list, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func segmentThere(id int) bool {
	var desc unix.SysvShmDesc
	_, err := unix.SysvShmCtl(id, unix.IPC_STAT, &desc)
	return err == nil
}

func clean(t *testing.T, dir string) (what []string, s *Survey) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	s, err := Clean(dir, func(l Leftover, err error) {
		if err != nil {
			t.Errorf("%s: %s: %v", l.Run, l.What, err)
		}
		what = append(what, l.What)
	})
	if err != nil {
		t.Fatal(err)
	}
	return what, s
}

// A dead run's leftovers go, and nothing else: not what goes on, nor what its
// links lead to.
func TestClean(t *testing.T) {
	top := t.TempDir()
	dead := startRun(t, filepath.Join(top, "deeper", "dead"), "")
	living := startRun(t, filepath.Join(top, "living"), "")
	if dead.segment == 0 {
		t.Log("no shared memory: another test has the key")
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(elsewhere, "precious"), 0o755),
		os.Symlink(elsewhere, filepath.Join(dead.dir, "data", "link")),
		os.WriteFile(filepath.Join(dead.dir, "history.jsonl"), []byte("{}\n"), 0o644),
	); err != nil {
		t.Fatal(err)
	}

	what, s := clean(t, top)
	if len(what) > 0 || s.Alive != 2 {
		t.Fatalf("while both live: %v, %+v", what, s)
	}
	dead.kill()
	looked, err := Look(top)
	if err != nil || len(looked.Found) == 0 || looked.Bytes() < 100<<10 || !dead.runs() || len(dead.names(t)) != 4 {
		t.Errorf("a look changes nothing: %+v, %v, %v", looked, err, dead.names(t))
	}
	what, s = clean(t, top)
	want := []string{fmt.Sprintf("process %d (sleep)", dead.child), "data of the nodes", "socket control.sock", "lock run.lock"}
	if dead.segment != 0 {
		want = slices.Insert(want, 1, fmt.Sprintf("shared memory %d (key 0x51740001) of PostgreSQL", dead.segment))
	}
	if !slices.Equal(what, want) || s.Alive != 1 || s.Dead != 1 {
		t.Errorf("removed %v, want %v; %+v", what, want, s)
	}
	if dead.runs() || dead.segment != 0 && segmentThere(dead.segment) {
		t.Errorf("the process runs: %v, or the memory is there", dead.runs())
	}
	if names := dead.names(t); !slices.Equal(names, []string{"history.jsonl"}) {
		t.Errorf("of the dead run there is %v", names)
	}
	if _, err := os.Stat(filepath.Join(elsewhere, "precious")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	if !living.runs() || !slices.Equal(living.names(t), []string{"control.sock", "data", "run.lock"}) {
		t.Errorf("the living run: %v, %v", living.runs(), living.names(t))
	}
	if what, s := clean(t, top); len(what) > 0 || s.Dead > 0 {
		t.Errorf("once more: %v", what)
	}
}

// The copy of a dead run proves nothing, nor does that of a living one.
func TestCleanCopy(t *testing.T) {
	top := t.TempDir()
	run := startRun(t, filepath.Join(top, "run"), "")
	copied := filepath.Join(top, "copy")
	for _, name := range []string{"data/file", lease.File} {
		text, err := os.ReadFile(filepath.Join(run.dir, name))
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(copied, name)), 0o755), os.WriteFile(filepath.Join(copied, name), text, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	what, s := clean(t, top)
	if len(what) > 0 || s.Alive != 1 || len(s.Unproven) != 1 || !strings.HasSuffix(s.Unproven[0], "copy: run.lock: it is a copy") {
		t.Errorf("removed %v; %+v", what, s)
	}
	if !run.runs() {
		t.Error("the copy's token ended the living run's process")
	}
}

func TestCleanKeepsData(t *testing.T) {
	top := t.TempDir()
	run := startRun(t, filepath.Join(top, "run"), "keep ")
	run.kill()
	what, _ := clean(t, top)
	if run.segment != 0 && segmentThere(run.segment) {
		t.Error("the shared memory is there")
	}
	if slices.Contains(what, "data of the nodes") || !slices.Equal(run.names(t), []string{"data"}) || run.runs() {
		t.Errorf("removed %v, there is %v", what, run.names(t))
	}
}

// A run directory that is itself named, data that is a link, and one without a
// lock.
func TestCleanLinks(t *testing.T) {
	run := startRun(t, filepath.Join(t.TempDir(), "run"), "")
	run.kill()
	elsewhere := t.TempDir()
	data := filepath.Join(run.dir, "data")
	if err := errors.Join(os.RemoveAll(data), os.WriteFile(filepath.Join(elsewhere, "precious"), nil, 0o644), os.Symlink(elsewhere, data)); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	if err := os.Symlink(run.dir, filepath.Join(outside, "link")); err != nil {
		t.Fatal(err)
	}
	if what, s := clean(t, outside); len(what) > 0 || s.Dead > 0 {
		t.Errorf("a link to a run was followed: %v", what)
	}
	clean(t, run.dir)
	if names := run.names(t); len(names) > 0 {
		t.Errorf("there is %v", names)
	}
	if _, err := os.Stat(filepath.Join(elsewhere, "precious")); err != nil {
		t.Error(err)
	}
	unmarked := t.TempDir()
	if err := os.Mkdir(filepath.Join(unmarked, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if what, s := clean(t, unmarked); len(what) > 0 || s.Dead > 0 {
		t.Errorf("without a lock: %v", what)
	}
	if s, err := Look(filepath.Join(unmarked, "nowhere")); err != nil || len(s.Found) > 0 {
		t.Errorf("nowhere: %+v, %v", s, err)
	}
}

// A doctor that is killed leaves its folder.
func TestCleanDoctor(t *testing.T) {
	temp := t.TempDir()
	run := startRun(t, filepath.Join(temp, folder+"123"), "")
	other := filepath.Join(temp, folder+"other") // somebody's, without a lock
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", temp)
	nowhere := filepath.Join(temp, "nowhere")
	if s, err := Look(nowhere); err != nil || len(s.Found) > 0 {
		t.Errorf("while it lives: %+v, %v", s, err)
	}
	run.kill()
	s, err := Clean(nowhere, func(l Leftover, err error) {
		if err != nil {
			t.Error(err)
		}
	})
	if err != nil || len(s.Found) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if names, _ := filepath.Glob(filepath.Join(temp, "*")); !slices.Equal(names, []string{other}) {
		t.Errorf("there is %v", names)
	}
}

// What is mounted below the data of a dead run is not of the run.
func TestMounted(t *testing.T) {
	if err := mounted("/", "proc"); err == nil || !strings.Contains(err.Error(), "something is mounted at /proc\nhint: umount /proc") {
		t.Errorf("got %v", err)
	}
	if err := mounted(t.TempDir(), "data"); err != nil {
		t.Error(err)
	}
	if got := unescape(`/a\040b\134c\9`); got != `/a b\c\9` {
		t.Errorf("got %q", got)
	}
}
