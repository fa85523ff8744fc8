package loadgen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

// netHTTP is the wire of the vegeta driver: connections of net/http, opened on
// demand.
type netHTTP struct {
	endpoints []Endpoint
	bodyLimit int
	transport *http.Transport
}

// newNetHTTP keeps up to max idle connections over all endpoints; while many
// endpoints are in use at once, more than max can be open.
func newNetHTTP(endpoints []Endpoint, max, bodyLimit int) *netHTTP {
	if bodyLimit == 0 {
		bodyLimit = defaultBodyLimit
	}
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	return &netHTTP{endpoints: endpoints, bodyLimit: bodyLimit, transport: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			i := slices.IndexFunc(endpoints, func(e Endpoint) bool { return e.Addr == addr })
			if i < 0 {
				return nil, fmt.Errorf("%s is none of the endpoints", addr)
			}
			c, err := endpoints[i].connect(ctx)
			if err != nil {
				return nil, err
			}
			return &guardedConn{Conn: c}, nil
		},
		Protocols:              http1,
		DisableCompression:     true,
		MaxIdleConns:           max,
		MaxIdleConnsPerHost:    max,
		MaxResponseHeaderBytes: headerLimit,
	}}
}

// attempt is one request on its way through net/http.
type attempt struct {
	got bool                        // a connection; of the caller's goroutine
	on  atomic.Pointer[guardedConn] // the connection that took the first byte
}

// guardedConn refuses to send an attempt that another connection has begun to
// send. net/http repeats a request by itself when a connection that was idle
// fails: with POST only if nothing was written, but with GET, HEAD or an
// Idempotency-Key header also after that, and then the system sees twice what
// the history calls one attempt.
type guardedConn struct {
	net.Conn
	by atomic.Pointer[attempt] // that uses it, set before anything is written
}

func (c *guardedConn) Write(b []byte) (int, error) {
	a := c.by.Load()
	first := a.on.CompareAndSwap(nil, c)
	if !first && a.on.Load() != c {
		return 0, errClosed // the reason why it is repeated
	}
	n, err := c.Conn.Write(b)
	if first && n == 0 && err != nil {
		a.on.Store(nil)
	}
	return n, err
}

// exchange makes one attempt; redirects are answers like others.
func (w *netHTTP) exchange(endpoint int, _, deadline time.Time, r request) (status int, answer []byte, sent bool, err error) {
	var a attempt
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		a.got = true
		info.Conn.(*guardedConn).by.Store(&a)
	}})
	resp, err := w.transport.RoundTrip(w.request(ctx, endpoint, r))
	sent = a.on.Load() != nil
	switch {
	case err == nil:
	case !a.got:
		return 0, nil, false, fmt.Errorf("connect: %w", root(err))
	case !sent:
		return 0, nil, false, fmt.Errorf("send: %w", root(err))
	default:
		return 0, nil, true, fmt.Errorf("answer: %w", root(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return 0, nil, true, errors.New("answer: switches protocols unasked")
	}
	if resp.ContentLength <= int64(w.bodyLimit) {
		answer, err = io.ReadAll(io.LimitReader(resp.Body, int64(w.bodyLimit)+1))
	}
	if resp.ContentLength > int64(w.bodyLimit) || len(answer) > w.bodyLimit {
		err = fmt.Errorf("body over the limit of %d bytes", w.bodyLimit)
	}
	if err != nil {
		return 0, nil, true, fmt.Errorf("answer: %w", root(err))
	}
	return resp.StatusCode, answer, true, nil
}

// request is r with the header fields that the http driver sends, no others.
func (w *netHTTP) request(ctx context.Context, endpoint int, r request) *http.Request {
	header := http.Header{"Statequake-Op": {r.id}, "User-Agent": {""}}
	if len(r.body) > 0 {
		header.Set("Content-Type", "application/json")
	}
	for name, values := range r.header {
		header[name] = values
	}
	req := &http.Request{
		Method: r.method,
		// Opaque goes into the request line as it is, query and escapes included.
		URL:    &url.URL{Scheme: "http", Host: w.endpoints[endpoint].Addr, Opaque: r.path},
		Header: header,
		Body:   http.NoBody,
		// Has net/http say so when a DELETE has no body, as it does for POST.
		TransferEncoding: []string{"identity"},
	}
	if len(r.body) > 0 {
		req.ContentLength = int64(len(r.body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.body)), nil }
		req.Body, _ = req.GetBody()
	}
	return req.WithContext(ctx)
}

func (w *netHTTP) close() { w.transport.CloseIdleConnections() }

// root is what bare is for the errors of net/http: the cause alone, and not more
// than 100 bytes of what a system may have sent.
func root(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errTimeout
	}
	err = bare(err)
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	if err == io.ErrUnexpectedEOF {
		return errClosed
	}
	if text := err.Error(); len(text) > 100 {
		return errors.New(text[:100])
	}
	return err
}
