package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"statequake/history"
	"statequake/reports"
	"statequake/reports/stats"
	"statequake/scenarios"
)

const (
	// opNames is how many names of operations have series of their own; those that
	// come later, which only a script can have, share otherOps.
	opNames  = 50
	otherOps = "other"

	// scrapers is how many requests for /metrics are answered at a time.
	scrapers = 4
)

// checkMetrics returns an error if /metrics is not to be served at an address. It
// tells what runs here and takes no password, so it stays on this machine.
func checkMetrics(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("--metrics %s: want HOST:PORT\nhint: --metrics 127.0.0.1:9464; port 0 takes a free one", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("--metrics %s: port %q is outside 0 to 65535", address, port)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--metrics %s: is not an address of this machine's loopback interface\nhint: --metrics 127.0.0.1:%s, and ssh -L %s:127.0.0.1:%s for a Prometheus elsewhere", address, port, port, port)
	}
	return nil
}

// listenMetrics opens the socket of /metrics as a file that can be handed into the
// sandbox, whose network is another one.
func listenMetrics(address string) ([]*os.File, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--metrics: %w", err)
	}
	defer l.Close() // the file goes on listening
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, fmt.Errorf("--metrics: %w", err)
	}
	return []*os.File{file}, nil
}

// metricsServer serves the metrics of the run under way, of one run after the
// other. A nil one serves nothing.
type metricsServer struct {
	server  *http.Server
	address string
	current atomic.Pointer[runMetrics]
}

// serveMetrics serves at the socket that came from outside of the sandbox, or at
// one of its own.
func serveMetrics(address string) (*metricsServer, error) {
	listeners, err := fromOutside()
	if err != nil {
		return nil, err
	}
	if len(listeners) == 0 {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("--metrics: %w", err)
		}
		listeners = append(listeners, l)
	}
	m := &metricsServer{address: listeners[0].Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		run := m.current.Load()
		if run == nil {
			http.Error(w, "no run yet", http.StatusServiceUnavailable)
			return
		}
		run.handler.ServeHTTP(w, r)
	})
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second}
	go m.server.Serve(listeners[0]) // until close
	return m, nil
}

func (m *metricsServer) close() {
	if m != nil {
		m.server.Close()
	}
}

// begin has the metrics of a run served from now on, all counters at 0.
func (m *metricsServer) begin(s *scenarios.Scenario) *runMetrics {
	if m == nil {
		return nil
	}
	run := newRunMetrics(s)
	m.current.Store(run)
	return run
}

// runMetrics are what /metrics shows of one run. Its methods may be called
// concurrently.
type runMetrics struct {
	handler  http.Handler
	registry *prometheus.Registry
	ops      *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	status   atomic.Pointer[scenarios.Status]

	mu    sync.Mutex
	names map[string]bool // of operations
}

func newRunMetrics(s *scenarios.Scenario) *runMetrics {
	m := &runMetrics{
		registry: prometheus.NewRegistry(),
		ops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "statequake_run_operations_total", Help: "Operations that are complete, by phase, name and outcome (ok, fail, info, unsent).",
		}, []string{"phase", "op", "outcome"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "statequake_run_operation_latency_seconds", Help: "Latency of operations answered ok, from the instant at which they were due.",
			Buckets:                         prometheus.ExponentialBuckets(0.00025, 2, 17), // 250 µs to 16 s
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"phase", "op"}),
		names: map[string]bool{},
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "statequake_build_info", Help: "1, for the program that makes the run.",
	}, []string{"version", "goversion"})
	build.WithLabelValues(version, runtime.Version()).Set(1)
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "statequake_run_info", Help: "1, for the run under way.",
	}, []string{"scenario", "system", "ack", "seed"})
	info.WithLabelValues(promLabel(s.Name), promLabel(s.System.Name), s.System.Ack, strconv.FormatInt(s.Seed, 10)).Set(1)
	m.registry.MustRegister(build, info, m.ops, m.latency, runState{m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapers, EnableOpenMetrics: true})
	return m
}

// promLabel makes a label value of text of unknown origin.
func promLabel(s string) string { return reports.Clip(s, 100) }

// observe counts an operation that is complete.
func (m *runMetrics) observe(op *history.Op) {
	name := m.name(op.Name)
	m.ops.WithLabelValues(string(op.Phase), name, string(op.Outcome)).Inc()
	if op.Outcome == history.OK {
		m.latency.WithLabelValues(string(op.Phase), name).Observe(op.Latency().Seconds())
	}
}

// name is the label of an operation's name.
func (m *runMetrics) name(op string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.names[op] {
		if len(m.names) == opNames {
			return otherOps
		}
		m.names[strings.Clone(op)] = true
	}
	return promLabel(op)
}

// show notes the state of the run.
func (m *runMetrics) show(st scenarios.Status) { m.status.Store(&st) }

// stage notes what is done after the run itself.
func (m *runMetrics) stage(phase string) {
	if st := m.status.Load(); st != nil {
		after := *st
		after.Phase = phase
		m.status.Store(&after)
	}
}

