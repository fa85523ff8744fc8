package loadgen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	headerLimit      = 64 << 10 // status line and header fields, interim answers and trailers included
	chunkLineLimit   = 4 << 10
	defaultBodyLimit = 8 << 20

	// dialLimit leaves room for one lost SYN, which Linux repeats after 1 s and
	// then after 2 s more, and the operation time to try another endpoint.
	dialLimit = 2 * time.Second

	// idleTrust is how long a connection may have been idle and is still taken to
	// be alive.
	idleTrust = time.Millisecond
)

// conn is one HTTP/1.1 keep-alive connection (RFC 9112). One goroutine at a time
// may use it.
type conn struct {
	net  *net.TCPConn
	raw  syscall.RawConn
	in   answerReader
	out  []byte
	done bool      // must not carry another request
	idle time.Time // since when, between two requests

	deadline time.Time // of the exchange
	armed    time.Time // what the connection was told, never after deadline: telling it takes longer than asking the clock

	rest   []byte // of out, not written yet
	full   bool   // the kernel takes no more of it now
	into   []byte // for what is read
	n      int
	err    error
	step   func(fd uintptr) bool
	silent bool
	peek   func(fd uintptr) bool
}

// dial connects within dialLimit and sets deadline for the first exchange.
func dial(e Endpoint, deadline time.Time, bodyLimit int) (*conn, error) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	nc, err := e.connect(ctx)
	if err != nil {
		return nil, bare(err)
	}
	tcp := nc.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		tcp.Close()
		return nil, bare(err)
	}
	c := &conn{net: tcp, raw: raw}
	c.in = answerReader{src: c, buf: make([]byte, 4<<10), bodyLimit: bodyLimit}
	c.step = c.writeOrRead
	c.peek = func(fd uintptr) bool {
		var b [1]byte
		_, err := unix.Read(int(fd), b[:])
		c.silent = err == unix.EAGAIN
		return true
	}
	c.deadline = deadline
	if err := c.arm(); err != nil {
		tcp.Close()
		return nil, bare(err)
	}
	return c, nil
}

func (c *conn) arm() error {
	c.armed = c.deadline
	return c.net.SetReadDeadline(c.armed)
}

// ready prepares an idle connection for one more request with an answer by
// deadline. It is false if the connection is of no use any more: nothing was
// sent then, and a request on a fresh connection stays free of doubt.
//
// A connection that was used a moment ago is taken as it is, since looking at it
// costs as much as a twentieth of the request. If the server closed it in that
// moment, the request may be written and end as info although it had no effect,
// like one that was sent a moment earlier.
func (c *conn) ready(now, deadline time.Time) bool {
	c.deadline = deadline
	if deadline.Before(c.armed) && c.arm() != nil {
		return false
	}
	return now.Sub(c.idle) < idleTrust || c.quiet()
}

// quiet is false if the server has closed the connection, or said something
// unasked.
func (c *conn) quiet() bool {
	c.silent = false
	for {
		err := c.raw.Read(c.peek)
		if err != nil && c.rearmed(err) {
			continue
		}
		return err == nil && c.silent
	}
}

// rearmed deals with an error that only means that the deadline of an earlier
// exchange is over.
func (c *conn) rearmed(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && c.armed.Before(c.deadline) && c.arm() == nil
}

// Read reads part of an answer, by the deadline. If the request is not written
// yet, it writes that first.
func (c *conn) Read(p []byte) (int, error) {
	c.into = p
	for {
		c.n, c.err = 0, nil
		err := c.raw.Read(c.step)
		switch {
		case err != nil:
			if !c.rearmed(err) {
				return 0, err
			}
		case c.full:
			c.full = false
			if err := c.net.SetWriteDeadline(c.deadline); err != nil {
				return 0, err
			}
			n, err := c.net.Write(c.rest)
			c.rest = c.rest[n:]
			if err != nil {
				return 0, err
			}
		default:
			return c.n, c.err
		}
	}
}

// writeOrRead writes what is to be written, else reads; it is false if there is
// nothing to read yet. The caller of Read has made the runtime forget that the
// connection was readable, so an answer that comes at once wakes it up.
func (c *conn) writeOrRead(fd uintptr) bool {
	for {
		if len(c.rest) > 0 {
			n, errno := transfer(unix.SYS_WRITE, fd, c.rest)
			if errno == unix.EINTR {
				continue
			}
			c.rest = c.rest[n:]
			if errno == 0 && len(c.rest) == 0 {
				return false // an answer takes its time: to look for it at once is in vain
			}
			c.full = errno == 0 || errno == unix.EAGAIN
			if !c.full {
				c.err = errno
			}
			return true
		}
		n, errno := transfer(unix.SYS_READ, fd, c.into)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return false
		case errno != 0:
			c.err = errno
		case n == 0:
			c.err = io.EOF
		}
		c.n = n
		return true
	}
}

