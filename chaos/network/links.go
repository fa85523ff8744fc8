package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// linksNet are the addresses at which hosts of Links reach each other: those
// for the documentation of multicast (RFC 6676). The kernel connects no TCP
// socket to a multicast address, so a program that does not use its proxy gets
// ENETUNREACH at once, and nothing of it can leave the machine.
var linksNet = [3]byte{233, 252, 0}

// linkHeld is how many bytes of one direction of a connection may wait in a
// link; what is beyond waits at the sender.
const linkHeld = 1 << 20

// Links joins hosts that are programs on this machine's loopback interface, by
// streams: each host has a forward proxy, whose port says who is calling, and
// what passes through it passes the link between caller and called. It needs no
// privileges, and of the hosts that they use their proxy. Its methods may be
// called concurrently, but not after Close.
type Links struct {
	hosts   []string // Client first
	start   time.Time
	lanes   [][]stream // from, to
	proxies []net.Listener
	ears    []*ear // the observer's, by host

	serving sync.WaitGroup
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc

	mu     sync.Mutex
	joints map[*joint]bool
	closed bool

	probing sync.Mutex
	lines   map[Path]*line // the observer's connections, by pair in the order of hosts
}

// stream is one direction between two hosts.
type stream struct {
	lane
	news chan struct{} // closed and replaced when the filters change; guarded by the lane's mu
}

// OpenLinks gives each host, and Client, a forward proxy on a free port of
// 127.0.0.1.
func OpenLinks(hosts []string) (_ *Links, err error) {
	l := &Links{
		hosts: append([]string{Client}, hosts...), start: time.Now(),
		joints: map[*joint]bool{}, lines: map[Path]*line{},
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if len(l.hosts) > 254 {
		return nil, fmt.Errorf("open links: %d hosts, have room for 253", len(hosts))
	}
	for i, h := range l.hosts {
		if h == "" || slices.Contains(l.hosts[:i], h) {
			return nil, fmt.Errorf("open links: host name %q is empty or twice there", h)
		}
	}
	l.lanes = make([][]stream, len(l.hosts))
	for i := range l.lanes {
		l.lanes[i] = make([]stream, len(l.hosts))
		for j := range l.lanes[i] {
			s := &l.lanes[i][j]
			s.from, s.to, s.news = i, j, make(chan struct{})
		}
	}
	defer func() {
		if err != nil {
			l.Close()
			err = fmt.Errorf("open links: %w", err)
		}
	}()
	for i := range l.hosts {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		l.proxies = append(l.proxies, listener)
		l.serving.Go(func() { l.serve(i, listener) })
		e, err := listen()
		if err != nil {
			return nil, err
		}
		l.ears = append(l.ears, e)
	}
	return l, nil
}

// Close ends the proxies and all connections through them. What is on its way
// is lost.
func (l *Links) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	joints := l.joints
	l.joints = nil
	l.mu.Unlock()
	if closed {
		return nil
	}
	l.cancel()
	var errs []error
	for _, p := range l.proxies {
		errs = append(errs, p.Close())
	}
	for j := range joints {
		j.reset(0)
		j.reset(1)
	}
	for _, e := range l.ears {
		errs = append(errs, e.close())
	}
	l.probing.Lock()
	for _, line := range l.lines {
		line.close()
	}
	l.probing.Unlock()
	l.serving.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close links: %w", err)
	}
	return nil
}

// Addr is the address at which others reach a host through their proxies, on
// the port where it listens on 127.0.0.1; the zero Addr if there is no such
// host. Without a proxy nobody reaches anything there.
func (l *Links) Addr(host string) netip.Addr {
	i := slices.Index(l.hosts, host)
	if i < 0 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{linksNet[0], linksNet[1], linksNet[2], byte(i + 1)})
}

