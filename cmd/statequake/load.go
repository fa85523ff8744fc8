package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"statequake/loadgen"
)

// maxClients bounds --clients and --max-conns: each is a connection, and more
// have no port to come from.
const maxClients = 60_000

// loadFlags are the flags of load.
type loadFlags struct {
	url, method, body, rate, driver, record string
	headers                                 []string
	clients, maxConns                       int
	warmup, duration, timeout               time.Duration
	asJSON                                  bool
}

func loadCmd() *cobra.Command {
	var fl loadFlags
	cmd := &cobra.Command{
		Use:   "load --url URL (--rate RATE | --clients N)",
		Short: "Send one request again and again to any HTTP endpoint, and measure",
		Long: `Send one HTTP request again and again and say how fast it was answered: at a
rate, whether the endpoint answers or not, or with so many clients that each
send the next one when the last one is answered.

Latency counts from the instant at which a request was due, so that waiting for
a free connection is part of it. The generator judges itself: with a verdict
other than valid the figures are those of the generator and not of the endpoint.
Status 2xx and 3xx are ok; redirects are not followed.

Exit codes: 0 all was answered ok; 2 nothing was answered, the generator is not
valid, or the load was interrupted; 3 usage or harness error; 4 some requests
were not answered ok. "ok" in the JSON is true exactly with exit code 0.`,
		Example: `  statequake load --url http://127.0.0.1:8080/ --rate 5000/s --duration 30s
  statequake load --url http://127.0.0.1:8080/items --method POST --body '{"n":1}' --clients 32
  statequake load --url http://127.0.0.1:8080/ --rate 100/s --json | jq .latency_ns.p99`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := fl.parse(cmd.Flags().Changed("max-conns"))
			if err != nil {
				return err
			}
			if os.Getenv("GOGC") == "" {
				// What lives is small, what is made for each request dies at once.
				debug.SetGCPercent(400)
			}
			if fl.clients > 0 && os.Getenv("GOMAXPROCS") == "" {
				// Threads that look for work in vain, while all clients wait for
				// answers, cost a sixth of a request. With --rate the pacer's thread
				// takes its share of them into its sleep, so one would be too few.
				runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
			}
			r, err := l.run(cmd.Context())
			if err != nil {
				return err
			}
			if fl.asJSON {
				e := json.NewEncoder(os.Stdout)
				e.SetEscapeHTML(false)
				e.SetIndent("", "  ")
				err = e.Encode(r)
			} else {
				err = r.print(os.Stdout)
			}
			if err != nil {
				return fmt.Errorf("print the result: %w", err)
			}
			if r.code != exitPass {
				return exit(r.code)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&fl.url, "url", "", "what to ask, http://HOST[:PORT]/PATH")
	f.StringVar(&fl.method, "method", "", "method (default GET, POST with a body)")
	f.StringVar(&fl.body, "body", "", "body of the request, or @FILE")
	f.StringArrayVar(&fl.headers, "header", nil, "header field, 'Name: value'; may be given several times (default Content-Type: application/json with a body)")
	f.StringVar(&fl.rate, "rate", "", "requests that become due per s, m or h, such as 5000/s")
	f.IntVar(&fl.clients, "clients", 0, "clients that each send one request after the other")
	f.DurationVar(&fl.duration, "duration", 10*time.Second, "how long to measure")
	f.DurationVar(&fl.warmup, "warmup", 0, "how long to send before that; not measured")
	f.DurationVar(&fl.timeout, "timeout", 10*time.Second, "of a request, from its sending; with --rate also for its wait for a connection")
	f.IntVar(&fl.maxConns, "max-conns", 1024, "with --rate: connections at most")
	f.StringVar(&fl.driver, "driver", "http", "http, the generator's own client, or vegeta, vegeta's Attacker and net/http (only with --rate)")
	f.StringVar(&fl.record, "record", "", "directory, new or empty, to record every request in, for statequake export")
	f.BoolVar(&fl.asJSON, "json", false, "print the result as JSON")
	return cmd
}

// parse checks the flags; connsGiven tells whether --max-conns was there.
func (fl *loadFlags) parse(connsGiven bool) (*load, error) {
	if fl.url == "" {
		return nil, errors.New("--url: missing\nhint: statequake load --url http://127.0.0.1:8080/ --clients 32")
	}
	u, err := url.Parse(fl.url)
	if err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	switch {
	case u.Scheme == "https":
		return nil, fmt.Errorf("--url %s: https is not spoken, only http\nhint: measure behind what ends TLS, or with vegeta or k6", fl.url)
	case u.Scheme != "http" || u.Hostname() == "":
		return nil, fmt.Errorf("--url %s: want http://HOST[:PORT]/PATH", fl.url)
	case u.User != nil:
		return nil, fmt.Errorf("--url %s: holds a user\nhint: --header 'Authorization: Basic ...'", u.Redacted())
	}
	l := &load{
		flags: fl, url: fl.url, addr: u.Host,
		request: &loadgen.Fixed{Method: strings.ToUpper(fl.method), Path: u.RequestURI()},
	}
	if u.Port() == "" {
		l.addr = net.JoinHostPort(u.Hostname(), "80")
	}
	if name, ok := strings.CutPrefix(fl.body, "@"); ok {
		if l.request.Body, err = os.ReadFile(name); err != nil {
			return nil, fmt.Errorf("--body: %w", err)
		}
	} else if fl.body != "" {
		l.request.Body = []byte(fl.body)
	}
	if l.request.Method == "" {
		l.request.Method = http.MethodGet
		if len(l.request.Body) > 0 {
			l.request.Method = http.MethodPost
		}
	}
	if l.request.Header, err = parseHeaders(fl.headers); err != nil {
		return nil, err
	}
	if problem := l.request.Check(); problem != "" {
		return nil, errors.New(problem)
	}
	switch {
	case (fl.rate == "") == (fl.clients == 0):
		return nil, errors.New("want either --rate, such as 5000/s, or --clients")
	case fl.rate != "":
		rate, err := loadgen.ParseRate(fl.rate)
		if err != nil {
			return nil, fmt.Errorf("--rate: %w", err)
		}
		l.arrivals = loadgen.Constant(rate)
	case fl.clients < 1 || fl.clients > maxClients:
		return nil, fmt.Errorf("--clients %d: is outside 1 to %d", fl.clients, maxClients)
	case connsGiven:
		return nil, errors.New("--max-conns: only with --rate; each client has one connection")
	case fl.driver == "vegeta":
		return nil, errors.New("--driver vegeta: only with --rate")
	}
	switch {
	case fl.driver != "http" && fl.driver != "vegeta":
		return nil, fmt.Errorf("--driver: unknown driver %q; have http, vegeta", fl.driver)
	case fl.maxConns < 1 || fl.maxConns > maxClients:
		return nil, fmt.Errorf("--max-conns %d: is outside 1 to %d", fl.maxConns, maxClients)
	case fl.duration <= 0:
		return nil, fmt.Errorf("--duration %v: is not positive", fl.duration)
	case fl.warmup < 0:
		return nil, fmt.Errorf("--warmup %v: is negative", fl.warmup)
	case fl.timeout <= 0:
		return nil, fmt.Errorf("--timeout %v: is not positive", fl.timeout)
	}
	return l, nil
}

// parseHeaders reads 'Name: value' fields.
func parseHeaders(fields []string) (http.Header, error) {
	var h http.Header
	for _, field := range fields {
		name, value, ok := strings.Cut(field, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" {
			return nil, fmt.Errorf("--header %q: want 'Name: value'", field)
		}
		switch name = http.CanonicalHeaderKey(name); name {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Statequake-Op":
			return nil, fmt.Errorf("--header %q: %s is set by the generator", field, name)
		}
		if h == nil {
			h = http.Header{}
		}
		h.Add(name, value)
	}
	return h, nil
}
