// Soak shows how much memory the harness takes in a long run, over time, what its
// load generator takes of the CPU, how large the history gets on disk, and what
// judging takes afterwards, in a process of its own. The system is a cheap service
// of registers (fixtures/scripted), so that the harness is what is measured; with
// -system reference it is the reference runtime with ack: memory, whose answers
// are longer.
//
//	go run ./scripts/soak -duration 10m -rate 5000
//
// It exits 0 if the memory of the harness stayed flat (the median of the last
// quarter of the load at most 10 % and 8 MiB above that of the second) and within
// -limit, and a compressed history took at most -bytes per operation; 1 if not; 2
// if the load generator was invalid, so that nothing was measured; 3 if it could not
// be told.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"statequake/history"
	"statequake/scripts/campaign"
)

func main() {
	var c soak
	flag.DurationVar(&c.duration, "duration", 10*time.Minute, "of the load")
	flag.IntVar(&c.rate, "rate", 5000, "operations per second")
	flag.StringVar(&c.system, "system", "scripted", "scripted or reference")
	flag.Int64Var(&c.limit, "limit", 150, "MiB that the harness may take during the load")
	flag.Float64Var(&c.bytes, "bytes", 60, "bytes that an operation may take on disk")
	flag.StringVar(&c.binary, "bin", "bin/statequake", "the program")
	flag.StringVar(&c.dir, "runs", "runs/soak", "folder for the service, its scenario and the run directory")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := c.run(ctx, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "soak: %v\n", err)
		code = 3
	}
	os.Exit(code)
}

const scenario = `# Claim: the harness takes no more memory the longer a run goes on.
name: soak-harness
seed: 1
system:
  name: %s
%s
load:
  workload: %s
  arrivals: {constant: %d/s}
  warmup: 5s
  duration: %s
  timeout: 10s
record: {compress: true}
`

const scripted = `  exec:
    start: ["%s", "-listen", "127.0.0.1:${port}", "-data", "${data_dir}"]
    ready_url: http://127.0.0.1:${port}/ready
  http:
    ops:
      set: {method: PUT, path: "/registers/${key}", body: '{"value": ${args.value}}'}
      get: {path: "/registers/${key}"}
    replies:
      - {status: 200, outcome: ok, result: {value: /value}}
      - {status: 503, outcome: fail}`

// soak is one long run.
type soak struct {
	duration    time.Duration
	rate        int
	system      string
	limit       int64
	bytes       float64
	binary, dir string
}

func (c soak) run(ctx context.Context, out io.Writer) (code int, err error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return 0, err
	}
	system, workload := "  nodes: 1\n  ack: memory", "{name: shopping-cart, keys: 1000, skew: {zipf: 0.99}, mix: {add: 70, remove: 10, get: 20}}"
	switch c.system {
	case "reference":
	case "scripted":
		service, err := filepath.Abs(filepath.Join(c.dir, "scripted"))
		if err != nil {
			return 0, err
		}
		if text, err := exec.CommandContext(ctx, "go", "build", "-o", service, "./fixtures/scripted").CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build fixtures/scripted: %w\n%s", err, text)
		}
		system, workload = fmt.Sprintf(scripted, service), "{name: register, keys: 1000}"
	default:
		return 0, fmt.Errorf("-system: %q is neither scripted nor reference", c.system)
	}
	file := filepath.Join(c.dir, "soak.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, scenario, c.system, system, workload, c.rate, c.duration), 0o644); err != nil {
		return 0, err
	}
	dir := filepath.Join(c.dir, "run")
	run := campaign.Run{Binary: c.binary, Dir: dir, Args: []string{file}, Output: os.Stderr}
	outcome, v, err := run.Do(ctx)
	if err != nil {
		return 0, err
	}
	if v.Verdict == campaign.Failed {
		return 0, errors.New(v.Reasons[0])
	}
	fmt.Fprintf(out, "%s at %d/s for %v: %s, generator %s, exit code %d after %s\n", c.system, c.rate, c.duration, v.Verdict, v.Load.Generator, outcome.Code, outcome.Took.Round(time.Second))

	var samples []history.Sample
	var first, last time.Duration // operations of the load were due
	ops := 0
	recorded, err := history.ReadRun(dir, func(op *history.Op) error {
		ops++
		if op.Phase == history.Load {
			if first == 0 || op.Scheduled < first {
				first = op.Scheduled
			}
			last = max(last, op.Scheduled)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, s := range recorded.Samples {
		if s.Node == "generator" && s.At >= first && s.At <= last {
			samples = append(samples, s)
		}
	}
	if len(samples) < 8 {
		return 0, fmt.Errorf("%s: only %d samples in the load", dir, len(samples))
	}
	fits := report(out, samples, c.limit)

	info, err := os.Stat(filepath.Join(dir, "history.jsonl.zst"))
	if err != nil {
		return 0, err
	}
	per := float64(info.Size()) / float64(ops)
	fmt.Fprintf(out, "history     %.1f bytes per operation (%d operations, limit %.0f)\n", per, ops, c.bytes)

	began := time.Now()
	check := exec.CommandContext(ctx, c.binary, "check", dir)
	text, err := check.CombinedOutput()
	if exited := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exited) {
		return 0, fmt.Errorf("judge it again: %w\n%s", err, text)
	}
	took := time.Since(began)
	if usage, ok := check.ProcessState.SysUsage().(*syscall.Rusage); ok {
		fmt.Fprintf(out, "judging     %d MiB at most, %.1f s, by a process of its own; statequake run does it after the load\n", usage.Maxrss>>10, took.Seconds())
	}
	switch {
	case v.Load.Generator == "invalid":
		fmt.Fprintln(out, "nothing was measured:", v.Reasons)
		return 2, nil
	case !fits || per > c.bytes:
		return 1, nil
	}
	return 0, nil
}

// report prints what the harness took in the course of the load, and tells whether
// that stayed flat and within the limit, in MiB.
func report(out io.Writer, samples []history.Sample, limit int64) bool {
	n := len(samples)
	mib := func(bytes int64) int64 { return bytes >> 20 }
	fmt.Fprintf(out, "memory      ")
	for _, q := range []struct {
		name string
		at   int
	}{{"start", 0}, {"1/4", n / 4}, {"middle", n / 2}, {"3/4", 3 * n / 4}, {"end", n - 1}} {
		fmt.Fprintf(out, "%s %d, ", q.name, mib(samples[q.at].RSS))
	}
	most := slices.MaxFunc(samples, func(a, b history.Sample) int { return int(a.RSS - b.RSS) }).RSS
	before, after := middle(samples[n/4:n/2]), middle(samples[3*n/4:])
	flat := after <= before+before/10+8<<20
	word := "flat"
	if !flat {
		word = "NOT flat"
	}
	fmt.Fprintf(out, "max %d MiB (limit %d); median of the second quarter %d, of the last %d: %s; n = %d samples\n", mib(most), limit, mib(before), mib(after), word, n)
	length := (samples[n-1].At - samples[0].At).Seconds()
	fmt.Fprintf(out, "CPU         %.3f s per s\n", (samples[n-1].CPU-samples[0].CPU)/length)
	end := samples[n-1]
	fmt.Fprintf(out, "send lag    p50 %v, p99 %v, max %v\n", end.LagP50, end.LagP99, end.LagMax)
	return flat && most <= limit<<20
}

// middle is the median of what samples took.
func middle(samples []history.Sample) int64 {
	var all []int64
	for _, s := range samples {
		all = append(all, s.RSS)
	}
	slices.Sort(all)
	return all[(len(all)-1)/2]
}
