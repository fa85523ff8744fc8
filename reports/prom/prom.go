// Package prom writes the final figures of a run as Prometheus text.
package prom

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"statequake/history"
	"statequake/reports"
	"statequake/reports/check"
	"statequake/reports/stats"
)

// Write writes the figures of a verdict in the text format 0.0.4, which the
// textfile collector of the node exporter and the Pushgateway take. Every series
// has the label scenario. What is not known, such as lost acknowledged writes
// without a witness, has no series: 0 would be a claim. There are no timestamps.
//
// The series depend on v only, and so does their order.
func Write(w io.Writer, v *reports.Verdict) error {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(figures{v}); err != nil {
		return fmt.Errorf("prometheus text: %w", err)
	}
	families, err := registry.Gather()
	if err != nil {
		return fmt.Errorf("prometheus text: %w", err)
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return err
		}
	}
	return nil
}

// figures are the metrics of a verdict.
type figures struct{ v *reports.Verdict }

// metric is a gauge: the run is over, nothing counts on.
type metric struct{ *prometheus.Desc }

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("statequake_result_"+name, help, append([]string{"scenario"}, labels...), nil)}
}

var (
	info       = gauge("info", "1, for the run that was judged.", "seed", "system", "system_version", "store", "ack", "statequake")
	verdict    = gauge("verdict", "1 for the verdict (pass, violation, unknown), 0 for the others.", "verdict")
	exitCode   = gauge("exit_code", "Exit code of the run: 0 pass, 1 violation, 2 unknown, 4 an expectation was missed.")
	checks     = gauge("check_verdict", "1 for the verdict of a check, 0 for the others.", "check", "verdict")
	violations = gauge("violations", "Violations found by a check.", "check")
	lostAcks   = gauge("lost_acks", "Acknowledged writes that are gone; absent if no check could tell.")
	met        = gauge("expectation_met", "1 if an expectation of the scenario was met, 0 if not.", "expectation")

	operations = gauge("operations", "Operations of the load phase, by outcome (ok, fail, info, unsent).", "outcome")
	due        = gauge("due_operations", "Operations of the load phase that were due.")
	requested  = gauge("requested_operations_per_second", "Arrival rate asked for; absent for a closed loop.")
	achieved   = gauge("achieved_operations_per_second", "Operations sent per second of the load phase.")
	answered   = gauge("answered_operations_per_second", "Operations answered ok per second of a part (all, steady, during_faults) of the load phase.", "part")
	within     = gauge("answered_within_ratio", "Share of the operations due that were answered ok within a time.", "within")
	duration   = gauge("load_duration_seconds", "Length of the load phase.")
	knee       = gauge("knee_operations_per_second", "Highest rate found that keeps the latency bound; absent unless it was searched for.")

	latency  = gauge("latency_seconds", "Latency of operations answered ok, from the instant at which they were due, by part of the load phase; percentile 100 is the largest.", "part", "percentile")
	measured = gauge("latency_operations", "Operations that latency is of.", "part")
	opTime   = gauge("operation_latency_seconds", "Latency by the operation's name, over the whole load phase.", "op", "percentile")
	opCount  = gauge("operation_latency_operations", "Operations that latency is of, by the operation's name.", "op")

	evidence  = gauge("fault_evidence", "1 for what the evidence of a fault says (confirmed, mismatch, inconclusive), 0 for the others.", "fault", "kind", "proof")
	outage    = gauge("fault_outage_seconds", "How long affected keys were without an answer; percentile 100 is the longest. Keys that never answered again are not in it.", "fault", "percentile")
	dead      = gauge("fault_dead_keys", "Keys that never answered again after a fault.", "fault")
	affected  = gauge("fault_affected_keys", "Keys that a fault affected.", "fault")
	impact    = gauge("fault_impact_seconds", "Time from the injection of a fault until the first bad operation was sent; absent if there was none.", "fault")
	firstOK   = gauge("fault_first_ok_seconds", "Time from the injection of a fault until the first ok answer on an affected key.", "fault")
	steady    = gauge("fault_steady_seconds", "Time from the injection of a fault until latency and goodput were as before; absent if they were not.", "fault")
	back      = gauge("fault_back_seconds", "Time from the injection of a fault until its targets were seen back.", "fault")
	deficit   = gauge("fault_goodput_deficit_operations", "Operations due while a fault disturbed the run that were not answered ok.", "fault")
	faultLoss = gauge("fault_lost_acks", "Acknowledged writes that are gone, put down to a fault; absent if no check could tell.", "fault")
	rpo       = gauge("fault_rpo_seconds", "Age, at the injection, of the oldest lost acknowledged write; absent if no check could tell.", "fault")

	generator = gauge("generator_verdict", "1 for the verdict on the load generator (valid, degraded, invalid), 0 for the others.", "verdict")
	sendLag   = gauge("send_lag_seconds", "The generator's own delay, from the instant at which an operation was due; percentile 100 is the largest.", "percentile")
	cpu       = gauge("cpu_seconds", "CPU time used by a node, or by the generator, over all its processes.", "node")
	memory    = gauge("resident_memory_max_bytes", "Largest sampled resident memory of a node, or of the generator.", "node")
	starts    = gauge("starts", "Processes seen of a node.", "node")
)

