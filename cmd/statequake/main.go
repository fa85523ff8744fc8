// Statequake shakes a stateful serverless runtime and proves what it remembers.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"statequake/chaos/stress"
	"statequake/scenarios/doctor"
)

// Exit codes beside those of a verdict.
const (
	exitPass      = 0
	exitViolation = 1
	exitUnknown   = 2
	exitError     = 3
	exitMissed    = 4
)

// exit is an error that decides the exit code and has already been told.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	stress.Main() // a worker is this program, too
	doctor.Main() // and so is a probe
	os.Exit(run(os.Args[1:]))
}

func rootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "statequake",
		Short: "Shake a stateful serverless runtime, and prove what it remembers",
		Long: `statequake runs load against a stateful system, injects faults, and judges from
the recorded history what the system remembered, how fast it was and how it
came back.

Exit codes: 0 pass, 1 correctness violation, 2 unknown, 3 usage or harness
error, 4 an expectation was missed or a regression, 5 inconclusive comparison.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(runCmd(), loadCmd(), checkCmd(), compareCmd(), abCmd(), shrinkCmd(), reportCmd(), plotCmd(), exportCmd(), doctorCmd(), scenariosCmd(), systemsCmd(), chaosCmd(), serveCmd(), clusterCmd(), versionCmd())
	return root
}

func run(args []string) int {
	root := rootCmd()
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	var code exit
	switch {
	case err == nil:
		return exitPass
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintf(os.Stderr, "statequake: %v\n", err)
	return exitError
}

// untilSignal returns a context that ends at the first SIGINT or SIGTERM.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}
