package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"statequake/reports/compare"
)

// plant is a head that is slower on purpose.
type plant struct {
	name           string
	store, restart time.Duration // system.store_delay and system.restart_delay
}

// greatest bounds what is planted, as a share of the figure: a machine on which ten
// pairs do not find that something takes twice as long is of no use, and a head
// that is slower still makes runs long.
const greatest = 1

// plants are sized by what ten pairs can find. A write waits for the flush under
// way and for its own, so that a flush that takes longer delays it by at least as
// much if the system waits for its disk, and by less if it is short of CPU time.
// The outage of nodes that are started again later is longer by that time.
func plants(p *power, pairs []pair) ([]plant, error) {
	restart, err := restartDelay(pairs[0].dirs[0])
	if err != nil {
		return nil, err
	}
	median := medians(pairs)
	slower := func(name string) float64 { return min(effect(name, p.smallest[name]), greatest) }
	of := func(share float64, figure string, step time.Duration) time.Duration {
		return time.Duration(math.Ceil(share*median[figure]/float64(step))) * step
	}
	restart += of(slower("outage"), "outage", 10*time.Millisecond)
	// Of a closed loop, latency grows by 1/(1-e) if throughput falls by e.
	// Of what a flush takes longer less arrives in the p99, whose operations wait for
	// something else as well: 2 of 4.5 ms, 7 of 7, 13 of 10 (ten pairs each).
	p50 := max(slower("p50"), min(1/(1-min(slower("throughput"), 0.9))-1, greatest))
	return []plant{
		{"plant-p50", of(p50, "p50", 100*time.Microsecond), restart},
		{"plant-p99", of(1.5*slower("p99"), "p99", 100*time.Microsecond), restart},
	}, nil
}

// medians are those of the figures over all runs of the first side; 0 if not known.
func medians(pairs []pair) map[string]float64 {
	median := map[string]float64{}
	for _, m := range comparedAsMade(pairs).Metrics {
		if m.Base != nil {
			median[m.Name] = *m.Base
		}
	}
	return median
}

// comparedAsMade compares pairs with the labels that their runs had.
func comparedAsMade(pairs []pair) *compare.Report {
	var base, head []compare.Run
	for _, p := range pairs {
		base, head = append(base, p.runs[0]), append(head, p.runs[1])
	}
	return compared(base, head)
}

// restartDelay is that of the scenario which a run had.
func restartDelay(dir string) (time.Duration, error) {
	file := filepath.Join(dir, "scenario.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	var s struct {
		System struct {
			RestartDelay string `yaml:"restart_delay"`
		} `yaml:"system"`
	}
	if err := yaml.Unmarshal(data, &s); err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	d, err := time.ParseDuration(s.System.RestartDelay)
	if err != nil {
		return 0, fmt.Errorf("%s: system.restart_delay: %w", file, err)
	}
	return d, nil
}
