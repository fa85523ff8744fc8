package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// endpoint is the command "endpoint NAME": it starts an HTTP server and puts its
// URL into the variable.
func endpoint(ts *testscript.TestScript, _ bool, args []string) {
	var asked atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"a":1}`) })
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	mux.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) })
	mux.HandleFunc("/half", func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%2 == 0 {
			http.Error(w, "no", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/close", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("PUT /picky", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Key") != "a b" || r.Header.Get("Content-Type") != "text/plain" || r.URL.RawQuery != "q=1" {
			http.Error(w, "no", http.StatusBadRequest)
		}
	})
	s := httptest.NewServer(mux)
	ts.Defer(func() {
		s.CloseClientConnections()
		s.Close()
	})
	ts.Setenv(args[0], s.URL)
}

// loadCode is the command "load N FLAGS...": statequake load, which must end with
// exit code N. When the machine was too busy for the generator the load says
// nothing about its endpoint, and is repeated.
func loadCode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	for range 10 {
		err := ts.Exec("statequake", append([]string{"load"}, args[1:]...)...)
		got := 0
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			got = failed.ExitCode()
		} else {
			ts.Check(err)
		}
		if got == want {
			return
		}
		if got != exitUnknown || !strings.Contains(ts.ReadFile("stdout"), "The load generator") {
			ts.Fatalf("exit code %d, want %d", got, want)
		}
		if i := slices.Index(args, "--record"); i >= 0 {
			ts.Check(os.RemoveAll(ts.MkAbs(args[i+1])))
		}
	}
	ts.Fatalf("the generator was disturbed ten times")
}
