// Package stats measures how fast a run was: latencies, throughput, and what
// the nodes and the load generator used, with the generator's verdict on
// itself.
package stats
