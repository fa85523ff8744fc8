package export

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"statequake/history"
)

const (
	longest = 24 * time.Hour // latency that an HDR log can hold
	// openSeconds is for how many seconds a histogram waits for what is recorded
	// later than it returned.
	openSeconds = 3
)

// slot is a histogram of a log.
type slot struct {
	second int64
	tag    string
}

// hdr writes an HDR log. It holds the histograms of the last few seconds only.
type hdr struct {
	w      io.Writer
	log    *hdrhistogram.HistogramLogWriter // nil before the first operation
	phased bool                             // tags say the phase
	open   map[slot]*hdrhistogram.Histogram
	spare  []*hdrhistogram.Histogram
	newest int64
}

func newHDR(w io.Writer, phases int) sink {
	h := &hdr{w: w, phased: phases > 1, open: map[slot]*hdrhistogram.Histogram{}}
	return sink{op: h.op, end: func() error { return h.flush(h.newest + 1) }}
}

func (h *hdr) op(o *history.Op) error {
	if o.Outcome == history.Unsent {
		return nil
	}
	second := int64(o.Returned / time.Second)
	if second > h.newest {
		h.newest = second
		if err := h.flush(second - openSeconds); err != nil {
			return err
		}
	}
	s := slot{second, h.tag(o)}
	histogram := h.open[s]
	if histogram == nil {
		if last := len(h.spare) - 1; last >= 0 {
			histogram, h.spare = h.spare[last], h.spare[:last]
		} else {
			histogram = hdrhistogram.New(int64(time.Microsecond), int64(longest), 3)
		}
		h.open[s] = histogram
	}
	return histogram.RecordValue(int64(min(max(o.Latency(), 0), longest)))
}

func (h *hdr) tag(o *history.Op) string {
	tag := url.QueryEscape(o.Name)
	if o.Outcome != history.OK {
		tag = string(o.Outcome) + ":" + tag
	}
	if h.phased {
		tag = string(o.Phase) + ":" + tag
	}
	return tag
}

// flush writes the histograms of the seconds before until, in their order.
func (h *hdr) flush(until int64) error {
	if h.log == nil {
		h.log = hdrhistogram.NewHistogramLogWriter(h.w)
		if err := h.head(); err != nil {
			return err
		}
	}
	ready := slices.DeleteFunc(slices.Collect(maps.Keys(h.open)), func(s slot) bool { return s.second >= until })
	slices.SortFunc(ready, func(a, b slot) int {
		return cmp.Or(cmp.Compare(a.second, b.second), cmp.Compare(a.tag, b.tag))
	})
	for _, s := range ready {
		histogram := h.open[s]
		histogram.SetTag(s.tag)
		histogram.SetStartTimeMs(s.second * 1000)
		histogram.SetEndTimeMs((s.second + 1) * 1000)
		if err := h.log.OutputIntervalHistogram(histogram); err != nil {
			return fmt.Errorf("second %d: %w", s.second, err)
		}
		histogram.Reset()
		delete(h.open, s)
		h.spare = append(h.spare, histogram)
	}
	return nil
}

func (h *hdr) head() error {
	for _, write := range []func() error{
		func() error { return h.log.OutputComment("[Latencies of a run of statequake, in nanoseconds]") },
		h.log.OutputLogFormatVersion,
		func() error { return h.log.OutputBaseTime(0) },
		func() error { return h.log.OutputStartTime(0) },
		h.log.OutputLegend,
	} {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}
