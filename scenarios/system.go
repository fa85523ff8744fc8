package scenarios

import (
	"context"
	"errors"
	"fmt"

	"statequake/fixtures"
	"statequake/fixtures/custom"
	"statequake/fixtures/postgres"
	"statequake/fixtures/reference"
	"statequake/history"
	"statequake/loadgen"
)

const (
	ownerAttempts = 1000 // probe keys tried to have one on each node
	auditWitness  = "witness"
	auditRead     = "get" // where there is no witness
)

// system is the system under test while it runs, and what the rest of a run
// has to know of its kind.
type system struct {
	*fixtures.Cluster
	store   *postgres.Server // beside the nodes; nil if there is none
	started bool             // its processes are ours, and can be killed
	codec   loadgen.Codec
	audit   string // the read that the audit makes
	// resolve names the nodes that have a label value at this instant.
	resolve func(ctx context.Context, label, value string) ([]string, error)
	// probes names n keys to probe, without their generation.
	probes func(ctx context.Context, n int) ([]loadgen.EntityKey, error)
}

// Stop ends the nodes as Cluster.Stop does, and then their store.
func (s system) Stop(ctx context.Context) error {
	err := s.Cluster.Stop(ctx)
	if s.store != nil {
		err = errors.Join(err, s.store.Stop())
	}
	return err
}

// Sample reads the resources of the nodes and of their store.
func (s system) Sample() []history.Sample {
	samples := s.Cluster.Sample()
	if s.store != nil {
		if sample, ok := s.store.Sample(); ok {
			samples = append(samples, sample)
		}
	}
	return samples
}

// OwnExits are the ends of nodes, and of their store, that nobody ordered.
func (s system) OwnExits() map[string][]fixtures.Exit {
	all := s.Cluster.OwnExits()
	if s.store != nil {
		if exits := s.store.OwnExits(); len(exits) > 0 {
			all[postgres.Name] = exits
		}
	}
	return all
}

// start starts the system and returns when it is ready.
func (r *run) start(ctx context.Context) (system, error) {
	if r.scenario.System.Own != nil {
		return r.startOwn(ctx)
	}
	return r.startReference(ctx)
}

func (r *run) startReference(ctx context.Context) (system, error) {
	s := &r.scenario.System
	config := reference.Config{
		Binary: r.opt.Binary, Dir: r.opt.Dir, Nodes: s.Nodes, Shards: s.Shards,
		Ack: s.Ack, Window: s.Window, RestartDelay: s.RestartDelay,
		StoreDelay: s.StoreDelay, MaxMemory: s.MaxMemory, Bug: s.Bug, Now: r.now,
		Start: r.equipment.start, Net: r.equipment.net(),
	}
	if r.workload != nil {
		config.Hottest = r.hottest
	}
	var store *postgres.Server
	if s.Store == "postgres" {
		var err error
		if store, err = postgres.Start(ctx, postgres.Config{Dir: r.opt.Dir, Now: r.now}); err != nil {
			return system{}, err
		}
		config.Store, config.Env = store.URL(), store.Env()
	}
	cluster, err := reference.Start(ctx, config)
	if err != nil {
		if store != nil {
			_ = store.Stop() // the error is why
		}
		return system{}, err
	}
	return system{
		Cluster: cluster.Cluster, store: store, started: true, codec: reference.Codec{}, audit: auditWitness, resolve: cluster.Resolve,
		probes: func(ctx context.Context, n int) ([]loadgen.EntityKey, error) { return spreadProbes(ctx, cluster, n) },
	}, nil
}

// spreadProbes finds n counters that are spread evenly over the nodes.
func spreadProbes(ctx context.Context, cluster *reference.Cluster, n int) ([]loadgen.EntityKey, error) {
	nodes := len(cluster.Nodes())
	share := (n + nodes - 1) / nodes
	perNode := map[string]int{}
	var keys []loadgen.EntityKey
	for i := 1; len(keys) < n; i++ {
		key := loadgen.EntityKey{Entity: "counter", Key: fmt.Sprintf("{probe-%d}", i)}
		owner, err := cluster.Owner(ctx, key.Entity, key.Key)
		if err != nil {
			return nil, err
		}
		if perNode[owner] < share || i > ownerAttempts {
			perNode[owner]++
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func (r *run) startOwn(ctx context.Context) (system, error) {
	own := r.scenario.System.Own
	cluster, err := custom.Start(ctx, custom.Config{
		System: own, Dir: r.opt.Dir, RestartDelay: r.scenario.System.RestartDelay, Now: r.now,
		Start: r.equipment.start, Net: r.equipment.net(),
	})
	if err != nil {
		if r.scenario.System.Network == "streams" && r.scenario.System.Nodes > 1 {
			err = withHint(err, "its nodes reach each other by the proxies in HTTP_PROXY, HTTPS_PROXY and ALL_PROXY; system.network: packets needs none of them")
		}
		return system{}, err
	}
	s := system{
		Cluster: cluster, started: own.Started(), codec: own.Codec(), audit: auditRead,
		resolve: func(_ context.Context, label, _ string) ([]string, error) {
			return nil, fmt.Errorf("nobody knows which nodes of %s have the label %s", r.scenario.System.Name, label)
		},
		probes: func(_ context.Context, n int) ([]loadgen.EntityKey, error) {
			entity, _ := loadgen.Operations(r.scenario.Load.Workload.Name)
			keys := make([]loadgen.EntityKey, n)
			for i := range keys {
				keys[i] = loadgen.EntityKey{Entity: entity, Key: fmt.Sprintf("probe-%d", i+1)}
			}
			return keys, nil
		},
	}
	if own.Witness() {
		s.audit = auditWitness
	}
	return s, nil
}
