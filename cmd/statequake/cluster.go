package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"statequake/fixtures/reference"
	"statequake/runtime/node"
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

func clusterShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "show ADDRESS",
		Short:   "Print members, shards and owners as a node knows them",
		Example: "  statequake cluster show 127.0.0.1:20001",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := askCluster(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NODE\tADDRESS\tLIVE\tSTORE\tSHARDS")
			for _, m := range c.Members {
				var shards []string
				for _, s := range c.Shards {
					if s.Owner == m.Node {
						shards = append(shards, fmt.Sprint(s.Shard))
					}
				}
				role := "follower"
				if m.Node == c.StoreLeader {
					role = "leader"
				}
				fmt.Fprintf(w, "%s\t%s\t%t\t%s\t%s\n", m.Node, m.Addr, m.Live, role, strings.Join(shards, " "))
			}
			fmt.Fprintln(w, "\nSHARD\tOWNER\tEPOCH\tSTATE")
			for _, s := range c.Shards {
				fmt.Fprintf(w, "%d\t%s\t%d\t%s\n", s.Shard, s.Owner, s.Epoch, s.State)
			}
			return w.Flush()
		},
	}
}

// askCluster reads /v1/cluster of a node.
func askCluster(ctx context.Context, addr string) (*node.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+strings.TrimPrefix(addr, "http://")+"/v1/cluster", nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s: %s", addr, resp.Status)
	}
	var c node.Cluster
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("ask %s: not a node of the reference runtime: %w", addr, err)
	}
	return &c, nil
}
