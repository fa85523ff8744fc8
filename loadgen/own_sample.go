package loadgen

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"statequake/history"
)

// OwnSample reads the resources that this process has used so far.
func OwnSample(at time.Duration) history.Sample {
	s := history.Sample{At: at, Node: "generator", PID: os.Getpid()}
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) == nil {
		s.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
		s.RSS = usage.Maxrss << 10 // the peak, in KiB, should there be no /proc
	}
	var size, resident int64 // in pages
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if n, _ := fmt.Sscan(string(text), &size, &resident); n == 2 {
			s.RSS = resident * int64(os.Getpagesize())
		}
	}
	return s
}