// all are the metrics in the order of the documents.
var all = []metric{
	info, verdict, exitCode, checks, violations, lostAcks, met,
	operations, due, requested, achieved, answered, within, duration, knee,
	latency, measured, opTime, opCount,
	evidence, outage, dead, affected, impact, firstOK, steady, back, deficit, faultLoss, rpo,
	generator, sendLag, cpu, memory, starts,
}

// Describe implements prometheus.Collector.
func (figures) Describe(to chan<- *prometheus.Desc) {
	for _, m := range all {
		to <- m.Desc
	}
}

// Collect implements prometheus.Collector.
func (c figures) Collect(to chan<- prometheus.Metric) {
	v := c.v
	s := &series{to: to, scenario: label(v.Scenario), taken: map[string]bool{}}
	s.put(info, 1, strconv.FormatInt(v.Seed, 10), v.System.Name, v.System.Version, v.System.Store, v.System.Ack, v.Statequake)
	s.oneOf(verdict, string(v.Verdict), []string{string(check.Pass), string(check.Violated), string(check.Unknown)})
	s.put(exitCode, float64(v.ExitCode()))
	for _, r := range v.Checks {
		s.oneOf(checks, string(r.Verdict), []string{string(check.Pass), string(check.Violated), string(check.Unknown)}, r.Name)
		s.put(violations, float64(r.Total), r.Name)
	}
	s.number(lostAcks, v.LostAcks)
	for _, x := range v.Expectations {
		s.put(met, truth(x.Met), x.Name)
	}

	l := &v.Load
	for outcome, n := range map[history.Outcome]int64{history.OK: l.OK, history.Fail: l.Fail, history.Info: l.Info, history.Unsent: l.Unsent} {
		s.put(operations, float64(n), string(outcome))
	}
	s.put(due, float64(l.Scheduled))
	s.float(requested, l.RequestedRate)
	s.put(achieved, l.AchievedRate)
	s.float(answered, v.Throughput.All, "all")
	s.float(answered, v.Throughput.Steady, "steady")
	s.float(answered, v.Throughput.DuringFaults, "during_faults")
	for _, time := range slices.Sorted(maps.Keys(v.AnsweredWithin)) {
		s.put(within, v.AnsweredWithin[time], time)
	}
	s.put(duration, l.Duration.Seconds())
	if v.FindMax != nil {
		s.float(knee, v.FindMax.Knee)
	}

	s.summary(latency, measured, v.Latency.All, "all")
	s.summary(latency, measured, v.Latency.Steady, "steady")
	s.summary(latency, measured, v.Latency.DuringFaults, "during_faults")
	for _, op := range slices.Sorted(maps.Keys(v.Latency.ByOp)) {
		s.summary(opTime, opCount, v.Latency.ByOp[op], op)
	}

	for i := range v.Faults {
		s.fault(&v.Faults[i])
	}

	s.oneOf(generator, string(l.Generator), []string{string(stats.Valid), string(stats.Degraded), string(stats.Invalid)})
	s.time(sendLag, l.SendLag.P50, "50")
	s.time(sendLag, l.SendLag.P99, "99")
	s.time(sendLag, l.SendLag.Max, "100")
	for _, node := range slices.Sorted(maps.Keys(v.Resources)) {
		r := v.Resources[node]
		s.put(starts, float64(r.Starts), node)
		s.put(cpu, r.CPU, node)
		s.put(memory, float64(r.RSSMax), node)
	}
	s.put(cpu, v.GeneratorResources.CPU, stats.GeneratorNode)
	s.put(memory, float64(v.GeneratorResources.RSSMax), stats.GeneratorNode)
}

