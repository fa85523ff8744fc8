package reports

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"statequake/history"
	"statequake/reports/stats"
)

// Expectation is one limit of a scenario and how the run met it.
type Expectation struct {
	Name  string `json:"name"`
	Limit string `json:"limit"` // as in the scenario
	// Measured is in the notation of the limit ("932.1ms", "97.3%", "499.8/s", "81.4MiB",
	// "0"). It is "never" for an outage that did not end, and nil if it could not
	// be measured; neither meets a limit.
	Measured *string `json:"measured"`
	Met      bool    `json:"met"`
}

// unit is the notation of a limit. Values are in nanoseconds, shares of one,
// operations per second, bytes, or whole numbers.
type unit struct {
	what   string // for errors
	sample string
	parse  func(string) (float64, error)
	format func(float64) string
}

var errNotation = errors.New("bad notation")

var (
	durationUnit = unit{
		"a duration", "250ms",
		func(s string) (float64, error) {
			d, err := time.ParseDuration(s)
			return float64(d), err
		},
		func(v float64) string { return time.Duration(v).Round(time.Microsecond).String() },
	}
	shareUnit = unit{
		"a percentage from 0% to 100%", "95%",
		func(s string) (float64, error) {
			number, ok := strings.CutSuffix(s, "%")
			v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if !ok || v > 100 {
				err = errNotation
			}
			return v / 100, err
		},
		func(v float64) string { return shortest(100*v, 4) + "%" },
	}
	rateUnit = unit{
		"a rate", "400/s",
		func(s string) (float64, error) {
			return strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(s, "/s")), 64)
		},
		func(v float64) string { return shortest(v, 2) + "/s" },
	}
	countUnit = unit{
		"a whole number", "0",
		func(s string) (float64, error) {
			n, err := strconv.ParseUint(s, 10, 53)
			return float64(n), err
		},
		func(v float64) string { return strconv.FormatInt(int64(v), 10) },
	}
	sizeUnit = unit{
		"a size", "150MiB",
		func(s string) (float64, error) {
			read := units.FromHumanSize
			if strings.Contains(strings.ToLower(s), "ib") {
				read = units.RAMInBytes
			}
			n, err := read(s)
			return float64(n), err
		},
		func(v float64) string { return strings.ReplaceAll(bytesOf(int64(v)), " ", "") },
	}
)

// expectation is one metric that a scenario may limit.
type expectation struct {
	unit
	minimum bool // the limit is the least allowed, otherwise the most allowed
	// measure returns NaN for what could not be measured and +Inf for what never
	// ended.
	measure func(*evaluation) float64
}

// evaluation is what expectations are measured on.
type evaluation struct {
	stats  *stats.Stats
	faults []Fault
	lost   int // lost acknowledged writes, -1 if unknown

	findMax *stats.FindMax // nil without a search
}

// answeredWithin and its duration make a name: answered_within.1s.
const answeredWithin = "answered_within."

// expectations holds every metric with a fixed name.
var expectations = func() map[string]expectation {
	m := map[string]expectation{
		"lost_acks": {unit: countUnit, measure: func(e *evaluation) float64 {
			if e.lost < 0 {
				return math.NaN()
			}
			return float64(e.lost)
		}},
		"keys_dead": {unit: countUnit, measure: func(e *evaluation) float64 {
			return e.worst(func(f *Fault) float64 { return float64(f.Recovery.KeysDead) })
		}},
		"outage_max": {unit: durationUnit, measure: func(e *evaluation) float64 {
			return e.worst(func(f *Fault) float64 { return f.outage(f.Recovery.Outage.Max) })
		}},
		"outage_p50": {unit: durationUnit, measure: func(e *evaluation) float64 {
			return e.worst(func(f *Fault) float64 { return f.outage(f.Recovery.Outage.P50) })
		}},
		"rpo_max": {unit: durationUnit, measure: func(e *evaluation) float64 {
			return e.worst(func(f *Fault) float64 { return orNaN(f.Recovery.RPO) })
		}},
		"knee_min": {unit: rateUnit, minimum: true, measure: func(e *evaluation) float64 {
			if e.findMax == nil || e.findMax.Knee == nil {
				return math.NaN()
			}
			return *e.findMax.Knee
		}},
		"throughput_min": {unit: rateUnit, minimum: true, measure: func(e *evaluation) float64 {
			if e.stats.Throughput.All == nil {
				return math.NaN()
			}
			return *e.stats.Throughput.All
		}},
		"generator.rss_max": {unit: sizeUnit, measure: func(e *evaluation) float64 {
			return sampled(e.stats.GeneratorResources)
		}},
		"nodes.rss_max": {unit: sizeUnit, measure: func(e *evaluation) float64 {
			most := math.NaN()
			for _, r := range e.stats.Resources {
				if v := sampled(r); math.IsNaN(most) || v > most {
					most = v
				}
			}
			return most
		}},
	}
	parts := map[string]func(stats.Latency) stats.Summary{
		"all":    func(l stats.Latency) stats.Summary { return l.All },
		"steady": func(l stats.Latency) stats.Summary { return l.Steady },
		"faults": func(l stats.Latency) stats.Summary { return l.DuringFaults },
	}
	values := map[string]func(stats.Summary) time.Duration{
		"p50":  func(s stats.Summary) time.Duration { return s.P50 },
		"p90":  func(s stats.Summary) time.Duration { return s.P90 },
		"p99":  func(s stats.Summary) time.Duration { return s.P99 },
		"p999": func(s stats.Summary) time.Duration { return s.P999 },
		"max":  func(s stats.Summary) time.Duration { return s.Max },
	}
	for part, of := range parts {
		for name, value := range values {
			m[part+"."+name] = expectation{unit: durationUnit, measure: func(e *evaluation) float64 {
				s := of(e.stats.Latency)
				if s.N == 0 {
					return math.NaN()
				}
				return float64(value(s))
			}}
		}
	}
	return m
}()

