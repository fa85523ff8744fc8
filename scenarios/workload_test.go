package scenarios

import (
	"slices"
	"testing"

	"statequake/loadgen"
)

// The table of workloads says again what loadgen knows; it must say the same.
func TestWorkloadsAgreeWithLoadgen(t *testing.T) {
	if got, want := workloadNames(), loadgen.WorkloadNames(); !slices.Equal(got, want) {
		t.Fatalf("workloads %v, loadgen has %v", got, want)
	}
	for name, shares := range workloads {
		mix := map[string]int{}
		for _, s := range shares {
			mix[s.op] = s.weight
		}
		ours, err := loadgen.NewWorkload(loadgen.WorkloadConfig{Name: name, Keys: 10, Mix: mix, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := loadgen.NewWorkload(loadgen.WorkloadConfig{Name: name, Keys: 10, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		for range 2000 {
			if a, b := ours.Next(), theirs.Next(); a.Name != b.Name {
				t.Fatalf("%s: operation %d is %s with our mix and %s with loadgen's", name, a.N, a.Name, b.Name)
			}
		}
	}
}