// Proxy is where a host has its proxy, as host:port: SOCKS5 without
// authentication, and HTTP with CONNECT or with absolute URLs; "" if there is no
// such host. SOCKS5 and CONNECT keep the host's connections apart, one for each
// that it opens.
func (l *Links) Proxy(host string) string {
	i := slices.Index(l.hosts, host)
	if i < 0 {
		return ""
	}
	return l.proxies[i].Addr().String()
}

// Dial connects Client to an address of Addr and a port, without a proxy
// between. An error tells apart, as that of a direct connection would, whether
// it was refused.
func (l *Links) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return l.dial(ctx, 0, addr)
}

func (l *Links) lane(p Path) (*stream, error) {
	from, to := slices.Index(l.hosts, p.From), slices.Index(l.hosts, p.To)
	if from < 0 || to < 0 || from == to {
		return nil, fmt.Errorf("no path %s; have those between %q", p, l.hosts)
	}
	return &l.lanes[from][to], nil
}

// Carried is how many bytes of the hosts, not of the observer's probes, came to
// a path since OpenLinks; 0 if there is no such path.
func (l *Links) Carried(p Path) int64 {
	s, err := l.lane(p)
	if err != nil {
		return 0
	}
	return s.bytes.Load()
}

// Apply puts an effect on paths, beside those that they have, until undo is
// called. The seed fixes the random choices for the n-th piece of each path.
//
// Streams lose nothing: what a path with Drop does not let pass arrives after
// undo, as TCP would send it again. An effect on single packets is an error.
func (l *Links) Apply(paths []Path, e Effect, seed uint64) (undo func(), err error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("apply effect: %w", err)
	}
	if e.Loss > 0 || e.Duplicate > 0 || e.Corrupt > 0 || e.Reorder > 0 {
		return nil, errors.New("apply effect: a stream has no packets that could be lost, duplicated, corrupted or reordered")
	}
	var lanes []*stream
	for _, p := range paths {
		s, err := l.lane(p)
		if err != nil {
			return nil, fmt.Errorf("apply effect: %w", err)
		}
		if !slices.Contains(lanes, s) {
			lanes = append(lanes, s)
		}
	}
	l.connectObserver(paths)
	var filters []*filter
	for _, s := range lanes {
		f := newFilter(e, seed, s.from<<8|s.to)
		filters = append(filters, f)
		s.put(f)
		if e.Reject {
			l.sever(s)
		}
	}
	return sync.OnceFunc(func() {
		for i, s := range lanes {
			s.take(filters[i])
		}
	}), nil
}

func (s *stream) put(f *filter) {
	s.change(func(all []*filter) []*filter { return append(all, f) })
	s.tell()
}

func (s *stream) take(f *filter) {
	s.change(func(all []*filter) []*filter {
		return slices.DeleteFunc(all, func(other *filter) bool { return other == f })
	})
	s.tell()
}

// tell wakes those who wait for the filters to change.
func (s *stream) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.news)
	s.news = make(chan struct{})
}

// state is whether nothing passes, or only resets do, and what tells of a
// change.
func (s *stream) state() (shut, rejects bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all := s.filters.Load(); all != nil {
		for _, f := range *all {
			shut = shut || f.Drop || f.Reject
			rejects = rejects || f.Reject
		}
	}
	return shut, rejects, s.news
}

// late is how long a piece of so many bytes that comes now is on its way.
func (s *stream) late(now time.Duration, size int) (late time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all := s.filters.Load(); all != nil {
		var wait time.Duration
		for _, f := range *all {
			if f.Rate > 0 {
				wait = max(wait, f.leaves(now, size)-now)
			}
			late += f.late()
		}
		late += wait
	}
	return late
}

// limited tells whether a rate holds: then what passes has to come in pieces.
func (s *stream) limited() bool {
	all := s.filters.Load()
	return all != nil && slices.ContainsFunc(*all, func(f *filter) bool { return f.Rate > 0 })
}

