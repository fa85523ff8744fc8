package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"statequake/history"
	"statequake/reports/check"
	"statequake/reports/compare"
)

// few is enough to tell right from wrong.
var few = effort{draws: 2000, resamples: 60, inner: 300, verifying: 500}

// spreads are those of the logarithms of made-up figures, of one run.
var spreads = map[string]float64{"throughput": 0.02, "p50": 0.03, "p99": 0.12, "outage": 0.05}

// made writes n pairs of made-up runs whose head is worse by these shifts, and
// reads them.
func made(t *testing.T, random *rand.Rand, n int, worse map[string]float64) []pair {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		drift := 0.2 * random.NormFloat64() // of the machine, both runs alike
		for _, side := range []string{"base", "head"} {
			of := func(name string, v float64) float64 {
				shift := drift + spreads[name]*random.NormFloat64()
				if side == "head" {
					shift += worse[name]
				}
				if name == "throughput" {
					shift = -shift
				}
				return v * math.Exp(shift)
			}
			text := fmt.Sprintf(`{"version": 1, "verdict": "pass", "scenario": "gate", "seed": %d, "system": {"ack": "durable"},
 "load": {"ok": 40000}, "latency_ns": {"all": {"p50": %.0f, "p99": %.0f, "n": 40000}}, "throughput_per_s": {"all": %f}, "lost_acks": 0,
 "faults": [{"recovery": {"outage_ns": {"max": %.0f}}}]}`,
				i, of("p50", 6e6), of("p99", 2e7), of("throughput", 4000), of("outage", 1.2e9))
			run := filepath.Join(dir, side, fmt.Sprintf("%04d", i+1))
			if err := os.MkdirAll(run, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(run, "verdict.json"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	pairs, err := loadAB(dir)
	if err != nil {
		t.Fatal(err)
	}
	return pairs
}

// Labels of equal sides flipped: false regressions are there, and stay below alpha.
// The rate is conditional on these pairs, so the bound is exact but for the
// number of comparisons.
func TestEqualSides(t *testing.T) {
	pairs := made(t, rand.New(rand.NewPCG(1, 1)), 20, nil)
	for _, k := range []int{10, 20} {
		got := flipped(seeded(5), pairs, k, 4000, nil)
		rate := share(got.regression, got.n)
		t.Logf("%d pairs: %d comparisons, %.2f %% regression, %.1f %% inconclusive", k, got.n, 100*rate, 100*share(got.inconclusive, got.n))
		if rate > compare.DefaultAlpha+0.004 || rate == 0 && k == 10 { // the margin rules out most of what is left with 20
			t.Errorf("%d pairs: false regressions %v", k, rate)
		}
	}
	// Sides that differ by label are not equal: flipped labels hide it, those that
	// were given do not.
	pairs = made(t, rand.New(rand.NewPCG(1, 2)), 20, map[string]float64{"p50": 0.5})
	if r := comparedAsMade(pairs); r.Outcome != compare.Regression {
		t.Errorf("p50 longer by 65 %%: %s", r.Outcome)
	}
}

// The smallest detectable change is what its name says, in pairs that it was not
// made from: found with a chance of 90 %, and half of it far less often. The true
// chance is told from many pairs, so that only their noise is left.
func TestSmallest(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 1))
	p := few.detect(made(t, random, 200, nil))
	many := made(t, random, 400, nil)
	for _, name := range figures {
		shift := p.smallest[name]
		found := func(shift float64) float64 {
			n, hits := 300, 0
			for range n {
				var base, head []compare.Run
				for _, i := range random.Perm(len(many))[:10] {
					base, head = append(base, many[i].runs[0]), append(head, many[i].runs[1])
				}
				m := metricOf(compared(base, head), name)
				if shiftToRegression(m) <= shift {
					hits++
				}
			}
			return share(hits, n)
		}
		whole, half := found(shift), found(shift/2)
		verified, err := few.verify(many[:40], name, shift)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f %%: found in %.0f %%, half of it in %.0f %%, written into verdicts in %.0f %%", name, 100*effect(name, shift), 100*whole, 100*half, 100*verified)
		if whole < 0.84 || whole > 0.96 {
			t.Errorf("%s: found in %v, want about 0.90", name, whole)
		}
		if half > 0.6 {
			t.Errorf("%s: half of it is found in %v", name, half)
		}
		if verified < 0.80 || verified > 0.98 { // 40 pairs
			t.Errorf("%s: found in %v of verdicts that say so, want about 0.90", name, verified)
		}
	}
}

// The interval of the smallest change holds that of many pairs.
func TestIntervals(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 1))
	truth := few.detect(made(t, random, 200, nil))
	pairs := made(t, random, 20, nil)
	p := few.detect(pairs)
	few.intervals(p, pairs)
	for _, name := range figures {
		ends := p.between[name]
		t.Logf("%s: %.3f (%.3f to %.3f), truth %.3f", name, p.smallest[name], ends[0], ends[1], truth.smallest[name])
		if !(ends[0] <= p.smallest[name] && p.smallest[name] <= ends[1] && ends[0] < ends[1]) {
			t.Errorf("%s: %v is not in %v", name, p.smallest[name], ends)
		}
		if w := truth.smallest[name]; w < ends[0]*0.9 || w > ends[1]*1.1 {
			t.Errorf("%s: %v is far from %v", name, w, ends)
		}
	}
	if p.regression[0] > p.regression[1] || p.regression[1] > compare.DefaultAlpha+0.015 {
		t.Errorf("false regressions %v", p.regression)
	}
}

