package scenarios

import (
	"strings"
	"testing"
)

func TestBadDiskFaults(t *testing.T) {
	const (
		power = "kind: PowerLoss\n      spec: {mode: one, "
		kill  = "kind: PodChaos\n      spec: {action: pod-kill, mode: one, "
	)
	for _, tt := range []struct{ name, text, want string }{
		{"postgres", strings.Replace(edit(t, withFault, kill, power), "{name: reference", "{name: reference, store: postgres", 1),
			"faults[0].chaos.kind: PowerLoss contradicts system.store: postgres, a server beside the nodes, which have no files then\nhint: system.store: etcd is in the nodes"},
		{"trigger with postgres", strings.Replace(edit(t, withFault, "at: 2s", "on: {write: a}"), "{name: reference", "{name: reference, store: postgres", 1),
			"faults[0].on: a trigger on files contradicts system.store: postgres"},
		{"own system", edit(t, ownScenario, "kind: PodChaos, spec: {action: pod-kill,", "kind: DiskFull, spec: {duration: 1s,"),
			"faults[0].chaos.kind: DiskFull needs the node's files below ${data_dir}, in the run directory: neither system.exec.start nor env has ${data_dir}"},
		{"own directory", edit(t, edit(t, ownScenario, "kind: PodChaos, spec: {action: pod-kill,", "kind: DiskFull, spec: {duration: 1s,"), "dir: server", "data_dir: /tmp/a"),
			"faults[0].chaos.kind: DiskFull needs the node's files below ${data_dir}, in the run directory: system.exec.data_dir names another directory"},
		{"method", edit(t, withFault, kill, "kind: IOChaos\n      spec: {action: latency, delay: 1s, duration: 1s, volumePath: /data, methods: [bmap], mode: one, "),
			"faults[0].chaos.spec.methods: unknown method \"bmap\"; have lookup"},
		{"two rules", edit(t, withFault, kill, power) + "  - name: other\n    at: 3s\n    chaos: {kind: PowerLoss, spec: {mode: all, selector: {}, directoryEntries: strict}}\n",
			"faults[1].chaos.spec.directoryEntries: contradicts that of kill-owner; a run has one rule"},
	} {
		_, err := Parse("f.yaml", []byte(tt.text), Options{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s:\n got %v\nwant %s", tt.name, err, tt.want)
		}
	}
}
