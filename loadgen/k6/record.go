package k6

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"go.yaml.in/yaml/v3"

	"statequake/history"
	"statequake/loadgen"
	"statequake/loadgen/script"
)

const auditLimit = 30 * time.Second // for all keys to be read back

// tag is the first part of every operation id that this process makes.
var tag = func() string {
	b := make([]byte, 2)
	rand.Read(b)
	return hex.EncodeToString(b)
}()

// recordConfig says what is recorded, and where.
type recordConfig struct {
	dir     string
	ack     string
	window  time.Duration
	script  string        // path; "" if it has none
	planned time.Duration // of the test at most
	log     logrus.FieldLogger
}

// recorder writes the run directory of a test that no harness has started. Its
// methods may be called concurrently.
type recorder struct {
	s      *session
	c      recordConfig
	w      *history.Writer
	flight sync.WaitGroup // operations that begin let in

	mu      sync.Mutex
	closed  bool
	ops     int64
	first   time.Duration // due times
	last    time.Duration
	touched map[*target]map[loadgen.EntityKey]bool
	order   map[*target][]loadgen.EntityKey
}

func newRecorder(s *session, c recordConfig) (*recorder, error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("run directory %s is not empty (it holds %s)\nhint: name a new one with --out statequake=DIR", c.dir, entries[0].Name())
	}
	r := &recorder{s: s, c: c, touched: map[*target]map[loadgen.EntityKey]bool{}, order: map[*target][]loadgen.EntityKey{}}
	if err := r.plan(max(c.planned, time.Millisecond)); err != nil {
		return nil, err
	}
	if r.w, err = history.Create(c.dir); err != nil {
		return nil, err
	}
	return r, nil
}

// begin lets an operation in, and notes what it touches; false after the end.
func (r *recorder) begin(call *script.Call, t *target) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.flight.Add(1)
	for _, key := range loadgen.Touches(&history.Op{Entity: call.Entity, Key: call.Key, Name: call.Op, Args: call.Args}) {
		if r.touched[t] == nil {
			r.touched[t] = map[loadgen.EntityKey]bool{}
		}
		if !r.touched[t][key] {
			r.touched[t][key] = true
			r.order[t] = append(r.order[t], key)
		}
	}
	return true
}

// op records a complete operation of the load.
func (r *recorder) op(op *history.Op) {
	r.mu.Lock()
	if r.ops == 0 || op.Scheduled < r.first {
		r.first = op.Scheduled
	}
	r.last = max(r.last, op.Scheduled)
	r.ops++
	r.mu.Unlock()
	r.w.Op(op)
}

func (r *recorder) sample(s history.Sample) { r.w.Sample(s) }

// close reads every key back and ends the record.
func (r *recorder) close(stopped string, thresholds []history.Threshold) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.flight.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), auditLimit)
	defer cancel()
	var first int64
	for t, keys := range r.order {
		t.client.Close()
		// What the audit did not get is in the history, and so in the verdict.
		err := loadgen.Audit(ctx, loadgen.AuditConfig{
			Endpoints: t.config.nodes, Codec: codec, Keys: keys, Op: history.WitnessOp, Timeout: t.config.timeout, Tag: tag,
			Now: r.s.now, Record: r.w.Op, First: first,
		})
		if err != nil {
			r.c.log.Warnf("statequake: %v", err)
		}
		first += int64(len(keys))
	}
	// Until now it held what was planned at most, in which nothing might be due.
	planErr := r.plan(max(r.last-r.first+time.Millisecond, time.Millisecond))
	scheduled := r.s.seq.Load()
	err := r.w.Close(history.Footer{
		Scheduled: map[history.Phase]int64{history.Load: scheduled}, End: r.s.now(), Stopped: stopped, Thresholds: thresholds,
	})
	if r.ops != scheduled {
		err = errors.Join(err, fmt.Errorf("identity: %d operations were scheduled, %d recorded", scheduled, r.ops))
	}
	return errors.Join(planErr, err)
}

var unnamed = regexp.MustCompile(`[^a-z0-9-]+`)

// plan writes scenario.yaml: as much of a scenario as there is, for whoever judges
// the run.
func (r *recorder) plan(length time.Duration) error {
	name := strings.Trim(unnamed.ReplaceAllString(strings.ToLower(strings.TrimSuffix(filepath.Base(r.c.script), ".js")), "-"), "-")
	if name == "" {
		name = "k6"
	}
	nodes := 0
	var urls []string
	timeout := 10 * time.Second
	r.s.mu.Lock()
	for _, t := range r.s.targets {
		nodes += len(t.config.nodes)
		for _, e := range t.config.nodes {
			urls = append(urls, "http://"+e.Addr)
		}
		timeout = t.config.timeout
	}
	r.s.mu.Unlock()
	system := map[string]any{"name": "reference", "nodes": nodes, "ack": r.c.ack, "url": urls}
	if r.c.ack == "memory" {
		system["window"] = r.c.window.String()
	}
	text, err := yaml.Marshal(map[string]any{
		"name": name[:min(len(name), 64)], "seed": 0, "system": system,
		"load": map[string]any{
			"driver": map[string]string{"k6": r.c.script}, "warmup": "0s", "duration": length.Round(time.Microsecond).String(), "timeout": timeout.String(),
		},
		"machine":  map[string]any{"go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "cpus": runtime.NumCPU()},
		"resolved": map[string]any{"isolation": "none: k6 and the system run by themselves", "run_tag": tag},
	})
	if err != nil {
		return fmt.Errorf("write the scenario: %w", err)
	}
	// Another file takes its place at once: whoever reads it finds a whole one.
	path := filepath.Join(r.c.dir, "scenario.yaml")
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return fmt.Errorf("write the scenario: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the scenario: %w", err)
	}
	return nil
}