// A figure becomes worse by exactly the shift, and nothing else changes.
func TestWorsen(t *testing.T) {
	pairs := made(t, rand.New(rand.NewPCG(4, 1)), 10, nil)
	for _, name := range figures {
		to := t.TempDir()
		if err := worsen(filepath.Join(pairs[0].dirs[0], "verdict.json"), filepath.Join(to, "verdict.json"), name, math.Log(1.25)); err != nil {
			t.Fatal(err)
		}
		side, err := compare.Load(to)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range compared(pairs[0].runs[:1], side.Runs).Metrics {
			want := 1.0
			switch {
			case m.Name != name:
			case name == "throughput":
				want = 0.8
			default:
				want = 1.25
			}
			if m.Scale == "ratio" && math.Abs(*m.Estimate-want) > 1e-6 {
				t.Errorf("%s made worse: %s is %v, want %v", name, m.Name, *m.Estimate, want)
			}
		}
	}
	bare := filepath.Join(t.TempDir(), "verdict.json")
	if err := os.WriteFile(bare, []byte(`{"faults": []}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := worsen(bare, bare, "outage", 1); err == nil {
		t.Error("no outage can become longer")
	}
}

// A history from which one acknowledged write was taken is a violation, whose kind
// is lost; as it was it is not.
func TestTakeAck(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "lossy")
	data, err := os.ReadFile("../../fixtures/histories/legal/history.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{historyFile: data, "scenario.yaml": nil, "faults.jsonl": nil, "samples.jsonl": nil} {
		if err := os.WriteFile(filepath.Join(from, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := takeAck(from, to, 7); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]check.Verdict{from: check.Pass, to: check.Violated} {
		var ops []history.Op
		run, err := history.ReadRun(dir, func(op *history.Op) error { ops = append(ops, *op); return nil })
		if err != nil {
			t.Fatal(err)
		}
		run.Ops = ops
		results := check.Run(run, check.Options{Ack: check.Durable, Witness: true})
		if got := check.Overall(results); got != want {
			t.Errorf("%s: %s, want %s: %+v", dir, got, want, results)
		}
		lost := 0
		for _, r := range results {
			lost += len(r.LostAcks)
		}
		if want == check.Violated && lost != 1 {
			t.Errorf("%d acknowledged writes are lost, want 1", lost)
		}
	}
	// A key that nobody wrote cannot lose anything.
	if err := os.WriteFile(filepath.Join(from, historyFile), data[:bytes.IndexByte(data, '\n')+1], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := takeAck(from, to, 0); err == nil {
		t.Error("without an audit nothing can be taken")
	}
}

// Plants are as large as what can be found, that of the p99 half as large again, and
// no larger than greatest allows.
func TestPlants(t *testing.T) {
	pairs := made(t, rand.New(rand.NewPCG(6, 1)), 10, nil)
	if err := os.WriteFile(filepath.Join(pairs[0].dirs[0], "scenario.yaml"), []byte("system: {restart_delay: 500ms}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	median := medians(pairs)
	shift := math.Log(1.2)
	got, err := plants(&power{smallest: map[string]float64{"p50": shift, "p99": math.Inf(1), "throughput": math.Log(1.1), "outage": shift}}, pairs)
	if err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want, step float64) {
		if got < want-1 || got >= want+step { // rounded up
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	near("p50", float64(got[0].store), 0.2*median["p50"], 1e5)
	near("p99", float64(got[1].store), 1.5*greatest*median["p99"], 1e5)
	near("outage", float64(got[0].restart), 5e8+0.2*median["outage"], 1e7)
}

// fakeAB stands for the program: it says what ab says, and takes note of the call.
const fakeAB = `#!/bin/sh
echo "$*" >>calls
echo 'base 1/2: pass, p99 1 ms, exit code 0, took 1s' >&2
case "$*" in *broken*) echo 'no such disk' >&2; exit 3;; esac
echo '{"outcome": "no worse"}'
exit 5
`

func TestResume(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("fake", []byte(fakeAB), 0o755); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	c := campaign{pairs: 10, binary: "./fake", dir: "runs", out: &out}
	ab := func(name, set string) {
		t.Helper()
		if err := c.begin(); err != nil {
			t.Fatal(err)
		}
		if err := c.ab(context.Background(), name, "kill-followers", 1, 2, []string{set}, "--gate", "default"); err != nil {
			t.Fatal(err)
		}
	}
	calls := func() int {
		data, err := os.ReadFile("calls")
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(data, []byte("\n"))
	}
	ab("one", "a=b")
	r, err := readRecord("runs/one")
	if err != nil || r.Code != 5 || !slices.Contains(r.Args, "a=b") {
		t.Errorf("%+v, %v", r, err)
	}
	if !strings.Contains(out.String(), "[1/68, ") {
		t.Errorf("no progress: %s", &out)
	}
	ab("one", "a=b") // not without -resume
	c.resume = true
	ab("one", "a=b")
	if n := calls(); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
	ab("one", "a=c") // other arguments
	if err := os.WriteFile("fake", []byte(fakeAB+"# another program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ab("one", "a=c")
	if n := calls(); n != 4 {
		t.Errorf("%d calls, want 4", n)
	}
	if err := c.ab(context.Background(), "two", "broken.yaml", 1, 2, nil); err == nil || !strings.Contains(err.Error(), "no such disk") {
		t.Errorf("runs that could not be made: %v", err)
	}
	if err := c.ab(context.Background(), "two", "broken.yaml", 1, 2, nil); err == nil {
		t.Error("they are kept")
	}
}

// fakeRuns stands for the program in a whole campaign: ab leaves runs, of which one
// is unknown, check and compare find the loss.
const fakeRuns = `#!/bin/sh
echo "$*" >>calls
case $1 in check|compare) exit 1;; esac
scenario=$2 slow=1
for out; do :; done
while [ $# -gt 0 ]; do
	case $1 in
	--pairs) pairs=$2;;
	--seed) seed=$2;;
	system.store_delay=*) slow=1.9;;
	esac
	shift
