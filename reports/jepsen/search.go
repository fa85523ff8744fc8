package jepsen

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"

	"statequake/reports/check"
	"statequake/reports/check/search"
)

// hard is a key that only a search decides.
type hard struct {
	key   *key
	ops   []searchOp
	model porcupine.Model
}

// searchOp is an operation as the search sees it. Reads without an answer, and
// what failed, are none.
type searchOp struct {
	*Op
	f          byte // one of the letters below
	a, b       int64
	told       bool // b of an add was
	unanswered bool // at the instant that is looked at
	text       string
}

// open reports whether the outcome is unknown.
func (o *searchOp) open() bool { return o.unanswered || o.Kind != OK }

const (
	read    byte = 'r' // b is the value
	write   byte = 'w' // a is the value
	compare byte = 'c' // a is the old value, b the new one
	add     byte = 'a' // a is the amount, b the value after it
)

// registerSearch puts the operations of a register into terms of numbers of
// values.
func registerSearch(all []registerOp) ([]searchOp, porcupine.Model) {
	numbers := map[string]int64{initial: 0}
	values := []string{initial}
	number := func(value string) int64 {
		n, known := numbers[value]
		if !known {
			n = int64(len(values))
			numbers[value] = n
			values = append(values, value)
		}
		return n
	}
	var ops []searchOp
	for _, o := range all {
		s := searchOp{Op: o.Op}
		switch {
		case o.Kind == Failed:
			continue
		case o.F == "read":
			s.f, s.b, s.text = read, number(o.value), "read -> "+brief([]byte(o.value))
		case o.F == "write":
			s.f, s.a, s.text = write, number(o.value), "write "+brief([]byte(o.value))
		default:
			s.f, s.a, s.b = compare, number(o.old), number(o.value)
			s.text = "cas " + brief([]byte(o.old)) + " " + brief([]byte(o.value))
		}
		ops = append(ops, s)
	}
	m := registerModel
	m.DescribeState = func(state any) string { return html.EscapeString(brief([]byte(values[state.(int64)]))) }
	return ops, m
}

// registerModel is a register whose state is the number of its value.
var registerModel = stateModel(func(state int64, op *searchOp) (bool, int64) {
	switch op.f {
	case read:
		return state == op.b, state
	case write:
		return true, op.a
	}
	if state == op.a {
		return true, op.b
	}
	return op.open(), state // one of unknown outcome may have found another value
})

// counterModel is a sum.
var counterModel = stateModel(func(state int64, op *searchOp) (bool, int64) {
	if op.f == read {
		return state == op.b, state
	}
	return !op.told || state+op.a == op.b, state + op.a
})

// stateModel is a model whose state is a number that starts at 0.
func stateModel(step func(state int64, op *searchOp) (bool, int64)) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return int64(0) },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := step(state.(int64), input.(*searchOp))
			return ok, next
		},
		Hash:              func(state any) uint64 { return uint64(state.(int64)) * 0x9e3779b97f4a7c15 },
		DescribeOperation: func(input, _ any) string { return input.(*searchOp).text },
	}
}

// until is the history as it was known when entry done was: what completed
// later is open.
func until(ops []searchOp, done int) []searchOp {
	var known []searchOp
	for _, o := range ops {
		if o.Call > done {
			continue
		}
		if !o.open() && o.Done > done {
			if o.f == read {
				continue
			}
			o.unanswered, o.told = true, false
		}
		known = append(known, o)
	}
	return known
}

// calls puts operations into Porcupine's terms. Those of unknown outcome return
// after everything else, so that they may also take no effect that anybody sees.
func calls(ops []searchOp) []porcupine.Operation {
	all := make([]porcupine.Operation, len(ops))
	rows := map[int64]int{} // of a drawing, one for each process
	for i := range ops {
		o := &ops[i]
		if _, known := rows[o.Process]; !known {
			rows[o.Process] = len(rows)
		}
		all[i] = porcupine.Operation{ClientId: rows[o.Process], Input: o, Call: int64(o.Call), Return: math.MaxInt64}
		if !o.open() {
			all[i].Return = int64(o.Done)
		}
	}
	return all
}

// question asks whether an order of the operations explains all answers.
func question(m porcupine.Model, ops []searchOp) search.Question {
	// A state is a number; the rest is an entry of Porcupine's map.
	return search.Question{Model: m, Ops: calls(ops), Size: func(any) int64 { return 150 }}
}

// searchAll judges the keys that need a search, the smallest first. Each may
// take its share of the time that is left.
func (j *judge) searchAll() {
	slices.SortStableFunc(j.hard, func(a, b hard) int { return cmp.Compare(len(a.ops), len(b.ops)) })
	deadline := time.Now().Add(j.opt.Timeout)
	for i, h := range j.hard {
		limit := search.Budget{Time: time.Until(deadline) / time.Duration(len(j.hard)-i), Memory: j.opt.Memory}
		ok, err := question(h.model, h.ops).Linearizable(limit)
		if err != nil {
			j.search.Undecided++
			j.searchNotes.add(fmt.Sprintf("not decided within %s for all searches and %d MiB for each", j.opt.Timeout, j.opt.Memory>>20), h.key.name, true)
			continue
		}
		if !ok {
			j.illegal(&h, limit)
		}
		answers := 0
		for k := range h.ops {
			if !h.ops[k].open() {
				answers++
			}
		}
		judged(&j.search, answers)
	}
}

// illegal names the answer after which no order was left: what has no order up
// to some entry has none later.
func (j *judge) illegal(h *hard, limit search.Budget) {
	var answered []*searchOp
	for i := range h.ops {
		if !h.ops[i].open() {
			answered = append(answered, &h.ops[i])
		}
	}
	slices.SortFunc(answered, func(a, b *searchOp) int { return cmp.Compare(a.Done, b.Done) })
	n := sort.Search(len(answered)-1, func(i int) bool {
		ok, err := question(h.model, until(h.ops, answered[i].Done)).Linearizable(limit)
		return !ok && err == nil
	})
	last := answered[n].Op
	known := until(h.ops, last.Done)
	text := fmt.Sprintf("%s; no order of the %d operations invoked until then explains all answers", h.key.answered(last), len(known))
	if h.key.find(last).F != "read" {
		text = fmt.Sprintf("%s completed with :ok %s; no order of the %d operations invoked until then explains all answers",
			h.key.describe(last), returned(last), len(known))
	}
	j.violation(&j.search, h.key, check.NotLinearizable, text, last)
	j.draw(known, h.model)
}

// drawing is the first counterexample.
type drawing struct {
	ops   []searchOp
	model porcupine.Model
}

func (j *judge) draw(ops []searchOp, model porcupine.Model) {
	if j.drawing == nil {
		j.drawing = &drawing{ops, model}
	}
}

// maxDrawn is how many operations a drawing can have and still be looked at.
const maxDrawn = 1000

// Drawable reports whether the verdict has a counterexample that Draw can draw:
// a violation of a register, or one that a search has found, with at most 1000
// operations.
func (v *Verdict) Drawable() bool { return v.drawing != nil && len(v.drawing.ops) <= maxDrawn }

// Draw writes the counterexample of the first violation as an HTML page: the
// operations on a time axis, a row for each process, and how far orders of them
// explain the answers.
func (v *Verdict) Draw(w io.Writer) error {
	// It was found illegal already, so no budget is needed for the orders.
	page, err := question(v.drawing.model, v.drawing.ops).Draw(v.Model+": no order explains the answers", search.Budget{Time: 10 * time.Second})
	if err != nil {
		return err
	}
	_, err = w.Write(page)
	return err
}
