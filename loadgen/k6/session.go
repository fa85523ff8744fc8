package k6

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"statequake/history"
	"statequake/loadgen"
	"statequake/loadgen/script"
)

// session is what all virtual users of this process share: one test run. Its
// methods may be called concurrently.
type session struct {
	ctx    context.Context // ends with the test
	cancel context.CancelFunc
	began  time.Time
	own    *loadgen.Process
	seq    atomic.Int64 // operations so far, without a harness

	inherit func() (*script.Conn, error)

	mu      sync.Mutex
	asked   bool         // inherit was called
	harness *script.Conn // nil without one
	err     error        // of inherit
	targets map[string]*target
	pacers  map[string]*pacer
	record  *recorder // nil unless this process records
}

func newSession() *session {
	s := &session{began: time.Now(), inherit: script.Inherited, targets: map[string]*target{}, pacers: map[string]*pacer{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// conn is the connection to the harness that started this process, nil without
// one. It is made at the first call, so that a process which only shows its help
// makes none.
func (s *session) conn() (*script.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked {
		s.asked = true
		s.harness, s.err = s.inherit()
		s.own = loadgen.WatchProcess(s.clock())
	}
	return s.harness, s.err
}

// clock is the run clock. The caller holds mu.
func (s *session) clock() func() time.Duration {
	if s.harness != nil {
		return s.harness.Now
	}
	return func() time.Duration { return time.Since(s.began) }
}

// now is an instant on the run clock. conn must have been called.
func (s *session) now() time.Duration {
	if s.harness != nil {
		return s.harness.Now()
	}
	return time.Since(s.began)
}

// recorder returns who records here, nil if nobody does.
func (s *session) recorder() *recorder {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record
}

// sender carries operations out: the harness, or a target of this process.
type sender interface {
	// Invoke returns when the operation is complete, or ctx is done.
	Invoke(ctx context.Context, call script.Call) (history.Op, error)
}

// unsent tells of an operation that was due and that nobody sent.
func (s *session) unsent(call script.Call) {
	conn, err := s.conn()
	switch {
	case err != nil:
	case conn != nil:
		_ = conn.Unsent(call) // a harness that is gone counts no more
	default:
		if r := s.recorder(); r != nil {
			op := s.op(call)
			op.Outcome, op.Error = history.Unsent, call.Unsent
			r.op(&op)
		}
	}
}

// op is the operation of a call without a harness.
func (s *session) op(call script.Call) history.Op {
	op := history.Op{
		N: s.seq.Add(1) - 1, Phase: history.Load, Client: call.VU, Entity: call.Entity, Key: call.Key, Name: call.Op, Args: call.Args,
		Scheduled: call.Due, Version: -1,
	}
	op.ID = loadgen.OpID(tag, op.Phase, op.N)
	return op
}

// target is a system that this process sends to by itself.
type target struct {
	s      *session
	config targetConfig
	client *loadgen.Client
}

// Invoke is sender's.
func (t *target) Invoke(ctx context.Context, call script.Call) (history.Op, error) {
	if err := call.Check(); err != nil {
		return history.Op{}, err
	}
	r := t.s.recorder()
	if r != nil && !r.begin(&call, t) {
		return history.Op{}, script.ErrOver
	}
	op := t.s.op(call)
	done := make(chan history.Op, 1)
	go func() {
		o := t.client.Invoke(ctx, op)
		if r != nil {
			r.flight.Done()
		}
		done <- o
	}()
	select {
	case o := <-done:
		return o, nil
	case <-ctx.Done():
		return history.Op{}, context.Cause(ctx)
	}
}

// target returns the target of a config, which all virtual users share.
func (s *session) target(c targetConfig) (*target, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := fmt.Sprint(c)
	if t := s.targets[name]; t != nil {
		return t, nil
	}
	endpoints, err := c.endpoints()
	if err != nil {
		return nil, err
	}
	t := &target{s: s, config: c}
	t.config.nodes = endpoints
	t.client, err = loadgen.NewClient(loadgen.ClientConfig{
		Endpoints: endpoints, Codec: codec, Timeout: c.timeout, Retry: loadgen.Retry{Max: c.retries}, MaxConns: c.maxConns,
		Now: s.clock(), Record: func(op *history.Op) {
			if r := s.recorder(); r != nil {
				r.op(op)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	s.targets[name] = t
	return t, nil
}

// pacer returns the pacer of that name, which all virtual users share.
func (s *session) pacer(name string, c pacerConfig) (*pacer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pacers[name]
	if p == nil {
		p = &pacer{s: s, name: name, c: c, taken: map[int64]*Slot{}}
		s.pacers[name] = p
	}
	if p.c != c {
		return nil, fmt.Errorf("pacer %q: it was made with other options before\nhint: give the second one a name of its own", name)
	}
	return p, nil
}

// stop ends the arrivals of all pacers; what they leave is reported as unsent.
func (s *session) stop() {
	s.mu.Lock()
	var pacers []*pacer
	for _, p := range s.pacers {
		pacers = append(pacers, p)
	}
	s.mu.Unlock()
	s.cancel()
	for _, p := range pacers {
		p.finish()
	}
}

var errNoTarget = errors.New(`statequake.connect: nothing says where the system is
hint: connect({url: 'http://127.0.0.1:7001'}), connect({run: 'DIRECTORY'}), the environment variable STATEQUAKE_URL or STATEQUAKE_RUN, or a scenario with driver: {k6: script.js}`)
