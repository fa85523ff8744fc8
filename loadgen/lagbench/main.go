// Lagbench measures how exactly the http driver keeps its schedule, and what CPU
// that costs: against a server of its own, in another process, at each rate in
// turns, so many rounds.
//
//	go run ./loadgen/lagbench -n 5
//
// How late an operation is, is measured at three places:
//
//	made     when the worker that keeps the pace has woken up and made it
//	sent     when its worker, awake, is about to write it: the send lag of the reports
//	arrived  when the server has its first byte, by the same clock of the machine
//	         (CLOCK_MONOTONIC); "off the line" takes away what the earliest one
//	         took, as an observer does who does not know when the load began
//
// Every figure is the median of the rounds, with the least and the most.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"statequake/history"
	"statequake/loadgen"
)

func main() {
	n := flag.Int("n", 5, "rounds")
	length := flag.Duration("duration", 5*time.Second, "of the load of a round, after a second of warmup")
	rates := flag.String("rates", "1000,5000", "operations per second")
	serving := flag.Bool("serve", false, "be the server")
	flag.Parse()
	err := error(nil)
	if *serving {
		err = serve()
	} else {
		err = bench(*n, *length, *rates, os.Stdout)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "lagbench: %v\n", err)
		os.Exit(3)
	}
}

// monotonic is the clock that all processes of a machine share.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // Linux always has it
	}
	return time.Duration(t.Nano())
}

// serve answers every request at once and keeps when it came. It prints its
// address, and ends with its standard input.
func serve() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	var mu sync.Mutex
	var came []int64 // pairs: number of the operation, instant
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			in := bufio.NewReader(conn)
			for {
				if _, err := in.Peek(1); err != nil {
					return
				}
				at := monotonic()
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				io.Copy(io.Discard, r.Body)
				body := []byte("{}")
				mu.Lock()
				if r.Method == http.MethodGet { // asks for what came since it was asked last
					body = nil
					for _, v := range came {
						body = binary.LittleEndian.AppendUint64(body, uint64(v))
					}
					came = came[:0]
				} else if n, err := strconv.ParseInt(r.URL.Path[1:], 10, 64); err == nil {
					came = append(came, n, int64(at))
				}
				mu.Unlock()
				if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
					return
				}
			}
		}()
	}
}

// codec posts each operation to a path that is its number.
type codec struct{}

func (codec) Request(op *history.Op) (method, path string, header http.Header, body []byte) {
	return http.MethodPost, "/" + strconv.FormatInt(op.N, 10), nil, op.Args
}

func (codec) Response(op *history.Op, status int, body []byte) {
	if status == http.StatusOK {
		op.Outcome, op.Result = history.OK, body
	}
}

// watched is a constant rate that notes when it is asked for the next operation,
// which is when the one before it is made.
type watched struct {
	loadgen.Constant
	now  func() time.Duration
	came *[]time.Duration
}

func (w watched) At(n int64) time.Duration {
	if n == int64(len(*w.came)) {
		*w.came = append(*w.came, w.now())
	}
	return w.Constant.At(n)
}

// round is what one round measured.
type round struct {
	made, sent, arrived, line []time.Duration // how late each operation was
	cpu                       float64         // seconds of CPU per second, of the generator's process
}

