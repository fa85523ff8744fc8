package disk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	inside  = "STATEQUAKE_DISK_TEST"    // set: in a mount namespace of its own
	program = "STATEQUAKE_DISK_PROGRAM" // the small program to be, instead of the tests
)

// TestMain runs the tests in a mount namespace of their own, so that no mount
// outlives them.
func TestMain(m *testing.M) {
	if name := os.Getenv(program); name != "" {
		programs[name](os.Args[1:])
		os.Exit(0)
	}
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // Pdeathsig is about this thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = namespaces(os.Getuid() != 0)
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(max(1, exit.ExitCode()))
	case err != nil: // no namespaces here: every test says so
		os.Setenv(inside, err.Error())
		os.Exit(m.Run())
	}
}

func namespaces(user bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: unix.CLONE_NEWNS}
	if user {
		attr.Unshareflags = 0
		attr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// needFUSE skips the test where no FUSE file system can be mounted; it fails
// it if that is required.
func needFUSE(t testing.TB) {
	t.Helper()
	problem := ""
	if state := os.Getenv(inside); state != "1" {
		problem = "no mount namespace: " + state
	} else if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		problem = err.Error()
	} else {
		f.Close()
	}
	if problem == "" {
		return
	}
	if os.Getenv("STATEQUAKE_REQUIRE_FUSE") == "1" {
		t.Fatal("FUSE is required, but ", problem)
	}
	t.Skip("FUSE is not available: ", problem)
}

// fixture is a disk with its directories.
type fixture struct {
	*Disk
	mnt, back string
}

func newFixture(t testing.TB, options Options) *fixture {
	t.Helper()
	needFUSE(t)
	dir := t.TempDir()
	f := &fixture{mnt: filepath.Join(dir, "mnt"), back: filepath.Join(dir, "back")}
	for _, d := range []string{f.mnt, f.back} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f.mount(t, options)
	return f
}

func (f *fixture) mount(t testing.TB, options Options) {
	t.Helper()
	d, err := Mount(f.mnt, f.back, options)
	if err != nil {
		t.Fatal(err)
	}
	f.Disk = d
	t.Cleanup(func() {
		if err := d.Unmount(); err != nil {
			t.Error(err)
		}
		d.cleanUp() // of a disk that was frozen for good
	})
}

// crash loses the power at once and unmounts.
func (f *fixture) crash(t testing.TB, torn float64, seed uint64) Loss {
	t.Helper()
	Freeze(f.Disk)
	if err := f.Unmount(); err != nil {
		t.Fatal(err)
	}
	loss, err := f.Crash(torn, seed)
	if err != nil {
		t.Fatal(err)
	}
	return loss
}

func (f *fixture) path(name string) string { return filepath.Join(f.mnt, name) }

func (f *fixture) stable(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(f.back, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (f *fixture) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(f.path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) sync(t testing.TB, name string) {
	t.Helper()
	file, err := os.Open(f.path(name))
	if err == nil {
		err = errors.Join(file.Sync(), file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// child is a small program that runs on the disk and prints lines.
type child struct {
	cmd   *exec.Cmd
	lines chan string
}

func start(t testing.TB, name string, args ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command("/proc/self/exe", args...), lines: make(chan string, 1<<20)}
	c.cmd.Env = append(os.Environ(), program+"="+name)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.cmd.Stderr = io.Discard
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig is about this thread
		started <- c.cmd.Start()
		<-t.Context().Done()
		runtime.UnlockOSThread()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.kill() })
	go func() {
		defer close(c.lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			c.lines <- scan.Text()
		}
	}()
	return c
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// await returns the lines up to one with a prefix, or to the end of the program.
func (c *child) await(t testing.TB, prefix string) (lines []string, found bool) {
	t.Helper()
	patience := time.After(2 * time.Minute)
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				return lines, false
			}
			lines = append(lines, line)
			if strings.HasPrefix(line, prefix) {
				return lines, true
			}
		case <-patience:
			t.Fatalf("no line %q after 2 minutes; have %d lines, the last %q", prefix, len(lines), slices.Max(append(lines, "")))
		}
	}
}

// rest kills the program and returns the lines that it still had printed.
func (c *child) rest(t testing.TB) []string {
	t.Helper()
	c.cmd.Process.Kill()
	lines, _ := c.await(t, "no such line")
	c.cmd.Wait()
	return lines
}

var programs = map[string]func(args []string){
	"append": appendLines, "rename": renameFile, "etcd": runEtcd,
	"probe": func(args []string) {
		d, err := Mount(args[0], args[1], Options{})
		must(err)
		a, err := d.Apply(Effect{Methods: []string{"write"}, Percent: 100, Latency: time.Hour}, 1)
		must(err)
		go func() {
			for a.Count().Waiting == 0 {
				time.Sleep(time.Millisecond)
			}
			fmt.Println("probing")
		}()
		a.Evidence()
	},
	"namespace": func(args []string) {
		d, err := Mount(args[0], args[1], Options{PowerLoss: true})
		if err == nil {
			err = os.WriteFile(filepath.Join(args[0], "file"), []byte("text"), 0o600)
		}
		if err == nil {
			Freeze(d)
			err = d.Unmount()
		}
		if err == nil {
			_, err = d.Crash(0, 1)
		}
		fmt.Println("result:", err)
	},
}

func must(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}
