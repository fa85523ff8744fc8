// Package search asks Porcupine for an order of operations, within a budget of
// time and memory.
package search

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
)

// Budget is what one search may take.
type Budget struct {
	Time   time.Duration // nothing is searched if it is not positive
	Memory int64         // bytes that the search keeps, by Question.Size; 0 for any amount
}

// Why a search ends without an answer.
var (
	ErrTime   = errors.New("the search ran out of time")
	ErrMemory = errors.New("the search ran out of memory")
)

// Question asks whether the operations have an order in which the model gives
// all of their answers.
//
// The model's DescribeOperation goes into a drawing as text, its DescribeState
// as HTML: it must escape what the system said.
type Question struct {
	Model porcupine.Model
	Ops   []porcupine.Operation
	// Size is about how many bytes it takes to keep a state that Step has
	// returned, beside the set of operations that led to it.
	Size func(state any) int64
}

// Linearizable reports whether there is such an order. Its errors are ErrTime
// and ErrMemory.
func (q Question) Linearizable(limit Budget) (bool, error) {
	if limit.Time <= 0 { // Porcupine takes 0 for no limit
		return false, ErrTime
	}
	m, exhausted := q.bounded(limit.Memory)
	result := porcupine.CheckOperationsTimeout(m, q.Ops, limit.Time)
	switch {
	case exhausted.Load():
		return false, ErrMemory
	case result == porcupine.Unknown:
		return false, ErrTime
	}
	return result == porcupine.Ok, nil
}

// bounded is the model with a limit, and whether that was reached: then no
// answer holds.
//
// Porcupine remembers every state with the set of operations that led to it, a
// bit for each, and stops for no reason but time. So once what it may have kept
// exceeds memory the model takes no further step, and the search, which can only
// go back then, ends at once.
func (q Question) bounded(memory int64) (porcupine.Model, *atomic.Bool) {
	var kept atomic.Int64
	exhausted := new(atomic.Bool)
	m, set := q.Model, int64(len(q.Ops))/8
	m.Step = func(state, input, output any) (bool, any) {
		if exhausted.Load() {
			return false, state
		}
		ok, next := q.Model.Step(state, input, output)
		if ok && memory > 0 && kept.Add(set+q.Size(next)) > memory {
			exhausted.Store(true)
		}
		return ok, next
	}
	return m, exhausted
}
