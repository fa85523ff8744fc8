// Loadbench measures what a request costs the client that sends it: CPU time,
// user and system, of wrk, of vegeta as a library and of statequake load, with
// and without a recording. All send the same request to one net/http server, one
// after the other, round after round.
//
//	go run ./scripts/loadbench -n 5 -d 10s
//
// It exits with 1 if a limit is missed, or nothing was measured.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

const body = `{"item":"sku-17","quantity":1,"by":"u-4"}` // 41 bytes

var (
	rounds  = flag.Int("n", 5, "rounds")
	length  = flag.Duration("d", 10*time.Second, "of each load")
	clients = flag.Int("clients", 32, "connections, each with one request at a time")
	program = flag.String("program", "bin/statequake", "the statequake to measure")
	only    = flag.String("only", "", "measure the clients whose names match this expression alone")
	role    = flag.String("role", "", "what this process is when loadbench starts itself: server or vegeta")
	target  = flag.String("url", "", "with -role vegeta: what to ask")
)

func main() {
	flag.Parse()
	var err error
	switch *role {
	case "server":
		err = serve()
	case "vegeta":
		err = attack()
	default:
		err = bench()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadbench:", err)
		os.Exit(1)
	}
}

// serve answers with what it was sent, until stdin ends.
func serve() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(b)
	}))
	fmt.Println("http://" + l.Addr().String() + "/echo")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// attack is vegeta without a rate: so many workers, as fast as they can.
func attack() error {
	attacker := vegeta.NewAttacker(vegeta.Workers(uint64(*clients)), vegeta.MaxWorkers(uint64(*clients)), vegeta.Connections(*clients))
	targeter := vegeta.NewStaticTargeter(vegeta.Target{
		Method: "POST", URL: *target, Body: []byte(body), Header: http.Header{"Content-Type": {"application/json"}},
	})
	n := 0
	for r := range attacker.Attack(targeter, vegeta.ConstantPacer{}, *length, "") {
		if r.Code != 200 {
			return fmt.Errorf("status %d: %s", r.Code, r.Error)
		}
		n++
	}
	fmt.Println(n)
	return nil
}

// client is one load generator.
type client struct {
	name string
	most float64 // times wrk, median of the ratios within rounds; 0: no limit
	args func(url string) []string
	done func(stdout []byte) (requests int64, err error) // that were answered ok

	cpu, rate []float64 // by round: us per request, requests per second
}

func bench() error {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		return fmt.Errorf("%w\nhint: apt-get install wrk; figures are compared with those of wrk 4.1.0", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "loadbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	script := filepath.Join(dir, "post.lua")
	lua := fmt.Sprintf("wrk.method = \"POST\"\nwrk.body = %q\nwrk.headers[\"Content-Type\"] = \"application/json\"\n", body)
	if err := os.WriteFile(script, []byte(lua), 0o644); err != nil {
		return err
	}
	n := strconv.Itoa(*clients)
	load := func(url string) []string {
		return []string{*program, "load", "--url", url, "--body", body, "--clients", n, "--duration", length.String(), "--json"}
	}
	recorded := filepath.Join(dir, "run")
	all := []*client{
		{name: "wrk", args: func(url string) []string {
			return []string{wrk, "-t2", "-c" + n, "-d" + strconv.Itoa(int(length.Seconds())) + "s", "-s", script, url}
		}, done: wrkDone},
		{name: "statequake load", most: 1.15, args: load, done: loadDone},
		{name: "statequake load --record", most: 1.4, args: func(url string) []string {
			os.RemoveAll(recorded)
			return append(load(url), "--record", recorded)
		}, done: loadDone},
		{name: "vegeta library", args: func(url string) []string {
			return []string{self, "-role", "vegeta", "-clients", n, "-d", length.String(), "-url", url}
		}, done: func(out []byte) (int64, error) { return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64) }},
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	all = slices.DeleteFunc(all, func(c *client) bool { return c.name != "wrk" && !wanted.MatchString(c.name) })

	server := exec.Command(self, "-role", "server")
	hold, err := server.StdinPipe()
	if err != nil {
		return err
	}
	out, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Wait()
	defer hold.Close()
	var url string
	if _, err := fmt.Fscanln(out, &url); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}

	fmt.Printf("%d rounds of %v each, %d connections, POST of %d bytes to a net/http echo server, %d CPUs\n", *rounds, *length, *clients, len(body), runtime.NumCPU())
	for round := range *rounds {
		for i := range all { // another one goes first each time
			c := all[(i+round)%len(all)]
			if err := c.measure(url); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d:", round+1, *rounds)
		for _, c := range all {
			fmt.Fprintf(os.Stderr, "  %s %.2f us, %.0f/s", c.name, c.cpu[round], c.rate[round])
		}
		fmt.Fprintln(os.Stderr)
	}
	return report(all)
}

// measure runs the client once.
func (c *client) measure(url string) error {
	args := c.args(url)
	cmd := exec.Command(args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	n, bad := c.done(stdout.Bytes())
	if bad != nil {
		return fmt.Errorf("%v: %w\n%s%s", args, bad, stdout.Bytes(), stderr.Bytes())
	}
	if n == 0 {
		return fmt.Errorf("%v: no request was answered: %v\n%s%s", args, err, stdout.Bytes(), stderr.Bytes())
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	c.cpu = append(c.cpu, used.Seconds()*1e6/float64(n))
	c.rate = append(c.rate, float64(n)/min(took, *length).Seconds())
	return nil
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkErrors   = regexp.MustCompile(`Socket errors|Non-2xx`)
)

func wrkDone(out []byte) (int64, error) {
	m := wrkRequests.FindSubmatch(out)
	if m == nil || wrkErrors.Match(out) {
		return 0, fmt.Errorf("wrk did not say how many requests were answered, or not all were")
	}
	return strconv.ParseInt(string(m[1]), 10, 64)
}

// loadDone takes a run whose generator was disturbed, too: it is the CPU time
// that is measured.
func loadDone(out []byte) (int64, error) {
	var r struct {
		Scheduled int64 `json:"scheduled"`
		OK        int64 `json:"answered_ok"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return 0, err
	}
	if r.OK != r.Scheduled {
		return 0, fmt.Errorf("%d of %d requests were answered ok", r.OK, r.Scheduled)
	}
	return r.OK, nil
}

func report(all []*client) error {
	wrk := all[0]
	var missed error
	fmt.Printf("\n%-26s %-24s %-14s %-22s %-12s %s\n", "client", "CPU us/request", "x wrk, medians", "x wrk, within rounds", "requests/s", "limit")
	for _, c := range all {
		var ratios []float64
		for i := range c.cpu {
			ratios = append(ratios, c.cpu[i]/wrk.cpu[i])
		}
		limit := "none"
		if c.most > 0 {
			limit = fmt.Sprintf("%.2f x wrk, met", c.most)
			if median(ratios) > c.most {
				limit = fmt.Sprintf("%.2f x wrk, missed", c.most)
				missed = errors.Join(missed, fmt.Errorf("%s: %.2f times wrk is over the limit of %.2f", c.name, median(ratios), c.most))
			}
		}
		fmt.Printf("%-26s %-24s %-14.2f %-22s %-12.0f %s\n", c.name, spread(c.cpu), median(c.cpu)/median(wrk.cpu), spread(ratios), median(c.rate), limit)
	}
	fmt.Printf("\nmedian [least-most] of %d; the CPU time that starting the client takes is included\n", *rounds)
	return missed
}

func spread(v []float64) string {
	return fmt.Sprintf("%.2f [%.2f-%.2f]", median(v), slices.Min(v), slices.Max(v))
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
