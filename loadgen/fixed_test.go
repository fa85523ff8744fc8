package loadgen

import (
	"net/http"
	"testing"

	"statequake/history"
)

func TestFixed(t *testing.T) {
	f := &Fixed{Method: "PUT", Path: "/a/b?q=1", Header: http.Header{"X": {"y"}}, Body: []byte(`{"n":1}`)}
	for n := range int64(2) {
		op := f.Next()
		if op.N != n || op.Entity != "http" || op.Key != "/a/b" || op.Name != "put" || string(op.Args) != `{"n":1}` || op.Version != -1 {
			t.Errorf("operation %d is %+v", n, op)
		}
		method, path, header, body := f.Request(&op)
		if method != "PUT" || path != "/a/b?q=1" || header.Get("X") != "y" || string(body) != `{"n":1}` {
			t.Errorf("request %s %s %v %s", method, path, header, body)
		}
	}
	if !f.taken() {
		t.Error("operations were taken")
	}
	for status, want := range map[int]history.Outcome{200: history.OK, 204: history.OK, 302: history.OK, 399: history.OK, 400: history.Info, 503: history.Info} {
		op := f.Next()
		f.Response(&op, status, []byte("text"))
		if op.Outcome != want || (op.Error == "") != (want == history.OK) || (string(op.Result) == "text") != (want == history.OK) {
			t.Errorf("status %d: %+v", status, op)
		}
	}
	for _, bad := range []*Fixed{{Method: "GET /", Path: "/"}, {Method: "GET", Path: "/a b"}, {Method: "GET", Path: "//host/"}, {Method: "GET", Path: "/", Header: http.Header{"A": {"b\r\nC: d"}}}} {
		if bad.Check() == "" {
			t.Errorf("%+v can be sent", bad)
		}
	}
	if problem := f.Check(); problem != "" {
		t.Error(problem)
	}
}
