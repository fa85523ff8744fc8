package loadgen

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"statequake/history"
)

// AuditConfig says which keys to read back.
type AuditConfig struct {
	Endpoints   []Endpoint
	Codec       Codec
	Keys        []EntityKey
	Op          string        // the read: "witness", or any other that takes no args
	Concurrency int           // keys read at the same time; 0 means 16
	Timeout     time.Duration // of one attempt
	MaxBody     int           // bytes of an answer's body, 0 means 8 MiB
	Tag         string
	Now         func() time.Duration // run clock: monotonic, concurrent-safe
	Record      func(*history.Op)    // as in Config; N is First and the index of the key
	First       int64                // number of the first operation, so that the ids of several audits differ
}

// Audit sends the read Op to every key, each again (under the same op id,
// at the endpoints in turn) until it is answered ok or ctx is done, and records
// one operation per key. Give ctx a deadline: it is the limit of an audit of a
// system that does not come back, and cuts attempts short. When ctx is cancelled
// otherwise, attempts that are on their way end within Timeout.
//
// The error says how many keys remained unread and shows the first of them; what
// was read is recorded all the same.
func Audit(ctx context.Context, c AuditConfig) error {
	t := target{c.Endpoints, c.Codec, c.Timeout, c.Tag, c.Now, c.Record, c.MaxBody}
	if c.Concurrency == 0 {
		c.Concurrency = 16
	}
	if c.Concurrency < 0 {
		return fmt.Errorf("audit: concurrency: %d is negative", c.Concurrency)
	}
	if c.Op == "" {
		return errors.New("audit: op must be set")
	}
	if err := t.check(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	var mu sync.Mutex
	var unread int
	var first string
	t.record = func(op *history.Op) {
		if op.Outcome != history.OK {
			mu.Lock()
			if unread++; unread == 1 {
				first = fmt.Sprintf("%s %s: %s", op.Entity, op.Key, op.Error)
			}
			mu.Unlock()
		}
		c.Record(op)
	}
	s := t.sender(c.Concurrency)
	s.retries, s.stubborn = maxRetries, true
	deadline := time.Duration(math.MaxInt64)
	if d, ok := ctx.Deadline(); ok {
		deadline = c.Now() + time.Until(d)
	}

	var next atomic.Int64
	var readers sync.WaitGroup
	for client := range c.Concurrency {
		readers.Go(func() {
			for n := next.Add(1) - 1; n < int64(len(c.Keys)); n = next.Add(1) - 1 {
				s.send(ctx, &flight{
					op: history.Op{
						ID: opID(c.Tag, history.Audit, c.First+n), N: c.First + n, Phase: history.Audit,
						Entity: c.Keys[n].Entity, Key: c.Keys[n].Key, Name: c.Op,
						Scheduled: c.Now(), Version: -1,
					},
					route:    int((c.First + n) % int64(len(c.Endpoints))),
					expires:  math.MaxInt64,
					deadline: deadline,
					legs:     1,
				}, 0, client)
			}
		})
	}
	readers.Wait()
	s.wire.close()
	if unread > 0 {
		return fmt.Errorf("audit: %d of %d keys unread; first %s", unread, len(c.Keys), first)
	}
	return nil
}
