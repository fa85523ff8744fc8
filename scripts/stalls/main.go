// Stalls puts to the test whom a run blames for a stall. It stops the load
// generator (SIGSTOP to the one process that generates the load, and to nothing
// else), or nodes of the system by a ProcessPause, again and again: the first has
// to make the generator invalid and the run unknown, the second must never be
// blamed on the generator, however few its connections are.
//
//	go run ./scripts/stalls -n 20                    # all cases
//	go run ./scripts/stalls -n 20 generator nodes    # two of them
//
// In the cases short and after the generator is stopped for less than the limit,
// and after its load was over: neither is a stall of the load. In the case control
// nothing is stopped: what is not valid there is the machine's doing, and so may be
// as much elsewhere.
//
// It exits 0 if every run blamed whom it had to, 1 if one did not, 3 if it could
// not be told.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"statequake/scripts/campaign"
)

func main() {
	var c stalls
	flag.IntVar(&c.n, "n", 20, "runs of each case")
	flag.IntVar(&c.parallel, "parallel", 1, "runs at a time; more than one disturb each other")
	flag.StringVar(&c.binary, "bin", "bin/statequake", "the program")
	flag.StringVar(&c.dir, "runs", "runs/stalls", "folder for scenarios and run directories")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := c.run(ctx, flag.Args(), os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "stalls: %v\n", err)
		os.Exit(3)
	case !ok:
		os.Exit(1)
	}
}

const scenario = `# Claim: a stall is blamed on who stalled.
name: stalls-%s
seed: 1
system: {name: reference, nodes: 3, ack: durable}
load:
  workload: {name: %s, keys: 200}
  driver: %s
  arrivals: {constant: 300/s}
  max_conns: %d
  warmup: %s
  duration: %s
  timeout: 10s
%s`

const (
	warmup   = 2 * time.Second
	duration = 4 * time.Second
	over     = warmup + duration
)

// A kind of run. Instants count from the start of the warmup.
type kind struct {
	name     string
	workload string // "" is shopping-cart
	driver   string // "" is http
	conns    int    // 0 is 1,024

	stop time.Duration // of the generator, how long; 0: not at all
	at   time.Duration // when

	pause string // of nodes: mode, value and selector of a ProcessPause
	lasts string // how long

	blamed bool // on the generator: invalid, and the run unknown
	lags   bool // the generator may well be degraded
}

const owner = "mode: one, selector: {labelSelectors: {statequake.dev/owner-of: hottest}}"

var kinds = []kind{
	{name: "control"},
	{name: "generator", stop: 500 * time.Millisecond, at: warmup + duration/2, blamed: true},
	{name: "generator-vegeta", driver: "vegeta", stop: 500 * time.Millisecond, at: warmup + duration/2, blamed: true},
	{name: "generator-few", conns: 10, stop: 500 * time.Millisecond, at: warmup + duration/2, blamed: true},
	{name: "warmup", stop: 500 * time.Millisecond, at: warmup - 500*time.Millisecond, blamed: true},
	{name: "end", stop: 500 * time.Millisecond, at: over - 100*time.Millisecond, blamed: true},
	{name: "short", stop: 150 * time.Millisecond, at: warmup + duration/2, lags: true},
	// Runs of a ledger wait for timers before they are audited.
	{name: "after", workload: "ledger", stop: 500 * time.Millisecond, at: over + 2*time.Second},
	{name: "node", pause: owner, lasts: "500ms"},
	{name: "node-few", conns: 10, pause: owner, lasts: "2s"},
	{name: "nodes", pause: `mode: fixed, value: "2", selector: {}`, lasts: "1s"},
	{name: "node-vegeta", driver: "vegeta", pause: owner, lasts: "1s"},
	{name: "nodes-vegeta-few", driver: "vegeta", conns: 10, pause: "mode: all, selector: {}", lasts: "2s"},
}

func (k kind) scenario() string {
	workload, driver, conns, fault := k.workload, k.driver, k.conns, ""
	if workload == "" {
		workload = "shopping-cart"
	}
	if driver == "" {
		driver = "http"
	}
	if conns == 0 {
		conns = 1024
	}
	if k.pause != "" {
		fault = fmt.Sprintf("faults:\n  - name: pause\n    at: 1s\n    chaos: {kind: ProcessPause, spec: {%s, duration: %s}}\n", k.pause, k.lasts)
	}
	return fmt.Sprintf(scenario, k.name, workload, driver, conns, warmup, duration, fault)
}

// right tells whether a verdict blames whom it should.
func (k kind) right(v *campaign.Verdict) bool {
	switch {
	case v.Verdict == "violation" || v.Verdict == campaign.Failed:
		return false
	case k.blamed:
		return v.Load.Generator == "invalid" && v.Verdict == "unknown" && stall(v) != 0
	case k.lags:
		return v.Load.Generator != "invalid"
	}
	return v.Load.Generator == "valid"
}

