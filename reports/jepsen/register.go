package jepsen

import (
	"cmp"
	"fmt"

	"statequake/reports/check"
	"statequake/reports/check/register"
)

// initial is the value of a register before the first write.
const initial = "nil"

// registerOp is an operation on a register. Values are spelled canonically.
type registerOp struct {
	*Op
	value string // read or written
	old   string // of a cas: what it compares with
	wrong bool   // a write that was answered with another value
}

// registerOps reads the operations of a key. Reads without an answer are left
// out.
func registerOps(k *key) ([]registerOp, error) {
	ops := make([]registerOp, 0, len(k.ops))
	for _, o := range k.ops {
		r := registerOp{Op: o.Op}
		var err error
		switch o.F {
		case "read":
			if o.Kind != OK {
				continue
			}
			if r.value, err = canonical(o.answer()); err != nil {
				return nil, at(o.DoneLine, "the value of :read: %v", err)
			}
		case "write":
			if r.value, err = canonical(o.argument()); err != nil {
				return nil, at(o.Line, "the value of :write: %v", err)
			}
			if o.returned != "" {
				told, err := canonical([]byte(o.returned))
				if err != nil {
					return nil, at(o.DoneLine, ":returned: %v", err)
				}
				r.wrong = told != r.value
			}
		case "cas":
			pair, opener, err := elements(o.argument())
			if err != nil || opener != "[" && opener != "(" || len(pair) != 2 {
				return nil, at(o.Line, "the value of :cas is %s, not [old new]", brief(o.argument()))
			}
			if r.old, err = canonical(pair[0]); err == nil {
				r.value, err = canonical(pair[1])
			}
			if err != nil {
				return nil, at(o.Line, "the value of :cas: %v", err)
			}
		}
		ops = append(ops, r)
	}
	return ops, nil
}

// answer is what an operation completed with.
func (o *keyOp) answer() []byte { return []byte(cmp.Or(o.result, "nil")) }

// argument is what an operation was invoked with, or completed with if only that
// tells.
func (o *keyOp) argument() []byte {
	if o.value == "" || o.value == "nil" {
		return o.answer()
	}
	return []byte(o.value)
}

// register judges a register: by its zones if every value was written once and
// none was compared, else by a search.
func (j *judge) register(k *key) error {
	all, err := registerOps(k)
	if err != nil {
		return err
	}
	numbers := map[string]int32{initial: 0} // of values that were written
	failed := map[string]*Op{}
	unique, answers := true, 0
	for _, o := range all {
		switch {
		case o.F == "read":
			j.reads++
			answers++
		case o.Kind == Failed:
			failed[o.value] = o.Op
		default:
			if o.Kind == OK {
				answers++
			}
			_, again := numbers[o.value]
			unique = unique && !again && o.F == "write"
			if !again {
				numbers[o.value] = int32(len(numbers))
			}
		}
	}
	if answers == 0 {
		return nil
	}
	for _, o := range all {
		if o.wrong {
			r := &j.fast
			if !unique {
				r = &j.search
			}
			j.violation(r, k, check.WrongResult, fmt.Sprintf("%s was answered %s with %s, another value than was written",
				k.describe(o.Op), returned(o.Op), brief([]byte(o.returned))), o.Op)
		}
	}
	if !unique {
		ops, model := registerSearch(all)
		j.hard = append(j.hard, hard{k, ops, model})
		return nil
	}
	var ops []register.Op
	var of []*Op
	for _, o := range all {
		if o.Kind == Failed {
			continue
		}
		value, written := numbers[o.value]
		if !written {
			value = -1
		}
		ops = append(ops, register.Op{
			Call: j.call(o.Op), Return: j.done(o.Op), Value: value,
			Write: o.F == "write", Open: o.Kind == Open, Final: o.Final,
		})
		of = append(of, o.Op)
	}
	result := register.Check(ops)
	judged(&j.fast, answers)
	op := func(i int32) *Op {
		if i == register.None {
			return nil
		}
		return of[i]
	}
	for _, v := range result.Violations {
		older, newer := v.Older, v.Newer
		read := op(v.Op)
		var text string
		switch v.Kind {
		case register.Phantom:
			value, err := canonical([]byte(k.resultOf(read)))
			text = k.answered(read) + ", a value that nobody wrote"
			if w := failed[value]; err == nil && w != nil {
				text = fmt.Sprintf("%s, but %s failed, which certainly has no effect", k.answered(read), k.describe(w))
			}
		case register.FutureRead:
			text = fmt.Sprintf("%s, but %s was only invoked %s", k.answered(read), k.describe(op(older.Write)), called(op(older.Write)))
		case register.StaleRead, register.Lost:
			text = fmt.Sprintf("%s, invoked %s, was answered with %s, %s; and by then %s",
				k.describe(read), called(read), brief([]byte(k.resultOf(read))), k.since(op, older, op(newer.Write)), k.shown(op, newer))
		default:
			text = fmt.Sprintf("each of two values must come before the other: %s, yet %s was invoked only %s; and %s, yet %s was invoked only %s",
				k.shown(op, older), k.onValue(op, newer), called(op(newer.LastOf)), k.shown(op, newer), k.onValue(op, older), called(op(older.LastOf)))
		}
		shown := []*Op{op(older.Write), op(older.KnownBy), op(newer.Write), op(newer.KnownBy)}
		if read != nil {
			shown = append(shown, read)
		} else {
			shown = append(shown, op(older.LastOf), op(newer.LastOf))
		}
		j.violation(&j.fast, k, string(v.Kind), text, shown...)
		if j.drawing == nil {
			j.draw(registerSearch(only(all, shown)))
		}
	}
	return nil
}

// only returns those of all that are in ops.
func only(all []registerOp, ops []*Op) []registerOp {
	wanted := map[*Op]bool{}
	for _, op := range ops {
		wanted[op] = op != nil
	}
	var found []registerOp
	for _, o := range all {
		if wanted[o.Op] {
			found = append(found, o)
		}
	}
	return found
}

// shown says how a value was known.
func (k *key) shown(op func(int32) *Op, v register.Value) string {
	by := op(v.KnownBy)
	switch {
	case v.Write == register.None:
		return "the value before any write was there from the start"
	case v.KnownBy == v.Write:
		return fmt.Sprintf("%s had been acknowledged, %s", k.describe(by), returned(by))
	default:
		return fmt.Sprintf("the value of %s had been read by %s, %s", k.describe(op(v.Write)), k.describe(by), returned(by))
	}
}

// since says why v is older than what newer wrote.
func (k *key) since(op func(int32) *Op, v register.Value, newer *Op) string {
	if v.Write == register.None {
		return fmt.Sprintf("the value before any write, but %s was invoked %s", k.describe(newer), called(newer))
	}
	verb := "acknowledged"
	if v.KnownBy != v.Write {
		verb = "read by " + k.describe(op(v.KnownBy))
	}
	by := op(v.KnownBy)
	return fmt.Sprintf("the value of %s, %s %s, before %s was invoked %s", k.describe(op(v.Write)), verb, returned(by), k.describe(newer), called(newer))
}

// onValue names the operation on a value that was invoked last.
func (k *key) onValue(op func(int32) *Op, v register.Value) string {
	if v.LastOf == v.Write {
		return k.describe(op(v.LastOf))
	}
	return fmt.Sprintf("%s, which read the value of %s,", k.describe(op(v.LastOf)), k.describe(op(v.Write)))
}
