package scenarios

import (
	"context"
	"runtime"
	"runtime/debug"
	"statequake/loadgen"
	"testing"
	"time"

	"statequake/fixtures"
	"statequake/history"
)

// What befalls the generator after its last regular sample is in the record, too:
// it is sampled once more when the run ends.
func TestLastSample(t *testing.T) {
	dir := t.TempDir()
	w, err := history.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	r := &run{record: w, began: time.Now(), system: system{Cluster: &fixtures.Cluster{}}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { r.sample(ctx); close(ended) }()
	for r.now() < sampleEvery/5 { // well before the next regular sample
		time.Sleep(time.Millisecond)
	}
	end := r.now()
	cancel()
	<-ended
	if err := w.Close(history.Footer{}); err != nil {
		t.Fatal(err)
	}
	run, err := history.LoadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(run.Samples); n != 2 || run.Samples[n-1].At < end {
		t.Errorf("samples %+v, the last one before the end at %v", run.Samples, end)
	}
}

// The resident memory of a sample is what it is now, not its peak.
func TestSelfSample(t *testing.T) {
	s := loadgen.OwnSample(time.Second)
	if s.At != time.Second || s.Node != "generator" || s.PID == 0 || s.CPU <= 0 || s.RSS < 1<<20 {
		t.Errorf("got %+v", s)
	}
	const size = 128 << 20
	block := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		block[i] = 1
	}
	with := loadgen.OwnSample(time.Second)
	runtime.KeepAlive(block)
	block = nil
	debug.FreeOSMemory()
	if without := loadgen.OwnSample(time.Second); with.RSS-without.RSS < size/2 {
		t.Errorf("%d MiB with a block of %d MiB, %d MiB without", with.RSS>>20, size>>20, without.RSS>>20)
	}
}
