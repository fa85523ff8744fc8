package jepsen

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"statequake/reports/check"
)

// Options says what a history is judged by. The zero value of what is optional
// is useful.
type Options struct {
	Model string // one of Models

	// Keys says that values are tuples [key value], as jepsen.independent makes
	// them, and every key is judged by itself. Without it they are taken for such
	// if the first read was invoked with a tuple of a key and nil, or if they are
	// tagged as tuples.
	Keys bool

	Total    *int64 // of all balances of a bank; nil for that of the first read that completed
	Negative bool   // balances may be below 0

	Timeout time.Duration // for all searches together; 0 means 1 minute
	Memory  int64         // bytes for one search, about; 0 means 1 GiB
}

// Models lists the models by which a history can be judged.
var Models = []string{"register", "cas-register", "counter", "set", "bank"}

// functions are what a model's operations are called.
var functions = map[string][]string{
	"register":     {"read", "write"},
	"cas-register": {"read", "write", "cas"},
	"counter":      {"read", "add"},
	"set":          {"read", "add"},
	"bank":         {"read", "transfer"},
}

// Verdict is all that is known about a history.
type Verdict struct {
	Version int            `json:"version"` // 1
	Verdict check.Verdict  `json:"verdict"`
	File    string         `json:"file"`
	Model   string         `json:"model"`
	Keyed   bool           `json:"keyed"`
	Ops     Counts         `json:"ops"`
	Checks  []check.Result `json:"checks"`

	drawing *drawing
}

// Counts counts operations by outcome. Info counts those of unknown outcome,
// without a completion too.
type Counts struct {
	OK   int `json:"ok"`
	Fail int `json:"fail"`
	Info int `json:"info"`
}

// ExitCode is the exit code that stands for the verdict.
func (v *Verdict) ExitCode() int {
	switch v.Verdict {
	case check.Pass:
		return 0
	case check.Violated:
		return 1
	}
	return 2
}

// Valid returns an error if there is no such model.
func (o Options) Valid() error {
	if functions[o.Model] == nil {
		return fmt.Errorf("unknown model %q; have %s", o.Model, strings.Join(Models, ", "))
	}
	return nil
}

// Judge judges a history by a model. The checks are that of the model, which
// needs no search, and porcupine, which searches, each if it has anything to
// say. An error says that the history is none of the model's, `FILE:LINE:
// problem`, or that there is no such model.
func Judge(h *History, opt Options) (*Verdict, error) {
	if err := opt.Valid(); err != nil {
		return nil, err
	}
	opt.Timeout = cmp.Or(opt.Timeout, time.Minute)
	opt.Memory = cmp.Or(opt.Memory, 1<<30)
	v := &Verdict{Version: 1, File: h.Name, Model: opt.Model}
	for i := range h.Ops {
		switch h.Ops[i].Kind {
		case OK:
			v.Ops.OK++
		case Failed:
			v.Ops.Fail++
		default:
			v.Ops.Info++
		}
	}
	keys, keyed, err := split(h, opt)
	if err != nil {
		return nil, h.place(err)
	}
	v.Keyed = keyed
	j := &judge{History: h, opt: opt, clock: newClock(h)}
	j.fast.Name, j.search.Name = opt.Model, "porcupine"
	for i := range keys {
		if err := j.judge(&keys[i]); err != nil {
			return nil, h.place(err)
		}
	}
	j.searchAll()
	v.Checks = j.results()
	v.Verdict = check.Overall(v.Checks)
	v.drawing = j.drawing
	return v, nil
}

// key is the history of one key. Failed operations are in it, since they
// explain what is found.
type key struct {
	name string // as EDN; "" if the history has no keys
	ops  []keyOp
}

// keyOp is an operation with its values without their key.
type keyOp struct {
	*Op
	value, result string
}

