package loadgen

import (
	"math"
	"math/rand/v2"
)

// zipf draws ranks 1..n with probability proportional to 1/rank^exponent, for
// any exponent >= 0 (0 is uniform; math/rand's Zipf needs more than 1). It takes
// constant memory and about one uniform draw per rank.
//
// Rejection-inversion after W. Hörmann and G. Derflinger, "Rejection-inversion
// to generate variates from monotone discrete distributions", ACM TOMACS 6(3),
// 1996: invert the integral H of the density h(x) = x^-exponent over
// [1/2, n+1/2], round, and reject where the histogram bar lies below the curve.
// As in Apache Commons RNG, H is written with expm1 and log1p so that it stays
// exact around exponent 1.
type zipf struct {
	n, exponent float64
	first, last float64 // H at the two ends of the range drawn from
	accept      float64 // a rank this close above the inverted point needs no test
}

func newZipf(n int, exponent float64) *zipf {
	z := &zipf{n: float64(n), exponent: exponent}
	z.first = z.integral(1.5) - 1
	z.last = z.integral(z.n + 0.5)
	z.accept = 2 - z.inverse(z.integral(2.5)-z.density(2))
	return z
}

// draw returns a rank in [1, n].
func (z *zipf) draw(r *rand.Rand) int {
	for {
		u := z.last + r.Float64()*(z.first-z.last)
		x := z.inverse(u)
		rank := min(max(math.Floor(x+0.5), 1), z.n) // rounding can leave the range by one
		if rank-x <= z.accept || u >= z.integral(rank+0.5)-z.density(rank) {
			return int(rank)
		}
	}
}

func (z *zipf) density(x float64) float64 { return math.Exp(-z.exponent * math.Log(x)) }

// integral is (x^(1-exponent) - 1) / (1-exponent), and log x at exponent 1.
func (z *zipf) integral(x float64) float64 {
	log := math.Log(x)
	t := (1 - z.exponent) * log
	if math.Abs(t) < 1e-8 {
		return log * (1 + t/2*(1+t/3)) // expm1(t)/t loses its digits here
	}
	return log * math.Expm1(t) / t
}

// inverse is the inverse function of integral.
func (z *zipf) inverse(u float64) float64 {
	t := max(u*(1-z.exponent), -1) // below -1 by rounding only
	if math.Abs(t) < 1e-8 {
		return math.Exp(u * (1 - t/2*(1-t*2/3)))
	}
	return math.Exp(u * math.Log1p(t) / t)
}
