package loadgen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"statequake/history"
)

// Codec turns operations into requests of a system under test and its answers
// into outcomes. It must be safe for concurrent use.
type Codec interface {
	// Request returns what to send. Method and path must be printable ASCII
	// without spaces. header may be nil; Host, Content-Length and Statequake-Op
	// are set by the driver, Content-Type is application/json unless given. It
	// must not change op or keep it.
	Request(op *history.Op) (method, path string, header http.Header, body []byte)
	// Response sets Outcome, and Result, Version, Digest, Epoch, Node and Error
	// as far as the answer tells them. It may set fail only if the system says
	// for certain that the operation had no effect. body is the codec's to keep.
	Response(op *history.Op, status int, body []byte)
}

// Endpoint is one node of the system under test.
type Endpoint struct {
	Node string // its name in the history
	Addr string // host:port of its HTTP API

	// Dial makes a TCP connection to Addr; nil means directly. The error of a
	// refused one is syscall.ECONNREFUSED.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// connect connects within dialLimit.
func (e Endpoint) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	if e.Dial != nil {
		return e.Dial(ctx, e.Addr)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", e.Addr)
}

// sender sends operations and decides what became of them. Safe for concurrent
// use.
type sender struct {
	endpoints []Endpoint
	codec     Codec
	wire      wire
	now       func() time.Duration
	zero      time.Time // when now was 0
	meter     *meter
	record    func(*history.Op)

	timeout  time.Duration // of an operation, from its sending, retries included
	patience time.Duration // with one attempt
	retries  int           // after attempts that leave the effect open; twice as many after answers without effect
	once     bool          // no second attempt, whatever happened to the first
	stubborn bool          // try again even after an answer that says the request is wrong
	owners   *owners       // learns who executed what; may be nil
}

// request is one operation as it is sent, in one attempt or in several.
type request struct {
	method, path string
	header       http.Header
	id           string // of the operation
	client       int    // that sends it
	body         []byte
}

// wire carries requests to endpoints. It is safe for concurrent use by as many
// users as it has connections.
type wire interface {
	// exchange makes one attempt, begun now, that ends by deadline. The answer belongs to the
	// caller. After an error sent tells whether the system can have seen the
	// request; when in doubt it is true.
	exchange(endpoint int, now, deadline time.Time, r request) (status int, answer []byte, sent bool, err error)
	// close closes the idle connections; the users must be done.
	close()
}

// target is the part of a driver's config that says where operations go.
type target struct {
	endpoints []Endpoint
	codec     Codec
	timeout   time.Duration
	tag       string
	now       func() time.Duration
	record    func(*history.Op)
	maxBody   int
}

func (t target) check() error {
	if len(t.endpoints) == 0 {
		return errors.New("endpoints: none given")
	}
	for i, e := range t.endpoints {
		if _, _, err := net.SplitHostPort(e.Addr); err != nil || !plain(e.Addr) {
			return fmt.Errorf("endpoints[%d]: %q is not host:port", i, e.Addr)
		}
	}
	switch {
	case t.codec == nil || t.now == nil || t.record == nil:
		return errors.New("codec, now and record must be set")
	case t.timeout <= 0:
		return fmt.Errorf("timeout: %v is not positive", t.timeout)
	case !plain(t.tag):
		return fmt.Errorf("tag: %q is empty or not printable ASCII", t.tag)
	case t.maxBody < 0:
		return fmt.Errorf("max body: %d is negative", t.maxBody)
	}
	return nil
}

func (t target) sender(maxConns int) *sender {
	return &sender{
		endpoints: t.endpoints, codec: t.codec, now: t.now, record: t.record,
		zero: time.Now().Add(-t.now()),
		wire: newConns(t.endpoints, maxConns, t.maxBody), meter: newMeter(t.now),
		timeout: t.timeout, patience: t.timeout,
	}
}

// opID is "<tag>-<phase letter><n>", unique in a run.
func opID(tag string, phase history.Phase, n int64) string {
	b := append(make([]byte, 0, 24), tag...)
	b = append(b, '-', phase[0])
	return string(strconv.AppendInt(b, n, 10))
}

// flight is an operation on its way, in one copy or, as a deliberate duplicate,
// in two that are sent side by side.
type flight struct {
	op       history.Op    // what to send; not changed any more
	route    int           // endpoint of the first attempt of the first copy
	expires  time.Duration // run-clock instant at which it is too late to send it
	deadline time.Duration // run-clock instant at which to give up; 0: the timeout after sending
	handed   bool          // the meter counted it as dispatched
	session  *session      // of the client that it belongs to, nil if to none
	waited   bool          // for its client to be done with its last operation

	legs     int        // copies
	mu       sync.Mutex // of two copies; one needs no lock
	settled  int        // copies
	begun    bool
	sent     time.Duration
	attempts int
	best     *history.Op // the copy that decides
	first    history.Op  // the first copy, or the only one
}

// renew makes f a flight in one copy that has not begun, of the operation that
// is in it. Nobody may be using it.
func (f *flight) renew() {
	f.deadline, f.handed, f.legs, f.settled = 0, false, 1, 0
	f.begun, f.attempts, f.best = false, 0, nil
}

// lock keeps the other copy out, if there is one, until unlock.
func (f *flight) lock() {
	if f.legs > 1 {
		f.mu.Lock()
	}
}

func (f *flight) unlock() {
	if f.legs > 1 {
		f.mu.Unlock()
	}
}

// begin notes the sending of the first copy and returns when to give up.
func (f *flight) begin(now, timeout time.Duration) (deadline time.Duration) {
	f.lock()
	defer f.unlock()
	if !f.begun {
		f.begun, f.sent = true, now
		if f.deadline == 0 {
			f.deadline = now + timeout
		}
	}
	return f.deadline
}

// attempt counts an attempt. It refuses a retry when the other copy was answered
// meanwhile; the first attempt of a copy is always made, since a late duplicate
// is as good a test.
func (f *flight) attempt(retry bool) bool {
	f.lock()
	defer f.unlock()
	if retry && f.best != nil && f.best.Outcome == history.OK {
		return false
	}
	f.attempts++
	return true
}

// weight orders the outcomes of copies: an answer decides, else a doubt, else
// the certainty that nothing happened.
var weight = map[history.Outcome]int{history.Unsent: 1, history.Fail: 2, history.Info: 3, history.OK: 4}

// settle adds what became of one copy and reports whether it was the last one.
func (f *flight) settle(op *history.Op) bool {
	f.lock()
	defer f.unlock()
	old := f.best
	switch {
	case old == nil || weight[op.Outcome] > weight[old.Outcome]:
		f.best = op
	case op.Outcome == history.OK && op.Returned < old.Returned:
		f.best = op
	}
	if old != nil && f.best.Outcome != history.OK {
		f.best.Returned = max(old.Returned, op.Returned)
	}
	f.settled++
	return f.settled == f.legs
}

// send carries one copy of an operation through to its end and records the
// operation if no other copy is left, which it reports. After ctx is done nothing
// new is sent, but an answer on its way is awaited.
func (s *sender) send(ctx context.Context, f *flight, leg, client int) (recorded bool) {
	op := &f.first
	if leg > 0 {
		op = new(history.Op)
	}
	if f.session != nil {
		client = f.op.Client
	}
	now := s.now()
	switch {
	case ctx.Err() != nil:
		*op = f.op
		op.Outcome, op.Error = history.Unsent, "stopped before it was sent"
	case now >= f.expires:
		*op = f.op
		op.Outcome, op.Error = history.Unsent, "no connection was free before its timeout"
		if f.session != nil {
			op.Error = "its client was not done with its last operation, or no connection free, before its timeout"
		}
	default:
		s.run(ctx, f, leg, client, now, op)
	}
	op.Client = client
	if !f.settle(op) {
		return false
	}
	op = f.best
	if op.Outcome != history.Unsent {
		op.Sent, op.Attempts = f.sent, f.attempts
	}
	if op.Outcome == history.OK && s.owners != nil {
		s.owners.learn(op)
	}
	s.meter.complete(op, f.handed)
	s.record(op)
	if f.session != nil {
		f.session.ended()
	}
	return true
}

// run makes the attempts of copy number leg, the first one now, and leaves the
// outcome in op.
func (s *sender) run(ctx context.Context, f *flight, leg, client int, now time.Duration, op *history.Op) {
	r := request{id: f.op.ID, client: client}
	r.method, r.path, r.header, r.body = s.codec.Request(&f.op)
	deadline := f.begin(now, s.timeout)
	if problem := r.check(); problem != "" {
		*op = f.op
		op.Outcome, op.Returned, op.Error = history.Fail, s.now(), problem
		return
	}
	doubt := "" // why an attempt may have had an effect
	refused, denied, doubts := 0, 0, 0
	for try := 0; f.attempt(try > 0); try++ {
		endpoint := (f.route + leg + try) % len(s.endpoints)
		*op = f.op
		op.Client, op.Via = client, s.endpoints[endpoint].Node
		if try > 0 {
			now = s.now()
		}
		wall := s.zero.Add(now)
		status, answer, sent, err := s.wire.exchange(endpoint, wall, wall.Add(min(deadline-now, s.patience)), r)
		op.Returned = s.now()
		if err == nil {
			s.codec.Response(op, status, answer)
		} else {
			op.Outcome, op.Error = history.Info, op.Via+": "+err.Error()
		}

		var again bool
		var pause time.Duration
		switch {
		case op.Outcome == history.OK:
			return
		case !sent:
			op.Outcome = history.Fail
			again = true
			// Every endpoint once, then a rest.
			if refused++; refused%len(s.endpoints) == 0 {
				pause = backoff(refused / len(s.endpoints))
			}
		case op.Outcome == history.Fail:
			denied++
			again = denied <= 2*s.retries && (s.stubborn || status >= 500 || status == 429)
			pause = backoff(denied)
		default:
			op.Outcome = history.Info
			doubts++
			again = doubts <= s.retries
			if doubts > 1 {
				pause = backoff(doubts - 1)
			}
		}
		op.Result, op.Version, op.Digest = nil, -1, ""
		if op.Error == "" {
			op.Error = fmt.Sprintf("%s: status %d", op.Via, status)
		}
		if op.Outcome == history.Info && doubt == "" {
			doubt = op.Error
		}
		if !again || s.once || s.now()+pause >= deadline || !rest(ctx, pause) {
			break
		}
	}
	// No later answer takes an earlier doubt away, except ok.
	if op.Outcome == history.Fail && doubt != "" {
		op.Outcome, op.Error = history.Info, doubt+"; then "+op.Error
	}
	op.Returned = s.now()
}

// check says why a request cannot be sent, "" if it can.
func (r request) check() string {
	if !plain(r.method) || !plain(r.path) {
		return fmt.Sprintf("request %q %q: empty, or not printable ASCII", r.method, r.path)
	}
	if strings.HasPrefix(r.path, "//") {
		return fmt.Sprintf("request %q %q: what follows // would be read as a host", r.method, r.path)
	}
	for name, values := range r.header {
		for _, value := range values {
			if !plain(name) || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c > '~' }) {
				return fmt.Sprintf("request header %q: %q: not printable ASCII", name, value)
			}
		}
	}
	return ""
}

