package clock

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also the program whose clocks are moved: started with a
// mode in this variable.
const modeVariable = "CLOCK_TEST_MODE"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(modeVariable); mode {
	case "":
		os.Exit(m.Run())
	case "tell":
		tell()
	case "watch":
		watch()
	case "serve":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr())
		http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/dateless" {
				w.Header()["Date"] = nil
			}
		}))
	case "exec": // turns into another program
		os.Setenv(modeVariable, "tell")
		syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	case "cost":
		cost()
	case "leave": // ends without another word
	default:
		fmt.Println("unknown mode", mode)
		os.Exit(1)
	}
}

// tell answers each line with the time: the wall clock, the monotonic clock,
// and both by direct system calls, in nanoseconds.
func tell() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		now := time.Now()
		fmt.Println(now.Round(0).UnixNano(), int64(now.Sub(epoch)), read(unix.CLOCK_REALTIME), read(unix.CLOCK_MONOTONIC)-epochDirect)
	}
}

// The zero of the monotonic clock, before anybody moved it.
var (
	epoch       = time.Now()
	epochDirect = read(unix.CLOCK_MONOTONIC)
)

func read(id int32) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

// The offsets between which watched clocks jump.
var offsets = []time.Duration{0, 90 * time.Minute, -90*time.Minute + 700*time.Millisecond}

// watch compares the wall clock with the true one until its input ends, and
// says how often it was off by something else than one of offsets.
func watch() {
	done := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(done)
	}()
	fmt.Println("up")
	var seen [3]int
	wrong := 0
	for {
		select {
		case <-done:
			fmt.Println(wrong, min(seen[0], seen[1], seen[2]) > 0)
			return
		default:
		}
		from := read(unix.CLOCK_REALTIME)
		wall := time.Now().UnixNano()
		to := read(unix.CLOCK_REALTIME)
		known := false
		for i, o := range offsets {
			if from+int64(o) <= wall && wall <= to+int64(o) {
				seen[i]++
				known = true
			}
		}
		if !known {
			wrong++
		}
	}
}

// cost answers each number with the CPU time that as many calls of time.Now
// take, in nanoseconds.
func cost() {
	var n int
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Sscan(lines.Text(), &n)
		begin := read(unix.CLOCK_PROCESS_CPUTIME_ID)
		var now time.Time
		for range n {
			now = time.Now()
		}
		runtime.KeepAlive(now)
		fmt.Println(read(unix.CLOCK_PROCESS_CPUTIME_ID) - begin)
	}
}

// child is a running program with clocks of its own.
type child struct {
	*Clock
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	t      testing.TB
}

// program is this binary in a mode, not started.
func program(t testing.TB, mode string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), modeVariable+"="+mode)
	cmd.Stderr = os.Stderr
	return cmd
}

// startChild starts cmd by start, until the end of the test.
func startChild(t testing.TB, cmd *exec.Cmd, start func(*exec.Cmd) (*Clock, error)) *child {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if c != nil {
			c.Close()
		}
	})
	return &child{c, cmd, stdin, bufio.NewReader(stdout), t}
}

// right starts a program with right clocks.
func right(cmd *exec.Cmd) (*Clock, error) { return Start(cmd, 0, 0) }

// plain starts a program as anybody would.
func plain(cmd *exec.Cmd) (*Clock, error) { return nil, cmd.Start() }

func (c *child) line() string {
	c.t.Helper()
	text, err := c.stdout.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(text)
}

// off asks a program in mode tell how far its clocks are from the true ones.
func (c *child) off() (wall, monotonic time.Duration) {
	c.t.Helper()
	// The two readings are not at the same instant: the best of some.
	for range 20 {
		fmt.Fprintln(c.stdin)
		var w, m, trueWall, trueMonotonic int64
		if _, err := fmt.Sscan(c.line(), &w, &m, &trueWall, &trueMonotonic); err != nil {
			c.t.Fatal(err)
		}
		wall, monotonic = time.Duration(w-trueWall), time.Duration(m-trueMonotonic)
		if wall.Round(time.Second)-wall < time.Millisecond && monotonic.Round(time.Second)-monotonic < time.Millisecond {
			break
		}
	}
	return wall, monotonic
}

// want checks the clocks, to whole seconds: all offsets here are.
func (c *child) want(wall, monotonic time.Duration) {
	c.t.Helper()
	w, m := c.off()
	if w.Round(time.Second) != wall || m.Round(time.Second) != monotonic {
		c.t.Errorf("clocks are off by %v and %v, want %v and %v", w, m, wall, monotonic)
	}
}

func (c *child) set(offset time.Duration, clocks Clocks) {
	c.t.Helper()
	if err := c.Set(offset, clocks); err != nil {
		c.t.Fatal(err)
	}
}

