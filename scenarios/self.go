package scenarios

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"statequake/history"
)

// selfSample reads the resources that this process has used so far.
func selfSample(at time.Duration) history.Sample {
	s := history.Sample{At: at, Node: "generator", PID: os.Getpid()}
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) == nil {
		s.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
		s.RSS = usage.Maxrss << 10 // the peak, in KiB
	}
	return s
}
