package chaos

import (
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	killSpec  = `"action":"pod-kill","mode":"one","selector":{}`
	failSpec  = `"action":"pod-failure","mode":"one","selector":{},"duration":"5s"`
	pauseSpec = `"mode":"one","selector":{},"duration":"2s"`
)

func podChaos(spec string) string { return `{"kind":"PodChaos","spec":{` + spec + `}}` }

func pause(spec string) string { return `{"kind":"ProcessPause","spec":{` + spec + `}}` }

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, object string
		want         Fault
	}{
		{"kill", podChaos(killSpec), Fault{Kind: PodChaos, Action: PodKill, Spec: Kill{}}},
		{"kill with grace", podChaos(killSpec + `,"gracePeriod":3`), Fault{Kind: PodChaos, Action: PodKill, Spec: Kill{Grace: 3 * time.Second}}},
		{"failure", podChaos(failSpec), Fault{Kind: PodChaos, Action: PodFailure, Spec: Fail{}, Duration: 5 * time.Second}},
		{"pause", pause(pauseSpec), Fault{Kind: ProcessPause, Spec: Pause{}, Duration: 2 * time.Second}},
		{"as in a cluster", `{"apiVersion":"chaos-mesh.org/v1alpha1","kind":"PodChaos",
			"metadata":{"name":"kill","namespace":"shop","labels":{"a":"b"}},
			"spec":{"action":"pod-kill","mode":"fixed-percent","value":"50","selector":{"namespaces":["shop"],
				"labelSelectors":{"statequake.dev/owner-of":"cart/{x}.1","statequake.dev/node":"n1"},
				"expressionSelectors":[{"key":"statequake.dev/role","operator":"NotIn","values":["store-leader"]}]}}}`,
			Fault{Kind: PodChaos, Action: PodKill, Spec: Kill{}}},
		{"own version", `{"apiVersion":"statequake.dev/v1alpha1","kind":"ProcessPause","spec":{` + pauseSpec + `}}`,
			Fault{Kind: ProcessPause, Spec: Pause{}, Duration: 2 * time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse("f", 7*time.Second, []byte(tt.object))
			if err != nil {
				t.Fatal(err)
			}
			if got.Name != "f" || got.At != 7*time.Second || got.Kind != tt.want.Kind || got.Action != tt.want.Action ||
				got.Duration != tt.want.Duration || got.Spec != tt.want.Spec {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ object, want string }{
		{`{`, "not a JSON object of a fault: unexpected end of JSON input"},
		{`[]`, "not a JSON object of a fault: "},
		{`{"kind":3}`, "kind: is a JSON number, want string"},
		{`{"spec":{}}`, "kind: is missing; have PodChaos pod-kill, PodChaos pod-failure, NetworkChaos partition, "},
		{`{"kind":"IOChaos","spec":{"action":"attrOverride"}}`, "spec.action: attrOverride is not available on local processes; have " + Local.String() + "\nhint: fault with methods: [getattr] lets a node fail to read attributes"},
		{`{"kind":"PodChaos","apiVersion":"v1","spec":{` + killSpec + `}}`, `apiVersion: "v1", want "chaos-mesh.org/v1alpha1" or none`},
		{`{"kind":"ProcessPause","apiVersion":"chaos-mesh.org/v1alpha1","spec":{` + pauseSpec + `}}`, "apiVersion: "},
		{`{"kind":"PodChaos"}`, "spec.action: is missing; have pod-kill, pod-failure"},

		// What neither Default nor ValidateCreate sees.
		{podChaos(`"action":"pod-explode","mode":"one","selector":{}`), `spec.action: unknown action "pod-explode"; have pod-kill, pod-failure`},
		{podChaos(`"action":"pod-kill","mode":"many","selector":{}`), `spec.mode: unknown mode "many"; have one, all, fixed,`},
		{podChaos(`"action":"pod-kill","selector":{}`), `spec.mode: unknown mode ""`},
		{podChaos(killSpec + `,"gracePeriod":-1`), "spec.gracePeriod: Invalid value: -1: "},
		{podChaos(failSpec + `,"gracePeriod":1`), "spec.gracePeriod: has no effect with pod-failure"},
		{podChaos(`"action":"pod-failure","mode":"one","selector":{}`), "spec.duration: is missing; pod-failure needs one"},
		{podChaos(`"action":"pod-failure","mode":"one","selector":{},"duration":"-1s"`), "spec.duration: -1s is not positive"},
		{podChaos(killSpec + `,"duration":"1s"`), "spec.duration: has no effect with pod-kill"},
		{podChaos(killSpec + `,"value":"2"`), "spec.value: has no effect with mode one"},
		{podChaos(killSpec + `,"containerNames":["a"]`), "spec.containerNames: has no effect with pod-kill"},
		{podChaos(killSpec + `,"remoteCluster":"a"`), "spec.remoteCluster: "},
		{podChaos(`"action":"container-kill","containerNames":["a"],"mode":"one","selector":{}`),
			"spec.action: container-kill is not available on local processes, which have no containers\nhint: pod-kill "},
		{pause(`"mode":"one","selector":{}`), "spec.duration: is missing; ProcessPause needs one"},

		// What these see.
		{podChaos(`"action":"pod-failure","mode":"one","selector":{},"duration":"10 parsecs"`), `spec.duration: Invalid value: "10 parsecs": parse duration field error`},
		{podChaos(`"action":"pod-kill","mode":"fixed","value":"0","selector":{}`), `spec.value: Invalid value: "0": value must be greater than 0`},
		{podChaos(`"action":"pod-kill","mode":"fixed-percent","value":"500","selector":{}`), `spec.value: Invalid value: "500": `},
		{podChaos(`"action":"pod-kill","mode":"random-max-percent","selector":{}`), `spec.value: Invalid value: "": `},
		{pause(`"mode":"fixed","value":"none","selector":{},"duration":"1s"`), `spec.value: Invalid value: "none": `},
		{pause(`"mode":"one","selector":{},"duration":"soon"`), `spec.duration: Invalid value: "soon": `},

		// Strictness, with paths.
		{podChaos(killSpec + `,"gracePeriods":1`), "spec.gracePeriods: unknown field"},
		{podChaos(`"action":"pod-kill","mode":"one","selector":{"labelSelector":{}}`), "spec.selector.labelSelector: unknown field"},
		{podChaos(`"action":"pod-kill","Mode":"one","selector":{}`), "spec.Mode: unknown field"},
		{podChaos(killSpec + `,"mode":"all"`), "spec.mode: duplicate field"},
		{podChaos(`"action":"pod-kill","mode":3,"selector":{}`), "spec.mode: is a JSON number, want string"},
		{podChaos(`"action":"pod-kill","mode":"one","selector":{"labelSelectors":{"a":1}}`), "spec.selector.labelSelectors: is a JSON number, want string"},
		{pause(pauseSpec + `,"action":"stop"`), "spec.action: unknown field"},

		// Selectors.
		{podChaos(`"action":"pod-kill","mode":"one","selector":{"pods":{"shop":["n1"]}}`), "spec.selector.pods: is not available on local processes"},
		{podChaos(`"action":"pod-kill","mode":"one","selector":{"nodes":["n1"]}`), "spec.selector.nodes: is not available"},
		{podChaos(`"action":"pod-kill","mode":"one","selector":{"labelSelectors":{"a b":"c"}}`), "spec.selector.labelSelectors[a b]"},
		{podChaos(`"action":"pod-kill","mode":"one","selector":{"labelSelectors":{"a":"b c"}}`), "spec.selector.labelSelectors[a]"},
		{podChaos(`"action":"pod-kill","mode":"one","selector":{"expressionSelectors":[{"key":"a","operator":"Gt","values":["1"]}]}`),
			`spec.selector.expressionSelectors[0].operator: unknown operator "Gt"`},
		{podChaos(`"action":"pod-kill","mode":"one","selector":{"expressionSelectors":[{"key":"a","operator":"In"}]}`), "spec.selector.expressionSelectors[0]"},
		{podChaos(`"action":"pod-kill","mode":"one","selector":{"expressionSelectors":[{"key":"statequake.dev/role","operator":"Exists"}]}`),
			"spec.selector.expressionSelectors[0].operator: Exists says nothing with statequake.dev/role"},
		{podChaos(`"action":"pod-kill","mode":"one","selector":{"labelSelectors":{"statequake.dev/owner-of":""}}`),
			"spec.selector.labelSelectors[statequake.dev/owner-of]: statequake.dev/owner-of needs a value"},
	} {
		_, err := Parse("f", 0, []byte(tt.object))
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s\n got %v\nwant %s", tt.object, err, tt.want)
		}
	}
}

func object(kind, spec string) string {
	return `{"kind":"` + kind + `","spec":{"mode":"one","selector":{},` + spec + `}}`
}

func ptr[T any](v T) *T { return &v }

func TestSpecs(t *testing.T) {
	for _, tt := range []struct {
		object   string
		duration time.Duration
		want     Spec
	}{
		{object(NetworkChaos, `"action":"partition","duration":"2s"`), 2 * time.Second,
			Network{Direction: "to", Partition: &Partition{}}},
		{object(NetworkChaos, `"action":"partition","partitionBehavior":"reject","direction":"both","target":{"mode":"all","selector":{}},"duration":"2s"`), 2 * time.Second,
			Network{Direction: "both", Partition: &Partition{Reject: true}}},
		{object(NetworkChaos, `"action":"delay","delay":{"latency":"100ms","jitter":"10ms","correlation":"25","reorder":{"reorder":"5","correlation":"50","gap":3}},"duration":"1m"`), time.Minute,
			Network{Direction: "to", Delay: &Delay{Latency: 100 * time.Millisecond, Jitter: 10 * time.Millisecond, Correlation: 0.25, Reorder: &Reorder{Share: 0.05, Correlation: 0.5, Gap: 3}}}},
		{object(NetworkChaos, `"action":"loss","loss":{"loss":"12.5","correlation":"50"},"duration":"1s"`), time.Second,
			Network{Direction: "to", Loss: &Random{Share: 0.125, Correlation: 0.5}}},
		{object(NetworkChaos, `"action":"duplicate","duplicate":{"duplicate":"10"},"duration":"1s"`), time.Second,
			Network{Direction: "to", Duplicate: &Random{Share: 0.1}}},
		{object(NetworkChaos, `"action":"corrupt","corrupt":{"corrupt":"100"},"duration":"1s"`), time.Second,
			Network{Direction: "to", Corrupt: &Random{Share: 1}}},
		{object(NetworkChaos, `"action":"bandwidth","bandwidth":{"rate":"1mbps","limit":20000,"buffer":10000},"duration":"1s"`), time.Second,
			Network{Direction: "to", Bandwidth: &Bandwidth{BytesPerS: 1 << 20, Limit: 20000, Buffer: 10000}}},
		{object(NetworkChaos, `"action":"netem","delay":{"latency":"1ms"},"loss":{"loss":"1"},"duration":"1s"`), time.Second,
			Network{Direction: "to", Delay: &Delay{Latency: time.Millisecond}, Loss: &Random{Share: 0.01}}},

		{object(IOChaos, `"action":"latency","volumePath":"/data","path":"/data/wal/*.wal","methods":["write","fsync"],"percent":50,"delay":"10ms","duration":"1s"`), time.Second,
			IO{Path: "wal/*.wal", Methods: []string{"write", "fsync"}, Share: 0.5, Latency: 10 * time.Millisecond}},
		{object(IOChaos, `"action":"fault","volumePath":"/data/","errno":5,"duration":"1s"`), time.Second,
			IO{Share: 1, Errno: syscall.EIO}},
		{object(IOChaos, `"action":"mistake","volumePath":"/data","mistake":{"filling":"random","maxOccurrences":2,"maxLength":10},"duration":"1s"`), time.Second,
			IO{Share: 1, Mistake: &Mistake{Random: true, MaxOccurrences: 2, MaxLength: 10}}},
		{object(IOChaos, `"action":"attrOverride","volumePath":"/data","attr":{"perm":72,"kind":"symlink","mtime":{"sec":1,"nsec":2}},"duration":"1s"`), time.Second,
			IO{Share: 1, Attr: &Attr{Perm: ptr(uint16(72)), Kind: "symlink", Mtime: ptr(time.Unix(1, 2))}}},

		{object(StressChaos, `"stressors":{"cpu":{"workers":2,"load":30}},"duration":"1s"`), time.Second,
			Stress{CPU: &CPUStress{Workers: 2, Load: 0.3}}},
		{object(StressChaos, `"stressors":{"cpu":{"workers":1},"memory":{"workers":1,"size":"256MiB"}},"duration":"1s"`), time.Second,
			Stress{CPU: &CPUStress{Workers: 1, Load: 1}, Memory: &MemoryStress{Workers: 1, Bytes: 256 << 20}}},
		{object(StressChaos, `"stressors":{"memory":{"workers":1,"size":"10%"}},"duration":"1s"`), time.Second,
			Stress{Memory: &MemoryStress{Workers: 1, Share: 0.1}}},

		{object(TimeChaos, `"timeOffset":"-1.5h","duration":"1s"`), time.Second,
			Clock{Offset: -90 * time.Minute, Clocks: []string{"CLOCK_REALTIME"}}},
		{object(TimeChaos, `"timeOffset":"1s","clockIds":["CLOCK_MONOTONIC"],"duration":"1s"`), time.Second,
			Clock{Offset: time.Second, Clocks: []string{"CLOCK_MONOTONIC"}}},

		{`{"kind":"PowerLoss","spec":{"mode":"all","selector":{}}}`, 0, Power{}},
		{object(PowerLoss, `"directoryEntries":"strict","torn":"0.5"`), 0, Power{Strict: true, Torn: 0.5}},
		{object(DiskFull, `"duration":"1s"`), time.Second, Full{}},
		{object(DiskFull, `"free":"1MB","duration":"1s"`), time.Second, Full{Free: 1e6}},
	} {
		f, err := ParseFor(Everything(), "f", At(0), []byte(tt.object))
		if err != nil {
			t.Errorf("%s\n%v", tt.object, err)
			continue
		}
		if !reflect.DeepEqual(f.Spec, tt.want) || f.Duration != tt.duration {
			t.Errorf("%s\n got %+v for %v\nwant %+v for %v", tt.object, f.Spec, f.Duration, tt.want, tt.duration)
		}
	}
}

func TestSpecErrors(t *testing.T) {
	networkChaos := func(spec string) string { return object(NetworkChaos, spec+`,"duration":"1s"`) }
	io := func(spec string) string { return object(IOChaos, `"volumePath":"/data","duration":"1s",`+spec) }
	for _, tt := range []struct{ object, want string }{
		{`{"kind":"DNSChaos"}`, "kind: DNSChaos is for clusters, not available on this system; have PodChaos pod-kill, "},
		{`{"kind":"CatChaos"}`, "kind: CatChaos is not available on this system; have "},
		{networkChaos(`"action":"explode"`), `spec.action: unknown action "explode"; have partition, delay,`},

		// The schema.
		{networkChaos(`"action":"partition","direction":"sideways"`), `spec.direction: unknown direction "sideways"; have to, from, both`},
		{networkChaos(`"action":"partition","target":{"mode":"many","selector":{}}`), `spec.target.mode: unknown mode "many"; have one,`},
		{networkChaos(`"action":"delay","delay":{}`), `spec.delay.latency: Invalid value: ""`},
		{networkChaos(`"action":"delay","delay":{"latency":"1m30s"}`), `spec.delay.latency: Invalid value: "1m30s"`},
		{networkChaos(`"action":"bandwidth","bandwidth":{"rate":"1bps","buffer":1}`), "spec.bandwidth.limit: Invalid value: 0: "},
		{io(`"action":"mistake","mistake":{"filling":"cats"}`), `spec.mistake.filling: unknown filling "cats"; have zero, random`},
		{object(StressChaos, `"stressors":{"cpu":{"workers":9000}},"duration":"1s"`), "spec.stressors.cpu.workers: Invalid value: 9000: "},

		// The webhook's rules.
		{networkChaos(`"action":"delay","delay":{"latency":"10 parsecs"}`), `spec.delay.latency: Invalid value: "10 parsecs": parse duration`},
		{networkChaos(`"action":"loss","loss":{"loss":"much"}`), `spec.loss.loss: Invalid value: "much"`},
		{networkChaos(`"action":"bandwidth","bandwidth":{"rate":"fast","limit":1,"buffer":1}`), `spec.bandwidth.rate: Invalid value: "fast"`},
		{io(`"action":"fault"`), "spec.errno: Invalid value: 0"},
		{io(`"action":"latency","delay":"1s","percent":101`), "spec.percent: Invalid value: 101"},
		{object(StressChaos, `"duration":"1s"`), "spec: Invalid value: "},
		{object(StressChaos, `"stressors":{"memory":{"workers":1,"size":"much"}},"duration":"1s"`), `spec.stressors.memory.size: Invalid value: "much"`},
		{object(TimeChaos, `"duration":"1s"`), `spec.timeOffset: Invalid value: ""`},
		{object(DiskFull, `"free":"much","duration":"1s"`), `spec.free: Invalid value: "much"`},

		// Ours.
		{object(NetworkChaos, `"action":"partition"`), "spec.duration: is missing; partition needs one"},
		{networkChaos(`"action":"partition","direction":"from"`), "spec.direction: from needs a target"},
		{networkChaos(`"action":"partition","device":"eth0"`), "spec.device: is not available"},
		{networkChaos(`"action":"partition","targetDevice":"eth0"`), "spec.targetDevice: is not available"},
		{networkChaos(`"action":"partition","externalTargets":["a.org"]`), "spec.externalTargets: is not available"},
		{networkChaos(`"action":"partition","target":{"mode":"one","value":"1","selector":{}}`), "spec.target.value: has no effect with mode one"},
		{networkChaos(`"action":"loss","loss":{"loss":"1"},"partitionBehavior":"reject"`), "spec.partitionBehavior: has no effect with loss"},
		{networkChaos(`"action":"loss","loss":{"loss":"1"},"rate":{"rate":"1bps"}`), "spec.rate: is not available"},
		{networkChaos(`"action":"loss"`), "spec.loss: is missing; action loss needs it"},
		{networkChaos(`"action":"netem"`), "spec: is missing one of delay,"},
		{networkChaos(`"action":"loss","loss":{"loss":"1"},"delay":{"latency":"1s"}`), "spec.delay: contradicts action loss"},
		{networkChaos(`"action":"netem","loss":{"loss":"1"},"bandwidth":{"rate":"1bps","limit":1,"buffer":1}`), "spec.bandwidth: contradicts action netem"},
		{networkChaos(`"action":"delay","delay":{"latency":"0s"}`), "spec.delay.latency: 0 has no effect"},
		{networkChaos(`"action":"delay","delay":{"latency":"1s","jitter":"2s"}`), "spec.delay.jitter: 2s is more than the latency (1s)"},
		{networkChaos(`"action":"delay","delay":{"latency":"1s","correlation":"101"}`), `spec.delay.correlation: "101" is not a percentage`},
		{networkChaos(`"action":"delay","delay":{"latency":"1s","reorder":{"reorder":"0","gap":1}}`), "spec.delay.reorder.reorder: 0 has no effect"},
		{networkChaos(`"action":"delay","delay":{"latency":"1s","reorder":{"reorder":"1","gap":-1}}`), "spec.delay.reorder.gap: -1 is negative"},
		{networkChaos(`"action":"corrupt","corrupt":{"corrupt":"NaN"}`), `spec.corrupt.corrupt: "NaN" is not a percentage`},
		{networkChaos(`"action":"duplicate","duplicate":{"duplicate":"1","correlation":"-1"}`), `spec.duplicate.correlation: "-1"`},
		{networkChaos(`"action":"bandwidth","bandwidth":{"rate":"0bps","limit":1,"buffer":1}`), "spec.bandwidth.rate: 0bps is not from"},
		{networkChaos(`"action":"bandwidth","bandwidth":{"rate":"1bps","limit":1,"buffer":1,"peakrate":1}`), "spec.bandwidth.peakrate: "},
		{io(`"action":"latency","errno":5`), "spec.errno: has no effect with latency"},
		{io(`"action":"latency"`), "spec.delay: is missing; action latency needs it"},
		{io(`"action":"latency","delay":"-1s"`), "spec.delay: -1s is not positive"},
		{io(`"action":"latency","delay":"1s","percent":0`), "spec.percent: 0 has no effect"},
		{io(`"action":"latency","delay":"1s","path":"/etc/*"`), `spec.path: "/etc/*" is not below volumePath (/data)`},
		{io(`"action":"latency","delay":"1s","path":"/data/["`), `spec.path: "/data/[" is not a glob`},
		{io(`"action":"latency","delay":"1s","methods":["write","dance"]`), `spec.methods[1]: unknown method "dance"; have lookup,`},
		{io(`"action":"latency","delay":"1s","containerNames":["a"]`), "spec.containerNames: "},
		{object(IOChaos, `"action":"latency","delay":"1s","duration":"1s"`), `spec.volumePath: "" is not an absolute path`},
		{io(`"action":"attrOverride","attr":{}`), "spec.attr: is empty"},
		{object(StressChaos, `"stressors":{"cpu":{"workers":0}},"duration":"1s"`), "spec.stressors.cpu.workers: 0 is not positive"},
		{object(StressChaos, `"stressors":{"cpu":{"workers":1,"load":0}},"duration":"1s"`), "spec.stressors.cpu.load: 0 has no effect"},
		{object(StressChaos, `"stressors":{"memory":{"workers":1,"size":"0"}},"duration":"1s"`), "spec.stressors.memory.size: 0 has no effect"},
		{object(StressChaos, `"stressngStressors":"--cpu 1","duration":"1s"`), "spec.stressngStressors: is not available"},
		{object(TimeChaos, `"timeOffset":"0s","duration":"1s"`), "spec.timeOffset: 0 has no effect"},
		{object(TimeChaos, `"timeOffset":"1s","clockIds":["CLOCK_WALL"],"duration":"1s"`), `spec.clockIds[0]: unknown clock "CLOCK_WALL"; have CLOCK_REALTIME,`},
		{object(TimeChaos, `"timeOffset":"1s","remoteCluster":"a","duration":"1s"`), "spec.remoteCluster: says nothing outside a cluster"},
		{object(PowerLoss, `"duration":"1s"`), "spec.duration: unknown field"},
		{object(PowerLoss, `"directoryEntries":"xfs"`), `spec.directoryEntries: unknown rule "xfs"; have ext4, strict`},
		{object(PowerLoss, `"torn":"2"`), `spec.torn: "2" is not a share from 0 to 1`},
		{object(DiskFull, `"free":"0"`), "spec.duration: is missing; DiskFull needs one"},
	} {
		_, err := ParseFor(Everything(), "f", At(0), []byte(tt.object))
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s\n got %v\nwant %s", tt.object, err, tt.want)
		}
	}
}

