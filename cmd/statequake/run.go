package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"statequake/fixtures/sandbox"
	"statequake/history"
	"statequake/reports"
	"statequake/reports/check"
	"statequake/scenarios"
)

// maxRuns bounds --runs.
const maxRuns = 9999

func runCmd() *cobra.Command {
	var set []string
	var seed int64
	var out, metrics string
	var keepData, noSandbox, compress, allowSkip bool
	var runs int
	cmd := &cobra.Command{
		Use:   "run SCENARIO|SUITE",
		Short: "Run a scenario: load, faults, audit, verdict; or all scenarios of a suite",
		Long: `Run a scenario, a file or the name of a bundled one, and judge it.

Everything the run does is recorded in a run directory, from which
"statequake check" can judge it again. Ctrl-C stops the load, heals the system
and judges what there is; a second Ctrl-C leaves at once.

Where the kernel allows it the run has namespaces of its own: nothing of it can
be left behind, no port collides and no packet leaves the machine.

docs/own-system.md says how a scenario describes a system of your own.

A suite is a folder of scenarios, or a bundled one such as suites/smoke. All of
them are run, each into a folder of the run directory, and summed up there in
summary.html. The same command goes on where it stopped: finished runs are kept.
docs/suites.md says the rest.`,
		Example: `  statequake run quickstart
  statequake run my.yaml --set load.arrivals.constant=800/s --set system.nodes=5
  statequake run steady --runs 6 --out runs/base    # for statequake compare
  statequake run suites/smoke --runs 3              # a suite
  statequake run bugs/no-fence                      # a planted bug, found
  statequake run bugs/no-fence --set system.bug=    # its control`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if runs < 1 || runs > maxRuns {
				return fmt.Errorf("--runs %d: must be 1 to %d", runs, maxRuns)
			}
			if cmd.Flags().Changed("seed") {
				set = append(set, "seed="+strconv.FormatInt(seed, 10))
			}
			if compress {
				set = append(set, "record.compress=true")
			}
			if metrics != "" {
				if err := checkMetrics(metrics); err != nil {
					return err
				}
			}
			if scenarios.IsSuite(args[0]) {
				return runSuite(cmd, args[0], &suiteRuns{out: out, runs: runs, allow: allowSkip, set: set})
			}
			if allowSkip {
				return errors.New("--allow-skip: only for a suite")
			}
			s, err := scenarios.Open(args[0], scenarios.Options{Set: set, CheckExpectation: reports.CheckExpectation})
			if err != nil {
				return err
			}
			isolation := "private namespaces"
			switch own := s.System.Own; {
			case own != nil && !own.Started():
				isolation = "none: the system runs by itself"
			case noSandbox:
				isolation = "none (--no-sandbox)"
			case !sandbox.Inside():
				var open func() ([]*os.File, error)
				if metrics != "" {
					open = func() ([]*os.File, error) { return listenMetrics(metrics) }
				}
				notSuspended()
				code, err := sandbox.EnterWith(open)
				var unavailable *sandbox.Unavailable
				switch {
				case err == nil:
					return exit(code)
				case !errors.As(err, &unavailable):
					return err
				}
				isolation = "none: " + unavailable.Error()
				fmt.Fprintf(os.Stderr, "statequake: running without namespaces of its own: %v\n", unavailable)
			}
			if out == "" {
				out = filepath.Join("runs", time.Now().UTC().Format("20060102-150405")+"-"+s.Name)
			}
			var served *metricsServer
			if metrics != "" {
				if served, err = serveMetrics(metrics); err != nil {
					return err
				}
				defer served.close()
			}
			return runScenarios(cmd.Context(), s, served, out, isolation, keepData, runs)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&set, "set", nil, "override a field, PATH=VALUE; may be given several times")
	f.Int64Var(&seed, "seed", 0, "override the seed")
	f.StringVarP(&out, "out", "o", "", "run directory, new or empty (default runs/TIME-NAME)")
	f.IntVar(&runs, "runs", 1, "run it so many times, each with the next seed, into folders 0001, 0002, ... of the run directory")
	f.BoolVar(&compress, "compress", false, "record history.jsonl.zst, about eight times smaller; short for --set record.compress=true")
	f.BoolVar(&allowSkip, "allow-skip", false, "of a suite, skip the scenarios that need what this machine lacks; without it they count as unknown")
	f.BoolVar(&keepData, "keep-data", false, "keep the nodes' data directories")
	f.StringVar(&metrics, "metrics", "", "loopback address at which to serve /metrics for Prometheus while it runs, such as 127.0.0.1:9464")
	f.BoolVar(&noSandbox, "no-sandbox", false, "run in the machine's own namespaces")
	return cmd
}

