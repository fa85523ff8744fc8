package plot

import (
	"math"
	"slices"
)

// manyRuns is the number of runs from which on an interval leaves out the
// outermost tenths.
const manyRuns = 10

// spread is a figure over runs. Low and High are the least and the largest
// value, or, if the rule says so, the 10th and the 90th percentile.
type spread struct {
	n                 int
	median, low, high float64
}

// rule says what an interval is, one for all groups of a picture, so that they
// can be compared.
type rule struct{ tails bool }

// ruleFor is from min to max unless every group has manyRuns or more.
func ruleFor(counts []int) rule {
	for _, n := range counts {
		if n < manyRuns {
			return rule{}
		}
	}
	return rule{tails: len(counts) > 0}
}

// words say what the interval of a median is.
func (r rule) words() string {
	if r.tails {
		return "10th to 90th percentile"
	}
	return "min to max"
}

// over returns n = 0 and NaN for no values; values that are NaN are unknown and
// left out.
func (r rule) over(values []float64) spread {
	known := make([]float64, 0, len(values))
	for _, v := range values {
		if !math.IsNaN(v) {
			known = append(known, v)
		}
	}
	n := len(known)
	if n == 0 {
		return spread{0, math.NaN(), math.NaN(), math.NaN()}
	}
	slices.Sort(known)
	s := spread{n, (known[(n-1)/2] + known[n/2]) / 2, known[0], known[n-1]}
	if r.tails {
		s.low, s.high = quantile(known, 0.1), quantile(known, 0.9)
	}
	return s
}

// quantile interpolates between the closest ranks of ascending values: type 7 of
// R. J. Hyndman, Y. Fan, Sample Quantiles in Statistical Packages, 1996.
func quantile(sorted []float64, p float64) float64 {
	at := p * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
