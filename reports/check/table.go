package check

import "math/bits"

// table is a set of hashes, numbered in the order in which they come.
type table struct {
	slots []slot
	mask  uint64
	n     int
}

type slot struct {
	hash   uint64
	number int32 // from 1
}

// newTable returns an empty table for n hashes in the memory that slots holds,
// or in new memory, which it leaves there.
func newTable(slots *[]slot, n int) *table {
	size := 1 << bits.Len(uint(n)+uint(n)/2)
	if cap(*slots) < size {
		*slots = make([]slot, size)
	}
	t := &table{slots: (*slots)[:size], mask: uint64(size - 1)}
	clear(t.slots)
	return t
}

func (t *table) slot(hash uint64) *slot {
	for i := hash & t.mask; ; i = (i + 1) & t.mask {
		if s := &t.slots[i]; s.number == 0 || s.hash == hash {
			return s
		}
	}
}

// number returns the number of a hash, from 0. A new one gets the next.
func (t *table) number(hash uint64) int {
	s := t.slot(hash)
	if s.number == 0 {
		t.n++
		s.hash, s.number = hash, int32(t.n)
	}
	return int(s.number - 1)
}

// insert reports whether hash is new.
func (t *table) insert(hash uint64) bool {
	n := t.n
	t.number(hash)
	return t.n > n
}

// resize returns a cleared slice of length n, in the memory of s if that is
// large enough.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/2)
	}
	s = s[:n]
	clear(s)
	return s
}