// worst are the exit codes of runs, the one that wins first.
var worst = []int{1, exitError, 2, 4, exitPass}

// runScenarios runs a scenario n times, each run with the next seed, and
// returns the exit code that wins over the others.
func runScenarios(ctx context.Context, s *scenarios.Scenario, served *metricsServer, dir, isolation string, keepData bool, n int) error {
	screen := newProgress(os.Stdout, s)
	ctx, cancel := stopOnInterrupt(ctx, screen)
	defer cancel()
	if served != nil {
		screen.say("metrics at http://" + served.address + "/metrics")
	}
	if n == 1 {
		return runScenario(ctx, s, screen, served, dir, isolation, keepData)
	}
	codes := map[int]int{}
	for i := 1; i <= n && ctx.Err() == nil; i++ {
		screen.say(fmt.Sprintf("run %d of %d", i, n))
		err := runScenario(ctx, s, screen, served, filepath.Join(dir, fmt.Sprintf("%04d", i)), isolation, keepData)
		var code exit
		switch {
		case err == nil:
		case errors.As(err, &code):
		default:
			fmt.Fprintf(os.Stderr, "statequake: %v\n", err)
			code = exitError
		}
		codes[int(code)]++
		s.Seed++
	}
	fmt.Printf("\n%s in %s, by exit code:", plural(n, "run"), dir)
	won := exitPass
	for _, c := range slices.Backward(worst) {
		if codes[c] > 0 {
			fmt.Printf("  %d x %d", codes[c], c)
			won = c
		}
	}
	fmt.Println()
	sayKnees(dir)
	if won != exitPass {
		return exit(won)
	}
	return nil
}

// stopOnInterrupt returns a context that ends at the first SIGINT or SIGTERM.
// The second one ends this process, and with it the nodes.
func stopOnInterrupt(ctx context.Context, screen *progress) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		screen.say("stopping the load; what there is will be judged. Again to leave at once")
		cancel()
		<-signals
		screen.end()
		fmt.Fprintln(os.Stderr, "statequake: left at once; statequake check judges what was recorded")
		os.Exit(exitError)
	}()
	return ctx, cancel
}

func runScenario(ctx context.Context, s *scenarios.Scenario, screen *progress, served *metricsServer, dir, isolation string, keepData bool) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the statequake program: %w", err)
	}
	tag := make([]byte, 2)
	rand.Read(tag)
	screen.begin(dir)
	opt := scenarios.RunOptions{
		Dir: dir, Binary: binary, Tag: hex.EncodeToString(tag), Version: version, Isolation: isolation, KeepData: keepData, Watch: screen.show, Judge: judgeKey(s), Owners: screen.live,
	}
	metrics := served.begin(s)
	if metrics != nil {
		opt.Observe = metrics.observe
		opt.Watch = func(st scenarios.Status) {
			metrics.show(st)
			screen.show(st)
		}
	}
	err = scenarios.Run(ctx, s, opt)
	if err != nil {
		screen.end()
		return fmt.Errorf("run %s: %w", s.Name, err)
	}
	screen.stage("judging")
	if metrics != nil {
		metrics.stage("judging")
	}
	v, err := judge(dir)
	screen.end()
	if err != nil {
		return err
	}
	return tell(v, dir)
}

// judgeKey judges single keys of a scenario's run, while its load goes on.
func judgeKey(s *scenarios.Scenario) func([]history.Op) []scenarios.Finding {
	opt := check.Options{Ack: s.System.Ack, Window: s.System.Window, Witness: s.System.Own == nil || s.System.Own.Witness()}
	return func(ops []history.Op) (found []scenarios.Finding) {
		for _, v := range check.Early(ops, opt) {
			found = append(found, scenarios.Finding{Entity: v.Entity, Key: v.Key, Kind: v.Kind, Explanation: v.Explanation})
		}
		return found
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// judge judges a run directory and writes what is made from the verdict. A
// large run is held in blocks without pointers, which cost the garbage collector
// nothing: collecting often keeps the process at little more than their size.
func judge(dir string) (*reports.Verdict, error) {
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(20))
	}
	v, err := reports.Judge(dir)
	if err == nil {
		err = reports.Write(dir, v)
	}
	return v, err
}

// tell prints the verdict and turns it into the exit code.
func tell(v *reports.Verdict, dir string) error {
	color, width := terminal(os.Stdout)
	if err := reports.Summary(os.Stdout, v, color, width); err != nil {
		return fmt.Errorf("print the verdict: %w", err)
	}
	fmt.Printf("\nRun directory: %s (report.html, verdict.json, ...)\n", dir)
	if code := v.ExitCode(); code != exitPass {
		return exit(code)
	}
	return nil
}
