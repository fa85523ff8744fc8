package scenarios

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"statequake/history"
)

// scheduleFile is the recorded schedule in a run directory.
const scheduleFile = "schedule.txt"

// Bounds of a recorded schedule.
const (
	mostInstants = 5_000_000 // 40 MB
	lastInstant  = 24 * time.Hour
)

var errTooMany = fmt.Errorf("holds more than %d operations", mostInstants)

// readSchedule reads when operations are due: those of the load of a run
// directory, or the lines of a text file, each a duration ("1.5s") or a number of
// seconds. Empty lines and those that begin with # are skipped. The instants
// count from the first one.
func readSchedule(path string) ([]time.Duration, error) {
	info, err := os.Stat(path)
	var instants []time.Duration
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the schedule: %w", err)
	case info.IsDir():
		instants, err = recorded(path)
	default:
		instants, err = instantsIn(path)
	}
	if err != nil {
		return nil, err
	}
	if len(instants) == 0 {
		return nil, fmt.Errorf("%s holds no instant\nhint: a run directory, or a text file with one instant per line, such as 1.5s", path)
	}
	slices.Sort(instants)
	first := instants[0]
	for i := range instants {
		instants[i] -= first
	}
	if last := instants[len(instants)-1]; last > lastInstant {
		return nil, fmt.Errorf("%s lasts %v, limit %s", path, last, short(lastInstant))
	}
	return instants, nil
}

// recorded are the due times of the load in a run directory.
func recorded(dir string) ([]time.Duration, error) {
	var instants []time.Duration
	_, err := history.ReadRun(dir, func(op *history.Op) error {
		if op.Phase != history.Load {
			return nil
		}
		if len(instants) == mostInstants {
			return errTooMany
		}
		instants = append(instants, op.Scheduled)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the schedule of %s: %w", dir, err)
	}
	return instants, nil
}

// instantsIn are the instants in a text file.
func instantsIn(path string) ([]time.Duration, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the schedule: %w", err)
	}
	defer f.Close()
	var instants []time.Duration
	lines := bufio.NewScanner(f) // of at most 64 KiB each
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		at, err := time.ParseDuration(text)
		if seconds, bad := strconv.ParseFloat(text, 64); bad == nil {
			at, err = time.Duration(seconds*float64(time.Second)), nil
			if !(seconds >= 0 && seconds <= lastInstant.Seconds()) {
				at = -1
			}
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s:%d: %q is no instant\nhint: a duration since the start, such as 1.5s, or a number of seconds", path, n, shorten(text))
		case at < 0 || at > lastInstant:
			return nil, fmt.Errorf("%s:%d: %s is out of range (0s to %s)", path, n, shorten(text), short(lastInstant))
		case len(instants) == mostInstants:
			return nil, fmt.Errorf("%s:%d: %w", path, n, errTooMany)
		}
		instants = append(instants, at)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the schedule %s: %w", path, err)
	}
	return instants, nil
}

// keepSchedule writes a recorded schedule into a run directory and returns the
// scenario that reads it there, so that the directory is all that a replay needs.
func keepSchedule(s *Scenario, dir string) (*Scenario, error) {
	replay := s.Load.Arrivals.Replay
	if replay == nil {
		return s, nil
	}
	var b bytes.Buffer
	b.WriteString("# When the operations of the load are due, counted from the first one.\n")
	for _, at := range replay.Instants {
		b.WriteString(at.String() + "\n")
	}
	if err := os.WriteFile(filepath.Join(dir, scheduleFile), b.Bytes(), 0o644); err != nil {
		return nil, fmt.Errorf("write the schedule: %w", err)
	}
	kept, moved := *s, *replay
	moved.File = scheduleFile
	kept.Load.Arrivals.Replay = &moved
	return &kept, nil
}
