package network

import (
	"math"
	"slices"
	"testing"
	"time"
)

// passAll sends n packets of size bytes, gap apart, through a filter.
func passAll(f *filter, n, size int, gap time.Duration) (fates [][]fate, t tally) {
	for i := range n {
		fates = append(fates, f.pass(time.Duration(i)*gap, size, []fate{{flip: -1}}, &t))
	}
	return fates, t
}

func TestSharesOfAFilter(t *testing.T) {
	const n = 100_000
	e := Effect{Latency: time.Millisecond, Reorder: 0.3, Loss: 0.1, Duplicate: 0.2, Corrupt: 0.05}
	fates, count := passAll(newFilter(e, 1, 2), n, 100, time.Millisecond)
	early, copies := 0, 0
	for _, f := range fates {
		for _, c := range f {
			copies++
			if c.delay == 0 {
				early++
			}
			if c.flip >= (100-14)*8 {
				t.Fatalf("bit %d of 86 bytes", c.flip)
			}
		}
	}
	for what, k := range map[string]struct {
		got, n int
		p      float64
	}{
		"duplicated": {int(count.duplicated), n, e.Duplicate},
		"dropped":    {int(count.dropped), n + int(count.duplicated), e.Loss},
		"corrupted":  {int(count.corrupted), copies, e.Corrupt},
		"early":      {early, copies, e.Reorder},
	} {
		if low, high := interval(k.n, k.p); k.got < low || k.got > high {
			t.Errorf("%s: %d of %d, want %d to %d", what, k.got, k.n, low, high)
		}
	}
	again, _ := passAll(newFilter(e, 1, 2), n, 100, time.Millisecond)
	other, _ := passAll(newFilter(e, 1, 3), n, 100, time.Millisecond)
	same := func(a, b [][]fate) bool { return slices.EqualFunc(a, b, slices.Equal) }
	if !same(fates, again) || same(fates, other) {
		t.Error("the seed does not fix the choices, or the path does not change them")
	}
}

// With correlation r the numbers have the mean 1/2, the variance (1-r)/(1+r)/12
// and an autocorrelation of r.
func TestCorrelation(t *testing.T) {
	const n, r = 200_000, 0.6
	f := newFilter(Effect{}, 1, 1)
	var sum, square, product, last float64
	for i := range n {
		x := f.draw(&f.loss, r) - 0.5
		sum += x
		square += x * x
		if i > 0 {
			product += x * last
		}
		last = x
	}
	if mean := sum / n; math.Abs(mean) > 0.01 {
		t.Errorf("mean %v, want 0", mean)
	}
	if v := square / n; math.Abs(v-(1-r)/(1+r)/12) > 0.001 {
		t.Errorf("variance %v, want %v", v, (1-r)/(1+r)/12)
	}
	if c := product / square; math.Abs(c-r) > 0.02 {
		t.Errorf("autocorrelation %v, want %v", c, r)
	}
}

func TestJitter(t *testing.T) {
	f := newFilter(Effect{Latency: 10 * time.Millisecond, Jitter: 4 * time.Millisecond}, 1, 1)
	low, high := time.Hour, time.Duration(0)
	for range 10_000 {
		late := f.late()
		low, high = min(low, late), max(high, late)
	}
	if low < 6*time.Millisecond || low > 6100*time.Microsecond || high >= 14*time.Millisecond || high < 13900*time.Microsecond {
		t.Errorf("%v to %v, want 6 to 14 ms", low, high)
	}
	f = newFilter(Effect{Jitter: time.Millisecond}, 1, 1)
	for range 1000 {
		if late := f.late(); late < 0 {
			t.Fatal(late)
		}
	}
}

func TestGap(t *testing.T) {
	f := newFilter(Effect{Latency: time.Second, Reorder: 1, Gap: 3}, 1, 1)
	var early []int
	for i := range 9 {
		if f.late() == 0 {
			early = append(early, i)
		}
	}
	if !slices.Equal(early, []int{2, 5, 8}) {
		t.Errorf("%v overtake, want every third", early)
	}
}

func TestBucket(t *testing.T) {
	// 1000 bytes per second, 2000 at once, 1000 may wait.
	f := newFilter(Effect{Rate: 1000, Buffer: 2000, Limit: 1000}, 1, 1)
	for _, step := range []struct {
		at   time.Duration
		size int
		wait time.Duration
		ok   bool
	}{
		{0, 1000, 0, true},
		{0, 1000, 0, true},                     // the bucket is empty
		{0, 500, 500 * time.Millisecond, true}, //
		{0, 100, 600 * time.Millisecond, true}, // a small one does not overtake
		{0, 500, 0, false},                     // it would wait for 1100 bytes
		{100 * time.Millisecond, 400, 900 * time.Millisecond, true},
		{10 * time.Second, 1000, 0, true}, // full again
		{10 * time.Second, 1000, 0, true},
		{10 * time.Second, 1, time.Millisecond, true},
	} {
		wait, ok := f.bucket(step.at, step.size)
		if ok != step.ok || (wait-step.wait).Abs() > time.Microsecond {
			t.Errorf("at %v, %d bytes: %v, %v, want %v, %v", step.at, step.size, wait, ok, step.wait, step.ok)
		}
	}
}

// Against sums over all outcomes of small n.
func TestInterval(t *testing.T) {
	for _, tt := range []struct {
		n         int
		p         float64
		low, high int
	}{
		{10, 0, 0, 0},
		{10, 1, 10, 10},
		{10, 0.5, 0, 10},  // 2^-10 on each side is more than doubt
		{20, 0.5, 2, 18},  // P(X<=1) = 2.0e-5, P(X<=2) = 2.0e-4
		{100, 0.1, 1, 23}, // P(X=0) = 2.7e-5, P(X<=1) = 3.2e-4; P(X>=23) = 1.2e-4, P(X>=24) = 4.5e-5
	} {
		if low, high := interval(tt.n, tt.p); low != tt.low || high != tt.high {
			t.Errorf("%d of %v: %d to %d, want %d to %d", tt.n, tt.p, low, high, tt.low, tt.high)
		}
	}
}

// A probe with one wrong bit anywhere is still known, and seen to be damaged.
func TestUnseal(t *testing.T) {
	payload := make([]byte, probeSize)
	for bit := -1; bit < 8*probeSize; bit++ {
		seal(payload, 4711)
		if bit >= 0 {
			payload[bit/8] ^= 1 << (bit % 8)
		}
		if number, damaged := unseal(payload); number != 4711 || damaged != (bit >= 0) {
			t.Fatalf("bit %d: number %d, damaged %v", bit, number, damaged)
		}
	}
}
