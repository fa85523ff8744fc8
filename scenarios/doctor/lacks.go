package doctor

import (
	"context"
	"os"
	"slices"

	"statequake/fixtures/lease"
	"statequake/scenarios"
)

// Lacks tries what is needed and returns, for what the machine does not have,
// what was found instead, in words. The error is about the throwaway folder, or
// that of ctx.
func Lacks(ctx context.Context, needs []scenarios.Need) (map[scenarios.Need]string, error) {
	lacks := map[scenarios.Need]string{}
	if len(needs) == 0 {
		return lacks, nil
	}
	dir, err := os.MkdirTemp("", folder+"*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	alive, err := lease.Take(dir, false)
	if err != nil {
		return nil, err
	}
	defer alive.End()
	for _, c := range checks {
		if c.need == "" || !slices.Contains(needs, c.need) {
			continue
		}
		if r := c.try(ctx, dir); r.State == Missing {
			lacks[c.need] = r.Found
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return lacks, nil
}
