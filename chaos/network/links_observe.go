package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"statequake/history"
)

// observerWithin is how long the observer may take to connect two hosts before
// a fault.
const observerWithin = 500 * time.Millisecond

// Confirm is Switch.Confirm for streams: a probe is a piece of a TCP connection
// that the observer has between the hosts, through the caller's proxy; it is
// "lost" as long as it has not arrived. Reject is shown by a connection that was
// there and is reset, and by a new one that is refused.
func (l *Links) Confirm(ctx context.Context, paths []Path, e Effect) Evidence {
	return confirmAll(ctx, l, paths, e)
}

// Probe is Switch.Probe for a piece of a stream.
func (l *Links) Probe(ctx context.Context, p Path) (time.Duration, bool, error) {
	return probeOne(ctx, l, p)
}

func (l *Links) effects(p Path) ([]Effect, error) {
	s, err := l.lane(p)
	if err != nil {
		return nil, err
	}
	return s.effects(), nil
}

func (l *Links) overhead() int { return lineHeader }

func (l *Links) inOrder() bool { return true }

// connectObserver connects the observer over those of some paths on which
// nothing stops it: in one direction, a probe can pass a path that lets no new
// connection through.
func (l *Links) connectObserver(paths []Path) {
	ctx, cancel := context.WithTimeout(l.ctx, observerWithin)
	defer cancel()
	var connecting sync.WaitGroup
	for _, p := range paths {
		there, err1 := l.lane(p)
		back, err2 := l.lane(Path{p.To, p.From})
		if err1 != nil || err2 != nil {
			continue
		}
		a, _, _ := there.state()
		b, _, _ := back.state()
		if !a && !b {
			connecting.Go(func() { l.line(ctx, p) }) // without one there is less evidence
		}
	}
	connecting.Wait()
}

// ear is where the observer listens for its connections to a host.
type ear struct {
	listener *net.TCPListener
	mu       sync.Mutex
	awaited  map[uint64]chan *net.TCPConn // by the first 8 bytes
}

func listen() (*ear, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &ear{listener: listener.(*net.TCPListener), awaited: map[uint64]chan *net.TCPConn{}}
	go func() {
		for {
			c, err := e.listener.AcceptTCP()
			if err != nil {
				return // closed
			}
			go e.greet(c)
		}
	}()
	return e, nil
}

func (e *ear) port() int { return e.listener.Addr().(*net.TCPAddr).Port }

func (e *ear) close() error { return e.listener.Close() }

// greet hands a connection to who waits for it.
func (e *ear) greet(c *net.TCPConn) {
	var token [8]byte
	c.SetReadDeadline(time.Now().Add(greetWithin))
	if _, err := io.ReadFull(c, token[:]); err != nil {
		c.Close()
		return
	}
	c.SetReadDeadline(time.Time{})
	id := binary.BigEndian.Uint64(token[:])
	e.mu.Lock()
	waiter := e.awaited[id]
	delete(e.awaited, id)
	e.mu.Unlock()
	if waiter == nil {
		c.Close() // too late
		return
	}
	waiter <- c // has room
}

// hear returns the two ends of a connection of the observer that dial makes.
func (e *ear) hear(ctx context.Context, dial func() (*net.TCPConn, error)) (from, to *net.TCPConn, err error) {
	id, come := rand.Uint64(), make(chan *net.TCPConn, 1)
	e.mu.Lock()
	e.awaited[id] = come
	e.mu.Unlock()
	giveUp := func() {
		e.mu.Lock()
		delete(e.awaited, id)
		e.mu.Unlock()
		select {
		case c := <-come:
			c.Close()
		default:
		}
	}
	if from, err = dial(); err != nil {
		giveUp()
		return nil, nil, err
	}
	if _, err := from.Write(binary.BigEndian.AppendUint64(nil, id)); err != nil {
		giveUp()
		from.Close()
		return nil, nil, err
	}
	select {
	case to := <-come:
		return from, to, nil
	case <-ctx.Done():
		giveUp()
		from.Close()
		return nil, nil, context.Cause(ctx)
	}
}

// reach connects the observer over a path, through the proxy of its beginning.
func (l *Links) reach(ctx context.Context, p Path) (from, to *net.TCPConn, err error) {
	if _, err := l.lane(p); err != nil {
		return nil, nil, err
	}
	e := l.ears[slices.Index(l.hosts, p.To)]
	return e.hear(ctx, func() (*net.TCPConn, error) {
		return dialSOCKS(ctx, l.Proxy(p.From), netip.AddrPortFrom(l.Addr(p.To), uint16(e.port())))
	})
}

