package compare

import (
	"math"
	"math/rand/v2"
	"slices"
)

const (
	// enumerated is the largest number of ways to deal runs to two sides that are
	// all tried, and flipped the largest number of pairs of which all ways to flip
	// are counted; beyond it a random sample of sampled ones, the same in every
	// call, is.
	enumerated = 1 << 20
	flipped    = 30
	sampled    = 1 << 17

	// The largest samples whose rank distributions are computed exactly; beyond
	// them the normal approximation is off by less than the third digit.
	exactPairs    = 100
	exactProducts = 2500 // base runs x head runs

	// equal is the relative difference up to which two sums of the same numbers
	// in another order count as equal.
	equal = 1e-9
)

// signFlip is the one-sided p-value of the hypothesis that the differences d
// come from distributions symmetric about 0, against larger ones: the share of
// all ways to flip their signs whose sum is at least that of d (Fisher 1935,
// The Design of Experiments, section 21). d must not be empty.
func signFlip(d []float64) float64 {
	var observed, scale float64
	for _, v := range d {
		observed += v
		scale += math.Abs(v)
	}
	bound := observed - equal*scale
	if len(d) <= flipped {
		return float64(flips(d, bound)) / math.Ldexp(1, len(d))
	}
	random := rand.New(rand.NewPCG(1, 2))
	hits := 1 // d itself
	for range sampled {
		var sum float64
		for _, v := range d {
			if random.Uint64()&1 == 0 {
				v = -v
			}
			sum += v
		}
		if sum >= bound {
			hits++
		}
	}
	return float64(hits) / (sampled + 1)
}

// flips counts the ways to flip the signs of d that bring their sum to at least
// bound: it goes through the sums of one half of d upwards, and through those of
// the other downwards (Horowitz and Sahni 1974).
func flips(d []float64, bound float64) int {
	up, down := signedSums(d[:len(d)/2]), signedSums(d[len(d)/2:])
	hits, enough := 0, len(down) // down[enough:] are large enough for the sum at hand
	for _, sum := range up {
		for enough > 0 && sum+down[enough-1] >= bound {
			enough--
		}
		hits += len(down) - enough
	}
	return hits
}

// signedSums are the sums of d with every choice of signs, in order: those with a
// value subtracted and those with it added are in order each, and are merged.
func signedSums(d []float64) []float64 {
	sums := []float64{0}
	for _, v := range d {
		v = math.Abs(v)
		merged := make([]float64, 0, 2*len(sums))
		more := 0
		for _, less := range sums {
			for sums[more]+v < less-v {
				merged = append(merged, sums[more]+v)
				more++
			}
			merged = append(merged, less-v)
		}
		for _, sum := range sums[more:] {
			merged = append(merged, sum+v)
		}
		sums = merged
	}
	return sums
}

// medianShift is the one-sided p-value of the hypothesis that base and head
// come from one distribution, against a larger head: the share of all ways to
// deal the values to two sides of these sizes in which the median of head
// exceeds that of base by at least as much as it does. Neither may be empty.
func medianShift(base, head []float64) float64 {
	all := slices.Concat(base, head)
	bound := median(head) - median(base)
	slices.Sort(all)
	bound -= equal * (math.Abs(all[0]) + math.Abs(all[len(all)-1]))
	h, b := make([]float64, 0, len(head)), make([]float64, 0, len(base))
	hits := 0
	if choose(len(all), len(head)) <= enumerated {
		total := 0
		var deal func(i int)
		deal = func(i int) {
			if i == len(all) {
				total++
				if medianOfSorted(h)-medianOfSorted(b) >= bound {
					hits++
				}
				return
			}
			if len(h) < len(head) {
				h = append(h, all[i])
				deal(i + 1)
				h = h[:len(h)-1]
			}
			if len(b) < len(base) {
				b = append(b, all[i])
				deal(i + 1)
				b = b[:len(b)-1]
			}
		}
		deal(0)
		return float64(hits) / float64(total)
	}
	random := rand.New(rand.NewPCG(1, 2))
	hits = 1 // the sides as they are
	for range sampled {
		h, b = h[:0], b[:0]
		for i, v := range all { // selection sampling keeps both sorted
			if random.IntN(len(all)-i) < len(head)-len(h) {
				h = append(h, v)
			} else {
				b = append(b, v)
			}
		}
		if medianOfSorted(h)-medianOfSorted(b) >= bound {
			hits++
		}
	}
	return float64(hits) / (sampled + 1)
}

// choose is the number of ways to choose k of n.
func choose(n, k int) float64 {
	ways := 1.0
	for i := range k {
		ways = ways * float64(n-i) / float64(i+1)
	}
	return ways
}

// shift is a Hodges-Lehmann estimate with a confidence interval.
type shift struct {
	estimate float64
	// The ends of the interval are in it. Each is wrong with at most the
	// probability asked for it; bounded is false if there are too few values for
	// one of them, and then both mean nothing.
	low, high float64
	bounded   bool
}