// sampled is the largest resident set of a process, NaN if none was seen.
func sampled(r stats.Resources) float64 {
	if r.RSSMax <= 0 {
		return math.NaN()
	}
	return float64(r.RSSMax)
}

// Expectations lists the names that a scenario's expect may hold, sorted. A
// name that ends in DURATION stands for any duration there.
func Expectations() []string {
	names := append(slices.Collect(maps.Keys(expectations)), answeredWithin+"DURATION")
	slices.Sort(names)
	return names
}

// find returns the expectation of that name.
func find(name string) (expectation, error) {
	if e, ok := expectations[name]; ok {
		return e, nil
	}
	if _, ok := strings.CutPrefix(name, answeredWithin); ok {
		bound, err := answeredBound(name)
		if err != nil {
			return expectation{}, err
		}
		return expectation{unit: shareUnit, minimum: true, measure: func(e *evaluation) float64 {
			share, ok := e.stats.AnsweredWithin[stats.BoundName(bound)]
			if !ok {
				return math.NaN()
			}
			return share
		}}, nil
	}
	return expectation{}, fmt.Errorf("unknown expectation %q; have %s", name, strings.Join(Expectations(), ", "))
}

// answeredBound is the bound of an answered_within expectation.
func answeredBound(name string) (time.Duration, error) {
	text := strings.TrimPrefix(name, answeredWithin)
	bound, err := time.ParseDuration(text)
	if err != nil || bound <= 0 {
		return 0, fmt.Errorf("%q is not a positive duration\nhint: %s1s: 95%%", text, answeredWithin)
	}
	return bound, nil
}

// CheckExpectation says what is wrong with one line of a scenario's expect: an
// unknown name, or a limit in the wrong notation. A remedy follows on a line
// of its own, as "hint: ...".
func CheckExpectation(name, limit string) error {
	e, err := find(name)
	if err != nil {
		return err
	}
	_, err = e.limit(limit)
	return err
}

// limit reads a limit in the unit's notation.
func (u unit) limit(text string) (float64, error) {
	v, err := u.parse(text)
	if err != nil || v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%q is not %s\nhint: for instance %s", text, u.what, u.sample)
	}
	return v, nil
}

// evaluate measures every expectation of a valid scenario, by name.
func (e *evaluation) evaluate(expect map[string]string) ([]Expectation, error) {
	out := []Expectation{}
	for _, name := range slices.Sorted(maps.Keys(expect)) {
		expected, err := find(name)
		if err != nil {
			return nil, err
		}
		limit, err := expected.limit(expect[name])
		if err != nil {
			return nil, fmt.Errorf("expect.%s: %w", name, err)
		}
		x := Expectation{Name: name, Limit: expect[name]}
		switch v := expected.measure(e); {
		case math.IsNaN(v):
		case math.IsInf(v, 1):
			never := "never"
			x.Measured = &never
		default:
			text := expected.format(v)
			x.Measured = &text
			x.Met = v <= limit
			if expected.minimum {
				x.Met = v >= limit
			}
		}
		out = append(out, x)
	}
	return out, nil
}

// thresholds are the limits that the load's script has set and its program has
// judged, as expectations.
func thresholds(footer *history.Footer) []Expectation {
	if footer == nil {
		return nil
	}
	var out []Expectation
	for _, t := range footer.Thresholds {
		x := Expectation{Name: "k6 " + t.Metric, Limit: t.Limit, Met: !t.Crossed}
		if t.Measured != nil {
			text := shortest(*t.Measured, 3)
			x.Measured = &text
		}
		out = append(out, x)
	}
	return out
}

// answered returns the bounds whose shares are needed, ascending: the usual
// ones, and those of the expectations.
func answered(expect map[string]string) []time.Duration {
	bounds := []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second}
	for name := range expect {
		if !strings.HasPrefix(name, answeredWithin) {
			continue
		}
		if bound, err := answeredBound(name); err == nil {
			bounds = append(bounds, bound)
		}
	}
	slices.Sort(bounds)
	return slices.Compact(bounds)
}

// worst is the largest value over all faults. It is NaN if there is no fault,
// or if the value of a fault is unknown, unless one is +Inf.
func (e *evaluation) worst(of func(*Fault) float64) float64 {
	worst := math.NaN()
	unknown := len(e.faults) == 0
	for i := range e.faults {
		v := math.NaN()
		if e.faults[i].Recovery != nil {
			v = of(&e.faults[i])
		}
		unknown = unknown || math.IsNaN(v)
		if math.IsNaN(worst) || v > worst {
			worst = v
		}
	}
	if unknown && !math.IsInf(worst, 1) {
		return math.NaN()
	}
	return worst
}

// outage is an outage figure of the fault, +Inf if a key did not come back.
func (f *Fault) outage(d *time.Duration) float64 {
	if f.Recovery.KeysDead > 0 {
		return math.Inf(1)
	}
	return orNaN(d)
}

func orNaN(d *time.Duration) float64 {
	if d == nil {
		return math.NaN()
	}
	return float64(*d)
}

// shortest writes v with at most that many decimals.
func shortest(v float64, decimals int) string {
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
