package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// template is a fault as it is injected again and again.
type template struct {
	kind, action string
	variant      string // tells it from others of the same kind and action
	spec         string // what is beside action, mode, selector and duration, as in "delay: {latency: 20ms}"
	all          bool   // of all nodes at once; else of n1, n2, n3 in turn
	network      string // system.network: streams or packets; of NetworkChaos only

	duration time.Duration // 0 for what has none
	fromSeen bool          // the duration counts from when the fault was seen, not from when it was in force
	every    time.Duration // from one injection to the next: enough for the recovery
}

// lead and tail are the load before the first fault and after the last one
// begins.
const (
	lead = time.Second
	tail = 3 * time.Second
)

const (
	ms = time.Millisecond

	// toAll is needed where the peers have to be named.
	toAll = "target: {mode: all, selector: {}}"
)

// templates are all faults that chaos.Local has, in the order of the table.
var templates = []template{
	{kind: "PodChaos", action: "pod-kill", variant: "SIGKILL", every: 1500 * ms},
	{kind: "PodChaos", action: "pod-kill", variant: "SIGTERM", spec: "gracePeriod: 10", every: 2200 * ms},
	{kind: "PodChaos", action: "pod-failure", duration: 500 * ms, fromSeen: true, every: 1800 * ms},
	{kind: "ProcessPause", duration: 500 * ms, fromSeen: true, every: 1000 * ms},

	{kind: "NetworkChaos", action: "partition", variant: "both", network: "streams", spec: "direction: both, " + toAll, duration: 700 * ms, every: 1800 * ms},
	{kind: "NetworkChaos", action: "partition", variant: "to", network: "streams", spec: "direction: to", duration: 700 * ms, every: 1800 * ms},
	{kind: "NetworkChaos", action: "partition", variant: "from", network: "streams", spec: "direction: from, " + toAll, duration: 700 * ms, every: 1800 * ms},
	{kind: "NetworkChaos", action: "partition", variant: "reject", network: "streams", spec: "direction: both, partitionBehavior: reject, " + toAll, duration: 700 * ms, every: 1800 * ms},
	{kind: "NetworkChaos", action: "delay", network: "streams", spec: "delay: {latency: 20ms, jitter: 5ms}", duration: 1000 * ms, every: 1600 * ms},
	{kind: "NetworkChaos", action: "bandwidth", network: "streams", spec: "bandwidth: {rate: 1mbps, limit: 1048576, buffer: 10000}", duration: 2500 * ms, every: 3300 * ms},

	{kind: "NetworkChaos", action: "partition", variant: "both", network: "packets", spec: "direction: both, " + toAll, duration: 700 * ms, every: 1800 * ms},
	{kind: "NetworkChaos", action: "partition", variant: "to", network: "packets", spec: "direction: to", duration: 700 * ms, every: 1800 * ms},
	{kind: "NetworkChaos", action: "partition", variant: "from", network: "packets", spec: "direction: from, " + toAll, duration: 700 * ms, every: 1800 * ms},
	{kind: "NetworkChaos", action: "delay", network: "packets", spec: "delay: {latency: 20ms, jitter: 5ms}", duration: 1000 * ms, every: 1600 * ms},
	{kind: "NetworkChaos", action: "loss", network: "packets", spec: `loss: {loss: "20"}`, duration: 1000 * ms, every: 1600 * ms},
	{kind: "NetworkChaos", action: "duplicate", network: "packets", spec: `duplicate: {duplicate: "20"}`, duration: 1000 * ms, every: 1600 * ms},
	{kind: "NetworkChaos", action: "corrupt", network: "packets", spec: `corrupt: {corrupt: "20"}`, duration: 1000 * ms, every: 1600 * ms},
	{kind: "NetworkChaos", action: "bandwidth", network: "packets", spec: "bandwidth: {rate: 1mbps, limit: 1048576, buffer: 10000}", duration: 2500 * ms, every: 3300 * ms},
	{kind: "NetworkChaos", action: "netem", network: "packets", spec: `delay: {latency: 20ms}, loss: {loss: "20"}, duplicate: {duplicate: "20"}`, duration: 1000 * ms, every: 1600 * ms},

	{kind: "IOChaos", action: "latency", spec: "volumePath: /data, methods: [fsync], delay: 20ms", duration: 500 * ms, every: 1000 * ms},
	{kind: "IOChaos", action: "fault", variant: "EIO", spec: "volumePath: /data, methods: [write], errno: 5", duration: 500 * ms, every: 1800 * ms},
	// Of the log, which is summed: a store that trusts a wrong page may write it back.
	{kind: "IOChaos", action: "mistake", variant: "read", spec: "volumePath: /data, path: '/data/**/*.wal', methods: [read], mistake: {filling: random, maxOccurrences: 1, maxLength: 16}", duration: 500 * ms, every: 1000 * ms},
	// What is written wrongly stays so: of files that the nodes do not have.
	{kind: "IOChaos", action: "mistake", variant: "write", spec: `volumePath: /data, path: "/data/*.note", methods: [write], mistake: {filling: zero, maxOccurrences: 1, maxLength: 16}`, duration: 500 * ms, every: 1000 * ms},
	{kind: "DiskFull", spec: `free: "0"`, duration: 500 * ms, every: 1800 * ms},

	{kind: "PowerLoss", variant: "ext4", spec: "directoryEntries: ext4", every: 2200 * ms},
	{kind: "PowerLoss", variant: "strict, torn", spec: `directoryEntries: strict, torn: "0.5"`, every: 2200 * ms},
	{kind: "PowerLoss", variant: "all nodes at once", spec: `directoryEntries: strict, torn: "0.5"`, all: true, every: 2800 * ms},

	// Less than 1 s is too short for evidence.
	{kind: "StressChaos", variant: "cpu", spec: "stressors: {cpu: {workers: 1, load: 50}}", duration: 1100 * ms, every: 1600 * ms},
	{kind: "StressChaos", variant: "memory", spec: "stressors: {memory: {workers: 1, size: 64MiB}}", duration: 1100 * ms, every: 1600 * ms},

	{kind: "TimeChaos", spec: "timeOffset: -10m, clockIds: [CLOCK_REALTIME]", duration: 500 * ms, every: 1000 * ms},
}

