package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"statequake/chaos"
	"statequake/chaos/network"
	"statequake/fixtures"
	"statequake/fixtures/sandbox"
)

// openLinks joins nodes and clients by streams.
func openLinks(_ context.Context, r *run) (*opened, error) {
	nodes := nodeNames(r.scenario.System.Nodes)
	l, err := network.OpenLinks(nodes)
	if err != nil {
		return nil, fmt.Errorf("NetworkChaos: %w", err)
	}
	o := &opened{
		net: &fixtures.Net{
			Reach: func(node string) string { return l.Addr(node).String() },
			Proxy: l.Proxy,
		},
		dial:      l.Dial,
		executors: map[string]chaos.Executor{chaos.NetworkChaos: &chaos.Networks{Net: l, Nodes: nodes, Now: r.now, Carried: l.Carried}},
		close:     l.Close,
	}
	return o, nil
}

// openSwitch joins them by packets.
func openSwitch(_ context.Context, r *run) (*opened, error) {
	if !sandbox.Inside() {
		return nil, errors.New("NetworkChaos on packets needs namespaces of the run's own, and this run has none\nhint: run it without --no-sandbox, where the kernel allows user namespaces")
	}
	nodes := nodeNames(r.scenario.System.Nodes)
	s, err := network.Open(nodes)
	if err != nil {
		return nil, fmt.Errorf("NetworkChaos on packets needs network namespaces: %w", err)
	}
	return &opened{
		start: func(node string, next starter) starter {
			return func(cmd *exec.Cmd) error { return s.Start(node, cmd, next) }
		},
		net:       &fixtures.Net{Host: func(node string) string { return s.Addr(node).String() }},
		executors: map[string]chaos.Executor{chaos.NetworkChaos: &chaos.Networks{Net: s, Nodes: nodes, Now: r.now}},
		close:     s.Close,
	}, nil
}
