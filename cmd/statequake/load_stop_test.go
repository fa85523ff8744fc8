package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A load that is interrupted says so, counts what it did up to there, and is not
// ok.
func TestLoadInterrupted(t *testing.T) {
	for _, fl := range []loadFlags{
		{driver: "http", clients: 2, maxConns: 1024},
		{driver: "http", rate: "50/s", maxConns: 2},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel() }))
		defer s.Close()
		fl.url = s.URL
		fl.duration, fl.timeout = time.Hour, 10*time.Second
		l, err := fl.parse(fl.rate != "")
		if err != nil {
			t.Fatal(err)
		}
		r, err := l.run(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if r.OK || r.code != exitUnknown || !strings.Contains(strings.Join(r.Reasons, "\n"), "The load stopped at ") {
			t.Errorf("ok %v, code %d, reasons %q", r.OK, r.code, r.Reasons)
		}
		if r.Answered < 1 || r.Scheduled != r.Answered+r.Failed+r.Unknown+r.Unsent || r.Duration > 60 {
			t.Errorf("got %+v", r)
		}
	}
}