// split sorts the operations by key, in the order of their first invocation.
func split(h *History, opt Options) (keys []key, keyed bool, err error) {
	keyed = opt.Keys || detectKeys(h)
	number := map[string]int{}
	for i := range h.Ops {
		op := &h.Ops[i]
		if !slices.Contains(functions[opt.Model], op.F) {
			p := at(op.Line, "function :%s is none of the model %s, which has :%s", printable(op.F), opt.Model, strings.Join(functions[opt.Model], ", :"))
			if opt.Model == "register" && op.F == "cas" {
				p = p.because("--model cas-register")
			}
			return nil, false, p
		}
		k := keyOp{Op: op, value: op.Value, result: op.Result}
		name := ""
		if keyed {
			if name, k.value, err = tuple(op.Value); err != nil {
				return nil, false, at(op.Line, ":%s: %v", op.F, err)
			}
			if op.Kind == OK && op.Result != "" {
				var of string
				if of, k.result, err = tuple(op.Result); err != nil {
					return nil, false, at(op.DoneLine, ":%s: %v", op.F, err)
				}
				if of != name {
					return nil, false, at(op.DoneLine, "process %d completes :%s on key %s, but had invoked it on key %s in line %d",
						op.Process, op.F, brief([]byte(of)), brief([]byte(name)), op.Line)
				}
			}
		}
		n, known := number[name]
		if !known {
			n = len(keys)
			number[name] = n
			keys = append(keys, key{name: name})
		}
		keys[n].ops = append(keys[n].ops, k)
	}
	return keys, keyed, nil
}

// detectKeys reports whether values are certainly tuples: one is tagged as such,
// or the first read was invoked with a key and nil. A read by itself is invoked
// with nothing.
func detectKeys(h *History) bool {
	for i := range h.Ops {
		op := &h.Ops[i]
		if tag, _ := untag([]byte(op.Value)); isTuple(tag) {
			return true
		}
		if op.F != "read" {
			continue
		}
		forms, opener, err := elements([]byte(op.Value))
		return err == nil && opener == "[" && len(forms) == 2 && string(forms[1]) == "nil"
	}
	return false
}

// isTuple reports whether tag is that of a tuple of jepsen.independent, however
// it is spelled.
func isTuple(tag string) bool {
	return strings.Contains(tag, "independent") && strings.HasSuffix(strings.ToLower(tag), "tuple")
}

// tuple takes a value apart into its key, spelled canonically, and the rest.
func tuple(form string) (key, value string, err error) {
	forms, opener, err := elements([]byte(form))
	if err != nil {
		return "", "", err
	}
	if opener != "[" || len(forms) != 2 {
		return "", "", fmt.Errorf("value %s is no tuple [key value]", brief([]byte(form)))
	}
	key, err = canonical(forms[0])
	return key, string(forms[1]), err
}

// clock gives every entry of a history its instant: that which the history
// tells, if it tells all and none goes back, else its number.
type clock struct {
	told    bool
	instant []time.Duration // of every entry, strictly ascending
}

func newClock(h *History) clock {
	c := clock{told: true, instant: make([]time.Duration, h.Entries)}
	for i := range h.Ops {
		op := &h.Ops[i]
		c.instant[op.Call] = op.Called
		if op.DoneLine != 0 {
			c.instant[op.Done] = op.Returned
		}
	}
	const latest = time.Duration(1) << 62 // far from an overflow
	before := time.Duration(0)
	for _, t := range c.instant {
		if t < before || t > latest {
			c.told = false
			break
		}
		before = t
	}
	for i := range c.instant {
		switch {
		case !c.told:
			c.instant[i] = time.Duration(i)
		case i > 0:
			// The order of the history decides between equal instants.
			c.instant[i] = max(c.instant[i], c.instant[i-1]+1)
		}
	}
	return c
}

// judge collects what is found on all keys.
type judge struct {
	*History
	opt   Options
	clock clock

	fast, search check.Result
	fastNotes    notes
	searchNotes  notes
	hard         []hard // keys that need a search
	drawing      *drawing
	elements     elementCounts
	reads        int // answers that show what the system remembers
}

