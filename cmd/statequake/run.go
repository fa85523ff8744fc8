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
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"statequake/fixtures/sandbox"
	"statequake/reports"
	"statequake/scenarios"
)

func runCmd() *cobra.Command {
	var set []string
	var seed int64
	var out string
	var keepData, noSandbox bool
	cmd := &cobra.Command{
		Use:   "run SCENARIO",
		Short: "Run a scenario: load, faults, audit, verdict",
		Long: `Run a scenario, a file or the name of a bundled one, and judge it.

Everything the run does is recorded in a run directory, from which
"statequake check" can judge it again. Ctrl-C stops the load, heals the system
and judges what there is; a second Ctrl-C leaves at once.

Where the kernel allows it the run has namespaces of its own: nothing of it can
be left behind, no port collides and no packet leaves the machine.`,
		Example: `  statequake run quickstart
  statequake run my.yaml --set load.arrivals.constant=800/s --set system.nodes=5
  statequake run bugs/no-fence                      # a planted bug, found
  statequake run bugs/no-fence --set system.bug=    # its control`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("seed") {
				set = append(set, "seed="+strconv.FormatInt(seed, 10))
			}
			s, err := scenarios.Open(args[0], scenarios.Options{Set: set, CheckExpectation: reports.CheckExpectation})
			if err != nil {
				return err
			}
			isolation := "private namespaces"
			if noSandbox {
				isolation = "none (--no-sandbox)"
			} else if !sandbox.Inside() {
				code, err := sandbox.Enter()
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
			return runScenario(cmd.Context(), s, out, isolation, keepData)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&set, "set", nil, "override a field, PATH=VALUE; may be given several times")
	f.Int64Var(&seed, "seed", 0, "override the seed")
	f.StringVarP(&out, "out", "o", "", "run directory, new or empty (default runs/TIME-NAME)")
	f.BoolVar(&keepData, "keep-data", false, "keep the nodes' data directories")
	f.BoolVar(&noSandbox, "no-sandbox", false, "run in the machine's own namespaces")
	return cmd
}

func runScenario(ctx context.Context, s *scenarios.Scenario, dir, isolation string, keepData bool) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the statequake program: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	screen := newProgress(os.Stdout, s)
	go func() {
		<-signals
		screen.say("stopping the load; what there is will be judged. Again to leave at once")
		cancel()
		<-signals
		screen.end()
		fmt.Fprintf(os.Stderr, "statequake: left at once; statequake check %s judges what was recorded\n", dir)
		os.Exit(exitError) // the nodes end with this process
	}()

	tag := make([]byte, 2)
	rand.Read(tag)
	screen.begin(dir)
	err = scenarios.Run(ctx, s, scenarios.RunOptions{
		Dir: dir, Binary: binary, Tag: hex.EncodeToString(tag), Version: version, Isolation: isolation, KeepData: keepData, Watch: screen.show,
	})
	if err != nil {
		screen.end()
		return fmt.Errorf("run %s: %w", s.Name, err)
	}
	screen.say("judging")
	v, err := reports.Judge(dir)
	if err == nil {
		err = reports.Write(dir, v)
	}
	screen.end()
	if err != nil {
		return err
	}
	return tell(v, dir)
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
