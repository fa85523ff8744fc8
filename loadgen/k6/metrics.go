package k6

import (
	"context"
	"errors"
	"time"

	"go.k6.io/k6/js/modules"
	"go.k6.io/k6/metrics"

	"statequake/history"
)

// measures are the metrics of this extension.
type measures struct {
	duration, lag           *metrics.Metric
	ops, fail, info, unsent *metrics.Metric
}

func newMeasures(r *metrics.Registry) (*measures, error) {
	m := &measures{}
	var errs []error
	add := func(to **metrics.Metric, name string, typ metrics.MetricType, value ...metrics.ValueType) {
		var err error
		*to, err = r.NewMetric(name, typ, value...)
		errs = append(errs, err)
	}
	add(&m.duration, "statequake_op_duration", metrics.Trend, metrics.Time)
	add(&m.lag, "statequake_send_lag", metrics.Trend, metrics.Time)
	add(&m.ops, "statequake_ops", metrics.Counter)
	add(&m.fail, "statequake_fail", metrics.Counter)
	add(&m.info, "statequake_info", metrics.Counter)
	add(&m.unsent, "statequake_unsent", metrics.Counter)
	return m, errors.Join(errs...)
}

// complete emits the samples of a complete operation, slot its slot if it has one.
func (m *measures) complete(ctx context.Context, vu modules.VU, op *history.Op, slot *Slot) {
	state := vu.State()
	now := time.Now()
	current := state.Tags.GetCurrentValues()
	tags := current.Tags.With("entity", op.Entity).With("command", op.Name).With("outcome", string(op.Outcome))
	var samples []metrics.Sample
	add := func(metric *metrics.Metric, value float64) {
		samples = append(samples, metrics.Sample{
			TimeSeries: metrics.TimeSeries{Metric: metric, Tags: tags}, Time: now, Metadata: current.Metadata, Value: value,
		})
	}
	add(m.ops, 1)
	if op.Outcome != history.Unsent {
		add(m.duration, ms(op.Latency()))
	}
	if metric := map[history.Outcome]*metrics.Metric{history.Fail: m.fail, history.Info: m.info, history.Unsent: m.unsent}[op.Outcome]; metric != nil {
		add(metric, 1)
	}
	if slot != nil {
		add(m.lag, slot.Lag)
	}
	metrics.PushIfNotDone(ctx, state.Samples, metrics.ConnectedSamples{Samples: samples, Tags: tags, Time: now})
}

// expired emits the samples of an operation that a pacer gave up.
func (m *measures) expired(ctx context.Context, vu modules.VU) {
	m.complete(ctx, vu, &history.Op{Entity: unsentEntity, Name: "next", Outcome: history.Unsent}, nil)
}
