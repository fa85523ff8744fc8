package check

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"statequake/history"
	"statequake/history/model"
	"statequake/reports/check/search"
)

// workloadOp is an operation as the workload sends it to an entity type: half
// of them are reads.
func workloadOp(r *rand.Rand, entity string, n int) (name string, args json.RawMessage) {
	if r.IntN(2) == 0 {
		return "get", nil
	}
	item := "item-" + strconv.Itoa(r.IntN(10))
	switch {
	case entity == "counter":
		return "add", json.RawMessage(`{"n":1}`)
	case entity == "register":
		return "set", json.RawMessage(`{"value":"s1-n` + strconv.Itoa(n) + `"}`)
	case r.IntN(3) == 0:
		return "remove", json.RawMessage(`{"item":"` + item + `"}`)
	default:
		return "add", json.RawMessage(`{"item":"` + item + `","quantity":` + strconv.Itoa(1+r.IntN(3)) + `}`)
	}
}

// workloadRun makes a legal history of ops operations on keys entities of one
// type, of which up to clients overlap at any time, and gives every operation to
// fn as the history has it: in the order of return, the audits last. fn must
// not keep it.
func workloadRun(entity string, ops, keys, clients int, fn func(*history.Op)) *history.Footer {
	type entityState struct {
		model.State
		key     string
		ids     []string
		version int64
		digest  string
	}
	r := rand.New(rand.NewPCG(1, 1))
	states := make([]entityState, keys)
	for k := range states {
		s, _ := model.For(entity)
		states[k] = entityState{State: s, key: fmt.Sprintf("%s-%d.1", entity[:1], k), digest: history.ZeroDigest}
	}
	const step = 10 * time.Microsecond
	for n := range ops {
		s := &states[r.IntN(keys)]
		at := time.Second + time.Duration(n)*step
		op := history.Op{
			ID: "7f3a-l" + strconv.Itoa(n), N: int64(n), Phase: history.Load, Client: r.IntN(clients), Entity: entity, Key: s.key,
			Sent: at - time.Duration(r.IntN(clients))*step, Returned: at + time.Duration(r.IntN(10))*step/10,
			Attempts: 1, Outcome: history.OK, Epoch: 1, Node: "n" + strconv.Itoa(1+r.IntN(3)),
		}
		op.Scheduled = op.Sent
		op.Via = op.Node
		op.Name, op.Args = workloadOp(r, entity, n)
		result, wrote, err := s.Apply(op.Name, op.Args, op.ID)
		if err != nil {
			panic(err)
		}
		op.Result = bytes.Clone(result)
		if wrote {
			s.ids = append(s.ids, op.ID)
			s.digest = history.NextDigest(s.digest, op.ID)
			s.version++
		}
		op.Version, op.Digest = s.version, s.digest
		fn(&op)
	}
	for k := range states {
		at := time.Duration(ops)*step + 2*time.Second
		op := history.Op{
			ID: "7f3a-a" + strconv.Itoa(k), N: int64(k), Phase: history.Audit, Entity: entity, Key: states[k].key, Name: history.WitnessOp,
			Sent: at, Returned: at + time.Millisecond, Attempts: 1, Outcome: history.OK, Epoch: 1, Node: "n1", Via: "n1",
		}
		op.Scheduled = op.Sent
		witnessReply(&op, states[k].ids)
		fn(&op)
	}
	return &history.Footer{
		Version: 1, Counts: map[history.Phase]history.Counts{history.Load: {OK: int64(ops)}, history.Audit: {OK: int64(keys)}}, Scheduled: map[history.Phase]int64{history.Load: int64(ops)},
		End: time.Duration(ops)*step + 3*time.Second,
	}
}

