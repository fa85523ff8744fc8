package check

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"statequake/history"
	"statequake/history/model"
	"statequake/reports/check/register"
)

// registerEntity is the entity type that the register check judges.
const registerEntity = "register"

// always is the instant before all others.
const always = time.Duration(math.MinInt64)

// registerKey judges one key: it tells package register what happened, and says
// in words what that finds.
type registerKey struct {
	entityKey
	findings
	ops       []register.Op
	told      []*history.Op          // by index into ops
	without   map[string]*history.Op // writes that had no effect, by value
	answers   int                    // operations answered ok
	undecided string                 // why the key cannot be judged, "" if it can
}

// newRegister numbers the values of a key, and reports replies that no register
// gives: whole says that a value nobody sent is certainly from nowhere.
func newRegister(h entityKey, ops []*history.Op, whole bool) *registerKey {
	k := &registerKey{entityKey: h, findings: findings{perKind: listedPerKey}, without: map[string]*history.Op{}}
	state, _ := model.For(registerEntity)
	k.ops, k.told = make([]register.Op, 0, len(ops)), make([]*history.Op, 0, len(ops))
	numbers := make(map[string]int32, len(ops)/2) // of values that were written
	reads := make([]*history.Op, 0, len(ops))
	for _, op := range ops {
		if op.Name == history.WitnessOp {
			continue
		}
		want, wrote, err := state.Apply(op.Name, op.Args, op.ID)
		certain := op.Outcome == history.Fail || op.Outcome == history.Unsent
		switch {
		case err != nil && certain:
			continue
		case err != nil:
			k.undecided = refusedText
			return k
		case op.Outcome == history.OK:
			k.answers++
		}
		if !wrote {
			if op.Outcome == history.OK {
				reads = append(reads, op)
			}
			continue
		}
		value, _, _ := valueOf(want)
		if certain {
			k.without[value] = op
			continue
		}
		if _, ok := numbers[value]; ok {
			k.undecided = "values that were sent more than once, so that a read does not tell which of them it saw"
			return k
		}
		number := int32(len(numbers) + 1)
		numbers[value] = number
		open := op.Outcome != history.OK || rejected(op.Result)
		k.add(op, register.Op{Value: number, Write: true, Open: open})
		if op.Outcome == history.OK && !silent(op.Result) && !sameJSON(want, op.Result) {
			k.shown(k.entityKey, WrongResult, fmt.Sprintf("%s was answered by %s at %s with %s; by the model it is %s",
				opName(op), who(op), seconds(op.Returned), brief(op.Result), brief(want)), op)
		}
	}
	for _, op := range reads {
		value, null, ok := valueOf(op.Result)
		if !ok {
			k.shown(k.entityKey, WrongResult, answer(op)+", which is no value of a register", op)
			continue
		}
		number := numbers[value]
		switch {
		case null:
			number = 0
		case number != 0:
		case whole || k.without[value] != nil:
			number = nobodys
		default:
			continue // perhaps written by an operation that the history lacks
		}
		k.add(op, register.Op{Value: number, Final: op.Phase == history.Audit})
	}
	return k
}

// nobodys is the number of values that nobody wrote.
const nobodys = -1

func (k *registerKey) add(op *history.Op, compact register.Op) {
	compact.Call, compact.Return = op.Sent, op.Returned
	k.ops, k.told = append(k.ops, compact), append(k.told, op)
}

// valueOf reads the value out of a result or of arguments, and whether it is
// null. It returns false if raw is anything but {"value": string or null}.
func valueOf(raw json.RawMessage) (value string, null, ok bool) {
	if rest, found := bytes.CutPrefix(raw, []byte(`{"value":"`)); found {
		if plain, found := bytes.CutSuffix(rest, []byte(`"}`)); found && plainString(plain) {
			return string(plain), false, true
		}
	}
	var object map[string]*string
	if json.Unmarshal(raw, &object) != nil || len(object) != 1 {
		return "", false, false
	}
	p, ok := object["value"]
	if p == nil {
		return "", ok, ok
	}
	return *p, false, ok
}

// plainString reports whether JSON writes a string as its bytes alone.
func plainString(s []byte) bool {
	for _, b := range s {
		if b < ' ' || b > '~' || b == '"' || b == '\\' {
			return false
		}
	}
	return true
}

