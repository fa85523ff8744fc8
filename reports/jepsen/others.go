package jepsen

import (
	"fmt"
	"math"
	"slices"

	"statequake/reports/check/bank"
	"statequake/reports/check/counter"
	"statequake/reports/check/set"
)

// counter judges a counter that starts at 0: by bounds and orders, and by a
// search where those do not decide.
func (j *judge) counter(k *key) error {
	var (
		ops     []counter.Op
		of      []*Op
		search  []searchOp
		answers int
		room    int64 = math.MaxInt64 // for amounts, so that no sum overflows
	)
	for _, o := range k.ops {
		if o.Kind == Failed || o.Kind == Open && o.F == "read" {
			continue
		}
		op := counter.Op{Call: j.call(o.Op), Return: j.done(o.Op), Open: o.Kind == Open, Final: o.Final}
		s := searchOp{Op: o.Op}
		var err error
		if o.F == "read" {
			j.reads++
			if op.Value, err = whole(o.answer()); err != nil {
				return at(o.DoneLine, "the value of :read: %v", err)
			}
			op.Told = true
			s.f, s.b, s.text = read, op.Value, fmt.Sprintf("read -> %d", op.Value)
		} else {
			if op.Add, err = whole(o.argument()); err != nil {
				return at(o.Line, "the value of :add: %v", err)
			}
			if room -= max(op.Add, -op.Add); room < 0 || op.Add == math.MinInt64 {
				return at(o.Line, "the amounts sum up to more than 64 bits hold")
			}
			if o.Kind == OK && o.returned != "" {
				j.reads++
				if op.Value, err = whole([]byte(o.returned)); err != nil {
					return at(o.DoneLine, ":returned: %v", err)
				}
				op.Told = true
			}
			if op.Add == 0 && !op.Told {
				continue // it is not there
			}
			s.f, s.a, s.b, s.told, s.text = add, op.Add, op.Value, op.Told, fmt.Sprintf("add %d", op.Add)
			if op.Told {
				s.text += fmt.Sprintf(" -> %d", op.Value)
			}
		}
		if o.Kind == OK {
			answers++
		}
		ops, of, search = append(ops, op), append(of, o.Op), append(search, s)
	}
	if answers == 0 {
		return nil
	}
	result := counter.Check(ops)
	if !result.Exact && len(result.Violations) == 0 {
		j.hard = append(j.hard, hard{k, search, counterModel})
		return nil
	}
	judged(&j.fast, answers)
	for _, v := range result.Violations {
		op := of[v.Op]
		got := k.told(op)
		var other *Op
		if v.Other != counter.None {
			other = of[v.Other]
		}
		var text string
		switch v.Kind {
		case counter.WrongResult:
			text = got + ", which is no sum of the amounts that were added"
		case counter.Phantom:
			text = fmt.Sprintf("%s; all adds that were ever invoked make it %d to %d", got, v.Low, v.High)
		case counter.FutureRead:
			text = fmt.Sprintf("%s; all adds that had been invoked by then make it %d to %d", got, v.Low, v.High)
		case counter.StaleRead, counter.Lost:
			text = fmt.Sprintf("%s; it was invoked %s, and by the adds acknowledged before that and those invoked by its completion it is %d to %d",
				got, called(op), v.Low, v.High)
		default:
			text = got + "; no order of the operations explains this with all other answers"
		}
		if other != nil {
			text += "; compare " + k.told(other)
		}
		j.violation(&j.fast, k, string(v.Kind), text, other, op)
	}
	return nil
}

// told tells what an operation on a counter was answered with.
func (k *key) told(op *Op) string {
	switch {
	case op.F == "read":
		return k.answered(op)
	case op.returned != "":
		return fmt.Sprintf("%s was answered %s with %s", k.describe(op), returned(op), brief([]byte(op.returned)))
	case op.Kind == OK:
		return fmt.Sprintf("%s was acknowledged %s", k.describe(op), returned(op))
	default:
		return fmt.Sprintf("%s was invoked %s", k.describe(op), called(op))
	}
}

