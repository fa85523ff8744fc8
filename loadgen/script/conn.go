package script

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"statequake/history"
)

// ErrOver says that the load is over, so that nothing more is sent.
var ErrOver = errors.New("the load is over")

// Conn is the end of a script's process. Its methods may be called concurrently.
type Conn struct {
	Welcome
	conn  net.Conn
	now   func() time.Duration
	seq   atomic.Int64
	calls atomic.Int64  // that were sent
	gone  chan struct{} // closed when the harness does not answer any more

	write   sync.Mutex
	mu      sync.Mutex
	waiting map[int64]chan answer
	err     error
}

// Inherited returns the connection to the harness that started this process, nil
// if none did.
func Inherited() (*Conn, error) {
	text, ok := os.LookupEnv(Variable)
	if !ok {
		return nil, nil
	}
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q is not a file descriptor", Variable, text)
	}
	unix.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "harness")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", Variable, text, err)
	}
	return dial(conn)
}

func dial(conn net.Conn) (*Conn, error) {
	c := &Conn{conn: conn, gone: make(chan struct{}), waiting: map[int64]chan answer{}}
	if err := c.send(fromScript{Hello: &hello{version}}); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	var first toScript
	if err := readLine(r, maxAnswer, &first); err != nil {
		return nil, fmt.Errorf("the harness did not answer: %w", err)
	}
	if first.Welcome == nil || first.Welcome.Version != version {
		return nil, fmt.Errorf("the harness speaks another version of the protocol, want %d\nhint: make k6 builds statequake-k6 for this statequake", version)
	}
	c.Welcome = *first.Welcome
	c.now = clock(c.Base)
	go c.read(r)
	return c, nil
}

// clock is the run clock of a process that began when CLOCK_MONOTONIC was base.
// That clock is the same in all processes of a machine, and what Go's own
// monotonic readings are made of; chaos moves the clocks of nodes only.
func clock(base int64) func() time.Duration {
	anchor := time.Now()
	offset := monotonic() - base
	return func() time.Duration { return time.Since(anchor) + time.Duration(offset) }
}

func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic("script: CLOCK_MONOTONIC: " + err.Error()) // every Linux has it
	}
	return t.Nano()
}

// Now is the run clock of the harness.
func (c *Conn) Now() time.Duration { return c.now() }

func (c *Conn) send(message fromScript) error {
	line, err := encode(message)
	if err != nil {
		return err
	}
	if len(line) > MaxCall {
		return fmt.Errorf("an operation takes %d bytes, limit %d", len(line), MaxCall)
	}
	c.write.Lock()
	defer c.write.Unlock()
	_, err = c.conn.Write(line)
	return err
}

// read hands answers to those who wait for them, until the harness is gone.
func (c *Conn) read(r *bufio.Reader) {
	for {
		var m toScript
		if err := readLine(r, maxAnswer, &m); err != nil {
			c.mu.Lock()
			c.err = fmt.Errorf("the harness is gone: %w", err)
			c.mu.Unlock()
			close(c.gone)
			return
		}
		if m.Answer == nil {
			continue
		}
		c.mu.Lock()
		to := c.waiting[m.Answer.N]
		delete(c.waiting, m.Answer.N)
		c.mu.Unlock()
		if to != nil {
			to <- *m.Answer
		}
	}
}

// Begin says that operations are due from an instant on, if none was yet.
func (c *Conn) Begin(at time.Duration) error { return c.send(fromScript{Begin: &at}) }

// Invoke has an operation carried out and returns what a script is told of it.
// It returns ErrOver when the load is over, and ctx's error when that ends first:
// then the operation goes on, and is recorded.
func (c *Conn) Invoke(ctx context.Context, call Call) (history.Op, error) {
	if err := call.Check(); err != nil {
		return history.Op{}, err
	}
	call.N = c.seq.Add(1)
	to := make(chan answer, 1)
	c.mu.Lock()
	c.waiting[call.N] = to
	c.mu.Unlock()
	if err := c.send(fromScript{Call: &call}); err != nil {
		c.mu.Lock()
		delete(c.waiting, call.N)
		c.mu.Unlock()
		return history.Op{}, err
	}
	c.calls.Add(1)
	select {
	case a := <-to:
		if a.Over {
			return history.Op{}, ErrOver
		}
		return history.Op{
			Entity: call.Entity, Key: call.Key, Name: call.Op, Outcome: a.Op.Outcome, Result: a.Op.Result, Version: a.Op.Version,
			Digest: a.Op.Digest, Error: a.Op.Error, Node: a.Op.Node, Scheduled: a.Op.Scheduled, Returned: a.Op.Returned,
		}, nil
	case <-ctx.Done():
		return history.Op{}, context.Cause(ctx)
	case <-c.gone:
		c.mu.Lock()
		defer c.mu.Unlock()
		return history.Op{}, c.err
	}
}

// Unsent reports an operation that was due and not sent; call.Unsent says why.
func (c *Conn) Unsent(call Call) error {
	if err := call.Check(); err != nil {
		return err
	}
	call.N = c.seq.Add(1)
	err := c.send(fromScript{Call: &call})
	if err == nil {
		c.calls.Add(1)
	}
	return err
}

// Report hands over a sample of this process.
func (c *Conn) Report(s history.Sample) error { return c.send(fromScript{Sample: &s}) }

// End is the last word: nothing may follow it.
func (c *Conn) End(thresholds []history.Threshold) error {
	return c.send(fromScript{End: &End{Calls: c.calls.Load(), Thresholds: thresholds}})
}
