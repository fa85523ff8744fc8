package loadgen

import (
	"net/http"
	"strconv"
	"strings"

	"statequake/history"
)

// Fixed is a load of one request, sent again and again to whatever answers HTTP:
// a Source and its Codec. The fields must not change once it is in use.
type Fixed struct {
	Method, Path string // Path with its query, as it stands in the request line
	Header       http.Header
	Body         []byte

	next int64
	op   history.Op
}

// Next returns an operation on the entity type "http", whose key is the path
// without its query and whose name is the method in lower case. Its args are the
// body.
func (f *Fixed) Next() history.Op {
	if f.next == 0 {
		key, _, _ := strings.Cut(f.Path, "?")
		f.op = history.Op{Entity: "http", Key: key, Name: strings.ToLower(f.Method), Args: f.Body, Version: -1}
	}
	op := f.op
	op.N = f.next
	f.next++
	return op
}

// Check says why the request cannot be sent, "" if it can.
func (f *Fixed) Check() string {
	return request{method: f.Method, path: f.Path, header: f.Header}.check()
}

// Sessions is 0: requests belong to nobody.
func (f *Fixed) Sessions() int { return 0 }

func (f *Fixed) taken() bool { return f.next != 0 }

// Request returns the request, whatever the operation.
func (f *Fixed) Request(*history.Op) (method, path string, header http.Header, body []byte) {
	return f.Method, f.Path, f.Header, f.Body
}

// Response takes status 2xx and 3xx for ok, with the body as the result;
// redirects are not followed. Others leave open whether the request had an
// effect.
func (f *Fixed) Response(op *history.Op, status int, body []byte) {
	if status >= 400 {
		op.Outcome, op.Error = history.Info, "status "+strconv.Itoa(status)
		return
	}
	op.Outcome, op.Result = history.OK, body
}