func (j *judge) judge(k *key) error {
	switch j.opt.Model {
	case "counter":
		return j.counter(k)
	case "set":
		return j.set(k)
	case "bank":
		return j.bank(k)
	default:
		return j.register(k)
	}
}

// call and done are the instants of an operation.
func (j *judge) call(op *Op) time.Duration { return j.clock.instant[op.Call] }

func (j *judge) done(op *Op) time.Duration {
	if op.Kind != OK {
		return 0
	}
	return j.clock.instant[op.Done]
}

// judged takes note that a check has judged a key.
func judged(r *check.Result, ops int) {
	r.Keys++
	r.Ops += ops
}

// results are the checks that have something to say.
func (j *judge) results() []check.Result {
	blocking := &j.fastNotes
	if j.fast.Keys == 0 && (j.search.Keys > 0 || j.search.Undecided > 0) {
		blocking = &j.searchNotes
	}
	switch {
	case len(j.Ops) == 0:
		blocking.add("the history holds no operation of a client", "", true)
	case j.reads == 0:
		blocking.add("no read was answered, so nothing shows what the system remembers", "", true)
	}
	if j.elements.sets > 0 {
		j.fastNotes.add(j.elements.words(j.clock.told), "", false)
	}
	if j.Torn {
		blocking.add("the last line of the log is cut off, and was not read", "", false)
	}
	var results []check.Result
	if j.fast.Keys > 0 || len(j.fastNotes.all) > 0 {
		j.fastNotes.fill(&j.fast)
		results = append(results, j.fast)
	}
	if j.search.Keys > 0 || j.search.Total > 0 || len(j.searchNotes.all) > 0 {
		j.searchNotes.fill(&j.search)
		results = append(results, j.search)
	}
	return results
}

// At most so many violations of one kind are listed. All are counted.
const listed = 20

// violation adds one breach, shown by ops.
func (j *judge) violation(r *check.Result, k *key, kind, explanation string, ops ...*Op) {
	if r.Kinds == nil {
		r.Kinds = map[string]int{}
	}
	r.Total++
	if r.Kinds[kind]++; r.Kinds[kind] > listed {
		return
	}
	v := check.Violation{Entity: j.opt.Model, Key: k.name, Kind: kind, Explanation: explanation}
	for _, op := range ops {
		if op == nil {
			continue
		}
		if place := fmt.Sprintf("%s:%d", j.Name, op.Line); !slices.Contains(v.Ops, place) {
			v.Ops = append(v.Ops, place)
		}
	}
	r.Violations = append(r.Violations, v)
}

// notes are reasons for or beside a verdict.
type notes struct{ all []note }

type note struct {
	text   string
	keys   []string
	blocks bool // something was not judged, so the check must not pass
}

func (n *notes) add(text, key string, blocks bool) {
	i := slices.IndexFunc(n.all, func(have note) bool { return have.text == text && have.blocks == blocks })
	if i < 0 {
		i = len(n.all)
		n.all = append(n.all, note{text: text, blocks: blocks})
	}
	if key != "" {
		n.all[i].keys = append(n.all[i].keys, key)
	}
}

// fill writes the verdict and its reasons into r.
func (n *notes) fill(r *check.Result) {
	if r.Violations == nil {
		r.Violations = []check.Violation{}
	}
	r.Verdict = check.Pass
	for _, note := range n.all {
		if note.blocks {
			r.Verdict = check.Unknown
		}
		text := note.text
		if len(note.keys) > 0 {
			const shown = 3
			text += fmt.Sprintf(" (key %s", strings.Join(note.keys[:min(len(note.keys), shown)], ", "))
			if more := len(note.keys) - shown; more > 0 {
				text += fmt.Sprintf(" and %d more", more)
			}
			text += ")"
		}
		r.Reasons = append(r.Reasons, text)
	}
	if r.Total > 0 {
		r.Verdict = check.Violated
	}
}
