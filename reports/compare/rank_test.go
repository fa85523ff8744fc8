package compare

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// Heights of cross- and self-fertilised maize, eighths of an inch (Darwin 1876),
// in Fisher 1935, The Design of Experiments, section 21: in 863 of 32,768 ways
// to place the signs the sum is at least the observed 314.
func TestSignFlipFisher(t *testing.T) {
	maize := []float64{49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48}
	if got, want := signFlip(maize), 863.0/32768; got != want {
		t.Errorf("p %v, want %v", got, want)
	}
}

func TestSignFlip(t *testing.T) {
	for _, tt := range []struct {
		d    []float64
		want float64
	}{
		{[]float64{1}, 0.5},
		{[]float64{0, 0, 0}, 1},
		{[]float64{1, 1, 1, 1, 1, 1}, 1.0 / 64},
		{[]float64{-1, -1, -1}, 1},
		{[]float64{1, 2, -3}, 5.0 / 8},       // sums 6, 4, 2, 0 and 0 are at least 0
		{[]float64{0.1, 0.2, -0.3}, 5.0 / 8}, // 0.1+0.2 is not 0.3 in binary
	} {
		if got := signFlip(tt.d); got != tt.want {
			t.Errorf("%v: p %v, want %v", tt.d, got, tt.want)
		}
	}
}

// Every way to flip, counted by halves and one by one.
func TestFlips(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for n := 1; n <= 12; n++ {
		d := make([]float64, n)
		for i := range d {
			d[i] = math.Round(4 * random.NormFloat64()) // ties and zeros
		}
		bound := math.Round(3 * random.NormFloat64())
		want := 0
		for set := range 1 << n {
			var sum float64
			for i, v := range d {
				sum += v * float64(1-2*(set>>i&1))
			}
			if sum >= bound {
				want++
			}
		}
		if got := flips(d, bound); got != want {
			t.Errorf("%v, %v: %d, want %d", d, bound, got, want)
		}
	}
}

// Beyond 30 pairs a sample of the flips is close to the normal approximation,
// and the same every time.
func TestSignFlipSampled(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	d := make([]float64, 40)
	var sum, squares float64
	for i := range d {
		d[i] = random.NormFloat64() + 0.3
		sum += d[i]
		squares += d[i] * d[i]
	}
	want := 0.5 * math.Erfc(sum/math.Sqrt(2*squares))
	got := signFlip(d)
	near(t, "p", got, want, 0.1*want)
	if again := signFlip(d); again != got {
		t.Errorf("p %v, and %v the second time", got, again)
	}
}

func TestMedianShift(t *testing.T) {
	for _, tt := range []struct {
		base, head []float64
		want       float64
	}{
		// 3 apart: so are the medians of 3, 5, 6 and 1, 2, 4.
		{[]float64{1, 2, 3}, []float64{4, 5, 6}, 2.0 / 20},
		{[]float64{4, 5, 6}, []float64{1, 2, 3}, 1},
		{[]float64{5, 5, 5}, []float64{5, 5, 5}, 1},
		// 2 apart; only 3, 5.5 against 1, 2, 2.5 are as much.
		{[]float64{1, 2, 3}, []float64{2.5, 5.5}, 2.0 / 10},
	} {
		if got := medianShift(tt.base, tt.head); math.Abs(got-tt.want) > 1e-12 {
			t.Errorf("%v, %v: p %v, want %v", tt.base, tt.head, got, tt.want)
		}
	}
	var base, head []float64
	random := rand.New(rand.NewPCG(3, 3))
	for range 30 {
		base, head = append(base, random.NormFloat64()), append(head, random.NormFloat64()+1)
	}
	if p := medianShift(base, head); p > 0.01 {
		t.Errorf("30 a side, one deviation apart: p %v", p)
	}
	if p := medianShift(head, base); p < 0.9 {
		t.Errorf("30 a side, one deviation better: p %v", p)
	}
}

// Hamilton depression scale of nine patients before and after (Hollander, Wolfe
// and Chicken 2014, examples 3.1, 3.3 and 3.4): estimate -0.46, and an interval
// from -0.786 to -0.010 of confidence 96 %.
func TestPairedShiftTextbook(t *testing.T) {
	before := []float64{1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30}
	after := []float64{0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29}
	d := make([]float64, len(before))
	for i := range d {
		d[i] = after[i] - before[i]
	}
	s := pairedShift(d, 0.0200, 0.0200)
	near(t, "estimate", s.estimate, -0.46, 1e-9)
	near(t, "low", s.low, -0.786, 1e-9)
	near(t, "high", s.high, -0.010, 1e-9)
}