// transfer reads into b or writes it, on a socket that never blocks. So the
// runtime need not be told that its thread may be away, which takes a twentieth of
// the time of a request.
func transfer(call, fd uintptr, b []byte) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// exchange sends one request and reads its answer. The body returned belongs to
// the caller. On an error sent tells whether any byte of the request left: if
// not, the system cannot have seen it. The deadline is the one set by dial or
// ready. What r.check refuses must not get here.
func (c *conn) exchange(host string, r request) (status int, answer []byte, sent bool, err error) {
	c.done = true // until the answer is whole
	b := c.out[:0]
	b = append(b, r.method...)
	b = append(b, ' ')
	b = append(b, r.path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\nStatequake-Op: "...)
	b = append(b, r.id...)
	if len(r.body) > 0 && r.header.Get("Content-Type") == "" {
		b = append(b, "\r\nContent-Type: application/json"...)
	}
	for name, values := range r.header {
		for _, value := range values {
			b = append(b, "\r\n"...)
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, value...)
		}
	}
	if len(r.body) > 0 || (r.method != "GET" && r.method != "HEAD") {
		b = append(b, "\r\nContent-Length: "...)
		b = strconv.AppendInt(b, int64(len(r.body)), 10)
	}
	b = append(b, "\r\n\r\n"...)
	b = append(b, r.body...)
	c.out, c.rest = b, b
	status, answer, keep, err := c.in.read(r.method)
	if err != nil {
		if len(c.rest) > 0 {
			return 0, nil, len(c.rest) < len(c.out), fmt.Errorf("send: %w", bare(err))
		}
		return 0, nil, true, fmt.Errorf("answer: %w", bare(err))
	}
	c.done = !keep
	return status, answer, true, nil
}

// plain reports whether s can stand in a request line or a header as it is.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

var (
	errTimeout = errors.New("timed out")
	errClosed  = errors.New("connection closed by the system")
)

// bare strips the addresses off an error of package net: their ephemeral ports
// make every error of a run different.
func bare(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errTimeout
	}
	if errors.Is(err, io.EOF) {
		return errClosed
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
		if op.Timeout() {
			return errTimeout
		}
	}
	if call := (*os.SyscallError)(nil); errors.As(err, &call) {
		return call.Err
	}
	return err
}

// answerReader reads the answers of one connection.
type answerReader struct {
	src       io.Reader
	buf       []byte
	r, w      int // buf[r:w] is read but not used up
	bodyLimit int
}

// read returns the next final answer; interim ones (1xx) are skipped. keep tells
// whether the connection can carry another request. A body that ends with the
// connection is taken as whole. io.EOF means that the connection ended before
// the answer did.
func (a *answerReader) read(method string) (status int, body []byte, keep bool, err error) {
	left := headerLimit
	var h header
	for status < 200 {
		if status, h, err = a.header(&left); err != nil {
			return 0, nil, false, err
		}
		if status == 101 {
			return 0, nil, false, errors.New("switches protocols unasked")
		}
	}
	keep = h.keep
	switch {
	case method == "HEAD" || status == 204 || status == 304:
	case h.chunked:
		body, err = a.chunks(&left)
		// Both framings at once smell of smuggling: RFC 9112, 6.3 has the
		// connection closed.
		keep = keep && h.length < 0
	case h.length > int64(a.bodyLimit):
		err = a.tooLong()
	case h.length >= 0:
		body, err = a.take(make([]byte, 0, min(h.length, 64<<10)), int(h.length))
	default:
		body, err = a.rest()
		keep = false
	}
	if err != nil {
		return 0, nil, false, err
	}
	return status, body, keep && a.r == a.w, nil
}

// header is what the client needs of the header fields of one answer.
type header struct {
	length  int64 // -1 if not told
	chunked bool
	keep    bool
}

