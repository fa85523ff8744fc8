package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestABOrder: each side is first in every other pair, and the runs of a pair
// have one seed.
func TestABOrder(t *testing.T) {
	a := ab{sides: [2]*abSide{{name: "base"}, {name: "head"}}, pairs: 4, seed: 42, out: "d"}
	var got []string
	for _, r := range a.order() {
		got = append(got, fmt.Sprintf("%s=%d", a.dir(r), r.seed))
	}
	const want = "d/base/0001=42 d/head/0001=42 d/head/0002=43 d/base/0002=43 " +
		"d/base/0003=44 d/head/0003=44 d/head/0004=45 d/base/0004=45"
	if have := strings.Join(got, " "); have != want {
		t.Errorf("have %s\nwant %s", have, want)
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