// backoff is the pause before the nth retry, n from 1: 20 ms, doubled each time,
// at most 200 ms.
func backoff(n int) time.Duration {
	return min(20*time.Millisecond<<min(n-1, 4), 200*time.Millisecond)
}

// rest sleeps and reports whether ctx is still alive.
func rest(ctx context.Context, pause time.Duration) bool {
	if pause > 0 {
		t := time.NewTimer(pause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// owners remembers the endpoint that last executed an operation of a key. Safe
// for concurrent use.
type owners struct {
	index map[string]int // of endpoints, by node

	mu sync.Mutex
	of map[EntityKey]int
}

func newOwners(endpoints []Endpoint) *owners {
	o := &owners{index: map[string]int{}, of: map[EntityKey]int{}}
	for i, e := range endpoints {
		o.index[e.Node] = i
	}
	return o
}

func (o *owners) learn(op *history.Op) {
	if i, ok := o.index[op.Node]; ok {
		o.mu.Lock()
		o.of[EntityKey{op.Entity, op.Key}] = i
		o.mu.Unlock()
	}
}

// route returns where to send an operation on the key first; spread if its owner
// is not known.
func (o *owners) route(entity, key string, spread int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i, ok := o.of[EntityKey{entity, key}]; ok {
		return i
	}
	return spread
}
