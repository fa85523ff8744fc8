package k6

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.k6.io/k6/errext"
	"go.k6.io/k6/errext/exitcodes"
	"go.k6.io/k6/lib"
	"go.k6.io/k6/metrics"
	"go.k6.io/k6/output"

	"statequake/history"
	"statequake/loadgen/script"
)

const sampleEvery = time.Second

// out is the output statequake: it counts what k6 drops, samples this process,
// and ends the record.
type out struct {
	s      *session
	params output.Params
	dir    string // "" with a harness
	ack    string
	window time.Duration
	conn   *script.Conn // nil without a harness

	thresholds []*limit
	done       chan struct{}
	sampling   sync.WaitGroup
}

// newOutput reads the argument of --out statequake=DIR[,ack=memory][,window=500ms].
func newOutput(s *session, p output.Params) (output.Output, error) {
	o := &out{s: s, params: p, ack: "durable", done: make(chan struct{})}
	var err error
	if o.conn, err = s.conn(); err != nil {
		return nil, err
	}
	parts := strings.Split(p.ConfigArgument, ",")
	o.dir = parts[0]
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		switch {
		case name == "ack" && (value == "durable" || value == "memory"):
			o.ack = value
		case name == "window":
			if o.window, err = time.ParseDuration(value); err != nil || o.window <= 0 {
				return nil, fmt.Errorf("window: %q is not a duration above 0", value)
			}
		default:
			return nil, fmt.Errorf("%q: have ack=durable, ack=memory, window=DURATION", part)
		}
	}
	switch {
	case o.conn != nil && p.ConfigArgument != "":
		return nil, errors.New("the scenario that started this script records it; --out statequake takes no directory then")
	case o.conn == nil && o.dir == "":
		return nil, errors.New("a directory is missing\nhint: --out statequake=DIR, new or empty")
	case o.window > 0 && o.ack != "memory":
		return nil, errors.New("window: contradicts ack=durable, under which nothing acknowledged is volatile")
	case o.ack == "memory" && o.window == 0:
		o.window = 500 * time.Millisecond
	}
	return o, nil
}

// Description is output.Output's.
func (o *out) Description() string {
	if o.conn != nil {
		return "statequake (recorded by the harness)"
	}
	return "statequake (" + o.dir + ")"
}

// SetThresholds is output.WithThresholds's. The pointers are those that k6 itself
// evaluates.
func (o *out) SetThresholds(all map[string]metrics.Thresholds) {
	for metric, of := range all {
		for _, t := range of.Thresholds {
			o.thresholds = append(o.thresholds, newLimit(metric, t))
		}
	}
	slices.SortFunc(o.thresholds, func(a, b *limit) int {
		return cmp.Or(strings.Compare(a.metric, b.metric), strings.Compare(a.threshold.Source, b.threshold.Source))
	})
}

// Start is output.Output's.
func (o *out) Start() error {
	if o.conn == nil {
		planned, _ := lib.GetEndOffset(o.params.ExecutionPlan)
		r, err := newRecorder(o.s, recordConfig{
			dir: o.dir, ack: o.ack, window: o.window, script: o.scriptPath(), planned: planned, log: o.params.Logger,
		})
		if err != nil {
			return err
		}
		o.s.mu.Lock()
		o.s.record = r
		o.s.mu.Unlock()
	}
	o.sampling.Go(o.sample)
	return nil
}

func (o *out) scriptPath() string {
	if u := o.params.ScriptPath; u != nil && (u.Scheme == "file" || u.Scheme == "") {
		return filepath.FromSlash(u.Path)
	}
	return ""
}

// sample samples this process every second, and once more at the end.
func (o *out) sample() {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-o.done:
			ended = true
		}
		s := o.s.own.Sample()
		if o.conn != nil {
			_ = o.conn.Report(s) // a harness that is gone ends this process
		} else if r := o.s.recorder(); r != nil {
			r.sample(s)
		}
	}
}

