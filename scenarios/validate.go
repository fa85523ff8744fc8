package scenarios

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"statequake/chaos"
	"statequake/fixtures/custom"
)

// bugs are the misbehaviours planted in the reference runtime: each has its
// scenario in bugs/.
var bugs = func() (names []string) {
	for _, name := range bundledNames() {
		if bug, ok := strings.CutPrefix(name, "bugs/"); ok {
			names = append(names, bug)
		}
	}
	return names
}()

// violationKinds are the kinds of violation the witness audit tells apart.
var violationKinds = []string{"duplicated", "lost", "phantom", "dirty-read", "wrong-result", "stale-read", "reordered", "future-read", "half-applied", "missed-deadline"}

// contradictions reports fields that are fine alone and impossible together.
func (p *parser) contradictions(s *Scenario) {
	own := s.System.Own
	if own != nil && !own.Started() && len(s.Faults) > 0 {
		p.refuse("faults", "system.exec starts it, and then its processes can be killed", "nothing is known of the processes of a system that runs at a url")
	}
	if _, ok := s.Expect["lost_acks"]; ok && own != nil && !own.Witness() {
		p.refuse("expect.lost_acks", witnessHint, "cannot be counted without a witness")
	}
	for i, f := range s.Faults {
		path := fmt.Sprintf("faults[%d]", i)
		switch t := f.Trigger.(type) {
		case chaos.At:
			p.inLoad(path+".at", time.Duration(t), s.Load.Duration)
		case chaos.Within:
			p.inLoad(path+".within[1]", t.To, s.Load.Duration)
		}
		if f.Plan == nil { // reported already
			continue
		}
		p.labels(path+".chaos", f.Chaos, &s.System)
		p.network(path+".chaos", f.Plan, &s.System)
		if f.Plan.Kind == chaos.ProcessPause && s.Load.Timeout > 0 && f.Plan.Duration >= s.Load.Timeout {
			p.refuse(path+".chaos.spec.duration", "raise load.timeout or shorten the pause",
				"%s is not shorter than load.timeout (%s), so the paused node's late answers would never be seen",
				short(f.Plan.Duration), short(s.Load.Timeout))
		}
	}
}

// inLoad reports an instant at which there is no load, that lasts until end.
func (p *parser) inLoad(path string, at, end time.Duration) {
	switch {
	case end == 0: // reported already
	case at > end:
		p.refuse(path, "", "%s is after the load ends (%s)", short(at), short(end))
	case at == end:
		p.refuse(path, "", "%s is when the load ends", short(at))
	}
}

// network reports what a NetworkChaos needs and does not have.
func (p *parser) network(path string, f *chaos.Fault, system *System) {
	if f.Kind != chaos.NetworkChaos {
		return
	}
	streams := system.Network == "streams"
	if streams {
		p.refuseAll(path, withHint(chaos.CheckStreams(f.Spec), "system.network: packets has packets"))
	} else {
		p.refuseAll(path, withHint(chaos.CheckPackets(f.Spec), "system.network: streams does that"))
	}
	if system.Store == "postgres" {
		p.refuse(path+".kind", "system.store: etcd is in the nodes", "NetworkChaos contradicts system.store: postgres, a server that is no part of the nodes' network")
	}
	if system.Own == nil || !system.Own.Started() {
		return
	}
	if streams && system.Nodes > 1 {
		if field := system.Own.PeersMissing(); field != "" {
			p.refuse(path+".kind", "${n1.host} is where the others reach n1, by their proxies; ${self.host} is the node's own such address", "NetworkChaos needs ${n1.host} in system.%s", field)
		}
	}
	if !streams {
		if field := system.Own.HostMissing(); field != "" {
			p.refuse(path+".kind", "nodes have addresses of their own then, which ${host} stands for", "NetworkChaos on packets needs ${host} in system.%s", field)
		}
	}
}

// withHint adds a line to an error; nil stays nil.
func withHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\nhint: %s", err, hint)
}

// labels reports label selectors that no node can ever match: the fault would
// hit nothing and the run prove nothing.
func (p *parser) labels(path string, object []byte, system *System) {
	type selected struct {
		Selector struct {
			LabelSelectors map[string]string `json:"labelSelectors"`
		} `json:"selector"`
	}
	var fault struct {
		Spec struct {
			selected
			Target selected `json:"target"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(object, &fault); err != nil {
		return // chaos.Parse has accepted it
	}
	p.labelSelectors(path+".spec.selector", fault.Spec.Selector.LabelSelectors, system)
	p.labelSelectors(path+".spec.target.selector", fault.Spec.Target.Selector.LabelSelectors, system)
}

func (p *parser) labelSelectors(path string, selectors map[string]string, system *System) {
	nodes := system.Nodes
	have := []string{chaos.NodeLabel, chaos.OwnerOfLabel, chaos.RoleLabel}
	for _, label := range slices.Sorted(maps.Keys(selectors)) {
		value := selectors[label]
		at := path + ".labelSelectors." + label
		half := label == chaos.RoleLabel && (value == chaos.Minority || value == chaos.Majority)
		switch {
		case !slices.Contains(have, label):
			p.refuse(at, custom.DidYouMean(label, have), "no node has this label; %s", oneOf(have))
		case half && value == chaos.Minority && nodes < 3:
			p.refuse(at, "", "no node is in the minority of %d", nodes)
		case system.Own != nil && label != chaos.NodeLabel && !half:
			p.refuse(at, chaos.NodeLabel+": n1 names a node", "is known of the reference runtime only")
		}
		if n, err := strconv.Atoi(strings.TrimPrefix(value, "n")); label == chaos.NodeLabel &&
			(err != nil || value != fmt.Sprintf("n%d", n) || n < 1 || n > nodes) {
			p.refuse(at, "", "there is no node %q; the nodes are n1 to n%d", value, nodes)
		}
	}
}