// open waits until something can pass.
func (s *stream) open(ctx context.Context) error {
	for {
		shut, _, changed := s.state()
		if !shut {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// connect connects a host to what listens on another one: its first packet and
// the answer to it take their time, or do not arrive.
func (l *Links) connect(ctx context.Context, from int, addr string) (c *net.TCPConn, to int, err error) {
	target, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, 0, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	fail := func(err error) (*net.TCPConn, int, error) {
		return nil, 0, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(target), Err: bare(err)}
	}
	ip := target.Addr().Unmap()
	if !ip.Is4() || [3]byte(ip.AsSlice()) != linksNet || int(ip.As4()[3])-1 >= len(l.hosts) || ip.As4()[3] == 0 {
		return fail(syscall.ENETUNREACH) // nobody else is reached from here
	}
	to = int(ip.As4()[3]) - 1
	there, back := &l.lanes[from][to], &l.lanes[to][from]
	if from != to {
		if _, rejects, _ := there.state(); rejects {
			return fail(syscall.ECONNREFUSED)
		}
		if err := there.open(ctx); err != nil {
			return fail(err)
		}
	}
	now := time.Since(l.start)
	late := there.late(now, 0)
	c, err = dialLoopback(ctx, target.Port())
	if err != nil {
		return fail(err)
	}
	late += back.late(now+late, 0)
	if late > 0 {
		select {
		case <-time.After(late):
		case <-ctx.Done():
			c.Close()
			return fail(context.Cause(ctx))
		}
	}
	if from != to {
		if err := back.open(ctx); err != nil {
			c.Close()
			return fail(err)
		}
	}
	return c, to, nil
}

func dialLoopback(ctx context.Context, port uint16) (*net.TCPConn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp4", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// dial is connect with a connection for the caller to use in this process.
func (l *Links) dial(ctx context.Context, from int, addr string) (net.Conn, error) {
	far, to, err := l.connect(ctx, from, addr)
	if err != nil {
		return nil, err
	}
	here, near, err := pair(ctx)
	if err != nil {
		far.Close()
		return nil, err
	}
	l.join(near, far, from, to)
	return here, nil
}

// pair makes a TCP connection of this process with itself.
func pair(ctx context.Context) (a, b *net.TCPConn, err error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer listener.Close()
	a, err = dialLoopback(ctx, listener.Addr().(*net.TCPAddr).AddrPort().Port())
	if err != nil {
		return nil, nil, err
	}
	for {
		c, err := listener.Accept()
		if err != nil {
			a.Close()
			return nil, nil, err
		}
		if c.RemoteAddr().String() == a.LocalAddr().String() {
			return a, c.(*net.TCPConn), nil
		}
		c.Close() // of a stranger
	}
}

// join lets a connection from one host to another pass until it ends.
func (l *Links) join(near, far *net.TCPConn, from, to int) {
	j := &joint{ends: [2]*net.TCPConn{near, far}, hosts: [2]int{from, to}, over: make(chan struct{})}
	j.probe = far.RemoteAddr().(*net.TCPAddr).Port == l.ears[to].port()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		j.reset(0)
		j.reset(1)
		return
	}
	l.joints[j] = true
	l.mu.Unlock()
	var pumping atomic.Int32
	pumping.Store(2)
	for side := range j.ends {
		p := &pump{l: l, joint: j, from: side, lane: &l.lanes[j.hosts[side]][j.hosts[1-side]], back: &l.lanes[j.hosts[1-side]][j.hosts[side]]}
		p.room = sync.NewCond(&p.mu)
		l.serving.Go(func() {
			p.run()
			if pumping.Add(-1) > 0 {
				return
			}
			close(j.over)
			near.Close()
			far.Close()
			l.mu.Lock()
			delete(l.joints, j)
			l.mu.Unlock()
		})
	}
}

// sever resets the ends that send into a path that answers with resets. The
// other ends hear of it when the path is open again.
func (l *Links) sever(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for j := range l.joints {
		for side, host := range j.hosts {
			if host == s.from && j.hosts[1-side] == s.to {
				j.reset(side)
			}
		}
	}
}
