package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports"
	"statequake/scenarios"
)

func TestScenarios(t *testing.T) {
	for _, system := range []string{"  nodes: 1\n  ack: memory", fmt.Sprintf(scripted, "/x/scripted")} {
		name, workload := "scripted", "{name: register, keys: 1000}"
		if strings.Contains(system, "ack") {
			name, workload = "reference", "{name: shopping-cart}"
		}
		text := fmt.Appendf(nil, scenario, name, system, workload, 5000, 10*time.Minute)
		s, err := scenarios.Parse("soak.yaml", text, scenarios.Options{CheckExpectation: reports.CheckExpectation})
		if err != nil || !s.Record.Compress {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Memory that grows all the time is not flat, a level that is reached early is,
// and a limit is one.
func TestReport(t *testing.T) {
	samples := func(rss func(i int) int64) (s []history.Sample) {
		for i := range 600 {
			s = append(s, history.Sample{At: time.Duration(i) * time.Second, CPU: float64(i) / 5, RSS: rss(i) << 20})
		}
		return s
	}
	for _, test := range []struct {
		name string
		rss  func(i int) int64
		want bool
	}{
		{"level", func(i int) int64 { return 80 + int64(i%7) }, true},
		{"level after a start", func(i int) int64 { return min(40+int64(i), 100) }, true},
		{"grows", func(i int) int64 { return 40 + int64(i)/10 }, false},
		{"one peak beyond the limit", func(i int) int64 { return 80 + 71*int64(i/599) }, false},
	} {
		var out bytes.Buffer
		if got := report(&out, samples(test.rss), 150); got != test.want || !strings.Contains(out.String(), "CPU         0.200 s per s") {
			t.Errorf("%s: %v\n%s", test.name, got, out.String())
		}
	}
}