func needStub(t testing.TB) {
	t.Helper()
	c, err := right(program(t, "leave"))
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestSet(t *testing.T) {
	needStub(t)
	c := startChild(t, program(t, "tell"), right)
	other := startChild(t, program(t, "tell"), right)
	stranger := startChild(t, program(t, "tell"), plain)
	c.want(0, 0)

	c.set(time.Hour, 0)
	c.want(time.Hour, 0)
	c.set(-24*time.Hour, Wall)
	c.want(-24*time.Hour, 0)
	c.set(7*time.Second, Wall|Monotonic)
	c.want(7*time.Second, 7*time.Second)
	c.set(1000*time.Hour, Monotonic)
	c.want(0, 1000*time.Hour)

	other.want(0, 0)
	stranger.want(0, 0)
	other.set(5*time.Second, 0)
	other.want(5*time.Second, 0)

	if err := c.Reset(); err != nil {
		t.Fatal(err)
	}
	c.want(0, 0)
	other.want(5*time.Second, 0)
}

// Every reading is off by one of the offsets that were set, and by no mixture
// of two.
func TestSetWhileRead(t *testing.T) {
	needStub(t)
	c := startChild(t, program(t, "watch"), right)
	c.line()
	for i := range 3000 {
		c.set(offsets[i%len(offsets)], 0)
		if i%10 == 0 {
			time.Sleep(100 * time.Microsecond) // or the program would see few of them
		}
	}
	c.stdin.Close()
	if got := c.line(); got != "0 true" {
		t.Errorf("wrong readings, and whether all offsets were seen: %s, want 0 true", got)
	}
}

func TestTwentyStarts(t *testing.T) {
	needStub(t)
	for i := range 20 {
		c := startChild(t, program(t, "tell"), right)
		c.set(time.Duration(i)*time.Minute, 0)
		c.want(time.Duration(i)*time.Minute, 0)
	}
}

func TestProcessThatIsGone(t *testing.T) {
	needStub(t)
	c := startChild(t, program(t, "tell"), right)
	c.want(0, 0)
	c.cmd.Process.Kill()
	c.cmd.Wait()
	if err := c.Set(time.Hour, 0); !errors.Is(err, ErrGone) {
		t.Errorf("%v, want %v", err, ErrGone)
	}
	again := startChild(t, program(t, "tell"), right)
	again.want(0, 0)
	again.set(time.Hour, 0)
	again.want(time.Hour, 0)

	turned := startChild(t, program(t, "exec"), right)
	turned.want(0, 0)
	if err := turned.Set(time.Hour, 0); !errors.Is(err, ErrGone) {
		t.Errorf("%v, want %v", err, ErrGone)
	}
	turned.want(0, 0)
}

// What the caller wants of the process is kept: here a session of its own, and
// its own end when the parent ends.
func TestStartKeepsAttributes(t *testing.T) {
	needStub(t)
	cmd := program(t, "tell")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	c := startChild(t, cmd, right)
	c.want(0, 0)
	if sid, err := unix.Getsid(cmd.Process.Pid); err != nil || sid != cmd.Process.Pid {
		t.Errorf("session %d, %v; want %d", sid, err, cmd.Process.Pid)
	}
	if cmd.SysProcAttr.Pdeathsig != syscall.SIGTERM {
		t.Errorf("Pdeathsig %v, want SIGTERM", cmd.SysProcAttr.Pdeathsig)
	}
	c.stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the program ended with %v", err)
	}
}

// A clock is off from the first instruction on: the program's own epoch, taken
// before main, is, too.
func TestStartWithAnOffset(t *testing.T) {
	needStub(t)
	for name, start := range map[string]func(*exec.Cmd, time.Duration, Clocks) (*Clock, error){
		"Start": Start,
		"StartHere": func(cmd *exec.Cmd, offset time.Duration, clocks Clocks) (*Clock, error) {
			runtime.LockOSThread()
			t.Cleanup(runtime.UnlockOSThread)
			return StartHere(cmd, offset, clocks)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := startChild(t, program(t, "tell"), func(cmd *exec.Cmd) (*Clock, error) {
				return start(cmd, time.Hour, Wall|Monotonic)
			})
			c.want(time.Hour, 0)
			if err := c.Reset(); err != nil {
				t.Fatal(err)
			}
			c.want(0, -time.Hour)
		})
	}
}

func TestStartOfNothing(t *testing.T) {
	if _, err := right(exec.Command("/nonexistent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want %v", err, os.ErrNotExist)
	}
}

// As a user without rights, and in a user namespace of that user.
func TestWithoutRights(t *testing.T) {
	needStub(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "clock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	exe = filepath.Join(dir, "clock.test")
	if err := os.WriteFile(exe, text, 0o755); err != nil {
		t.Fatal(err)
	}
	id := os.Getuid()
	attributes := map[string]*syscall.SysProcAttr{
		"namespace": {
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		},
	}
	if id == 0 {
		attributes["user"] = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 23456}}
	}
	for name, attr := range attributes {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(exe, "-test.v", "-test.run=^(TestSet|TestProcessThatIsGone|TestPrograms)$")
			cmd.Dir = dir
			cmd.SysProcAttr = attr
			out, err := cmd.CombinedOutput()
			if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.ENOSPC) {
				t.Skipf("no user namespaces: %v", err)
			}
			if err != nil || !strings.Contains(string(out), "--- PASS: TestSet ") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

