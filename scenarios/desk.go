package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"statequake/chaos"
	"statequake/chaos/hand"
	"statequake/history"
)

// always are the kinds of faults that need no mean.
var always = []string{chaos.PodChaos, chaos.ProcessPause}

// desk takes faults by hand for a system and has a Nemesis inject them.
type desk struct {
	harness  string    // in words
	scenario *Scenario // what of it says what faults make sense: system and load
	nemesis  *chaos.Nemesis
	nodes    []hand.Node
	kinds    []string          // that have a mean
	cannot   map[string]string // others, and why not
	refuse   func(*chaos.Fault) *hand.Problem
	note     func(*chaos.Fault) string // what is to be known of a fault; nil or "": nothing
	hottest  bool                      // the load has a hottest key
	from     time.Duration             // faults wait for this instant
	now      func() time.Duration
}

// serve takes faults at the socket in dir.
func (d *desk) serve(dir string) (*hand.Server, error) {
	return hand.Serve(dir, hand.Desk{Now: d.now, Info: d.info, Take: d.take})
}

func (d *desk) info() hand.Info {
	return hand.Info{Harness: d.harness, Nodes: d.nodes, Can: d.kinds, Cannot: d.cannot, Active: d.nemesis.Active()}
}

// take checks an order as Parse would check it in the scenario.
func (d *desk) take(o hand.Order) (func(ctx context.Context, tell func(hand.Line)) error, error) {
	fault, problems := d.check(o)
	if len(problems) > 0 {
		return nil, &hand.Refused{Problems: problems}
	}
	return func(ctx context.Context, tell func(hand.Line)) error {
		if d.note != nil {
			if note := d.note(fault); note != "" {
				tell(hand.Line{Note: note})
			}
		}
		if wait := d.from - d.now(); wait > 0 {
			tell(hand.Line{Note: fmt.Sprintf("waiting %s for the end of the warmup", wait.Round(100*time.Millisecond))})
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return nil
			}
		}
		return d.nemesis.Inject(ctx, fault, func(ev history.Fault) { tell(hand.Line{Event: &ev}) })
	}, nil
}

func (d *desk) check(o hand.Order) (*chaos.Fault, []hand.Problem) {
	// It is the first and only fault of the scenario, with a trigger that is
	// always right.
	const at = "faults[0]"
	p := &parser{places: map[string]place{}}
	if !namePattern.MatchString(o.Name) {
		p.refuse(at+".name", "", "%q is not a name: lower-case letters, digits and dashes, at most 64", shorten(o.Name))
	}
	plan, err := chaos.ParseFor(chaos.Local, o.Name, chaos.At(0), o.Chaos)
	p.refuseAll(at+".chaos", err)
	if err == nil {
		d.judge(p, at, o, plan)
	}
	var problems []hand.Problem
	for _, bad := range p.problems {
		field, ok := strings.CutPrefix(bad.path, at)
		if !ok {
			field = "" // of the scenario
		}
		problems = append(problems, hand.Problem{Field: strings.TrimPrefix(field, "."), Text: bad.text, Hint: bad.hint})
	}
	return plan, problems
}

// judge reports what this harness and its system cannot do.
func (d *desk) judge(p *parser, at string, o hand.Order, plan *chaos.Fault) {
	if !slices.Contains(d.kinds, plan.Kind) {
		text, hint, _ := strings.Cut(d.cannot[plan.Kind], "\nhint: ")
		p.refuse(at+".chaos.kind", hint, "%s", text)
		return
	}
	if problem := d.refuse(plan); problem != nil {
		p.refuse(at+"."+problem.Field, problem.Hint, "%s", problem.Text)
	}
	s := *d.scenario
	s.Faults = []Fault{{Name: o.Name, Trigger: chaos.At(0), Chaos: o.Chaos, Plan: plan}}
	p.contradictions(&s)
	p.disks(&s)
	p.storeRoles(&s)
	d.keys(p, at+".chaos.spec.selector.labelSelectors", o.Chaos)
}

// keys reports a selector by the hottest key where nothing is hot.
func (d *desk) keys(p *parser, path string, object []byte) {
	var fault struct {
		Spec struct {
			Selector struct {
				LabelSelectors map[string]string `json:"labelSelectors"`
			} `json:"selector"`
		} `json:"spec"`
	}
	if d.hottest || json.Unmarshal(object, &fault) != nil {
		return // ParseFor has accepted it
	}
	if fault.Spec.Selector.LabelSelectors[chaos.OwnerOfLabel] == "hottest" {
		p.refuse(path+"."+chaos.OwnerOfLabel, chaos.OwnerOfLabel+": cart/42 is the node that owns that cart",
			"there is no load here that has a hottest key")
	}
}

// missing says of each kind of faults for which nothing was opened why not, as
// reason knows.
func (r *run) missing(reason func(kind string) string) (kinds []string, cannot map[string]string) {
	kinds = append(slices.Clone(always), slices.Sorted(maps.Keys(r.equipment.executors()))...)
	cannot = map[string]string{}
	for kind := range chaos.Local.Can {
		if !slices.Contains(kinds, kind) {
			cannot[kind] = reason(kind)
		}
	}
	return kinds, cannot
}

// handNodes are the nodes as Info has them; outside are the addresses at which
// they answer outside of this process's network, if they are others.
func (r *run) handNodes(outside []string) []hand.Node {
	network := r.equipment.net()
	var nodes []hand.Node
	for i, n := range r.system.Nodes() {
		_, port, _ := net.SplitHostPort(n.Addr) // it has one
		node := hand.Node{Name: n.Name, Addr: net.JoinHostPort(network.ReachOf(n.Name), port)}
		if i < len(outside) {
			node.Reach = outside[i]
		} else if node.Addr != n.Addr {
			node.Reach = n.Addr
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// takeByHand takes faults by hand until close is called, which heals them and
// returns when they are over. They wait for the end of the warmup.
func (r *run) takeByHand(faults *chaos.Nemesis, from time.Duration) (close func()) {
	kinds, cannot := r.missing(func(kind string) string {
		return fmt.Sprintf("%s takes what this run has not opened, since its scenario has no such fault\nhint: statequake cluster up --chaos starts a cluster for faults by hand", kind)
	})
	d := &desk{
		harness: "run of " + r.scenario.Name, scenario: r.scenario, nemesis: faults, nodes: r.handNodes(nil),
		kinds: kinds, cannot: cannot, refuse: r.equipment.refuse,
		hottest: true, from: from, now: r.now,
	}
	server, err := d.serve(r.opt.Dir)
	if err != nil {
		// A run is worth the same without, for instance on a file system that has
		// no sockets; who asks for one is told that there is none.
		return func() {}
	}
	return server.Close
}
