package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopGenerator stops the generator of the run in dir for so long, at that instant
// after the first operation of its load is due, which must be more than a second,
// since a history is written once a second. It returns when the generator runs
// again.
func stopGenerator(ctx context.Context, dir string, at, length time.Duration) error {
	path := filepath.Join(dir, "history.jsonl")
	if !poll(ctx, func() bool { _, err := os.Stat(path); return err == nil }) {
		return errors.New("the run ended before it was stopped: it recorded nothing")
	}
	began := time.Now() // the clock of the run starts when its history is there
	var due time.Duration
	if !poll(ctx, func() (ok bool) { due, ok = firstDue(path); return ok }) {
		return errors.New("the run ended before it was stopped: no operation is recorded")
	}
	pid, err := generator(dir + ".bin")
	if err != nil {
		return err
	}
	wait := time.Until(began.Add(due + at))
	if wait < 0 {
		return fmt.Errorf("%v too late to stop the generator", -wait)
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return errors.New("the run ended before it was stopped")
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(length / 2)
	state := stateOf(pid)
	time.Sleep(length - length/2)
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		return err
	}
	if state != "T" {
		return fmt.Errorf("process %d was not stopped: its state was %q", pid, state)
	}
	return nil
}

// poll asks once a millisecond until it is so, or ctx ends.
func poll(ctx context.Context, so func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// firstDue is when operation 0 of the load was due.
func firstDue(path string) (due time.Duration, ok bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		var op struct {
			N         int64         `json:"n"`
			Phase     string        `json:"phase"`
			Scheduled time.Duration `json:"scheduled_ns"`
		}
		if json.Unmarshal(lines.Bytes(), &op) == nil && op.Phase == "warmup" && op.N == 0 {
			return op.Scheduled, true
		}
	}
	return 0, false
}

// generator is the process of a program that generates the load. A run starts
// itself again, twice, in namespaces of its own: it is the last one. Nodes are
// processes of the same program, but not of its command run.
func generator(binary string) (pid int, err error) {
	binary, err = filepath.Abs(binary)
	if err != nil {
		return 0, err
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	var runs, parents []int
	for _, dir := range dirs {
		// A process may end between two looks at it.
		exe, _ := os.Readlink(filepath.Join(dir, "exe"))
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		args := strings.Split(string(command), "\x00")
		if exe != binary || len(args) < 2 || args[1] != "run" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return 0, err
		}
		runs, parents = append(runs, pid), append(parents, parentOf(pid))
	}
	last := slices.DeleteFunc(runs, func(pid int) bool { return slices.Contains(parents, pid) })
	if len(last) != 1 {
		return 0, fmt.Errorf("of %s %d processes may be the one that generates the load, want one", binary, len(last))
	}
	return last[0], nil
}

// parentOf is the parent of a process, 0 if it has ended.
func parentOf(pid int) int {
	if fields := stat(pid); len(fields) > 1 {
		parent, _ := strconv.Atoi(fields[1])
		return parent
	}
	return 0
}

// stateOf is the state of a process as ps shows it, "" if it has ended.
func stateOf(pid int) string {
	if fields := stat(pid); len(fields) > 0 {
		return fields[0]
	}
	return ""
}

// stat is what stands behind the name in /proc/PID/stat.
func stat(pid int) []string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
}
