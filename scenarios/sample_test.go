package scenarios

import (
	"context"
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
