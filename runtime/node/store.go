package node

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"statequake/runtime/journal"
	"statequake/runtime/journal/etcd"
	"statequake/runtime/journal/postgres"
)

// openStore opens this node's handle on the store that cfg.Store names.
func openStore(ctx context.Context, cfg Config) (journal.Store, error) {
	switch {
	case cfg.Store == "" || cfg.Store == "etcd":
		peers := map[string]string{}
		for name, p := range cfg.Members {
			peers[name] = p.Store
		}
		return etcd.Open(ctx, etcd.Config{Node: cfg.Name, Dir: filepath.Join(cfg.Dir, "store"), Peers: peers, UnsafeNoFsync: cfg.Bugs.NoFsync})
	case strings.HasPrefix(cfg.Store, "postgres://"):
		return postgres.Open(ctx, cfg.Store)
	}
	return nil, fmt.Errorf("store %q: have etcd, postgres://USER:PASSWORD@HOST:PORT/DATABASE", cfg.Store)
}
