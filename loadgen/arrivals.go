package loadgen

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Arrivals is an arrival process: a pure function from the number of an
// operation to the instant at which it is due, counted from the start of the
// load. Implementations are safe for concurrent use.
type Arrivals interface {
	// At is when operation n is due, n from 0. It never decreases with n.
	At(n int64) time.Duration
	// Count is the number of operations due before until: of n with At(n) < until.
	Count(until time.Duration) int64
}

// maxRate is the highest arrival rate accepted, in operations per second.
const maxRate = 1_000_000

// Constant is an arrival process of so many operations per second, evenly
// spaced, the first one due at 0. The rate must be positive and finite.
type Constant float64

// At is n/rate, rounded down to a nanosecond; the largest duration if that is
// out of range.
func (c Constant) At(n int64) time.Duration {
	ns := float64(n) / float64(c) * 1e9
	if !(ns < math.MaxInt64) {
		return math.MaxInt64
	}
	return time.Duration(ns)
}

// Count agrees with At to the nanosecond: it starts from until*rate and then
// asks At, since the product alone is off by one where rounding bites.
func (c Constant) Count(until time.Duration) int64 {
	if until <= 0 {
		return 0
	}
	n := int64(until.Seconds() * float64(c))
	for n > 0 && c.At(n-1) >= until {
		n--
	}
	for c.At(n) < until {
		n++
	}
	return n
}

func (c Constant) check() error {
	switch rate := float64(c); {
	case math.IsNaN(rate) || rate <= 0:
		return fmt.Errorf("rate %v/s is not positive", rate)
	case rate > maxRate:
		return fmt.Errorf("rate %v/s is over the limit of %d/s", rate, maxRate)
	}
	return nil
}

// ParseRate reads an arrival rate such as "500/s", "30/m" or "1.5/h" and
// returns it in operations per second: above 0, at most 1,000,000.
func ParseRate(s string) (float64, error) {
	number, unit, _ := strings.Cut(strings.TrimSpace(s), "/")
	seconds, known := map[string]float64{"s": 1, "m": 60, "h": 3600}[strings.TrimSpace(unit)]
	value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !known || err != nil {
		return 0, fmt.Errorf("rate %q: want a number per s, m or h, for example 500/s", s)
	}
	rate := value / seconds
	if err := Constant(rate).check(); err != nil {
		return 0, fmt.Errorf("rate %q: %w", s, err)
	}
	return rate, nil
}

// staggered is the prober's arrival process: each of keys keys is due once
// every period, one after the other at even distances. Operation n is for key
// n mod keys.
type staggered struct {
	keys  int64
	every time.Duration
}

func (s staggered) At(n int64) time.Duration {
	return time.Duration(n/s.keys)*s.every + time.Duration(n%s.keys)*s.every/time.Duration(s.keys)
}

func (s staggered) Count(until time.Duration) int64 {
	if until <= 0 {
		return 0
	}
	rounds, rest := int64(until/s.every), int64(until%s.every)
	// floor(i*every/keys) < rest holds exactly for i < rest*keys/every.
	every := int64(s.every)
	return rounds*s.keys + (rest*s.keys+every-1)/every
}
