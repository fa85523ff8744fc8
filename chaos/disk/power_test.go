package disk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"statequake/history"
)

// appendLines appends numbered lines and prints the number of each when it is
// acknowledged: before or after its fsync.
func appendLines(args []string) {
	file, err := os.OpenFile(args[0], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	must(err)
	for n := 1; ; n++ {
		_, err = fmt.Fprintf(file, "%d\n", n)
		must(err)
		if args[1] == "before" {
			fmt.Println(n)
		}
		must(file.Sync())
		if args[1] == "after" {
			fmt.Println(n)
		}
	}
}

// times is how often a loss of power is repeated: as often as
// STATEQUAKE_TIMES says, else usually.
func times(t *testing.T, usually int) int {
	text := os.Getenv("STATEQUAKE_TIMES")
	if text == "" {
		return usually
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("STATEQUAKE_TIMES=%s: want a number from 1 on", text)
	}
	return n
}

// The power is lost between the write and the fsync of a line, each time
// another one.
func TestAck(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		lost, n := 0, times(t, 10)
		for i := range n {
			line := 1 + i%17
			f := newFixture(t, Options{PowerLoss: true})
			frozen := make(chan struct{})
			if _, err := f.On(Trigger{Method: "fsync", Path: "log", Nth: line, Func: func() {
				Freeze(f.Disk)
				close(frozen)
			}}); err != nil {
				t.Fatal(err)
			}
			c := start(t, "append", f.path("log"), when)
			<-frozen
			acked := 0
			for _, line := range c.rest(t) {
				if !strings.HasPrefix(line, "error") {
					acked++
				}
			}
			f.crash(t, 0, uint64(i))
			survived := 0
			if line > 1 { // before its first fsync the file has no name
				survived = strings.Count(f.stable(t, "log"), "\n")
			} else if _, err := os.Stat(filepath.Join(f.back, "log")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a file that was never synced is there: %v", err)
			}
			want := line
			if when == "after" {
				want--
			}
			if acked != want || survived != line-1 {
				t.Errorf("ack %s fsync: %d acknowledged, %d survived; want %d, %d", when, acked, survived, want, line-1)
			}
			if acked > survived {
				lost++
			}
			ev := f.PowerEvidence()
			if ev.Proof != history.Confirmed || !strings.Contains(ev.Detail, "1 pages in 1 files") {
				t.Errorf("%s: %s", ev.Proof, ev.Detail)
			}
		}
		t.Logf("acknowledged %s fsync: an acknowledged line was lost in %d of %d losses of power", when, lost, n)
	}
}

// renameFile replaces a file the usual way, up to the fsync of the directory.
func renameFile(args []string) {
	dir := args[0]
	tmp, name := filepath.Join(dir, "tmp"), filepath.Join(dir, "name")
	must(os.WriteFile(tmp, []byte("new"), 0o644))
	file, err := os.Open(tmp)
	must(err)
	must(file.Sync())
	must(os.Rename(tmp, name))
	if args[1] == "file" {
		must(file.Sync())
	}
	if args[1] == "dir" {
		d, err := os.Open(dir)
		must(err)
		must(d.Sync())
	}
	fmt.Println("done")
	select {}
}

func TestRename(t *testing.T) {
	for _, tt := range []struct {
		strict bool
		sync   string // after the rename
		want   string
	}{
		{true, "nothing", "old"}, {true, "file", "old"}, {true, "dir", "new"},
		{false, "nothing", "old"}, {false, "file", "new"}, {false, "dir", "new"},
	} {
		lost, n := 0, times(t, 1)
		for i := range n {
			options := Options{PowerLoss: true, Strict: tt.strict}
			f := newFixture(t, options)
			f.write(t, "name", "old")
			f.sync(t, "name")
			f.sync(t, "")
			c := start(t, "rename", f.mnt, tt.sync)
			if lines, ok := c.await(t, "done"); !ok {
				t.Fatal(lines)
			}
			Freeze(f.Disk)
			c.kill()
			f.crash(t, 0, uint64(i))
			got := f.stable(t, "name")
			if got != tt.want {
				t.Errorf("strict %v, fsync of %s: the name holds %q, want %q", tt.strict, tt.sync, got, tt.want)
			}
			if got == "old" {
				lost++
			}
			f.mount(t, options) // it can go on
			if data, err := os.ReadFile(f.path("name")); err != nil || string(data) != tt.want {
				t.Errorf("after the crash: %q, %v", data, err)
			}
		}
		t.Logf("%s, after the rename fsync of %s: the rename was lost in %d of %d losses of power",
			map[bool]string{true: "strict", false: "ext4"}[tt.strict], tt.sync, lost, n)
	}
}

