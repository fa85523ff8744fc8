package scenarios

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"statequake/fixtures/sandbox"
	"statequake/history"
	"statequake/loadgen"
	"statequake/loadgen/script"
)

// k6Program is k6 with the extension, as make k6 builds it.
const k6Program = "statequake-k6"

// generator drives the load: a workload by loadgen.Generator, or a script by
// script.Driver.
type generator interface {
	Run(ctx context.Context) (loadgen.Result, error)
	Stats() loadgen.Stats
	TakeOwnDelay() (p99, most time.Duration)
}

// scripted reports what contradicts a load whose operations nobody knows before
// they come.
func (p *parser) scripted(s *Scenario) {
	if s.Load.Driver == "k6" && s.Abort.Violation {
		p.refuse("abort.violation", "a run without it is judged at its end", "contradicts load.driver.k6: nobody knows when a script is done with a key")
	}
}

// resolved is the driver as parser.driver reads it.
func (s Script) resolved() map[string]string {
	driver := map[string]string{"k6": s.Path}
	if s.Binary != "" {
		driver["binary"] = s.Binary
	}
	return driver
}

// findScript returns the script of a scenario with the program that runs it: the
// one that the scenario names, else one beside the statequake program, else one in
// $PATH.
func findScript(s *Scenario, beside string) (Script, error) {
	found := s.Load.Script
	if s.Load.Driver != "k6" {
		return found, nil
	}
	if _, err := os.Stat(found.Path); err != nil {
		return found, fmt.Errorf("load.driver.k6: %w", err)
	}
	if found.Binary != "" {
		if _, err := exec.LookPath(found.Binary); err != nil {
			return found, fmt.Errorf("load.driver.binary: %w", err)
		}
		return found, nil
	}
	for _, at := range []string{filepath.Join(filepath.Dir(beside), k6Program), k6Program} {
		path, err := exec.LookPath(at)
		if err == nil {
			found.Binary, err = filepath.Abs(path)
			return found, err
		}
	}
	return found, fmt.Errorf("load.driver.k6: there is no %s beside %s, nor in $PATH\nhint: make k6 builds it; driver: {k6: ..., binary: PATH} says where it is", k6Program, cmp.Or(beside, "this program"))
}

// startScript starts the script and returns when its load starts.
func (r *run) startScript(ctx context.Context, record func(*history.Op)) (*script.Driver, time.Duration, error) {
	s, l := r.scenario, r.scenario.Load
	var d *script.Driver
	c := script.Config{
		Binary: r.script.Binary, Script: r.script.Path, Dir: filepath.Join(r.opt.Dir, "k6"), Start: sandbox.Start,
		Warmup: l.Warmup, Duration: l.Duration, Rate: l.Arrivals.Constant, Tag: r.opt.Tag,
		Client: loadgen.ClientConfig{
			Endpoints: r.endpoints, Codec: r.system.codec, Timeout: l.Timeout,
			Retry: loadgen.Retry{Max: l.Retry.Max, Duplicate: l.Retry.Duplicate.Share()}, Route: l.Route, MaxConns: l.MaxConns,
			Seed: s.Seed, Now: r.now, Record: record,
		},
		Sample: r.sampleScript,
	}
	d, start, err := script.Start(ctx, c)
	if err != nil && ctx.Err() == nil {
		return nil, 0, fmt.Errorf("load: %w", err)
	}
	if err != nil {
		return nil, 0, errors.Join(err, context.Cause(ctx))
	}
	return d, start, nil
}

// sampleScript records a sample of k6: its resources under a name of its own, and
// the generator's, which consists of both processes.
func (r *run) sampleScript(k6 history.Sample) {
	s := r.self()
	s.At = k6.At
	s.LagP50, s.LagP99, s.LagMax, s.Dispatched = k6.LagP50, k6.LagP99, k6.LagMax, k6.Dispatched
	s.StallMax = max(s.StallMax, k6.StallMax)
	s.OwnDelayP99, s.OwnDelayMax = s.OwnDelayP99+k6.OwnDelayP99, s.OwnDelayMax+k6.OwnDelayMax
	r.recordSample(s)
	r.recordSample(history.Sample{At: k6.At, Node: "k6", PID: k6.PID, CPU: k6.CPU, RSS: k6.RSS})
}

// driven tells whether the generator's samples are this process's to make: a
// script that runs sends its own, with the instants that they are of.
func (r *run) driven() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.generator.(*script.Driver)
	return !ok || !d.Running()
}

// touched returns the entities that the load touched.
func (r *run) touched() []loadgen.EntityKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d, ok := r.generator.(*script.Driver); ok {
		return d.Touched()
	}
	return r.workload.Touched()
}

// hottest is the entity that the load touches most.
func (r *run) hottest() (entity, key string) {
	r.mu.Lock()
	d, ok := r.generator.(*script.Driver)
	r.mu.Unlock()
	if ok {
		return d.Hottest()
	}
	return r.workload.Hottest()
}
