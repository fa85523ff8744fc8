package stats

import (
	"cmp"
	"slices"
	"time"

	"statequake/history"
	"statequake/reports/trace"
)

// Window is a part of a run, on the run clock: From belongs to it, To does not.
type Window struct{ From, To time.Duration }

// Contains tells whether t lies in the window.
func (w Window) Contains(t time.Duration) bool { return w.From <= t && t < w.To }

// Length is the window's length, 0 if it is empty.
func (w Window) Length() time.Duration { return max(0, w.To-w.From) }

// LoadWindow finds the load phase on the run clock: it starts warmup after
// the due time of operation 0 and lasts duration. If operation 0 is not in the
// history, it starts with the first load operation. If the run was stopped
// early or is torn, it ends right after the last operation that was due. It
// returns false if the history holds no load operation.
func LoadWindow(run *trace.Run, warmup, duration time.Duration) (Window, bool) {
	var first, last time.Duration
	loads := false
	for op, kind := range run.Ops.All() {
		if kind.Phase != history.Load {
			continue
		}
		if !loads || op.Scheduled < first {
			first = op.Scheduled
		}
		last = max(last, op.Scheduled)
		loads = true
	}
	if !loads {
		return Window{}, false
	}
	start := first
	if zero := run.Ops.Start(); zero != nil {
		start = *zero + warmup
	}
	w := Window{From: start, To: start + duration}
	if run.Footer == nil || run.Footer.Stopped != "" {
		w.To = min(w.To, last+1)
	}
	return w, true
}

// merge returns the union of the windows, cut to within, as disjoint windows
// in order.
func merge(windows []Window, within Window) []Window {
	var cut []Window
	for _, w := range windows {
		w = Window{From: max(w.From, within.From), To: min(w.To, within.To)}
		if w.Length() > 0 {
			cut = append(cut, w)
		}
	}
	slices.SortFunc(cut, func(a, b Window) int { return cmp.Compare(a.From, b.From) })
	var out []Window
	for _, w := range cut {
		if n := len(out); n > 0 && w.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, w.To)
			continue
		}
		out = append(out, w)
	}
	return out
}

func anyContains(windows []Window, t time.Duration) bool {
	return slices.ContainsFunc(windows, func(w Window) bool { return w.Contains(t) })
}

// anyOverlaps tells whether op was due or on its way during one of the windows.
func anyOverlaps(windows []Window, op *trace.Op) bool {
	return slices.ContainsFunc(windows, func(w Window) bool { return op.Scheduled < w.To && op.Returned >= w.From })
}
