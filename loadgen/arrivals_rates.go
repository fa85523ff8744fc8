package loadgen

import (
	"fmt"
	"math"
	"sort"
	"time"
)

// Rates is an arrival process whose rate changes with time: constant or linear
// between instants. Operation n is due when the integral of the rate reaches n,
// the first one at 0.
//
// Each of its makers has a warmup, in which the rate is that at the start of what
// follows; their other instants count from the end of the warmup.
type Rates struct{ parts []part }

// part is a stretch of time with a constant or a linear rate.
type part struct {
	start    time.Duration // it lasts until the next one starts, the last one for ever
	length   time.Duration // 0: for ever
	from, to float64       // rates at its ends, per second
	before   float64       // integral of the rate up to start
}

// Ramp goes from one rate to another in a straight line, and stays there.
func Ramp(warmup, length time.Duration, from, to float64) (*Rates, error) {
	if length <= 0 {
		return nil, fmt.Errorf("ramp: length %v is not positive", length)
	}
	return newRates(part{length: warmup, from: from, to: from}, part{length: length, from: from, to: to}, part{from: to, to: to})
}

// Spike is a base rate with a peak of a given length at an instant.
func Spike(warmup time.Duration, base, peak float64, at, length time.Duration) (*Rates, error) {
	if at < 0 || length <= 0 {
		return nil, fmt.Errorf("spike: at %v must not be negative, its length %v must be positive", at, length)
	}
	return newRates(part{length: warmup + at, from: base, to: base}, part{length: length, from: peak, to: peak}, part{from: base, to: base})
}

// Stairs has the rates given, each for the time every, and stays at the last one.
func Stairs(warmup, every time.Duration, rates []float64) (*Rates, error) {
	if every <= 0 || len(rates) == 0 {
		return nil, fmt.Errorf("stairs: want levels (have %d), each of a positive length (have %v)", len(rates), every)
	}
	parts := []part{{length: warmup, from: rates[0], to: rates[0]}}
	for _, rate := range rates {
		parts = append(parts, part{length: every, from: rate, to: rate})
	}
	parts[len(parts)-1].length = 0
	return newRates(parts...)
}

// Grow are the rates from, from*(1+by), from*(1+by)^2 and so on below to, and to.
func Grow(from, to, by float64) []float64 {
	var rates []float64
	for rate := from; rate < to; rate = from * math.Pow(1+by, float64(len(rates))) {
		rates = append(rates, rate)
		if len(rates) > 1 && rate <= rates[len(rates)-2] {
			break // by is 0, or lost in rounding: the caller sees a rate twice
		}
	}
	return append(rates, to)
}

// newRates puts parts one after the other; those without a length are left out,
// but for the last one.
func newRates(parts ...part) (*Rates, error) {
	r := &Rates{}
	var start time.Duration
	before := 0.0
	for i, p := range parts {
		if p.length < 0 {
			return nil, fmt.Errorf("arrivals: a length of %v is negative", p.length)
		}
		for _, rate := range []float64{p.from, p.to} {
			if err := Constant(rate).check(); err != nil {
				return nil, err
			}
		}
		if p.length == 0 && i < len(parts)-1 {
			continue
		}
		p.start, p.before = start, before
		r.parts = append(r.parts, p)
		start += p.length
		before = p.due(p.length)
	}
	return r, nil
}

// due is the integral of the rate from 0 to an instant t after the start of the
// part. It never decreases with t, in floating point too: each is a sum or a
// difference of monotone terms.
func (p *part) due(t time.Duration) float64 {
	u := t.Seconds()
	if p.from == p.to {
		return p.before + u*p.from
	}
	length := p.length.Seconds()
	if p.to > p.from {
		return p.before + (u*p.from + u*u*((p.to-p.from)/length/2))
	}
	// From the end backwards, since a falling rate is a rising one there.
	w := length - u
	total := length * (p.from + p.to) / 2
	return p.before + (total - (w*p.to + w*w*((p.from-p.to)/length/2)))
}

// At is the instant at which the integral of the rate reaches n, to a nanosecond;
// the largest duration if that is out of range.
func (r *Rates) At(n int64) time.Duration {
	want := float64(n)
	i := sort.Search(len(r.parts), func(i int) bool { return r.parts[i].before > want }) - 1
	if i < 0 {
		return 0
	}
	p := &r.parts[i]
	var t time.Duration
	switch {
	case want <= p.before:
	case p.from == p.to:
		ns := (want - p.before) / p.from * 1e9
		if !(ns < float64(math.MaxInt64-p.start)) {
			return math.MaxInt64
		}
		t = time.Duration(ns)
	default:
		t = earliest(p.root(want), p.length, func(t time.Duration) bool { return p.due(t) >= want })
	}
	if p.length > 0 {
		t = min(t, p.length) // where rounding bites
	}
	return p.start + t
}

