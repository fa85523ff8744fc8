package scenarios

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"statequake/history"
)

// climbing is a search from 100/s to 400/s that has come to its end with the
// given latencies, one for each level; 0 is an operation that nobody answered.
func climbing(t *testing.T, bound string, latencies ...time.Duration) *climb {
	t.Helper()
	text := with(t, "{find_max: {from: 100/s, to: 400/s, grow: 41.42136%, every: 2s, settle: 500ms, bound: {"+bound+"}}}", "-")
	s, err := Parse("f.yaml", []byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	arrivals, err := s.Load.process(s.Seed)
	if err != nil {
		t.Fatal(err)
	}
	const start = 7 * time.Second // of the operations
	c := newClimb(&s.Load, arrivals, start+s.Load.Warmup)
	if len(c.levels) != 5 {
		t.Fatalf("levels %v", c.levels)
	}
	for n := range arrivals.Count(s.Load.Warmup + s.Load.Duration) {
		op := history.Op{N: n, Phase: history.Load, Scheduled: start + arrivals.At(n), Outcome: history.OK}
		if arrivals.At(n) < s.Load.Warmup {
			op.Phase = history.Warmup
		}
		level := max(0, int((op.Scheduled-c.start)/c.Every))
		latency := latencies[min(level, len(latencies)-1)]
		if settling := (op.Scheduled - c.start) % c.Every; settling < c.Settle {
			latency = time.Hour // nobody looks
		}
		op.Returned = op.Scheduled + latency
		if latency == 0 {
			op.Outcome, op.Returned = history.Info, op.Scheduled+time.Millisecond
		}
		c.record(&op)
	}
	return c
}

func TestClimb(t *testing.T) {
	const ok, late = 10 * time.Millisecond, 60 * time.Millisecond
	for _, tt := range []struct {
		name, bound string
		latencies   []time.Duration
		ended       string // part of the reason, "" if it goes on to the end
		after       time.Duration
	}{
		{"to the end", "p99: 50ms", []time.Duration{ok}, "", 0},
		{"at the bound", "p99: 50ms", []time.Duration{50 * time.Millisecond}, "", 0},
		{"once", "p99: 50ms", []time.Duration{ok, late, ok, late, ok}, "", 0},
		{"twice in a row", "p99: 50ms", []time.Duration{ok, late, late, ok, ok}, "find_max: p99 was above 50ms at 141/s and at 200/s", 6 * time.Second},
		{"at once", "p99: 50ms", []time.Duration{late, late, ok}, "at 100/s and at 141/s", 4 * time.Second},
		{"unanswered", "p50: 50ms", []time.Duration{ok, 0, 0, ok}, "at 141/s and at 200/s", 6 * time.Second},
	} {
		c := climbing(t, tt.bound, tt.latencies...)
		var now atomic.Int64
		now.Store(int64(c.start))
		ctx, cancel := context.WithCancelCause(t.Context())
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			// Every look is a second later, in virtual time.
			c.watch(ctx, func() time.Duration { return time.Duration(now.Add(int64(time.Second))) }, cancel)
		}()
		<-watched
		reason := ""
		if err := context.Cause(ctx); err != nil {
			reason = err.Error()
		}
		if !strings.Contains(reason, tt.ended) || (reason == "") != (tt.ended == "") {
			t.Errorf("%s: ended with %q, want %q", tt.name, reason, tt.ended)
		}
		if at := time.Duration(now.Load()) - c.start; tt.ended != "" && (at < tt.after+c.Bound || at > tt.after+3*time.Second) {
			t.Errorf("%s: ended after %v of the load, want soon after %v", tt.name, at, tt.after)
		}
		cancel(nil)
	}
}

// One operation of 150 that is late is within p99, two are not; those that are on
// their way yet count as late.
func TestClimbShare(t *testing.T) {
	for missing, want := range map[int]bool{1: false, 2: true} {
		c := climbing(t, "p99: 50ms", 10*time.Millisecond)
		c.good[0] -= int64(missing) // of 150
		if got := c.broke(0); got != want {
			t.Errorf("%d of 150 operations missing: broken %v, want %v", missing, got, want)
		}
	}
}
