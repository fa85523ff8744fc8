package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
)

// ID is one process, and no later one that got the same pid.
type ID struct {
	PID   int
	Start uint64 // clock ticks since boot
}

// Look is what /proc says about a process at one instant.
type Look struct {
	Gone     bool   // there is no such process, or it is a zombie without a living thread
	Threads  int    // living ones
	Stopped  int    // threads that are stopped by a signal
	Exiting  int    // threads on their way out
	CPU      uint64 // clock ticks of 10 ms of CPU time used so far
	Switches uint64 // context switches so far, of the threads that live
}

// dead reports whether the process will never again run code of its own. The
// kernel may still be busy with what it leaves: freeing the memory of a large
// process takes tens of milliseconds, and its sockets are closed after that.
func (l Look) dead() bool { return l.Gone || l.Exiting == l.Threads }

// stopped reports whether nothing of the process can run.
func (l Look) stopped() bool { return !l.Gone && l.Threads > 0 && l.Stopped == l.Threads }

// Identify finds out who has a pid now; false if nobody does, or a zombie.
func Identify(pid int) (ID, bool) {
	stat, err := readStat(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ID{}, false
	}
	id := ID{pid, stat.start}
	look, err := id.Look()
	return id, err == nil && !look.Gone
}

// Look reads the state of the process. The error is about a /proc that cannot
// be read, not about a process that is gone.
func (id ID) Look() (Look, error) {
	dir := fmt.Sprintf("/proc/%d", id.PID)
	stat, err := readStat(dir + "/stat")
	if gone(err) || err == nil && stat.start != id.Start {
		return Look{Gone: true}, nil
	}
	if err != nil {
		return Look{}, err
	}
	look := Look{CPU: stat.cpu}
	tasks, err := os.ReadDir(dir + "/task")
	if err != nil && !gone(err) {
		return Look{}, err
	}
	for _, task := range tasks {
		// The first thread may be a zombie while others still hold the
		// process's files open.
		thread, err := readStat(dir + "/task/" + task.Name() + "/stat")
		if gone(err) || err == nil && (thread.state == 'Z' || thread.state == 'X') {
			continue
		}
		if err != nil {
			return Look{}, err
		}
		look.Threads++
		if thread.state == 'T' {
			look.Stopped++
		}
		if thread.exiting {
			look.Exiting++
		}
		switches, err := readSwitches(dir + "/task/" + task.Name() + "/status")
		if err != nil && !gone(err) {
			return Look{}, err
		}
		look.Switches += switches
	}
	look.Gone = look.Threads == 0
	return look, nil
}

// gone reports whether reading /proc failed because the process ended.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

type stat struct {
	state   byte
	exiting bool
	cpu     uint64
	start   uint64
}

// readStat reads /proc/PID/stat, see proc_pid_stat(5).
func readStat(path string) (stat, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return stat{}, err
	}
	// Field 2, the name, may hold anything; the last ')' ends it.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("%s: %d fields after the name, want 20", path, len(fields))
	}
	field := func(n int) uint64 {
		v, _ := strconv.ParseUint(string(fields[n-3]), 10, 64) // the kernel's own numbers
		return v
	}
	const exiting = 0x4 // PF_EXITING of the kernel's flags, set before a thread lets go of anything
	return stat{
		state:   fields[0][0],
		exiting: field(9)&exiting != 0,
		cpu:     field(14) + field(15),
		start:   field(22),
	}, nil
}

// readSwitches sums voluntary_ctxt_switches and nonvoluntary_ctxt_switches.
func readSwitches(path string) (sum uint64, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.HasSuffix(name, []byte("voluntary_ctxt_switches")) {
			v, _ := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
			sum += v
		}
	}
	return sum, nil
}

// lookEvery is the pause between two looks at a process of which a change is
// expected at any moment.
const lookEvery = 200 * time.Microsecond

// awaitLook looks at the process until reached says yes. It returns the last
// look and when it was taken; the error is ctx's, or that of /proc.
func (j *Injector) awaitLook(ctx context.Context, id ID, reached func(Look) bool) (Look, time.Duration, error) {
	for {
		look, err := id.Look()
		at := j.Now()
		if err != nil || reached(look) {
			return look, at, err
		}
		select {
		case <-ctx.Done():
			return look, at, ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}

// awaitStopped waits until all threads are stopped, and their counters too: a
// thread counts its last switch after it is marked as stopped. at is when all
// threads were first seen stopped.
func (j *Injector) awaitStopped(ctx context.Context, id ID) (steady Look, at time.Duration, err error) {
	look, at, err := j.awaitLook(ctx, id, func(l Look) bool { return l.Gone || l.stopped() })
	if err != nil || look.Gone {
		return look, at, err
	}
	before := look
	same := 0
	look, _, err = j.awaitLook(ctx, id, func(l Look) bool {
		if l == before {
			same++
		} else {
			before, same = l, 0
		}
		return l.Gone || l.stopped() && same >= 5
	})
	return look, at, err
}

// refused dials addr until the connection is refused, for at most a second:
// the last thread of a killed process may still be on its way out. The answer
// says in words what the last dial saw.
func refused(ctx context.Context, addr string) (bool, string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return true, addr + " refused a connection"
		}
		answer := addr + " took a connection"
		if err != nil {
			answer = err.Error()
		} else {
			conn.Close()
		}
		select {
		case <-ctx.Done():
			return false, answer
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// client asks nodes directly and anew each time.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// patience is how long a node may take to answer.
const patience = 500 * time.Millisecond

// Ready asks the node, for 500 ms at most, whether it is ready, and says so in a
// word.
func (n Node) Ready(ctx context.Context) (bool, string) {
	if n.ReadyURL != "" {
		status := ask(ctx, n.ReadyURL)
		return 200 <= status && status <= 299, fmt.Sprintf("was ready, status %d", status)
	}
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", n.Addr)
	if err != nil {
		return false, ""
	}
	conn.Close()
	return true, "accepted a connection"
}

// ask is the status that a node answers with, 0 without an answer in time.
func ask(ctx context.Context, url string) int {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}
