// Package check gives verdicts on what the system remembers.
//
// DESIGN.md beside this file says why the rules are sound, and what is
// deliberately not judged.
package check

import (
	"math"
	"time"

	"statequake/history"
)

// Verdict is the outcome of a check.
type Verdict string

const (
	Pass     Verdict = "pass"      // everything was judged, nothing was found
	Violated Verdict = "violation" // the system broke its contract, certainly
	Unknown  Verdict = "unknown"   // something could not be judged; Reasons say what
)

// The contracts a run is judged by.
const (
	Durable = "durable" // an acknowledged write survives
	Memory  = "memory"  // an acknowledged write may vanish at a change of epoch while younger than the window
)

// Kinds of violation.
const (
	Duplicated      = "duplicated"       // one operation was applied more than once
	Lost            = "lost"             // acknowledged, and gone
	Phantom         = "phantom"          // applied, but never asked for, or reported as without effect
	DirtyRead       = "dirty-read"       // a reply showed state that was taken back
	WrongResult     = "wrong-result"     // a reply contradicts the sequential model
	StaleRead       = "stale-read"       // a read missed what was acknowledged, or seen, before it was sent
	Reordered       = "reordered"        // a write was applied before one that had been acknowledged earlier
	FutureRead      = "future-read"      // a read saw a write that was not sent yet
	NotLinearizable = "not-linearizable" // no order explains the results
	HalfApplied     = "half-applied"     // of what an action does together only a part was done
	MissedDeadline  = "missed-deadline"  // a timer that was due did not fire
)

// At most so many violations of one kind are listed, for one key and in one
// check. All are counted.
const (
	listedPerKey = 3
	listedInAll  = 20
)

// Options says by which contract a run is judged.
type Options struct {
	Ack             string        // Durable or Memory
	Window          time.Duration // how old an acknowledged write must be to survive, Memory only
	Witness         bool          // the services keep a witness, and the audit read it; else it read as the workload does
	PorcupineMaxOps int           // largest number of operations of a key that Porcupine gets; 0 means 60, less than that none
	PorcupineTime   time.Duration // time for all keys together; 0 means 2 s
	PorcupineMemory int64         // bytes that the search on one key may keep, about; 0 means 256 MiB

	Memory int64  // bytes of operations that a Collector keeps in memory; what is more goes to disk; 0 means 256 MiB
	Dir    string // where the file for them is made, and removed; "" means os.TempDir
}

func (opt Options) withDefaults() Options {
	if opt.PorcupineMaxOps == 0 {
		opt.PorcupineMaxOps = 60
	}
	if opt.PorcupineTime == 0 {
		opt.PorcupineTime = 2 * time.Second
	}
	if opt.PorcupineMemory == 0 {
		opt.PorcupineMemory = 256 << 20
	}
	if opt.Memory == 0 {
		opt.Memory = 256 << 20
	}
	return opt
}

// Result is the verdict of one check.
type Result struct {
	Name      string  `json:"name"`
	Verdict   Verdict `json:"verdict"`
	Ops       int     `json:"ops"`                 // operations judged
	Keys      int     `json:"keys"`                // keys judged
	Undecided int     `json:"undecided,omitempty"` // keys on which the check ran out of its budget

	// Reasons say what could not be judged, and what was legal but is worth
	// knowing.
	Reasons []string `json:"reasons,omitempty"`

	Total      int            `json:"total"`           // violations found
	Kinds      map[string]int `json:"kinds,omitempty"` // violations found, by kind
	Violations []Violation    `json:"violations"`      // the first of each kind and key

	// LostAcks holds every acknowledged write that the audit does not have, in
	// order of acknowledgement; those that the contract allows too. The
	// recovery figures count them, so they are not written twice.
	LostAcks []LostAck `json:"-"`
}

// Violation is one breach of the contract, certain and explained.
type Violation struct {
	Entity      string   `json:"entity"`
	Key         string   `json:"key"`
	Kind        string   `json:"kind"`
	Ops         []string `json:"ops"`         // ids of the few operations that show it
	Explanation string   `json:"explanation"` // in words; times in seconds since the start of the run

	// Drawing is an HTML page that shows why there is no order, of the first few
	// violations that Porcupine found; else nil.
	Drawing []byte `json:"-"`
}

// LostAck is an acknowledged write that the audit does not have.
type LostAck struct {
	Op       string
	Entity   string
	Key      string
	Node     string        // that acknowledged it, where known
	Returned time.Duration // when the acknowledgement was read, since the start of the run
	Legal    bool          // the contract certainly allows this loss
}

// Run judges a run and returns one Result per check that applies, in the order
// identity, witness, register, counter, porcupine. It does not change run, which
// must not change meanwhile.
//
// Register, counter and Porcupine judge runs with Ack Durable. Beside a witness
// they are second opinions, each listed only if it decided at least one key.
// Without one, register and counter decide the keys of these entity types, and
// Porcupine all others and what these leave undecided; a key passes only if the
// audit read it back by a read of the workload.
func Run(run *history.Run, opt Options) []Result {
	opt.Memory = math.MaxInt64
	c := New(opt)
	defer c.Close()
	for i := range run.Ops {
		if err := c.Add(&run.Ops[i]); err != nil {
			panic(err) // nothing is spilled
		}
	}
	results, err := c.Judge(Rest{Faults: run.Faults, Footer: run.Footer, Skipped: run.Skipped})
	if err != nil {
		panic(err)
	}
	return results
}

// Overall is the verdict of all checks together: Violated if one found a
// violation, else Unknown if one is Unknown or there is none, else Pass.
func Overall(results []Result) Verdict {
	overall := Pass
	if len(results) == 0 {
		overall = Unknown
	}
	for _, r := range results {
		switch {
		case r.Verdict == Violated:
			return Violated
		case r.Verdict != Pass:
			overall = Unknown
		}
	}
	return overall
}
