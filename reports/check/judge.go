package check

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"statequake/history"
	"statequake/history/model"
)

// entityKey names one entity.
type entityKey struct{ entity, key string }

func (k entityKey) String() string { return k.entity + "/" + k.key }

// clone returns an entityKey that shares no memory with k.
func (k entityKey) clone() entityKey { return entityKey{strings.Clone(k.entity), strings.Clone(k.key)} }

func (k entityKey) compare(l entityKey) int {
	return cmp.Or(cmp.Compare(k.entity, l.entity), cmp.Compare(k.key, l.key))
}

// keyOps is everything that was sent to one entity.
type keyOps struct {
	entityKey
	ops     []*history.Op // of clients, in the order of Add; then those that others may have caused, in the order of their parents
	clients int           // how many are of clients
	causes  []cause       // of the others
}

// sent is what clients sent.
func (h *keyOps) sent() []*history.Op { return h.ops[:h.clients] }

// which names an operation of the run by its number and, for one that is
// caused by that, its place among these.
type which struct {
	seq   uint64
	index int
}

// client is the index in which of an operation of a client.
const client = -1

// checkOf says which check an outcome belongs to, and which comes first if it
// has several of one key.
type checkOf int

const (
	ofTruth checkOf = iota
	ofWitness
	ofAnswers
	ofCalls
	ofOverdue
	ofRegister
	ofCounter
	ofUnread
)

// outcome is what one check found on one key.
type outcome struct {
	entityKey
	findings
	check checkOf
	lost  []LostAck
}

// judging judges what a Collector holds, once.
type judging struct {
	c    *Collector
	opt  Options
	rest Rest
	calm time.Duration // the last instant at which something is known to have gone wrong

	durable, witnessed bool // which checks apply

	repeated      int            // ids of clients that occur again
	firstRepeated string         // the first of them
	dropped       map[which]bool // the operations that have them

	mu         sync.Mutex
	facts      store // by hash of the action
	audits     []*audit
	candidates store                 // for Porcupine, by number of operations
	inWitness  map[entityKey]bool    // entity and name of what witnesses hold, for entities without a model
	wanted     map[uint64]bool       // hashes of ids in witnesses that are not of the witness's own key
	elsewhere  map[string]history.Op // operations with these ids, once they have been looked for
	deferred   map[entityKey]bool    // keys to be judged when that is known
	outcomes   []*outcome
	tally
}

// tally counts what was judged, by check.
type tally struct {
	keys                    int // with operations of clients
	witnessKeys, witnessOps int
	boxes                   map[checkOf]boxTally
	skipped, aside          [2]int // keys that Porcupine does not judge; [1] of which nothing else does
}

func (t *tally) add(u *tally) {
	t.keys += u.keys
	t.witnessKeys += u.witnessKeys
	t.witnessOps += u.witnessOps
	for check, b := range u.boxes {
		t.box(check, b)
	}
	for i := range t.skipped {
		t.skipped[i] += u.skipped[i]
		t.aside[i] += u.aside[i]
	}
}

func newJudging(c *Collector, rest Rest) *judging {
	j := &judging{
		c: c, opt: c.opt, rest: rest, calm: c.calm,
		durable: c.opt.Ack == Durable, witnessed: c.opt.Witness && (c.opt.Ack == Durable || c.opt.Ack == Memory),
		dropped: map[which]bool{}, inWitness: map[entityKey]bool{}, wanted: map[uint64]bool{}, deferred: map[entityKey]bool{},
	}
	for _, f := range rest.Faults {
		j.calm = max(j.calm, f.At)
	}
	return j
}

func (j *judging) results() ([]Result, error) {
	if j.c.disk.file != nil { // judging needs the memory
		if err := j.c.spill(); err != nil {
			return nil, err
		}
		j.c.ops.release()
		j.c.ids.release()
	}
	if err := j.findRepeated(); err != nil {
		return nil, err
	}
	if err := j.eachPart((*judging).judgePart); err != nil {
		return nil, err
	}
	if len(j.deferred) > 0 {
		if err := j.lookElsewhere(); err != nil {
			return nil, err
		}
		if err := j.eachPart((*judging).judgePart); err != nil {
			return nil, err
		}
	}
	if err := j.eachPart((*judging).judgeCalls); err != nil {
		return nil, err
	}
	slices.SortStableFunc(j.outcomes, func(a, b *outcome) int {
		return cmp.Or(a.entityKey.compare(b.entityKey), cmp.Compare(a.check, b.check))
	})
	results := []Result{j.identity()}
	if j.opt.Witness || !j.durable {
		results = append(results, j.witnessResult())
	}
	if !j.durable {
		return results, nil
	}
	for _, b := range blackBoxes {
		if r, listed := j.blackBoxResult(b); listed {
			results = append(results, r)
		}
	}
	r, listed, err := j.porcupineResult()
	if err != nil {
		return nil, err
	}
	if listed {
		results = append(results, r)
	}
	return results, nil
}