func bench(n int, length time.Duration, rates string, out io.Writer) error {
	if n < 1 {
		return fmt.Errorf("-n %d: there is nothing to measure", n)
	}
	var all []int
	for _, text := range strings.Split(rates, ",") {
		rate, err := strconv.Atoi(text)
		if err != nil || rate < 1 {
			return fmt.Errorf("-rates: %q is no rate", text)
		}
		all = append(all, rate)
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	server := exec.Command(binary, "-serve")
	server.Stderr = os.Stderr
	stdin, err := server.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Wait()
	defer stdin.Close()
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server did not start: %w", err)
	}
	address = strings.TrimSpace(address)

	rounds := map[int][]round{}
	for i := range n {
		for _, rate := range all {
			r, err := measure(address, rate, length)
			if err != nil {
				return err
			}
			rounds[rate] = append(rounds[rate], r)
			fmt.Fprintf(os.Stderr, "round %d of %d, %d/s: sent p50 %s\n", i+1, n, rate, micros(quantile(r.sent, 0.5)))
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "rate\thow late\tp50\tp99\tmax\tn = %d rounds of %v\n", n, length)
	for _, rate := range all {
		for _, place := range []struct {
			name string
			of   func(round) []time.Duration
		}{
			{"made", func(r round) []time.Duration { return r.made }},
			{"sent", func(r round) []time.Duration { return r.sent }},
			{"arrived", func(r round) []time.Duration { return r.arrived }},
			{"arrived, off the line", func(r round) []time.Duration { return r.line }},
		} {
			fmt.Fprintf(table, "%d/s\t%s", rate, place.name)
			for _, q := range []float64{0.5, 0.99, 1} {
				var values []time.Duration
				for _, r := range rounds[rate] {
					values = append(values, quantile(place.of(r), q))
				}
				fmt.Fprintf(table, "\t%s [%s-%s]", micros(quantile(values, 0.5)), micros(slices.Min(values)), micros(slices.Max(values)))
			}
			fmt.Fprintln(table, "\t")
		}
		var cpu []float64
		for _, r := range rounds[rate] {
			cpu = append(cpu, r.cpu)
		}
		slices.Sort(cpu)
		fmt.Fprintf(table, "%d/s\tCPU s per s\t%.3f [%.3f-%.3f]\t\t\t\n", rate, cpu[(n-1)/2], cpu[0], cpu[n-1])
	}
	return table.Flush()
}

// quantile is the smallest of the values that at least the share q of them does not
// exceed (nearest rank). It sorts them.
func quantile(values []time.Duration, q float64) time.Duration {
	slices.Sort(values)
	return values[max(0, int(math.Ceil(q*float64(len(values))))-1)]
}

func micros(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/1e3, 'f', 0, 64) + " µs"
}

func measure(address string, rate int, length time.Duration) (round, error) {
	const warmup = time.Second
	workload, err := loadgen.NewWorkload(loadgen.WorkloadConfig{Name: "counter", Keys: 1000, Seed: 1})
	if err != nil {
		return round{}, err
	}
	zero, began := monotonic(), time.Now()
	now := func() time.Duration { return time.Since(began) }
	start := 100 * time.Millisecond
	constant := loadgen.Constant(rate)
	total := constant.Count(warmup + length)
	came := make([]time.Duration, 0, total+1)
	ops := make([]history.Op, total)
	g, err := loadgen.New(loadgen.Config{
		Endpoints: []loadgen.Endpoint{{Node: "server", Addr: address}}, Codec: codec{}, Workload: workload,
		Arrivals: watched{constant, now, &came}, Start: start, Warmup: warmup, Duration: length, Timeout: 10 * time.Second,
		Tag: "1a9b", Now: now,
		Record: func(op *history.Op) { ops[op.N] = *op },
	})
	if err != nil {
		return round{}, err
	}
	before := cpu()
	if _, err := g.Run(context.Background()); err != nil {
		return round{}, err
	}
	r := round{cpu: (cpu() - before).Seconds() / now().Seconds()}

	response, err := http.Get("http://" + address + "/")
	if err != nil {
		return round{}, err
	}
	defer response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return round{}, err
	}
	arrived := make([]time.Duration, total)
	for ; len(data) >= 16; data = data[16:] {
		n, at := binary.LittleEndian.Uint64(data), time.Duration(binary.LittleEndian.Uint64(data[8:]))
		if n >= uint64(total) {
			return round{}, fmt.Errorf("the server got operation %d of %d", n, total)
		}
		arrived[n] = at - zero
	}
	for n := constant.Count(warmup); n < total; n++ {
		op := &ops[n]
		if op.Outcome != history.OK || op.Attempts != 1 || arrived[n] == 0 {
			return round{}, fmt.Errorf("operation %d: %s after %d attempts: %s", n, op.Outcome, op.Attempts, op.Error)
		}
		r.made = append(r.made, came[n+1]-op.Scheduled)
		r.sent = append(r.sent, op.Sent-op.Scheduled)
		r.arrived = append(r.arrived, arrived[n]-op.Scheduled)
	}
	least := slices.Min(r.arrived)
	for _, d := range r.arrived {
		r.line = append(r.line, d-least)
	}
	return r, nil
}

// cpu is what this process has used, user and system.
func cpu() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		panic(err) // of oneself it is always known
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