done
i=1
while [ $i -le $pairs ]; do
	for side in base head; do
		dir=$out/$side/000$i
		mkdir -p $dir
		cp history.jsonl $dir
		echo 'system: {restart_delay: 500ms}' >$dir/scenario.yaml
		: >$dir/faults.jsonl
		: >$dir/samples.jsonl
		awk -v seed=$((seed + i)) -v side=$side -v slow=$slow '
			function by(v) { return v * exp(0.06 * (rand() + rand() + rand() - 1.5)) * (side == "head" ? slow : 1) }
			BEGIN {
				srand(2 * seed + (side == "head"))
				printf "{\"version\": 1, \"verdict\": \"%s\", \"scenario\": \"gate\", ", (seed == 4 && side == "head" ? "unknown" : "pass")
				printf "\"latency_ns\": {\"all\": {\"p50\": %d, \"p99\": %d, \"n\": 9}}, ", by(6e6), by(2e7)
				printf "\"throughput_per_s\": {\"all\": %f}, \"lost_acks\": 0, ", 1e7 / by(2500)
				printf "\"faults\": [{\"recovery\": {\"outage_ns\": {\"max\": %d}}}]}\n", by(1.2e9)
			}' >$dir/verdict.json
		echo "$side $i/$pairs: pass, p99 1 ms, exit code 0, took 0s" >&2
	done
	i=$((i + 1))