// eachPart calls judge with every part of a store, on as many workers as there
// are processors. Each has an auditor of its own.
func (j *judging) eachPart(judge func(j *judging, w *auditor, part int) error) error {
	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	if j.c.n < 10_000 {
		workers = 1
	}
	next := make(chan int, parts)
	for p := range parts {
		next <- p
	}
	close(next)
	errs := make([]error, workers)
	work := func(i int) {
		w := &auditor{judging: j}
		for p := range next {
			if errs[i] = judge(j, w, p); errs[i] != nil {
				break
			}
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		j.outcomes = append(j.outcomes, w.outcomes...)
		j.tally.add(&w.tally)
	}
	var wg sync.WaitGroup
	for i := 1; i < workers; i++ {
		wg.Go(func() { work(i) })
	}
	work(0)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// maxWorkers bounds the memory that judging takes: each worker holds a part.
const maxWorkers = 8

// findRepeated finds the operations whose id another one had before.
func (j *judging) findRepeated() error {
	suspects := map[uint64]bool{} // hashes that occur more than once
	var mu sync.Mutex
	err := j.eachPart(func(j *judging, w *auditor, p int) error {
		pieces, err := j.c.ids.read(p, &j.c.disk, &w.mem.buf)
		if err != nil {
			return err
		}
		n := 0
		for _, b := range pieces {
			n += len(b) / 8
		}
		seen := newTable(&w.mem.table, n)
		for _, b := range pieces {
			for ; len(b) > 0; b = b[8:] {
				h := binary.LittleEndian.Uint64(b)
				if !seen.insert(h) {
					mu.Lock()
					suspects[h] = true
					mu.Unlock()
				}
			}
		}
		return nil
	})
	if err != nil || len(suspects) == 0 {
		return err
	}
	type suspect struct {
		which
		id string
	}
	var all []suspect
	err = j.eachRecord(func(rec []byte, op *history.Op, rest []byte) {
		if !suspects[hashText(op.ID)] {
			return
		}
		s := suspect{which{seqOf(rec), client}, strings.Clone(op.ID)}
		if rec[recFlags]&isCaused != 0 {
			s.index = unpackCause(rest).index
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, s)
	})
	if err != nil {
		return err
	}
	// What clients sent comes first.
	slices.SortFunc(all, func(a, b suspect) int {
		return cmp.Or(cmp.Compare(min(a.index, 0), min(b.index, 0)), cmp.Compare(a.seq, b.seq), cmp.Compare(a.index, b.index))
	})
	had := map[string]bool{}
	for _, s := range all {
		if !had[s.id] {
			had[s.id] = true
			continue
		}
		j.dropped[s.which] = true
		if s.index == client {
			if j.repeated == 0 {
				j.firstRepeated = s.id
			}
			j.repeated++
		}
	}
	return nil
}

// eachRecord calls fn with every operation, in no order and concurrently. op is
// valid until fn returns.
func (j *judging) eachRecord(fn func(rec []byte, op *history.Op, rest []byte)) error {
	return j.eachPart(func(j *judging, w *auditor, p int) error {
		pieces, err := j.c.ops.read(p, &j.c.disk, &w.mem.buf)
		if err != nil {
			return err
		}
		var op history.Op
		eachRecord(pieces, func(rec []byte) {
			rest := j.c.forms.unpack(rec, &op)
			fn(rec, &op, rest)
		})
		return nil
	})
}

// lookElsewhere finds the operations that witnesses hold although they were sent
// to other keys.
func (j *judging) lookElsewhere() error {
	found := map[string]history.Op{}
	if len(j.wanted) > 0 {
		err := j.eachRecord(func(rec []byte, op *history.Op, rest []byte) {
			if !j.wanted[hashText(op.ID)] {
				return
			}
			w := which{seqOf(rec), client}
			if rec[recFlags]&isCaused != 0 {
				w.index = unpackCause(rest).index
			}
			if j.dropped[w] {
				return
			}
			o := *op
			o.ID, o.Key, o.Entity, o.Name = strings.Clone(o.ID), strings.Clone(o.Key), strings.Clone(o.Entity), strings.Clone(o.Name)
			o.Error, o.Node, o.Via, o.Digest = strings.Clone(o.Error), strings.Clone(o.Node), strings.Clone(o.Via), strings.Clone(o.Digest)
			o.Args, o.Result = slices.Clone(o.Args), slices.Clone(o.Result)
			j.mu.Lock()
			defer j.mu.Unlock()
			found[o.ID] = o
		})
		if err != nil {
			return err
		}
	}
	j.elsewhere = found
	return nil
}

// judgePart judges the keys of one part one after the other.
func (j *judging) judgePart(w *auditor, p int) error {
	pieces, err := j.c.ops.read(p, &j.c.disk, &w.mem.buf)
	if err != nil {
		return err
	}
	w.mem.recs = w.mem.recs[:0]
	w.mem.touched += touch(pieces)
	eachRecord(pieces, func(rec []byte) { w.mem.recs = append(w.mem.recs, rec) })
	if len(w.mem.recs) == 0 {
		return nil
	}
	groups := newTable(&w.mem.table, len(w.mem.recs))
	w.mem.group = resize(w.mem.group, len(w.mem.recs))
	var sizes []int
	for i, rec := range w.mem.recs {
		g := groups.number(hashOf(rec))
		if g == len(sizes) {
			sizes = append(sizes, 0)
		}
		w.mem.group[i] = int32(g)
		sizes[g]++
	}
	ends := make([]int, len(sizes))
	at := 0
	for g, n := range sizes {
		ends[g] = at
		at += n
	}
	w.mem.byKey = resize(w.mem.byKey, len(w.mem.recs))
	for i, rec := range w.mem.recs {
		g := w.mem.group[i]
		w.mem.byKey[ends[g]] = rec
		ends[g]++
	}
	for g, end := range ends {
		if err := w.judgeRecords(w.mem.byKey[end-sizes[g] : end]); err != nil {
			return err
		}
	}
	return nil
}

// judgeRecords judges one key by its records; several, if they have one hash.
func (w *auditor) judgeRecords(recs [][]byte) error {
	if cap(w.mem.ops) < len(recs) {
		w.mem.ops = make([]history.Op, len(recs)+len(recs)/2)
	}
	ops := w.mem.ops[:len(recs)]
	h := keyOps{ops: w.mem.pointers[:0], causes: w.mem.causes[:0]}
	w.mem.raw = w.mem.raw[:0]
	caused := 0
	for i, rec := range recs {
		op := &ops[i]
		rest := w.c.forms.unpack(rec, op)
		if i > 0 && (op.Key != ops[0].Key || op.Entity != ops[0].Entity) {
			return w.judgeApart(recs)
		}
		if rec[recFlags]&isCaused != 0 {
			caused++
			c := unpackCause(rest)
			c.repeat = len(w.dropped) > 0 && w.dropped[which{seqOf(rec), c.index}]
			h.causes = append(h.causes, c)
			continue
		}
		if len(w.dropped) > 0 && w.dropped[which{seqOf(rec), client}] {
			continue
		}
		h.ops = append(h.ops, op)
		w.mem.raw = append(w.mem.raw, rec)
	}
	h.entityKey = entityKey{ops[0].Entity, ops[0].Key}
	h.clients = len(h.ops)
	if caused > 0 {
		for i, rec := range recs {
			if rec[recFlags]&isCaused != 0 {
				h.ops = append(h.ops, &ops[i])
			}
		}
	}
	w.mem.pointers, w.mem.causes = h.ops, h.causes
	return w.judgeKey(&h)
}

// judgeApart judges records of different keys with the same hash.
func (w *auditor) judgeApart(recs [][]byte) error {
	byKey := map[entityKey][][]byte{}
	for _, rec := range recs {
		var op history.Op
		w.c.forms.unpack(rec, &op)
		k := entityKey{op.Entity, op.Key}
		byKey[k] = append(byKey[k], rec)
	}
	for _, recs := range byKey {
		if err := w.judgeRecords(recs); err != nil {
			return err
		}
	}
	return nil
}

// judgeKey runs the checks that apply on one key.
func (w *auditor) judgeKey(h *keyOps) error {
	again := w.elsewhere != nil
	if again && !w.deferred[h.entityKey] {
		return nil
	}
	if !again {
		if h.clients > 0 {
			w.keys++
		}
		if w.durable && !w.c.witnessOnly {
			if err := w.blackBox(h); err != nil {
				return err
			}
		}
	}
	if !w.witnessed {
		return nil
	}
	return w.witness(h)
}

// blackBox runs the checks that need no witness.
func (w *auditor) blackBox(h *keyOps) error {
	if h.clients == 0 {
		return nil
	}
	decided := false
	for _, b := range blackBoxes {
		decided = decided || h.entity == b.entity && w.blackBoxKey(b, h)
	}
	return w.candidate(h, decided)
}

// witness judges a key by its witness, and what actions and timers did there.
func (w *auditor) witness(h *keyOps) error {
	f := &outcome{entityKey: h.entityKey, check: ofTruth, findings: findings{perKind: listedPerKey}}
	a := &outcome{entityKey: h.entityKey, check: ofAnswers, findings: findings{perKind: listedPerKey}}
	if model.Action(h.entity) {
		w.witnessOps += answers(h, &a.findings)
		w.keep(a)
		return w.callFacts(h, nil)
	}
	k := w.newKey(h, &f.findings)
	switch {
	case k == nil:
		w.keep(f)
		return w.callFacts(h, nil)
	case k.wait():
		return nil
	}
	k.judge()
	w.mem.ids = k.ids[:0]
	w.witnessKeys++
	w.witnessOps += len(k.replies)
	w.keep(f)
	w.keep(&outcome{entityKey: h.entityKey, check: ofWitness, findings: k.findings, lost: k.lost})
	k.fired(&a.findings)
	w.keep(a)
	o := &outcome{entityKey: h.entityKey, check: ofOverdue, findings: findings{perKind: listedPerKey}}
	k.overdue(&o.findings)
	w.keep(o)
	return w.callFacts(h, k)
}

// keep keeps an outcome if there is something in it.
func (w *auditor) keep(o *outcome) {
	if len(o.kinds) == 0 && len(o.notes) == 0 && len(o.lost) == 0 {
		return
	}
	o.entityKey = o.entityKey.clone()
	for i := range o.violations {
		v := &o.violations[i]
		v.Entity, v.Key = strings.Clone(v.Entity), strings.Clone(v.Key)
		for n := range v.Ops {
			v.Ops[n] = strings.Clone(v.Ops[n])
		}
	}
	for i := range o.lost {
		l := &o.lost[i]
		l.Op, l.Entity, l.Key, l.Node = strings.Clone(l.Op), strings.Clone(l.Entity), strings.Clone(l.Key), strings.Clone(l.Node)
	}
	w.outcomes = append(w.outcomes, o)
}

// merged are the findings of one check on all keys, in order of keys.
func (j *judging) merged(check checkOf, all *findings) {
	for _, o := range j.outcomes {
		if o.check == check {
			all.merge(&o.findings)
		}
	}
}

func (j *judging) witnessResult() Result {
	r := Result{Name: "witness", Keys: j.witnessKeys, Ops: j.witnessOps}
	all := findings{perKind: listedInAll}
	switch {
	case !j.opt.Witness:
		all.addNote(note{blocks: true, text: fmt.Sprintf("there is no witness, and nothing else can judge ack: %s", j.opt.Ack)})
	case !j.witnessed:
		all.addNote(note{blocks: true, text: fmt.Sprintf("ack %q: have %s, %s", j.opt.Ack, Durable, Memory)})
	default:
		j.merged(ofTruth, &all)
		j.merged(ofWitness, &all)
		for i := 0; i < len(j.outcomes); {
			k := j.outcomes[i].entityKey
			ofKey := findings{perKind: listedPerKey}
			for ; i < len(j.outcomes) && j.outcomes[i].entityKey == k; i++ {
				if c := j.outcomes[i].check; c == ofAnswers || c == ofCalls || c == ofOverdue {
					ofKey.merge(&j.outcomes[i].findings)
				}
			}
			all.merge(&ofKey)
		}
		if r.Ops == 0 {
			all.addNote(note{blocks: true, text: "no acknowledged operation could be judged"})
		}
	}
	all.fill(&r)
	for _, check := range []checkOf{ofWitness, ofCalls} {
		for _, o := range j.outcomes {
			if o.check == check {
				r.LostAcks = append(r.LostAcks, o.lost...)
			}
		}
	}
	slices.SortStableFunc(r.LostAcks, func(a, b LostAck) int { return cmp.Compare(a.Returned, b.Returned) })
	return r
}
