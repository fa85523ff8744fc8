package stats

import (
	"fmt"
	"time"

	"statequake/history"
	"statequake/reports/trace"
)

// GeneratorNode is the Node of the load generator's own samples.
const GeneratorNode = "generator"

// Fitness says whether the load generator's figures can be trusted.
type Fitness string

const (
	Valid    Fitness = "valid"
	Degraded Fitness = "degraded" // figures are coarser than they look
	Invalid  Fitness = "invalid"  // figures measure the generator, not the system
)

// Limits of the load generator. A figure beyond its limit, not on it, counts.
const (
	LagLimit      = 10 * time.Millisecond  // p99 of the send lag; beyond it degraded
	StallLimit    = 250 * time.Millisecond // longest time the generator did not get to run; beyond it invalid
	DegradedShare = 0.99                   // achieved of requested; below it degraded
	InvalidShare  = 0.95                   // achieved of requested; below it invalid
)

// Generator is the load generator's verdict on itself.
type Generator struct {
	Verdict Fitness
	Reasons []string // sentences; empty if valid
	// Send lag over all operations handed out, from the generator's last
	// sample: how much later than scheduled it got to them. Nil without a sample.
	LagP50, LagP99, LagMax *time.Duration
}

// judgeGenerator judges the generator of a recorded run by JudgeGenerator.
// Operations that were due are counted in the history; without Dispatched,
// operations sent within the load phase are compared with those scheduled.
func judgeGenerator(run *trace.Run, cfg Config, s *Stats, sent int64) Generator {
	due := func(until time.Duration) (n int64) {
		for op, kind := range run.Ops.All() {
			if (kind.Phase == history.Warmup || kind.Phase == history.Load) && op.Scheduled <= until {
				n++
			}
		}
		return n
	}
	if cfg.Closed {
		due = nil
	}
	return JudgeGenerator(run.Samples, cfg.Load.To, due, sent, s.Scheduled)
}

// JudgeGenerator applies the limits to what the generator is itself to blame
// for, as its samples tell it. An operation that had to wait for a connection
// because the system did not answer was handed out in time, so the achieved
// share compares operations handed out (Sample.Dispatched) with those due, at
// the generator's last sample before the end of the load, or its first one after
// it. Operations due in the LagLimit before the sample are left out of the
// comparison: they are the send lag's business. Without Dispatched, sent is
// compared with scheduled.
//
// due counts the operations due at until or before it, warm-up included; nil for
// a closed loop, which has no such share. Without any sample nothing speaks for
// the generator: it is invalid.
func JudgeGenerator(samples []history.Sample, loadEnd time.Duration, due func(until time.Duration) int64, sent, scheduled int64) Generator {
	g := Generator{Verdict: Valid}
	worsen := func(to Fitness, reason string, args ...any) {
		if to == Invalid || g.Verdict == Valid {
			g.Verdict = to
		}
		g.Reasons = append(g.Reasons, fmt.Sprintf(reason, args...))
	}

	var last, end *history.Sample // the last one; the one that decides about the share
	var stall time.Duration
	for i := range samples {
		sample := &samples[i]
		if sample.Node != GeneratorNode {
			continue
		}
		if last == nil || sample.At >= last.At {
			last = sample
		}
		if end == nil || decides(sample.At, end.At, loadEnd) {
			end = sample
		}
		stall = max(stall, sample.StallMax)
	}
	if last == nil {
		worsen(Invalid, "The load generator left no sample, so nothing shows that it kept up.")
		return g
	}
	g.LagP50, g.LagP99, g.LagMax = &last.LagP50, &last.LagP99, &last.LagMax

	if stall > StallLimit {
		worsen(Invalid, "The load generator did not get to run for %v (limit %v).", stall.Round(time.Millisecond), StallLimit)
	}
	if last.LagP99 > LagLimit {
		worsen(Degraded, "The load generator's send lag p99 was %v (limit %v).", last.LagP99.Round(100*time.Microsecond), LagLimit)
	}
	if due == nil {
		return g
	}
	done, of, what := sent, scheduled, "sent"
	if last.Dispatched > 0 {
		done, of, what = end.Dispatched, due(end.At-LagLimit), "handed out"
	}
	if of == 0 {
		return g
	}
	share := float64(done) / float64(of)
	switch {
	case share < InvalidShare:
		worsen(Invalid, "The load generator %s %d of %d due operations (%.1f %%, limit %.0f %%).", what, done, of, 100*share, 100*InvalidShare)
	case share < DegradedShare:
		worsen(Degraded, "The load generator %s %d of %d due operations (%.1f %%, limit %.0f %%).", what, done, of, 100*share, 100*DegradedShare)
	}
	return g
}

// decides tells whether a sample at t says more than one at than about the
// operations handed out by the end of the load: the last one before the end
// says most, else the first one after it.
func decides(t, than, end time.Duration) bool {
	if t < end && than < end {
		return t > than
	}
	return t < than
}
