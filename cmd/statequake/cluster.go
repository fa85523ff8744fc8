package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"statequake/fixtures/reference"
)

func clusterCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Start a local cluster of the reference runtime, or look at one",
		Example: `  statequake cluster up --nodes 3 --dir /tmp/sq
  statequake cluster show 127.0.0.1:20001`,
	}
	cmd.AddCommand(clusterUpCmd(), clusterShowCmd())
	return cmd
}

func clusterUpCmd() *cobra.Command {
	cfg := reference.Config{Shards: 16}
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Start a local cluster and keep it running until Ctrl-C",
		Example: "  statequake cluster up --nodes 3 --ack durable --dir /tmp/sq",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Nodes < 1 || cfg.Nodes > 9 {
				return fmt.Errorf("--nodes %d: must be 1 to 9", cfg.Nodes)
			}
			if !slices.Contains(acks, cfg.Ack) {
				return fmt.Errorf("--ack %q: have %s", cfg.Ack, strings.Join(acks, ", "))
			}
			var err error
			if cfg.Binary, err = os.Executable(); err != nil {
				return fmt.Errorf("find the statequake program: %w", err)
			}
			if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
				return fmt.Errorf("--dir: %w", err)
			}
			ctx, cancel := untilSignal(cmd.Context())
			defer cancel()
			c, err := reference.Start(ctx, cfg)
			if err != nil {
				return err
			}
			for _, n := range c.Nodes() {
				fmt.Printf("%s  http://%s  pid %d\n", n.Name, n.Addr, n.PID())
			}
			fmt.Printf("Try: curl -d '{\"item\":\"tea\",\"quantity\":2}' http://%s/v1/entities/cart/42/add\n", c.Nodes()[0].Addr)
			<-ctx.Done()
			stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			return c.Stop(stop)
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Nodes, "nodes", 3, "number of nodes")
	f.StringVar(&cfg.Ack, "ack", "durable", "durable or memory")
	f.StringVar(&cfg.Dir, "dir", "statequake-cluster", "directory of data and logs; a cluster that was there goes on")
	f.IntVar(&cfg.Shards, "shards", cfg.Shards, "number of shards")
	return cmd
}
