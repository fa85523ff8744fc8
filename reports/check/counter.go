package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"statequake/history"
	"statequake/history/model"
	"statequake/reports/check/counter"
)

// counterEntity is the entity type that the counter check judges.
const counterEntity = "counter"

// counterKey judges one key: it tells package counter what happened, and says
// in words what that finds.
type counterKey struct {
	entityKey
	findings
	ops       []counter.Op
	told      []*history.Op // by index into ops
	answers   int           // operations answered ok
	undecided string        // why the key cannot be judged, or not whole, "" if it can
}

// newCounter reads what was added and answered on a key, and reports answers
// that no counter gives.
//
// k is valid until mem is used again.
func newCounter(h entityKey, ops []*history.Op, mem *scratch) *counterKey {
	if cap(mem.counted) < len(ops) {
		mem.counted, mem.told = make([]counter.Op, 0, len(ops)+len(ops)/2), make([]*history.Op, 0, len(ops)+len(ops)/2)
	}
	k := &counterKey{entityKey: h, findings: findings{perKind: listedPerKey}, ops: mem.counted[:0], told: mem.told[:0]}
	state, _ := model.For(counterEntity)
	was := int64(0)
	for _, op := range ops {
		if op.Name == history.WitnessOp {
			continue
		}
		// What a counter grows by is the amount of an add, whatever it was. One
		// that is 0 takes all of them.
		want, wrote, err := state.Apply(op.Name, op.Args, op.ID)
		if err != nil && was != 0 {
			state, _ = model.For(counterEntity)
			was = 0
			want, wrote, err = state.Apply(op.Name, op.Args, op.ID)
		}
		var amount int64
		if wrote {
			is, _ := numberOf(want)
			amount, was = is-was, is
		}
		switch {
		case op.Outcome == history.Fail || op.Outcome == history.Unsent:
			continue
		case err != nil:
			k.undecided = refusedText
			return k
		case op.Outcome == history.OK:
			k.answers++
		case !wrote:
			continue
		}
		c := counter.Op{Call: op.Sent, Return: op.Returned, Add: amount, Open: op.Outcome != history.OK, Final: op.Phase == history.Audit}
		if !c.Open && !(wrote && silent(op.Result)) {
			c.Value, c.Told = numberOf(op.Result)
			if !c.Told {
				k.shown(k.entityKey, WrongResult, answer(op)+", which is no value of a counter", op)
				if !wrote {
					continue
				}
				c.Open = rejected(op.Result)
			}
		}
		k.ops, k.told = append(k.ops, c), append(k.told, op)
	}
	return k
}

// numberOf reads the value out of a result. It returns false if raw is anything
// but {"value": integer of 64 bits}.
func numberOf(raw json.RawMessage) (int64, bool) {
	if rest, found := bytes.CutPrefix(raw, []byte(`{"value":`)); found {
		if digits, found := bytes.CutSuffix(rest, []byte(`}`)); found {
			if n, err := strconv.ParseInt(string(digits), 10, 64); err == nil {
				return n, true
			}
		}
	}
	decoded, err := decode(raw)
	object, isObject := decoded.(map[string]any)
	number, isNumber := object["value"].(json.Number)
	if err != nil || !isObject || !isNumber || len(object) != 1 {
		return 0, false
	}
	if n, err := number.Int64(); err == nil {
		return n, true
	}
	f, err := number.Float64() // 5.0 and 5e0 are 5 too
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// judge finds what no counter does.
func (k *counterKey) judge() {
	r := counter.Check(k.ops)
	if !r.Exact {
		k.undecided = "counters with adds of both signs, or acknowledged without a value, and of different amounts, or too many of unknown outcome, which only bounds can be found for"
	}
	for _, v := range r.Violations {
		op := k.told[v.Op]
		var other *history.Op
		if v.Other != counter.None {
			other = k.told[v.Other]
		}
		said := fmt.Sprintf("%s, sent at %s, was answered by %s at %s with %s", opName(op), seconds(op.Sent), who(op), seconds(op.Returned), brief(op.Result))
		switch v.Kind {
		case counter.WrongResult:
			said += "; no sum of the amounts that were ever added is that"
		case counter.Phantom:
			said += "; all adds that were ever sent could not make that"
		case counter.FutureRead:
			said += fmt.Sprintf("; with the adds sent by then it could be from %d to %d", v.Low, v.High)
		case counter.StaleRead, counter.Lost:
			switch {
			case other != nil:
				said += fmt.Sprintf("; yet %s had been answered by %s at %s with %s", opName(other), who(other), seconds(other.Returned), brief(other.Result))
			default:
				said += fmt.Sprintf("; with the adds acknowledged before it was sent, and those sent by the time it returned, it had to be from %d to %d", v.Low, v.High)
			}
		case counter.NotLinearizable:
			switch {
			case other == nil:
				said += "; no order of the adds that could have been made by then leads up to that"
			case k.ops[v.Other].Told:
				said += fmt.Sprintf("; by its answer %s, answered by %s at %s with %s, had that place in the order", opName(other), who(other), seconds(other.Returned), brief(other.Result))
			default:
				said += fmt.Sprintf("; it was sent after %s had been acknowledged at %s, and its value leaves no place for that", opName(other), seconds(other.Returned))
			}
		}
		k.shown(k.entityKey, string(v.Kind), said, other, op)
	}
}
