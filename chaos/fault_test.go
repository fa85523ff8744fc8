package chaos

import (
	"strings"
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
		{"kill", podChaos(killSpec), Fault{Kind: PodChaos, Action: PodKill}},
		{"kill with grace", podChaos(killSpec + `,"gracePeriod":3`), Fault{Kind: PodChaos, Action: PodKill, Grace: 3 * time.Second}},
		{"failure", podChaos(failSpec), Fault{Kind: PodChaos, Action: PodFailure, Duration: 5 * time.Second}},
		{"pause", pause(pauseSpec), Fault{Kind: ProcessPause, Duration: 2 * time.Second}},
		{"as in a cluster", `{"apiVersion":"chaos-mesh.org/v1alpha1","kind":"PodChaos",
			"metadata":{"name":"kill","namespace":"shop","labels":{"a":"b"}},
			"spec":{"action":"pod-kill","mode":"fixed-percent","value":"50","selector":{"namespaces":["shop"],
				"labelSelectors":{"statequake.dev/owner-of":"cart/{x}.1","statequake.dev/node":"n1"},
				"expressionSelectors":[{"key":"statequake.dev/role","operator":"NotIn","values":["store-leader"]}]}}}`,
			Fault{Kind: PodChaos, Action: PodKill}},
		{"own version", `{"apiVersion":"statequake.dev/v1alpha1","kind":"ProcessPause","spec":{` + pauseSpec + `}}`,
			Fault{Kind: ProcessPause, Duration: 2 * time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse("f", 7*time.Second, []byte(tt.object))
			if err != nil {
				t.Fatal(err)
			}
			if got.Name != "f" || got.At != 7*time.Second || got.Kind != tt.want.Kind || got.Action != tt.want.Action ||
				got.Duration != tt.want.Duration || got.Grace != tt.want.Grace {
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
		{`{"spec":{}}`, "kind: is missing; have PodChaos pod-kill, PodChaos pod-failure, ProcessPause"},
		{`{"kind":"NetworkChaos","spec":{"action":"delay"}}`, "kind: NetworkChaos is not available on local processes; have PodChaos pod-kill,"},
		{`{"kind":"PodChaos","apiVersion":"v1","spec":{` + killSpec + `}}`, `apiVersion: "v1", want "chaos-mesh.org/v1alpha1" or none`},
		{`{"kind":"ProcessPause","apiVersion":"chaos-mesh.org/v1alpha1","spec":{` + pauseSpec + `}}`, "apiVersion: "},
		{`{"kind":"PodChaos"}`, "spec.action: is missing; have pod-kill, pod-failure"},

		// What neither Default nor ValidateCreate sees.
		{podChaos(`"action":"pod-explode","mode":"one","selector":{}`), `spec.action: unknown action "pod-explode"; have pod-kill, pod-failure`},
		{podChaos(`"action":"pod-kill","mode":"many","selector":{}`), `spec.mode: unknown mode "many"; have one, all, fixed,`},
		{podChaos(`"action":"pod-kill","selector":{}`), `spec.mode: unknown mode ""`},
		{podChaos(killSpec + `,"gracePeriod":-1`), "spec.gracePeriod: -1 s is negative"},
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

func FuzzParse(f *testing.F) {
	f.Add(podChaos(killSpec))
	f.Add(podChaos(failSpec + `,"value":"1"`))
	f.Add(pause(`"mode":"fixed-percent","value":"50","selector":{"expressionSelectors":[{"key":"a","operator":"In","values":["b"]}]},"duration":"1ms"`))
	f.Fuzz(func(t *testing.T, object string) {
		fault, err := Parse("f", 0, []byte(object))
		if (fault == nil) == (err == nil) {
			t.Errorf("fault %v, error %v", fault, err)
		}
		if err != nil && !strings.Contains(err.Error(), ": ") {
			t.Errorf("error without a place: %v", err)
		}
	})
}
