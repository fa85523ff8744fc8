package stats

import "gonum.org/v1/gonum/mathext"

// Share is a confidence interval, of at least the given level, for the
// probability of what happened k times in n independent trials, 0 <= k <= n and
// n > 0: that of C. J. Clopper and E. S. Pearson, "The use of confidence or
// fiducial limits illustrated in the case of the binomial", Biometrika 26(4),
// 1934. Both ends are included. It holds for every probability, however small n.
func Share(k, n int, level float64) (low, high float64) {
	tail := (1 - level) / 2
	high = 1
	if k > 0 {
		low = mathext.InvRegIncBeta(float64(k), float64(n-k+1), tail)
	}
	if k < n {
		high = mathext.InvRegIncBeta(float64(k+1), float64(n-k), 1-tail)
	}
	return low, high
}