// AddMetricSamples is output.Output's.
func (o *out) AddMetricSamples(containers []metrics.SampleContainer) {
	for _, container := range containers {
		for _, sample := range container.GetSamples() {
			if sample.Metric.Name == metrics.DroppedIterationsName {
				o.dropped(&sample)
			}
			for _, l := range o.thresholds {
				l.add(sample)
			}
		}
	}
}

// dropped reports iterations that k6 did not start: as one operation each, since
// nobody knows how many there would have been.
func (o *out) dropped(sample *metrics.Sample) {
	scenario, ok := sample.Tags.Get("scenario")
	if !ok || scenario == "" {
		scenario = "default"
	}
	due := max(o.s.now()-time.Since(sample.Time), 0)
	for range int64(sample.Value) {
		o.s.unsent(script.Call{
			Entity: unsentEntity, Key: scenario, Op: "iteration", Due: due,
			Unsent: "k6 dropped the iteration, since no virtual user was free",
		})
	}
}

// Stop is output.Output's; k6 calls StopWithTestError.
func (o *out) Stop() error { return o.StopWithTestError(nil) }

// StopWithTestError ends the record. err is what the test ended with.
func (o *out) StopWithTestError(err error) error {
	o.s.stop()
	close(o.done)
	o.sampling.Wait()
	o.s.own.End()
	var found []history.Threshold
	for _, l := range o.thresholds {
		found = append(found, l.found(o.s.now()))
	}
	if o.conn != nil {
		return o.conn.End(found)
	}
	r := o.s.recorder()
	if r == nil { // it was not started
		return nil
	}
	stopped := ""
	var coded errext.HasExitCode
	if err != nil && !(errors.As(err, &coded) && coded.ExitCode() == exitcodes.ThresholdsHaveFailed) {
		stopped = err.Error()
	}
	return r.close(stopped, found)
}

// limit is one threshold, with what it takes to say what was measured.
type limit struct {
	metric    string
	name      string   // without tags
	tags      []string // "entity:cart", all of which a sample must have
	threshold *metrics.Threshold
	sink      metrics.Sink // nil before the first sample
}

func newLimit(metric string, t *metrics.Threshold) *limit {
	l := &limit{metric: metric, threshold: t}
	var err error
	if l.name, l.tags, err = metrics.ParseMetricName(metric); err != nil {
		l.name = "" // k6 has refused it
	}
	return l
}

func (l *limit) add(s metrics.Sample) {
	if s.Metric.Name != l.name {
		return
	}
	for _, tag := range l.tags {
		name, value, _ := strings.Cut(tag, ":")
		if got, _ := s.Tags.Get(name); got != value {
			return
		}
	}
	if l.sink == nil {
		l.sink = metrics.NewSink(s.Metric.Type)
	}
	l.sink.Add(s)
}

// found is what k6 found, after it has evaluated the threshold for the last
// time.
func (l *limit) found(elapsed time.Duration) history.Threshold {
	t := history.Threshold{Metric: l.metric, Limit: l.threshold.Source, Crossed: l.threshold.LastFailed}
	method, _, _ := strings.Cut(l.threshold.Source, "<")
	for _, operator := range []string{">", "=", "!"} {
		method, _, _ = strings.Cut(method, operator)
	}
	method = strings.TrimSpace(method)
	if l.sink == nil {
		if method == "count" {
			t.Measured = new(float64) // of nothing
		}
		return t
	}
	value, ok := l.sink.Format(elapsed)[method]
	if trend, isTrend := l.sink.(*metrics.TrendSink); isTrend {
		if percent, isPercent := strings.CutPrefix(method, "p("); isPercent {
			p, err := strconv.ParseFloat(strings.TrimSuffix(percent, ")"), 64)
			value, ok = trend.P(p/100), err == nil
		}
	}
	if ok && !math.IsNaN(value) && !math.IsInf(value, 0) {
		t.Measured = &value
	}
	return t
}
