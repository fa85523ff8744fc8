package reports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"

	"statequake/history"
)

// longer adds operations that are answered ok to the load.
func (f *fixture) longer(n int) {
	like := *f.op("7f3a-l104")
	for i := range n {
		op := like
		op.ID, op.N, op.Key = fmt.Sprintf("7f3a-l%d", 1300+i), int64(1300+i), fmt.Sprintf("other-%d.1", i/500)
		op.Result, op.Version, op.Digest = json.RawMessage(`{"value":0}`), 0, history.ZeroDigest
		f.ops = append(f.ops, op)
	}
	f.footer.Scheduled[history.Load] += int64(n)
}

// heap is what is in use, in bytes, and not in a sync.Pool, which is emptied at
// the second collection after its last use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A verdict does not hold its history: a run of 60,000 operations, each of
// which takes 400 bytes as a history.Op, leaves the trace.
func TestVerdictIsLean(t *testing.T) {
	const n = 60_000
	f := newFixture()
	f.lose(1)
	f.longer(n)
	dir := f.write(t)
	f = nil
	before := heap()
	v, err := Judge(dir)
	if err != nil {
		t.Fatal(err)
	}
	if kept := heap() - before; kept > 48*n {
		t.Errorf("the verdict on %d operations keeps %d bytes, want at most 48 for each", n, kept)
	}
	if got := v.run.Ops.Len(); got < n || len(v.evidence.Ops) == 0 || len(v.evidence.Ops) > 1000 {
		t.Errorf("%d operations measured, %d kept for the violations", got, len(v.evidence.Ops))
	}
	runtime.KeepAlive(v)
}

// A run is judged the same whether its history was compressed or not.
func TestJudgeCompressed(t *testing.T) {
	f := newFixture()
	f.lose(4)
	dir := f.write(t)
	write := func() (verdict, page []byte) {
		t.Helper()
		v, err := Judge(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(dir, v); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string]*[]byte{"verdict.json": &verdict, "report.html": &page} {
			if *data, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		return verdict, page
	}
	verdict, page := write()

	path := filepath.Join(dir, "history.jsonl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".zst", encoder.EncodeAll(text, nil), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if again, samePage := write(); !bytes.Equal(again, verdict) || !bytes.Equal(samePage, page) {
		t.Errorf("compressed it is judged as\n%s\nbefore as\n%s", again, verdict)
	}
}
