package scenarios

import (
	"maps"
	"slices"

	"statequake/chaos"
)

// Need is something that a machine must offer for a scenario to run on it.
type Need string

const (
	NeedSignals    Need = "process signals"    // for every system that is started here
	NeedNamespaces Need = "private namespaces" // of users, processes, mounts and networks, for the run
	NeedLinks      Need = "stream links"       // forward proxies on the loopback interface
	NeedSwitch     Need = "packet switch"      // a network namespace per node
	NeedFUSE       Need = "FUSE"
	NeedClocks     Need = "moved clocks" // of processes that are traced when they start
	NeedStress     Need = "stress workers"
	NeedPostgres   Need = "PostgreSQL"
)

// Needs are all there are, in the order in which they build on each other.
var Needs = []Need{NeedSignals, NeedLinks, NeedNamespaces, NeedSwitch, NeedFUSE, NeedClocks, NeedStress, NeedPostgres}

// Kinds are the kinds of faults on local processes that take n, by name.
func (n Need) Kinds() []string {
	kinds := map[string]bool{}
	for kind := range chaos.Local.Can {
		kinds[kind] = n == NeedSignals // unless a mean says otherwise
	}
	for _, m := range means {
		for _, kind := range m.kinds {
			if n == NeedSignals {
				kinds[kind] = false
			} else if slices.Contains(m.needs, n) {
				kinds[kind] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(kinds)), func(kind string) bool { return !kinds[kind] })
}

// Triggers are the triggers of faults that take n.
func (n Need) Triggers() []string {
	if slices.ContainsFunc(means, func(m mean) bool { return m.files && slices.Contains(m.needs, n) }) {
		return []string{"on"}
	}
	return nil
}

// Needs are what s takes, in the order of Needs. Namespaces are among them only
// if it is refused without them.
func (s *Scenario) Needs() []Need {
	have := map[Need]bool{
		NeedSignals:  s.System.Own == nil || s.System.Own.Started(),
		NeedPostgres: s.System.Store == "postgres",
	}
	for _, m := range means {
		if m.needed(s) {
			for _, n := range m.needs {
				have[n] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(Needs), func(n Need) bool { return !have[n] })
}
