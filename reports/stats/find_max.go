package stats

import (
	"cmp"
	"math"
	"slices"
	"time"

	"statequake/history"
	"statequake/reports/trace"
)

// Search is how a search for the highest rate was made: the rate grew from level
// to level, each as long as the others, from the start of the load on.
type Search struct {
	From, To   float64       // operations per second, of the first and of the last level
	Grow       float64       // from level to level, a share
	Every      time.Duration // length of a level
	Settle     time.Duration // at the start of a level, which is not measured
	Percentile string        // of the latency: p50, p90, p99 or p999
	Bound      time.Duration // that it keeps
}

// permille are the percentiles that a Search may bound, in parts of 1000.
var permille = map[string]int64{"p50": 500, "p90": 900, "p99": 990, "p999": 999}

// Valid reports whether levels can be made of it.
func (s *Search) Valid() bool {
	_, known := permille[s.Percentile]
	return known && s.From > 0 && s.To > s.From && s.Grow > 0 && s.Every > 0 && s.Settle >= 0 && s.Settle < s.Every && s.Bound > 0 &&
		math.Log(s.To/s.From)/math.Log1p(s.Grow) <= maxLevels
}

// maxLevels is the largest number of levels of a search.
const maxLevels = 10_000

// rates are those of the levels.
func (s *Search) rates() []float64 {
	var rates []float64
	for rate := s.From; rate < s.To; rate = s.From * math.Pow(1+s.Grow, float64(len(rates))) {
		rates = append(rates, rate)
	}
	return append(rates, s.To)
}

// Limit is what a search ended at.
type Limit string

const (
	LimitBound     Limit = "bound"     // the system broke the bound
	LimitGenerator Limit = "generator" // the level above the knee was not kept, and without the generator's own delay it might have been
	LimitEnd       Limit = "end"       // the levels, or the load, ended before the bound was broken
)

// answeredShare is how many of the operations due must be answered ok, whatever
// the percentile.
const answeredShare = 0.99

// FindMax is what a search found. The knee is the rate of the highest level that
// kept the bound below the first one in which the system broke it; nil if there is
// none. A level that the generator spoiled says nothing, and a higher one that kept
// the bound speaks for it. Unless LimitedBy is "bound" the system may bear more.
type FindMax struct {
	Bound     Bound         `json:"bound"`
	Every     time.Duration `json:"every_ns"`
	Settle    time.Duration `json:"settle_ns"`
	Knee      *float64      `json:"knee_rate_per_s"`
	LimitedBy Limit         `json:"limited_by"`
	Levels    []Level       `json:"levels"` // complete ones

	above int // the level above the knee
}

// Bound is what a level has to keep: a percentile of the latency of all
// operations due, of which those not answered ok are later than any.
type Bound struct {
	Percentile string        `json:"percentile"`
	Limit      time.Duration `json:"limit_ns"`
}

// Level is one level, without its start, in which it settles.
type Level struct {
	Rate     float64    `json:"rate_per_s"` // requested
	Due      int64      `json:"due"`
	OK       int64      `json:"ok"`           // of those due
	Achieved float64    `json:"ok_per_s"`     // answers ok in the measured part, per second of it
	Answered float64    `json:"answered"`     // share of those due that was answered ok
	Within   float64    `json:"within_bound"` // share of those due that was answered ok within the bound
	Latency  Summary    `json:"latency_ns"`   // of those due that were answered ok
	OwnDelay *int64     `json:"own_delay_ns"` // how much of the latency may be the generator's own, see history.Sample; nil if unknown
	Verdict  LevelState `json:"verdict"`

	start time.Duration // of its measured part, on the run clock
}

// LevelState says whether a level kept the bound.
type LevelState string

const (
	Kept        LevelState = "kept"
	Broken      LevelState = "broken"
	ByGenerator LevelState = "generator" // not kept, but it might have been without the generator's own delay
)

// FindMax judges a search by the operations of the load in the window given, see
// LoadWindow. A level is judged if all of it lies in the window.
//
// A level that keeps the bound speaks for the system and for the generator alike,
// since latency counts from the instant at which an operation was due. One that
// does not is the system's doing only if it would have been broken with the bound
// that much higher as the generator's own delay was in it: the 99th percentile
// of that, or the maximum where p999 is bounded.
func (s *Search) FindMax(run *trace.Run, load Window) *FindMax {
	f := &FindMax{Bound: Bound{s.Percentile, s.Bound}, Every: s.Every, Settle: s.Settle, LimitedBy: LimitEnd, Levels: []Level{}}
	levels := s.measure(run, load)
	for i := range levels {
		l := &levels[i]
		if l.Due == 0 {
			break // torn: nothing is known of what was due from here on
		}
		f.Levels = append(f.Levels, l.Level)
	}
	for i := range f.Levels {
		switch l := &f.Levels[i]; {
		case l.Verdict == Kept:
			f.Knee, f.LimitedBy, f.above = &l.Rate, LimitEnd, i+1
		case l.Verdict == ByGenerator:
			f.LimitedBy = LimitGenerator
		case f.LimitedBy == LimitGenerator:
			return f
		default:
			f.LimitedBy = LimitBound
			return f
		}
	}
	return f
}

// Trusted is the instant on the run clock until which the generator must have
// kept up: the start of the level above the knee, from where on it is judged
// level by level; false if there is none.
func (f *FindMax) Trusted() (time.Duration, bool) {
	if f.above >= len(f.Levels) {
		return 0, false
	}
	return f.Levels[f.above].start - f.Settle, true
}

