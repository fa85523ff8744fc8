package loadgen

import (
	"fmt"
	"sync"
	"time"
)

// conns is the wire of the http driver: HTTP/1.1 keep-alive connections, opened
// on demand.
type conns struct {
	endpoints []Endpoint
	bodyLimit int
	max       int // open connections over all endpoints; the number of concurrent users must not exceed it

	mu   sync.Mutex
	idle [][]*conn // by endpoint, the last used one at the end
	open int       // idle ones and those in use
}

func newConns(endpoints []Endpoint, max, bodyLimit int) *conns {
	if bodyLimit == 0 {
		bodyLimit = defaultBodyLimit
	}
	return &conns{endpoints: endpoints, bodyLimit: bodyLimit, max: max, idle: make([][]*conn, len(endpoints))}
}

// exchange makes one attempt over one connection.
func (p *conns) exchange(endpoint int, now, deadline time.Time, r request) (status int, answer []byte, sent bool, err error) {
	c, err := p.get(endpoint, now, deadline)
	if err != nil {
		return 0, nil, false, fmt.Errorf("connect: %w", err)
	}
	status, answer, sent, err = c.exchange(p.endpoints[endpoint].Addr, r)
	p.put(endpoint, c)
	return status, answer, sent, err
}

// get returns a connection to the endpoint with deadline set: an idle one that
// is still alive, else a new one. After an error nothing was sent.
func (p *conns) get(endpoint int, now, deadline time.Time) (*conn, error) {
	for c := p.pop(endpoint); c != nil; c = p.pop(endpoint) {
		if c.ready(now, deadline) {
			return c, nil
		}
		p.drop(c)
	}
	p.mu.Lock()
	var victim *conn
	for other := 0; p.open >= p.max && victim == nil && other < len(p.idle); other++ {
		victim = p.popLocked(other)
	}
	p.open++
	p.mu.Unlock()
	if victim != nil {
		p.drop(victim)
	}
	c, err := dial(p.endpoints[endpoint], deadline, p.bodyLimit)
	if err != nil {
		p.mu.Lock()
		p.open--
		p.mu.Unlock()
	}
	return c, err
}

// put takes back a connection after an exchange.
func (p *conns) put(endpoint int, c *conn) {
	if c.done {
		p.drop(c)
		return
	}
	c.idle = time.Now()
	p.mu.Lock()
	p.idle[endpoint] = append(p.idle[endpoint], c)
	p.mu.Unlock()
}

func (p *conns) pop(endpoint int) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.popLocked(endpoint)
}

func (p *conns) popLocked(endpoint int) *conn {
	idle := p.idle[endpoint]
	if len(idle) == 0 {
		return nil
	}
	c := idle[len(idle)-1]
	p.idle[endpoint] = idle[:len(idle)-1]
	return c
}

func (p *conns) drop(c *conn) {
	c.net.Close()
	p.mu.Lock()
	p.open--
	p.mu.Unlock()
}

func (p *conns) close() {
	for endpoint := range p.idle {
		for c := p.pop(endpoint); c != nil; c = p.pop(endpoint) {
			p.drop(c)
		}
	}
}
