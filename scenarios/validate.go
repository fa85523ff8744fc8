package scenarios

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"statequake/chaos"
	"statequake/fixtures/custom"
)

// bugs are the misbehaviours planted in the reference runtime.
var bugs = []string{"ack-before-journal", "no-fence", "double-apply", "dirty-read"}

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
		switch end := s.Load.Duration; {
		case end == 0: // reported already
		case f.At > end:
			p.refuse(path+".at", "", "%s is after the load ends (%s)", short(f.At), short(end))
		case f.At == end:
			p.refuse(path+".at", "", "%s is when the load ends", short(f.At))
		}
		if f.Plan == nil { // reported already
			continue
		}
		p.labels(path+".chaos", f.Chaos, &s.System)
		if f.Plan.Kind == chaos.ProcessPause && s.Load.Timeout > 0 && f.Plan.Duration >= s.Load.Timeout {
			p.refuse(path+".chaos.spec.duration", "raise load.timeout or shorten the pause",
				"%s is not shorter than load.timeout (%s), so the paused node's late answers would never be seen",
				short(f.Plan.Duration), short(s.Load.Timeout))
		}
	}
}

// labels reports label selectors that no node can ever match: the fault would
// hit nothing and the run prove nothing.
func (p *parser) labels(path string, object []byte, system *System) {
	nodes := system.Nodes
	var fault struct {
		Spec struct {
			Selector struct {
				LabelSelectors map[string]string `json:"labelSelectors"`
			} `json:"selector"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(object, &fault); err != nil {
		return // chaos.Parse has accepted it
	}
	have := []string{chaos.NodeLabel, chaos.OwnerOfLabel, chaos.RoleLabel}
	selectors := fault.Spec.Selector.LabelSelectors
	for _, label := range slices.Sorted(maps.Keys(selectors)) {
		value := selectors[label]
		at := path + ".spec.selector.labelSelectors." + label
		switch {
		case !slices.Contains(have, label):
			p.refuse(at, custom.DidYouMean(label, have), "no node has this label; %s", oneOf(have))
		case system.Own != nil && label != chaos.NodeLabel:
			p.refuse(at, chaos.NodeLabel+": n1 names a node", "is known of the reference runtime only")
		}
		if n, err := strconv.Atoi(strings.TrimPrefix(value, "n")); label == chaos.NodeLabel &&
			(err != nil || value != fmt.Sprintf("n%d", n) || n < 1 || n > nodes) {
			p.refuse(at, "", "there is no node %q; the nodes are n1 to n%d", value, nodes)
		}
	}
}
