package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"statequake/reports"
	"statequake/reports/stats"
	"statequake/scenarios"
	"statequake/scripts/campaign"
)

// Every case is a scenario, and is stopped when its history tells when.
func TestKinds(t *testing.T) {
	for _, k := range kinds {
		s, err := scenarios.Parse(k.name+".yaml", []byte(k.scenario()), scenarios.Options{CheckExpectation: reports.CheckExpectation})
		if err != nil {
			t.Errorf("%s: %v", k.name, err)
			continue
		}
		if k.stop > 0 == (k.pause != "") && k.name != "control" {
			t.Errorf("%s: want one stop, of the generator or of nodes", k.name)
		}
		if k.stop > 0 && k.at < 1200*time.Millisecond {
			t.Errorf("%s is stopped at %v: its history is written a second after", k.name, k.at)
		}
		if blamed := k.stop > stats.StallLimit && k.at < s.Load.Warmup+s.Load.Duration; k.blamed != blamed {
			t.Errorf("%s: blamed %v, want %v", k.name, k.blamed, blamed)
		}
	}
}

func verdict(verdict, generator string, reasons ...string) *campaign.Verdict {
	v := &campaign.Verdict{Verdict: verdict, Reasons: reasons}
	v.Load.Generator = generator
	return v
}

func TestRight(t *testing.T) {
	const told = "The load generator did not get to run for 497ms (limit 250ms)."
	generator, node, short := kind{blamed: true}, kind{pause: owner}, kind{lags: true}
	for _, test := range []struct {
		k    kind
		v    *campaign.Verdict
		want bool
	}{
		{generator, verdict("unknown", "invalid", told), true},
		{generator, verdict("unknown", "invalid", "The load generator handed out 900 of 1000 due operations."), false},
		{generator, verdict("unknown", "valid", told), false},
		{generator, verdict("pass", "invalid", told), false},
		{generator, verdict("violation", "invalid", told), false},
		{node, verdict("pass", "valid"), true},
		{node, verdict("unknown", "valid", "The fault pause is not proven."), true},
		{node, verdict("pass", "degraded"), false},
		{node, verdict("unknown", "invalid", told), false},
		{node, verdict("violation", "valid"), false},
		{short, verdict("pass", "degraded"), true},
		{short, verdict("unknown", "invalid", told), false},
	} {
		if got := test.k.right(test.v); got != test.want {
			t.Errorf("%+v, %+v: %v", test.k, test.v, got)
		}
	}
	if d := stall(verdict("unknown", "invalid", "The fault x.", told)); d != 497*time.Millisecond {
		t.Errorf("stall %v", d)
	}
}

func TestReport(t *testing.T) {
	c := stalls{n: 2}
	good := &tally{kind: kind{name: "good"}, right: 2, verdicts: map[string]int{"invalid": 2}, stalls: []time.Duration{510 * time.Millisecond, 490 * time.Millisecond}}
	bad := &tally{kind: kind{name: "bad"}, right: 1, verdicts: map[string]int{"valid": 1, "degraded": 1}, notes: []string{"what went wrong"}}
	var out bytes.Buffer
	if ok, err := c.report([]*tally{good}, time.Second, &out); !ok || err != nil {
		t.Errorf("%v, %v: %s", ok, err, out.String())
	}
	if ok, err := c.report([]*tally{good, bad}, time.Second, &out); ok || err != nil {
		t.Errorf("%v, %v: %s", ok, err, out.String())
	}
	for _, want := range []string{"good  2/2    2 invalid", "490 ms", "510 ms", "bad   1/2    1 degraded, 1 valid", "what went wrong", "3 of 4 runs"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// The process that is stopped is the one that was started last of those that run,
// and not one of the nodes, which are the same program.
func TestGenerator(t *testing.T) {
	sh, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	data, err := os.ReadFile(sh)
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(binary, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := generator(binary); err == nil {
		t.Error("found where nothing runs")
	}
	run := filepath.Join(filepath.Dir(binary), "run")
	script := fmt.Sprintf(`if [ -z "$INNER" ]; then INNER=1 %[1]s run & echo $! >inner; else %[1]s node & fi; wait`, binary)
	for name, text := range map[string]string{run: script, filepath.Join(filepath.Dir(binary), "node"): "read -t 20 <>fifo"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	outer := exec.Command(binary, "run")
	outer.Dir = filepath.Dir(binary)
	if out, err := exec.Command("mkfifo", filepath.Join(outer.Dir, "fifo")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := outer.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		fifo, err := os.OpenFile(filepath.Join(outer.Dir, "fifo"), os.O_RDWR, 0)
		if err == nil {
			fmt.Fprintln(fifo) // the node ends, and then the others
			fifo.Close()
		}
		outer.Wait()
	}()
	want := ""
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		text, _ := os.ReadFile(filepath.Join(outer.Dir, "inner"))
		want = strings.TrimSpace(string(text))
		nodes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		running := 0
		for _, file := range nodes {
			if command, _ := os.ReadFile(file); bytes.HasPrefix(command, []byte(binary+"\x00node")) {
				running++
			}
		}
		if want != "" && running == 1 {
			break
		}
	}
	pid, err := generator(binary)
	if err != nil || fmt.Sprint(pid) != want {
		t.Errorf("process %d, %v; want %s", pid, err, want)
	}
	if state := stateOf(pid); state != "S" || parentOf(pid) != outer.Process.Pid {
		t.Errorf("state %q, parent %d; want S, %d", state, parentOf(pid), outer.Process.Pid)
	}
}
