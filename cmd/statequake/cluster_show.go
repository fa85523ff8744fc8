package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"statequake/chaos/hand"
	"statequake/runtime/node"
)

// askTime is how long a node may take to tell what it knows.
const askTime = 5 * time.Second

func clusterShowCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ADDRESS|DIR",
		Short: "Print members, shards, owners, epochs and lag",
		Long: `Print members, shards, owners, epochs and lag.

ADDRESS is that of any node, DIR the directory of a cluster that "statequake
cluster up" started. The other nodes are asked too: each tells what it holds and,
for the shards that it serves, the lag: the records that were executed and are
not durable yet, and the age of the oldest of them. What nobody tells is shown
as -. With --json it is one object, as GET /v1/cluster answers.`,
		Example: `  statequake cluster show 127.0.0.1:20001
  statequake cluster show /tmp/sq`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			addrs, reach, err := clusterAddrs(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			c, silent, err := gatherCluster(cmd.Context(), addrs, reach)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				err = enc.Encode(c)
			} else {
				err = printCluster(cmd.OutOrStdout(), c)
			}
			for _, err := range silent {
				fmt.Fprintf(cmd.ErrOrStderr(), "statequake: %v\n", err)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// clusterAddrs are the addresses to ask first, and where nodes answer whose own
// address cannot be reached from here. place is an address, or the directory of a
// harness.
func clusterAddrs(ctx context.Context, place string) (addrs []string, reach map[string]string, err error) {
	if info, err := os.Stat(place); err != nil || !info.IsDir() {
		return []string{place}, nil, nil
	}
	client, err := hand.Dial(place)
	if err != nil {
		return nil, nil, err
	}
	defer client.Close()
	info, err := client.Info(ctx)
	if err != nil {
		return nil, nil, err
	}
	reach = map[string]string{}
	for _, n := range info.Nodes {
		reach[n.Addr] = cmp.Or(n.Reach, n.Addr)
		addrs = append(addrs, reach[n.Addr])
	}
	return addrs, reach, nil
}

// gatherCluster asks the nodes at addrs until one answers, and then every member
// that it names, at its address or where reach says. silent says which of them
// did not answer, and why.
func gatherCluster(ctx context.Context, addrs []string, reach map[string]string) (c *node.Cluster, silent []error, err error) {
	for _, addr := range addrs {
		if c, err = askCluster(ctx, addr); err == nil {
			break
		}
	}
	if err != nil {
		return nil, nil, err
	}
	answers := make([]*node.Cluster, len(c.Members))
	errs := make([]error, len(c.Members))
	var wg sync.WaitGroup
	for i, m := range c.Members {
		if m.Node != c.Node {
			wg.Go(func() {
				if answers[i], errs[i] = askCluster(ctx, cmp.Or(reach[m.Addr], m.Addr)); errs[i] != nil {
					errs[i] = fmt.Errorf("%s: %w", m.Node, errs[i])
				}
			})
		}
	}
	wg.Wait()
	for _, a := range answers {
		if a != nil {
			mergeCluster(c, a)
		}
	}
	for i := range c.Members {
		m := &c.Members[i]
		m.Addr = cmp.Or(reach[m.Addr], m.Addr)
	}
	return c, slices.DeleteFunc(errs, func(err error) bool { return err == nil }), nil
}

// mergeCluster adds to c what a node that answered a knows better: what it
// holds, and of each shard a newer epoch or, if it serves that epoch, all.
func mergeCluster(c, a *node.Cluster) {
	for i := range c.Members {
		for _, m := range a.Members {
			if m.Node == a.Node && m.Node == c.Members[i].Node {
				c.Members[i].Holds = m.Holds
			}
		}
	}
	for i := range c.Shards {
		for _, s := range a.Shards {
			old := &c.Shards[i]
			if s.Shard == old.Shard && (s.Epoch > old.Epoch || s.Epoch == old.Epoch && s.Owner == a.Node) {
				*old = s
			}
		}
	}
}

func printCluster(out io.Writer, c *node.Cluster) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tADDRESS\tLIVE\tSTORE\tENTITIES\tBYTES\tPASSIVATED\tIN FLIGHT\tSHARDS")
	for _, m := range c.Members {
		var shards []string
		for _, s := range c.Shards {
			if s.Owner == m.Node {
				shards = append(shards, fmt.Sprint(s.Shard))
			}
		}
		role := "follower"
		switch c.StoreLeader {
		case m.Node:
			role = "leader"
		case "":
			role = "-"
		}
		holds := "-\t-\t-\t-"
		if h := m.Holds; h != nil {
			holds = fmt.Sprintf("%d\t%d\t%d\t%d", h.Entities, h.EntityBytes, h.Passivated, h.InFlight)
		}
		fmt.Fprintf(w, "%s\t%s\t%t\t%s\t%s\t%s\n", m.Node, m.Addr, m.Live, role, holds, cmp.Or(strings.Join(shards, " "), "-"))
	}
	fmt.Fprintln(w, "\nSHARD\tOWNER\tEPOCH\tSTATE\tLAG RECORDS\tOLDEST MS")
	for _, s := range c.Shards {
		lag := "-\t-"
		if s.Lag != nil {
			lag = fmt.Sprintf("%d\t%d", s.Lag.Records, s.Lag.Oldest)
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\n", s.Shard, cmp.Or(s.Owner, "-"), s.Epoch, s.State, lag)
	}
	return w.Flush()
}

// askCluster reads /v1/cluster of a node.
func askCluster(ctx context.Context, addr string) (*node.Cluster, error) {
	return askClusterFor(ctx, addr, nil)
}

// askClusterFor is askCluster, and names the owner of the entity in the query.
func askClusterFor(ctx context.Context, addr string, entity url.Values) (*node.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+strings.TrimPrefix(addr, "http://")+"/v1/cluster?"+entity.Encode(), nil)
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
