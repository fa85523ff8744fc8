package compare

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// smallestFound is the smallest change, as a logarithm, that n pairs find with a
// chance of 90 %, if the differences of pairs are normal with this deviation.
func smallestFound(random *rand.Rand, n int, wrong chances, deviation, margin float64) float64 {
	shifts := make([]float64, 4000)
	for i := range shifts {
		d := make([]float64, n)
		for j := range d {
			d[j] = deviation * random.NormFloat64()
		}
		s := pairedShift(d, wrong.regression, wrong.noWorse)
		shifts[i] = max(-s.low, math.Log1p(margin)-s.estimate) // then low is above 0, and the estimate at the margin
	}
	slices.Sort(shifts)
	return shifts[len(shifts)*9/10]
}

// What the default alpha costs: ten pairs at 2 % find what six find at 10 %, or
// less, on six metrics. The figures are in docs/compare-statistics.md.
func TestPower(t *testing.T) {
	random := rand.New(rand.NewPCG(51, 52))
	careful, careless := chances{DefaultAlpha / 6, DefaultAlpha}, chances{0.10 / 6, 0.10 / 6}
	for _, deviation := range []float64{0.01, 0.02, 0.05, 0.10, 0.20, 0.50} {
		ten := smallestFound(random, DefaultPairs, careful, deviation, 0.05)
		six := smallestFound(random, 6, careless, deviation, 0.05)
		twenty := smallestFound(random, 20, careful, deviation, 0.05)
		t.Logf("deviation %.0f %%: 10 pairs %.1f %%, 20 pairs %.1f %%; 6 pairs at alpha 10 %%: %.1f %%",
			100*deviation, 100*math.Expm1(ten), 100*math.Expm1(twenty), 100*math.Expm1(six))
		if ten > six || twenty > ten {
			t.Errorf("deviation %v: %v with 10 pairs, %v with 20, %v with 6 at alpha 10 %%", deviation, ten, twenty, six)
		}
	}
}
