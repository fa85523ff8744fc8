package check

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"statequake/history"
	"statequake/history/model"
)

// budget is what the search for an order of one key may take.
type budget struct {
	time   time.Duration // nothing is searched if it is not positive
	memory int64         // bytes that the search keeps, as estimated by stateSize
}

// ended says why a search ended without an answer.
type ended int32

const (
	outOfTime ended = iota
	outOfMemory
	refused // the model cannot take an operation, so that nothing can be concluded
)

func (e ended) text(opt Options) string {
	switch e {
	case refused:
		return "keys with operations that the model of the entity type refuses"
	case outOfMemory:
		return fmt.Sprintf("keys not decided (memory for each of them: %d MiB)", opt.PorcupineMemory>>20)
	default:
		return fmt.Sprintf("keys not decided (time for all of them: %s)", opt.PorcupineTime)
	}
}

// search asks Porcupine whether one entity's operations have an order, by what
// was answered up to and including the instant until. The others return after
// everything else, so that they may also take no effect. If it does not know,
// it says why.
func search(entity string, ops []*history.Op, until time.Duration, limit budget) (porcupine.CheckResult, ended) {
	if limit.time <= 0 { // Porcupine takes 0 for no limit
		return porcupine.Unknown, outOfTime
	}
	call := calls(ops, until)
	m := sequential{entity: entity, seed: maphash.MakeSeed(), operations: len(call), memory: limit.memory}
	result := porcupine.CheckOperationsTimeout(m.model(), call, limit.time)
	if why := ended(m.why.Load()); why != outOfTime {
		return porcupine.Unknown, why
	}
	return result, outOfTime
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
//
// Porcupine remembers every state with the set of operations that led to it,
// and stops for no reason but time. So once what it may have kept exceeds
// memory the model takes no further step, and the search, which can only go
// back then, ends at once.
type sequential struct {
	entity     string
	seed       maphash.Seed
	operations int
	memory     int64 // 0 for any amount

	kept atomic.Int64
	why  atomic.Int32 // an ended; what was concluded does not hold unless it is 0
}

// folded is a state of the model with its fingerprint.
type folded struct {
	model.State
	fingerprint string
}

// stateSize is about what Porcupine and the model keep of one state: a bit for
// every operation, the fingerprint, a state of about its size, the entry of the
// map and what the allocator adds.
func (m *sequential) stateSize(s folded) int64 {
	return 320 + int64(m.operations)/8 + 3*int64(len(s.fingerprint))
}

func (m *sequential) model() porcupine.Model {
	return porcupine.Model{
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
	}
}

func (m *sequential) step(state, input, output any) (bool, any) {
	if ended(m.why.Load()) == outOfMemory {
		return false, state
	}
	op, now := input.(*history.Op), state.(folded)
	next := folded{State: now.Clone()}
	result, wrote, err := next.Apply(op.Name, op.Args, op.ID)
	if err != nil {
		m.why.CompareAndSwap(int32(outOfTime), int32(refused))
		return true, state
	}
	if got, answered := output.(json.RawMessage); answered && !(wrote && silent(got)) && !sameJSON(result, got) {
		return false, state
	}
	if wrote {
		next.fingerprint = next.Fingerprint()
	} else {
		next = now
	}
	if m.memory > 0 && m.kept.Add(m.stateSize(next)) > m.memory {
		m.why.CompareAndSwap(int32(outOfTime), int32(outOfMemory))
	}
	return true, next
}
