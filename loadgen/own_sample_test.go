package loadgen

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// The resident memory of a sample is what it is now, not its peak.
func TestOwnSample(t *testing.T) {
	s := OwnSample(time.Second)
	if s.At != time.Second || s.Node != "generator" || s.PID == 0 || s.CPU <= 0 || s.RSS < 1<<20 {
		t.Errorf("got %+v", s)
	}
	const size = 128 << 20
	block := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		block[i] = 1
	}
	with := OwnSample(time.Second)
	runtime.KeepAlive(block)
	block = nil
	debug.FreeOSMemory()
	if without := OwnSample(time.Second); with.RSS-without.RSS < size/2 {
		t.Errorf("%d MiB with a block of %d MiB, %d MiB without", with.RSS>>20, size>>20, without.RSS>>20)
	}
}