// dialSOCKS connects to an address through a proxy.
func dialSOCKS(ctx context.Context, proxy string, addr netip.AddrPort) (*net.TCPConn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp4", proxy)
	if err != nil {
		return nil, err
	}
	c := nc.(*net.TCPConn)
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	fail := func(err error) (*net.TCPConn, error) {
		stop()
		c.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	request := []byte{socksVersion, 1, 0, socksVersion, socksConnect, 0, socksIPv4}
	request = append(request, addr.Addr().AsSlice()...)
	request = binary.BigEndian.AppendUint16(request, addr.Port())
	if _, err := c.Write(request); err != nil {
		return fail(err)
	}
	var reply [2 + 10]byte
	if _, err := io.ReadFull(c, reply[:]); err != nil {
		return fail(err)
	}
	switch reply[3] {
	case socksOK:
	case socksRefused:
		return fail(syscall.ECONNREFUSED)
	default:
		return fail(fmt.Errorf("proxy answers %d", reply[3]))
	}
	if !stop() {
		return fail(context.Cause(ctx))
	}
	return c, nil
}

// probeOwn connects to where the observer listens for a host, past all links.
func (l *Links) probeOwn(ctx context.Context, host string) error {
	i := slices.Index(l.hosts, host)
	if i < 0 {
		return fmt.Errorf("unknown host %q; have %q", host, l.hosts)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	e := l.ears[i]
	from, to, err := e.hear(ctx, func() (*net.TCPConn, error) { return dialLoopback(ctx, uint16(e.port())) })
	if err != nil {
		return fmt.Errorf("probe %s from itself: %w", host, err)
	}
	return errors.Join(from.Close(), to.Close())
}

// Hold connects two hosts, through the proxy of the first.
func (l *Links) Hold(ctx context.Context, p Path) (*Held, error) {
	from, to, err := l.reach(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("hold %s: %w", p, err)
	}
	return &Held{from, to}, nil
}

// lineHeader is what stands before the payload of a probe: the number of its
// round, and its length.
const lineHeader = 8

// line is the observer's connection between two hosts; both ends send probes.
type line struct {
	hosts [2]string
	ends  [2]*net.TCPConn
	send  [2]sync.Mutex

	mu     sync.Mutex
	rounds map[uint32]*lineRound
	last   uint32
	err    error // it is of no more use
}

// lineRound is a round under way.
type lineRound struct {
	end     int // that receives
	result  *result
	arrived chan struct{} // has room; after each probe
}

// pair is a path or the way back, the same for both.
func (l *Links) pair(p Path) Path {
	if slices.Index(l.hosts, p.From) > slices.Index(l.hosts, p.To) {
		return Path{p.To, p.From}
	}
	return p
}

// line is the connection between the ends of a path, a new one if there is
// none.
func (l *Links) line(ctx context.Context, p Path) (*line, error) {
	if _, err := l.lane(p); err != nil {
		return nil, err
	}
	pair := l.pair(p)
	known := func() *line {
		l.probing.Lock()
		defer l.probing.Unlock()
		if line := l.lines[pair]; line != nil && line.failed() == nil {
			return line
		}
		return nil
	}
	if line := known(); line != nil {
		return line, nil
	}
	// In the direction of the path, for what is said of a new connection.
	from, to, err := l.reach(ctx, p)
	if err != nil {
		return nil, err
	}
	made := &line{hosts: [2]string{p.From, p.To}, ends: [2]*net.TCPConn{from, to}, rounds: map[uint32]*lineRound{}}
	l.probing.Lock()
	defer l.probing.Unlock()
	if line := l.lines[pair]; line != nil {
		if line.failed() == nil { // somebody was faster
			made.close()
			return line, nil
		}
		line.close()
	}
	if l.ctx.Err() != nil {
		made.close()
		return nil, net.ErrClosed
	}
	l.lines[pair] = made
	for end := range made.ends {
		go made.receive(end)
	}
	return made, nil
}

func (n *line) close() {
	n.ends[0].Close()
	n.ends[1].Close()
}

func (n *line) failed() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// fail makes the line useless. The first reason counts.
func (n *line) fail(err error) {
	n.mu.Lock()
	if n.err == nil {
		n.err = err
	}
	for _, r := range n.rounds {
		select {
		case r.arrived <- struct{}{}:
		default:
		}
	}
	n.mu.Unlock()
}

// receive notes the probes that arrive at one end, until it is closed.
func (n *line) receive(end int) {
	var header [lineHeader]byte
	payload := make([]byte, frameMax)
	for {
		if _, err := io.ReadFull(n.ends[end], header[:]); err != nil {
			n.fail(fmt.Errorf("at %s: %w", n.hosts[end], bare(err)))
			return
		}
		id, size := binary.BigEndian.Uint32(header[:]), binary.BigEndian.Uint32(header[4:])
		if size > frameMax || size < 16 {
			n.fail(fmt.Errorf("at %s: what arrived is no probe", n.hosts[end]))
			return
		}
		if _, err := io.ReadFull(n.ends[end], payload[:size]); err != nil {
			n.fail(fmt.Errorf("at %s: %w", n.hosts[end], bare(err)))
			return
		}
		now := time.Now()
		i, damaged := unseal(payload[:size])
		n.mu.Lock()
		if r := n.rounds[id]; r != nil && r.end == end && i < len(r.result.copies) {
			if r.result.copies[i]++; r.result.copies[i] == 1 {
				r.result.arrived[i] = now
				r.result.order = append(r.result.order, i)
			}
			r.result.damaged[i] = r.result.damaged[i] || damaged
			select {
			case r.arrived <- struct{}{}:
			default:
			}
		}
		n.mu.Unlock()
	}
}

// bare is an error without what it was done to.
func bare(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// probe sends a round over the observer's connection between the hosts.
func (l *Links) probe(ctx context.Context, p Path, plan round) (*result, error) {
	line, err := l.line(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", p, err)
	}
	r := &result{
		sent:    make([]time.Time, plan.n),
		arrived: make([]time.Time, plan.n),
		copies:  make([]int, plan.n),
		damaged: make([]bool, plan.n),
	}
	from := slices.Index(line.hosts[:], p.From)
	under := &lineRound{end: 1 - from, result: r, arrived: make(chan struct{}, 1)}
	line.mu.Lock()
	line.last++
	id := line.last
	line.rounds[id] = under
	line.mu.Unlock()
	defer func() {
		line.mu.Lock()
		defer line.mu.Unlock()
		delete(line.rounds, id)
	}()

	frame := make([]byte, lineHeader+plan.size)
	start := time.Now()
	for i := range plan.n {
		if wait := time.Until(start.Add(time.Duration(i) * plan.gap)); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("probe %s: %w", p, context.Cause(ctx))
		}
		binary.BigEndian.PutUint32(frame, id)
		binary.BigEndian.PutUint32(frame[4:], uint32(plan.size))
		seal(frame[lineHeader:], i)
		if err := line.write(ctx, from, frame, &r.sent[i]); err != nil {
			return nil, fmt.Errorf("probe %s: %w", p, err)
		}
	}
	listen := time.NewTimer(plan.listen)
	defer listen.Stop()
	for all := false; !all; {
		line.mu.Lock()
		all, err = len(r.order) == plan.n, line.err
		line.mu.Unlock()
		if err != nil {
			return nil, fmt.Errorf("probe %s: the connection ended %w", p, err)
		}
		if all {
			break
		}
		select {
		case <-under.arrived:
			continue
		case <-listen.C:
		case <-ctx.Done():
		}
		break
	}
	line.mu.Lock()
	defer line.mu.Unlock()
	return r.copied(), context.Cause(ctx)
}

// copied is a result that does not change any more.
func (r *result) copied() *result {
	return &result{
		sent: slices.Clone(r.sent), arrived: slices.Clone(r.arrived), copies: slices.Clone(r.copies),
		damaged: slices.Clone(r.damaged), order: slices.Clone(r.order),
	}
}

// write sends a frame from one end and notes when. If ctx ends in the midst of
// it the line is of no more use.
func (n *line) write(ctx context.Context, end int, frame []byte, at *time.Time) error {
	n.send[end].Lock()
	defer n.send[end].Unlock()
	if err := n.failed(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { n.ends[end].SetWriteDeadline(time.Unix(1, 0)) })
	n.mu.Lock()
	*at = time.Now()
	n.mu.Unlock()
	_, err := n.ends[end].Write(frame)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		n.fail(fmt.Errorf("at %s: %w", n.hosts[end], bare(err)))
		n.close()
	}
	return err
}

// lookReject looks whether who sends into a path is told: a connection that was
// there is reset, a new one refused.
func (l *Links) lookReject(ctx context.Context, p Path) Evidence {
	at := time.Now()
	var words []string
	proof := history.Confirmed
	from, to, err := l.reach(ctx, p)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		words = append(words, "a new connection was refused")
	case err == nil:
		from.Close()
		to.Close()
		words, proof = append(words, "a new connection was not refused"), history.Mismatch
	default:
		words, proof = append(words, "a new connection: "+err.Error()), history.Inconclusive
	}
	pair := l.pair(p)
	l.probing.Lock()
	line := l.lines[pair]
	l.probing.Unlock()
	if line != nil {
		if err := line.failed(); errors.Is(err, syscall.ECONNRESET) {
			words = append(words, "an old one was reset")
		} else if err == nil {
			words, proof = append(words, "an old one goes on"), history.Mismatch
		}
	}
	return Evidence{Proof: proof, At: at, Detail: strings.Join(words, ", ")}
}
