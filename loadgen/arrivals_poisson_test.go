package loadgen

import (
	"math"
	"slices"
	"testing"
	"time"
)

// exponential is the distribution function of gaps, in seconds, at a rate.
func exponential(rate float64) func(float64) float64 {
	return func(x float64) float64 { return 1 - math.Exp(-rate*x) }
}

// distance is the statistic of Kolmogorov and Smirnov: the largest distance of
// the sample's distribution from another one. Times the root of the number of
// values it exceeds 1.95 with the probability 0.001.
func distance(sample []float64, of func(float64) float64) float64 {
	slices.Sort(sample)
	n, most := float64(len(sample)), 0.0
	for i, x := range sample {
		most = max(most, math.Abs(of(x)-float64(i)/n), math.Abs(of(x)-float64(i+1)/n))
	}
	return most
}

// Gaps of a Poisson process are exponential and independent, whatever borders of
// leaves and blocks they cross, and its counts vary as much as they are: counts
// of leaves or blocks that were even would be found by their variance, gaps that
// begin anew at a border by those after it.
func TestPoisson(t *testing.T) {
	const rate, n = 1000.0, 1_000_000
	for _, seed := range []int64{1, 2, 42} {
		p, err := NewPoisson(rate, seed)
		if err != nil {
			t.Fatal(err)
		}
		gaps := make([]float64, n)
		product, last := 0.0, 0.0
		for i := range gaps {
			gaps[i] = (p.At(int64(i+1)) - p.At(int64(i))).Seconds()
			product += (gaps[i]*rate - 1) * (last*rate - 1)
			last = gaps[i]
		}
		if d := distance(gaps, exponential(rate)) * math.Sqrt(n); d > 1.95 {
			t.Errorf("seed %d: gaps are not exponential: the distance is %.2f/sqrt(n), limit 1.95", seed, d)
		}
		if c := product / math.Sqrt(n); math.Abs(c) > 3.3 { // normal in the limit
			t.Errorf("seed %d: neighbouring gaps depend on each other: %.2f standard deviations", seed, c)
		}

		// The process has no memory: from any border to the next arrival is as long
		// as from one to the next.
		var waits []float64
		for border := p.leaf; p.Count(border) < n; border += p.leaf {
			waits = append(waits, (p.At(p.Count(border)) - border).Seconds())
		}
		if d := distance(waits, exponential(rate)) * math.Sqrt(float64(len(waits))); d > 1.95 {
			t.Errorf("seed %d: waits at %d borders are not exponential: the distance is %.2f/sqrt(n), limit 1.95", seed, len(waits), d)
		}

		for _, width := range []time.Duration{p.leaf / 7, p.leaf, p.leaf * 3 / 2, p.leaf * 8, p.block(), p.block() * 3 / 2} {
			windows := int(min(20_000, 20*n/rate*float64(time.Second)/float64(width)))
			mean, squares := rate*width.Seconds(), 0.0
			before := p.Count(width)
			for i := range windows {
				next := p.Count(width * time.Duration(i+2))
				squares += (float64(next-before) - mean) * (float64(next-before) - mean) / mean
				before = next
			}
			// Chi-square with so many degrees of freedom, nearly normal.
			dispersion, deviation := squares/float64(windows), math.Sqrt((2+1/mean)/float64(windows))
			if math.Abs(dispersion-1) > 3.5*deviation {
				t.Errorf("seed %d: the variance of counts in %d windows of %v is %.3f times the mean, want 1 ± %.3f", seed, windows, width, dispersion, 3.5*deviation)
			}
		}
	}
}

// A seed is a schedule of its own.
func TestPoissonSeeds(t *testing.T) {
	first := map[time.Duration]bool{}
	for seed := range int64(1000) {
		p, err := NewPoisson(1000, seed)
		if err != nil {
			t.Fatal(err)
		}
		first[p.At(1000)] = true
	}
	if len(first) < 999 {
		t.Errorf("1000 seeds give %d schedules", len(first))
	}
}

// Any operation is found without those before it.
func TestPoissonFarAway(t *testing.T) {
	p, err := NewPoisson(1_000_000, 7)
	if err != nil {
		t.Fatal(err)
	}
	const n = 500_000_000
	began := time.Now()
	at := p.At(n)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("operation %d took %v", int64(n), took)
	}
	if off := math.Abs(at.Seconds() - n/1e6); off > 5*math.Sqrt(n)/1e6 {
		t.Errorf("operation %d is due at %v", int64(n), at)
	}
}

func BenchmarkPoissonAt(b *testing.B) {
	p, err := NewPoisson(5000, 7)
	if err != nil {
		b.Fatal(err)
	}
	for n := int64(0); b.Loop(); n++ {
		p.At(n)
	}
}

func BenchmarkSineAt(b *testing.B) {
	s, err := NewSine(2*time.Second, 5000, 3000, 10*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	for n := int64(0); b.Loop(); n++ {
		s.At(n)
	}
}

func BenchmarkRampAt(b *testing.B) {
	r, err := Ramp(2*time.Second, 1000*time.Second, 1000, 20000)
	if err != nil {
		b.Fatal(err)
	}
	for n := int64(0); b.Loop(); n++ {
		r.At(n)
	}
}
