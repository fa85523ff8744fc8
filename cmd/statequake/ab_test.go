package main

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestABOrder: the runs of a pair follow each other and have one seed, each side is
// first about as often, and the same order seed gives the same order.
func TestABOrder(t *testing.T) {
	order := func(orderSeed int64) (runs []string, baseFirst int) {
		a := ab{sides: [2]*abSide{{name: "base"}, {name: "head"}}, pairs: 200, seed: 42, out: "d", orderSeed: orderSeed}
		all := a.order()
		for i, r := range all {
			runs = append(runs, fmt.Sprintf("%s=%d", a.dir(r), r.seed))
			if i%2 == 1 {
				continue
			}
			if next := all[i+1]; next.pair != r.pair || next.side == r.side || next.seed != r.seed || r.seed != 42+int64(i/2) || r.pair != i/2+1 {
				t.Errorf("%s is followed by %s", a.dir(r), a.dir(next))
			}
			if r.side.name == "base" {
				baseFirst++
			}
		}
		return runs, baseFirst
	}
	one, baseFirst := order(1)
	if again, _ := order(1); !slices.Equal(one, again) {
		t.Error("one order seed gives two orders")
	}
	if other, _ := order(2); slices.Equal(one, other) {
		t.Error("two order seeds give one order")
	}
	if baseFirst < 70 || baseFirst > 130 { // 4 standard deviations; the seed is fixed
		t.Errorf("base is first in %d of 200 pairs", baseFirst)
	}
	if one[0] != "d/base/0001=42" && one[0] != "d/head/0001=42" {
		t.Errorf("the first run is %s", one[0])
	}
}

// TestABLine: what is left is estimated from the runs that ended, and never
// less than what has passed.
func TestABLine(t *testing.T) {
	for _, tc := range []struct {
		ended         int
		took, elapsed time.Duration
		want          string
	}{
		{0, 0, 62 * time.Second, "run 1 of 12 (head 2/6)  elapsed 1m02s"},
		{2, 40 * time.Second, 62 * time.Second, "run 3 of 12 (head 2/6)  elapsed 1m02s of about 4m00s"},
		{11, 110 * time.Second, 3 * time.Minute, "run 12 of 12 (head 2/6)  elapsed 3m00s of about 3m00s"},
	} {
		w := abWatch{ab: &ab{pairs: 6}, ended: tc.ended, took: tc.took, current: abRun{side: &abSide{name: "head"}, pair: 2}}
		if got := w.line(tc.elapsed); got != tc.want {
			t.Errorf("%d runs in %v, after %v: %q, want %q", tc.ended, tc.took, tc.elapsed, got, tc.want)
		}
	}
}
