// Package trace holds what measuring takes of a recorded run, 32 bytes for each
// operation.
package trace

import (
	"iter"
	"time"

	"statequake/history"
)

// Run is a recorded run without what its operations asked and answered.
type Run struct {
	Ops     Ops
	Faults  []history.Fault
	Samples []history.Sample
	Footer  *history.Footer // nil if the history is torn
}

// Of is the trace of a run in memory. It shares everything but the operations.
func Of(run *history.Run) *Run {
	t := &Run{Faults: run.Faults, Samples: run.Samples, Footer: run.Footer}
	for i := range run.Ops {
		t.Ops.Add(&run.Ops[i])
	}
	return t
}

// Op is when an operation happened. The instants are those of history.Op.
type Op struct {
	Scheduled, Sent, Returned time.Duration

	Key  int32 // see Ops.Keys
	kind int32
}

// Latency is Returned - Scheduled: it includes the time the operation waited
// in the generator.
func (o *Op) Latency() time.Duration { return o.Returned - o.Scheduled }

// Kind is what an operation has in common with many others.
type Kind struct {
	Phase   history.Phase
	Outcome history.Outcome
	Name    string
	Node    string // that executed it, where known
}

// Key names one entity.
type Key struct{ Entity, Key string }

// chunk is how many operations are allocated at a time: growing never copies.
const chunk = 1 << 16

// Ops are the operations of a run in the order in which they were added, at
// most 2^31 - 1. The zero value holds none. Reading is safe concurrently,
// adding is not.
type Ops struct {
	chunks [][]Op
	kinds  []Kind
	keys   []Key
	kindOf map[Kind]int32
	keyOf  map[Key]int32
	recent [64]int32 // kinds looked up last, where hash sends them

	start *time.Duration
}

// Add adds an operation, of which it keeps nothing but strings.
func (o *Ops) Add(op *history.Op) {
	if o.kindOf == nil {
		o.kindOf, o.keyOf = map[Kind]int32{}, map[Key]int32{}
	}
	if n := len(o.chunks); n == 0 || len(o.chunks[n-1]) == chunk {
		o.chunks = append(o.chunks, make([]Op, 0, chunk))
	}
	last := &o.chunks[len(o.chunks)-1]
	*last = append(*last, Op{
		Scheduled: op.Scheduled, Sent: op.Sent, Returned: op.Returned,
		Key: o.key(Key{op.Entity, op.Key}), kind: o.kind(Kind{op.Phase, op.Outcome, op.Name, op.Node}),
	})
	if op.N == 0 && (op.Phase == history.Warmup || op.Phase == history.Load) {
		o.start = &(*last)[len(*last)-1].Scheduled
	}
}

func (o *Ops) key(k Key) int32 {
	n, ok := o.keyOf[k]
	if !ok {
		n = int32(len(o.keys))
		o.keyOf[k] = n
		o.keys = append(o.keys, k)
	}
	return n
}

// kind looks among the last ones first: hashing four strings takes longer than
// all the rest.
func (o *Ops) kind(k Kind) int32 {
	recent := &o.recent[k.hash()]
	if int(*recent) < len(o.kinds) && o.kinds[*recent] == k {
		return *recent
	}
	n, ok := o.kindOf[k]
	if !ok {
		n = int32(len(o.kinds))
		o.kindOf[k] = n
		o.kinds = append(o.kinds, k)
	}
	*recent = n
	return n
}

func (k *Kind) hash() int {
	h := len(k.Phase) + 5*len(k.Outcome)
	for _, s := range []string{k.Name, k.Node} {
		h = 7 * (h + len(s))
		if len(s) > 0 {
			h += int(s[0]) + int(s[len(s)-1])
		}
	}
	return h % len(Ops{}.recent)
}

// Len is the number of operations.
func (o *Ops) Len() int {
	if len(o.chunks) == 0 {
		return 0
	}
	return (len(o.chunks)-1)*chunk + len(o.chunks[len(o.chunks)-1])
}

// At returns operation i, from 0 on.
func (o *Ops) At(i int) *Op { return &o.chunks[i/chunk][i%chunk] }

// Kind returns what kind an operation of o is of.
func (o *Ops) Kind(op *Op) *Kind { return &o.kinds[op.kind] }

// Kinds returns all kinds, which are few where operations are many.
func (o *Ops) Kinds() []Kind { return o.kinds }

// KindOf returns the index of an operation's kind in Kinds.
func (o *Ops) KindOf(op *Op) int { return int(op.kind) }

// All returns all operations with their kinds.
func (o *Ops) All() iter.Seq2[*Op, *Kind] {
	return func(yield func(*Op, *Kind) bool) {
		for _, ops := range o.chunks {
			for i := range ops {
				if !yield(&ops[i], &o.kinds[ops[i].kind]) {
					return
				}
			}
		}
	}
}

// Keys returns the entities that operations were sent to, or were to be, in the
// order of their first operations. Op.Key is an index into it.
func (o *Ops) Keys() []Key { return o.keys }

// KeyOf returns the index of a key in Keys, and false if it has no operation.
func (o *Ops) KeyOf(k Key) (int32, bool) {
	n, ok := o.keyOf[k]
	return n, ok
}

// Start is when operation 0 of the workload was due; nil if it is not there.
func (o *Ops) Start() *time.Duration { return o.start }