const inC = `
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int main(void) {
	char line[100];
	while (fgets(line, sizeof line, stdin)) {
		struct timespec t, mono, coarse, direct, directMono;
		struct timeval v;
		time_t stored = 0, s;
		struct timezone z;
		clock_gettime(CLOCK_REALTIME, &t);
		clock_gettime(CLOCK_MONOTONIC, &mono);
		clock_gettime(CLOCK_REALTIME_COARSE, &coarse);
		gettimeofday(&v, &z);
		gettimeofday(NULL, &z);
		s = time(&stored);
		syscall(SYS_clock_gettime, CLOCK_REALTIME, &direct);
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &directMono);
		if (s != stored || s != time(NULL) && s + 1 != time(NULL)) s = 0;
		if (t.tv_nsec < 0 || t.tv_nsec > 999999999 || v.tv_usec < 0 || v.tv_usec > 999999) s = 0;
#define OFF(sec, sub, truth) ((double)((sec) - truth.tv_sec) + (sub) - truth.tv_nsec * 1e-9)
		printf("%.6f %.6f %.6f %.6f %.6f\n",
			OFF(t.tv_sec, t.tv_nsec * 1e-9, direct), OFF(coarse.tv_sec, coarse.tv_nsec * 1e-9, direct),
			OFF(v.tv_sec, v.tv_usec * 1e-6, direct), OFF(s, 0.5, direct),
			OFF(mono.tv_sec, mono.tv_nsec * 1e-9, directMono));
		fflush(stdout);
	}
	return 0;
}
`

// Programs that a C library tells the time.
func TestPrograms(t *testing.T) {
	needStub(t)
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip(err)
	}
	source := filepath.Join(t.TempDir(), "tell.c")
	if err := os.WriteFile(source, []byte(inC), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{"dynamic": nil, "static": {"-static"}} {
		t.Run(name, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), "tell")
			args := append([]string{"-w", "-o", binary, source}, flags...)
			if out, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
				t.Skipf("%v: %s", err, out)
			}
			c := startChild(t, exec.Command(binary), right)
			check := func(wall, coarse, monotonic float64) {
				t.Helper()
				fmt.Fprintln(c.stdin)
				var off [5]float64
				line := c.line()
				if _, err := fmt.Sscan(line, &off[0], &off[1], &off[2], &off[3], &off[4]); err != nil {
					t.Fatal(err)
				}
				// time has no fractions of a second, and the coarse clocks
				// lag; a slow machine may take its time between two readings.
				for i, want := range []float64{wall, coarse, wall, wall, monotonic} {
					if math.Abs(off[i]-want) > 1.5 {
						t.Errorf("clock %d of clock_gettime, coarse, gettimeofday, time, monotonic is off by %v, want %v", i+1, off[i], want)
					}
				}
			}
			check(0, 0, 0)
			c.set(time.Hour+999*time.Millisecond, 0)
			check(3600.999, 3600.999, 0)
			c.set(-time.Hour-time.Millisecond, Realtime|Monotonic)
			check(-3600.001, 0, -3600.001)
			for range 50 { // carries of all fractions
				c.set(500*time.Millisecond, Wall)
				check(0.5, 0.5, 0)
			}
			c.set(0, 0)
			check(0, 0, 0)
		})
	}
}

func TestParseClocks(t *testing.T) {
	for text, want := range map[string]Clocks{
		"":                               Wall,
		"CLOCK_REALTIME":                 Realtime,
		"CLOCK_REALTIME CLOCK_MONOTONIC": Realtime | Monotonic,
		"CLOCK_BOOTTIME_ALARM":           1 << unix.CLOCK_BOOTTIME_ALARM,
	} {
		got, err := ParseClocks(strings.Fields(text))
		if err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	_, err := ParseClocks([]string{"CLOCK_REALTIME", "CLOCK_TIME"})
	if err == nil || !strings.HasPrefix(err.Error(), `clockIds[1]: unknown clock "CLOCK_TIME"; have CLOCK_REALTIME, CLOCK_MONOTONIC, `) {
		t.Error(err)
	}
}

// What time.Now costs a program: without the stub, with it, and while the wall
// clock is off.
func BenchmarkNow(b *testing.B) {
	needStub(b)
	for _, bb := range []struct {
		name  string
		start func(*exec.Cmd) (*Clock, error)
	}{
		{"plain", plain},
		{"stub", right},
		{"moved", func(cmd *exec.Cmd) (*Clock, error) { return Start(cmd, time.Hour, Wall) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			c := startChild(b, program(b, "cost"), bb.start)
			fmt.Fprintln(c.stdin, b.N)
			var ns int64
			if _, err := fmt.Sscan(c.line(), &ns); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(ns)/float64(b.N), "ns/op") // without the start
		})
	}
}
