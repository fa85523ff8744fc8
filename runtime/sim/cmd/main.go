// Command cmd simulates clusters of the reference runtime: many seeds on all
// CPUs, or one seed with its trace.
//
//	go run ./runtime/sim/cmd -seeds 100000
//	go run ./runtime/sim/cmd -seed 17 -v
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"statequake/runtime/sim"
)

// maxFailures is how many failures are reported before the search ends.
const maxFailures = 3

func main() {
	seeds := flag.Uint64("seeds", 1000, "simulate this many seeds, from -from on")
	from := flag.Uint64("from", 0, "the first seed")
	seed := flag.Uint64("seed", 0, "simulate this seed alone")
	bug := flag.String("bug", "", "plant a bug: "+fmt.Sprint(sim.BugNames()))
	auditOnly := flag.Bool("audit-only", false, "judge by what clients saw alone")
	verbose := flag.Bool("v", false, "with -seed: print every event")
	flag.Parse()
	one := false
	flag.Visit(func(f *flag.Flag) { one = one || f.Name == "seed" })
	config := func(seed uint64) sim.Config {
		cfg, err := sim.ForSeed(seed, *bug)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		cfg.AuditOnly = *auditOnly
		return cfg
	}
	if one {
		cfg := config(*seed)
		if *verbose {
			cfg.Trace = os.Stdout
		}
		r := sim.Run(cfg)
		fmt.Printf("seed %d: %d ops, %d faults, %d takeovers, %d cuts, %v simulated, trace %016x\n",
			*seed, r.Ops, r.Faults, r.Takeovers, r.Cuts, r.Virtual.Round(time.Millisecond), r.Hash)
		if r.Violation != "" {
			fmt.Println("violation:", r.Violation)
			os.Exit(1)
		}
		return
	}
	if !search(os.Stdout, *from, *seeds, config, *bug, *auditOnly) {
		os.Exit(1)
	}
}

// search simulates seeds on all CPUs and returns whether none failed.
func search(out io.Writer, from, seeds uint64, config func(uint64) sim.Config, bug string, auditOnly bool) bool {
	config(from) // names of bugs are checked once
	var next, done, virtual, ops, faults, takeovers, cuts, failures atomic.Int64
	var mu sync.Mutex
	began := time.Now()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for failures.Load() < maxFailures {
				i := next.Add(1) - 1
				if uint64(i) >= seeds {
					return
				}
				seed := from + uint64(i)
				r := sim.Run(config(seed))
				done.Add(1)
				virtual.Add(int64(r.Virtual))
				ops.Add(int64(r.Ops))
				faults.Add(int64(r.Faults))
				takeovers.Add(int64(r.Takeovers))
				cuts.Add(int64(r.Cuts))
				if r.Violation != "" {
					failures.Add(1)
					mu.Lock()
					fmt.Fprintf(out, "seed %d: %s\nhint: %s\n", seed, r.Violation, sim.Replay(seed, bug, auditOnly))
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	fmt.Fprintf(out, "%d seeds, %d failed: %d ops, %d faults, %d takeovers, %d cuts in %v; %.0f seeds/min, %.1f simulated hours per hour\n",
		done.Load(), failures.Load(), ops.Load(), faults.Load(), takeovers.Load(), cuts.Load(), took.Round(time.Millisecond),
		float64(done.Load())/took.Minutes(), time.Duration(virtual.Load()).Hours()/took.Hours())
	return failures.Load() == 0
}