// name is how the fault is selected and told, as in PodChaos/pod-kill.
func (t template) name() string {
	if t.action == "" {
		return t.kind
	}
	return t.kind + "/" + t.action
}

// title is the name with all that tells it from others.
func (t template) title() string {
	return strings.Join(slices.Concat([]string{strings.TrimSpace(t.kind + " " + t.action)}, t.variants()), ", ")
}

func (t template) variants() []string {
	return slices.DeleteFunc([]string{t.variant, t.network}, func(s string) bool { return s == "" })
}

// file is the title as a name of files and scenarios.
func (t template) file() string {
	words := strings.FieldsFunc(strings.ToLower(t.title()), func(r rune) bool { return r == ' ' || r == ',' || r == '-' })
	return strings.Join(words, "-")
}

// scenario is n of the fault, one after the other.
func (t template) scenario(n int, seed int64) []byte {
	var b strings.Builder
	network := ""
	if t.network != "" {
		network = ", network: " + t.network
	}
	fmt.Fprintf(&b, `# Claim: %d times %s, one after the other, are carried out, seen and survived.
name: %s
seed: %d
system: {name: reference, nodes: 3, ack: durable, restart_delay: 200ms%s}
load:
  workload: {name: shopping-cart, keys: 100}
  arrivals: {constant: 50/s}
  warmup: 1s
  duration: %v
  timeout: 10s
  retry: {max: 3}
faults:
`, n, t.title(), t.file(), seed, network, t.load(n))
	for i := range n {
		fmt.Fprintf(&b, "  - {name: %s, at: %v, chaos: {kind: %s, spec: {%s}}}\n",
			injectionName(i), lead+time.Duration(i)*t.every, t.kind, strings.Join(t.fields(i), ", "))
	}
	b.WriteString("expect: {lost_acks: 0}\n")
	return []byte(b.String())
}

// fields are those of the spec of injection i.
func (t template) fields(i int) []string {
	fields := []string{"mode: all, selector: {}"}
	if !t.all {
		fields[0] = fmt.Sprintf("mode: one, selector: {labelSelectors: {statequake.dev/node: n%d}}", i%3+1)
	}
	if t.action != "" {
		fields = append(fields, "action: "+t.action)
	}
	if t.spec != "" {
		fields = append(fields, t.spec)
	}
	if t.duration > 0 {
		fields = append(fields, fmt.Sprintf("duration: %v", t.duration))
	}
	return fields
}

func injectionName(i int) string { return fmt.Sprintf("f%d", i+1) }

// load is how long the load lasts for n injections.
func (t template) load(n int) time.Duration {
	return lead + time.Duration(n-1)*t.every + max(t.every, tail)
}
