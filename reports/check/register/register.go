// Package register decides whether a history of one read-write register is
// linearizable, if no value was written twice.
//
// It is the zone test of P. B. Gibbons and E. Korach, "Testing shared
// memories", SIAM J. Comput. 26(4), 1997: a write and the reads of its value
// stand together in any legal order, so values are ordered as wholes, and an
// order exists if no two values must each come before the other. O(n log n) time, at
// most 36 bytes a value beside the input while nothing is wrong.
package register

import "time"

// Op is one operation. Times are on one clock, whichever; an operation takes
// effect at one instant of the closed interval from Call to Return, so a is
// before b only if a.Return < b.Call.
//
// Leave out what certainly had no effect, and reads without an answer.
type Op struct {
	Call, Return time.Duration

	// Value is the number of the value written, or of the value that a read
	// answered. 0 is the initial value. Number the values of writes from 1
	// without large gaps: memory grows with the largest. A number that no write
	// has, a negative one too, is a value that nobody wrote.
	Value int32

	Write bool
	Open  bool // a write of unknown outcome: it took effect at any time after Call, or never. Return is ignored
	Final bool // a read after the load: what it misses is lost, not stale
}

// Kind is a kind of violation, by the name that reports give it.
type Kind string

const (
	Phantom         Kind = "phantom"          // Op read a value that nobody wrote
	FutureRead      Kind = "future-read"      // Op returned before Older.Write, which wrote its value, was called
	StaleRead       Kind = "stale-read"       // Op read Older; but Newer, written after Older was known, was known before Op was called
	Lost            Kind = "lost"             // as StaleRead, where Op is Final and the write of Newer had been acknowledged
	NotLinearizable Kind = "not-linearizable" // each of Older and Newer must come before the other
)

// None stands for no operation.
const None int32 = -1

// Value is what was done with one value, as indexes of operations.
type Value struct {
	Write   int32 // that wrote it; None for the initial value
	KnownBy int32 // the first to return of its acknowledged write and its reads; None if only the initial value's being there says so
	LastOf  int32 // the last to be called of its write and its reads; None if nothing was
}

// Violation is one answer, or one pair of values, that no register gives.
// Op, Older.Write, Older.KnownBy, Older.LastOf and the same of Newer are, by
// themselves and without the rest of the history, no legal history.
type Violation struct {
	Kind         Kind
	Op           int32 // the read; None for NotLinearizable
	Older, Newer Value // Write is None throughout where the kind does not mention them
}

// Result is the verdict on one register.
type Result struct {
	// Twice holds two writes of one value, or a write of the initial value and
	// None: such a history is not decided. Both are None if there are none.
	Twice [2]int32

	// Violations is empty if and only if the history is linearizable. What is
	// certain gets its name and is taken away; NotLinearizable is found on the
	// rest. Each read is in one violation at most.
	Violations []Violation
}
