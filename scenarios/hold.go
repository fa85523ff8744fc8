package scenarios

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"statequake/chaos"
	"statequake/chaos/hand"
	"statequake/chaos/process"
	"statequake/fixtures"
	"statequake/history"
)

// HoldOptions says which cluster of the reference runtime to hold, and where.
type HoldOptions struct {
	Dir    string // data in data/NODE, logs in nodes/NODE.log; a cluster that was there goes on
	Binary string // the statequake program, for the nodes
	Nodes  int    // 1 to 9
	Shards int
	Ack    string // durable or memory

	// All opens every mean of faults that this machine has; without it only
	// those are opened that cost a cluster nothing.
	All bool

	// Reach are addresses outside of this process's network at which somebody
	// forwards to the nodes, for Info; none if the nodes answer at their own.
	Reach []string
}

// Held is a cluster that runs until Close and takes faults by hand. Its methods
// may be called concurrently.
type Held struct {
	run    *run
	server *hand.Server
	cannot map[string]string
	kinds  []string
}

// Hold starts a cluster that takes faults by hand at the socket in its
// directory, without a load. It returns when all nodes are ready.
func Hold(ctx context.Context, opt HoldOptions) (*Held, error) {
	r := &run{
		scenario: &Scenario{System: System{
			Name: "reference", Nodes: opt.Nodes, Shards: opt.Shards, Ack: opt.Ack, Store: "etcd",
		}},
		opt:   RunOptions{Dir: opt.Dir, Binary: opt.Binary, KeepData: true},
		began: time.Now(),
		held:  true,
	}
	r.processes = &process.Injector{Now: r.now}
	if err := os.MkdirAll(opt.Dir, 0o755); err != nil {
		return nil, err
	}
	failed := r.openHeld(ctx, opt.All)
	err := r.prepareData()
	if err == nil {
		r.system, err = r.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, r.equipment.close())
	}

	h := &Held{run: r}
	h.kinds, h.cannot = r.missing(func(kind string) string {
		if err := failed[kind]; err != nil {
			return err.Error()
		}
		return kind + " takes what this cluster was started without\nhint: statequake cluster up --chaos opens all that this machine has"
	})
	d := &desk{
		harness: "cluster", scenario: r.scenario, kinds: h.kinds, cannot: h.cannot, refuse: r.equipment.refuse, now: r.now,
		nemesis: chaos.New(chaos.Config{
			Nodes: r.targets(), Seed: rand.Int64(), Resolve: r.system.resolve,
			Executors: r.equipment.executors(), Processes: r.processes,
			Now: r.now, Record: func(history.Fault) {},
		}),
	}
	d.nodes = r.handNodes(opt.Reach)
	if h.server, err = d.serve(opt.Dir); err != nil {
		return nil, errors.Join(err, h.Close(ctx))
	}
	return h, nil
}

// Nodes are the nodes in order.
func (h *Held) Nodes() []*fixtures.Node { return h.run.system.Nodes() }

// Can are the kinds of faults that it takes.
func (h *Held) Can() []string { return h.kinds }

// Cannot are the other kinds, and why not.
func (h *Held) Cannot() map[string]string { return h.cannot }

// Close heals what is in progress and ends the nodes: their stop signal, and
// SIGKILL when ctx is over. The data stays.
func (h *Held) Close(ctx context.Context) error {
	if h.server != nil {
		h.server.Close()
	}
	// Nodes that end all at once wait for each other to take their shards. One
	// that had to be killed had written what it had.
	_ = h.run.system.Stop(ctx)
	return h.run.equipment.close()
}

// openHeld opens means for a cluster that is held, and returns why those of
// some kinds could not be opened.
func (r *run) openHeld(ctx context.Context, all bool) map[string]error {
	failed := map[string]error{}
	for _, m := range means {
		if !all && !m.light {
			continue
		}
		have := r.equipment.executors()
		if !slices.ContainsFunc(m.kinds, func(kind string) bool { return have[kind] == nil }) {
			continue // by another mean
		}
		o, err := m.open(ctx, r)
		if err != nil {
			for _, kind := range m.kinds {
				failed[kind] = err
			}
			continue
		}
		r.equipment = append(r.equipment, o)
		if m.joins != "" {
			r.scenario.System.Network = m.joins
		}
	}
	return failed
}

// probeClocks tells whether clocks can be moved here, by a program that ends at
// once: where they cannot, no node could be started with them. It is not this
// program, which in a test would be the test again.
func probeClocks() error {
	clocks := &chaos.Clocks{}
	cmd := exec.Command("true")
	if err := clocks.Start("probe")(cmd); err != nil {
		return fmt.Errorf("%s: %w", chaos.TimeChaos, err)
	}
	return errors.Join(cmd.Wait(), clocks.Close())
}

// prepareData puts the nodes' files where this cluster looks for them: a file
// system of this process has them beside the data directory, as does one whose
// harness was killed. It refuses data of nodes that had other hosts, which their
// store remembers.
func (r *run) prepareData() error {
	data := filepath.Join(r.opt.Dir, "data")
	disks := r.equipment.executors()[chaos.DiskFull] != nil
	for _, node := range nodeNames(r.scenario.System.Nodes) {
		dir := filepath.Join(data, node)
		from, to := dir+".disk", dir
		if disks {
			from, to = to, from
		}
		if err := moveFiles(from, to); err != nil {
			return err
		}
	}
	return r.sameHosts(filepath.Join(data, "hosts.json"))
}

// moveFiles moves a directory to a place that is empty, if there is one.
func moveFiles(from, to string) error {
	files, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(files) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("both %s and %s have files: %w\nhint: move away what is not to be the node's data", from, to, err)
	}
	return os.Rename(from, to)
}

// sameHosts compares the hosts of the nodes with those in the file, or writes
// them to it.
func (r *run) sameHosts(file string) error {
	net := r.equipment.net()
	var hosts []string
	for _, node := range nodeNames(r.scenario.System.Nodes) {
		hosts = append(hosts, net.ReachOf(node))
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = json.Marshal(hosts); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		return os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		return err
	}
	var before []string
	if err := json.Unmarshal(text, &before); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	if len(before) == len(hosts) && !slices.Equal(before, hosts) { // their number is for Ports to compare
		return fmt.Errorf("the data in %s is of nodes at %s, and these are at %s\nhint: start it as before, with or without --chaos, or in another directory",
			r.opt.Dir, strings.Join(before, ", "), strings.Join(hosts, ", "))
	}
	return nil
}