// set judges a set that only grows.
func (j *judge) set(k *key) error {
	numbers := map[string]int32{}
	var names []string
	failed := map[string]*Op{}
	for _, o := range k.ops {
		if o.F != "add" {
			continue
		}
		element, err := canonical(o.argument())
		if err != nil {
			return at(o.Line, "the value of :add: %v", err)
		}
		if o.Kind == Failed {
			failed[element] = o.Op
		} else if _, again := numbers[element]; !again {
			numbers[element] = int32(len(names))
			names = append(names, element)
		}
	}
	var (
		ops     []set.Op
		of      []*Op
		unknown []string // elements that nobody added: number -1 is the first
		answers int
		reads   int
	)
	for _, o := range k.ops {
		if o.Kind == Failed || o.Kind == Open && o.F == "read" {
			continue
		}
		op := set.Op{Call: j.call(o.Op), Return: j.done(o.Op), Open: o.Kind == Open}
		if o.F == "add" {
			element, err := canonical(o.argument())
			if err != nil {
				return at(o.Line, "the value of :add: %v", err)
			}
			op.Element = numbers[element]
		} else {
			reads++
			op.Read = true
			all, opener, err := elements(o.answer())
			if err != nil || opener == "{" || opener == "" && string(o.answer()) != "nil" {
				return at(o.DoneLine, "the value of :read is %s, not a set or another collection of elements", brief(o.answer()))
			}
			for _, form := range all {
				element, err := canonical(form)
				if err != nil {
					return at(o.DoneLine, "the value of :read: %v", err)
				}
				n, added := numbers[element]
				if !added {
					unknown = append(unknown, element)
					n = -int32(len(unknown))
					numbers[element] = n
				}
				op.Elements = append(op.Elements, n)
			}
		}
		if o.Kind == OK {
			answers++
		}
		ops, of = append(ops, op), append(of, o.Op)
	}
	j.reads += reads
	if answers == 0 {
		return nil
	}
	if reads == 0 {
		j.fastNotes.add("a set that was never read", k.name, true)
		return nil
	}
	result := set.Check(ops)
	if result.Twice[0] != set.None {
		a, b := of[result.Twice[0]], of[result.Twice[1]]
		j.fastNotes.add(fmt.Sprintf("an element that was added twice, by %s and %s, so that a read does not tell which it saw", k.describe(a), k.describe(b)), k.name, true)
		return nil
	}
	judged(&j.fast, answers)
	for _, v := range result.Violations {
		op := of[v.Op]
		var other *Op
		if v.Other != set.None {
			other = of[v.Other]
		}
		element := ""
		if v.Element >= 0 && int(v.Element) < len(names) {
			element = names[v.Element]
		} else if v.Element < 0 && int(-v.Element) <= len(unknown) {
			element = unknown[-v.Element-1]
		}
		element = brief([]byte(element))
		read := fmt.Sprintf("%s, completed %s,", k.describe(op), returned(op))
		var text string
		switch v.Kind {
		case set.Duplicated:
			text = fmt.Sprintf("%s has %s more than once", read, element)
		case set.Phantom:
			text = fmt.Sprintf("%s has %s, which nobody added", read, element)
			if w := failed[element]; w != nil {
				text = fmt.Sprintf("%s has %s, but %s failed, which certainly has no effect", read, element, k.describe(w))
			}
		case set.FutureRead:
			text = fmt.Sprintf("%s has %s, which was only added by %s, invoked %s", read, element, k.describe(other), called(other))
		case set.Lost:
			text = fmt.Sprintf("%s was there by %s, completed %s; %s, invoked %s, misses it, and so does every later read", element, k.describe(other), returned(other), k.describe(op), called(op))
		case set.StaleRead:
			text = fmt.Sprintf("%s was there by %s, completed %s; %s, invoked %s, misses it, though a later read has it", element, k.describe(other), returned(other), k.describe(op), called(op))
		default:
			text = fmt.Sprintf("%s has %s and misses something else; for %s the opposite holds", read, element, k.describe(other))
			if other.F == "add" {
				text = fmt.Sprintf("%s has %s, and misses the element of %s, which was acknowledged %s, before %s was added",
					read, element, k.describe(other), returned(other), element)
			}
		}
		j.violation(&j.fast, k, string(v.Kind), text, other, op)
	}
	j.elements.add(result)
	return nil
}

// elementCounts counts what became of the elements of all sets.
type elementCounts struct {
	attempted, acknowledged, stable, stale, lost, neverRead int

	sets int
	last set.Result
}

func (c *elementCounts) add(r set.Result) {
	c.attempted += r.Attempted
	c.acknowledged += r.Acknowledged
	c.stable += r.Stable
	c.stale += r.Stale
	c.lost += r.Lost
	c.neverRead += r.NeverRead
	c.sets++
	c.last = r
}

