package scenarios

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"time"

	"statequake/chaos"
)

// mean is what it takes to execute faults of some kinds beyond signals to the
// nodes' processes.
type mean struct {
	kinds []string
	needs []Need
	files bool                                               // it watches the nodes' files, for the trigger on
	open  func(ctx context.Context, r *run) (*opened, error) // before the system starts
}

// means are those of this build, which must be in chaos.Local, too. In this
// order they wrap how a node's process is started, the first outermost.
var means = []mean{
	{kinds: diskKinds, needs: []Need{NeedNamespaces, NeedFUSE}, files: true, open: openDisks},
	{kinds: []string{chaos.NetworkChaos}, needs: []Need{NeedNamespaces, NeedNetwork}, open: openNetwork},
	{kinds: []string{chaos.StressChaos}, needs: []Need{NeedStress}, open: openStress},
	{kinds: []string{chaos.TimeChaos}, needs: []Need{NeedClocks}, open: openClock}, // last: it starts processes by its own hands
}

// starter starts a process; nil is the usual way: where the starter runs, with
// a parent death signal.
type starter = func(*exec.Cmd) error

// opened is a mean that is ready for a run. What is nil it does not have.
type opened struct {
	start     func(node string, next starter) starter // how a node's process is started, each time; next is how the other means do it
	host      func(node string) string                // address of a node
	executors map[string]chaos.Executor
	onFile    func(ctx context.Context, on chaos.OnFile, nodes []chaos.Node) (release func(), err error) // as in chaos.Config
	excused   func(node string, at time.Duration) bool                                                   // a node that ended by itself then did so by a fault
	close     func() error                                                                               // when the nodes have ended
}

// equipment are the means that a run has opened, in their order.
type equipment []*opened

// openMeans opens the means that the faults of the scenario need.
func (r *run) openMeans(ctx context.Context) error {
	for _, m := range means {
		if !slices.ContainsFunc(r.scenario.Faults, m.needed) {
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

// needed tells whether a fault takes the mean.
func (m mean) needed(f Fault) bool {
	_, onFile := f.Trigger.(chaos.OnFile)
	return slices.Contains(m.kinds, f.Plan.Kind) || m.files && onFile
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

// host is the address of nodes; nil if they have none of their own.
func (e equipment) host() func(node string) string {
	for _, o := range e {
		if o.host != nil {
			return o.host
		}
	}
	return nil
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
