package scenarios

import (
	"context"

	"statequake/chaos"
)

// openStress needs nothing: its workers are this program, started again.
func openStress(_ context.Context, r *run) (*opened, error) {
	return &opened{executors: map[string]chaos.Executor{chaos.StressChaos: &chaos.Stresses{Now: r.now}}}, nil
}
