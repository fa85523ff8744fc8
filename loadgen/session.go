package loadgen

import "sync"

// session is a client that does one thing after the other: its next operation is
// started when its last one has ended, in the order in which they are due. Its
// methods may be called concurrently.
type session struct {
	mu      sync.Mutex
	busy    bool
	waiting []*flight
	start   func(*flight)
}

// sessions returns that many idle clients, nil if there are none.
func sessions(n int) []session {
	if n == 0 {
		return nil
	}
	return make([]session, n)
}

// ConnsOf is how many connections that many sessions take, so that no client
// waits for a connection of another one, with a share of duplicates that are
// sent beside their operation.
func ConnsOf(sessions int, duplicate float64) int {
	if duplicate > 0 {
		return 2 * sessions
	}
	return sessions
}

// due starts the client's next operation, or has it wait for the last one. What
// waits is not looked at until then: an operation whose timeout has passed in the
// meantime is recorded as unsent when its turn comes. due reports whether f waits,
// by then perhaps no more.
func (c *session) due(f *flight, start func(*flight)) (waits bool) {
	c.mu.Lock()
	c.start = start
	if c.busy {
		f.waited = true
		c.waiting = append(c.waiting, f)
		c.mu.Unlock()
		return true
	}
	c.busy = true
	c.mu.Unlock()
	start(f)
	return false
}

// ended starts the operation that waited for this one to end.
func (c *session) ended() {
	c.mu.Lock()
	if len(c.waiting) == 0 {
		c.busy = false
		c.mu.Unlock()
		return
	}
	f, start := c.waiting[0], c.start
	c.waiting[0] = nil
	c.waiting = c.waiting[1:]
	c.mu.Unlock()
	start(f)
}
