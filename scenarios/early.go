package scenarios

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"statequake/history"
	"statequake/loadgen"
)

const (
	// earlyEvery is the time from one early audit to the next: they are a small
	// part of the load.
	earlyEvery = 50 * time.Millisecond
	// maxHeld is how many operations are kept for early audits. Keys that come
	// when there is no room are left to the end.
	maxHeld = 500_000
)

// Finding is a violation that was found while the load went on.
type Finding struct{ Entity, Key, Kind, Explanation string }

// early audits keys that the load is done with, while it goes on, and has them
// judged. The audit at the end reads them again: what is lost later must not go
// unseen. Its methods may be called concurrently.
type early struct {
	judge func([]history.Op) []Finding
	take  func() []loadgen.Retired
	// audit reads a key back, under this number, and records that. It returns
	// the operation, complete, whatever came of it.
	audit func(n int64, key loadgen.EntityKey) history.Op

	waiting []loadgen.Retired // of run alone

	mu       sync.Mutex
	ops      map[loadgen.EntityKey][]history.Op // that are complete, of keys not audited yet
	held     int                                // in ops
	dropped  map[loadgen.EntityKey]bool         // there was no room for their operations
	audits   int64
	findings []Finding
}

// record keeps a copy of an operation of the load that is complete.
func (e *early) record(op *history.Op) {
	key := loadgen.EntityKey{Entity: op.Entity, Key: op.Key}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dropped[key] {
		return
	}
	if e.held == maxHeld {
		e.held -= len(e.ops[key])
		delete(e.ops, key)
		e.dropped[key] = true
		return
	}
	c := *op
	c.Args, c.Result = slices.Clone(op.Args), slices.Clone(op.Result)
	e.ops[key] = append(e.ops[key], c)
	e.held++
}

// run audits until ctx ends; an audit that is under way then is completed, but
// not judged any more.
func (e *early) run(ctx context.Context) {
	tick := time.NewTicker(earlyEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			e.step(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// step audits one key of which all operations are complete, if there is one, and
// judges it. A key that does not answer is left to the end.
func (e *early) step(ctx context.Context) {
	e.waiting = append(e.waiting, e.take()...)
	key, ops, ok := e.next()
	if !ok || ctx.Err() != nil {
		return
	}
	e.mu.Lock()
	n := e.audits
	e.audits++
	e.mu.Unlock()
	op := e.audit(n, key)
	if op.Outcome != history.OK || ctx.Err() != nil {
		return
	}
	if found := e.judge(append(ops, op)); len(found) > 0 {
		e.mu.Lock()
		e.findings = append(e.findings, found...)
		e.mu.Unlock()
	}
}

// next takes the first retired key of which all operations are complete.
func (e *early) next() (loadgen.EntityKey, []history.Op, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	// Their names stay in dropped: some of their operations may still come.
	e.waiting = slices.DeleteFunc(e.waiting, func(r loadgen.Retired) bool { return e.dropped[r.EntityKey] })
	i := slices.IndexFunc(e.waiting, func(r loadgen.Retired) bool { return int64(len(e.ops[r.EntityKey])) == r.Ops })
	if i < 0 {
		return loadgen.EntityKey{}, nil, false
	}
	key := e.waiting[i].EntityKey
	e.waiting = slices.Delete(e.waiting, i, i+1)
	ops := e.ops[key]
	delete(e.ops, key)
	e.held -= len(ops)
	return key, ops, true
}

// state is what was found so far, and how many audits were made.
func (e *early) state() (findings []Finding, audits int64) {
	if e == nil {
		return nil, 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clip(e.findings), e.audits
}

// newEarly is nil for a run that is not to end at a violation: it has no load
// but that of its scenario.
func (r *run) newEarly() *early {
	if !r.scenario.Abort.Violation {
		return nil
	}
	return &early{
		judge: r.opt.Judge, take: r.workload.TakeRetired, audit: r.auditEarly,
		ops: map[loadgen.EntityKey][]history.Op{}, dropped: map[loadgen.EntityKey]bool{},
	}
}

// auditEarly reads one key back, for no longer than an operation of the load. The
// end of the load does not end it: an audit that is not sent would count as one
// that nobody had time for at the end.
func (r *run) auditEarly(n int64, key loadgen.EntityKey) (got history.Op) {
	timeout := r.scenario.Load.Timeout
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	// What it did not get is in the history.
	_ = loadgen.Audit(ctx, loadgen.AuditConfig{
		Endpoints: r.endpoints, Codec: r.system.codec, Keys: []loadgen.EntityKey{key}, Op: r.system.audit, Concurrency: 1,
		Timeout: timeout, Tag: r.opt.Tag, Now: r.now, First: n,
		Record: func(op *history.Op) {
			got = *op
			got.Args, got.Result = slices.Clone(op.Args), slices.Clone(op.Result)
			r.recordOp(op)
		},
	})
	return got
}

// early reports what contradicts abort.violation: where nothing certain can be
// said of a key before the end.
func (p *parser) early(s *Scenario) {
	if !s.Abort.Violation {
		return
	}
	workload := s.Load.Workload.Name
	own := s.System.Own
	switch _, causes := drainTimes[workload]; {
	case causes:
		p.refuse("abort.violation", "a run without it is judged at its end", "contradicts load.workload.name: %s, whose operations have effects later and elsewhere, so that no key can be judged by itself", workload)
	case own != nil && !own.Witness() && workload != "register":
		p.refuse("abort.violation", witnessHint, "of %s nothing is certain before the end without a witness", workload)
	}
}

// violation is the condition that a violation was found, in words.
func (e *early) violation() string {
	found, _ := e.state()
	if len(found) == 0 {
		return ""
	}
	f := found[0]
	return fmt.Sprintf("a violation of kind %s was found on %s/%s: %s", f.Kind, f.Entity, f.Key, f.Explanation)
}
