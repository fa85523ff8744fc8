package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"statequake/scenarios"
)

// clusterAdoptCmd is what chaos starts for a cluster that runs by itself.
func clusterAdoptCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "adopt ADDRESS",
		Short:   "Take faults by hand for a cluster that runs by itself, until standard input ends",
		Example: "  statequake cluster adopt 127.0.0.1:7001",
		Hidden:  true,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := os.MkdirTemp("", "statequake-")
			if err != nil {
				return fmt.Errorf("directory for the control socket: %w", err)
			}
			defer os.RemoveAll(dir)
			ctx, end := context.WithCancel(cmd.Context())
			defer end()
			ctx, cancel := untilSignal(ctx)
			defer cancel()
			go func() {
				io.Copy(io.Discard, cmd.InOrStdin()) // returns when whoever started this is gone
				end()
			}()
			return scenarios.Adopt(ctx, args[0], dir, func() { fmt.Fprintln(cmd.OutOrStdout(), dir) })
		},
	}
}
