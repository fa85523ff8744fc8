package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"statequake/history"
)

// Probe sends one packet and returns how long it was on its way, by the
// monotonic clock of this process; false if it had not arrived when ctx ended,
// or within a second if ctx has no deadline.
func (s *Switch) Probe(ctx context.Context, p Path) (time.Duration, bool, error) {
	return probeOne(ctx, s, p)
}

// probe sends a round over sockets of its own, so that nothing of another one is
// taken for its own.
func (s *Switch) probe(ctx context.Context, p Path, plan round) (*result, error) {
	if _, err := s.lane(p); err != nil {
		return nil, err
	}
	to, err := s.udp(p.To)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", p, err)
	}
	defer to.Close()
	from, err := s.udp(p.From)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", p, err)
	}
	defer from.Close()
	target := netip.AddrPortFrom(s.Addr(p.To), to.LocalAddr().(*net.UDPAddr).AddrPort().Port())

	r := &result{
		sent:    make([]time.Time, plan.n),
		arrived: make([]time.Time, plan.n),
		copies:  make([]int, plan.n),
		damaged: make([]bool, plan.n),
	}
	var receiving sync.WaitGroup
	receiving.Go(func() { r.receive(to, plan.hasty) })
	err = func() error {
		payload := make([]byte, plan.size)
		start := time.Now()
		for i := range plan.n {
			if wait := time.Until(start.Add(time.Duration(i) * plan.gap)); wait > 0 {
				time.Sleep(wait)
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			seal(payload, i)
			r.sent[i] = time.Now()
			if _, err := from.WriteToUDPAddrPort(payload, target); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil {
		to.SetReadDeadline(time.Now())
	} else {
		to.SetReadDeadline(time.Now().Add(plan.listen))
		defer context.AfterFunc(ctx, func() { to.SetReadDeadline(time.Now()) })()
	}
	receiving.Wait()
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", p, err)
	}
	return r, context.Cause(ctx)
}

// udp opens a socket on a host that neither sends nor demands checksums, so
// that damaged probes arrive.
func (s *Switch) udp(host string) (c *net.UDPConn, err error) {
	err = s.Do(host, func() error {
		listen := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			return errors.Join(raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1)
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, portBuffer)
			}), err)
		}}
		p, err := listen.ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(s.Addr(host), 0).String())
		if err == nil {
			c = p.(*net.UDPConn)
		}
		return err
	})
	return c, err
}

// receive notes what arrives until the socket's deadline.
func (r *result) receive(c *net.UDPConn, hasty bool) {
	payload := make([]byte, frameMax)
	for !hasty || len(r.order) < len(r.copies) {
		n, _, err := c.ReadFromUDPAddrPort(payload)
		if err != nil {
			return
		}
		now := time.Now()
		if n < 16 {
			continue
		}
		i, damaged := unseal(payload[:n])
		if i >= len(r.copies) {
			continue
		}
		if r.copies[i]++; r.copies[i] == 1 {
			r.arrived[i] = now
			r.order = append(r.order, i)
		}
		r.damaged[i] = r.damaged[i] || damaged
	}
}

// Confirm sends probes over the paths until they show the effect, all of it on
// each path, or ctx ends. The zero Effect is shown by probes that all arrive,
// once, whole and without delay. ctx must have a deadline, or a Confirm of an
// effect that is not there does not return.
//
//   - Drop: no probe arrives, while the receiver gets one from its own host,
//     and so do probes of the other direction, if that has no effect.
//   - Latency and Jitter: the median is as ordered, give or take the jitter
//     (less with many probes) and up to 10 ms late.
//   - Loss, Duplicate, Corrupt, Reorder: the number of probes is within the
//     interval that a binomial distribution leaves with a probability of
//     0.01 %, and is not 0. Correlated ones are only seen to occur, as netem's
//     correlation changes the share.
//   - Rate: a stream of probes arrives at 50 % to 110 % of it, after Buffer
//     bytes; below 50 % other traffic has its share, and that is inconclusive.
//
// Where another effect holds on a path, what does not fit is inconclusive.
func (s *Switch) Confirm(ctx context.Context, paths []Path, e Effect) Evidence {
	return confirmAll(ctx, s, paths, e)
}

// probeOwn sends a packet from a host to itself, past the switch.
func (s *Switch) probeOwn(ctx context.Context, host string) error {
	c, err := s.udp(host)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Now()) })()
	if _, err := c.WriteToUDPAddrPort([]byte("own"), c.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		return fmt.Errorf("probe %s from itself: %w", host, err)
	}
	c.SetReadDeadline(time.Now().Add(time.Second))
	if _, _, err := c.ReadFromUDPAddrPort(make([]byte, 16)); err != nil {
		return fmt.Errorf("probe %s from itself: %w", host, err)
	}
	return nil
}

// effects is what holds on a path.
func (s *Switch) effects(p Path) ([]Effect, error) {
	l, err := s.lane(p)
	if err != nil {
		return nil, err
	}
	return l.effects(), nil
}

func (s *Switch) lookReject(context.Context, Path) Evidence {
	return Evidence{Proof: history.Inconclusive, Detail: "a switch rejects nothing"}
}

func (s *Switch) overhead() int { return headers }

func (s *Switch) inOrder() bool { return false }

// Hold connects two hosts.
func (s *Switch) Hold(ctx context.Context, p Path) (*Held, error) {
	if _, err := s.lane(p); err != nil {
		return nil, err
	}
	l, err := s.Listen(p.To, netip.AddrPortFrom(s.Addr(p.To), 0).String())
	if err != nil {
		return nil, fmt.Errorf("hold %s: %w", p, err)
	}
	defer l.Close()
	from, err := s.Dial(ctx, p.From, l.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("hold %s: %w", p, err)
	}
	if end, ok := ctx.Deadline(); ok {
		l.(*net.TCPListener).SetDeadline(end)
	}
	to, err := l.Accept()
	if err != nil {
		from.Close()
		return nil, fmt.Errorf("hold %s: %w", p, err)
	}
	return &Held{from.(*net.TCPConn), to.(*net.TCPConn)}, nil
}
