package compare

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"statequake/reports/check"
	"statequake/reports/stats"
)

// verdictFile is the only file of a run directory that the comparison rests on.
// The charts read the history, too.
const verdictFile = "verdict.json"

// verdictVersion is the version of verdict.json that is understood.
const verdictVersion = 1

// Side is one of the two things compared: base or head.
type Side struct {
	Path string
	Runs []Run // ordered by name
}

// Run is one run of a side.
type Run struct {
	Name    string // of its directory
	dir     string
	verdict verdict // Verdict is check.Unknown if the run was never judged
}

// verdict is what is needed of a verdict.json; history/FORMAT.md defines it.
type verdict struct {
	Version  int           `json:"version"`
	Verdict  check.Verdict `json:"verdict"`
	Scenario string        `json:"scenario"`
	Seed     int64         `json:"seed"`
	System   struct {
		Ack string `json:"ack"`
	} `json:"system"`
	Load struct {
		OK            int64    `json:"ok"`
		Unsent        int64    `json:"unsent"`
		RequestedRate *float64 `json:"requested_rate_per_s"`
		AchievedRate  float64  `json:"achieved_rate_per_s"`
		SendLag       struct {
			P50 *time.Duration `json:"p50"`
			P99 *time.Duration `json:"p99"`
			Max *time.Duration `json:"max"`
		} `json:"send_lag_ns"`
		Start     time.Duration `json:"start_ns"`
		Duration  time.Duration `json:"duration_ns"`
		Generator stats.Fitness `json:"generator"`
	} `json:"load"`
	Latency    stats.Latency    `json:"latency_ns"`
	Throughput stats.Throughput `json:"throughput_per_s"`
	FindMax    *stats.FindMax   `json:"find_max"`
	Checks     []struct {
		Name    string         `json:"name"`
		Verdict check.Verdict  `json:"verdict"`
		Kinds   map[string]int `json:"kinds"`
	} `json:"checks"`
	LostAcks *int    `json:"lost_acks"`
	Faults   []fault `json:"faults"`

	Resources map[string]stats.Resources `json:"resources"`
	Machine   machine                    `json:"machine"`
}

type fault struct {
	Name      string         `json:"name"`
	Requested *time.Duration `json:"requested_ns"`
	Injected  *time.Duration `json:"injected_ns"`
	Recovered *time.Duration `json:"recovered_ns"`
	Recovery  *struct {
		Outage struct {
			Max *time.Duration `json:"max"`
		} `json:"outage_ns"`
		KeysDead int            `json:"keys_dead"`
		Steady   *time.Duration `json:"steady_ns"` // from the injection
	} `json:"recovery"`
}

type machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel"`
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory_bytes"`
}

// Load reads a side: path is a run directory, or a folder whose sub-folders are
// run directories. A run in such a folder that has no verdict.json counts as
// unknown and keeps its place, so that the runs after it keep their partners.
// Load returns an error if there is no verdict.json at all, or if one cannot be
// read.
func Load(path string) (*Side, error) {
	side := &Side{Path: path}
	v, err := readVerdict(path)
	switch {
	case err == nil:
		side.Runs = []Run{{filepath.Base(filepath.Clean(path)), path, *v}}
		return side, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return nil, err
	}
	judged := 0
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		dir := filepath.Join(path, entry.Name())
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		v, err := readVerdict(dir)
		switch {
		case err == nil:
			judged++
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case !isRun(dir):
			continue
		default:
			v = &verdict{Verdict: check.Unknown}
		}
		side.Runs = append(side.Runs, Run{entry.Name(), dir, *v})
	}
	if judged == 0 {
		return nil, fmt.Errorf("%s: no %s in it, nor in its folders\nhint: statequake check RUN writes it", path, verdictFile)
	}
	return side, nil
}

// isRun reports whether a run was begun in dir.
func isRun(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "scenario.yaml"))
	return err == nil
}

func readVerdict(dir string) (*verdict, error) {
	file := filepath.Join(dir, verdictFile)
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var v verdict
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if v.Version != verdictVersion {
		return nil, fmt.Errorf("%s: version %d, this program reads %d", file, v.Version, verdictVersion)
	}
	switch v.Verdict {
	case check.Pass, check.Violated, check.Unknown:
		return &v, nil
	}
	return nil, fmt.Errorf("%s: verdict %q; have pass, violation, unknown", file, v.Verdict)
}

// usable reports whether the run's figures can be believed: a run that broke
// its contract, or proves nothing, may have been fast by doing less.
func (r *Run) usable() bool { return r.verdict.Verdict == check.Pass && !r.lost() }

// violated reports whether the run broke its contract.
func (r *Run) violated() bool { return r.verdict.Verdict == check.Violated || r.lost() }

// lost reports whether a write vanished that was acknowledged as durable.
func (r *Run) lost() bool {
	return r.verdict.System.Ack == check.Durable && r.verdict.LostAcks != nil && *r.verdict.LostAcks > 0
}
