package stress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/docker/go-units"
)

// Config says what is to be used up. At least one of CPU and Memory has
// workers.
type Config struct {
	CPU    CPU
	Memory Memory
	Now    func() time.Duration // run clock, for Evidence; nil counts from Start
}

// CPU is CPU time: each of Workers uses the share Load of one CPU.
type CPU struct {
	Workers int
	Load    float64 // to 1; 0 means 1
}

// Memory is memory that Workers share out among them: Bytes together or, if
// that is not 0, the share Share of the machine's memory.
type Memory struct {
	Workers int
	Bytes   int64
	Share   float64
}

// maxWorkers is the limit of StressChaos.
const maxWorkers = 8192

// Stress is workers at work. Its methods may be called concurrently.
type Stress struct {
	config  Config
	size    int64 // of memory, in bytes
	workers []*worker

	stop    chan struct{}
	once    sync.Once
	stopped chan struct{}
}

type worker struct {
	cmd    *exec.Cmd
	stdout io.ReadCloser
	stderr bytes.Buffer
	memory bool
}

// Start starts the workers and returns when they all use what they should, or
// try to; if ctx ends before, none is left. ctx has no effect later.
func Start(ctx context.Context, config Config) (*Stress, error) {
	if _, ok := os.LookupEnv(marker); ok {
		return nil, fmt.Errorf("stress: a worker wants to start workers\nhint: the program has to call stress.Main first")
	}
	s := &Stress{config: config, stop: make(chan struct{}), stopped: make(chan struct{})}
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.config.Now == nil {
		start := time.Now()
		s.config.Now = func() time.Duration { return time.Since(start) }
	}
	started := make(chan error)
	go s.run(started)
	if err := <-started; err != nil {
		s.Stop()
		return nil, err
	}
	inTime := context.AfterFunc(ctx, s.Stop)
	defer inTime()
	for _, w := range s.workers {
		said := make([]byte, len(ready))
		if _, err := io.ReadFull(w.stdout, said); err == nil {
			continue
		}
		s.Stop()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start stress: %w", context.Cause(ctx))
		}
		return nil, fmt.Errorf("start stress: a worker ended: %v %s", w.cmd.ProcessState, bytes.TrimSpace(w.stderr.Bytes()))
	}
	if !inTime() {
		s.Stop()
		return nil, fmt.Errorf("start stress: %w", context.Cause(ctx))
	}
	return s, nil
}

// check looks for mistakes in the config and fills in defaults.
func (s *Stress) check() error {
	cpu, memory := &s.config.CPU, &s.config.Memory
	if cpu.Load == 0 {
		cpu.Load = 1
	}
	switch {
	case cpu.Workers < 0 || cpu.Workers > maxWorkers:
		return fmt.Errorf("cpu.workers: %d is not within 0 to %d", cpu.Workers, maxWorkers)
	case memory.Workers < 0 || memory.Workers > maxWorkers:
		return fmt.Errorf("memory.workers: %d is not within 0 to %d", memory.Workers, maxWorkers)
	case cpu.Workers+memory.Workers == 0:
		return errors.New("stress: no workers, neither for cpu nor for memory")
	case !(cpu.Load > 0 && cpu.Load <= 1):
		return fmt.Errorf("cpu.load: %v is not a share from 0 to 1", cpu.Load)
	case !(memory.Share >= 0 && memory.Share <= 1):
		return fmt.Errorf("memory.share: %v is not a share from 0 to 1", memory.Share)
	case memory.Workers == 0:
		return nil
	}
	total, available, err := machineMemory()
	if err != nil {
		return fmt.Errorf("stress: %w", err)
	}
	s.size = memory.Bytes
	if memory.Share > 0 {
		s.size = int64(memory.Share * float64(total))
	}
	if s.size > available {
		return fmt.Errorf("memory: %s is more than the %s that the machine has available (of %s)",
			units.BytesSize(float64(s.size)), units.BytesSize(float64(available)), units.BytesSize(float64(total)))
	}
	if page := int64(os.Getpagesize()); s.size < page*int64(memory.Workers) {
		return fmt.Errorf("memory: %d bytes are less than a page of %d bytes for each worker", s.size, page)
	}
	return nil
}

// machineMemory is what /proc/meminfo tells, in bytes.
func machineMemory() (total, available int64, err error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		var name string
		var kib int64
		fmt.Sscan(line, &name, &kib)
		switch name {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		}
	}
	if total == 0 || available == 0 {
		return 0, 0, errors.New("/proc/meminfo does not tell MemTotal and MemAvailable")
	}
	return total, available, nil
}

// run starts the workers, waits for Stop, and ends them. It keeps its thread
// all the time: the parent death signal is sent when the thread ends that
// started a child.
func (s *Stress) run(started chan<- error) {
	runtime.LockOSThread()
	defer close(s.stopped)
	started <- s.startWorkers()
	<-s.stop
	for _, w := range s.workers {
		w.cmd.Process.Kill() // fails only if it has ended
	}
	for _, w := range s.workers {
		w.cmd.Wait()
	}
}

func (s *Stress) startWorkers() error {
	for range s.config.CPU.Workers {
		if err := s.startWorker(fmt.Sprintf("cpu %d", time.Duration(s.config.CPU.Load*float64(period))), false); err != nil {
			return err
		}
	}
	for i := range int64(s.config.Memory.Workers) {
		n := int64(s.config.Memory.Workers)
		if err := s.startWorker(fmt.Sprintf("memory %d", s.size*(i+1)/n-s.size*i/n), true); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stress) startWorker(task string, memory bool) error {
	w := &worker{memory: memory}
	w.cmd = &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{"stress " + task},
		Env:         append(os.Environ(), marker+"="+task),
		Stderr:      &w.stderr,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	var err error
	if w.stdout, err = w.cmd.StdoutPipe(); err == nil {
		err = w.cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start stress: %w", err)
	}
	s.workers = append(s.workers, w)
	return nil
}

// Gone reports whether no worker is there any more, by /proc.
func (s *Stress) Gone() bool {
	for _, w := range s.workers {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", w.cmd.Process.Pid)); !errors.Is(err, os.ErrNotExist) {
			return false
		}
	}
	return true
}

// Stop ends the workers and returns when they are gone.
func (s *Stress) Stop() {
	s.once.Do(func() { close(s.stop) })
	<-s.stopped
}
