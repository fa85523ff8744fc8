// Package doctor finds out what a machine can do for a run, by doing it, and what
// dead runs left on it.
//
// Every capability is tried in a process of its own, this program started again
// (Main), in a throwaway folder, within a limit of time: versions and settings
// prove nothing. Nothing of it is left, whatever becomes of this process. Only
// the hints on how to enable what is missing look at settings.
package doctor

import (
	"context"
	"os"
	"slices"
	"time"

	"statequake/fixtures/lease"
	"statequake/scenarios"
)

// folder begins the names of throwaway folders.
const folder = "statequake-doctor-"

// State is how much of a capability a machine has.
type State string

const (
	OK      State = "ok"
	Limited State = "limited" // it works, with a restriction
	Missing State = "missing"
)

// Capability is one thing that a machine can do, or not.
type Capability struct {
	Name     string `json:"name"`
	State    State  `json:"state"`
	Required bool   `json:"required"` // without it no scenario runs
	Found    string `json:"found"`    // in words, with figures

	// What it is needed for.
	For       string   `json:"for"`                 // in words
	Kinds     []string `json:"kinds,omitempty"`     // of faults
	Triggers  []string `json:"triggers,omitempty"`  // of faults
	Scenarios []string `json:"scenarios,omitempty"` // bundled ones that are refused without it

	Enable []string `json:"enable,omitempty"` // how to get it; each a command or a sentence

	Figures map[string]int64 `json:"figures,omitempty"` // what was measured, the unit in the name
}

// check is one row: how it is found out, and what it is for.
type check struct {
	name     string
	probe    string         // of probes
	need     scenarios.Need // of scenarios; "" for what they all have a use for
	required bool
	here     bool // in the current directory, not in a throwaway folder
	limit    time.Duration
	use      string
}

// checks are in the order in which they build on each other.
var checks = []check{
	{name: string(scenarios.NeedSignals), probe: "signals", need: scenarios.NeedSignals, required: true, limit: 5 * time.Second,
		use: "starting, killing and stopping nodes"},
	{name: "loopback", probe: "loopback", required: true, limit: 5 * time.Second,
		use: "the nodes' ports"},
	{name: "run directory", probe: "directory", required: true, here: true, limit: 30 * time.Second,
		use: "recording runs below the current directory; how fast its disk syncs is how fast durable writes are"},
	{name: "open files", probe: "files", required: true, limit: 10 * time.Second,
		use: "connections of the load"},
	{name: "pacing", probe: "pacing", limit: 10 * time.Second,
		use: "sending operations when they are due; a generator that is late makes a run degraded or unknown"},
	{name: string(scenarios.NeedLinks), probe: "links", need: scenarios.NeedLinks, limit: 20 * time.Second,
		use: "faults of connections, for systems that use the proxies in their environment"},
	{name: string(scenarios.NeedNamespaces), probe: "namespaces", need: scenarios.NeedNamespaces, limit: 10 * time.Second,
		use: "runs that collide with nothing and leave nothing behind, whatever ends them"},
	{name: string(scenarios.NeedSwitch), probe: "switch", need: scenarios.NeedSwitch, limit: 20 * time.Second,
		use: "faults of packets: loss, duplicate, corrupt, reorder, and all others where system.network: packets"},
	{name: "fast TCP recovery", probe: "rto", limit: 10 * time.Second,
		use: "connections that go on within 1 s of the end of a long partition (tcp_rto_max_ms)"},
	{name: string(scenarios.NeedFUSE), probe: "fuse", need: scenarios.NeedFUSE, limit: 20 * time.Second,
		use: "faults of disks"},
	{name: string(scenarios.NeedClocks), probe: "clock", need: scenarios.NeedClocks, limit: 10 * time.Second,
		use: "faults of clocks"},
	{name: string(scenarios.NeedStress), probe: "stress", need: scenarios.NeedStress, limit: 20 * time.Second,
		use: "shortage of CPU time and memory"},
	{name: string(scenarios.NeedPostgres), probe: "postgres", need: scenarios.NeedPostgres, limit: 60 * time.Second,
		use: "system.store: postgres"},
}

// Examine tries everything, one thing after the other, and tells each what it
// found. It takes some seconds. The error is about the throwaway folder.
func Examine(ctx context.Context, each func(Capability)) error {
	return inThrowaway(func(dir string) error {
		for _, c := range checks {
			each(c.examine(ctx, dir))
		}
		return ctx.Err()
	})
}

// Lacks tries what is needed and returns, for what the machine does not have,
// what was found instead, in words. The error is about the throwaway folder, or
// that of ctx.
func Lacks(ctx context.Context, needs []scenarios.Need) (map[scenarios.Need]string, error) {
	lacks := map[scenarios.Need]string{}
	if len(needs) == 0 {
		return lacks, nil
	}
	return lacks, inThrowaway(func(dir string) error {
		for _, c := range checks {
			if c.need == "" || !slices.Contains(needs, c.need) {
				continue
			}
			if r := c.try(ctx, dir); r.State == Missing {
				lacks[c.need] = r.Found
			}
		}
		return ctx.Err()
	})
}

// inThrowaway calls f with a folder that is gone afterwards.
func inThrowaway(f func(dir string) error) error {
	dir, err := os.MkdirTemp("", folder+"*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	alive, err := lease.Take(dir, false)
	if err != nil {
		return err
	}
	defer alive.End()
	return f(dir)
}

// CanRun tells whether a machine with these capabilities can run scenarios at
// all, such as the quickstart: those without faults that need more.
func CanRun(all []Capability) bool {
	for _, c := range all {
		if c.Required && c.State == Missing {
			return false
		}
	}
	return len(all) > 0
}

func (c check) examine(ctx context.Context, dir string) Capability {
	row := Capability{Name: c.name, Required: c.required, For: c.use}
	if c.need != "" {
		row.Kinds, row.Triggers = c.need.Kinds(), c.need.Triggers()
		for _, info := range scenarios.Bundled() {
			for _, n := range info.Scenario.Needs() {
				if n == c.need && !c.required {
					row.Scenarios = append(row.Scenarios, info.Name)
				}
			}
		}
	}
	r := c.try(ctx, dir)
	row.State, row.Found, row.Figures = r.State, r.Found, r.Figures
	if row.State != OK {
		row.Enable = enable(c.probe, r)
	}
	return row
}
