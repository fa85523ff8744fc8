package loadgen

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// chiSquare compares counts of ranks with the exact Zipf probabilities and
// returns the statistic with its degrees of freedom. Ranks that are expected
// fewer than 5 times are taken together.
func chiSquare(counts []int, exponent float64) (x float64, freedom int) {
	var norm, total float64
	for i, n := range counts {
		norm += math.Pow(float64(i+1), -exponent)
		total += float64(n)
	}
	var rareWant, rareGot float64
	add := func(got, want float64) { x += (got - want) * (got - want) / want; freedom++ }
	for i, n := range counts {
		if want := total * math.Pow(float64(i+1), -exponent) / norm; want >= 5 {
			add(float64(n), want)
		} else {
			rareWant, rareGot = rareWant+want, rareGot+float64(n)
		}
	}
	if rareWant >= 5 {
		add(rareGot, rareWant)
	}
	return x, freedom - 1
}

// critical is the value that chi-square exceeds with probability 1e-6, by the
// approximation of Wilson and Hilferty (1931).
func critical(freedom int) float64 {
	k := 2 / (9 * float64(freedom))
	return float64(freedom) * math.Pow(1-k+4.753*math.Sqrt(k), 3)
}

func drawCounts(n int, exponent float64) []int {
	z, r := newZipf(n, exponent), rand.New(rand.NewPCG(1, 2))
	counts := make([]int, n)
	for range 300_000 {
		counts[z.draw(r)-1]++
	}
	return counts
}

func TestZipfDistribution(t *testing.T) {
	for _, n := range []int{2, 3, 100, 5000} {
		for _, exponent := range []float64{0, 0.3, 0.99, 1, 1 + 1e-12, 1.5, 3} {
			t.Run(fmt.Sprintf("n=%d,exponent=%v", n, exponent), func(t *testing.T) {
				x, freedom := chiSquare(drawCounts(n, exponent), exponent)
				if x > critical(freedom) {
					t.Errorf("chi-square %.1f with %d degrees of freedom, want at most %.1f", x, freedom, critical(freedom))
				}
			})
		}
	}
}

// The test above can fail: it tells exponents apart that differ by 0.03.
func TestZipfDistributionIsTold(t *testing.T) {
	for _, exponent := range []float64{0, 0.96, 1.02} {
		if x, freedom := chiSquare(drawCounts(100, 0.99), exponent); x <= critical(freedom) {
			t.Errorf("draws with exponent 0.99 pass for %v: chi-square %.1f", exponent, x)
		}
	}
}

func TestZipfExtremes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, exponent := range []float64{0, 0.99, 1, 50, 1e6, math.MaxFloat64} {
		for range 1000 {
			if got := newZipf(1, exponent).draw(r); got != 1 {
				t.Fatalf("one rank, exponent %v: drew %d", exponent, got)
			}
			if got := newZipf(1000, exponent).draw(r); got < 1 || got > 1000 || (exponent >= 50 && got != 1) {
				t.Fatalf("1000 ranks, exponent %v: drew %d", exponent, got)
			}
		}
	}
}