// pairedShift estimates the centre of the differences d: the median of the
// Walsh averages (d[i]+d[j])/2, i <= j, between order statistics of them by the
// distribution of Wilcoxon's signed-rank statistic (Hollander, Wolfe and
// Chicken 2014, sections 3.2 and 3.3). d must not be empty; low and high are the
// probabilities for the two ends.
func pairedShift(d []float64, low, high float64) shift {
	averages := make([]float64, 0, len(d)*(len(d)+1)/2)
	for i := range d {
		for j := i; j < len(d); j++ {
			averages = append(averages, (d[i]+d[j])/2)
		}
	}
	return between(averages, signedRankRank(len(d), low), signedRankRank(len(d), high))
}

// twoSampleShift estimates by how much head exceeds base: the median of all
// head[j]-base[i], between order statistics of them by the distribution of the
// Mann-Whitney statistic (Hollander, Wolfe and Chicken 2014, sections 4.2 and
// 4.3). Neither may be empty; low and high are the probabilities for the two ends.
func twoSampleShift(base, head []float64, low, high float64) shift {
	differences := make([]float64, 0, len(base)*len(head))
	for _, b := range base {
		for _, h := range head {
			differences = append(differences, h-b)
		}
	}
	return between(differences, mannWhitneyRank(len(base), len(head), low), mannWhitneyRank(len(base), len(head), high))
}

// between is the median of values with the low-th smallest and the high-th largest
// as interval, unbounded if one of them is 0.
func between(values []float64, low, high int) shift {
	slices.Sort(values)
	s := shift{estimate: medianOfSorted(values)}
	if low > 0 && high > 0 {
		s.low, s.high, s.bounded = values[low-1], values[len(values)-high], true
	}
	return s
}

// signedRankRank is the largest k for which the chance that Wilcoxon's
// signed-rank statistic of n values is below k is at most tail; 0 if it is
// larger for k = 1.
func signedRankRank(n int, tail float64) int {
	if n > exactPairs {
		mean := float64(n) * float64(n+1) / 4
		return normalRank(mean, math.Sqrt(mean*float64(2*n+1)/6), tail)
	}
	return lastRank(signedRank(n), tail)
}

// signedRank is the distribution of Wilcoxon's signed-rank statistic of n
// values without ties: the sum of those of the ranks 1 to n whose fair coin
// shows heads.
func signedRank(n int) []float64 {
	p := make([]float64, n*(n+1)/2+1)
	p[0] = 1
	for rank := 1; rank <= n; rank++ {
		for w := rank * (rank + 1) / 2; w >= 0; w-- {
			p[w] /= 2
			if w >= rank {
				p[w] += p[w-rank] / 2
			}
		}
	}
	return p
}

// mannWhitneyRank is signedRankRank for the Mann-Whitney statistic of two
// samples of sizes m and n.
func mannWhitneyRank(m, n int, tail float64) int {
	if m*n > exactProducts {
		product := float64(m) * float64(n)
		return normalRank(product/2, math.Sqrt(product*float64(m+n+1)/12), tail)
	}
	return lastRank(mannWhitney(m, n), tail)
}

// mannWhitney is the distribution of the number of pairs, one value of each of
// two samples of sizes m and n from one continuous distribution, in which the
// first is larger. The largest value of all belongs to the first sample with
// probability m/(m+n) and is then larger than all n of the second (Mann and
// Whitney 1947).
func mannWhitney(m, n int) []float64 {
	// rows[j] is the distribution for sizes i and j.
	rows := make([][]float64, n+1)
	for j := range rows {
		rows[j] = []float64{1}
	}
	for i := 1; i <= m; i++ {
		for j := 1; j <= n; j++ {
			p := make([]float64, i*j+1)
			first := float64(i) / float64(i+j)
			for u, q := range rows[j] { // sizes i-1 and j
				p[u+j] += first * q
			}
			for u, q := range rows[j-1] { // sizes i and j-1
				p[u] += (1 - first) * q
			}
			rows[j] = p
		}
	}
	return rows[n]
}

// lastRank is the largest k for which p[0] + ... + p[k-1] is at most tail.
func lastRank(p []float64, tail float64) int {
	var below float64
	for k, q := range p {
		if below += q; below > tail*(1+equal) {
			return k
		}
	}
	return len(p)
}

// normalRank is lastRank of a normal distribution rounded to whole numbers.
func normalRank(mean, deviation, tail float64) int {
	return max(0, int(math.Floor(mean+deviation*normalQuantile(tail)+0.5)))
}

// normalQuantile is the value below which a standard normal variable is with
// probability p.
func normalQuantile(p float64) float64 { return math.Sqrt2 * math.Erfinv(2*p-1) }

// holm corrects p-values for their number (Holm 1979): if every hypothesis is
// true, the chance that any of the results is at most a is at most a.
func holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		switch {
		case p[i] < p[j]:
			return -1
		case p[i] > p[j]:
			return 1
		}
		return 0
	})
	corrected := make([]float64, len(p))
	var largest float64
	for k, i := range order {
		largest = max(largest, p[i]*float64(len(p)-k))
		corrected[i] = min(largest, 1)
	}
	return corrected
}

// variance of values, with n-1; NaN if there are fewer than two.
func variance(values []float64) float64 {
	var mean, squares float64
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	if len(values) < 2 {
		return math.NaN()
	}
	return squares / float64(len(values)-1)
}