// inMemory is workloadRun in memory. Its texts lie together, so that the collector
// of garbage, whose time counts, has little to do with what the benchmark made.
func inMemory(entity string, ops, keys, clients int) *history.Run {
	var page []byte
	keep := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		if cap(page)-len(page) < len(b) {
			page = make([]byte, 0, max(1<<20, len(b)))
		}
		at := len(page)
		page = append(page, b...)
		return page[at:len(page):len(page)]
	}
	run := &history.Run{Ops: make([]history.Op, 0, ops+keys)}
	run.Footer = workloadRun(entity, ops, keys, clients, func(made *history.Op) {
		op := *made
		op.ID, op.Digest, op.Node = asString(keep([]byte(op.ID))), asString(keep([]byte(op.Digest))), asString(keep([]byte(op.Node)))
		op.Args, op.Result = keep(op.Args), keep(op.Result)
		op.Via = op.Node
		run.Ops = append(run.Ops, op)
	})
	return run
}

// cpuTime is what the process has used of all processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWitness judges a run in memory, 1,000,000 operations on 1,000 keys, by
// Add and Judge. What it is named after is
//
//	witness/durable, witness/memory   the witness audit alone, under that contract
//	all/durable                       all checks: register, counter and Porcupine
//	                                  as well; under memory there are no others
//
// ops/cpu-s counts the time of processors, the collector of garbage included,
// which other work on the machine disturbs less; add-ns and judge-ns are its
// parts by operation, the first of which is packing.
func BenchmarkWitness(b *testing.B) {
	for _, entity := range []string{"counter", "cart", "register"} {
		run := inMemory(entity, 1_000_000, 1000, 10)
		for _, checks := range []string{"all/durable", "witness/durable", "witness/memory"} {
			which, ack, _ := strings.Cut(checks, "/")
			b.Run(entity+"/"+checks, func(b *testing.B) {
				var add, judge time.Duration
				for b.Loop() {
					start := cpuTime()
					c := New(Options{Ack: ack, Window: time.Second, Witness: true, Memory: math.MaxInt64})
					c.witnessOnly = which == "witness"
					for i := range run.Ops {
						if err := c.Add(&run.Ops[i]); err != nil {
							b.Fatal(err)
						}
					}
					added := cpuTime()
					results, err := c.Judge(Rest{Footer: run.Footer})
					if err != nil {
						b.Fatal(err)
					}
					add, judge = add+added-start, judge+cpuTime()-added
					r := find(results, "witness")
					if r.Verdict != Pass || r.Ops != len(run.Ops) {
						b.Fatalf("%s, %d ops, %v", r.Verdict, r.Ops, r.Violations)
					}
					c.Close()
				}
				ops := float64(len(run.Ops)) * float64(b.N)
				b.ReportMetric(ops/(add+judge).Seconds(), "ops/cpu-s")
				b.ReportMetric(float64(add)/ops, "add-ns")
				b.ReportMetric(float64(judge)/ops, "judge-ns")
				b.ReportMetric(ops/b.Elapsed().Seconds(), "ops/s")
			})
		}
	}
}

