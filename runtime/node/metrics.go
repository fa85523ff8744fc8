package node

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are what /metrics shows.
type metrics struct {
	registry       *prometheus.Registry
	commands       *prometheus.CounterVec
	forwarded      prometheus.Counter
	flush          prometheus.Histogram
	group          prometheus.Histogram
	takeovers      prometheus.Counter
	checkpoints    prometheus.Counter
	storeBytes     prometheus.Gauge
	storeUsedBytes prometheus.Gauge
	entities       prometheus.Gauge
	entityBytes    prometheus.Gauge
	timers         prometheus.Gauge
	fires          prometheus.Counter
}

func newMetrics(n *Node) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "statequake_commands_total", Help: "Commands answered by this node for its clients, by entity type and HTTP status.",
		}, []string{"type", "status"}),
		forwarded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "statequake_forwarded_total", Help: "Attempts to have a command executed by another node.",
		}),
		flush: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "statequake_flush_seconds", Help: "Time from closing a group to its being durable.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		group: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "statequake_flush_records", Help: "Records made durable by one flush.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
		takeovers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "statequake_takeovers_total", Help: "Shards that this node began to serve.",
		}),
		checkpoints: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "statequake_checkpoints_total", Help: "Times that the journal of a shard was cut off.",
		}),
		storeBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "statequake_store_bytes", Help: "Size of the store member's database file.",
		}),
		storeUsedBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "statequake_store_used_bytes", Help: "Part of the store member's database file that is in use.",
		}),
		entities: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "statequake_entities", Help: "Entities in memory, of the shards that this node serves.",
		}),
		entityBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "statequake_entity_bytes", Help: "What the entities in memory take, estimated from their snapshots and answers.",
		}),
		timers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "statequake_timers", Help: "Timers that are set, of the shards that this node serves.",
		}),
		fires: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "statequake_timer_fires_total", Help: "Attempts to send the command of a timer to another entity or an action.",
		}),
	}
	m.registry.MustRegister(now{n}, m.entities, m.entityBytes, m.timers, m.fires, m.commands, m.forwarded, m.flush, m.group, m.takeovers, m.checkpoints, m.storeBytes, m.storeUsedBytes,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// now are the metrics that are read when they are asked for.
type now struct{ n *Node }

var (
	inFlightDesc   = prometheus.NewDesc("statequake_in_flight_commands", "Commands of this node's clients that are not answered.", nil, nil)
	mailboxDesc    = prometheus.NewDesc("statequake_mailbox_commands", "Commands that wait for their entity to be loaded or to decide on others, of the shards that this node serves.", nil, nil)
	passivatedDesc = prometheus.NewDesc("statequake_passivations_total", "Entities that left this node's memory to make room.", nil, nil)
	epochDesc      = prometheus.NewDesc("statequake_shard_epoch", "Epoch of a shard that this node serves.", []string{"shard"}, nil)
	lagDesc        = prometheus.NewDesc("statequake_lag_records", "Records of a shard that this node serves, executed and not durable yet.", []string{"shard"}, nil)
	lagAgeDesc     = prometheus.NewDesc("statequake_lag_seconds", "Age of the oldest record of a shard that is not durable yet; 0 if all are.", []string{"shard"}, nil)
)

// Describe implements prometheus.Collector.
func (now) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{inFlightDesc, mailboxDesc, passivatedDesc, epochDesc, lagDesc, lagAgeDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c now) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	waiting := 0
	for _, s := range c.n.shards {
		s.mu.Lock()
		m := s.machine
		if m == nil {
			s.mu.Unlock()
			continue
		}
		waiting += m.Waiting()
		records, age := m.Lag(c.n.now())
		s.mu.Unlock()
		shard := strconv.Itoa(s.id)
		gauge(epochDesc, float64(m.Epoch()), shard)
		gauge(lagDesc, float64(records), shard)
		gauge(lagAgeDesc, age.Seconds(), shard)
	}
	gauge(mailboxDesc, float64(waiting))
	gauge(inFlightDesc, float64(c.n.inFlight.Load()))
	to <- prometheus.MustNewConstMetric(passivatedDesc, prometheus.CounterValue, float64(c.n.passivated.Load()))
}
