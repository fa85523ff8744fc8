package ownership

import (
	"fmt"
	"hash/fnv"
)

// Preferred is the member that should own a shard among those for which may is
// true, by rendezvous hashing (Thaler and Ravishankar 1998): when a member
// leaves only its own shards move, and when one joins only those that it gets.
// It is "" if there is none.
func Preferred(shard int, members []string, may func(name string) bool) string {
	best, weight := "", uint64(0)
	for _, name := range members {
		if !may(name) {
			continue
		}
		h := fnv.New64a()
		fmt.Fprintf(h, "%s/%d", name, shard)
		if w := mix(h.Sum64()); best == "" || w > weight || w == weight && name < best {
			best, weight = name, w
		}
	}
	return best
}

// mix spreads the bits of an FNV hash, whose high bits are weak for short
// input (the finalizer of splitmix64, Steele et al. 2014).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
