package clock

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"statequake/history"
)

func runClock() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

func TestConfirm(t *testing.T) {
	needStub(t)
	c := startChild(t, program(t, "serve"), right)
	url := "http://" + c.line() + "/"
	now := runClock()
	check := func(url string, offset time.Duration, want history.Proof, words string) {
		t.Helper()
		ev := Confirm(t.Context(), url, offset, now)
		if ev.Proof != want || !strings.Contains(ev.Detail, words) || ev.At <= 0 {
			t.Errorf("%+v, want %s: %s", ev, want, words)
		}
	}
	check(url, 0, history.Confirmed, "set to 0s")
	check(url, time.Hour, history.Mismatch, "want +1h0m0s")

	c.set(3*time.Second, 0)
	check(url, 3*time.Second, history.Confirmed, "set to +3s")
	check(url, 0, history.Mismatch, "want 0s")
	check(url, 2*time.Second+300*time.Millisecond, history.Inconclusive, "keeps a Date")

	c.set(-time.Hour, Wall)
	check(url, -time.Hour, history.Confirmed, "set to -1h0m0s")
	c.set(-time.Hour, Monotonic)
	check(url, -time.Hour, history.Mismatch, "")
	c.set(time.Microsecond, 0)
	check(url, time.Microsecond, history.Inconclusive, "not told from a right clock")

	check(url+"dateless", 0, history.Inconclusive, "no Date header")
	check("http://127.0.0.1:1/", 0, history.Inconclusive, "connection refused")
}

func TestObserveAClockThatMoves(t *testing.T) {
	first := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		date := time.Now()
		if !first {
			date = date.Add(time.Hour)
		}
		first = false
		w.Header().Set("Date", date.UTC().Format(http.TimeFormat))
	}))
	defer server.Close()
	if o, err := Observe(t.Context(), server.URL); err != errJumped {
		t.Errorf("%v, %v; want %v", o, err, errJumped)
	}
}

func TestObserveWithoutTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if o, err := Observe(ctx, "http://127.0.0.1:1/"); err == nil {
		t.Errorf("%v without an answer", o)
	}
}
