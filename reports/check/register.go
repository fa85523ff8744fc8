package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"statequake/history"
	"statequake/history/model"
)

// registerEntity is the entity type that the register check judges.
const registerEntity = "register"

// always is the instant from which the initial value of a register is known.
const always = time.Duration(math.MinInt64)

// registerKey judges a register by what its reads answered, without a look at
// versions, digests or a witness: the zone test of Gibbons and Korach, "Testing
// shared memories", SIAM J. Comput. 26(4), 1997, in O(n log n). It reports whether
// it decided the key.
func (w *auditor) registerKey(h *keyOps) bool {
	ops := h.sent()
	if !touched(ops) {
		return false
	}
	w.registers++
	o := &outcome{entityKey: h.entityKey, check: ofRegister}
	k := newRegister(h.entityKey, ops, w.rest.Footer != nil && w.repeated == 0)
	if k.undecided != "" {
		o.note(!w.opt.Witness, h.entityKey, 0, k.undecided)
		w.keep(o)
		return false
	}
	k.judge()
	w.registerKeys++
	w.registerOps += k.answers
	o.findings = k.findings
	if !w.opt.Witness && w.rest.Footer != nil && !readBack(ops) {
		o.note(true, h.entityKey, 0, unreadText)
	}
	w.keep(o)
	return true
}

// registerResult is the verdict on all registers, and false if the check is not
// to be listed.
func (j *judging) registerResult() (Result, bool) {
	r := Result{Name: "register", Keys: j.registerKeys, Ops: j.registerOps}
	if j.registers == 0 || r.Ops == 0 && j.opt.Witness {
		return Result{}, false
	}
	all := findings{perKind: listedInAll}
	if j.rest.Footer == nil {
		all.addNote(note{blocks: true, text: tornText})
	}
	j.merged(ofRegister, &all)
	if r.Ops == 0 {
		all.addNote(note{blocks: true, text: "no acknowledged operation could be judged"})
	}
	all.fill(&r)
	return r, true
}

// zone is a value of a register with the operations on it. The value was there
// by the instant known, as the write or a read of it had returned, and
// something of it was yet to be sent until the instant last.
//
// All operations on a value stand together in any legal order. So the zone a
// must come before b if a.known < b.last, and the order fails on two zones of
// which each must come before the other.
type zone struct {
	write *history.Op   // nil for the initial value
	reads []*history.Op // answered

	known, last     time.Duration
	knownBy, lastOf *history.Op // nil if it is the initial value as such
}

// forward reports whether an operation on the value had returned before another
// was sent, so that the value was certainly there from known to last.
func (z *zone) forward() bool { return z.known < z.last }

// acknowledged is when the write of the value was answered, or never.
func (z *zone) acknowledged() time.Duration {
	if z.write == nil || z.write.Outcome != history.OK || rejected(z.write.Result) {
		return never
	}
	return z.write.Returned
}

// measure sets the instants of the zone.
func (z *zone) measure() {
	z.known, z.last = always, always
	if z.write != nil {
		z.known, z.knownBy = z.acknowledged(), z.write
		z.last, z.lastOf = z.write.Sent, z.write
	}
	for _, r := range z.reads {
		if r.Returned < z.known {
			z.known, z.knownBy = r.Returned, r
		}
		if r.Sent > z.last {
			z.last, z.lastOf = r.Sent, r
		}
	}
}

// register judges one key.
type register struct {
	entityKey
	findings
	zones     []*zone // the initial value first
	answers   int     // operations answered ok
	undecided string  // why the key cannot be judged, "" if it can
}