func (a *answerReader) header(left *int) (status int, h header, err error) {
	line, err := a.line(left, "header", headerLimit)
	if err != nil {
		return 0, h, err
	}
	// HTTP/1.x SP 3DIGIT [SP reason]
	digit := func(i int) bool { return line[i] >= '0' && line[i] <= '9' }
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || !digit(7) || line[8] != ' ' ||
		!(line[9] >= '1' && line[9] <= '5') || !digit(10) || !digit(11) || (len(line) > 12 && line[12] != ' ') {
		return 0, h, fmt.Errorf("not HTTP/1: %.40q", line)
	}
	status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
	http10 := line[7] == '0'
	h = header{length: -1, keep: !http10}
	for {
		if line, err = a.line(left, "header", headerLimit); err != nil || len(line) == 0 {
			return status, h, err
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !plain(string(name)) {
			return 0, h, fmt.Errorf("bad header line: %.40q", line)
		}
		value = bytes.Trim(value, " \t")
		switch {
		case is(name, "Content-Length"):
			n, err := strconv.ParseUint(string(value), 10, 63)
			if err != nil || (h.length >= 0 && h.length != int64(n)) {
				return 0, h, fmt.Errorf("bad Content-Length: %.40q", value)
			}
			h.length = int64(n)
		case is(name, "Transfer-Encoding"):
			// HTTP/1.0 knows none (RFC 9112, 6.1: faulty framing).
			if http10 || h.chunked || !is(value, "chunked") {
				return 0, h, fmt.Errorf("unknown Transfer-Encoding: %.40q", value)
			}
			h.chunked = true
		case is(name, "Connection"):
			for token := range bytes.SplitSeq(value, []byte(",")) {
				if is(bytes.Trim(token, " \t"), "close") {
					h.keep = false
				}
			}
		}
	}
}

// is compares a header name or token, in any case.
func is(b []byte, s string) bool { return len(b) == len(s) && bytes.EqualFold(b, []byte(s)) }

// chunks reads a chunked body with its trailers, which are dropped.
func (a *answerReader) chunks(left *int) (body []byte, err error) {
	for {
		limit := chunkLineLimit
		line, err := a.line(&limit, "chunk line", chunkLineLimit)
		if err != nil {
			return nil, err
		}
		digits, _, _ := bytes.Cut(line, []byte(";"))
		size, err := strconv.ParseUint(string(bytes.TrimRight(digits, " \t")), 16, 63)
		if err != nil {
			return nil, fmt.Errorf("bad chunk size: %.40q", line)
		}
		if size == 0 {
			break
		}
		if size > uint64(a.bodyLimit-len(body)) {
			return nil, a.tooLong()
		}
		if body, err = a.take(body, int(size)); err != nil {
			return nil, err
		}
		limit = chunkLineLimit
		if line, err = a.line(&limit, "chunk line", chunkLineLimit); err != nil || len(line) > 0 {
			return nil, errOr(err, "chunk longer than its size")
		}
	}
	for {
		line, err := a.line(left, "header", headerLimit)
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			return body, nil
		}
	}
}

func errOr(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

func (a *answerReader) tooLong() error {
	return fmt.Errorf("body over the limit of %d bytes", a.bodyLimit)
}

// take appends the next n bytes to body. It allocates as they come, not as they
// are promised.
func (a *answerReader) take(body []byte, n int) ([]byte, error) {
	for n > 0 {
		if a.r == a.w {
			if err := a.fill(); err != nil {
				return nil, err
			}
		}
		k := min(n, a.w-a.r)
		body = append(body, a.buf[a.r:a.r+k]...)
		a.r += k
		n -= k
	}
	return body, nil
}

// rest reads to the end of the connection.
func (a *answerReader) rest() (body []byte, err error) {
	for {
		if len(body)+a.w-a.r > a.bodyLimit {
			return nil, a.tooLong()
		}
		body = append(body, a.buf[a.r:a.w]...)
		a.r = a.w
		if err := a.fill(); err == io.EOF {
			return body, nil
		} else if err != nil {
			return nil, err
		}
	}
}

// line returns the next line without its line end, valid until the next call,
// and takes its length off left. what names the text of limit bytes that is too
// long if left does not suffice.
func (a *answerReader) line(left *int, what string, limit int) ([]byte, error) {
	for seen := 0; ; {
		if i := bytes.IndexByte(a.buf[a.r+seen:a.w], '\n'); i >= 0 {
			line := a.buf[a.r : a.r+seen+i]
			if *left -= len(line) + 1; *left < 0 {
				break
			}
			a.r += len(line) + 1
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		if seen = a.w - a.r; seen >= *left {
			break
		}
		if err := a.fill(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s over the limit of %d bytes", what, limit)
}

// fill reads at least one more byte behind buf[r:w], which it may move.
func (a *answerReader) fill() error {
	if a.r > 0 {
		a.w = copy(a.buf, a.buf[a.r:a.w])
		a.r = 0
	}
	if a.w == len(a.buf) {
		a.buf = append(a.buf, make([]byte, len(a.buf))...)
	}
	n, err := a.src.Read(a.buf[a.w:])
	a.w += n
	if n > 0 {
		return nil // an error comes again
	}
	return errOr(err, "no progress")
}
