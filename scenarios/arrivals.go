package scenarios

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"statequake/loadgen"
)

// Arrivals says when operations are due. Exactly one of the fields is set, Think
// beside Clients. Instants count from the start of the measured load; during the
// warmup the rate is that at its start.
type Arrivals struct {
	Constant float64 // operations per second, evenly spaced, whatever the system does (open loop)
	Poisson  float64 // operations per second on average, with gaps that the seed draws
	Ramp     *Ramp
	Step     *Step
	Sine     *Sine
	Spike    *Spike
	Replay   *Replay
	FindMax  *FindMax
	Clients  int           // each sends its next operation when the last one has ended (closed loop)
	Think    loadgen.Think // of clients, in between
}

// Ramp is a rate that changes in a straight line over the load.
type Ramp struct{ From, To float64 } // operations per second

// Step is a rate that changes by so much at equal distances.
type Step struct {
	From, By float64 // operations per second
	Every    time.Duration
}

// Sine is a rate that swings around a mean.
type Sine struct {
	Mean, Amplitude float64 // operations per second
	Period          time.Duration
}

// Spike is a rate with a peak.
type Spike struct {
	Base, Peak float64 // operations per second
	At, For    time.Duration
}

// Replay is a recorded schedule.
type Replay struct {
	File     string          // that it was read from: an absolute path, but in the scenario of a run directory
	Speed    float64         // instants are divided by it
	Instants []time.Duration // from the first one, which is 0
}

// FindMax looks for the highest rate at which a bound is kept: from one level of
// the rate to the next, each so many percent higher, until it was broken in two
// levels in a row.
type FindMax struct {
	From, To   float64 // operations per second; the last level is To
	Grow       Percent
	Every      time.Duration // length of a level
	Settle     time.Duration // at the start of a level, which is not measured
	Percentile string        // of the latency, as in percentiles
	Bound      time.Duration // that it keeps
}

// percentiles are those that find_max can bound, in parts of 1000.
var percentiles = map[string]int64{"p50": 500, "p90": 900, "p99": 990, "p999": 999}

// Bounds of what arrivals are made of.
const (
	leastRate  = 0.1 // per second
	mostRate   = 1e6
	mostLevels = 10_000
	leastEvery = 100 * time.Millisecond
)

// arrivalKinds are the fields of load.arrivals that exclude each other.
var arrivalKinds = []string{"constant", "poisson", "ramp", "step", "sine", "spike", "replay", "closed", "find_max"}

// arrivals reads load.arrivals, but for what a recorded schedule holds.
func (p *parser) arrivals(load object) Arrivals {
	load.need("arrivals", "arrivals: {constant: 500/s}")
	if load.values["arrivals"] == nil {
		return Arrivals{}
	}
	o := load.object("arrivals", append(slices.Clone(arrivalKinds), "speed")...)
	kinds := slices.DeleteFunc(slices.Clone(arrivalKinds), func(kind string) bool { return !o.has(kind) })
	switch {
	case o.broken:
		return Arrivals{}
	case len(kinds) == 0:
		load.refuse("arrivals", "arrivals: {constant: 500/s}, or {closed: {clients: 16}}", "missing; %s", oneOf(arrivalKinds))
		return Arrivals{}
	case len(kinds) > 1:
		name, other := kinds[1], kinds[0]
		if p.where(join2(o.path, other)).set != "" { // blame the later one
			name, other = other, name
		}
		o.refuse(name, "--set 'load.arrivals={constant: 800/s}' replaces both", "contradicts load.arrivals.%s; give one of them", other)
	}
	var a Arrivals
	a.Constant = o.rate("constant")
	a.Poisson = o.rate("poisson")
	for _, kind := range kinds {
		switch kind {
		case "ramp":
			r := o.object(kind, "from", "to")
			r.need("from", "ramp: {from: 100/s, to: 1000/s}")
			r.need("to", "ramp: {from: 100/s, to: 1000/s}")
			a.Ramp = &Ramp{r.rate("from"), r.rate("to")}
		case "step":
			a.Step = p.step(o)
		case "sine":
			a.Sine = p.sine(o)
		case "spike":
			s := o.object(kind, "base", "peak", "at", "for")
			for _, field := range []string{"base", "peak", "at", "for"} {
				s.need(field, "spike: {base: 200/s, peak: 2000/s, at: 10s, for: 2s}")
			}
			a.Spike = &Spike{s.rate("base"), s.rate("peak"), s.duration("at", 0, 0, 24*time.Hour), s.duration("for", time.Second, time.Millisecond, 24*time.Hour)}
		case "replay":
			file, _ := o.scalar(kind)
			a.Replay = &Replay{File: file}
		case "closed":
			a.Clients, a.Think = p.closed(o)
		case "find_max":
			a.FindMax = p.findMax(o)
		}
	}
	if speed := o.number("speed", "", 1, 0.001, 1000, "2"); a.Replay != nil {
		a.Replay.Speed = speed
	} else if o.has("speed") {
		o.refuse("speed", "", "is that of a replay")
	}
	return a
}

