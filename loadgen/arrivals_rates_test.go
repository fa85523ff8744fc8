package loadgen

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// process is an arrival process for a property, and the integral of its rate;
// nil where chance or a recording decides.
type process struct {
	Arrivals
	name string
	due  func(until time.Duration) float64
}

// anyArrivals draws a process; the same draws give an equal one.
func anyArrivals(t *rapid.T) func() process {
	rate := rapid.Float64Range(0.1, 20_000)
	warmup := time.Duration(rapid.SampledFrom([]int64{0, 1, 3e9, 2_000_000_001}).Draw(t, "warmup"))
	length := time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "length"))
	make := func(a Arrivals, err error, due func(after float64) float64, before float64) process {
		if err != nil {
			t.Fatal(err)
		}
		var total func(time.Duration) float64
		if due != nil {
			total = func(until time.Duration) float64 {
				return before*min(until, warmup).Seconds() + due(max(0, until-warmup).Seconds())
			}
		}
		return process{a, fmt.Sprintf("%T", a), total}
	}
	l := length.Seconds()
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		from, to := rate.Draw(t, "from"), rate.Draw(t, "to")
		if rapid.Bool().Draw(t, "almost level") {
			to = from * (1 + rapid.Float64Range(-1e-9, 1e-9).Draw(t, "by"))
		}
		return func() process {
			a, err := Ramp(warmup, length, from, to)
			return make(a, err, func(s float64) float64 {
				in := min(s, l)
				return from*in + (to-from)/l*in*in/2 + to*(s-in)
			}, from)
		}
	case 1:
		base, peak := rate.Draw(t, "base"), rate.Draw(t, "peak")
		at := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "at"))
		return func() process {
			a, err := Spike(warmup, base, peak, at, length)
			return make(a, err, func(s float64) float64 {
				in := min(max(0, s-at.Seconds()), l)
				return base*(s-in) + peak*in
			}, base)
		}
	case 2:
		rates := rapid.SliceOfN(rate, 1, 20).Draw(t, "rates")
		return func() process {
			a, err := Stairs(warmup, length, rates)
			return make(a, err, func(s float64) float64 {
				sum := 0.0
				for i, r := range rates {
					in := max(0, s-float64(i)*l)
					if i < len(rates)-1 {
						in = min(in, l)
					}
					sum += r * in
				}
				return sum
			}, rates[0])
		}
	case 3:
		mean := rate.Draw(t, "mean")
		amplitude := mean * rapid.SampledFrom([]float64{0, 0.3, 1}).Draw(t, "amplitude")
		return func() process {
			a, err := NewSine(warmup, mean, amplitude, length)
			return make(a, err, func(s float64) float64 {
				return mean*s + amplitude*l/2/math.Pi*(1-math.Cos(2*math.Pi*math.Mod(s, l)/l))
			}, mean)
		}
	case 4:
		mean, seed := rate.Draw(t, "mean"), rapid.Int64().Draw(t, "seed")
		return func() process {
			a, err := NewPoisson(mean, seed)
			return make(a, err, nil, 0)
		}
	default:
		instants := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.Int64Range(0, int64(length)).Draw(t, "at")) }), 1, 100).Draw(t, "instants")
		slices.Sort(instants)
		speed := rapid.SampledFrom([]float64{1, 0.37, 2}).Draw(t, "speed")
		return func() process {
			a, err := NewReplay(warmup, instants, speed)
			return make(a, err, nil, 0)
		}
	}
}

// What every arrival process must keep: see Arrivals.
func TestArrivals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fresh := anyArrivals(t)
		a := fresh()
		until := time.Duration(rapid.Int64Range(-5, int64(20*time.Minute)).Draw(t, "until"))
		if rapid.Bool().Draw(t, "on an arrival") {
			if at := a.At(rapid.Int64Range(0, 100_000).Draw(t, "n")); at < 1<<62 {
				until = at + time.Duration(rapid.Int64Range(-1, 1).Draw(t, "beside"))
			}
		}
		n := a.Count(until)
		if n > 0 && a.At(n-1) >= until {
			t.Fatalf("%s: op %d is due at %d ns, not before %d ns, but counted", a.name, n-1, a.At(n-1), until)
		}
		if a.At(n) < until {
			t.Fatalf("%s: op %d is due at %d ns, before %d ns, but not counted", a.name, n, a.At(n), until)
		}
		if at := a.At(0); at != 0 {
			t.Fatalf("%s: the first operation is due at %v: the start of the load cannot be told from it", a.name, at)
		}
		first := max(0, n-50)
		for i := first; i < n+50; i++ {
			if a.At(i+1) < a.At(i) {
				t.Fatalf("%s: op %d is due at %d ns, before op %d at %d ns", a.name, i+1, a.At(i+1), i, a.At(i))
			}
		}
		if until > 0 && a.due != nil {
			// One for the first operation at 0, one for rounding.
			if expected := a.due(until); math.Abs(float64(n)-expected) > 2 {
				t.Fatalf("%s: %d operations before %v, the integral of the rate is %v", a.name, n, until, expected)
			}
		}

		// The same, backwards, at once, and of another one.
		b := fresh()
		if b.Count(until) != n {
			t.Fatalf("%s: counts %d and %d", a.name, n, b.Count(until))
		}
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				for i := n + 50; i >= first; i-- {
					if a.At(i) != b.At(i) {
						t.Errorf("%s: op %d is due at %v or at %v, as one asks", a.name, i, a.At(i), b.At(i))
						return
					}
				}
			})
		}
		all.Wait()
	})
}