func TestSyncWrites(t *testing.T) {
	for _, flag := range []int{0, syscall.O_DSYNC, syscall.O_SYNC} {
		f := newFixture(t, Options{PowerLoss: true})
		file, err := os.OpenFile(f.path("file"), os.O_CREATE|os.O_WRONLY|flag, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString("text"); err != nil {
			t.Fatal(err)
		}
		file.Close()
		f.crash(t, 0, 1)
		_, err = os.Stat(filepath.Join(f.back, "file"))
		if survived := err == nil; survived != (flag != 0) {
			t.Errorf("flag %#x: survived is %v", flag, survived)
		}
	}
}

func TestTorn(t *testing.T) {
	f := newFixture(t, Options{PowerLoss: true})
	const pages = 200
	old, fresh := bytes.Repeat([]byte{'o'}, pages*page), bytes.Repeat([]byte{'n'}, pages*page)
	f.write(t, "file", string(old))
	f.sync(t, "file")
	file, err := os.OpenFile(f.path("file"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(fresh, 0); err != nil {
		t.Fatal(err)
	}
	file.Close()
	loss := f.crash(t, 0.5, 7)
	data := []byte(f.stable(t, "file"))
	kept := 0
	for p := range pages {
		switch got := data[p*page : p*page+page]; {
		case bytes.Equal(got, fresh[:page]):
			kept++
		case !bytes.Equal(got, old[:page]):
			t.Fatalf("page %d is neither old nor new", p)
		}
	}
	if kept < pages/4 || kept > pages*3/4 || loss.PagesKept != kept || loss.PagesDropped != pages-kept {
		t.Errorf("%d of %d pages kept; %+v", kept, pages, loss)
	}
}

// Several disks freeze at one instant: a program that writes to one after the
// other never has more on the second.
func TestFreezeTogether(t *testing.T) {
	a, b := newFixture(t, Options{PowerLoss: true}), newFixture(t, Options{PowerLoss: true})
	count := func(f *fixture) *os.File {
		file, err := os.OpenFile(f.path("count"), os.O_CREATE|os.O_WRONLY|os.O_SYNC, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	first, second := count(a), count(b)
	started, ended := make(chan struct{}), make(chan error)
	go func() {
		for n := 1; ; n++ {
			text := fmt.Appendf(nil, "%09d", n)
			if _, err := first.WriteAt(text, 0); err != nil {
				ended <- err
				return
			}
			if _, err := second.WriteAt(text, 0); err != nil {
				ended <- err
				return
			}
			if n == 20 {
				close(started)
			}
		}
	}()
	<-started
	Freeze(a.Disk, b.Disk)
	if err := <-ended; !errors.Is(err, syscall.EIO) {
		t.Error("the write after the freeze said", err)
	}
	first.Close()
	second.Close()
	a.crash(t, 0, 1)
	b.crash(t, 0, 1)
	x, y := a.stable(t, "count"), b.stable(t, "count")
	if x < y || x < "000000020" {
		t.Errorf("first %s, second %s", x, y)
	}
}

// A cut before the operation leaves nothing of it, one after it does.
func TestTriggerInstant(t *testing.T) {
	for _, after := range []bool{false, true} {
		f := newFixture(t, Options{PowerLoss: true})
		f.write(t, "file", "old")
		f.sync(t, "file")
		if _, err := f.On(Trigger{Method: "fsync", Path: "*", Nth: 1, After: after, Func: func() { Freeze(f.Disk) }}); err != nil {
			t.Fatal(err)
		}
		f.write(t, "file", "new")
		file, err := os.Open(f.path("file"))
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("after %v: fsync said %v", after, err)
		}
		file.Close()
		f.crash(t, 0, 1)
		if got, want := f.stable(t, "file"), map[bool]string{false: "old", true: "new"}[after]; got != want {
			t.Errorf("after %v: %q", after, got)
		}
	}
}

func TestCrashOrder(t *testing.T) {
	f := newFixture(t, Options{PowerLoss: true})
	if _, err := f.Crash(0, 1); err == nil || !strings.Contains(err.Error(), "not frozen") {
		t.Error(err)
	}
	Freeze(f.Disk)
	if _, err := f.Crash(0, 1); err == nil || !strings.Contains(err.Error(), "still mounted") {
		t.Error(err)
	}
	plain := newFixture(t, Options{})
	if _, err := plain.Crash(0, 1); err == nil || !strings.Contains(err.Error(), "without PowerLoss") {
		t.Error(err)
	}
}

// An open file does not keep the disk mounted.
func TestUnmountBusy(t *testing.T) {
	f := newFixture(t, Options{})
	file, err := os.Create(f.path("file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Unmount(); err == nil || !strings.Contains(err.Error(), "detached") {
		t.Error(err)
	}
	file.Close()
	if _, err := os.Stat(f.path("file")); !errors.Is(err, os.ErrNotExist) {
		t.Error("still mounted:", err)
	}
}

func TestUserNamespace(t *testing.T) {
	needFUSE(t)
	mnt, back := t.TempDir(), filepath.Join(t.TempDir(), "back")
	if err := os.Mkdir(back, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", mnt, back)
	cmd.Env = append(os.Environ(), program+"=namespace")
	cmd.SysProcAttr = namespaces(true)
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skip("no user namespaces here: ", err)
	}
	if err != nil || string(out) != "result: <nil>\n" {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(back, "file")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file survived: ", err)
	}
}

// A harness that is killed while it probes ends, and its mount with it.
func TestKilledProbe(t *testing.T) {
	needFUSE(t)
	dir := t.TempDir()
	mnt, back := filepath.Join(dir, "mnt"), filepath.Join(dir, "back")
	for _, d := range []string{mnt, back} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := start(t, "probe", mnt, back)
	if lines, ok := c.await(t, "probing"); !ok {
		t.Fatal(lines)
	}
	ended := make(chan struct{})
	go func() {
		c.kill()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("it did not end within a minute of SIGKILL")
		unix.Unmount(mnt, unix.MNT_FORCE) // ends its requests
	}
	unix.Unmount(mnt, unix.MNT_DETACH) // what it mounted is in our namespace
}