// Permeability of the chorioamnion at term and at 12 to 26 weeks (the same,
// examples 4.1, 4.3 and 4.4): estimate -0.305, and an interval from -0.76 to
// 0.15 of confidence 96 %.
func TestTwoSampleShiftTextbook(t *testing.T) {
	term := []float64{0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46}
	early := []float64{1.15, 0.88, 0.90, 0.74, 1.21}
	s := twoSampleShift(term, early, 0.0200, 0.0200)
	near(t, "estimate", s.estimate, -0.305, 1e-9)
	near(t, "low", s.low, -0.76, 1e-9)
	near(t, "high", s.high, 0.15, 1e-9)
}

// The distributions are those of counting every way.
func TestRankDistributions(t *testing.T) {
	for n := 1; n <= 10; n++ {
		want := make([]float64, n*(n+1)/2+1)
		for set := range 1 << n {
			w := 0
			for i := range n {
				w += (set >> i & 1) * (i + 1)
			}
			want[w] += 1 / math.Ldexp(1, n)
		}
		got := signedRank(n)
		for w := range want {
			near(t, "signed rank", got[w], want[w], 1e-12)
		}
	}
	for m := 1; m <= 5; m++ {
		for n := 1; n <= 5; n++ {
			want := make([]float64, m*n+1)
			for set := range 1 << (m + n) {
				u, first, second := 0, 0, 0
				for i := range m + n {
					if set>>i&1 == 1 {
						first++
						u += second
					} else {
						second++
					}
				}
				if first == m {
					want[u] += 1 / choose(m+n, m)
				}
			}
			got := mannWhitney(m, n)
			for u := range want {
				near(t, "Mann-Whitney", got[u], want[u], 1e-12)
			}
			// A level that is reached exactly is reached.
			var below float64
			for u := range want {
				below += want[u] * choose(m+n, m) // a count
				if k := mannWhitneyRank(m, n, math.Round(below)/choose(m+n, m)); k != u+1 {
					t.Errorf("Mann-Whitney, %d and %d, %v of %v: %d, want %d", m, n, below, choose(m+n, m), k, u+1)
				}
			}
		}
	}
}

// Critical values from tables (Wilcoxon 1945; Mann and Whitney 1947): the
// statistic is significant at the one-sided level up to k-1.
func TestRankTables(t *testing.T) {
	for _, tt := range []struct {
		n    int
		tail float64
		want int
	}{
		{5, 0.05, 1}, {5, 0.025, 0}, {6, 0.025, 1}, {6, 1.0 / 64, 1}, {6, 0.015, 0}, {8, 0.025, 4}, {10, 0.025, 9}, {20, 0.025, 53}, {25, 0.005, 69},
	} {
		if got := signedRankRank(tt.n, tt.tail); got != tt.want {
			t.Errorf("signed rank, n %d, %v: %d, want %d", tt.n, tt.tail, got, tt.want)
		}
	}
	for _, tt := range []struct {
		m, n int
		tail float64
		want int
	}{
		{3, 3, 0.05, 1}, {3, 3, 0.025, 0}, {5, 5, 0.025, 3}, {6, 6, 0.025, 6}, {8, 6, 0.025, 9}, {10, 10, 0.025, 24}, {20, 20, 0.025, 128},
	} {
		if got := mannWhitneyRank(tt.m, tt.n, tt.tail); got != tt.want {
			t.Errorf("Mann-Whitney, %d and %d, %v: %d, want %d", tt.m, tt.n, tt.tail, got, tt.want)
		}
	}
}

// The normal approximation takes over where it is as good as exact.
func TestNormalRank(t *testing.T) {
	mean := 100.0 * 101 / 4
	near(t, "signed rank", float64(normalRank(mean, math.Sqrt(mean*201/6), 0.025)), float64(signedRankRank(100, 0.025)), 2)
	near(t, "Mann-Whitney", float64(normalRank(1250, math.Sqrt(2500*101/12.0), 0.025)), float64(mannWhitneyRank(50, 50, 0.025)), 2)
	near(t, "quantile", normalQuantile(0.975), 1.959964, 1e-6)
}

// Holm 1979: smallest times 3, next times 2, never below the one before.
func TestHolm(t *testing.T) {
	got := holm([]float64{0.03, 0.01, 0.02, 0.9})
	want := []float64{0.06, 0.04, 0.06, 0.9}
	if !slices.EqualFunc(got, want, func(a, b float64) bool { return math.Abs(a-b) < 1e-12 }) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := holm(nil); len(got) != 0 {
		t.Errorf("%v of nothing", got)
	}
}