// BenchmarkFile judges a run of 1,000,000 operations on 1,000 keys from its file, by
// all checks, the file being in the cache of the system. With -cpu 1 it uses one
// core for all of it.
func BenchmarkFile(b *testing.B) {
	for _, entity := range []string{"counter", "cart", "register"} {
		dir := b.TempDir()
		w, err := history.Create(dir)
		if err != nil {
			b.Fatal(err)
		}
		footer := workloadRun(entity, 1_000_000, 1000, 10, w.Op)
		if err := w.Close(*footer); err != nil {
			b.Fatal(err)
		}
		b.Run(entity, func(b *testing.B) {
			start, ops := cpuTime(), 0
			for b.Loop() {
				c := New(Options{Ack: Durable, Witness: true, Memory: math.MaxInt64})
				run, err := history.ReadRun(dir, c.Add)
				if err != nil {
					b.Fatal(err)
				}
				results, err := c.Judge(Rest{Footer: run.Footer})
				if err != nil {
					b.Fatal(err)
				}
				r := find(results, "witness")
				if r.Verdict != Pass {
					b.Fatalf("%s, %v", r.Verdict, r.Violations)
				}
				ops += r.Ops
				c.Close()
			}
			b.ReportMetric(float64(ops)/(cpuTime()-start).Seconds(), "ops/cpu-s")
			b.ReportMetric(float64(ops)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}

var opsFlag = flag.Int("ops", 1_000_000, "operations of the run that BenchmarkCollector judges")

// BenchmarkCollector judges a run that does not fit into the memory that it may
// use, at most a quarter of what the operations take, with keys of 1,000. Making
// the operations is not in its figures; rss-MB is the most that the process had.
func BenchmarkCollector(b *testing.B) {
	for _, entity := range []string{"counter"} {
		b.Run(entity, func(b *testing.B) {
			var add, judge, wall time.Duration
			for b.Loop() {
				c := New(Options{Ack: Durable, Witness: true, Memory: min(256<<20, int64(*opsFlag)*150/4), Dir: b.TempDir()})
				start := cpuTime()
				footer := workloadRun(entity, *opsFlag, *opsFlag/1000, 10, func(op *history.Op) {
					if err := c.Add(op); err != nil {
						b.Fatal(err)
					}
				})
				with := cpuTime() - start
				start = cpuTime()
				workloadRun(entity, *opsFlag, *opsFlag/1000, 10, func(*history.Op) {})
				add += with - (cpuTime() - start)
				start = cpuTime()
				at := time.Now()
				results, err := c.Judge(Rest{Footer: footer})
				if err != nil {
					b.Fatal(err)
				}
				judge += cpuTime() - start
				wall += time.Since(at)
				if r := find(results, "witness"); Overall(results) != Pass || r.Keys != *opsFlag/1000 {
					b.Fatal(show(results, false))
				}
				c.Close()
			}
			ops := float64(*opsFlag) * float64(b.N)
			var u syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(ops/(add+judge).Seconds(), "ops/cpu-s")
			b.ReportMetric(ops/add.Seconds(), "add-ops/cpu-s")
			b.ReportMetric(ops/judge.Seconds(), "judge-ops/cpu-s")
			b.ReportMetric(wall.Seconds()/float64(b.N), "judge-s")
			b.ReportMetric(float64(u.Maxrss)/1000, "rss-MB")
		})
	}
}

// BenchmarkWitnessBesidePorcupine judges the same keys by the witness and by
// Porcupine, in turns, where Porcupine can finish: keys of 60 operations.
func BenchmarkWitnessBesidePorcupine(b *testing.B) {
	for _, entity := range []string{"counter", "cart", "register"} {
		for _, clients := range []int{2, 5, 10} {
			b.Run(fmt.Sprintf("%s/clients=%d", entity, clients), func(b *testing.B) {
				run := inMemory(entity, 59*100, 100, clients)
				byKey := map[string][]*history.Op{}
				for i := range run.Ops {
					if op := &run.Ops[i]; op.Phase != history.Audit {
						byKey[op.Key] = append(byKey[op.Key], op)
					}
				}
				torn := *run
				torn.Footer = nil // so that Run leaves Porcupine out
				var byWitness, byPorcupine time.Duration
				undecided := 0
				for b.Loop() {
					start := cpuTime()
					if r := find(Run(&torn, Options{Ack: Durable, Witness: true}), "witness"); r.Verdict != Pass {
						b.Fatal(r)
					}
					byWitness += cpuTime() - start
					start = cpuTime()
					for _, ops := range byKey {
						if ok, _ := linearizable(entity, ops, never, search.Budget{Time: time.Second}); !ok {
							undecided++
						}
					}
					byPorcupine += cpuTime() - start
				}
				ops := float64(len(run.Ops)) * float64(b.N)
				b.ReportMetric(ops/byWitness.Seconds(), "witness-ops/cpu-s")
				b.ReportMetric(ops/byPorcupine.Seconds(), "porcupine-ops/cpu-s")
				b.ReportMetric(float64(undecided)/float64(b.N), "undecided-keys")
			})
		}
	}
}
