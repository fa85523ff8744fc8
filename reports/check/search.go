package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"statequake/history"
	"statequake/history/model"
	"statequake/reports/check/search"
)

// errRefused says that the model cannot take an operation, so that nothing can
// be concluded.
var errRefused = errors.New("the model refused an operation")

// whyUndecided says why a search ended without an answer.
func whyUndecided(err error, opt Options) string {
	switch err {
	case errRefused:
		return "keys with operations that the model of the entity type refuses"
	case search.ErrMemory:
		return fmt.Sprintf("keys not decided (memory for each of them: %d MiB)", opt.PorcupineMemory>>20)
	default:
		return fmt.Sprintf("keys not decided (time for all of them: %s)", opt.PorcupineTime)
	}
}

// linearizable asks Porcupine whether one entity's operations have an order, by
// what was answered up to and including the instant until. The others return
// after everything else, so that they may also take no effect. Its errors are
// those of search, and errRefused.
func linearizable(entity string, ops []*history.Op, until time.Duration, limit search.Budget) (bool, error) {
	m := newSequential(entity)
	ok, err := m.question(calls(ops, until)).Linearizable(limit)
	if m.refused.Load() {
		return false, errRefused
	}
	return ok, err
}

// calls are operations in Porcupine's terms. Those in one row do not overlap.
func calls(ops []*history.Op, until time.Duration) []porcupine.Operation {
	call := make([]porcupine.Operation, 0, len(ops))
	for _, op := range ops {
		c := porcupine.Operation{Input: op, Call: int64(op.Sent), Return: int64(never)}
		if op.Outcome == history.OK && op.Returned <= until {
			c.Return, c.Output = int64(op.Returned), op.Result
		}
		call = append(call, c)
		if sentAgain(op) {
			c.Return, c.Output = int64(never), nil
			call = append(call, c)
		}
	}
	return call
}

// sequential is the model of an entity type, which must have one, in
// Porcupine's terms. Any output will do for an operation without one.
type sequential struct {
	entity  string
	seed    maphash.Seed
	refused atomic.Bool // what was concluded does not hold
}

func newSequential(entity string) *sequential {
	return &sequential{entity: entity, seed: maphash.MakeSeed()}
}

// folded is a state of the model with its fingerprint.
type folded struct {
	model.State
	fingerprint string
}

func (m *sequential) question(call []porcupine.Operation) search.Question {
	return search.Question{
		Model: porcupine.Model{
			Init: func() any {
				state, _ := model.For(m.entity)
				return folded{state, state.Fingerprint()}
			},
			Step: m.step,
			Equal: func(a, b any) bool {
				return a.(folded).fingerprint == b.(folded).fingerprint
			},
			Hash:              func(state any) uint64 { return maphash.String(m.seed, state.(folded).fingerprint) },
			DescribeOperation: describeOperation,
			DescribeState:     describeState,
		},
		Ops: call,
		// The fingerprint, a state of about its size, the entry of Porcupine's map
		// and what the allocator adds.
		Size: func(state any) int64 { return 320 + 3*int64(len(state.(folded).fingerprint)) },
	}
}

func (m *sequential) step(state, input, output any) (bool, any) {
	op, now := input.(*history.Op), state.(folded)
	next := folded{State: now.Clone()}
	result, wrote, err := next.Apply(op.Name, op.Args, op.ID)
	if err != nil {
		m.refused.Store(true)
		return true, state
	}
	if got, answered := output.(json.RawMessage); answered && !(wrote && silent(got)) && !sameJSON(result, got) {
		return false, state
	}
	if !wrote {
		return true, now
	}
	next.fingerprint = next.Fingerprint()
	return true, next
}
