// Package counter decides whether a history of one counter, which starts at 0,
// is linearizable, where that can be decided without a search.
package counter

import "time"

// Op is one operation. Times are on one clock, whichever; an operation takes
// effect at one instant of the closed interval from Call to Return, so a is
// before b only if a.Return < b.Call.
//
// Leave out what certainly had no effect, and reads without an answer.
type Op struct {
	Call, Return time.Duration

	Add   int64 // what it adds; 0 for a read
	Value int64 // if Told: of a read the counter, of an add the counter right after it

	Told  bool // always of a read
	Open  bool // an add of unknown outcome: it took effect at any time after Call, or never. Return, Value and Told are ignored
	Final bool // a read after the load: what it misses is lost, not stale
}

// Kind is a kind of violation, by the name that reports give it.
type Kind string

const (
	WrongResult     Kind = "wrong-result"     // Value is no sum of the amounts that were added, in any order
	Phantom         Kind = "phantom"          // Value is beyond what all adds that were ever called could make
	FutureRead      Kind = "future-read"      // Value is beyond what the adds called by the time Op returned could make
	StaleRead       Kind = "stale-read"       // Value misses adds that were acknowledged, or shown by Other, before Op was called
	Lost            Kind = "lost"             // as StaleRead, where Op is Final and the adds were acknowledged
	NotLinearizable Kind = "not-linearizable" // no order explains what is left: Op shows a value that cannot have been reached, or reached only without Other, or by Other as well
)

// None stands for no operation.
const None int32 = -1

// Violation is one answer that no counter gives.
type Violation struct {
	Kind  Kind
	Op    int32 // the answer, an index into the operations
	Other int32 // the operation that contradicts it, or None; Low and High may do so too

	// By the adds acknowledged before Op's Call and those called by its Return,
	// Value had to be from Low to High, both included. 0 for NotLinearizable.
	Low, High int64
}

// Result is the verdict on one counter.
type Result struct {
	// Exact says that Violations is empty if and only if the history is
	// linearizable. Without it the violations are certain, but an order may not
	// exist even if there are none. The exact cases:
	//
	//   - There is a violation.
	//   - All adds are of one amount, told or not, and of whatever outcome.
	//   - All adds are of one sign, and all acknowledged ones were told; unless
	//     the search for those of unknown outcome that fill the gaps between
	//     the others takes more than 200,000 steps.
	//
	// Sums beyond 64 bits are not decided at all.
	Exact      bool
	Violations []Violation
}
