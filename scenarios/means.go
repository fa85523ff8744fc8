package scenarios

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"slices"
	"time"

	"statequake/chaos"
	"statequake/chaos/hand"
	"statequake/fixtures"
	"statequake/loadgen"
)

// mean is what it takes to execute faults of some kinds beyond signals to the
// nodes' processes.
type mean struct {
	kinds []string
	needs []Need
	joins string                                             // it is the network of scenarios with that system.network
	files bool                                               // it watches the nodes' files, for the trigger on
	free  bool                                               // it takes nothing before a fault comes: every run has it, for faults by hand
	light bool                                               // it takes no namespaces: every cluster that is held has it
	open  func(ctx context.Context, r *run) (*opened, error) // before the system starts
}

// means are those of this build, which must be in chaos.Local, too. In this
// order they wrap how a node's process is started, the first outermost.
var means = []mean{
	{kinds: diskKinds, needs: []Need{NeedNamespaces, NeedFUSE}, files: true, open: openDisks},
	{kinds: []string{chaos.NetworkChaos}, joins: "packets", needs: []Need{NeedNamespaces, NeedSwitch}, open: openSwitch},
	{kinds: []string{chaos.NetworkChaos}, joins: "streams", needs: []Need{NeedLinks}, open: openLinks},
	{kinds: []string{chaos.StressChaos}, needs: []Need{NeedStress}, free: true, light: true, open: openStress},
	{kinds: []string{chaos.TimeChaos}, needs: []Need{NeedClocks}, light: true, open: openClock}, // last: it starts processes by its own hands
}

// starter starts a process; nil is the usual way: where the starter runs, with
// a parent death signal.
type starter = func(*exec.Cmd) error

// opened is a mean that is ready for a run. What is nil it does not have.
type opened struct {
	start     func(node string, next starter) starter                  // how a node's process is started, each time; next is how the other means do it
	net       *fixtures.Net                                            // how nodes reach each other
	dial      func(ctx context.Context, addr string) (net.Conn, error) // how clients reach nodes, at their addresses in net; nil: directly
	executors map[string]chaos.Executor
	onFile    func(ctx context.Context, on chaos.OnFile, nodes []chaos.Node) (release func(), err error) // as in chaos.Config
	excused   func(node string, at time.Duration) bool                                                   // a node that ended by itself then did so by a fault
	refuse    func(*chaos.Fault) *hand.Problem                                                           // a fault by hand of its kinds that it was not opened for
	close     func() error                                                                               // when the nodes have ended
}

// equipment are the means that a run has opened, in their order.
type equipment []*opened

// openMeans opens the means that the faults of the scenario need, and the free
// ones.
func (r *run) openMeans(ctx context.Context) error {
	for _, m := range means {
		if !m.free && !m.needed(r.scenario) {
			continue
		}
		o, err := m.open(ctx, r)
		if err != nil {
			return err
		}
		r.equipment = append(r.equipment, o)
	}
	return nil
}

// needed tells whether a fault of the scenario takes the mean.
func (m mean) needed(s *Scenario) bool {
	return m.joins == "" && slices.ContainsFunc(s.Faults, func(f Fault) bool {
		_, onFile := f.Trigger.(chaos.OnFile)
		return slices.Contains(m.kinds, f.Plan.Kind) || m.files && onFile
	}) || m.joins != "" && m.joins == s.System.Network
}

// start is how a node's process is started; nil is the usual way.
func (e equipment) start(node string) starter {
	var start starter
	for _, o := range slices.Backward(e) {
		if o.start != nil {
			start = o.start(node, start)
		}
	}
	return start
}

// net is how nodes reach each other.
func (e equipment) net() fixtures.Net {
	for _, o := range e {
		if o.net != nil {
			return *o.net
		}
	}
	return fixtures.Net{}
}

// endpoint is where clients reach a node.
func (e equipment) endpoint(n *fixtures.Node) loadgen.Endpoint {
	to := loadgen.Endpoint{Node: n.Name, Addr: n.Addr}
	for _, o := range e {
		if o.dial != nil {
			_, port, _ := net.SplitHostPort(n.Addr) // it has one
			to.Addr, to.Dial = net.JoinHostPort(o.net.ReachOf(n.Name), port), o.dial
		}
	}
	return to
}

func (e equipment) executors() map[string]chaos.Executor {
	all := map[string]chaos.Executor{}
	for _, o := range e {
		maps.Copy(all, o.executors)
	}
	return all
}

// onFile waits for operations on the nodes' files; nil if nothing can.
func (e equipment) onFile() func(ctx context.Context, on chaos.OnFile, nodes []chaos.Node) (release func(), err error) {
	for _, o := range e {
		if o.onFile != nil {
			return o.onFile
		}
	}
	return nil
}

// excused tells whether a node that ended by itself did so by a fault.
func (e equipment) excused(node string, at time.Duration) bool {
	return slices.ContainsFunc(e, func(o *opened) bool { return o.excused != nil && o.excused(node, at) })
}

// refuse says why a fault by hand is not possible, though there is a mean for
// its kind.
func (e equipment) refuse(f *chaos.Fault) *hand.Problem {
	for _, o := range e {
		if o.refuse == nil {
			continue
		}
		if problem := o.refuse(f); problem != nil {
			return problem
		}
	}
	return nil
}

// close closes what was opened, the last first.
func (e equipment) close() error {
	var errs []error
	for _, o := range slices.Backward(e) {
		if o.close != nil {
			errs = append(errs, o.close())
		}
	}
	return errors.Join(errs...)
}

// nodeNames are n1, n2 and so on.
func nodeNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i+1)
	}
	return names
}
