package stats

import (
	"time"

	"statequake/history"
	"statequake/reports/trace"
)

// Config says which parts of a run to measure.
type Config struct {
	Load     Window          // the load phase, see LoadWindow
	Faults   []Window        // when faults disturbed the system; may overlap
	Closed   bool            // closed loop: there is no requested rate
	Answered []time.Duration // bounds for Stats.AnsweredWithin

	// Trusted is the instant on the run clock until which the generator must have
	// kept up, if not nil: later it was driven beyond what anybody bears, see
	// FindMax.
	Trusted *time.Duration
}

// Stats is the speed of a run. Only operations of the load phase count:
// warmup, probes, drain and audit do not.
type Stats struct {
	Counts    history.Counts // by outcome, counted from the history
	Scheduled int64          // due, by the arrival function; counted lines if the history has no footer

	Latency Latency
	Curves  Curves

	// AnsweredWithin maps a bound ("1s") to the share, 0 to 1, of all scheduled
	// operations whose latency is at most the bound and whose outcome is ok.
	// It is empty if nothing was scheduled.
	AnsweredWithin map[string]float64

	Throughput Throughput

	RequestedRate *float64 // scheduled operations per second; nil for a closed loop
	AchievedRate  float64  // operations sent within the load phase, per second of it

	Generator          Generator
	Resources          map[string]Resources // by node
	GeneratorResources Resources
}

// Latency holds latencies of ok operations (business rejections included),
// from the scheduled instant to the last byte of the answer. An operation is
// DuringFaults if it was due or on its way during one of Config.Faults, also
// for a part of the time, else Steady.
type Latency struct {
	All          Summary            `json:"all"`
	Steady       Summary            `json:"steady"`
	DuringFaults Summary            `json:"during_faults"`
	ByOp         map[string]Summary `json:"by_op"` // by operation name, over the whole load phase
}

// Throughput is how many load operations were answered ok per second, counted
// by the instant of the answer within each part of the load phase; answers
// after its end do not count. A value is nil if its part has no length.
type Throughput struct {
	All          *float64 `json:"all"`
	Steady       *float64 `json:"steady"`
	DuringFaults *float64 `json:"during_faults"`
}

// Measure measures a run. The result depends on run and cfg only.
func Measure(run *trace.Run, cfg Config) *Stats {
	faults := merge(cfg.Faults, cfg.Load)
	all, steady, during := newHistogram(), newHistogram(), newHistogram()
	byOp := map[string]*histogram{}
	within := make([]int64, len(cfg.Answered))
	var answersSteady, answersDuring, sent int64
	s := &Stats{AnsweredWithin: map[string]float64{}}
	for op, kind := range run.Ops.All() {
		if kind.Phase != history.Load {
			continue
		}
		if kind.Outcome != history.Unsent && cfg.Load.Contains(op.Sent) {
			sent++
		}
		switch kind.Outcome {
		case history.Fail:
			s.Counts.Fail++
		case history.Info:
			s.Counts.Info++
		case history.Unsent:
			s.Counts.Unsent++
		}
		if kind.Outcome != history.OK {
			continue
		}
		s.Counts.OK++
		latency := op.Latency()
		all.record(latency)
		if anyOverlaps(faults, op) {
			during.record(latency)
		} else {
			steady.record(latency)
		}
		named := byOp[kind.Name]
		if named == nil {
			named = newHistogram()
			byOp[kind.Name] = named
		}
		named.record(latency)
		for i, bound := range cfg.Answered {
			if latency <= bound {
				within[i]++
			}
		}
		if cfg.Load.Contains(op.Returned) {
			if anyContains(faults, op.Returned) {
				answersDuring++
			} else {
				answersSteady++
			}
		}
	}

	s.Latency = Latency{All: all.summary(), Steady: steady.summary(), DuringFaults: during.summary(), ByOp: map[string]Summary{}}
	s.Curves = Curves{All: all.curve(), Steady: steady.curve(), DuringFaults: during.curve()}
	for name, h := range byOp {
		s.Latency.ByOp[name] = h.summary()
	}

	s.Scheduled = s.Counts.Total()
	if run.Footer != nil {
		s.Scheduled = run.Footer.Scheduled[history.Load]
	}
	if s.Scheduled > 0 {
		for i, bound := range cfg.Answered {
			s.AnsweredWithin[BoundName(bound)] = float64(within[i]) / float64(s.Scheduled)
		}
	}

	var faultTime time.Duration
	for _, w := range faults {
		faultTime += w.Length()
	}
	s.Throughput = Throughput{
		All:          rate(answersSteady+answersDuring, cfg.Load.Length()),
		Steady:       rate(answersSteady, cfg.Load.Length()-faultTime),
		DuringFaults: rate(answersDuring, faultTime),
	}
	if !cfg.Closed {
		s.RequestedRate = rate(s.Scheduled, cfg.Load.Length())
	}
	if achieved := rate(sent, cfg.Load.Length()); achieved != nil {
		s.AchievedRate = *achieved
	}

	early, until := trusted(run, cfg)
	s.Generator = judgeGenerator(early, until, s, sent)
	s.Resources, s.GeneratorResources = resources(run.Samples)
	return s
}

// BoundName is the key of a bound in Stats.AnsweredWithin: "100ms", "1s", "1m".
func BoundName(d time.Duration) string {
	name := d.String()
	// Duration.String writes a minute as 1m0s.
	for _, zero := range []string{"m0s", "h0m"} {
		if len(name) > len(zero) && name[len(name)-len(zero):] == zero {
			name = name[:len(name)-2]
		}
	}
	return name
}

// rate is n per second of length, nil if there is no length.
func rate(n int64, length time.Duration) *float64 {
	if length <= 0 {
		return nil
	}
	r := float64(n) / length.Seconds()
	return &r
}
