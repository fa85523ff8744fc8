package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"statequake/fixtures/sandbox"
	"statequake/scenarios"
)

// stopTime is how long the nodes of a cluster may take to end.
const stopTime = 2 * time.Second

func clusterCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Start a local cluster of the reference runtime, or look at one",
		Example: `  statequake cluster up --nodes 3 --dir /tmp/sq
  statequake cluster show /tmp/sq`,
	}
	cmd.AddCommand(clusterUpCmd(), clusterShowCmd(), clusterAdoptCmd())
	return cmd
}

func clusterUpCmd() *cobra.Command {
	opt := scenarios.HoldOptions{Shards: 16}
	var noSandbox bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a local cluster and keep it running until Ctrl-C",
		Long: `Start a local cluster and keep it running until Ctrl-C. A node that ends is
started again.

"statequake chaos FILE --cluster DIR" injects faults into it: PodChaos,
ProcessPause, StressChaos and TimeChaos. With --chaos it also takes the others
that this machine can do, as faults of the network and of disks. For that it runs
in namespaces of its own, its data directories are file systems of this program,
and what reaches a node from outside is forwarded to it. It is slower then.
Without namespaces it has no faults of disks, and those of the network meet what
the nodes send each other, but not what is sent to them by hand.`,
		Example: `  statequake cluster up --nodes 3 --ack durable --dir /tmp/sq
  statequake cluster up --chaos --dir /tmp/sq-chaos`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opt.Nodes < 1 || opt.Nodes > 9 {
				return fmt.Errorf("--nodes %d: must be 1 to 9", opt.Nodes)
			}
			if !slices.Contains(acks, opt.Ack) {
				return fmt.Errorf("--ack %q: have %s", opt.Ack, strings.Join(acks, ", "))
			}
			var err error
			if opt.Binary, err = os.Executable(); err != nil {
				return fmt.Errorf("find the statequake program: %w", err)
			}
			if opt.Dir, err = filepath.Abs(opt.Dir); err != nil {
				return fmt.Errorf("--dir: %w", err)
			}
			if opt.All && !noSandbox && !sandbox.Inside() {
				code, err := sandbox.EnterWith(func() ([]*os.File, error) { return outsideListeners(opt.Dir, opt.Nodes) })
				var unavailable *sandbox.Unavailable
				switch {
				case err == nil:
					return exit(code)
				case !errors.As(err, &unavailable):
					return err
				}
				fmt.Fprintf(os.Stderr, "statequake: without namespaces of its own: %v\n", unavailable)
			}
			return clusterUp(cmd.Context(), cmd.OutOrStdout(), opt)
		},
	}
	f := cmd.Flags()
	f.IntVar(&opt.Nodes, "nodes", 3, "number of nodes")
	f.StringVar(&opt.Ack, "ack", "durable", "durable or memory")
	f.StringVar(&opt.Dir, "dir", "statequake-cluster", "directory of data and logs; a cluster that was there goes on")
	f.IntVar(&opt.Shards, "shards", opt.Shards, "number of shards")
	f.BoolVar(&opt.All, "chaos", false, "take every fault that this machine can do")
	f.BoolVar(&noSandbox, "no-sandbox", false, "with --chaos: run in the machine's own namespaces")
	return cmd
}

// clusterUp holds a cluster until ctx ends or a signal comes.
func clusterUp(ctx context.Context, out io.Writer, opt scenarios.HoldOptions) error {
	ctx, cancel := untilSignal(ctx)
	defer cancel()
	outside, err := fromOutside()
	if err != nil {
		return err
	}
	for _, l := range outside {
		opt.Reach = append(opt.Reach, l.Addr().String())
	}
	held, err := scenarios.Hold(ctx, opt)
	if err != nil {
		return err
	}
	for i, n := range held.Nodes() {
		if i < len(outside) {
			go forward(ctx, outside[i], n.Addr)
			fmt.Fprintf(out, "%s  http://%s\n", n.Name, opt.Reach[i])
			continue
		}
		fmt.Fprintf(out, "%s  http://%s  pid %d\n", n.Name, n.Addr, n.PID())
	}
	fmt.Fprintf(out, "It takes %s by hand.\n", strings.Join(held.Can(), ", "))
	for _, line := range whyNot(held.Cannot()) {
		if opt.All {
			fmt.Fprintf(out, "Not %s\n", line)
		}
	}
	first := held.Nodes()[0].Addr
	if len(opt.Reach) > 0 {
		first = opt.Reach[0]
	}
	fmt.Fprintf(out, "Try: curl -d '{\"item\":\"tea\",\"quantity\":2}' http://%s/v1/entities/cart/42/add\n", first)
	fmt.Fprintf(out, "Try: statequake chaos FILE --cluster %s\n", opt.Dir)
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return held.Close(stop)
}