// newRegister sorts the operations of a key by value, and reports replies that
// no register gives: whole says that a value nobody sent is certainly from
// nowhere.
func newRegister(of entityKey, ops []*history.Op, whole bool) *register {
	initial := &zone{}
	k := &register{entityKey: of, findings: findings{perKind: listedPerKey}, zones: []*zone{initial}}
	state, _ := model.For(registerEntity)
	written := map[string]*zone{}
	without := map[string]*history.Op{} // writes that had no effect
	var reads []*history.Op
	for _, op := range ops {
		if op.Name == witnessOp {
			continue
		}
		want, wrote, err := state.Apply(op.Name, op.Args, op.ID)
		certain := op.Outcome == history.Fail || op.Outcome == history.Unsent
		switch {
		case err != nil && certain:
			continue
		case err != nil:
			k.undecided = "operations that the model of the entity type refuses"
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
		value, _ := valueOf(want)
		if certain {
			without[*value] = op
			continue
		}
		if written[*value] != nil {
			k.undecided = "values that were sent more than once, so that a read does not tell which of them it saw"
			return k
		}
		z := &zone{write: op}
		written[*value] = z
		k.zones = append(k.zones, z)
		if op.Outcome == history.OK && !silent(op.Result) && !sameJSON(want, op.Result) {
			k.found(WrongResult, fmt.Sprintf("%s was answered by %s at %s with %s; by the model it is %s",
				opName(op), who(op), seconds(op.Returned), brief(op.Result), brief(want)), op)
		}
	}
	for _, op := range reads {
		value, ok := valueOf(op.Result)
		if !ok {
			k.found(WrongResult, answer(op)+", which is no value of a register", op)
			continue
		}
		if value == nil {
			initial.reads = append(initial.reads, op)
			continue
		}
		z, failed := written[*value], without[*value]
		switch {
		case z == nil && failed != nil && failed.Outcome == history.Unsent:
			k.found(Phantom, fmt.Sprintf("%s, but %s never left the generator", answer(op), opName(failed)), failed, op)
		case z == nil && failed != nil:
			k.found(Phantom, fmt.Sprintf("%s, but %s certainly had no effect (%s)", answer(op), opName(failed), short(cmp.Or(failed.Error, "fail"))), failed, op)
		case z == nil && whole:
			k.found(Phantom, answer(op)+", a value that was never sent", op)
		case z == nil:
		case op.Returned < z.write.Sent:
			k.found(FutureRead, fmt.Sprintf("%s, which %s was only sent with at %s", answer(op), opName(z.write), seconds(z.write.Sent)), z.write, op)
		default:
			z.reads = append(z.reads, op)
		}
	}
	// An unanswered write that nobody saw may take effect after everything.
	k.zones = slices.DeleteFunc(k.zones, func(z *zone) bool {
		z.measure()
		return z.known == never
	})
	return k
}

// valueOf reads the value out of a result or of arguments: nil for null. It
// returns false if raw is anything but {"value": string or null}.
func valueOf(raw json.RawMessage) (value *string, ok bool) {
	var object map[string]*string
	if json.Unmarshal(raw, &object) != nil || len(object) != 1 {
		return nil, false
	}
	value, ok = object["value"]
	return value, ok
}

// judge names the reads that are certainly stale, takes them away, and puts the
// rest to the test.
func (k *register) judge() {
	k.staleReads()
	k.overlaps()
}

// staleReads finds every read of a value after another, whose write was sent
// when the value read was known already, was known in its turn.
func (k *register) staleReads() {
	type read struct {
		*history.Op
		of *zone
	}
	var reads []read
	for _, z := range k.zones {
		for _, op := range z.reads {
			reads = append(reads, read{op, z})
		}
	}
	slices.SortStableFunc(reads, func(a, b read) int { return cmp.Compare(a.Sent, b.Sent) })
	newestKnown := newest(k.zones, func(z *zone) time.Duration { return z.known })
	newestAcknowledged := newest(k.zones, (*zone).acknowledged)
	stale := map[*history.Op]bool{}
	for _, r := range reads {
		known, acked := newestKnown(r.Sent), newestAcknowledged(r.Sent)
		switch {
		case acked != nil && acked.write.Sent > r.of.known && r.Phase == history.Audit:
			k.found(Lost, fmt.Sprintf("%s was acknowledged by %s at %s; the audit, %s sent at %s, shows %s, %s",
				opName(acked.write), who(acked.write), seconds(acked.write.Returned),
				opName(r.Op), seconds(r.Sent), brief(r.Result), r.of.since(acked)), r.of.knownBy, acked.write, r.Op)
		case known != nil && known.write.Sent > r.of.known:
			k.found(StaleRead, fmt.Sprintf("%s, sent at %s, was answered by %s with %s, %s; and by %s %s",
				opName(r.Op), seconds(r.Sent), who(r.Op), brief(r.Result), r.of.since(known), seconds(known.known), known.shown()),
				r.of.knownBy, known.write, known.knownBy, r.Op)
		default:
			continue
		}
		stale[r.Op] = true
	}
	if len(stale) == 0 {
		return
	}
	for _, z := range k.zones {
		z.reads = slices.DeleteFunc(z.reads, func(op *history.Op) bool { return stale[op] })
		z.measure()
	}
}

// newest returns a function of an instant that must not go back. Of the values
// that were there before it, by at, it returns the one whose write was sent
// last, nil if there was none but the initial one.
func newest(zones []*zone, at func(*zone) time.Duration) func(time.Duration) *zone {
	order := slices.Clone(zones[1:])
	slices.SortStableFunc(order, func(a, b *zone) int { return cmp.Compare(at(a), at(b)) })
	var found *zone
	return func(now time.Duration) *zone {
		for len(order) > 0 && at(order[0]) < now {
			if found == nil || order[0].write.Sent > found.write.Sent {
				found = order[0]
			}
			order = order[1:]
		}
		return found
	}
}

// overlaps finds the pairs of values of which each must come before the other:
// two forward zones that overlap, or another zone inside a forward one. Every
// value is reported once at most. The initial value is in none of them: what
// reads it after another was known is stale, and so taken away.
func (k *register) overlaps() {
	var forward, backward []*zone
	for _, z := range k.zones {
		if z.forward() {
			forward = append(forward, z)
		} else {
			backward = append(backward, z)
		}
	}
	slices.SortStableFunc(forward, func(a, b *zone) int { return cmp.Compare(a.known, b.known) })
	slices.SortStableFunc(backward, func(a, b *zone) int { return cmp.Compare(a.last, b.last) })
	longest := func(a, b *zone) *zone {
		if a == nil || b.last > a.last {
			return b
		}
		return a
	}
	var reach *zone
	for _, z := range forward {
		if reach != nil && z.known < reach.last {
			k.overlap(reach, z)
		}
		reach = longest(reach, z)
	}
	reach = nil
	next := 0
	for _, z := range backward {
		for ; next < len(forward) && forward[next].known < z.last; next++ {
			reach = longest(reach, forward[next])
		}
		if reach != nil && z.known < reach.last {
			k.overlap(reach, z)
		}
	}
}

func (k *register) overlap(a, b *zone) {
	k.found(NotLinearizable, fmt.Sprintf("each of two values must come before the other: by %s %s, yet %s was sent only at %s; and by %s %s, yet %s was sent only at %s",
		seconds(a.known), a.shown(), onValue(b), seconds(b.last), seconds(b.known), b.shown(), onValue(a), seconds(a.last)),
		a.write, b.write, a.knownBy, b.lastOf, b.knownBy, a.lastOf)
}

// onValue names the operation on a value that was sent last.
func onValue(z *zone) string {
	if z.lastOf == z.write {
		return opName(z.lastOf)
	}
	return fmt.Sprintf("%s, which read the value of %s,", opName(z.lastOf), opName(z.write))
}

// shown says how the value was known.
func (z *zone) shown() string {
	if z.knownBy == z.write {
		return fmt.Sprintf("%s had been acknowledged by %s", opName(z.write), who(z.write))
	}
	return fmt.Sprintf("the value of %s had been read by %s", opName(z.write), opName(z.knownBy))
}

// since says why z is older than other.
func (z *zone) since(other *zone) string {
	switch {
	case z.write == nil:
		return fmt.Sprintf("the value before any write, but %s was sent at %s", opName(other.write), seconds(other.write.Sent))
	case z.knownBy == z.write:
		return fmt.Sprintf("the value of %s, acknowledged at %s, before %s was sent at %s", opName(z.write), seconds(z.known), opName(other.write), seconds(other.write.Sent))
	default:
		return fmt.Sprintf("the value of %s, read by %s by %s, before %s was sent at %s", opName(z.write), opName(z.knownBy), seconds(z.known), opName(other.write), seconds(other.write.Sent))
	}
}

func answer(op *history.Op) string {
	return fmt.Sprintf("%s was answered by %s at %s with %s", opName(op), who(op), seconds(op.Returned), brief(op.Result))
}

// found reports a violation shown by ops, each named once.
func (k *register) found(kind, explanation string, ops ...*history.Op) {
	v := Violation{Entity: k.entity, Key: k.key, Kind: kind, Explanation: explanation}
	for _, op := range ops {
		if op != nil && !slices.Contains(v.Ops, op.ID) {
			v.Ops = append(v.Ops, op.ID)
		}
	}
	k.violation(v)
}
