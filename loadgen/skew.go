package loadgen

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// HotSet is a share of the keys that takes a share of the operations. Keys are
// equally popular in it, and beside it.
type HotSet struct{ Keys, Ops float64 } // more than 0, at most 1; both 0: none

func (h HotSet) check() error {
	if h == (HotSet{}) {
		return nil
	}
	if !(h.Keys > 0 && h.Keys <= 1 && h.Ops > 0 && h.Ops <= 1) {
		return fmt.Errorf("hot: keys %v and ops %v must be more than 0 and at most 1", h.Keys, h.Ops)
	}
	return nil
}

// size is how many of n keys are hot, one at least.
func (h HotSet) size(n int) int { return max(1, int(math.Round(h.Keys*float64(n)))) }

// skew draws from n things by their popularity.
type skew struct {
	n    int
	zipf *zipf  // nil with a hot set
	flat bool   // all are equally popular
	hot  HotSet // zero without one

	// age holds the keys, the newest at the end, if the newest is the most
	// popular: a key becomes the newest when it opens its next generation. Else
	// it is nil. As YCSB's "latest", which draws an age by Zipf's law.
	age []int32
}

func newSkew(n int, c Skew) *skew {
	s := &skew{n: n, hot: c.Hot, flat: c.Zipf == 0 && c.Hot == HotSet{}}
	if c.Hot == (HotSet{}) {
		s.zipf = newZipf(n, c.Zipf)
	}
	if c.Latest {
		s.age = make([]int32, n)
		for i := range s.age {
			s.age[i] = int32(n - i)
		}
	}
	return s
}

// draw returns a popularity in [1, n], n at most that of s: 1 is the most
// popular of n things.
func (s *skew) draw(r *rand.Rand, n int) int {
	switch {
	case s.zipf != nil && n == s.n:
		return s.zipf.draw(r)
	case s.flat:
		return 1 + r.IntN(n)
	case s.zipf != nil:
		for { // what is left of Zipf's law on more things is Zipf's law on fewer
			if rank := s.zipf.draw(r); rank <= n {
				return rank
			}
		}
	}
	hot := s.hot.size(n)
	if hot == n || r.Float64() < s.hot.Ops {
		return 1 + r.IntN(hot)
	}
	return 1 + hot + r.IntN(n-hot)
}

// key is the key of that popularity.
func (s *skew) key(popularity int) (rank int) {
	if s.age == nil {
		return popularity
	}
	return int(s.age[s.n-popularity])
}

// renew makes a key the newest. Popular keys are renewed most, and are near the
// end.
func (s *skew) renew(rank int) {
	for i := len(s.age) - 1; i >= 0; i-- {
		if s.age[i] == int32(rank) {
			s.age = append(slices.Delete(s.age, i, i+1), int32(rank))
			return
		}
	}
}
