package network

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// greetWithin is how long a caller of a proxy may take to say what it wants.
const greetWithin = 10 * time.Second

// serve is the proxy of a host until Close.
func (l *Links) serve(host int, listener net.Listener) {
	web := l.web(host)
	pipe := &handed{conns: make(chan net.Conn), closed: make(chan struct{}), addr: listener.Addr()}
	var greeting sync.WaitGroup
	greeting.Go(func() { web.Serve(pipe) }) // ErrServerClosed
	defer greeting.Wait()
	defer web.Close()
	for {
		c, err := listener.Accept()
		if err != nil {
			return // closed
		}
		greeting.Go(func() { l.greet(host, c.(*net.TCPConn), pipe) })
	}
}

// greet finds out what protocol a caller speaks.
func (l *Links) greet(host int, c *net.TCPConn, web *handed) {
	defer context.AfterFunc(l.ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	c.SetReadDeadline(time.Now().Add(greetWithin))
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		c.Close()
		return
	}
	if first[0] != socksVersion {
		c.SetReadDeadline(time.Time{})
		web.hand(&begunConn{TCPConn: c, first: first})
		return
	}
	l.socks(host, c)
}

// SOCKS5, RFC 1928: CONNECT without authentication.
const (
	socksVersion = 5
	socksConnect = 1
	socksIPv4    = 1
	socksName    = 3
	socksIPv6    = 4

	socksOK          = 0
	socksUnreachable = 3
	socksRefused     = 5
	socksTimeout     = 6
	socksCommand     = 7
	socksAddress     = 8
)

// socks serves a caller whose first byte has been read.
func (l *Links) socks(host int, c *net.TCPConn) {
	addr, code, err := socksRequest(c)
	if err != nil {
		if code != socksOK {
			c.Write(socksReply(code))
		}
		c.Close()
		return
	}
	ctx, stop := l.whileOpen(c)
	far, to, err := l.connect(ctx, host, addr)
	if !stop() || err != nil {
		if far != nil {
			far.Close()
		}
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			code = socksRefused
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			code = socksTimeout
		default:
			code = socksUnreachable
		}
		c.Write(socksReply(code))
		c.Close()
		return
	}
	c.SetReadDeadline(time.Time{})
	if _, err := c.Write(socksReply(socksOK)); err != nil {
		c.Close()
		far.Close()
		return
	}
	l.join(c, far, host, to)
}

// socksRequest reads what the caller wants to connect to. With an error it
// returns what to answer, if anything.
func socksRequest(c io.ReadWriter) (addr string, code byte, err error) {
	var b [255]byte
	read := func(n int) []byte {
		if err == nil {
			_, err = io.ReadFull(c, b[:n])
		}
		return b[:n]
	}
	read(int(read(1)[0])) // the methods of authentication that it offers
	if err == nil {
		_, err = c.Write([]byte{socksVersion, 0})
	}
	request := [4]byte(read(4))
	if err != nil {
		return "", socksOK, err
	}
	if request[0] != socksVersion || request[1] != socksConnect {
		return "", socksCommand, errors.New("not a CONNECT of SOCKS5")
	}
	var name string
	switch request[3] {
	case socksIPv4:
		name = netip.AddrFrom4([4]byte(read(4))).String()
	case socksIPv6:
		name = netip.AddrFrom16([16]byte(read(16))).Unmap().String()
	case socksName:
		name = string(read(int(read(1)[0])))
	default:
		return "", socksAddress, errors.New("unknown kind of address")
	}
	port := binary.BigEndian.Uint16(read(2))
	if err != nil {
		return "", socksOK, err
	}
	return net.JoinHostPort(name, strconv.Itoa(int(port))), socksOK, nil
}

func socksReply(code byte) []byte { return []byte{socksVersion, code, 0, socksIPv4, 0, 0, 0, 0, 0, 0} }

// whileOpen returns a context that ends when the caller closes its connection,
// or the links are closed: who waits for an answer of a host that is cut off
// gives up at some time. stop ends the watch, and is false if it was over.
func (l *Links) whileOpen(c *net.TCPConn) (context.Context, func() bool) {
	ctx, cancel := context.WithCancel(l.ctx)
	watched := make(chan struct{})
	c.SetReadDeadline(time.Time{})
	go func() {
		defer close(watched)
		raw, err := c.SyscallConn()
		if err != nil {
			return
		}
		gone := false
		err = raw.Read(func(fd uintptr) bool {
			n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if err == unix.EAGAIN || err == unix.EINTR {
				return false
			}
			gone = n == 0 || err != nil
			return true
		})
		if err == nil && gone {
			cancel()
		}
	}()
	return ctx, func() bool {
		c.SetReadDeadline(time.Unix(1, 0)) // ends the watch
		<-watched
		open := ctx.Err() == nil
		cancel()
		c.SetReadDeadline(time.Time{})
		return open
	}
}

// web serves callers that speak HTTP: CONNECT, or requests with absolute URLs.
func (l *Links) web(host int) *http.Server {
	forward := &httputil.ReverseProxy{
		Rewrite:       func(*httputil.ProxyRequest) {}, // the request as it came
		FlushInterval: -1,
		Transport: &http.Transport{
			DialContext:        func(ctx context.Context, _, addr string) (net.Conn, error) { return l.dial(ctx, host, addr) },
			DisableCompression: true,
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	return &http.Server{
		ReadHeaderTimeout: greetWithin,
		BaseContext:       func(net.Listener) context.Context { return l.ctx },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodConnect:
				l.tunnel(host, w, r)
			case r.URL.Scheme == "http" && r.URL.Host != "":
				if !strings.Contains(r.URL.Host, ":") {
					r.URL.Host += ":80"
				}
				forward.ServeHTTP(w, r)
			default:
				http.Error(w, "this is a forward proxy: it takes CONNECT and requests with absolute http URLs", http.StatusBadRequest)
			}
		}),
	}
}

// tunnel serves a CONNECT.
func (l *Links) tunnel(host int, w http.ResponseWriter, r *http.Request) {
	far, to, err := l.connect(r.Context(), host, r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	c, ahead, err := http.NewResponseController(w).Hijack()
	if err != nil {
		far.Close()
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// What the caller sent ahead of the answer belongs to the called.
	early := make([]byte, ahead.Reader.Buffered())
	_, err = io.ReadFull(ahead, early)
	if err == nil {
		_, err = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	}
	if err == nil && len(early) > 0 {
		_, err = far.Write(early)
	}
	if err != nil {
		c.Close()
		far.Close()
		return
	}
	c.SetDeadline(time.Time{})
	l.join(c.(*begunConn).TCPConn, far, host, to)
}

// begunConn is a connection of which the first byte has been read.
type begunConn struct {
	*net.TCPConn
	first []byte
}

func (c *begunConn) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.TCPConn.Read(b)
}

// handed is a listener of connections that were accepted elsewhere.
type handed struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

func (h *handed) hand(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handed) Addr() net.Addr { return h.addr }
