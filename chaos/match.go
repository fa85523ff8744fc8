package chaos

import (
	"context"
	"slices"
)

// Lookup is a requirement of a selector on a label that no node carries:
// OwnerOfLabel or RoleLabel have, or do not have, one of the values.
type Lookup struct {
	Label  string
	Values []string
	Not    bool
}

// Lookups are those of the fault's selector and, for a NetworkChaos with a
// target, of the target's.
func (f *Fault) Lookups() (selected, peers []Lookup) {
	if f.peers != nil {
		peers = f.peers.exported()
	}
	return f.selector.exported(), peers
}

func (s *selector) exported() []Lookup {
	var list []Lookup
	for _, l := range s.lookups {
		list = append(list, Lookup{l.label, slices.Clone(l.values), l.not})
	}
	return list
}

// Match returns the names, sorted, of the nodes that a fault's selector matches
// at this instant and, for a NetworkChaos with a target, of those that the
// target's matches: all of them, where an injection takes as many as the mode
// says. It needs Nodes and Seed of the Config, Resolve as an injection does, and
// may be called concurrently.
func (n *Nemesis) Match(ctx context.Context, f *Fault) (selected, peers []string, err error) {
	if selected, err = n.match(ctx, f, &f.selector); err != nil || f.peers == nil {
		return selected, nil, err
	}
	peers, err = n.match(ctx, f, f.peers)
	return selected, peers, err
}
