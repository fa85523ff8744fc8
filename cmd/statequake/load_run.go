package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"statequake/history"
	"statequake/loadgen"
	"statequake/reports/stats"
	"statequake/scenarios"
)

const (
	loadLead    = 50 * time.Millisecond // before the first request is due, so that the generator is ready for it
	connectable = 2 * time.Second       // how long an endpoint may take to accept the first connection
)

// load is one load on an endpoint.
type load struct {
	flags     *loadFlags
	url, addr string
	request   *loadgen.Fixed
	arrivals  loadgen.Arrivals // nil with clients
}

// run sends the load and measures. An error is the harness's own.
func (l *load) run(ctx context.Context) (*loadResult, error) {
	r := &loadResult{URL: l.url, Method: l.request.Method, Driver: l.flags.driver, Clients: l.flags.clients,
		Duration: l.flags.duration.Seconds(), Statuses: map[string]int64{}, Errors: []errorCount{}, Reasons: []string{}}
	if err := connect(ctx, l.addr); err != nil {
		r.Reasons = append(r.Reasons, fmt.Sprintf("Nothing was sent: %v.", err))
		r.code = exitUnknown
		return r, nil
	}
	tally := newTally(l.request, max(l.flags.clients, l.flags.maxConns))
	record := func(op *history.Op) { tally.record(op) }
	var writer *history.Writer
	if dir := l.flags.record; dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("--record: %w", err)
		}
		var err error
		if writer, err = history.Create(dir); err != nil {
			return nil, fmt.Errorf("--record: %w", err)
		}
		defer writer.Abort()
		record = func(op *history.Op) {
			tally.record(op)
			writer.Op(op)
		}
	}
	tag := make([]byte, 2)
	rand.Read(tag)
	began := time.Now()
	now := func() time.Duration { return time.Since(began) }
	start := loadLead
	end := l.flags.warmup + l.flags.duration
	tally.from, tally.to = start+l.flags.warmup, start+end
	generator, err := loadgen.New(loadgen.Config{
		Endpoints: []loadgen.Endpoint{{Node: l.addr, Addr: l.addr}}, Codec: tally, Workload: l.request, Driver: l.flags.driver,
		Arrivals: l.arrivals, Clients: l.flags.clients, MaxConns: l.flags.maxConns,
		Start: start, Warmup: l.flags.warmup, Duration: l.flags.duration, Timeout: l.flags.timeout,
		Tag: hex.EncodeToString(tag), Now: now, Record: record,
	})
	if err != nil {
		return nil, err
	}

	screen := newProgress(os.Stderr, nil)
	loading, stop := untilSignal(ctx)
	defer stop()
	over := make(chan struct{})
	var watch sync.WaitGroup
	var samples []history.Sample
	watch.Go(func() {
		tick := time.NewTicker(time.Second / 5)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-over:
				return
			case <-loading.Done():
				stop() // the next signal ends the process
				<-over
				return
			case <-tick.C:
			}
			if st := l.status(generator, now(), start); st.Elapsed > 0 {
				screen.show(st)
			}
			if n%5 == 0 {
				samples = append(samples, generatorSample(generator, now()))
			}
		}
	})
	before := resourcesUsed()
	done, err := generator.Run(loading)
	after := resourcesUsed()
	ended := now()
	close(over)
	watch.Wait()
	screen.end()
	samples = append(samples, generatorSample(generator, now()))
	if writer != nil {
		for _, s := range samples {
			writer.Sample(s)
		}
		err = errors.Join(err, writer.Close(history.Footer{Scheduled: done.Scheduled, End: now(), Stopped: done.Stopped}))
	}
	if err != nil {
		return nil, err
	}

	scheduled := done.Scheduled[history.Warmup] + done.Scheduled[history.Load]
	var due func(until time.Duration) int64
	if l.arrivals != nil {
		due = func(until time.Duration) int64 { return min(l.arrivals.Count(until-start+1), scheduled) }
		rate := float64(l.arrivals.Count(end)-l.arrivals.Count(l.flags.warmup)) / l.flags.duration.Seconds()
		r.RequestedRate = &rate
	}
	judged := stats.JudgeGenerator(samples, start+end, due, 0, 0)
	tally.fill(r, min(ended, start+end))
	r.Scheduled = done.Scheduled[history.Load]
	if l.arrivals != nil {
		r.SendLag = &sendLag{*judged.LagP50, *judged.LagP99, *judged.LagMax}
	}
	r.Generator.Verdict = judged.Verdict
	if scheduled > 0 {
		r.Generator.CPU = (after.cpu - before.cpu).Seconds() * 1e6 / float64(scheduled)
	}
	r.Generator.RSSMax = after.rssMax
	r.judge(judged.Reasons, done.Stopped)
	return r, nil
}

// connect makes sure that somebody listens: without it a wrong port would cost
// the whole duration and a timeout.
func connect(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, connectable)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

// status is the state of the load at an instant of the run clock.
func (l *load) status(g *loadgen.Generator, now, start time.Duration) scenarios.Status {
	total := l.flags.warmup + l.flags.duration
	st := scenarios.Status{
		At: now, Phase: "load", Elapsed: now - start, Total: total, LoadEnd: start + total, Load: g.Stats(), Generator: generatorSample(g, now),
	}
	if st.Elapsed < l.flags.warmup {
		st.Phase = "warmup"
	}
	if l.arrivals != nil {
		st.Due = func(until time.Duration) int64 { return l.arrivals.Count(min(until-start+1, total)) }
		second := now.Truncate(time.Second)
		st.Requested = float64(st.Due(second-1) - st.Due(second-time.Second-1))
	}
	return st
}

func generatorSample(g *loadgen.Generator, at time.Duration) history.Sample {
	st := g.Stats()
	used := resourcesUsed()
	return history.Sample{
		At: at, Node: stats.GeneratorNode, PID: os.Getpid(), CPU: used.cpu.Seconds(), RSS: used.rssMax,
		LagP50: st.LagP50, LagP99: st.LagP99, LagMax: st.LagMax, StallMax: st.StallMax, Dispatched: st.Dispatched,
	}
}

// resources are what this process has used so far.
type resources struct {
	cpu    time.Duration // user and system
	rssMax int64         // bytes
}

func resourcesUsed() resources {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return resources{}
	}
	return resources{time.Duration(u.Utime.Nano() + u.Stime.Nano()), u.Maxrss << 10}
}
