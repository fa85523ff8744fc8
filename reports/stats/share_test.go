package stats

import (
	"math"
	"testing"
)

// TestShare: against tables, and by its definition: at its ends what was seen, or
// more extreme, has the probability of one tail.
func TestShare(t *testing.T) {
	for _, tc := range []struct {
		k, n      int
		low, high float64
	}{
		{0, 10, 0, 0.3085},
		{10, 10, 0.6915, 1},
		{9, 10, 0.5550, 0.9975},
		{5, 10, 0.1871, 0.8129},
		{1, 1, 0.025, 1},
		{0, 1, 0, 0.975},
	} {
		low, high := Share(tc.k, tc.n, 0.95)
		if math.Abs(low-tc.low) > 5e-5 || math.Abs(high-tc.high) > 5e-5 {
			t.Errorf("%d of %d: %.4f to %.4f, want %.4f to %.4f", tc.k, tc.n, low, high, tc.low, tc.high)
		}
	}
	// atLeast is the probability of k or more of n.
	atLeast := func(k, n int, p float64) (sum float64) {
		for i := k; i <= n; i++ {
			c := 1.0
			for j := range i {
				c = c * float64(n-j) / float64(j+1)
			}
			sum += c * math.Pow(p, float64(i)) * math.Pow(1-p, float64(n-i))
		}
		return sum
	}
	for n := 1; n <= 20; n++ {
		for k := range n + 1 {
			low, high := Share(k, n, 0.9)
			if k > 0 && math.Abs(atLeast(k, n, low)-0.05) > 1e-9 || k < n && math.Abs(1-atLeast(k+1, n, high)-0.05) > 1e-9 {
				t.Errorf("%d of %d: %v to %v", k, n, low, high)
			}
		}
	}
}