// words tells the counts, and for a single set how long elements took to be
// there for good, or to be gone, where the history tells the time.
func (c *elementCounts) words(timed bool) string {
	text := fmt.Sprintf("%s, %d acknowledged: %d there for good, %d of these missed by a read before, %d lost, %d never read",
		count(c.attempted, "element"), c.acknowledged, c.stable, c.stale, c.lost, c.neverRead)
	if c.sets > 1 || !timed {
		return text
	}
	if l := c.last.StableLatency; l.N > 0 {
		text += fmt.Sprintf("; there for good within %.3f s (median), %.3f s (longest)", l.P50.Seconds(), l.Max.Seconds())
	}
	if l := c.last.LostLatency; l.N > 0 {
		text += fmt.Sprintf("; gone after %.3f s (median), %.3f s (longest)", l.P50.Seconds(), l.Max.Seconds())
	}
	return text
}

// bank judges transfers by the reads of all accounts: which there are, and their
// sum.
func (j *judge) bank(k *key) error {
	var reads []*keyOp
	var ops []bank.Op
	answers := 0
	accounts := map[string]int32{}
	var names []string
	number := func(form []byte) (int32, error) {
		name, err := canonical(form)
		if err != nil {
			return 0, err
		}
		n, known := accounts[name]
		if !known {
			n = int32(len(names))
			accounts[name] = n
			names = append(names, name)
		}
		return n, nil
	}
	for i := range k.ops {
		o := &k.ops[i]
		if o.Kind == OK {
			answers++
			if o.F == "read" {
				reads = append(reads, o)
			}
		}
	}
	if answers == 0 {
		return nil
	}
	j.reads += len(reads)
	if len(reads) == 0 {
		return nil
	}
	slices.SortFunc(reads, func(a, b *keyOp) int { return a.Done - b.Done })
	b := bank.Bank{Negative: j.opt.Negative}
	for i, o := range reads {
		op := bank.Op{Call: j.call(o.Op), Return: j.done(o.Op), Read: true, Final: o.Final}
		forms, opener, err := elements(o.answer())
		if err != nil || opener == "#{" || opener == "" || opener == "{" && len(forms)%2 == 1 {
			return at(o.DoneLine, "the value of :read is %s, not a map of balances", brief(o.answer()))
		}
		var total int64
		for n := 0; n < len(forms); n++ {
			account := fmt.Appendf(nil, "%d", n)
			if opener == "{" {
				account = forms[n]
				n++
			}
			var x bank.Balance
			if x.Account, err = number(account); err != nil {
				return at(o.DoneLine, "the value of :read: %v", err)
			}
			if x.Null = string(forms[n]) == "nil"; !x.Null {
				if x.Amount, err = whole(forms[n]); err != nil {
					return at(o.DoneLine, "the balance of account %s: %v", brief(account), err)
				}
				sum := total + x.Amount
				if (sum > total) != (x.Amount > 0) && x.Amount != 0 {
					return at(o.DoneLine, "the balances sum up to more than 64 bits hold")
				}
				total = sum
			}
			op.Balances = append(op.Balances, x)
		}
		if i == 0 {
			b.Accounts, b.Total = int32(len(names)), total
		}
		ops = append(ops, op)
	}
	if j.opt.Total != nil {
		b.Total = *j.opt.Total
	}
	result := bank.Check(b, ops)
	judged(&j.fast, answers)
	for _, v := range result.Violations {
		o := reads[v.Op]
		account := ""
		if v.Account >= 0 && int(v.Account) < len(names) {
			account = brief([]byte(names[v.Account]))
		}
		text := k.answered(o.Op)
		var first *Op
		switch v.Kind {
		case bank.Unexpected:
			first = reads[0].Op
			text += fmt.Sprintf(", with account %s, which %s does not have, or more than once", account, k.describe(first))
		case bank.Missing:
			first = reads[0].Op
			text += fmt.Sprintf(", without a balance of account %s, which %s has", account, k.describe(first))
		case bank.WrongTotal:
			text += fmt.Sprintf(", %d in all, not %d", v.Got, b.Total)
			if j.opt.Total == nil {
				first = reads[0].Op
				text += fmt.Sprintf(" as %s, completed %s", k.describe(first), returned(first))
			}
		case bank.Negative:
			text += fmt.Sprintf(": account %s has %d, below 0", account, v.Got)
		default:
			text += fmt.Sprintf(": account %s has %d, not %d to %d", account, v.Got, v.Low, v.High)
		}
		j.violation(&j.fast, k, string(v.Kind), text, first, o.Op)
	}
	return nil
}
