package check

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/history/model"
)

// mixedRun puts a few of the histories of the other random tests into one run,
// on keys of their own or the same, and breaks it in ways that these do not:
// ids repeat, or are of another key, operations are missing, entities have no
// model, the recording was cut short.
func mixedRun(seed uint64) *history.Run {
	r := rand.New(rand.NewPCG(seed, 77))
	all := &history.Run{}
	for i := range 1 + r.IntN(4) {
		run := oneOf(r, seed*8+uint64(i))
		apart := r.IntN(8) // how seldom ids stay as they are, and clash
		name := func(id string) string {
			if apart == 0 && len(id)%2 == 0 && id[len(id)-1]%4 == 0 {
				return id
			}
			return fmt.Sprintf("%d%s", i, id)
		}
		digests := map[string]string{} // of what a witness holds, before and after its ids change
		for n := range run.Ops {
			op := &run.Ops[n]
			if op.Name != history.WitnessOp {
				continue
			}
			ids, _ := witnessed(op.Result)
			was, is := history.ZeroDigest, history.ZeroDigest
			changed := []string{}
			for _, id := range ids {
				changed = append(changed, name(id))
				was = history.NextDigest(was, id)
				is = history.NextDigest(is, changed[len(changed)-1])
				digests[was] = is
			}
			if r.IntN(16) == 0 && len(ids) > 0 {
				changed[r.IntN(len(ids))] = fmt.Sprintf("%do%d", r.IntN(4), r.IntN(10))
			}
			witnessReply(op, changed)
		}
		for _, op := range run.Ops {
			op.ID = name(op.ID)
			if r.IntN(10) > 0 {
				op.Key += fmt.Sprint(i)
			}
			if apart == 1 && r.IntN(4) > 0 {
				op.Entity = "mystery"
			}
			if is, ok := digests[op.Digest]; ok && op.Name != history.WitnessOp {
				op.Digest = is
			}
			if r.IntN(100) > 0 {
				all.Ops = append(all.Ops, op)
			}
		}
		all.Faults = append(all.Faults, run.Faults...)
	}
	if r.IntN(4) > 0 {
		all.Footer = footer(all.Ops)
	}
	return all
}

// oneOf makes a history of one of the other random tests, legal or not.
func oneOf(r *rand.Rand, seed uint64) *history.Run {
	switch r.IntN(4) {
	case 0:
		return registerHistory(rand.New(rand.NewPCG(seed, 3)))
	case 1:
		g := newGenerator(seed)
		g.memory(4+g.IntN(12), 15*time.Millisecond)
		for range r.IntN(2) {
			g.mutate()
		}
		return g.run
	case 2:
		w := newWorld(seed)
		for i := range w.run.Ops {
			op := &w.run.Ops[i]
			for _, e := range model.Derived(op.Entity, op.Key, op.Name, op.Args, op.ID) {
				if w.IntN(10) == 0 {
					forget(w.run, e)
				}
			}
		}
		return w.run
	default:
		g := newGenerator(seed)
		g.durable(2 + g.IntN(12))
		for range r.IntN(4) / 2 {
			g.mutate()
		}
		return g.run
	}
}

// collect judges a run by a Collector that keeps nothing in memory and, if keyBits
// are few, takes many keys for one until it looks closer. The Op that it is given
// is overwritten after each Add.
func collect(t *testing.T, run *history.Run, opt Options, keyBits uint64) []Result {
	t.Helper()
	opt.Memory = 1
	c := New(opt)
	defer c.Close()
	c.keyBits = keyBits
	var op history.Op
	for i := range run.Ops {
		op = run.Ops[i]
		op.Args, op.Result = append([]byte(nil), op.Args...), append([]byte(nil), op.Result...)
		if err := c.Add(&op); err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{op.Args, op.Result} {
			for n := range b {
				b[n] = 'x'
			}
		}
	}
	results, err := c.Judge(Rest{Faults: run.Faults, Footer: run.Footer, Skipped: run.Skipped})
	if err != nil {
		t.Fatal(err)
	}
	if c.ops.used != 0 || len(run.Ops) > 0 && c.disk.end == 0 {
		t.Errorf("%d bytes in memory, %d on disk", c.ops.used, c.disk.end)
	}
	return results
}

// all is everything that results say; what Porcupine draws is not the same
// twice.
func all(t *testing.T, results []Result) string {
	t.Helper()
	b, err := json.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		b = fmt.Append(b, r.LostAcks)
	}
	return string(b)
}

