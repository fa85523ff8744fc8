package stats

import (
	"encoding/json"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Summary is a latency distribution. Percentiles come from an HdrHistogram of
// three significant digits: percentile q is the latency of rank q x N / 100,
// rounded to the nearest whole rank, or at most 0.1 % above it. Max is exact. A
// Summary of no operation has N 0, and its other values are null in JSON.
type Summary struct {
	P50  time.Duration `json:"p50"`
	P90  time.Duration `json:"p90"`
	P99  time.Duration `json:"p99"`
	P999 time.Duration `json:"p999"`
	Max  time.Duration `json:"max"`
	N    int64         `json:"n"`
}

// MarshalJSON writes integer nanoseconds, and null for every value but n if
// there was no operation.
func (s Summary) MarshalJSON() ([]byte, error) {
	if s.N == 0 {
		return []byte(`{"p50":null,"p90":null,"p99":null,"p999":null,"max":null,"n":0}`), nil
	}
	type plain Summary // without this method
	return json.Marshal(plain(s))
}

// longest is the largest latency the histograms tell apart; longer ones count
// as this long in percentiles.
const longest = time.Hour

// histogram collects latencies for a Summary.
type histogram struct {
	hdr *hdrhistogram.Histogram
	max time.Duration
}

func newHistogram() *histogram {
	return &histogram{hdr: hdrhistogram.New(1, int64(longest), 3)}
}

func (h *histogram) record(d time.Duration) {
	h.max = max(h.max, d)
	// Within [0, longest] RecordValue cannot fail.
	_ = h.hdr.RecordValue(int64(min(max(d, 0), longest)))
}

func (h *histogram) summary() Summary {
	n := h.hdr.TotalCount()
	if n == 0 {
		return Summary{}
	}
	at := func(percent float64) time.Duration {
		return min(time.Duration(h.hdr.ValueAtQuantile(percent)), h.max)
	}
	return Summary{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: h.max, N: n}
}

// Recorder collects latencies for a Summary where no run is recorded. The zero
// value is not ready; use NewRecorder. One goroutine at a time may use it.
type Recorder struct{ h *histogram }

// NewRecorder returns an empty Recorder.
func NewRecorder() *Recorder { return &Recorder{newHistogram()} }

// Record adds a latency.
func (r *Recorder) Record(d time.Duration) { r.h.record(d) }

// Merge adds what other has recorded.
func (r *Recorder) Merge(other *Recorder) {
	r.h.hdr.Merge(other.h.hdr)
	r.h.max = max(r.h.max, other.h.max)
}

// Summary returns the distribution of what was recorded.
func (r *Recorder) Summary() Summary { return r.h.summary() }