// stall is for how long the load generator says that it did not get to run; 0 if
// it says no such thing.
func stall(v *campaign.Verdict) time.Duration {
	for _, reason := range v.Reasons {
		var length string
		if n, _ := fmt.Sscanf(reason, "The load generator did not get to run for %s", &length); n == 1 {
			if d, err := time.ParseDuration(length); err == nil {
				return d
			}
		}
	}
	return 0
}

// stalls is n runs of every kind.
type stalls struct {
	n, parallel int
	binary, dir string
}

// tally is what has come of one kind so far.
type tally struct {
	kind
	right    int
	verdicts map[string]int  // of the generator
	stalls   []time.Duration // as the runs say
	notes    []string
}

func (c stalls) run(ctx context.Context, names []string, out io.Writer) (ok bool, err error) {
	if c.n < 1 {
		return false, fmt.Errorf("-n %d: there is nothing to run", c.n)
	}
	var plan []*tally
	for _, k := range kinds {
		if len(names) == 0 || slices.Contains(names, k.name) {
			plan = append(plan, &tally{kind: k, verdicts: map[string]int{}})
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(kinds, func(k kind) bool { return k.name == name }) {
			return false, fmt.Errorf("no case %s", name)
		}
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return false, err
	}
	for _, t := range plan {
		if err := os.WriteFile(c.file(t.kind), []byte(t.scenario()), 0o644); err != nil {
			return false, err
		}
	}
	began := time.Now()
	var mu sync.Mutex
	done, runs := 0, c.n*len(plan)
	err = campaign.Each(ctx, runs, c.parallel, func(ctx context.Context, i int) error {
		t, seed := plan[i%len(plan)], 1+i/len(plan) // a round of all, then the next
		dir := filepath.Join(c.dir, fmt.Sprintf("%s-%d", t.name, seed))
		v, err := c.once(ctx, t.kind, dir, seed)
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		mu.Lock()
		defer mu.Unlock()
		done++
		t.verdicts[v.Load.Generator]++
		if s := stall(v); s != 0 {
			t.stalls = append(t.stalls, s)
		}
		word := "right"
		if t.kind.right(v) {
			t.right++
		} else {
			word = "WRONG"
			t.notes = append(t.notes, fmt.Sprintf("%s: %s, generator %s: %s", dir, v.Verdict, v.Load.Generator, strings.Join(v.Reasons, " ")))
		}
		fmt.Fprintf(out, "[%d/%d, %s] %-17s seed %-3d %s: %s, generator %s\n", done, runs, time.Since(began).Round(time.Second), t.name, seed, word, v.Verdict, v.Load.Generator)
		return nil
	})
	if err != nil {
		return false, err
	}
	return c.report(plan, time.Since(began), out)
}

func (c stalls) file(k kind) string { return filepath.Join(c.dir, k.name+".yaml") }

// once makes a run, and stops its generator if it is of that kind.
func (c stalls) once(ctx context.Context, k kind, dir string, seed int) (*campaign.Verdict, error) {
	if err := os.RemoveAll(dir); err != nil { // or its old history would be taken for the new one
		return nil, err
	}
	watching, cancel := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() {
		if k.stop == 0 {
			stopped <- nil
			return
		}
		stopped <- stopGenerator(watching, dir, k.at, k.stop)
	}()
	run := campaign.Run{Binary: c.binary, Dir: dir, Args: []string{c.file(k), "--set", fmt.Sprintf("seed=%d", seed)}}
	_, v, err := run.Do(ctx)
	cancel()
	return v, errors.Join(err, <-stopped)
}

func (c stalls) report(plan []*tally, took time.Duration, out io.Writer) (ok bool, err error) {
	rows := [][]string{{"case", "right", "generator", "stall as told: median", "least", "most"}}
	right := 0
	for _, t := range plan {
		right += t.right
		var words []string
		for _, verdict := range slices.Sorted(maps.Keys(t.verdicts)) {
			words = append(words, fmt.Sprintf("%d %s", t.verdicts[verdict], verdict))
		}
		row := []string{t.name, fmt.Sprintf("%d/%d", t.right, c.n), strings.Join(words, ", "), "-", "-", "-"}
		if len(t.stalls) > 0 {
			for i, q := range []float64{0.5, 0, 1} {
				row[3+i] = campaign.Words(campaign.Quantile(t.stalls, q))
			}
		}
		rows = append(rows, row)
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	if err := table.Flush(); err != nil {
		return false, err
	}
	fmt.Fprintln(out)
	for _, t := range plan {
		for _, note := range t.notes {
			fmt.Fprintln(out, note)
		}
	}
	fmt.Fprintf(out, "%d of %d runs blamed whom they had to, in %s\n", right, c.n*len(plan), took.Round(time.Second))
	return right == c.n*len(plan), nil
}
