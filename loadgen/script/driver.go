package script

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"statequake/history"
	"statequake/loadgen"
)

const (
	// startLimit is how long k6 may take until its script sends the first
	// operation.
	startLimit = 60 * time.Second
	// endGrace is how long it may take to end by itself at the end of the load.
	endGrace = time.Second
	// defaultStopLimit is Config.StopLimit.
	defaultStopLimit = 15 * time.Second
	// maxFlight bounds the calls that a script has open at a time.
	maxFlight = 1 << 16
)

// Exit codes of k6.
const (
	exitThresholds = 99  // a threshold was crossed
	exitAborted    = 105 // it was told to end
)

// Config says which script to run, and how to carry out what it asks for.
type Config struct {
	Binary string // statequake-k6
	Script string
	Dir    string // for k6's files: a copy of the script, k6.log; made if it is not there

	// Start starts a process that ends with this one.
	Start func(*exec.Cmd) error

	Warmup, Duration time.Duration // as in loadgen.Config
	Rate             float64       // of the scenario, as the default of the script's pacer; 0 is none

	// StopLimit is how long k6 may take to end when it is told to, before it is
	// killed; 0 means 15 s.
	StopLimit time.Duration

	Client loadgen.ClientConfig
	Tag    string // of the run, first part of every operation id

	// Sample is called with a sample of k6 each time that one comes, about once a
	// second and at its end: the figures of a load generator are in it.
	Sample func(history.Sample)
}

// Driver is a script that runs. Its methods may be called concurrently.
type Driver struct {
	c      Config
	client *loadgen.Client
	cmd    *exec.Cmd
	log    *log
	conn   net.Conn
	write  sync.Mutex
	exited chan struct{} // closed when k6 has ended
	read   chan struct{} // closed when all that it said is read
	began  chan struct{} // closed when start is known
	flight sync.WaitGroup

	mu        sync.Mutex
	start     time.Duration // the first operation was due
	stop      time.Duration // none is taken that is due from here on
	told      bool          // to end, and so nothing is taken that is due after the load
	n         int64         // operations of the load so far
	drained   int64         // operations after it
	calls     int64         // calls so far, those that came too late included
	open      int
	scheduled map[history.Phase]int64
	touched   []loadgen.EntityKey
	sent      map[loadgen.EntityKey]int64
	hottest   loadgen.EntityKey
	last      history.Sample
	end       *End
	problem   error // k6 broke the protocol
}

// Start runs the script and returns when its first operation is due: that
// instant of the run clock is the start of the load. When ctx is done nothing
// more is sent.
func Start(ctx context.Context, c Config) (*Driver, time.Duration, error) {
	c.StopLimit = cmp.Or(c.StopLimit, defaultStopLimit)
	client, err := loadgen.NewClient(c.Client)
	if err != nil {
		return nil, 0, err
	}
	d := &Driver{
		c: c, client: client, exited: make(chan struct{}), read: make(chan struct{}), began: make(chan struct{}),
		stop: -1, scheduled: map[history.Phase]int64{history.Warmup: 0, history.Load: 0}, sent: map[loadgen.EntityKey]int64{},
	}
	if err := d.spawn(); err != nil {
		client.Close()
		return nil, 0, err
	}
	go d.listen(ctx)
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case <-d.began:
		return d, d.start, nil
	case <-d.exited:
		<-d.read
		select {
		case <-d.began: // a very short one
			return d, d.start, nil
		default:
		}
		if err = d.failure(false); err == nil {
			err = errors.New("k6: the script ended without an operation\nhint: import statequake from 'k6/x/statequake', connect() and invoke")
		}
	case <-limit.C:
		err = fmt.Errorf("k6: the script sent no operation within %v", startLimit)
	case <-ctx.Done():
		err = fmt.Errorf("k6: stopped before the script sent an operation: %w", context.Cause(ctx))
	}
	d.kill()
	client.Close()
	return nil, 0, err
}

