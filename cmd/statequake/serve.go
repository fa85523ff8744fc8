package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"statequake/fixtures/services"
	"statequake/runtime/core"
	"statequake/runtime/node"
)

// acks are the contracts of the reference runtime.
var acks = []string{"durable", "memory"}

// plantedNames lists the planted bugs for messages, those of the runtime and of
// its services.
func plantedNames() string {
	names := append(core.BugNames(), services.BugNames()...)
	slices.Sort(names)
	return strings.Join(names, ", ")
}

const (
	drainTime = 10 * time.Second
	gcPercent = 400       // a node's heap is small and its garbage plenty
	besides   = 128 << 20 // bytes of memory for what is not an entity; above that and 1.5 times --max-memory garbage is collected more often
)

func serveCmd() *cobra.Command {
	var cfg node.Config
	var members, ack, bug, profiles, maxMemory string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one node of the reference runtime",
		Long: `Run one node of the reference runtime in the foreground.

Every member is started with the same --members and --shards. A node that is
started again on the same data directory takes part where it left off. SIGTERM
hands its shards over before it ends.

What a node cannot take at present it answers with 503, Retry-After and the
effect none: a client may send it again. Each shard has an equal part of
--max-memory, whether or not this node serves it; entities that are idle leave
memory and come back when they are addressed.

Members that are not on this machine's loopback interface are reached by the
proxies in ALL_PROXY (SOCKS5) and HTTP_PROXY, if these are set.`,
		Example: `  statequake serve --node n1 --data /tmp/n1 --members n1=127.0.0.1:7001/127.0.0.1:7101
  curl -d '{"item":"tea","quantity":2}' http://127.0.0.1:7001/v1/entities/cart/42/add`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Members, err = parseMembers(members); err != nil {
				return fmt.Errorf("--members: %w", err)
			}
			if _, ok := cfg.Members[cfg.Name]; !ok {
				return fmt.Errorf("--node %q is not in --members %q", cfg.Name, members)
			}
			if !slices.Contains(acks, ack) {
				return fmt.Errorf("--ack %q: have %s", ack, strings.Join(acks, ", "))
			}
			plant, ok := core.Planted[bug]
			if _, service := services.Planted[bug]; !ok && !service && bug != "" {
				return fmt.Errorf("--bug %q: have %s", bug, plantedNames())
			}
			cfg.Bugs = plant.Bugs
			if cfg.Shards < 1 || cfg.Shards > 1024 {
				return fmt.Errorf("--shards %d: must be 1 to 1024", cfg.Shards)
			}
			if cfg.MaxBytes, err = parseBytes(maxMemory); err != nil {
				return fmt.Errorf("--max-memory: %w", err)
			}
			if cfg.Mailbox < 1 || cfg.MaxInFlight < 1 {
				return fmt.Errorf("--mailbox %d, --max-in-flight %d: must be at least 1", cfg.Mailbox, cfg.MaxInFlight)
			}
			cfg.Memory, cfg.Types, cfg.Actions = ack == "memory", services.With(bug), services.Actions()
			cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
			return serve(cmd.Context(), cfg, profiles)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Name, "node", "n1", "name of this node")
	f.StringVar(&cfg.Dir, "data", "data", "data directory")
	f.StringVar(&members, "members", "n1=127.0.0.1:7001/127.0.0.1:7101", "all nodes: NAME=API_ADDRESS/STORE_ADDRESS, separated by commas")
	f.StringVar(&cfg.Listen, "listen", "", "host to listen on, where the address in --members is that of a proxy or a router; the same host if empty")
	f.StringVar(&cfg.Store, "store", "etcd", "where state is kept, the same on every node: etcd (embedded in the nodes) or postgres://USER:PASSWORD@HOST:PORT/DATABASE; ?schema=NAME names the cluster's schema there")
	f.StringVar(&ack, "ack", "durable", "when a command is acknowledged: durable (a majority has fsynced it) or memory")
	f.DurationVar(&cfg.Window, "window", 500*time.Millisecond, "with --ack memory: oldest unflushed command with which it still acknowledges early")
	f.IntVar(&cfg.Shards, "shards", 16, "number of shards; the same for the life of the data")
	f.StringVar(&maxMemory, "max-memory", "512MiB", "estimated bytes that entities may take in this node's memory, as in 512MiB")
	f.IntVar(&cfg.Mailbox, "mailbox", 256, "commands that may wait for one entity")
	f.IntVar(&cfg.MaxInFlight, "max-in-flight", 4096, "commands that may be under way in this node")
	f.StringVar(&bug, "bug", "", "misbehave on purpose: "+plantedNames())
	f.StringVar(&profiles, "pprof", "", "address on which to serve Go profiles; nowhere if empty")
	f.DurationVar(&cfg.StoreDelay, "store-delay", 0, "make every flush take this much longer")
	return cmd
}

// parseBytes reads a positive number of bytes, with KiB, MiB or GiB after it or
// without.
func parseBytes(s string) (int64, error) {
	number, unit := s, int64(1)
	for suffix, size := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if cut, ok := strings.CutSuffix(s, suffix); ok {
			number, unit = cut, size
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a size\nhint: as in 512MiB, 2GiB or 1000000", s)
	}
	return n * unit, nil
}

func parseMembers(s string) (map[string]node.Peer, error) {
	members := map[string]node.Peer{}
	for part := range strings.SplitSeq(s, ",") {
		name, addrs, ok1 := strings.Cut(part, "=")
		api, store, ok2 := strings.Cut(addrs, "/")
		if !ok1 || !ok2 || name == "" {
			return nil, fmt.Errorf("%q is not NAME=API_ADDRESS/STORE_ADDRESS", part)
		}
		for _, addr := range []string{api, store} {
			if _, _, err := net.SplitHostPort(addr); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("%s stands twice", name)
		}
		members[name] = node.Peer{API: api, Store: store}
	}
	return members, nil
}

func serve(ctx context.Context, cfg node.Config, profiles string) error {
	ctx, cancel := untilSignal(ctx)
	defer cancel()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(cfg.MaxBytes + cfg.MaxBytes/2 + besides)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	n, err := node.Open(ctx, cfg)
	if err != nil {
		return err
	}
	// Not before: who is refused goes elsewhere at once, who connects waits.
	listener, err := net.Listen("tcp", cfg.ListenAPI())
	if err != nil {
		n.Close()
		return fmt.Errorf("listen for the API: %w", err)
	}
	if profiles != "" {
		go func() {
			mux := http.NewServeMux()
			mux.HandleFunc("/debug/pprof/", pprof.Index)
			mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
			cfg.Log.Error("profiles", "err", http.ListenAndServe(profiles, mux))
		}()
	}
	server := n.Server()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	cfg.Log.Info("up", "node", cfg.Name, "api", listener.Addr().String())
	select {
	case err = <-failed:
	case err = <-n.Failed():
		err = fmt.Errorf("store: %w", err)
	case <-ctx.Done():
		drain, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		err = n.Shutdown(drain, server, listener)
	}
	n.Close()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}