// judge finds what no register does.
func (k *registerKey) judge() {
	for _, v := range register.Check(k.ops).Violations { // values are unique
		older, newer := k.value(v.Older), k.value(v.Newer)
		if v.Kind == register.NotLinearizable {
			k.shown(k.entityKey, NotLinearizable, fmt.Sprintf("each of two values must come before the other: by %s %s, yet %s was sent only at %s; and by %s %s, yet %s was sent only at %s",
				seconds(older.known()), older.shown(), newer.last(), seconds(newer.lastOf.Sent), seconds(newer.known()), newer.shown(), older.last(), seconds(older.lastOf.Sent)),
				older.write, newer.write, older.knownBy, newer.lastOf, newer.knownBy, older.lastOf)
			continue
		}
		op := k.told[v.Op]
		switch v.Kind {
		case register.Phantom:
			k.phantom(op)
		case register.FutureRead:
			k.shown(k.entityKey, FutureRead, fmt.Sprintf("%s, which %s was only sent with at %s", answer(op), opName(older.write), seconds(older.write.Sent)), older.write, op)
		case register.Lost:
			k.shown(k.entityKey, Lost, fmt.Sprintf("%s was acknowledged by %s at %s; the audit, %s sent at %s, shows %s, %s",
				opName(newer.write), who(newer.write), seconds(newer.write.Returned),
				opName(op), seconds(op.Sent), brief(op.Result), older.since(newer)), older.knownBy, newer.write, op)
		case register.StaleRead:
			k.shown(k.entityKey, StaleRead, fmt.Sprintf("%s, sent at %s, was answered by %s with %s, %s; and by %s %s",
				opName(op), seconds(op.Sent), who(op), brief(op.Result), older.since(newer), seconds(newer.known()), newer.shown()),
				older.knownBy, newer.write, newer.knownBy, op)
		}
	}
}

// phantom reports a read of what nobody wrote.
func (k *registerKey) phantom(op *history.Op) {
	value, _, _ := valueOf(op.Result)
	switch failed := k.without[value]; {
	case failed == nil:
		k.shown(k.entityKey, Phantom, answer(op)+", a value that was never sent", op)
	case failed.Outcome == history.Unsent:
		k.shown(k.entityKey, Phantom, fmt.Sprintf("%s, but %s never left the generator", answer(op), opName(failed)), failed, op)
	default:
		k.shown(k.entityKey, Phantom, fmt.Sprintf("%s, but %s certainly had no effect (%s)", answer(op), opName(failed), short(cmp.Or(failed.Error, "fail"))), failed, op)
	}
}

// valueOps is a value with the operations that make its zone. They are nil
// if there are none, as for the initial value.
type valueOps struct{ write, knownBy, lastOf *history.Op }

func (k *registerKey) value(v register.Value) valueOps {
	at := func(i int32) *history.Op {
		if i == register.None {
			return nil
		}
		return k.told[i]
	}
	return valueOps{at(v.Write), at(v.KnownBy), at(v.LastOf)}
}

// known is when the value was known to be there.
func (v valueOps) known() time.Duration { return v.knownBy.Returned }

// last names the operation on a value that was sent last.
func (v valueOps) last() string {
	if v.lastOf == v.write {
		return opName(v.lastOf)
	}
	return fmt.Sprintf("%s, which read the value of %s,", opName(v.lastOf), opName(v.write))
}

// shown says how the value was known.
func (v valueOps) shown() string {
	if v.knownBy == v.write {
		return fmt.Sprintf("%s had been acknowledged by %s", opName(v.write), who(v.write))
	}
	return fmt.Sprintf("the value of %s had been read by %s", opName(v.write), opName(v.knownBy))
}

// since says why v is older than other.
func (v valueOps) since(other valueOps) string {
	switch {
	case v.write == nil:
		return fmt.Sprintf("the value before any write, but %s was sent at %s", opName(other.write), seconds(other.write.Sent))
	case v.knownBy == v.write:
		return fmt.Sprintf("the value of %s, acknowledged at %s, before %s was sent at %s", opName(v.write), seconds(v.known()), opName(other.write), seconds(other.write.Sent))
	default:
		return fmt.Sprintf("the value of %s, read by %s by %s, before %s was sent at %s", opName(v.write), opName(v.knownBy), seconds(v.known()), opName(other.write), seconds(other.write.Sent))
	}
}

func answer(op *history.Op) string {
	return fmt.Sprintf("%s was answered by %s at %s with %s", opName(op), who(op), seconds(op.Returned), brief(op.Result))
}