// TestSpilledIsJudgedTheSame: what waits on disk is judged like what is in
// memory, whether keys share a hash or not.
func TestSpilledIsJudgedTheSame(t *testing.T) {
	kinds := map[string]int{}
	verdicts := map[string]int{}
	dir := t.TempDir()
	forSeeds(t, 2500, func(t *testing.T, seed uint64) {
		run := mixedRun(seed)
		r := rand.New(rand.NewPCG(seed, 5))
		opt := Options{
			Ack: []string{Durable, Memory}[r.IntN(3)/2], Window: 15 * time.Millisecond, Witness: r.IntN(4) > 0,
			PorcupineTime: time.Minute, PorcupineMaxOps: 20, Dir: dir,
		}
		want := Run(run, opt)
		for _, bits := range []uint64{^uint64(0), 1<<63 | 1} {
			if got := collect(t, run, opt, bits); all(t, got) != all(t, want) {
				t.Fatalf("%+v, %b:\n%s\nin memory: %s\nspilled: %s\n%s", opt, bits, dump(run), show(want, false), show(got, false), replay(t, seed))
			}
		}
		for _, result := range want {
			verdicts[result.Name+" "+string(result.Verdict)]++
			for kind := range result.Kinds {
				kinds[kind]++
			}
		}
	})
	if *seedFlag == 0 {
		t.Logf("%v, %v", verdicts, kinds)
		for _, kind := range []string{Duplicated, Lost, Phantom, DirtyRead, WrongResult, StaleRead, Reordered, FutureRead, NotLinearizable, HalfApplied, MissedDeadline} {
			if kinds[kind] < 3 {
				t.Errorf("only %d histories with %s", kinds[kind], kind)
			}
		}
		for _, verdict := range []string{"identity unknown", "witness pass", "witness unknown", "register pass", "porcupine pass"} {
			if verdicts[verdict] < 40 {
				t.Errorf("only %d histories with %s", verdicts[verdict], verdict)
			}
		}
	}
}

// TestNothingIsLeftOnDisk: the file of what spilled has no name, even before
// Close; and a disk that cannot be used is an error with a hint.
func TestNothingIsLeftOnDisk(t *testing.T) {
	dir := t.TempDir()
	op := history.Op{ID: "a", Entity: "counter", Key: "c", Name: "get", Outcome: history.OK}
	c := New(Options{Ack: Durable, Memory: 1, Dir: dir})
	if err := c.Add(&op); err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); c.disk.end == 0 || err != nil || len(files) > 0 {
		t.Errorf("%d bytes were spilled, and the folder has %v, %v", c.disk.end, files, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	c = New(Options{Ack: Durable, Memory: 1, Dir: dir + "/gone"})
	if err := c.Add(&op); err == nil || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("a folder that does not exist: %v", err)
	}
	c.Close()
}

// TestGiantKey: one key that has everything is judged, in memory and from disk,
// and one lost write in it is found.
func TestGiantKey(t *testing.T) {
	run := inMemory("counter", 60_000, 1, 100)
	opt := Options{Ack: Durable, Witness: true, Memory: 1 << 20, Dir: t.TempDir()}
	judge := func() []Result {
		c := New(opt)
		defer c.Close()
		for i := range run.Ops {
			if err := c.Add(&run.Ops[i]); err != nil {
				t.Fatal(err)
			}
		}
		if c.disk.end == 0 {
			t.Fatal("nothing was spilled")
		}
		results, err := c.Judge(Rest{Footer: run.Footer})
		if err != nil {
			t.Fatal(err)
		}
		if want := Run(run, opt); all(t, results) != all(t, want) {
			t.Errorf("spilled: %s\nin memory: %s", show(results, false), show(want, false))
		}
		return results
	}
	if r := find(judge(), "witness"); r.Verdict != Pass || r.Ops != len(run.Ops) || r.Keys != 1 {
		t.Errorf("%s, %d ops, %d keys, %v", r.Verdict, r.Ops, r.Keys, r.Violations)
	}
	audit := &run.Ops[len(run.Ops)-1]
	ids, _ := witnessed(audit.Result)
	missing := ids[len(ids)/2]
	witnessReply(audit, append(append([]string{}, ids[:len(ids)/2]...), ids[len(ids)/2+1:]...))
	if r := find(judge(), "witness"); r.Kinds[Lost] == 0 || len(r.LostAcks) != 1 || r.LostAcks[0].Op != missing {
		t.Errorf("without %s: %v, %v", missing, r.Kinds, r.LostAcks)
	}
}
