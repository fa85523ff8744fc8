package reports

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"statequake/history"
)

// What the script's program found is an expectation like any other.
func TestThresholds(t *testing.T) {
	measured := 312.5
	got := thresholds(&history.Footer{Thresholds: []history.Threshold{
		{Metric: "statequake_op_duration{entity:cart}", Limit: "p(99)<250", Measured: &measured, Crossed: true},
		{Metric: "checks", Limit: "rate>0.9"},
	}})
	v := &Verdict{Expectations: got}
	if len(got) != 2 || got[0].Met || !got[1].Met || *got[0].Measured != "312.5" || got[1].Measured != nil || v.missed() != 1 {
		t.Errorf("%+v, %d missed", got, v.missed())
	}
	if name := got[0].Name; name != "k6 statequake_op_duration{entity:cart}" {
		t.Errorf("name %q", name)
	}
	if thresholds(nil) != nil {
		t.Error("a torn run has thresholds")
	}
}

func TestUndriven(t *testing.T) {
	for _, tt := range []struct {
		driver string
		footer *history.Footer
		unsent int64
		want   string
	}{
		{"{k6: /a/cart.js}", &history.Footer{}, 1490, "1,490 operations were left unsent"},
		{"{k6: /a/cart.js}", nil, 1, "1 operation was left unsent"},
		{"{k6: /a/cart.js}", &history.Footer{}, 0, ""},
		{"{k6: /a/cart.js}", &history.Footer{Stopped: "Ctrl-C"}, 7, ""},
		{"http", &history.Footer{}, 7, ""},
	} {
		var s scenario
		if err := yaml.Unmarshal([]byte("load: {driver: "+tt.driver+"}"), &s); err != nil {
			t.Fatal(err)
		}
		got := s.undriven(tt.footer, tt.unsent)
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s, %d unsent: %q, want %q", tt.driver, tt.unsent, got, tt.want)
		}
	}
}

// A run by hand has no scenario that could be run again.
func TestReplayOfAScript(t *testing.T) {
	if got := (&Verdict{script: "/a b/cart.js"}).replay("scenario.yaml"); got != "statequake-k6 run --out statequake=DIR '/a b/cart.js'" {
		t.Errorf("replay %q", got)
	}
	if got := (&Verdict{}).replay("scenario.yaml"); got != "statequake run scenario.yaml" {
		t.Errorf("replay %q", got)
	}
}
