package clock

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// edit is something to write into the vDSO.
type edit struct {
	at    uint64 // offset
	value []byte
}

// Start starts cmd with clocks that can be moved, and that are moved as by Set
// from its first instruction on; 0 leaves them right. The kernel kills the
// process (SIGKILL) when this one ends, unless cmd.SysProcAttr names another
// signal; everything else there is kept. As after cmd.Start, the caller calls
// cmd.Wait. After an error nothing is left running; it is ErrUnavailable if it
// would be the same for every program. Start may be called concurrently.
func Start(cmd *exec.Cmd, offset time.Duration, clocks Clocks) (*Clock, error) {
	type result struct {
		clock *Clock
		err   error
	}
	started := make(chan result)
	tracer() <- func() {
		c, err := StartHere(cmd, offset, clocks)
		started <- result{c, err}
	}
	r := <-started
	return r.clock, r.err
}

// tracer is the thread that starts and traces all children: the kernel takes
// orders from the thread that started a child only, and sends the parent death
// signal when that thread ends. So its goroutine never returns.
var tracer = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range work {
			start()
		}
	}()
	return work
})

// StartHere is Start on the calling thread, in its namespaces. The caller keeps
// its goroutine on the thread (runtime.LockOSThread), and the kernel kills the
// process when the thread ends.
func StartHere(cmd *exec.Cmd, offset time.Duration, clocks Clocks) (*Clock, error) {
	var attr syscall.SysProcAttr
	if cmd.SysProcAttr != nil {
		attr = *cmd.SysProcAttr
	}
	attr.Ptrace = true
	if attr.Pdeathsig == 0 {
		attr.Pdeathsig = syscall.SIGKILL
	}
	cmd.SysProcAttr = &attr
	if err := cmd.Start(); err != nil {
		return nil, err // names the program
	}
	c, err := prepare(cmd.Process.Pid, offset, clocks)
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// prepare redirects the clock functions of a child that is about to run, and
// lets it run.
func prepare(pid int, offset time.Duration, clocks Clocks) (*Clock, error) {
	if err := awaitExec(pid); err != nil {
		return nil, err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	c := &Clock{pid: pid, mem: mem, slot: 1}
	err = c.install()
	if err == nil {
		err = c.Set(offset, clocks)
	}
	if err != nil {
		mem.Close()
		return nil, err
	}
	if err := unix.PtraceDetach(pid); err != nil {
		mem.Close()
		return nil, fmt.Errorf("let go of pid %d: %w", pid, err)
	}
	// Some kernels let memory be written only while a process is traced. A
	// process that has ended already is no error here.
	if err := c.Set(offset, clocks); err != nil && !errors.Is(err, ErrGone) {
		mem.Close()
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return c, nil
}

// awaitExec waits until the child stops at the first instruction of its
// program.
func awaitExec(pid int) error {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("wait for pid %d: %w", pid, err)
		case !status.Stopped():
			return fmt.Errorf("pid %d ended before its program began", pid)
		case status.StopSignal() == unix.SIGTRAP:
			return nil
		}
		// Somebody sent a signal.
		if err := unix.PtraceCont(pid, int(status.StopSignal())); err != nil {
			return fmt.Errorf("continue pid %d: %w", pid, err)
		}
	}
}

// install writes the stub into the vDSO.
func (c *Clock) install() error {
	from, to, err := findVDSO(c.pid)
	if err != nil {
		return err
	}
	image := make([]byte, to-from)
	if _, err := c.mem.ReadAt(image, from); err != nil {
		return fmt.Errorf("%w: read the vDSO of pid %d: %w", ErrUnavailable, c.pid, err)
	}
	edits, data, err := redirect(image)
	if err != nil {
		return err
	}
	for _, e := range edits {
		if err := c.write(e.value, from+int64(e.at)); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	c.data = from + int64(data)
	return nil
}

// findVDSO returns the range of addresses of the vDSO, its end not included.
func findVDSO(pid int) (from, to int64, err error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if !strings.HasSuffix(lines.Text(), "[vdso]") {
			continue
		}
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); err != nil {
			return 0, 0, fmt.Errorf("%w: %s: %w", ErrUnavailable, maps.Name(), err)
		}
		return from, to, nil
	}
	return 0, 0, fmt.Errorf("%w: pid %d has no vDSO", ErrUnavailable, pid)
}