// OfSystem is the knee if the system was the limit. If the generator was, or none
// was met, the system may bear more, and nothing is known.
func (f *FindMax) OfSystem() *float64 {
	if f.LimitedBy != LimitBound {
		return nil
	}
	return f.Knee
}

// KeptAgain is the rate of the highest level that kept the bound, if that is above
// the knee; else nil.
func (f *FindMax) KeptAgain() *float64 {
	for i := range slices.Backward(f.Levels) {
		l := &f.Levels[i]
		if l.Verdict == Kept {
			if f.Knee != nil && l.Rate <= *f.Knee {
				return nil
			}
			return &l.Rate
		}
	}
	return nil
}

// Ended reports whether the search ended before its levels as it should: two
// levels in a row did not keep the bound.
func (f *FindMax) Ended() bool {
	n := len(f.Levels)
	return n >= 2 && f.Levels[n-1].Verdict != Kept && f.Levels[n-2].Verdict != Kept
}

// counted is a level while it is counted.
type counted struct {
	Level
	window    Window
	latencies *histogram
	answers   int64
	good      int64           // answered ok within the bound
	late      []time.Duration // latencies of those answered ok that are beyond it
}

// measure measures the complete levels.
func (s *Search) measure(run *trace.Run, load Window) []counted {
	var levels []counted
	for i, rate := range s.rates() {
		w := Window{load.From + time.Duration(i)*s.Every + s.Settle, load.From + time.Duration(i+1)*s.Every}
		if w.To > load.To {
			break
		}
		levels = append(levels, counted{Level: Level{Rate: rate, start: w.From}, window: w, latencies: newHistogram()})
	}
	at := func(t time.Duration) *counted {
		if i := int((t - load.From) / s.Every); t >= load.From && i < len(levels) && levels[i].window.Contains(t) {
			return &levels[i]
		}
		return nil
	}
	for op, kind := range run.Ops.All() {
		if kind.Phase != history.Load {
			continue
		}
		ok := kind.Outcome == history.OK
		if ok {
			if l := at(op.Returned); l != nil {
				l.answers++
			}
		}
		l := at(op.Scheduled)
		if l == nil {
			continue
		}
		l.Due++
		if !ok {
			continue
		}
		l.OK++
		l.latencies.record(op.Latency())
		if op.Latency() <= s.Bound {
			l.good++
		} else {
			l.late = append(l.late, op.Latency())
		}
	}
	var samples []history.Sample
	for _, sample := range run.Samples {
		if sample.Node == GeneratorNode {
			samples = append(samples, sample)
		}
	}
	slices.SortStableFunc(samples, func(a, b history.Sample) int { return cmp.Compare(a.At, b.At) })
	for i := range levels {
		l := &levels[i]
		l.Achieved = float64(l.answers) / l.window.Length().Seconds()
		l.Latency = l.latencies.summary()
		if l.Due > 0 {
			l.Answered, l.Within = float64(l.OK)/float64(l.Due), float64(l.good)/float64(l.Due)
		}
		own, known := s.ownDelay(samples, l)
		if known {
			ns := int64(own)
			l.OwnDelay = &ns
		}
		l.Verdict = s.judge(l, own, known)
	}
	return levels
}

func (s *Search) judge(l *counted, own time.Duration, known bool) LevelState {
	kept := func(good int64) bool {
		return good*1000 >= l.Due*permille[s.Percentile] && float64(l.OK) >= answeredShare*float64(l.Due)
	}
	if kept(l.good) {
		return Kept
	}
	if !known {
		return ByGenerator // nothing shows that it kept up
	}
	spared := l.good
	for _, latency := range l.late {
		if latency-own <= s.Bound {
			spared++
		}
	}
	if kept(spared) {
		return ByGenerator
	}
	return Broken
}

// ownDelay is the largest own delay of the generator in the samples that tell of
// the level: those that have at least half of their time in it, and what came
// after it while the level's operations may have been handed out; false if none
// does. samples are those of the generator, by time.
func (s *Search) ownDelay(samples []history.Sample, l *counted) (own time.Duration, known bool) {
	until := l.window.To + min(l.Latency.P99, s.Every)
	for i := 1; i < len(samples); i++ {
		from, to, sample := samples[i-1].At, samples[i].At, &samples[i]
		if to-max(from, l.window.From) < (to-from)/2 || from >= until || sample.OwnDelayP99 == 0 {
			continue
		}
		delay := sample.OwnDelayP99
		if s.Percentile == "p999" {
			delay = sample.OwnDelayMax
		}
		own, known = max(own, delay), true
	}
	return own, known
}

// trusted is the run with the generator's samples up to cfg.Trusted only.
func trusted(run *trace.Run, cfg Config) (*trace.Run, Config) {
	if cfg.Trusted == nil {
		return run, cfg
	}
	cut := *run
	cfg.Closed = true // unless some had been handed out by then, there is no share of them
	cut.Samples = slices.DeleteFunc(slices.Clone(run.Samples), func(s history.Sample) bool {
		late := s.Node == GeneratorNode && s.At > *cfg.Trusted
		cfg.Closed = cfg.Closed && (late || s.Dispatched == 0)
		return late
	})
	return &cut, cfg
}