done
echo '{}'
case $scenario in bugs/*) exit 1;; esac
[ $slow = 1 ] && exit 5
exit 4
`

// A whole campaign: an unknown run is made up for, plants are found, every loss
// ends with 1; what is there is kept.
func TestCampaign(t *testing.T) {
	history, err := os.ReadFile("../../fixtures/histories/legal/history.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := errors.Join(os.WriteFile("history.jsonl", history, 0o644), os.WriteFile("fake", []byte(fakeRuns), 0o755)); err != nil {
		t.Fatal(err)
	}
	count := func(command string) (n int) {
		data, err := os.ReadFile("calls")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, command+" ") {
				n++
			}
		}
		return n
	}
	campaigned := func(pairs int) (int, string) {
		var out strings.Builder
		c := campaign{effort: few, pairs: pairs, binary: "./fake", scenario: "kill-followers", dir: "runs", resume: true, out: &out}
		code, err := c.run(t.Context())
		if err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		return code, out.String()
	}
	code, text := campaigned(10)
	if code != 0 {
		t.Errorf("exit code %d\n%s", code, text)
	}
	for _, want := range []string{
		"9 of 10 pairs are usable: further ones are made",
		"Equal sides: 12 pairs, 11 of them usable.",
		"10 pairs: exit code 4 | p50 |",
		"ten pairs and one | 180 | 180 |",
		"has the bug ack-before-journal | 4 | 4 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if ab, compared := count("ab"), count("compare"); ab != 6+4+2 || compared != 180 {
		t.Errorf("%d calls of ab, %d of compare", ab, compared)
	}
	again, _ := campaigned(10)
	if again != code || count("ab") != 6+4+2 || count("compare") != 180 {
		t.Errorf("it is made again: exit code %d, %d calls of ab", again, count("ab"))
	}
}

// The campaign is red if equal sides are called a regression too often, if a
// planted change that is large enough is not found, and if a loss does not end with
// 1; it is never green if something was not run.
func TestCode(t *testing.T) {
	pairs := made(t, rand.New(rand.NewPCG(7, 1)), 10, nil)
	slow := func(shift float64) []planted {
		worse := map[string]float64{}
		for _, name := range figures {
			worse[name] = shift
		}
		return []planted{{"plant", "", 4, comparedAsMade(made(t, rand.New(rand.NewPCG(8, 1)), 10, worse))}}
	}
	good := func() *result {
		p := &power{tally: &tally{n: 1000, regression: 20, metrics: map[string]*metricTally{}}, smallest: map[string]float64{}, between: map[string][2]float64{}}
		for _, name := range figures {
			p.smallest[name], p.between[name] = 0.3, [2]float64{0.2, 0.4}
		}
		return &result{made: 10, pairs: pairs, power: p, all: p.tally, plants: slow(0.8),
			losses: &losses{Codes: map[int]int{1: 100}}, bugs: []int{1, 1}}
	}
	for _, tt := range []struct {
		name string
		bad  func(*result)
		want int
	}{
		{"good", func(*result) {}, 0},
		{"false regressions", func(r *result) { r.power.tally.regression = 21 }, 1},
		{"a loss that passes", func(r *result) { r.losses.Codes[0] = 1 }, 1},
		{"a bug that passes", func(r *result) { r.bugs[1] = 5 }, 1},
		{"no loss", func(r *result) { r.losses = nil }, 2},
		{"no plant", func(r *result) { r.plants = nil }, 2},
		{"a plant that is too small to be found", func(r *result) { r.plants = slow(0.1) }, 0},
		{"a plant of too few pairs", func(r *result) { r.plants[0].report.Pairs = 5 }, 2},
		{"a plant that is missed", func(r *result) {
			r.plants = slow(0.8)
			metricOf(r.plants[0].report, "p99").Decision = compare.Inconclusive
		}, 1},
	} {
		r := good()
		tt.bad(r)
		if got := r.code(); got != tt.want {
			t.Errorf("%s: exit code %d, want %d", tt.name, got, tt.want)
		}
	}
	var text strings.Builder
	r := good()
	r.asMade = []*compare.Report{comparedAsMade(pairs)}
	r.write(&text)
	for _, want := range []string{"| 10 pairs drawn, labels flipped | 1000 | 2.0 % ", "exit code 4", "| taken from the history of 0 runs", "| 100 | 100 |"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &text)
		}
	}
}

// What is measured is measured again from the folders alone.
func TestAnalyse(t *testing.T) {
	dir := t.TempDir()
	pairs := made(t, rand.New(rand.NewPCG(9, 1)), 10, nil)
	at := filepath.Dir(filepath.Dir(pairs[0].dirs[0]))
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "aa"), 0o755), os.Rename(at, filepath.Join(dir, "aa", "part-01"))); err != nil {
		t.Fatal(err)
	}
	var one, two strings.Builder
	code, err := few.analyse(dir, &one)
	if err != nil || code != 2 { // nothing was planted
		t.Fatalf("exit code %d, %v", code, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "noise.md")); err != nil || string(data) != one.String() {
		t.Errorf("noise.md: %v", err)
	}
	if _, err := few.analyse(dir, &two); err != nil || one.String() != two.String() {
		t.Errorf("the same runs give other tables: %v\n%s\n%s", err, &one, &two)
	}
	if _, err := few.analyse(t.TempDir(), &two); err == nil {
		t.Error("an empty folder is analysed")
	}
	// Runs of two programs are not one campaign.
	more := made(t, rand.New(rand.NewPCG(9, 2)), 2, nil)
	if err := os.Rename(filepath.Dir(filepath.Dir(more[0].dirs[0])), filepath.Join(dir, "aa", "part-02")); err != nil {
		t.Fatal(err)
	}
	for i, program := range []string{"a", "b"} {
		if err := writeRecord(filepath.Join(dir, "aa", fmt.Sprintf("part-%02d", i+1)), &record{Program: program}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := few.analyse(dir, &two); err == nil || !strings.Contains(err.Error(), "part-02: its runs are of another program") {
		t.Errorf("two programs: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "aa", "part-02")); err != nil {
		t.Fatal(err)
	}
	// Nine pairs are not ten.
	file := filepath.Join(dir, "aa", "part-01", "head", "0003", "verdict.json")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, bytes.Replace(text, []byte(`"pass"`), []byte(`"unknown"`), 1), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := few.analyse(dir, &two); err == nil || !strings.Contains(err.Error(), "9 A/A pairs of runs that passed, at least 10 are needed") {
		t.Errorf("nine pairs: %v", err)
	}
}
