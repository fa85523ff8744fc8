package core

import "time"

// Lag is how far the store is behind what was executed: the records that are not
// durable, and the age of the oldest of them at now, 0 if there is none.
func (s *Shard) Lag(now time.Duration) (records int64, age time.Duration) {
	if !s.Pending() {
		return 0, 0
	}
	return s.nextPos - 1 - s.durablePos, max(0, now-s.oldest)
}

// Waiting is the number of commands that wait for their entity to be loaded, or
// to decide on others. It looks at every entity in memory.
func (s *Shard) Waiting() int {
	n := 0
	for _, e := range s.entities {
		n += len(e.waiting)
	}
	return n
}
