package scenarios

import (
	"context"
	"fmt"
	"os/exec"
	"slices"

	"statequake/chaos"
)

// openClock lets nodes be started with clocks that can be moved. The mean that
// gives nodes hosts of their own starts them on a thread there.
func openClock(_ context.Context, r *run) (*opened, error) {
	if r.held {
		if err := probeClocks(); err != nil {
			return nil, err
		}
	}
	clocks := &chaos.Clocks{
		Now:  r.now,
		Here: slices.ContainsFunc(r.equipment, func(o *opened) bool { return o.net != nil && o.net.Host != nil }),
	}
	return &opened{
		start: func(node string, next starter) starter {
			start := clocks.Start(node)
			return func(cmd *exec.Cmd) error {
				if next != nil {
					return fmt.Errorf("%s has to be the last mean that starts nodes", chaos.TimeChaos)
				}
				if err := start(cmd); err != nil {
					return fmt.Errorf("%s: %w", chaos.TimeChaos, err)
				}
				return nil
			}
		},
		executors: map[string]chaos.Executor{chaos.TimeChaos: clocks},
		close:     clocks.Close,
	}, nil
}