// root solves due(t) = want in closed form, as exactly as floating point does.
func (p *part) root(want float64) time.Duration {
	slope := (p.to - p.from) / p.length.Seconds()
	n := want - p.before
	// Not (sqrt(...)-from)/slope, which cancels where the slope is small.
	return time.Duration(2 * n / (p.from + math.Sqrt(max(0, p.from*p.from+2*slope*n))) * 1e9)
}

// earliest is the first t in [0, most] at which reached is true, most if it never
// is. reached must not go back to false. guess is where to look first.
func earliest(guess, most time.Duration, reached func(time.Duration) bool) time.Duration {
	guess = min(max(guess, 0), most)
	low, high := guess, guess // the answer is in (low, high], once both steps are done
	for step := time.Duration(1); low >= 0 && reached(low); step *= 2 {
		high, low = low, low-step
	}
	low = max(low, -1)
	for step := time.Duration(1); high < most && !reached(high); step *= 2 {
		low, high = high, min(high+step, most)
	}
	for high-low > 1 {
		middle := low + (high-low)/2
		if reached(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

// Count agrees with At to the nanosecond.
func (r *Rates) Count(until time.Duration) int64 {
	if until <= 0 {
		return 0
	}
	i := sort.Search(len(r.parts), func(i int) bool { return r.parts[i].start >= until }) - 1
	p := &r.parts[i]
	return count(r, until, p.due(until-p.start))
}

// count is Arrivals.Count of what knows the integral of its rate up to until but
// for rounding.
func count(a Arrivals, until time.Duration, about float64) int64 {
	n := int64(max(about, 0))
	for n > 0 && a.At(n-1) >= until {
		n--
	}
	for a.At(n) < until {
		n++
	}
	return n
}

// Sine is an arrival process whose rate swings around a mean:
// Mean + Amplitude*sin(2*pi*t/Period) operations per second at t after the
// warmup, and Mean before. Operation n is due when the integral of the rate
// reaches n. The zero value is not valid; see NewSine.
type Sine struct {
	warmup          time.Duration
	mean, amplitude float64
	period          time.Duration
}

// NewSine checks its arguments: the rate must be positive, but may touch 0 at the
// bottom of its swing.
func NewSine(warmup time.Duration, mean, amplitude float64, period time.Duration) (*Sine, error) {
	for _, rate := range []float64{mean, mean + amplitude} {
		if err := Constant(rate).check(); err != nil {
			return nil, err
		}
	}
	switch {
	case warmup < 0 || period <= 0:
		return nil, fmt.Errorf("sine: warmup %v must not be negative, period %v must be positive", warmup, period)
	case amplitude < 0 || amplitude > mean:
		return nil, fmt.Errorf("sine: amplitude %v/s is outside 0/s to the mean, %v/s", amplitude, mean)
	}
	return &Sine{warmup, mean, amplitude, period}, nil
}

// due is the integral of the rate from the start of a period to t after it.
func (s *Sine) due(t time.Duration) float64 {
	half := math.Sin(math.Pi * float64(t) / float64(s.period))
	return s.mean*t.Seconds() + s.amplitude*s.period.Seconds()/math.Pi*half*half
}

// At inverts the integral by bisection of the period that n falls into: always
// over the same bracket, so that At never decreases with n, though the integral
// may, by rounding, where the rate is almost 0.
func (s *Sine) At(n int64) time.Duration {
	rest := float64(n) - s.mean*s.warmup.Seconds()
	if rest < 0 {
		return min(time.Duration(float64(n)/s.mean*1e9), s.warmup)
	}
	each := s.mean * s.period.Seconds()
	whole := math.Floor(rest / each)
	if !((whole+1)*float64(s.period) < float64(math.MaxInt64-s.warmup)) {
		return math.MaxInt64
	}
	rest -= whole * each
	t := sort.Search(int(s.period), func(t int) bool { return s.due(time.Duration(t)) >= rest })
	return s.warmup + time.Duration(whole)*s.period + time.Duration(t)
}

// Count agrees with At to the nanosecond.
func (s *Sine) Count(until time.Duration) int64 {
	after := until - s.warmup
	if after <= 0 {
		return count(s, until, until.Seconds()*s.mean)
	}
	return count(s, until, s.mean*(s.warmup.Seconds()+float64(after/s.period)*s.period.Seconds())+s.due(after%s.period))
}
