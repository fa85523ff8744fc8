// Package set decides whether a history of one set that only grows, read as a
// whole, is linearizable, and says when its elements became visible.
//
// Every element is added once. The times are those of Jepsen's set-full
// checker. O(r + n log n), r being the elements in all reads together.
package set

import "time"

// Op is an add of one element, or a read of the whole set. Times are on one
// clock, whichever; an operation takes effect at one instant of the closed
// interval from Call to Return, so a is before b only if a.Return < b.Call.
//
// Leave out what certainly had no effect, and reads without an answer.
type Op struct {
	Call, Return time.Duration

	Element  int32   // of an add; number the elements from 0 without large gaps: memory grows with the largest
	Elements []int32 // of a read: what it answered, in any order; negative numbers are elements that nobody added

	Read bool
	Open bool // an add of unknown outcome: it took effect at any time after Call, or never. Return is ignored
}

// Kind is a kind of violation, by the name that reports give it.
type Kind string

const (
	Duplicated      Kind = "duplicated"       // the read Op has Element more than once
	Phantom         Kind = "phantom"          // the read Op has Element, which nobody added
	FutureRead      Kind = "future-read"      // the read Op, which returned before Other, the add of Element, was called, has it
	Lost            Kind = "lost"             // Element was added (Other) or read (Other) before the read Op was called, which misses it, and so does every read called later
	StaleRead       Kind = "stale-read"       // as Lost, but a read called later has it again. Op is the last read that misses it
	NotLinearizable Kind = "not-linearizable" // the read Op has Element and misses something else, and Other is a read of which the opposite is true, or the add of what Op misses, which had returned before the add of Element was called
)

// None stands for no operation.
const None int32 = -1

// Violation is one thing that no set does. Lost and StaleRead are found once an
// element, NotLinearizable only if there is nothing else, and the others once a
// read.
type Violation struct {
	Kind    Kind
	Op      int32 // index into the operations
	Other   int32 // index into the operations, or None
	Element int32
}

// Result is the verdict on one set.
type Result struct {
	// Twice holds two adds of one element: such a history is not decided. Both
	// are None if there are none.
	Twice [2]int32

	// Violations is empty if and only if the history is linearizable.
	Violations []Violation

	// What became of the elements that somebody tried to add. An element is
	// known from the return of its add, or of the first read that has it; it is
	// stable if the read called last of those that could see it has it, lost
	// if it was known and that read was called later and misses it, else never
	// read. Stale ones are stable, and some read called after they were known
	// missed them.
	Attempted, Acknowledged, Stable, Lost, NeverRead, Stale int

	// From when an element was known to when it was there, or gone, for good:
	// just after the call of the last read that missed it, or had it; 0 if that was earlier.
	StableLatency, LostLatency Latency
}

// Latency sums up lengths of time over elements. P50 is the value at index N/2
// of all in order.
type Latency struct {
	P50, Max time.Duration
	N        int
}
