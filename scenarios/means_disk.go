package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"statequake/chaos"
	"statequake/chaos/hand"
	"statequake/fixtures/sandbox"
)

// diskKinds are the faults of a node's disk.
var diskKinds = []string{chaos.PowerLoss, chaos.IOChaos, chaos.DiskFull}

// openDisks puts a file system of this process under each node's data directory.
func openDisks(_ context.Context, r *run) (*opened, error) {
	if !sandbox.Inside() {
		return nil, errors.New("faults of disks need a mount namespace of the run's own, and this run has none\nhint: run it without --no-sandbox, where the kernel allows user namespaces")
	}
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("faults of disks need FUSE: %w\nhint: modprobe fuse loads it; its device has to be open to this user (chmod 666 /dev/fuse); a container needs --device /dev/fuse", err)
	}
	fuse.Close()
	data, err := filepath.Abs(filepath.Join(r.opt.Dir, "data"))
	if err != nil {
		return nil, err
	}
	disks := &chaos.Disks{
		Dir: func(node string) string { return filepath.Join(data, node) },
		Now: r.now, Processes: r.processes,
	}
	disks.PowerLoss = r.held
	for _, f := range r.scenario.Faults {
		if spec, ok := f.Plan.Spec.(chaos.Power); ok {
			disks.PowerLoss, disks.Strict = true, spec.Strict
		}
	}
	o := &opened{
		// Not before: until the first start this process looks into the
		// directories, which it must not once it has to answer for them itself.
		start: func(node string, next starter) starter {
			if next == nil {
				next = sandbox.Start
			}
			return func(cmd *exec.Cmd) error {
				if err := disks.Mount(node); err != nil {
					return err
				}
				return next(cmd)
			}
		},
		executors: map[string]chaos.Executor{},
		onFile:    disks.OnFile,
		excused:   disks.Excused,
		refuse: func(f *chaos.Fault) *hand.Problem {
			spec, ok := f.Spec.(chaos.Power)
			switch {
			case ok && !disks.PowerLoss:
				return &hand.Problem{Field: "chaos.kind", Text: "PowerLoss takes disks that know what was not synced, and those of this run do not, since its scenario has no PowerLoss",
					Hint: "statequake cluster up --chaos starts a cluster for faults by hand"}
			case ok && spec.Strict != disks.Strict:
				return &hand.Problem{Field: "chaos.spec.directoryEntries", Text: "contradicts the rule of the disks, which is " + map[bool]string{false: "ext4", true: "strict"}[disks.Strict]}
			}
			return nil
		},
		close: disks.Close,
	}
	for _, kind := range diskKinds {
		o.executors[kind] = disks
	}
	return o, nil
}

// disks reports what faults of disks need and do not have.
func (p *parser) disks(s *Scenario) {
	var first *chaos.Fault
	for i, f := range s.Faults {
		if f.Plan == nil {
			continue // reported already
		}
		path, what := fmt.Sprintf("faults[%d].chaos.kind", i), f.Plan.Kind
		if !slices.Contains(diskKinds, what) {
			if _, ok := f.Trigger.(chaos.OnFile); !ok {
				continue
			}
			path, what = fmt.Sprintf("faults[%d].on", i), "a trigger on files"
		}
		own := s.System.Own
		if s.System.Store == "postgres" {
			p.refuse(path, "system.store: etcd is in the nodes", "%s contradicts system.store: postgres, a server beside the nodes, which have no files then", what)
		}
		if own != nil && own.Started() {
			if problem := own.DataElsewhere(); problem != "" {
				p.refuse(path, "", "%s needs the node's files below ${data_dir}, in the run directory: %s", what, problem)
			}
		}
		p.refuseAll(fmt.Sprintf("faults[%d].chaos", i), chaos.CheckDisk(f.Plan.Spec))
		spec, ok := f.Plan.Spec.(chaos.Power)
		switch {
		case !ok:
		case first == nil:
			first = f.Plan
		case first.Spec.(chaos.Power).Strict != spec.Strict:
			p.refuse(fmt.Sprintf("faults[%d].chaos.spec.directoryEntries", i), "", "contradicts that of %s; a run has one rule", first.Name)
		}
	}
}
