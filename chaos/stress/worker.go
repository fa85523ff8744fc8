package stress

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// marker is the environment variable that makes this program a worker:
// "cpu NANOSECONDS", of each period, or "memory BYTES".
const marker = "STATEQUAKE_STRESS"

const (
	ready  = "ready\n"              // said by a worker when it does what it should
	period = 100 * time.Millisecond // of the CPU's duty cycle
	touch  = time.Second            // in which a memory worker writes each of its pages once
)

// Main is the whole program if this process is a worker, and nothing
// otherwise. Call it first in main, before anything with side effects.
func Main() {
	task, ok := os.LookupEnv(marker)
	if !ok {
		return
	}
	var amount int64
	var err error
	if _, scan := fmt.Sscanf(task, "cpu %d", &amount); scan == nil {
		err = burn(time.Duration(amount))
	} else if _, scan := fmt.Sscanf(task, "memory %d", &amount); scan == nil {
		err = hold(amount)
	} else {
		err = fmt.Errorf("%s=%q: not a task", marker, task)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// burn uses busy of CPU time in each period, if it gets as much, and never
// makes up for what it did not get.
func burn(busy time.Duration) error {
	runtime.LockOSThread()
	if _, err := os.Stdout.WriteString(ready); err != nil {
		return err
	}
	for end := time.Now().Add(period); ; end = end.Add(period) {
		used, err := threadTime()
		if err != nil {
			return err
		}
		for until, now := used+busy, used; now < until && time.Now().Before(end); {
			for range 10000 { // some microseconds
			}
			if now, err = threadTime(); err != nil {
				return err
			}
		}
		time.Sleep(time.Until(end))
		if late := time.Since(end); late > period { // it was stopped, or starved
			end = end.Add(late)
		}
	}
}

// threadTime is the CPU time that the thread has used.
func threadTime() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano()), err
}

// hold keeps size bytes of memory resident.
func hold(size int64) error {
	// Short of memory the kernel ends a worker before it ends a node. Not
	// everybody may say so; then it is the kernel's choice.
	os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)

	memory, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("allocate %d bytes: %w", size, err)
	}
	page := os.Getpagesize()
	for i := 0; i < len(memory); i += page {
		memory[i] = 1
	}
	if _, err := os.Stdout.WriteString(ready); err != nil {
		return err
	}
	const parts = 20
	for n := 0; ; n++ {
		part := len(memory)/parts + 1
		from := min(n%parts*part, len(memory)) &^ (page - 1)
		for i := from; i < min(from+part+page, len(memory)); i += page {
			memory[i]++
		}
		time.Sleep(touch / parts)
	}
}
