package node

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"statequake/runtime/journal"
	"statequake/runtime/journal/etcd"
	"statequake/runtime/journal/postgres"
)

// ListenAPI is where this node takes requests, as host:port.
func (cfg Config) ListenAPI() string { return cfg.listens(cfg.Members[cfg.Name].API) }

// listens is where this node listens for what is sent to an address of its own.
func (cfg Config) listens(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if cfg.Listen == "" || err != nil {
		return addr
	}
	return net.JoinHostPort(cfg.Listen, port)
}

// openStore opens this node's handle on the store that cfg.Store names.
func openStore(ctx context.Context, cfg Config) (journal.Store, error) {
	switch {
	case cfg.Store == "" || cfg.Store == "etcd":
		peers := map[string]string{}
		for name, p := range cfg.Members {
			peers[name] = p.Store
		}
		return etcd.Open(ctx, etcd.Config{
			Node: cfg.Name, Dir: filepath.Join(cfg.Dir, "store"), Peers: peers, Listen: cfg.listens(peers[cfg.Name]), UnsafeNoFsync: cfg.Bugs.NoFsync,
		})
	case strings.HasPrefix(cfg.Store, "postgres://"):
		return postgres.Open(ctx, cfg.Store)
	}
	return nil, fmt.Errorf("store %q: have etcd, postgres://USER:PASSWORD@HOST:PORT/DATABASE", cfg.Store)
}
