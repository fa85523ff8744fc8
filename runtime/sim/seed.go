package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/ownership"
)

// bugs can be planted by name, beside those of the runtime.
var bugs = map[string]func(*Config){
	"no-wait":    func(c *Config) { c.Outwait = time.Millisecond },
	"no-drift":   func(c *Config) { c.Outwait = ownership.Lease },
	"keep-doubt": func(c *Config) { c.KeepDoubt = true },
}

// BugNames are the bugs that ForSeed can plant. What a bug of the runtime takes
// away may not be simulated here: then it is not found.
func BugNames() []string {
	names := append(core.BugNames(), slices.Collect(maps.Keys(bugs))...)
	slices.Sort(names)
	return names
}

// ForSeed is the simulation of a seed, with a bug unless it is "". Without
// one, each fourth seed acknowledges from memory.
func ForSeed(seed uint64, bug string) (Config, error) {
	cfg := Config{Seed: seed, Memory: bug == "" && seed%4 == 3}
	if bug == "" {
		return cfg, nil
	}
	if plant, ok := core.Planted[bug]; ok {
		cfg.Bugs = plant.Bugs
		cfg.Memory = plant.Bugs.WindowExceeded // without memory there is no window
		return cfg, nil
	}
	plant, ok := bugs[bug]
	if !ok {
		return cfg, fmt.Errorf("unknown bug %q; have %v", bug, BugNames())
	}
	plant(&cfg)
	return cfg, nil
}

// Replay is the command that runs a seed again and prints every event.
func Replay(seed uint64, bug string, auditOnly bool) string {
	command := fmt.Sprintf("go run ./runtime/sim/cmd -seed %d -v", seed)
	if bug != "" {
		command += " -bug " + bug
	}
	if auditOnly {
		command += " -audit-only"
	}
	return command
}
