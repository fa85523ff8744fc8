package scenarios

import (
	"encoding/json"
	"time"

	"statequake/chaos"
	"statequake/fixtures/custom"
)

// Scenario is one parsed and valid scenario with every default filled in.
type Scenario struct {
	Name    string            // lower-case letters, digits and dashes
	Claim   string            // what the scenario sets out to show, from its leading "# Claim:" comment; may be empty
	Seed    int64             // fixes operations and fault times, not interleavings
	System  System            //
	Load    Load              //
	Probe   Probe             //
	Record  Record            //
	Faults  []Fault           // in the order of the file
	Abort   Abort             //
	Expect  map[string]string // expectation -> limit, as written
	Reveals string            // the kind of violation that must be found while the planted bug is on; empty if none is claimed
}

// System is the system under test.
type System struct {
	Name         string        // "reference", or the name of one's own
	Version      string        // of one's own system, as written; may be empty
	Nodes        int           // 1 to 9
	Store        string        // reference runtime only, else empty: "etcd" in the nodes, or "postgres", a server beside them
	Ack          string        // "durable" or "memory": the contract it is judged by
	Window       time.Duration // ack memory only, else 0: how long an acknowledged write may stay volatile
	RestartDelay time.Duration // from a node's death to its next start
	StoreDelay   time.Duration // added to every write to the store, to widen windows; 0 adds none
	Shards       int           // groups of entities that move between nodes together
	MaxMemory    int64         // bytes that entities may take in a node, so that idle ones leave memory; 0: as many as a node takes by itself
	Bug          string        // planted bug; empty for the correct system
	Network      string        // what joins nodes and clients in a run with a NetworkChaos, else empty: "streams" or "packets"

	Own *custom.System // how to run or reach one's own system; nil for the reference runtime
}

// Load is the traffic.
type Load struct {
	Workload Workload
	Driver   string        // "http", "vegeta" or "k6"
	Script   Script        // driver k6 only
	Route    string        // "spread" over all nodes, or "owner"
	Arrivals Arrivals      // none with the driver k6 if the scenario has none
	Warmup   time.Duration // runs before the load and is not measured
	Duration time.Duration // of the measured load, the warmup not included
	Timeout  time.Duration // of one operation over all its attempts; longer than any pause
	MaxConns int           // connections over all nodes
	Retry    Retry
}

// Script is the k6 script that is the load.
type Script struct {
	Path   string // absolute
	Binary string // statequake-k6, absolute; "" if it is to be looked for
}

// Workload says which operations are sent to which keys.
type Workload struct {
	Name string         // one of loadgen.WorkloadNames
	Keys int            // number of live keys
	Mix  map[string]int // operation -> weight; nil if the clients are on journeys

	Zipf            float64 // exponent of the popularity of keys; 0 is uniform
	Latest          bool    // by their age, the newest first; else by their number
	HotKeys, HotOps Percent // share of the keys that takes a share of the operations, instead of Zipf; 0: none

	ValuesFrom, ValuesTo int // bytes of a value that is written, uniform, both included; 0: as short as it can be
	Sessions             int // clients that the operations belong to, each of which sends one after the other; 0: none

	Retire int // writes that a key takes at most before another takes its place
}

// Retry says how often one operation is sent.
type Retry struct {
	Max       int     // further attempts after the first, under the same operation id
	Duplicate Percent // of the operations are sent twice on purpose
}

// Percent is a share in hundredths, 0 to 100.
type Percent float64

// Share returns p as a fraction of one.
func (p Percent) Share() float64 { return float64(p) / 100 }

// Probe is the prober that runs beside the load for the whole run, so that
// outages are seen whatever the traffic.
type Probe struct {
	Every time.Duration // between two probes of one key
	Keys  int           // number of probe keys
}

// Record says how the run is recorded.
type Record struct {
	Compress bool // history.jsonl.zst instead of history.jsonl
}

// Fault is one fault of the schedule.
type Fault struct {
	Name    string          // unique in the scenario
	Trigger chaos.Trigger   // instants count from the start of the measured load, that is from the end of the warmup
	Chaos   json.RawMessage // the object as written: {"kind": ..., "spec": ...}
	Plan    *chaos.Fault    // the whole fault, parsed
}