// Where the rates change, to the nanosecond.
func TestRates(t *testing.T) {
	must := func(a Arrivals, err error) Arrivals {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	s := time.Second
	for _, c := range []struct {
		name   string
		a      Arrivals
		counts map[time.Duration]int64
	}{
		{"ramp", must(Ramp(2*s, 10*s, 100, 1000)), map[time.Duration]int64{2 * s: 200, 12 * s: 200 + 5500, 13 * s: 200 + 5500 + 1000}},
		{"falling ramp", must(Ramp(2*s, 10*s, 1000, 100)), map[time.Duration]int64{2 * s: 2000, 7 * s: 2000 + 3875, 12 * s: 2000 + 5500, 13 * s: 2000 + 5500 + 100}},
		{"level ramp", must(Ramp(0, 10*s, 100, 100)), map[time.Duration]int64{10 * s: 1000}},
		{"spike", must(Spike(s, 200, 2000, 10*s, 2*s)), map[time.Duration]int64{s: 200, 11 * s: 2200, 13 * s: 6200, 14 * s: 6400}},
		{"spike at once", must(Spike(0, 200, 2000, 0, 2*s)), map[time.Duration]int64{2 * s: 4000, 3 * s: 4200}},
		{"stairs", must(Stairs(s, 5*s, []float64{100, 200, 300})), map[time.Duration]int64{s: 100, 6 * s: 600, 11 * s: 1600, 16 * s: 3100, 26 * s: 6100}},
		{"sine", must(NewSine(2*s, 500, 300, 10*s)), map[time.Duration]int64{2 * s: 1000, 7 * s: 1000 + 2500 + 955, 12 * s: 6000, 22 * s: 11000}},
		{"replay", must(NewReplay(2*s, []time.Duration{3 * s, 3 * s, 5 * s, 7 * s}, 2)), map[time.Duration]int64{2 * s: 3, 2*s + 1: 5, 3*s + 1: 6, 4*s + 1: 7, 100 * s: 7}},
		{"replay at once", must(NewReplay(2*s, []time.Duration{3 * s, 3 * s}, 1)), map[time.Duration]int64{2 * s: 1, 2*s + 1: 3}},
	} {
		for until, want := range c.counts {
			if got := c.a.Count(until); got != want {
				t.Errorf("%s: %d operations before %v, want %d", c.name, got, until, want)
			}
		}
	}
	if got, want := Grow(200, 300, 0.2), []float64{200, 240, 288, 300}; !slices.EqualFunc(got, want, func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }) {
		t.Errorf("from 200/s to 300/s by 20 %%: %v, want %v", got, want)
	}
	for name, err := range map[string]error{
		"ramp": second(Ramp(0, s, 0, 10)), "length": second(Ramp(0, 0, 10, 10)), "rate": second(Stairs(0, s, []float64{2e6})), "no stairs": second(Stairs(0, s, nil)),
		"amplitude": second(NewSine(0, 10, 11, s)), "period": second(NewSine(0, 10, 1, 0)), "spike": second(Spike(0, 1, 2, -1, s)), "poisson": second(NewPoisson(math.NaN(), 1)),
		"empty": second(NewReplay(0, nil, 1)), "speed": second(NewReplay(0, []time.Duration{1}, 0)), "order": second(NewReplay(0, []time.Duration{2, 1}, 1)),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestThink(t *testing.T) {
	if got := (Think{Mean: time.Second}).After(1, 2); got != time.Second {
		t.Errorf("a constant think time is %v", got)
	}
	think := Think{Mean: time.Second, Exponential: true}
	var pauses []float64
	for n := range int64(20_000) {
		pauses = append(pauses, think.After(7, n).Seconds())
	}
	if d := distance(pauses, exponential(1)); d > 1.95/math.Sqrt(20_000) {
		t.Errorf("think times are not exponential: the distance is %v", d)
	}
	if again := think.After(7, 3).Seconds(); !slices.Contains(pauses, again) || again == think.After(8, 3).Seconds() {
		t.Error("a think time is no function of the seed")
	}
}