// runState are the metrics that are made of the last status when they are asked
// for.
type runState struct{ *runMetrics }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// The series of one label value each are as many as a run has faults (200 at most
// are told of) and nodes.
var (
	phaseDesc      = desc("statequake_run_phase", "1 for the phase that the run is in, 0 for the others.", "phase")
	elapsedDesc    = desc("statequake_run_elapsed_seconds", "Time since the start of the run.")
	dueDesc        = desc("statequake_run_due_operations_total", "Operations of warmup and load that were due so far, by the arrival process; absent for clients and scripts, which have none.")
	inFlightDesc   = desc("statequake_run_in_flight_operations", "Operations of the load that were handed out and are not complete.")
	lagP50Desc     = desc("statequake_run_send_lag_p50_seconds", "Median so far of the generator's own delay, from the instant at which an operation was due.")
	lagP99Desc     = desc("statequake_run_send_lag_p99_seconds", "99th percentile so far of the generator's own delay.")
	lagMaxDesc     = desc("statequake_run_send_lag_max_seconds", "Largest delay so far of the generator's own.")
	generatorDesc  = desc("statequake_run_generator_verdict", "1 for the verdict on the generator by what it has done so far, 0 for the others.", "verdict")
	faultDesc      = desc("statequake_run_fault_state", "1 for the state that a fault is in (waiting, requested, active, recovering, over), 0 for the others.", "fault", "kind", "state")
	evidenceDesc   = desc("statequake_run_fault_evidence", "1 for what the evidence of a fault says (confirmed, mismatch, inconclusive); absent until there is some.", "fault", "proof")
	upDesc         = desc("statequake_run_node_up", "1 if the node's process runs and is neither paused nor on its way back from a fault.", "node")
	cpuDesc        = desc("statequake_run_node_cpu_seconds_total", "CPU time of the node's process, user and system; from 0 again when it is started anew.", "node")
	memoryDesc     = desc("statequake_run_node_resident_memory_bytes", "Resident memory of the node's process.", "node")
	violationsDesc = desc("statequake_run_violations_total", "Violations found so far; absent if they are looked for at the end only.")
)

// faultStates are those of a fault, in their order.
var faultStates = []string{"waiting", "requested", "active", "recovering", "over"}

// faultState is the state that a fault is in.
func faultState(f *scenarios.FaultStatus, now time.Duration) string {
	switch {
	case f.Waits():
		return "waiting"
	case !f.Active:
		return "over"
	case f.Injected == nil:
		return "requested"
	case f.Proof != "", f.Lasts > 0 && now-*f.Injected >= f.Lasts:
		return "recovering"
	}
	return "active"
}

// Describe implements prometheus.Collector.
func (runState) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{phaseDesc, elapsedDesc, dueDesc, inFlightDesc, lagP50Desc, lagP99Desc, lagMaxDesc, generatorDesc,
		faultDesc, evidenceDesc, upDesc, cpuDesc, memoryDesc, violationsDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c runState) Collect(to chan<- prometheus.Metric) {
	st := c.status.Load()
	if st == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	oneOf := func(d *prometheus.Desc, is string, all []string, labels ...string) {
		for _, a := range all {
			v := 0.0
			if a == is {
				v = 1
			}
			gauge(d, v, append(slices.Clip(labels), a)...)
		}
	}
	oneOf(phaseDesc, st.Phase, phases)
	gauge(elapsedDesc, st.At.Seconds())
	if st.Due != nil {
		counter(dueDesc, float64(st.Due(st.At)))
	}
	gauge(inFlightDesc, float64(st.Load.InFlight))
	if st.Load.Dispatched > 0 {
		gauge(lagP50Desc, st.Load.LagP50.Seconds())
		gauge(lagP99Desc, st.Load.LagP99.Seconds())
		gauge(lagMaxDesc, st.Load.LagMax.Seconds())
	}
	if v := generatorSoFar(st); v != "" {
		oneOf(generatorDesc, string(v), []string{string(stats.Valid), string(stats.Degraded), string(stats.Invalid)})
	}
	seen := map[string]bool{} // two names may look alike once they are harmless
	for i := range st.Faults {
		f := &st.Faults[i]
		name := promLabel(f.Name)
		if seen[name] {
			continue
		}
		seen[name] = true
		oneOf(faultDesc, faultState(f, st.At), faultStates, name, promLabel(f.Kind))
		if f.Proof != "" {
			gauge(evidenceDesc, 1, name, string(f.Proof))
		}
	}
	clear(seen)
	for _, n := range st.Nodes {
		name := promLabel(n.Name)
		if seen[name] {
			continue
		}
		seen[name] = true
		if n.State != "" {
			up := 0.0
			if n.State == "up" {
				up = 1
			}
			gauge(upDesc, up, name)
		}
		if n.RSS > 0 {
			counter(cpuDesc, n.CPUSeconds, name)
			gauge(memoryDesc, float64(n.RSS), name)
		}
	}
	if st.Looked {
		counter(violationsDesc, float64(st.Violations))
	}
}
