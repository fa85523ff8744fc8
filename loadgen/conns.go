package loadgen

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// conns is the wire of the http driver: HTTP/1.1 keep-alive connections, opened
// on demand.
type conns struct {
	endpoints []Endpoint
	bodyLimit int
	max       int64 // open connections over all endpoints; the number of concurrent users must not exceed it

	open atomic.Int64 // idle ones and those in use
	// A client uses its own shard, so that clients at work on other CPUs do not
	// wait for each other, and takes from another one rather than connect.
	shards [connShards]connShard
}

const connShards = 8

type connShard struct {
	mu   sync.Mutex
	idle [][]*conn // by endpoint, the last used one at the end
	_    [64]byte  // the next one is on another cache line
}

func newConns(endpoints []Endpoint, max, bodyLimit int) *conns {
	if bodyLimit == 0 {
		bodyLimit = defaultBodyLimit
	}
	p := &conns{endpoints: endpoints, bodyLimit: bodyLimit, max: int64(max)}
	for i := range p.shards {
		p.shards[i].idle = make([][]*conn, len(endpoints))
	}
	return p
}

// exchange makes one attempt over one connection.
func (p *conns) exchange(endpoint int, now, deadline time.Time, r request) (status int, answer []byte, sent bool, err error) {
	c, err := p.get(r.client, endpoint, now, deadline)
	if err != nil {
		return 0, nil, false, fmt.Errorf("connect: %w", err)
	}
	status, answer, sent, err = c.exchange(p.endpoints[endpoint].Addr, r)
	p.put(r.client, endpoint, c)
	return status, answer, sent, err
}

// get returns a connection to the endpoint with deadline set: an idle one that
// is still alive, else a new one. After an error nothing was sent.
func (p *conns) get(client, endpoint int, now, deadline time.Time) (*conn, error) {
	for c := p.pop(client, endpoint); c != nil; c = p.pop(client, endpoint) {
		if c.ready(now, deadline) {
			return c, nil
		}
		p.drop(c)
	}
	for open := p.open.Add(1); open > p.max; open = p.open.Load() {
		victim := p.victim(client)
		if victim == nil {
			break
		}
		p.drop(victim)
	}
	c, err := dial(p.endpoints[endpoint], deadline, p.bodyLimit)
	if err != nil {
		p.open.Add(-1)
	}
	return c, err
}

// put takes back a connection after an exchange.
func (p *conns) put(client, endpoint int, c *conn) {
	if c.done {
		p.drop(c)
		return
	}
	c.idle = time.Now()
	s := &p.shards[client%connShards]
	s.mu.Lock()
	s.idle[endpoint] = append(s.idle[endpoint], c)
	s.mu.Unlock()
}

// pop takes an idle connection to the endpoint, nil if there is none.
func (p *conns) pop(client, endpoint int) *conn {
	for i := range connShards {
		s := &p.shards[(client+i)%connShards]
		s.mu.Lock()
		idle := s.idle[endpoint]
		if last := len(idle) - 1; last >= 0 {
			c := idle[last]
			s.idle[endpoint] = idle[:last]
			s.mu.Unlock()
			return c
		}
		s.mu.Unlock()
	}
	return nil
}

// victim takes an idle connection to any endpoint, nil if there is none.
func (p *conns) victim(client int) *conn {
	for endpoint := range p.endpoints {
		if c := p.pop(client, endpoint); c != nil {
			return c
		}
	}
	return nil
}

func (p *conns) drop(c *conn) {
	c.net.Close()
	p.open.Add(-1)
}

func (p *conns) close() {
	for c := p.victim(0); c != nil; c = p.victim(0) {
		p.drop(c)
	}
}
