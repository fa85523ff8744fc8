package scenarios

import (
	"maps"
	"slices"
	"testing"

	"statequake/chaos"
	"statequake/fixtures/sandbox"
)

// What the means say that they need is what they are refused without.
func TestMeansNeedNamespaces(t *testing.T) {
	if sandbox.Inside() {
		t.Skip("this test is about a process without namespaces of its own")
	}
	for _, m := range means {
		r := &run{scenario: &Scenario{System: System{Nodes: 3}}, opt: RunOptions{Dir: t.TempDir()}}
		o, err := m.open(t.Context(), r)
		if need := slices.Contains(m.needs, NeedNamespaces); (err != nil) != need {
			t.Errorf("%v: needs namespaces: %v; without them: %v", m.kinds, need, err)
		}
		if err == nil {
			if err := (equipment{o}).close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// Every kind of fault that is local takes something, and everything is taken by
// some kind.
func TestNeedsOfKinds(t *testing.T) {
	covered := map[string]bool{}
	for _, n := range Needs {
		kinds := n.Kinds()
		if len(kinds) == 0 && n != NeedPostgres {
			t.Errorf("no fault takes %s", n)
		}
		for _, kind := range kinds {
			covered[kind] = true
		}
	}
	if got, want := slices.Sorted(maps.Keys(covered)), slices.Sorted(maps.Keys(chaos.Local.Can)); !slices.Equal(got, want) {
		t.Errorf("needs are known of %v, local are %v", got, want)
	}
	if got, want := NeedSignals.Kinds(), []string{chaos.PodChaos, chaos.ProcessPause}; !slices.Equal(got, want) {
		t.Errorf("signals alone do %v, want %v", got, want)
	}
	for _, m := range means {
		if len(m.needs) == 0 {
			t.Errorf("the mean of %v needs nothing", m.kinds)
		}
		for _, n := range m.needs {
			if !slices.Contains(Needs, n) {
				t.Errorf("%s is not among Needs", n)
			}
		}
	}
}

func TestNeedsOfScenarios(t *testing.T) {
	for name, want := range map[string][]Need{
		"quickstart":      {NeedSignals},
		"power-loss-all":  {NeedSignals, NeedNamespaces, NeedFUSE},
		"partition-owner": {NeedSignals, NeedLinks},
		"noisy-network":   {NeedSignals, NeedNamespaces, NeedSwitch},
		"clock-skew":      {NeedSignals, NeedClocks},
		"cpu-stress":      {NeedSignals, NeedStress},
	} {
		s, err := Open(name, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Needs(); !slices.Equal(got, want) {
			t.Errorf("%s needs %v, want %v", name, got, want)
		}
	}
	s, err := Open("steady", Options{Set: []string{"system.store=postgres"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []Need{NeedSignals, NeedPostgres}; !slices.Equal(s.Needs(), want) {
		t.Errorf("steady in PostgreSQL needs %v, want %v", s.Needs(), want)
	}
}