// rate reads a number of operations per second.
func (o object) rate(name string) float64 {
	return o.number(name, "/s", 0, leastRate, mostRate, "500/s")
}

func (p *parser) step(arrivals object) *Step {
	o := arrivals.object("step", "from", "by", "every")
	for _, field := range []string{"from", "by", "every"} {
		o.need(field, "step: {from: 100/s, by: 100/s, every: 5s}")
	}
	return &Step{o.rate("from"), o.number("by", "/s", 0, -mostRate, mostRate, "100/s"), o.duration("every", time.Second, leastEvery, 24*time.Hour)}
}

func (p *parser) sine(arrivals object) *Sine {
	o := arrivals.object("sine", "mean", "amplitude", "period")
	for _, field := range []string{"mean", "amplitude", "period"} {
		o.need(field, "sine: {mean: 500/s, amplitude: 300/s, period: 10s}")
	}
	s := &Sine{o.rate("mean"), o.number("amplitude", "/s", 0, 0, mostRate, "300/s"), o.duration("period", time.Second, leastEvery, 24*time.Hour)}
	switch {
	case s.Amplitude > s.Mean && s.Mean > 0:
		o.refuse("amplitude", "", "%s/s is more than the mean, %s/s: the rate would be negative", decimal(s.Amplitude), decimal(s.Mean))
	case s.Mean+s.Amplitude > mostRate:
		o.refuse("amplitude", "", "the rate would reach %s/s, limit %s/s", decimal(s.Mean+s.Amplitude), decimal(mostRate))
	}
	return s
}

func (p *parser) closed(arrivals object) (clients int, think loadgen.Think) {
	o := arrivals.object("closed", "clients", "think")
	o.need("clients", "clients: 16")
	clients = int(o.integer("clients", 0, 1, 65536))
	if n := o.values["think"]; n != nil && n.Kind == yaml.MappingNode {
		t := o.object("think", "exponential")
		t.need("exponential", "think: {exponential: 100ms}, or think: 100ms")
		think = loadgen.Think{Mean: t.duration("exponential", 0, 0, time.Hour)}
		think.Exponential = think.Mean > 0
	} else {
		think.Mean = o.duration("think", 0, 0, time.Hour)
	}
	return clients, think
}

func (p *parser) findMax(arrivals object) *FindMax {
	o := arrivals.object("find_max", "from", "to", "grow", "every", "settle", "bound")
	const example = "find_max: {from: 200/s, to: 20000/s, grow: 10%, every: 3s, bound: {p99: 50ms}}"
	for _, field := range []string{"from", "to", "bound"} {
		o.need(field, example)
	}
	f := &FindMax{
		From: o.rate("from"), To: o.rate("to"),
		Grow:  Percent(o.number("grow", "%", 10, 1, 1000, "10%")),
		Every: o.duration("every", 3*time.Second, time.Second, time.Hour),
	}
	// Whole milliseconds, so that it reads well where it was filled in.
	f.Settle = o.duration("settle", (f.Every / 3).Truncate(time.Millisecond), 0, f.Every*9/10)
	bound := o.object("bound", "p50", "p90", "p99", "p999")
	for name := range percentiles {
		if !bound.has(name) {
			continue
		}
		if f.Percentile != "" {
			o.refuse("bound", "bound: {p99: 50ms}", "has more than one percentile")
			break
		}
		f.Percentile, f.Bound = name, bound.duration(name, time.Second, time.Millisecond, 10*time.Minute)
	}
	if f.Percentile == "" {
		if o.has("bound") && !bound.broken {
			o.refuse("bound", "bound: {p99: 50ms}", "has no percentile; have p50, p90, p99, p999")
		}
		return f
	}
	if !o.has("from") || !o.has("to") || f.From == 0 || f.To == 0 {
		return f
	}
	if f.To <= f.From {
		o.refuse("to", "", "%s/s is not above from, %s/s", decimal(f.To), decimal(f.From))
	}
	least, n := 1000/(1000-percentiles[f.Percentile]), f.From*(f.Every-f.Settle).Seconds()
	if n < float64(least) {
		o.refuse("from", "raise from, or every", "the first level measures %d operations, and %s takes %d", int64(n), f.Percentile, least)
	}
	return f
}

