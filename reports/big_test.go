package reports

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/trace"
)

// bigRun is what is measured of a run of n operations, 20,000 a second: three
// operations on a thousand keys of three nodes, of which n2 is killed at a third
// of the load. What it is asked in the second after is answered when that is
// over, what was under way not at all.
func bigRun(n int) (*scenario, *trace.Run) {
	const rate, keys = 20_000, 1000
	rng := rand.New(rand.NewPCG(1, 0))
	due := func(i int) time.Duration { return time.Duration(i) * time.Second / rate }
	length := due(n)
	kill := length / 3
	down := min(time.Second, length/10)
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprint("counter-", i)
	}
	run := &trace.Run{Footer: &history.Footer{Scheduled: map[history.Phase]int64{history.Load: int64(n)}, End: length + 4*time.Second}}
	for i := range n {
		key := rng.IntN(keys)
		op := history.Op{N: int64(i), Phase: history.Load, Entity: "counter", Key: names[key], Name: []string{"add", "add", "get", "remove"}[rng.IntN(4)],
			Scheduled: due(i), Outcome: history.OK, Node: []string{"n1", "n2", "n3"}[key%3]}
		op.Sent = op.Scheduled + 30*time.Microsecond
		op.Returned = op.Scheduled + 500*time.Microsecond + time.Duration(rng.ExpFloat64()*float64(500*time.Microsecond))
		if op.Node == "n2" && op.Returned > kill && op.Scheduled < kill+down {
			if op.Node = "n3"; op.Scheduled < kill {
				op.Outcome, op.Node, op.Returned = history.Info, "", kill+time.Millisecond
			} else {
				op.Returned += kill + down - op.Scheduled
			}
		}
		run.Ops.Add(&op)
	}
	for _, e := range []history.Fault{
		{Event: history.Requested, At: kill - time.Millisecond},
		{Event: history.Injected, At: kill},
		{Event: history.Evidence, At: kill + time.Millisecond, Proof: history.Confirmed},
		{Event: history.Recovered, At: kill + 2*down},
	} {
		e.Name, e.Kind, e.Action, e.Targets = "kill-owner", "PodChaos", "pod-kill", []string{"n2"}
		run.Faults = append(run.Faults, e)
	}
	for at := time.Duration(0); at < length; at += time.Second {
		for i, node := range []string{"n1", "n2", "n3", "generator"} {
			run.Samples = append(run.Samples, history.Sample{At: at, Node: node, PID: 100 + i, CPU: at.Seconds() / 2, RSS: 80 << 20, Dispatched: int64(n)})
		}
	}
	plan := &scenario{}
	plan.Load.Duration = length
	plan.Expect = map[string]string{"steady.p99": "50ms", "answered_within.1s": "95%"}
	return plan, run
}

// BenchmarkReport measures a run and writes its reports; the history has been
// read and judged. STATEQUAKE_OPS is how many operations it has (100,000).
func BenchmarkReport(b *testing.B) {
	n := 100_000
	if text := os.Getenv("STATEQUAKE_OPS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			b.Fatalf("STATEQUAKE_OPS is %q, want a number of operations", text)
		}
	}
	plan, run := bigRun(n)
	v, err := judge("", plan, nil, run, 0)
	if err != nil {
		b.Fatal(err)
	}
	v.evidence = &history.Run{}
	size := 0
	dir := b.TempDir()
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"measure", func() error {
			_, err := judge("", plan, nil, run, 0)
			return err
		}},
		{"html", func() error {
			page, err := renderHTML(v)
			size = len(page)
			return err
		}},
		{"plots", func() error {
			_, err := v.plots()
			return err
		}},
		{"write", func() error { return Write(dir, v) }},
	} {
		b.Run(part.name, func(b *testing.B) {
			before := used()
			for b.Loop() {
				if err := part.do(); err != nil {
					b.Fatal(err)
				}
			}
			after := used()
			b.ReportMetric(float64(cpu(after)-cpu(before))/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(after.Maxrss<<10), "maxRSS-bytes") // of the process, up to now
			if part.name == "html" {
				b.ReportMetric(float64(size), "page-bytes")
			}
		})
	}
}

// used is what this process has used.
func used() (u syscall.Rusage) {
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u
}

func cpu(u syscall.Rusage) int64 { return u.Utime.Nano() + u.Stime.Nano() }
