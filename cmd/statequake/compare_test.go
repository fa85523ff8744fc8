package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorded writes run directories 1 to n of a side and judges them. Their
// history is the known one of that name; that of run bad, if any, lacks one
// acknowledged write.
func recorded(t *testing.T, side string, n, bad int) {
	t.Helper()
	for i := 1; i <= n; i++ {
		name := "legal"
		if i == bad {
			name = "lost"
		}
		history, err := os.ReadFile(filepath.Join("../../fixtures/histories", name, "history.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(side, fmt.Sprintf("%04d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{
			"history.jsonl": string(history),
			"samples.jsonl": `{"at_ns":0,"node":"generator","cpu_s":0,"rss_bytes":1,"pid":1,"lag_p50_ns":1,"lag_p99_ns":1,"lag_max_ns":1}` + "\n",
			"scenario.yaml": "name: planted\nseed: 1\nsystem: {name: own, nodes: 1, ack: durable}\nload: {duration: 10ms}\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want := 0
		if i == bad {
			want = 1
		}
		if got := silently(t, "check", dir); got != want {
			t.Fatalf("check of a run with the history %s: exit code %d, want %d", name, got, want)
		}
	}
}

// silently runs a command in this process and returns its exit code.
func silently(t *testing.T, args ...string) int {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	out, errs := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = null, null
	defer func() { os.Stdout, os.Stderr = out, errs }()
	return run(args)
}

// One acknowledged write that is lost in one run of a head: exit code 1 with any
// flags, format, gate, number of heads and of runs. The same without the loss is
// never 1.
func TestPlantedLossDecides(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, n := range []int{1, 3} {
		recorded(t, at(fmt.Sprintf("base-%d", n)), n, 0)
		recorded(t, at(fmt.Sprintf("same-%d", n)), n, 0)
		for bad := 1; bad <= n; bad++ {
			recorded(t, at(fmt.Sprintf("lossy-%d-%d", n, bad)), n, bad)
		}
	}
	gates := map[string]string{"none": "", "default": "default"}
	for name, text := range map[string]string{
		"lenient": "alpha: 49%\ninconclusive: warn\nothers: inform\nmetrics: {p50: {margin: 1000%}}\n",
		"deaf":    "inconclusive: warn\nmetrics: {lost_acks: {gate: false}}\n",
		"limits":  "metrics: {lost_acks: {margin: 1000%, max: 100}, p99: {max: 1ns}}\n",
	} {
		gates[name] = at(name + ".yaml")
		if err := os.WriteFile(gates[name], []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cases := 0
	for _, n := range []int{1, 3} {
		base, same := at(fmt.Sprintf("base-%d", n)), at(fmt.Sprintf("same-%d", n))
		for bad := 1; bad <= n; bad++ {
			lossy := at(fmt.Sprintf("lossy-%d-%d", n, bad))
			for _, heads := range [][]string{{lossy}, {lossy, same}, {same, lossy}, {same, same, lossy}, {filepath.Join(lossy, fmt.Sprintf("%04d", bad))}} {
				for _, gate := range gates {
					for _, format := range []string{"text", "markdown", "json"} {
						for _, flags := range [][]string{nil, {"--paired"}, {"--paired=false"}, {"--html", at("page.html")}} {
							args := append([]string{"compare", base}, heads...)
							args = append(append(args, "--format", format), flags...)
							if gate != "" {
								args = append(args, "--gate", gate)
							}
							if got := silently(t, args...); got != 1 {
								t.Errorf("statequake %s: exit code %d, want 1", strings.Join(args, " "), got)
							}
							control := strings.Split(strings.ReplaceAll(strings.Join(args, "\x00"), lossy, same), "\x00")
							if got := silently(t, control...); got == 1 {
								t.Errorf("statequake %s: exit code 1 without a loss", strings.Join(control, " "))
							}
							cases++
						}
					}
				}
			}
		}
	}
	t.Logf("%d combinations", cases)
	if cases < 1000 {
		t.Errorf("%d combinations are too few", cases)
	}

	// The loss counts although another head, or the page, cannot be had.
	lossy := at("lossy-3-2")
	for _, args := range [][]string{
		{"compare", at("base-3"), lossy, at("nowhere")},
		{"compare", at("base-3"), at("nowhere"), lossy},
		{"compare", at("nowhere"), lossy},
		{"compare", at("base-1"), lossy, "--paired"},
		{"compare", at("base-3"), lossy, "--html", at("no/such/folder.html")},
	} {
		if got := silently(t, args...); got != 1 {
			t.Errorf("statequake %s: exit code %d, want 1", strings.Join(args, " "), got)
		}
	}
	if got := silently(t, "compare", at("base-3"), at("same-3"), at("nowhere")); got != 3 {
		t.Errorf("a head that is not there: exit code %d, want 3", got)
	}
}

// What cannot be printed is no success.
func TestComparisonThatCannotBePrinted(t *testing.T) {
	dir := t.TempDir()
	recorded(t, filepath.Join(dir, "base"), 1, 0)
	recorded(t, filepath.Join(dir, "lossy"), 1, 1)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	defer r.Close()
	out, errs := os.Stdout, os.Stderr
	defer func() { os.Stdout, os.Stderr = out, errs }()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for head, want := range map[string]int{"base": 3, "lossy": 1} {
		os.Stdout, os.Stderr = w, null // closed
		if got := run([]string{"compare", filepath.Join(dir, "base"), filepath.Join(dir, head)}); got != want {
			t.Errorf("%s: exit code %d, want %d", head, got, want)
		}
	}
}