func TestMeans(t *testing.T) {
	means := Means{Can: map[string][]string{NetworkChaos: {"delay"}, DiskFull: nil}}
	if got := means.String(); got != "NetworkChaos delay, DiskFull" {
		t.Errorf("%s", got)
	}
	const delay = `"action":"delay","delay":{"latency":"1s"},"duration":"1s"`
	if _, err := ParseFor(means, "f", At(0), []byte(object(NetworkChaos, delay))); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct{ object, want string }{
		{object(NetworkChaos, `"action":"loss"`), "spec.action: loss is not available on this system; have NetworkChaos delay, DiskFull"},
		{podChaos(killSpec), "kind: PodChaos is not available on this system; have NetworkChaos delay, DiskFull"},
	} {
		if _, err := ParseFor(means, "f", At(0), []byte(tt.object)); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.object, err, tt.want)
		}
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]int64{"1bps": 1, "8bit": 1, "1kbps": 1024, "8 kbit": 1000, "1mbps": 1 << 20, "80Mbit": 1e7, "2gbps": 2 << 30, "1tbps": 1 << 40, "8tbit": 1e12,
		"": 0, "1": 0, "7bit": 0, "-1bps": 0, "1xbps": 0, "9000000tbps": 0} {
		got, err := bytesPerS(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(podChaos(killSpec))
	f.Add(podChaos(failSpec + `,"value":"1"`))
	f.Add(pause(`"mode":"fixed-percent","value":"50","selector":{"expressionSelectors":[{"key":"a","operator":"In","values":["b"]}]},"duration":"1ms"`))
	f.Add(object(NetworkChaos, `"action":"netem","delay":{"latency":"1ms","reorder":{"reorder":"1","gap":1}},"loss":{"loss":"1"},"target":{"mode":"all","selector":{}},"duration":"1s"`))
	f.Add(object(NetworkChaos, `"action":"bandwidth","bandwidth":{"rate":"1mbit","limit":1,"buffer":1},"duration":"1s"`))
	f.Add(object(IOChaos, `"action":"fault","volumePath":"/d","path":"/d/*","methods":["read"],"errno":5,"duration":"1s"`))
	f.Add(object(StressChaos, `"stressors":{"cpu":{"workers":1},"memory":{"workers":1,"size":"1%"}},"duration":"1s"`))
	f.Add(object(TimeChaos, `"timeOffset":"1s","clockIds":["CLOCK_REALTIME"],"duration":"1s"`))
	f.Add(object(PowerLoss, `"torn":"0.5"`))
	f.Add(object(DiskFull, `"free":"1kB","duration":"1s"`))
	f.Fuzz(func(t *testing.T, object string) {
		fault, err := ParseFor(Everything(), "f", At(0), []byte(object))
		if (fault == nil) == (err == nil) {
			t.Errorf("fault %v, error %v", fault, err)
		}
		if err != nil && !strings.Contains(err.Error(), ": ") {
			t.Errorf("error without a place: %v", err)
		}
	})
}