// spawn starts k6 with one end of a pair of sockets as its descriptor 3. Nobody
// else can get at it, and no path is too long for it.
func (d *Driver) spawn() error {
	script, err := filepath.Abs(d.c.Script)
	if err != nil {
		return fmt.Errorf("k6: %w", err)
	}
	text, err := os.ReadFile(script)
	if err != nil {
		return fmt.Errorf("k6: read the script: %w", err)
	}
	if err := os.MkdirAll(d.c.Dir, 0o755); err != nil {
		return fmt.Errorf("k6: %w", err)
	}
	if err := os.WriteFile(filepath.Join(d.c.Dir, "script.js"), text, 0o644); err != nil {
		return fmt.Errorf("k6: keep the script: %w", err)
	}
	if d.log, err = openLog(filepath.Join(d.c.Dir, "k6.log")); err != nil {
		return fmt.Errorf("k6: %w", err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("k6: socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "k6"), os.NewFile(uintptr(pair[1]), "harness")
	defer ours.Close()
	defer theirs.Close()
	if d.conn, err = net.FileConn(ours); err != nil {
		return fmt.Errorf("k6: socket: %w", err)
	}
	cmd := exec.Command(d.c.Binary, "run", "--no-color", "--quiet", "--no-usage-report", "--address", "", "--out", "statequake", script)
	cmd.Env = append(os.Environ(), Variable+"=3", DurationVariable+"="+(d.c.Warmup+d.c.Duration).String(),
		"K6_AUTO_EXTENSION_RESOLUTION=false", "K6_NO_USAGE_REPORT=true")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stdout, cmd.Stderr = d.log, d.log
	cmd.WaitDelay = time.Second
	if err := d.c.Start(cmd); err != nil {
		d.conn.Close()
		return fmt.Errorf("k6: start %s: %w", d.c.Binary, err)
	}
	d.cmd = cmd
	go func() {
		_ = cmd.Wait() // ProcessState has it
		d.log.close()
		close(d.exited)
	}()
	return nil
}

// listen takes what k6 says until its end of the socket is closed.
func (d *Driver) listen(ctx context.Context) {
	defer close(d.read)
	defer d.conn.Close()
	r := bufio.NewReaderSize(d.conn, 64<<10)
	for {
		var m fromScript
		err := readLine(r, MaxCall, &m)
		if err == nil {
			err = d.take(ctx, m)
		} else if d.gone(err) {
			return
		}
		if err != nil {
			d.mu.Lock()
			d.problem = fmt.Errorf("k6: its extension broke the protocol: %w", err)
			d.mu.Unlock()
			_ = d.cmd.Process.Kill() // nothing that it says can be relied on
			return
		}
	}
}

// gone tells whether a failed read only says that k6 has ended, perhaps in the
// middle of a line.
func (d *Driver) gone(err error) bool {
	var op *net.OpError
	return isEOF(err) || errors.As(err, &op)
}

func (d *Driver) take(ctx context.Context, m fromScript) error {
	switch {
	case m.Hello != nil:
		if m.Hello.Version != version {
			return fmt.Errorf("it speaks version %d, want %d", m.Hello.Version, version)
		}
		base := monotonic() - int64(d.c.Client.Now())
		return d.tell(toScript{Welcome: &Welcome{
			Version: version, Tag: d.c.Tag, Base: base, Warmup: d.c.Warmup, Duration: d.c.Warmup + d.c.Duration,
			Timeout: d.c.Client.Timeout, Rate: d.c.Rate,
		}})
	case m.Begin != nil:
		d.begin(*m.Begin)
	case m.Call != nil:
		return d.call(ctx, m.Call)
	case m.Sample != nil:
		d.mu.Lock()
		d.last = *m.Sample
		d.mu.Unlock()
		if d.c.Sample != nil {
			d.c.Sample(*m.Sample)
		}
	case m.End != nil:
		d.mu.Lock()
		d.end = m.End
		d.mu.Unlock()
	}
	return nil
}

func (d *Driver) tell(m toScript) error {
	line, err := encode(m)
	if err != nil {
		return err
	}
	d.write.Lock()
	defer d.write.Unlock()
	_, _ = d.conn.Write(line) // k6 may be gone, and then nobody waits for it
	return nil
}

// begin sets the start of the load, unless it is set.
func (d *Driver) begin(at time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.began:
	default:
		d.start = at
		close(d.began)
	}
}

// call carries out one call, beside what else is under way.
func (d *Driver) call(ctx context.Context, c *Call) error {
	if err := c.Check(); err != nil {
		return err
	}
	d.begin(c.Due)
	d.mu.Lock()
	d.calls++
	end := d.start + d.c.Warmup + d.c.Duration
	late := c.Due >= end
	if d.stop >= 0 && c.Due >= d.stop || late && (c.Unsent != "" || d.told) {
		d.mu.Unlock()
		if c.Unsent != "" {
			return nil
		}
		return d.tell(toScript{Answer: &answer{N: c.N, Over: true}})
	}
	if d.open >= maxFlight {
		d.mu.Unlock()
		return fmt.Errorf("more than %d operations at a time", maxFlight)
	}
	// What a user goes on to do in the iteration that it is in is recorded, and no
	// part of the load.
	n, phase := &d.n, history.Load
	switch {
	case late:
		n, phase = &d.drained, history.Drain
	case c.Due < d.start+d.c.Warmup:
		phase = history.Warmup
	}
	op := history.Op{
		N: *n, Phase: phase, Client: c.VU, Entity: c.Entity, Key: c.Key, Name: c.Op, Args: c.Args, Scheduled: c.Due,
	}
	op.ID = loadgen.OpID(d.c.Tag, phase, op.N)
	*n++
	if !late {
		d.scheduled[phase]++
	}
	if c.Unsent == "" {
		d.touch(&op)
		d.open++
	}
	d.mu.Unlock()
	if c.Unsent != "" {
		op.Error = c.Unsent
		d.client.Unsent(op)
		return nil
	}
	d.flight.Go(func() {
		done := d.client.Invoke(ctx, op)
		d.mu.Lock()
		d.open--
		d.mu.Unlock()
		_ = d.tell(toScript{Answer: &answer{N: c.N, Op: result{
			Outcome: done.Outcome, Result: valid(done.Result), Version: done.Version, Digest: done.Digest,
			Error: done.Error, Node: done.Node, Scheduled: done.Scheduled, Returned: done.Returned,
		}}})
	})
	return nil
}

// touch notes the entities of an operation. The caller holds mu.
func (d *Driver) touch(op *history.Op) {
	for _, key := range loadgen.Touches(op) {
		if d.sent[key] == 0 {
			d.touched = append(d.touched, key)
		}
		d.sent[key]++
		if d.sent[key] > d.sent[d.hottest] {
			d.hottest = key
		}
	}
}

// Run waits until the load is over and k6 has ended, and returns when all
// operations are recorded. When ctx is done the load ends there, as with
// loadgen.Generator.
//
// An error says that k6 failed, with its own words, or that operations are missing
// from the record. Thresholds that were crossed are none.
func (d *Driver) Run(ctx context.Context) (loadgen.Result, error) {
	whole := d.c.Warmup + d.c.Duration
	last := time.NewTimer(d.start + whole - d.c.Client.Now())
	defer last.Stop()
	told := false
	stopped := ""
	select {
	case <-d.exited:
		if at := d.c.Client.Now() - d.start; at < whole-endGrace {
			stopped = fmt.Sprintf("k6 ended after %v of %v", at.Round(time.Millisecond), whole)
		}
	case <-last.C:
		if !d.ended(endGrace) {
			told = true
			d.mu.Lock()
			d.told = true
			d.mu.Unlock()
		}
	case <-ctx.Done():
		told = true
		at := d.c.Client.Now()
		d.mu.Lock()
		d.stop = at
		d.mu.Unlock()
		stopped = fmt.Sprintf("stopped at %v of %v: %v", max(at-d.start, 0).Round(time.Millisecond), whole, context.Cause(ctx))
	}
	killed := false
	if told {
		_ = d.cmd.Process.Signal(syscall.SIGINT)
		if !d.ended(d.c.StopLimit) {
			killed = true
			d.kill()
		}
	}
	<-d.exited
	<-d.read
	d.flight.Wait()
	d.client.Close()

	d.mu.Lock()
	defer d.mu.Unlock()
	r := loadgen.Result{Scheduled: d.scheduled, Stopped: stopped}
	if killed && r.Stopped == "" {
		r.Stopped = fmt.Sprintf("k6 did not end within %v after the load and was killed", d.c.StopLimit)
	}
	if d.end != nil {
		r.Thresholds = d.end.Thresholds
	}
	switch {
	case d.problem != nil:
		return r, d.problem
	case !killed:
		if err := d.failure(told); err != nil {
			return r, err
		}
		if d.end == nil {
			return r, errors.New("k6 ended without its last word")
		}
		if d.end.Calls != d.calls {
			return r, fmt.Errorf("identity: k6 sent %d operations, %d came in", d.end.Calls, d.calls)
		}
	}
	return r, d.client.Identity(d.scheduled)
}

// ended waits for k6 to end, for so long.
func (d *Driver) ended(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-d.exited:
		return true
	case <-timer.C:
		return false
	}
}

// kill ends k6 and waits for that.
func (d *Driver) kill() {
	_ = d.cmd.Process.Kill()
	<-d.exited
	<-d.read
}

// failure words what k6 ended with if that is a failure, told whether it was told
// to end.
func (d *Driver) failure(told bool) error {
	state := d.cmd.ProcessState
	switch code := state.ExitCode(); {
	case code == 0, code == exitThresholds, told && code == exitAborted:
		return nil
	default:
		said := d.log.errors()
		if said == "" {
			said = "it says nothing more"
		}
		return fmt.Errorf("k6 ended with %s: %s\nhint: all that it said is in %s", state, said, d.log.path)
	}
}

// Stats returns the state of the load. Lags, and what stalled k6, are those of its
// last sample.
func (d *Driver) Stats() loadgen.Stats {
	s := d.client.Stats()
	d.mu.Lock()
	defer d.mu.Unlock()
	s.LagP50, s.LagP99, s.LagMax = d.last.LagP50, d.last.LagP99, d.last.LagMax
	s.StallMax = max(s.StallMax, d.last.StallMax)
	s.Dispatched = d.last.Dispatched
	return s
}

// TakeOwnDelay is loadgen.Generator's; that of k6 is in its samples.
func (d *Driver) TakeOwnDelay() (p99, most time.Duration) { return d.client.TakeOwnDelay() }

// Running tells whether k6 runs. While it does, its samples come from itself.
func (d *Driver) Running() bool {
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}

// Touched returns every entity that an operation touched, in order of first use.
func (d *Driver) Touched() []loadgen.EntityKey {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]loadgen.EntityKey(nil), d.touched...)
}

// Hottest returns the entity that most operations touched so far, "" before the
// first one.
func (d *Driver) Hottest() (entity, key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hottest.Entity, d.hottest.Key
}
