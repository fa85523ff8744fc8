package explain

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"statequake/history"
	"statequake/reports/check"
)

// spoil makes a history that breaks its contract in several ways at once, or
// not at all.
func spoil(r *rand.Rand) *script {
	s := &script{check: "witness", opt: check.Options{Ack: check.Durable, Witness: true}}
	ids := s.adds("counter/c", 5+r.IntN(20))
	for range 1 + r.IntN(3) {
		op := &s.ops[r.IntN(len(s.ops))]
		switch r.IntN(6) {
		case 0:
			op.Result = []byte(fmt.Sprintf(`{"value":%d}`, r.IntN(30)))
		case 1:
			op.Outcome, op.Error, op.Result, op.Version, op.Digest = history.Fail, "refused", nil, -1, ""
		case 2:
			n := r.IntN(len(ids))
			ids = slices.Insert(slices.Clone(ids), n, ids[r.IntN(len(ids))])
		case 3:
			n := r.IntN(len(ids))
			ids = slices.Delete(slices.Clone(ids), n, n+1)
		case 4:
			op.Version = int64(r.IntN(len(ids)))
			op.Digest = digest(ids[:op.Version])
		case 5:
			if len(ids) > 0 {
				ids = append(ids[:len(ids):len(ids)], fmt.Sprintf("x%d", r.IntN(100)))
			}
		}
		if len(ids) == 0 {
			break
		}
	}
	return s.audit(31_000, 31_001, "n1", "counter/c", "a0", ids...)
}

// Every violation has an excerpt; it shows that violation and brings none
// about that the run does not have.
func TestExcerptsOfRandomHistories(t *testing.T) {
	found := 0
	for seed := range uint64(300) {
		s := spoil(rand.New(rand.NewPCG(seed, 1)))
		run := s.run()
		for _, r := range check.Run(run, s.opt) {
			for _, v := range r.Violations {
				if r.Name != "witness" {
					continue
				}
				found++
				budget := Budget(1_000_000)
				e, ok := Minimal(run, s.opt, r.Name, v, &budget)
				if !ok || !e.Minimal {
					t.Fatalf("seed %d: no excerpt for %s %v: %s", seed, v.Kind, v.Ops, v.Explanation)
				}
				for _, again := range check.Run(e.Run, s.opt) {
					if again.Name != "witness" {
						continue
					}
					if again.Kinds[v.Kind] == 0 {
						t.Errorf("seed %d: the excerpt %v of %s is judged %v", seed, idsOf(e.Run.Ops), v.Kind, again.Kinds)
					}
					for kind, n := range again.Kinds {
						if n > r.Kinds[kind] {
							t.Errorf("seed %d: the excerpt %v of %s has %d %s, the run %d", seed, idsOf(e.Run.Ops), v.Kind, n, kind, r.Kinds[kind])
						}
					}
				}
				if s := Tell(v, e.Run.Ops, run.Faults); len(s.Events) == 0 || s.Conclusion == "" {
					t.Errorf("seed %d: %s %v has no story", seed, v.Kind, v.Ops)
				}
			}
		}
	}
	if found < 200 {
		t.Errorf("only %d violations were tried", found)
	}
}

// Of a huge key not all is kept, but what the violation names is, and that it is
// not all is told.
func TestRelatedIsBounded(t *testing.T) {
	s := scripts()["lost"]
	run := s.run()
	v, _ := s.find(t, run)
	each := func(fn func(*history.Op) error) error {
		for _, op := range run.Ops {
			if err := fn(&op); err != nil {
				return err
			}
		}
		return nil
	}
	all, whole, err := Related(each, []check.Violation{v}, len(run.Ops))
	if err != nil || !whole || len(all) != len(run.Ops) {
		t.Errorf("%d of %d operations, whole %v, %v", len(all), len(run.Ops), whole, err)
	}
	few, whole, err := Related(each, []check.Violation{v}, 10)
	if err != nil || whole || len(few) != 12 || few[10].ID != "l1841" || few[11].ID != "a0" {
		t.Errorf("%v, whole %v, %v", idsOf(few), whole, err)
	}
	budget := Budget(1_000_000)
	if e, ok := Minimal(&history.Run{Ops: few, Faults: run.Faults}, s.opt, s.check, v, &budget); !ok || len(e.Run.Ops) != 2 {
		t.Error("no excerpt of what is left")
	}
	broken := fmt.Errorf("broken")
	if _, _, err := Related(func(func(*history.Op) error) error { return broken }, []check.Violation{v}, 10); err != broken {
		t.Errorf("the error of reading is lost: %v", err)
	}
}

// The search ends when its budget does, and says so.
func TestBudget(t *testing.T) {
	s := scripts()["missed-deadline"]
	run := s.run()
	v, _ := s.find(t, run)
	full := Budget(1_000_000)
	if e, ok := Minimal(run, s.opt, s.check, v, &full); !ok || !e.Minimal {
		t.Fatal("no excerpt with a large budget")
	}
	spent := 1_000_000 - full
	partly := false
	for budget := Budget(0); budget < spent; budget++ {
		left := budget
		e, ok := Minimal(run, s.opt, s.check, v, &left)
		if ok && e.Minimal {
			t.Fatalf("minimal for %d, although the search takes %d", budget, spent)
		}
		if left < 0 {
			t.Fatalf("%d of %d are left", left, budget)
		}
		partly = partly || ok
	}
	other := scripts()["wrong-result"]
	run = other.run()
	v, _ = other.find(t, run)
	for budget := Budget(0); budget < 400 && !partly; budget++ {
		left := budget
		e, ok := Minimal(run, other.opt, other.check, v, &left)
		partly = ok && !e.Minimal
	}
	if !partly {
		t.Error("no budget leads to an excerpt that is not minimal")
	}
}

// A large key costs no more than it must.
func BenchmarkMinimal(b *testing.B) {
	s := &script{kind: check.Lost, check: "witness", opt: check.Options{Ack: check.Durable, Witness: true}}
	ids := s.adds("counter/c", 512)
	s.ops[17].Result = []byte(`{"value":99999}`) // a wrong result amid reads and writes
	s.audit(31_000, 31_001, "n1", "counter/c", "a0", ids...)
	run := s.run()
	var v check.Violation
	for _, r := range check.Run(run, s.opt) {
		if r.Name == "witness" {
			v = r.Violations[0]
		}
	}
	for b.Loop() {
		budget := Budget(2_000_000)
		e, ok := Minimal(run, s.opt, "witness", v, &budget)
		if !ok {
			b.Fatal("no excerpt")
		}
		b.ReportMetric(float64(len(e.Run.Ops)), "ops-left")
		b.ReportMetric(float64(2_000_000-budget), "ops-judged")
	}
}