// series sends the metrics of one verdict. Of two that would be the same series,
// since names look alike once they are harmless, the first one counts.
type series struct {
	to       chan<- prometheus.Metric
	scenario string
	taken    map[string]bool
}

func (s *series) put(m metric, value float64, labels ...string) {
	values := []string{s.scenario}
	for _, l := range labels {
		values = append(values, label(l))
	}
	key := fmt.Sprintf("%p %q", m.Desc, values)
	if s.taken[key] {
		return
	}
	s.taken[key] = true
	s.to <- prometheus.MustNewConstMetric(m.Desc, prometheus.GaugeValue, value, values...)
}

// label makes a label value of text of unknown origin.
func label(text string) string { return reports.Clip(text, 200) }

func (s *series) float(m metric, value *float64, labels ...string) {
	if value != nil {
		s.put(m, *value, labels...)
	}
}

func (s *series) number(m metric, value *int, labels ...string) {
	if value != nil {
		s.put(m, float64(*value), labels...)
	}
}

func (s *series) time(m metric, value *time.Duration, labels ...string) {
	if value != nil {
		s.put(m, value.Seconds(), labels...)
	}
}

// oneOf puts 1 for the state that is, and 0 for the others.
func (s *series) oneOf(m metric, is string, all []string, labels ...string) {
	for _, state := range all {
		s.put(m, truth(state == is), append(slices.Clip(labels), state)...)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// summary puts the percentiles of a distribution, and of how many operations it is;
// without any there are no percentiles.
func (s *series) summary(m, n metric, d stats.Summary, of string) {
	s.put(n, float64(d.N), of)
	if d.N == 0 {
		return
	}
	for _, p := range []struct {
		percentile string
		value      time.Duration
	}{{"50", d.P50}, {"90", d.P90}, {"99", d.P99}, {"99.9", d.P999}, {"100", d.Max}} {
		s.put(m, p.value.Seconds(), of, p.percentile)
	}
}

func (s *series) fault(f *reports.Fault) {
	s.oneOf(evidence, string(f.Evidence.Verdict), []string{string(history.Confirmed), string(history.Mismatch), string(history.Inconclusive)}, f.Name, f.Kind)
	if f.Injected != nil && f.Recovered != nil {
		s.put(back, max(0, *f.Recovered-*f.Injected).Seconds(), f.Name)
	}
	r := f.Recovery
	if r == nil {
		return
	}
	s.time(outage, r.Outage.P50, f.Name, "50")
	s.time(outage, r.Outage.Max, f.Name, "100")
	s.put(dead, float64(r.KeysDead), f.Name)
	s.put(affected, float64(r.KeysAffected), f.Name)
	s.time(impact, r.Impact, f.Name)
	s.time(firstOK, r.FirstOK, f.Name)
	s.time(steady, r.Steady, f.Name)
	s.put(deficit, float64(r.GoodputDeficit), f.Name)
	s.number(faultLoss, r.LostAcks, f.Name)
	s.time(rpo, r.RPO, f.Name)
}
