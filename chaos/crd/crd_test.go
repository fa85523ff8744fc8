package crd

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		kind string
		spec map[string]any
		want string // place of the only error
	}{
		{"PodChaos", map[string]any{"action": "pod-kill", "mode": "one", "selector": map[string]any{}}, ""},
		{"PodChaos", map[string]any{"action": "pod-explode", "mode": "one", "selector": map[string]any{}}, "spec.action"},
		{"PodChaos", map[string]any{"action": "pod-kill", "mode": "many", "selector": map[string]any{}}, "spec.mode"},
		{"NetworkChaos", map[string]any{"action": "partition", "mode": "one", "selector": map[string]any{}, "direction": "sideways"}, "spec.direction"},
		{"NetworkChaos", map[string]any{"action": "delay", "mode": "one", "selector": map[string]any{}, "delay": map[string]any{"latency": "10 parsecs"}}, "spec.delay.latency"},
		{"IOChaos", map[string]any{"action": "latency", "mode": "one", "selector": map[string]any{}}, "spec.volumePath"},
		{"StressChaos", map[string]any{"mode": "one", "selector": map[string]any{}, "stressors": map[string]any{"cpu": map[string]any{"workers": int64(9000)}}}, "spec.stressors.cpu.workers"},
		{"TimeChaos", map[string]any{"mode": "one", "selector": map[string]any{}}, "spec.timeOffset"},
	} {
		errs, err := Validate(tt.kind, map[string]any{"spec": tt.spec})
		var places []string
		for _, e := range errs {
			places = append(places, e.Field)
		}
		if got := strings.Join(places, " "); err != nil || got != tt.want {
			t.Errorf("%s %v: errors at %q, %v, want %q", tt.kind, tt.spec, got, err, tt.want)
		}
	}
	if _, err := Validate("DNSChaos", nil); err == nil {
		t.Error("no error for a kind without a schema")
	}
}

func BenchmarkRead(b *testing.B) {
	for b.Loop() {
		if _, err := read("NetworkChaos"); err != nil {
			b.Fatal(err)
		}
	}
}
