package node

import (
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

func newMetrics() *metrics {
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
	m.registry.MustRegister(m.entities, m.entityBytes, m.timers, m.fires, m.commands, m.forwarded, m.flush, m.group, m.takeovers, m.checkpoints, m.storeBytes, m.storeUsedBytes,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}
