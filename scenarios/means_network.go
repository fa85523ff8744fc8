package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"statequake/chaos"
	"statequake/chaos/network"
	"statequake/fixtures/sandbox"
)

// openNetwork joins the nodes by a switch.
func openNetwork(_ context.Context, r *run) (*opened, error) {
	if !sandbox.Inside() {
		return nil, errors.New("NetworkChaos needs namespaces of the run's own, and this run has none\nhint: run it without --no-sandbox, where the kernel allows user namespaces")
	}
	nodes := nodeNames(r.scenario.System.Nodes)
	s, err := network.Open(nodes)
	if err != nil {
		return nil, fmt.Errorf("NetworkChaos needs network namespaces: %w", err)
	}
	return &opened{
		start: func(node string, next starter) starter {
			return func(cmd *exec.Cmd) error { return s.Start(node, cmd, next) }
		},
		host:      func(node string) string { return s.Addr(node).String() },
		executors: map[string]chaos.Executor{chaos.NetworkChaos: &chaos.Networks{Switch: s, Nodes: nodes, Now: r.now}},
		close:     s.Close,
	}, nil
}
