package stats

import (
	"cmp"
	"slices"

	"statequake/history"
)

// Resources is what a node, or the load generator, used during a run: from the
// start of its first process to its last sample. What a process used after its
// last sample before it died is not known and not in it.
type Resources struct {
	CPU       float64 `json:"cpu_s"`         // user and system seconds, summed over all its processes
	RSSMax    int64   `json:"rss_max_bytes"` // largest sampled resident set
	DiskBytes int64   `json:"disk_bytes"`    // written to storage, summed over all its processes
	Starts    int     `json:"starts"`        // processes seen
}

// resources sums samples by node. A changed process id, or less CPU time than
// before, means that the process was started again and counts from 0. Samples
// without a process id of a node that had one say that it was down.
func resources(samples []history.Sample) (nodes map[string]Resources, generator Resources) {
	type running struct {
		Resources
		pid  int
		cpu  float64
		disk int64
	}
	ordered := slices.Clone(samples)
	slices.SortStableFunc(ordered, func(a, b history.Sample) int { return cmp.Compare(a.At, b.At) })
	all := map[string]*running{}
	for _, s := range ordered {
		r := all[s.Node]
		if r == nil {
			r = &running{pid: s.PID}
			r.Starts = 1
			all[s.Node] = r
		}
		if s.PID == 0 && r.pid != 0 {
			continue
		}
		if s.PID != r.pid || s.CPU < r.cpu {
			r.CPU += r.cpu
			r.DiskBytes += r.disk
			r.cpu, r.disk, r.pid = 0, 0, s.PID
			r.Starts++
		}
		r.cpu, r.disk = s.CPU, s.DiskBytes
		r.RSSMax = max(r.RSSMax, s.RSS)
	}
	nodes = map[string]Resources{}
	for name, r := range all {
		r.CPU += r.cpu
		r.DiskBytes += r.disk
		if name == GeneratorNode {
			generator = r.Resources
			continue
		}
		nodes[name] = r.Resources
	}
	return nodes, generator
}
