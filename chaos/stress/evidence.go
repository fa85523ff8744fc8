package stress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"

	"statequake/history"
)

// MinWatch is how long CPU time has to be observed at least: ten periods.
const MinWatch = time.Second

// Evidence is what an observer found out about the workers.
type Evidence struct {
	At     time.Duration // of the observation's beginning, on the run clock
	Proof  history.Proof
	Detail string // in words, with figures
	Short  bool   // inconclusive, since it lasted less than MinWatch
}

// Evidence observes for d, or until ctx ends, what the workers use: CPU time
// within 10 % and 0.03 CPUs per worker of what they should, memory within 2 %,
// and up to 64 MiB per worker more for itself. On a saturated machine CPU
// workers cannot get their share; then it counts that they were ready to run
// and waited for a CPU. An observation of less than MinWatch is inconclusive.
func (s *Stress) Evidence(ctx context.Context, d time.Duration) Evidence {
	ev := Evidence{At: s.config.Now()}
	before, err := s.look()
	if err == nil {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	var after use
	if err == nil {
		after, err = s.look()
	}
	lasted := after.at.Sub(before.at)
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, errEnded):
		ev.Proof, ev.Detail = history.Mismatch, "a worker has ended"
	case err != nil:
		ev.Proof, ev.Detail = history.Inconclusive, err.Error()
	case lasted < MinWatch:
		ev.Proof, ev.Short = history.Inconclusive, true
		ev.Detail = fmt.Sprintf("the workers were observed for %.2f s only, want %v", lasted.Seconds(), MinWatch)
	default:
		ev.Proof, ev.Detail = s.judge(before, after)
	}
	return ev
}

// use is what the workers used so far.
type use struct {
	at       time.Time
	cpu      time.Duration // in ticks of 10 ms
	waited   time.Duration // for a CPU, ready to run
	rss      int64         // bytes, without what is only a file's
	pressure time.Duration // in which some task of the machine waited for a CPU; 0 where it is not told
}

var errEnded = errors.New("worker has ended")

// look reads /proc.
func (s *Stress) look() (use, error) {
	u := use{at: time.Now(), pressure: pressure()}
	for _, w := range s.workers {
		dir := fmt.Sprintf("/proc/%d", w.cmd.Process.Pid)
		if w.memory {
			text, err := os.ReadFile(dir + "/statm")
			if err != nil {
				return u, err
			}
			pages := number(text, 1)
			if pages == 0 {
				return u, errEnded
			}
			u.rss += (pages - number(text, 2)) * int64(os.Getpagesize())
			continue
		}
		text, err := os.ReadFile(dir + "/stat")
		if err != nil {
			return u, err
		}
		// See proc_pid_stat(5). Field 2, the name, may hold anything; the last
		// ')' ends it.
		text = text[bytes.LastIndexByte(text, ')')+1:]
		if state := bytes.TrimSpace(text); len(state) == 0 || state[0] == 'Z' || state[0] == 'X' {
			return u, errEnded
		}
		u.cpu += time.Duration(number(text, 14-3)+number(text, 15-3)) * 10 * time.Millisecond
		threads, err := os.ReadDir(dir + "/task")
		if err != nil {
			return u, err
		}
		for _, t := range threads {
			// Run time, waiting time, slices. Not every kernel has it.
			text, err := os.ReadFile(dir + "/task/" + t.Name() + "/schedstat")
			if err == nil {
				u.waited += time.Duration(number(text, 1))
			}
		}
	}
	return u, nil
}

// number is the nth of some fields, from 0; 0 if there is none.
func number(text []byte, n int) int64 {
	fields := bytes.Fields(text)
	if n >= len(fields) {
		return 0
	}
	v, _ := strconv.ParseInt(string(fields[n]), 10, 64) // the kernel's own numbers
	return v
}

// pressure is how long some task waited for a CPU since the machine started.
func pressure() time.Duration {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	some, _, _ := strings.Cut(string(text), "\n")
	_, total, _ := strings.Cut(some, "total=")
	us, _ := strconv.ParseInt(total, 10, 64)
	return time.Duration(us) * time.Microsecond
}

// judge compares what was used with what should have been.
func (s *Stress) judge(before, after use) (history.Proof, string) {
	proof := history.Confirmed
	var details []string
	if n := s.config.CPU.Workers; n > 0 {
		lasted := after.at.Sub(before.at).Seconds()
		used := (after.cpu - before.cpu).Seconds() / lasted
		waited := (after.waited - before.waited).Seconds() / lasted
		want := float64(n) * s.config.CPU.Load
		give := want/10 + 0.03*float64(n)
		detail := fmt.Sprintf("the workers used %.2f CPUs for %.2f s, want %.2f", used, lasted, want)
		switch {
		case used > want+give:
			proof = history.Mismatch
		case used >= want-give:
		case used+waited >= want-give:
			detail += fmt.Sprintf("; the machine is saturated: they waited for %.2f more", waited)
		default:
			proof = history.Mismatch
			detail += fmt.Sprintf(", and waited for %.2f more only", waited)
		}
		if d := after.pressure - before.pressure; d > 0 {
			detail += fmt.Sprintf("; some task waited for a CPU %.0f %% of the time", 100*d.Seconds()/lasted)
		}
		details = append(details, detail)
	}
	if n := s.config.Memory.Workers; n > 0 {
		const own = 64 << 20 // of a worker itself
		if after.rss < s.size-s.size/50 || after.rss > s.size+s.size/50+int64(n)*own {
			proof = history.Mismatch
		}
		details = append(details, fmt.Sprintf("the workers have %s resident, want %s", units.BytesSize(float64(after.rss)), units.BytesSize(float64(s.size))))
	}
	return proof, strings.Join(details, "; ")
}
