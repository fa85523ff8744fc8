package explain

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"statequake/history"
	"statequake/reports/check"
)

// At most so many operations and faults are told of.
const (
	toldOps    = 8
	toldFaults = 3
)

// Story is a violation as what happened, in time order. Its texts hold what the
// system said, of any length and with any characters.
type Story struct {
	Kind       string
	Entity     string
	Key        string
	Events     []Event
	Conclusion string // one or two sentences
}

// Event is one operation or one event of a fault.
type Event struct {
	At    time.Duration // of a fault; when the operation returned, or was sent if nobody answered
	Text  string
	Op    *history.Op    // nil for a fault
	Fault *history.Fault // nil for an operation
	// Suspect marks the operation that should not be as it is: gone, taken
	// back, or answered wrongly.
	Suspect bool
}

// Tell tells of the operations that show a violation, those that ops has, and
// of the faults that hit a node which executed one of them between the first
// and the last. If more operations than a story takes are there, only
// those that the violation names are told of.
func Tell(v check.Violation, ops []history.Op, faults []history.Fault) Story {
	t := teller{v: v}
	named := func(op *history.Op) bool { return slices.Contains(v.Ops, op.ID) }
	for i := range ops {
		if len(ops) <= toldOps || named(&ops[i]) {
			t.ops = append(t.ops, &ops[i])
		}
	}
	slices.SortStableFunc(t.ops, func(a, b *history.Op) int { return cmp.Compare(at(a), at(b)) })
	if len(t.ops) > toldOps {
		t.ops = append(t.ops[:toldOps-1:toldOps-1], t.ops[len(t.ops)-1]) // the last one is the audit
	}
	s := Story{Kind: v.Kind, Entity: v.Entity, Key: v.Key}
	t.suspects = t.suspect()
	for _, op := range t.ops {
		s.Events = append(s.Events, Event{At: at(op), Text: t.tell(op), Op: op, Suspect: slices.Contains(t.suspects, op)})
	}
	hits := t.hits(faults)
	for _, f := range hits {
		s.Events = append(s.Events, Event{At: f.At, Text: faultText(f), Fault: f})
	}
	slices.SortStableFunc(s.Events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	s.Conclusion = strings.Join(append([]string{t.conclude()}, t.blame(hits)...), " ")
	return s
}

// Lines is the story as text: one line per event, the instants aligned, then
// the conclusion.
func (s Story) Lines() []string {
	width := 0
	for _, e := range s.Events {
		width = max(width, len(seconds(e.At)))
	}
	var lines []string
	for _, e := range s.Events {
		lines = append(lines, fmt.Sprintf("%*s  %s", width, seconds(e.At), e.Text))
	}
	return append(lines, s.Conclusion)
}

// at is the instant by which an operation is told.
func at(op *history.Op) time.Duration {
	switch op.Outcome {
	case history.Unsent:
		return op.Scheduled
	case history.Info:
		return op.Sent
	}
	return op.Returned
}

type teller struct {
	v        check.Violation
	ops      []*history.Op // by at
	suspects []*history.Op
}

// suspect returns the operations that should not be as they are.
func (t *teller) suspect() []*history.Op {
	var clients []*history.Op // in time order, and in that of the violation
	for _, id := range t.v.Ops {
		for _, op := range t.ops {
			if op.ID == id && op.Phase != history.Audit {
				clients = append(clients, op)
			}
		}
	}
	if len(clients) == 0 {
		// Only an audit's answer is wrong.
		for _, op := range t.ops {
			if slices.Contains(t.v.Ops, op.ID) {
				return []*history.Op{op}
			}
		}
		return nil
	}
	last := clients[len(clients)-1:]
	switch t.v.Kind {
	case check.Lost:
		gone := slices.DeleteFunc(slices.Clone(clients), func(op *history.Op) bool { return !check.MayWrite(op) || t.audited(op) })
		if len(gone) > 0 {
			return gone[len(gone)-1:]
		}
		return clients
	case check.FutureRead:
		return []*history.Op{slices.MinFunc(clients, func(a, b *history.Op) int { return cmp.Compare(a.Returned, b.Returned) })}
	case check.StaleRead:
		if audit := t.ops[len(t.ops)-1]; audit.Phase == history.Audit && audit.Name != history.WitnessOp && slices.Contains(t.v.Ops, audit.ID) {
			return []*history.Op{audit}
		}
		return last
	case check.Reordered, check.Phantom:
		return last
	case check.NotLinearizable:
		if len(clients) > 1 {
			return nil // none of them more than another
		}
		return last
	}
	return clients[:1]
}

// audited reports whether a witness that is told of holds op.
func (t *teller) audited(op *history.Op) bool {
	return slices.ContainsFunc(t.ops, func(audit *history.Op) bool { return slices.Contains(witnessed(audit), op.ID) })
}

// witnessed returns the ids in the answer of a witness, nil if it is none.
func witnessed(op *history.Op) []string {
	if op.Name != history.WitnessOp || op.Outcome != history.OK {
		return nil
	}
	var answer struct {
		IDs []string `json:"ids"`
	}
	if json.Unmarshal(op.Result, &answer) != nil {
		return nil
	}
	return answer.IDs
}

// tell says what is known of an operation.
func (t *teller) tell(op *history.Op) string {
	if op.Name == history.WitnessOp && op.Outcome == history.OK {
		return t.tellAudit(op)
	}
	what := cut(op.Name) + " " + cut(op.ID)
	if op.Phase == history.Audit {
		what = "the audit's " + what
	}
	if op.Entity != t.v.Entity || op.Key != t.v.Key {
		what += " on " + cut(op.Entity+"/"+op.Key)
	}
	if len(op.Args) > 0 && string(op.Args) != "{}" {
		what += " " + cut(string(op.Args))
	}
	switch op.Outcome {
	case history.Unsent:
		return what + " was due, but never left the generator"
	case history.Info:
		text := what + " was sent"
		if op.Attempts > 1 {
			text += fmt.Sprintf(" in %d attempts", op.Attempts)
		}
		return text + "; no answer by " + seconds(op.Returned) + because(op.Error) + t.timers(op)
	}
	what += ", sent " + seconds(op.Sent)
	if op.Attempts > 1 {
		what += fmt.Sprintf(" in %d attempts", op.Attempts)
	}
	if op.Outcome == history.Fail {
		return what + ", failed, certainly without effect" + because(op.Error)
	}
	verb, result := "was answered", " with "+cut(cmp.Or(string(op.Result), "nothing"))
	if check.Acknowledged(op) {
		verb = "was acknowledged"
		if t.byWitness() && t.v.Kind != check.WrongResult {
			result = "" // versions and ids say more
		}
	}
	if node := cmp.Or(op.Node, op.Via); node != "" {
		verb += " by " + cut(node)
	}
	return what + ", " + verb + result + state(op) + t.timers(op)
}

// byWitness reports whether a witness is told of.
func (t *teller) byWitness() bool {
	return slices.ContainsFunc(t.ops, func(op *history.Op) bool { return op.Name == history.WitnessOp })
}

// state says which state an answer told.
func state(op *history.Op) string {
	text := ""
	if op.Version >= 0 {
		text += fmt.Sprintf(", version %d", op.Version)
	}
	if op.Epoch != 0 {
		text += fmt.Sprintf(", epoch %d", op.Epoch)
	}
	return text
}

// timers says which timers op sets.
func (t *teller) timers(op *history.Op) string {
	text := ""
	for _, e := range effects(op) {
		if e.After > 0 {
			text += fmt.Sprintf("; it sets a timer of %s: %s %s", e.After, e.Name, cut(e.ID))
		}
	}
	return text
}

// subject is what an audit is asked about: an operation that is told of, or
// what one causes.
type subject struct {
	id, name string
	op       *history.Op // nil if no client sent it
	named    bool        // by the violation, or caused by one that is
}

// subjects returns what an audit is asked about: if that is much, only what the
// violation names.
func (t *teller) subjects(audit *history.Op) []subject {
	const few = 4
	var found []subject
	known := map[string]bool{}
	for _, op := range t.ops {
		known[op.ID] = true
		named := slices.Contains(t.v.Ops, op.ID)
		if op.Phase != history.Audit && op.Entity == audit.Entity && op.Key == audit.Key {
			found = append(found, subject{op.ID, cut(op.Name) + " " + cut(op.ID), op, named})
		}
		for _, e := range effects(op) {
			if known[e.ID] = true; e.Entity == audit.Entity && e.Key == audit.Key {
				found = append(found, subject{e.ID, e.Name + " " + cut(e.ID), nil, named || slices.Contains(t.v.Ops, e.ID)})
			}
		}
	}
	for _, id := range t.v.Ops {
		if !known[id] {
			found = append(found, subject{id, cut(id) + ", which is not in the history,", nil, true})
		}
	}
	if len(found) > few {
		found = slices.DeleteFunc(found, func(s subject) bool { return !s.named })
	}
	return found
}

// tellAudit says what a witness holds of the operations that are told of.
func (t *teller) tellAudit(audit *history.Op) string {
	ids := witnessed(audit)
	var has, lacks, differs []string
	for _, s := range t.subjects(audit) {
		var at []string
		for i, id := range ids {
			if id == s.id {
				at = append(at, fmt.Sprint(i+1))
			}
		}
		switch {
		case len(at) == 1:
			has = append(has, s.name+" at position "+at[0])
		case len(at) > 1:
			has = append(has, s.name+" at positions "+strings.Join(at[:min(len(at), 5)], " and "))
		case s.op == nil || check.MayWrite(s.op):
			lacks = append(lacks, s.name)
		}
		if s.op != nil && takenBack(s.op, ids) && (len(at) > 0 || !check.MayWrite(s.op)) {
			differs = append(differs, s.name)
		}
	}
	text := "the audit"
	if audit.Phase != history.Audit {
		text = "witness " + cut(audit.ID)
	}
	if audit.Entity != t.v.Entity || audit.Key != t.v.Key {
		text += " of " + cut(audit.Entity+"/"+audit.Key)
	}
	text += ", sent " + seconds(audit.Sent)
	if audit.Node != "" {
		text += ", answered by " + cut(audit.Node)
	}
	if audit.Epoch != 0 {
		text += fmt.Sprintf(" in epoch %d", audit.Epoch)
	}
	var says []string
	if len(lacks) > 0 {
		says = append(says, "does not contain "+strings.Join(lacks, ", "))
	}
	if len(has) > 0 {
		says = append(says, "contains "+strings.Join(has, ", "))
	}
	if len(differs) > 0 {
		says = append(says, "never was in the state that "+strings.Join(differs, ", ")+" showed")
	}
	if len(says) == 0 {
		return fmt.Sprintf("%s, contains %d operations", text, len(ids))
	}
	return text + ", " + strings.Join(says, "; it ")
}

// takenBack reports whether an answer showed a state that ids do not lead
// through.
func takenBack(op *history.Op, ids []string) bool {
	if op.Outcome != history.OK || op.Version < 0 || op.Digest == "" {
		return false
	}
	if op.Version > int64(len(ids)) {
		return true
	}
	digest := history.ZeroDigest
	for _, id := range ids[:op.Version] {
		digest = history.NextDigest(digest, id)
	}
	return digest != op.Digest
}

// atOnce is how soon after its request a fault is injected if it is told of as
// one event.
const atOnce = 100 * time.Millisecond

// hits returns the events, in time order, of the faults that hit a node of a
// client's operation, or any node if none is known, between the sending of the
// first and the last operation: the injection, and the request if the fault
// took its time. Of a fault that had begun before that and ended later it is the
// injection.
func (t *teller) hits(faults []history.Fault) []*history.Fault {
	nodes := map[string]bool{}
	from, to := time.Duration(-1), time.Duration(0)
	for _, op := range t.ops {
		to = max(to, at(op))
		if op.Phase == history.Audit {
			continue
		}
		if node := cmp.Or(op.Node, op.Via); node != "" && op.Outcome != history.Unsent {
			nodes[node] = true
		}
		if from < 0 || started(op) < from {
			from = started(op)
		}
	}
	injected, recovered := map[string]time.Duration{}, map[string]time.Duration{}
	for i := range faults {
		switch f := &faults[i]; f.Event {
		case history.Injected:
			injected[f.Name] = f.At
		case history.Recovered:
			recovered[f.Name] = f.At
		}
	}
	var hits []*history.Fault
	for i := range faults {
		f := &faults[i]
		if f.At > to || len(nodes) > 0 && !slices.ContainsFunc(f.Targets, func(node string) bool { return nodes[node] }) {
			continue
		}
		in, done := injected[f.Name]
		switch f.Event {
		case history.Injected:
			if f.At >= from || recovered[f.Name] >= from {
				hits = append(hits, f)
			}
		case history.Requested:
			if (f.At >= from || done && in >= from) && (!done || in > f.At+atOnce) {
				hits = append(hits, f)
			}
		}
	}
	slices.SortStableFunc(hits, func(a, b *history.Fault) int { return cmp.Compare(a.At, b.At) })
	return hits[:min(len(hits), toldFaults)]
}

// started is when op was sent, or was due if it never was.
func started(op *history.Op) time.Duration {
	if op.Outcome == history.Unsent {
		return op.Scheduled
	}
	return op.Sent
}

// verbs say what faults do to their targets.
var verbs = map[string]string{
	"pod-kill": "was killed", "pod-failure": "was stopped", "OwnExit": "ended by itself", "PowerLoss": "lost its power", "ProcessPause": "was paused",
	"partition": "was cut off", "DiskFull": "had a full disk",
}

func faultText(f *history.Fault) string { return happened(f) + " (fault " + cut(f.Name) + ")" }

// happened says what an event of a fault is: that it was asked for, or what it
// did.
func happened(f *history.Fault) string {
	what := cmp.Or(f.Action, f.Kind)
	if f.Event == history.Requested {
		return cut(what) + " of " + cut(strings.Join(f.Targets[:min(len(f.Targets), 5)], ", ")) + " began"
	}
	targets := f.Targets[:min(len(f.Targets), 5)]
	node := cut(strings.Join(targets, ", "))
	verb, known := verbs[what]
	switch {
	case len(targets) == 0:
		return cut(what)
	case known && len(f.Targets) == 1:
		return node + " " + verb
	case len(targets) < len(f.Targets):
		node += " and others"
	}
	return cut(what) + " hit " + node
}

// blame says how the first hit on the suspect's node, after its sending, stands
// to the suspect.
func (t *teller) blame(hits []*history.Fault) []string {
	if len(t.suspects) != 1 {
		return nil
	}
	op := t.suspects[0]
	i := slices.IndexFunc(hits, func(f *history.Fault) bool { return f.At >= op.Sent && slices.Contains(f.Targets, op.Node) })
	if i < 0 {
		return nil
	}
	f := hits[i]
	for _, later := range hits[i+1:] {
		if f.At >= op.Returned && later.Name == f.Name && later.Event == history.Injected {
			f = later // which is what took the answered operation
		}
	}
	what := cmp.Or(f.Action, f.Kind)
	said := cut(op.Node) + ", which executed it, " + cmp.Or(verbs[what], "was hit by "+cut(what))
	if f.Event == history.Requested {
		said = cut(what) + " of " + cut(op.Node) + ", which executed it, began"
	}
	when := seconds(f.At-op.Returned) + " after its answer was read"
	switch {
	case op.Outcome != history.OK:
		when = seconds(f.At-op.Sent) + " after it was sent"
	case f.At < op.Returned:
		when = seconds(op.Returned-f.At) + " before its answer was read"
	}
	return []string{said + " " + when + "."}
}

// rules say what is wrong where the events show it; of other kinds the
// explanation of the check says it.
var rules = map[string]string{
	check.Duplicated:     "One operation was applied more than once.",
	check.Lost:           "What was acknowledged is gone.",
	check.Phantom:        "What was applied was never asked for, or reported as without effect.",
	check.DirtyRead:      "The answer showed a state that was taken back.",
	check.StaleRead:      "A read missed what had been acknowledged, or seen, before it was sent.",
	check.Reordered:      "A write was applied before one that had been acknowledged before it was sent.",
	check.FutureRead:     "A read saw a write before it was sent.",
	check.HalfApplied:    "Of what belongs together only a part was done.",
	check.MissedDeadline: "A timer was due and did not fire.",
}

func (t *teller) conclude() string {
	rule, ok := rules[t.v.Kind]
	if t.v.Kind == check.Phantom && !t.byWitness() {
		ok = false // a read of a value that nobody wrote
	}
	if ok {
		return rule
	}
	return strings.TrimSuffix(t.v.Explanation, ".") + "."
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + cut(reason) + ")"
}

// cut shortens text from the system.
func cut(s string) string { return letters(s, 48) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }
