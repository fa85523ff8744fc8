package network

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Client is the host that the harness is.
const Client = "client"

// Path is one direction between two hosts.
type Path struct{ From, To string }

func (p Path) String() string { return p.From + "->" + p.To }

// Counters are what the switch did to the packets of a path since Open.
type Counters struct {
	Packets, Bytes int64 // that came; bytes of whole frames

	Dropped, Delayed, Duplicated, Corrupted int64 // by effects, in copies

	Overrun int64 // that the switch itself lost: too many held, or the receiver's queue full
}

const (
	// firstNet and nets bound the second byte of the addresses.
	firstNet, nets = 200, 56

	// linksWithin is how long links may take to carry packets.
	linksWithin = 10 * time.Second

	// maxHeld is how many bytes of a path may wait in the switch.
	maxHeld = 32 << 20

	// portBuffer is how many bytes may wait for the switch at a port.
	portBuffer = 4 << 20
)

// Switch joins hosts. Its methods may be called concurrently, but not after
// Close.
type Switch struct {
	hosts []string // Client first
	net   [3]byte  // of all addresses
	start time.Time

	own   *namespace   // the switch's
	homes []*namespace // the hosts'; nil for Client
	ports []*os.File   // packet sockets on the links
	fds   []int        // of ports
	lanes [][]lane     // from, to

	forwarding sync.WaitGroup

	mu     sync.Mutex // after a lane's
	held   packets
	count  uint64 // of all packets ever held
	closed bool
	alarm  int // eventfd: the first held packet is another one
}

// lane is a path at work.
type lane struct {
	from, to int
	filters  atomic.Pointer[[]*filter] // nil if there are none; the slice never changes
	packets, bytes,
	dropped, delayed, duplicated, corrupted, overrun atomic.Int64

	mu    sync.Mutex // guards the filters' insides, and changes of filters
	fates []fate
	held  atomic.Int64 // bytes
}

// packet is one that waits for its time.
type packet struct {
	at    time.Duration
	order uint64
	lane  *lane
	size  int
	frame [frameMax]byte
}

// packets is a heap, the earliest first.
type packets []*packet

func (q packets) Len() int { return len(q) }
func (q packets) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q packets) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *packets) Push(p any)   { *q = append(*q, p.(*packet)) }
func (q *packets) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return p
}

var pool = sync.Pool{New: func() any { return new(packet) }}

// Open makes a namespace for each host and joins them and Client. Client has
// the address 10.N.0.1 and the hosts have 10.N.0.2 and so on, in their order;
// N is the first from 200 to 255 that no other switch uses and that is not in
// use in the harness's namespace otherwise.
//
// In the harness's namespace it makes one interface, statequake0 or a higher
// number.
func Open(hosts []string) (_ *Switch, err error) {
	s := &Switch{hosts: append([]string{Client}, hosts...), start: time.Now(), alarm: -1}
	if len(s.hosts) > 254 {
		return nil, fmt.Errorf("open switch: %d hosts, have room for 253", len(hosts))
	}
	for i, h := range s.hosts {
		if h == "" || slices.Contains(s.hosts[:i], h) {
			return nil, fmt.Errorf("open switch: host name %q is empty or twice there", h)
		}
	}
	defer func() {
		if err != nil {
			s.Close()
			err = fmt.Errorf("open switch: %w", err)
		}
	}()
	s.lanes = make([][]lane, len(s.hosts))
	for i := range s.lanes {
		s.lanes[i] = make([]lane, len(s.hosts))
		for j := range s.lanes[i] {
			s.lanes[i][j].from, s.lanes[i][j].to = i, j
		}
	}
	if s.alarm, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, err
	}
	if s.own, err = newNamespace(); err != nil {
		s.own = nil
		return nil, err
	}
	if err := s.joinClient(); err != nil {
		return nil, fmt.Errorf("join %s: %w", Client, err)
	}
	for i, host := range s.hosts[1:] {
		if err := s.join(i + 1); err != nil {
			return nil, fmt.Errorf("join %s: %w", host, err)
		}
	}
	for from := range s.ports {
		s.forwarding.Go(func() { s.forward(from) })
	}
	s.forwarding.Add(1)
	onOwnThread(func() {
		defer s.forwarding.Done()
		s.release()
	})
	if err := s.awaitLinks(); err != nil {
		return nil, err
	}
	return s, nil
}

// awaitLinks waits until packets pass every link both ways: an interface that
// is up drops them until a worker of the kernel has seen its carrier.
func (s *Switch) awaitLinks() error {
	ctx, cancel := context.WithTimeout(context.Background(), linksWithin)
	defer cancel()
	for _, host := range s.hosts[1:] {
		for _, p := range []Path{{Client, host}, {host, Client}} {
			for passed := false; !passed; {
				if ctx.Err() != nil {
					return fmt.Errorf("no packet passed %s within %v", p, linksWithin)
				}
				short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
				var err error
				_, passed, err = s.Probe(short, p)
				cancel()
				if err != nil && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
					return err
				}
			}
		}
	}
	for i := range s.lanes {
		for j := range s.lanes[i] {
			s.lanes[i][j].packets.Store(0)
			s.lanes[i][j].bytes.Store(0)
		}
	}
	return nil
}

// joinClient finds a net for the switch and joins the harness's namespace to
// it.
func (s *Switch) joinClient() error {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	private := !slices.ContainsFunc(addrs, func(a net.Addr) bool { return !a.(*net.IPNet).IP.IsLoopback() })
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(here)
	for i := range nets {
		s.net = [3]byte{10, byte(firstNet + i), 0}
		ours := netip.PrefixFrom(s.addr(0), 24)
		if slices.ContainsFunc(addrs, func(a net.Addr) bool {
			theirs, err := netip.ParsePrefix(a.String())
			return err == nil && theirs.Overlaps(ours)
		}) {
			continue
		}
		name := fmt.Sprintf("statequake%d", i)
		err := s.own.do(func() error { return newLink(port(0), name, here) })
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return err
		}
		if private { // else it is the machine's, and not ours to tune
			healFast()
		}
		s.homes = append(s.homes, nil)
		if err := up(name, ours); err != nil {
			return err
		}
		return s.plug(0)
	}
	return fmt.Errorf("10.%d.0.0/24 to 10.%d.0.0/24 are all in use", firstNet, firstNet+nets-1)
}

// join makes the namespace of a host.
func (s *Switch) join(host int) error {
	home, err := newNamespace()
	if err != nil {
		return err
	}
	s.homes = append(s.homes, home)
	if err := s.own.do(func() error { return newLink(port(host), "eth0", home.fd) }); err != nil {
		return err
	}
	if err := home.do(func() error { return up("eth0", netip.PrefixFrom(s.addr(host), 24)) }); err != nil {
		return err
	}
	return s.plug(host)
}

// port is the name of the switch's end of a link.
func port(host int) string { return fmt.Sprintf("port%d", host) }

// plug opens the switch's end of a link.
func (s *Switch) plug(host int) error {
	return s.own.do(func() error {
		name := port(host)
		if err := up(name, netip.Prefix{}); err != nil {
			return err
		}
		link, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		// No protocol yet: it would receive from all ports.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a packet socket (it takes CAP_NET_RAW): %w", err)
		}
		s.fds = append(s.fds, fd)
		s.ports = append(s.ports, os.NewFile(uintptr(fd), name))
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, portBuffer) != nil {
			// As much as an ordinary user may have.
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, portBuffer)
		}
		// Bound to IPv4 the socket does not see what the switch itself sends.
		const ipv4 = unix.ETH_P_IP>>8 | unix.ETH_P_IP&0xff<<8 // in network order
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ipv4, Ifindex: link.Index}); err != nil {
			return fmt.Errorf("bind a packet socket: %w", err)
		}
		return nil
	})
}

// Close takes everything down: links, namespaces, and processes that were
// started with a parent death signal. What the switch holds is lost.
func (s *Switch) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.ring()
	for _, p := range s.ports {
		p.SetReadDeadline(time.Unix(0, 1)) // wakes forward
	}
	s.forwarding.Wait()
	var err error
	if s.own != nil {
		err = s.own.do(func() error {
			var errs []error
			for i := range s.ports {
				errs = append(errs, removeLink(port(i)))
			}
			return errors.Join(errs...)
		})
		s.own.close()
	}
	for _, p := range s.ports {
		p.Close()
	}
	for _, h := range s.homes {
		if h != nil {
			h.close()
		}
	}
	unix.Close(s.alarm)
	if err != nil {
		return fmt.Errorf("close switch: %w", err)
	}
	return nil
}

func (s *Switch) addr(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{s.net[0], s.net[1], s.net[2], byte(host + 1)})
}

// Addr is the address of a host; the zero Addr if there is no such host.
func (s *Switch) Addr(host string) netip.Addr {
	i := slices.Index(s.hosts, host)
	if i < 0 {
		return netip.Addr{}
	}
	return s.addr(i)
}

// home is the namespace of a host, nil for Client's.
func (s *Switch) home(host string) (*namespace, error) {
	i := slices.Index(s.hosts, host)
	if i < 0 {
		return nil, fmt.Errorf("unknown host %q; have %q", host, s.hosts)
	}
	return s.homes[i], nil
}

// Start starts cmd in the namespace of a host, and so that it is killed when
// the switch is closed or this process ends. start is called on a thread that
// is in that namespace and stays there until Close; nil means cmd.Start.
func (s *Switch) Start(host string, cmd *exec.Cmd, start func(*exec.Cmd) error) error {
	home, err := s.home(host)
	if err != nil {
		return err
	}
	if home == nil {
		return fmt.Errorf("start on %s: it is the harness itself", Client)
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if start == nil {
		start = (*exec.Cmd).Start
	}
	return home.do(func() error { return start(cmd) })
}

// Do calls f on a thread that is in the namespace of a host, for opening
// sockets there; f may block.
func (s *Switch) Do(host string, f func() error) error {
	home, err := s.home(host)
	if err != nil {
		return err
	}
	if home == nil {
		return f()
	}
	return home.visit(f)
}

// Listen listens on a host, on ":PORT" or "127.0.0.1:PORT".
func (s *Switch) Listen(host, addr string) (l net.Listener, err error) {
	err = s.Do(host, func() error {
		l, err = net.Listen("tcp4", addr)
		return err
	})
	return l, err
}

// Dial connects a host to an address and port.
func (s *Switch) Dial(ctx context.Context, host, addr string) (c net.Conn, err error) {
	err = s.Do(host, func() error {
		c, err = new(net.Dialer).DialContext(ctx, "tcp4", addr)
		return err
	})
	return c, err
}

func (s *Switch) lane(p Path) (*lane, error) {
	from, to := slices.Index(s.hosts, p.From), slices.Index(s.hosts, p.To)
	if from < 0 || to < 0 || from == to {
		return nil, fmt.Errorf("no path %s; have those between %q", p, s.hosts)
	}
	return &s.lanes[from][to], nil
}

// Counters are those of a path, not all read at one instant; zero if there is
// no such path.
func (s *Switch) Counters(p Path) Counters {
	l, err := s.lane(p)
	if err != nil {
		return Counters{}
	}
	return Counters{
		Packets: l.packets.Load(), Bytes: l.bytes.Load(),
		Dropped: l.dropped.Load(), Delayed: l.delayed.Load(),
		Duplicated: l.duplicated.Load(), Corrupted: l.corrupted.Load(),
		Overrun: l.overrun.Load(),
	}
}

// Apply puts an effect on paths, beside those that they have, until undo is
// called. The seed fixes the random choices for the n-th packet of each path.
//
// With Drop, what the paths hold is lost too; a packet that is just being
// forwarded may still pass. With undo, what the paths hold arrives at once.
func (s *Switch) Apply(paths []Path, e Effect, seed uint64) (undo func(), err error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("apply effect: %w", err)
	}
	if e.Reject {
		return nil, errors.New("apply effect: a switch does not answer packets, so it cannot reject them")
	}
	var lanes []*lane
	for _, p := range paths {
		l, err := s.lane(p)
		if err != nil {
			return nil, fmt.Errorf("apply effect: %w", err)
		}
		if !slices.Contains(lanes, l) {
			lanes = append(lanes, l)
		}
	}
	var filters []*filter
	for _, l := range lanes {
		f := newFilter(e, seed, l.from<<8|l.to)
		filters = append(filters, f)
		l.change(func(all []*filter) []*filter { return append(all, f) })
		if e.Drop {
			s.purge(l)
		}
	}
	return sync.OnceFunc(func() {
		for i, l := range lanes {
			l.change(func(all []*filter) []*filter {
				return slices.DeleteFunc(all, func(f *filter) bool { return f == filters[i] })
			})
			s.flush(l)
		}
	}), nil
}

// change replaces the filters of a path.
func (l *lane) change(f func(all []*filter) []*filter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*filter
	if old := l.filters.Load(); old != nil {
		all = slices.Clone(*old)
	}
	if all = f(all); len(all) == 0 {
		l.filters.Store(nil)
	} else {
		l.filters.Store(&all)
	}
}

// forward forwards what comes from a host until Close.
func (s *Switch) forward(from int) {
	raw, err := s.ports[from].SyscallConn()
	if err != nil {
		return // closed
	}
	var buffer [frameMax + 1]byte
	// It is called anew whenever there is something to read.
	raw.Read(func(fd uintptr) bool {
		for {
			n, err := unix.Read(int(fd), buffer[:])
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err != unix.EAGAIN
			}
			s.packet(from, buffer[:n])
		}
	})
}

// packet forwards one packet.
func (s *Switch) packet(from int, frame []byte) {
	if len(frame) < 14+20 || len(frame) > frameMax || [3]byte(frame[30:33]) != s.net {
		return
	}
	to := int(frame[33]) - 1 // the last byte of the IPv4 destination
	if to < 0 || to >= len(s.hosts) || to == from {
		return
	}
	l := &s.lanes[from][to]
	l.packets.Add(1)
	l.bytes.Add(int64(len(frame)))
	if l.filters.Load() == nil {
		s.send(l, frame)
		return
	}
	s.shape(l, frame)
}

func (s *Switch) send(l *lane, frame []byte) {
	if _, err := unix.Write(s.fds[l.to], frame); err != nil {
		l.overrun.Add(1)
	}
}

// shape applies the filters of a path to a packet.
func (s *Switch) shape(l *lane, frame []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var filters []*filter
	if all := l.filters.Load(); all != nil {
		filters = *all
	}
	for _, f := range filters {
		if f.Drop {
			l.dropped.Add(1)
			return
		}
	}
	now := time.Since(s.start)
	var t tally
	fates := append(l.fates[:0], fate{flip: -1})
	for _, f := range filters {
		fates = f.pass(now, len(frame), fates, &t)
	}
	l.fates = fates
	for _, c := range fates {
		if c.wait+c.delay > 0 {
			t.delayed++
		} else if c.flip < 0 {
			s.send(l, frame)
			continue
		}
		p := pool.Get().(*packet)
		p.lane, p.size = l, copy(p.frame[:], frame)
		if c.flip >= 0 {
			p.frame[14+c.flip/8] ^= 1 << (c.flip % 8)
		}
		if c.wait+c.delay > 0 {
			p.at = now + c.wait + c.delay
			s.hold(p)
			continue
		}
		s.send(l, p.frame[:p.size])
		pool.Put(p)
	}
	l.dropped.Add(t.dropped)
	l.delayed.Add(t.delayed)
	l.duplicated.Add(t.duplicated)
	l.corrupted.Add(t.corrupted)
}

// hold keeps a packet until its time.
func (s *Switch) hold(p *packet) {
	if p.lane.held.Add(int64(p.size)) > maxHeld {
		p.lane.held.Add(-int64(p.size))
		p.lane.overrun.Add(1)
		pool.Put(p)
		return
	}
	s.mu.Lock()
	s.count++
	p.order = s.count
	heap.Push(&s.held, p)
	first := s.held[0] == p
	s.mu.Unlock()
	if first {
		s.ring()
	}
}

// ring wakes release.
func (s *Switch) ring() {
	unix.Write(s.alarm, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// release sends the held packets when they are due, until Close. It has a
// thread of its own, with a clock that is more precise than Go's timers, which
// are late by up to a millisecond.
func (s *Switch) release() {
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // ns
	poll := []unix.PollFd{{Fd: int32(s.alarm), Events: unix.POLLIN}}
	var rung [8]byte
	for {
		unix.Read(s.alarm, rung[:])
		s.mu.Lock()
		var due *packet
		var timeout *unix.Timespec // nil is for ever
		if len(s.held) > 0 {
			if wait := s.held[0].at - time.Since(s.start); wait <= 0 {
				due = heap.Pop(&s.held).(*packet)
			} else {
				t := unix.NsecToTimespec(int64(wait))
				timeout = &t
			}
		}
		closed := s.closed
		s.mu.Unlock()
		switch {
		case closed:
			return
		case due != nil:
			due.lane.held.Add(-int64(due.size))
			s.send(due.lane, due.frame[:due.size])
			pool.Put(due)
		default:
			unix.Ppoll(poll, timeout, nil)
		}
	}
}

// purge drops what a path holds.
func (s *Switch) purge(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = slices.DeleteFunc(s.held, func(p *packet) bool {
		if p.lane != l {
			return false
		}
		l.held.Add(-int64(p.size))
		l.dropped.Add(1)
		return true
	})
	heap.Init(&s.held)
}

// flush makes what a path holds due now, in the order in which it came.
func (s *Switch) flush(l *lane) {
	s.mu.Lock()
	for _, p := range s.held {
		if p.lane == l {
			p.at = 0
		}
	}
	heap.Init(&s.held)
	s.mu.Unlock()
	s.ring()
}