// Levels are the rates that are tried.
func (f *FindMax) Levels() []float64 { return loadgen.Grow(f.From, f.To, f.Grow.Share()) }

// schedule reads a recorded schedule, and settles what depends on the length of
// the load: two kinds of arrivals have one of their own.
func (p *parser) schedule(load object, l *Load, dir string) {
	o := object{p: p, path: "load.arrivals"}
	given := load.has("duration")
	switch a := l.Arrivals; {
	case a.Replay != nil:
		file := a.Replay.File
		if file == "" {
			return // reported already
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		file, err := filepath.Abs(file)
		if err == nil {
			a.Replay.File = file
			a.Replay.Instants, err = readSchedule(file)
		}
		if err != nil {
			text, hint := splitHint(err)
			o.refuse("replay", hint, "%s", text)
			return
		}
		if last := time.Duration(float64(a.Replay.Instants[len(a.Replay.Instants)-1]) / a.Replay.Speed); !given {
			l.Duration = min(max(time.Second, (last+time.Second).Truncate(time.Second)), 24*time.Hour)
		}
	case a.FindMax != nil:
		f := a.FindMax
		if f.From <= 0 || f.To <= f.From || f.Percentile == "" {
			return
		}
		levels := len(f.Levels())
		length := time.Duration(levels) * f.Every
		switch {
		case levels > mostLevels || length > 24*time.Hour:
			o.refuse("find_max", "raise grow, or lower every", "has %d levels of %s, limits %d and 24h in all", levels, short(f.Every), mostLevels)
		case !given:
			l.Duration = length
		case l.Duration > length:
			load.refuse("duration", "leave it out", "%s is longer than the %d levels of load.arrivals.find_max, %s", short(l.Duration), levels, short(length))
		case l.Timeout > 0 && f.Bound >= l.Timeout:
			o.refuse("find_max.bound."+f.Percentile, "raise load.timeout", "%s is not shorter than load.timeout (%s), so later answers would never be seen", short(f.Bound), short(l.Timeout))
		case l.Duration < f.Every:
			load.refuse("duration", "leave it out", "%s is shorter than a level of load.arrivals.find_max, %s", short(l.Duration), short(f.Every))
		}
	case a.Step != nil && l.Duration > 0 && a.Step.From > 0:
		last := a.Step.From + a.Step.By*float64((l.Duration-1)/a.Step.Every)
		switch {
		case l.Duration/a.Step.Every > mostLevels:
			o.refuse("step.every", "", "%s makes more than %d steps in %s", short(a.Step.Every), mostLevels, short(l.Duration))
		case last < leastRate || last > mostRate:
			o.refuse("step.by", "", "the rate would be %s/s after %s, out of range (%s/s to %s/s)", decimal(last), short(l.Duration), decimal(leastRate), decimal(mostRate))
		}
	case a.Spike != nil && l.Duration > 0:
		p.inLoad("load.arrivals.spike.at", a.Spike.At, l.Duration)
	}
}

// process is the arrival process of the load, nil for a closed loop.
func (l *Load) process(seed int64) (loadgen.Arrivals, error) {
	switch a := l.Arrivals; {
	case a.Constant > 0:
		return loadgen.Constant(a.Constant), nil
	case a.Poisson > 0:
		return some(loadgen.NewPoisson(a.Poisson, seed))
	case a.Ramp != nil:
		return some(loadgen.Ramp(l.Warmup, l.Duration, a.Ramp.From, a.Ramp.To))
	case a.Step != nil:
		var rates []float64
		for k := range int((l.Duration-1)/a.Step.Every) + 1 {
			rates = append(rates, a.Step.From+a.Step.By*float64(k))
		}
		return some(loadgen.Stairs(l.Warmup, a.Step.Every, rates))
	case a.Sine != nil:
		return some(loadgen.NewSine(l.Warmup, a.Sine.Mean, a.Sine.Amplitude, a.Sine.Period))
	case a.Spike != nil:
		return some(loadgen.Spike(l.Warmup, a.Spike.Base, a.Spike.Peak, a.Spike.At, a.Spike.For))
	case a.Replay != nil:
		return some(loadgen.NewReplay(l.Warmup, a.Replay.Instants, a.Replay.Speed))
	case a.FindMax != nil:
		return some(loadgen.Stairs(l.Warmup, a.FindMax.Every, a.FindMax.Levels()))
	}
	return nil, nil
}

// some keeps a nil pointer from becoming an Arrivals that is not nil.
func some[T loadgen.Arrivals](a T, err error) (loadgen.Arrivals, error) {
	if err != nil {
		return nil, fmt.Errorf("load.arrivals: %w", err)
	}
	return a, nil
}

// resolved is load.arrivals as arrivals reads it.
func (a Arrivals) resolved() map[string]any {
	rate := func(v float64) string { return decimal(v) + "/s" }
	switch {
	case a.Poisson > 0:
		return map[string]any{"poisson": rate(a.Poisson)}
	case a.Ramp != nil:
		return map[string]any{"ramp": map[string]string{"from": rate(a.Ramp.From), "to": rate(a.Ramp.To)}}
	case a.Step != nil:
		return map[string]any{"step": map[string]string{"from": rate(a.Step.From), "by": rate(a.Step.By), "every": a.Step.Every.String()}}
	case a.Sine != nil:
		return map[string]any{"sine": map[string]string{"mean": rate(a.Sine.Mean), "amplitude": rate(a.Sine.Amplitude), "period": a.Sine.Period.String()}}
	case a.Spike != nil:
		return map[string]any{"spike": map[string]string{"base": rate(a.Spike.Base), "peak": rate(a.Spike.Peak), "at": a.Spike.At.String(), "for": a.Spike.For.String()}}
	case a.Replay != nil:
		return map[string]any{"replay": a.Replay.File, "speed": a.Replay.Speed}
	case a.FindMax != nil:
		f := a.FindMax
		return map[string]any{"find_max": map[string]any{
			"from": rate(f.From), "to": rate(f.To), "grow": decimal(float64(f.Grow)) + "%", "every": f.Every.String(), "settle": f.Settle.String(),
			"bound": map[string]string{f.Percentile: f.Bound.String()},
		}}
	case a.Clients > 0:
		closed := map[string]any{"clients": a.Clients}
		if a.Think.Exponential {
			closed["think"] = map[string]string{"exponential": a.Think.Mean.String()}
		} else if a.Think.Mean > 0 {
			closed["think"] = a.Think.Mean.String()
		}
		return map[string]any{"closed": closed}
	}
	return map[string]any{"constant": rate(a.Constant)}
}

// String says in words when operations are due.
func (a Arrivals) String() string {
	rate := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) + "/s" }
	switch {
	case a.Poisson > 0:
		return "Poisson " + rate(a.Poisson)
	case a.Ramp != nil:
		return "a ramp from " + rate(a.Ramp.From) + " to " + rate(a.Ramp.To)
	case a.Step != nil:
		return fmt.Sprintf("steps from %s by %s every %s", rate(a.Step.From), rate(a.Step.By), short(a.Step.Every))
	case a.Sine != nil:
		return fmt.Sprintf("%s ± %s", rate(a.Sine.Mean), rate(a.Sine.Amplitude))
	case a.Spike != nil:
		return fmt.Sprintf("%s with a spike of %s", rate(a.Spike.Base), rate(a.Spike.Peak))
	case a.Replay != nil:
		return fmt.Sprintf("a replay of %d operations", len(a.Replay.Instants))
	case a.FindMax != nil:
		return "from " + rate(a.FindMax.From) + " until the bound breaks"
	case a.Clients == 1:
		return "from 1 client"
	case a.Clients > 0:
		return fmt.Sprintf("from %d clients", a.Clients)
	}
	return rate(a.Constant)
}

// broken reports whether so many of the operations due, answered ok within the
// bound, are too few for it.
func (f *FindMax) broken(good, due int64) bool {
	return good*1000 < due*percentiles[f.Percentile]
}
