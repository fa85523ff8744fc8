package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// WitnessOp is the operation that answers {"ids": [...]}: the ids of all operations
// applied to the entity, in order.
const WitnessOp = "witness"

// Phase says why an operation was sent.
type Phase string

const (
	Warmup Phase = "warmup" // workload before measuring starts
	Load   Phase = "load"   // the measured workload
	Probe  Phase = "probe"  // the prober, which runs beside the workload
	Drain  Phase = "drain"  // after the load: is the system back
	Audit  Phase = "audit"  // reads every key back at the end
)

// Outcome is what is known about the effect of an operation.
type Outcome string

const (
	OK     Outcome = "ok"     // answered; business rejections too
	Fail   Outcome = "fail"   // certainly had no effect
	Info   Outcome = "info"   // may have had an effect, now or later
	Unsent Outcome = "unsent" // was due but never left the generator
)

// Op is one operation, from its due time to its outcome.
//
// Times count from the start of the run on the harness's monotonic clock.
type Op struct {
	ID     string          // unique in the run; carried in the header Statequake-Op
	N      int64           // number within its phase's sequence; (seed, N) fix entity, key, name and args
	Phase  Phase           //
	Client int             // connection or logical client that sent it
	Entity string          // entity type
	Key    string          // entity key
	Name   string          // operation, "op" on disk
	Args   json.RawMessage // JSON object, nil if none

	Scheduled time.Duration // when the arrival process wanted it sent
	Sent      time.Duration // before the first byte of the first attempt was written; 0 if unsent
	Returned  time.Duration // after the last byte was read; for info when the client gave up; 0 if unsent
	Attempts  int           // requests written or tried, deliberate duplicates included

	Outcome Outcome
	Result  json.RawMessage // JSON value, nil unless ok
	Version int64           // entity version told by the system; -1 if it told none
	Digest  string          // witness digest told by the system
	Epoch   int64           // ownership epoch told by the system; 0 if it told none
	Error   string          // why it is not ok
	Node    string          // node that executed it, where known
	Via     string          // node that was contacted last
}

// Latency is Returned - Scheduled: it includes the time the operation waited
// in the generator.
func (o *Op) Latency() time.Duration { return o.Returned - o.Scheduled }

// EventKind is a step in the life of a fault.
type EventKind string

const (
	Requested EventKind = "requested" // the harness asked for the fault
	Injected  EventKind = "injected"  // an observer saw it
	Evidence  EventKind = "evidence"  // the observer's verdict on it
	Recovered EventKind = "recovered" // an observer saw it gone
)

// Proof is the verdict on whether a fault happened.
type Proof string

const (
	Confirmed    Proof = "confirmed"
	Mismatch     Proof = "mismatch"
	Inconclusive Proof = "inconclusive"
)

// Fault is one event in the life of one fault.
type Fault struct {
	Name    string            `json:"name"`              // its name in the scenario, or by hand; unique in the run
	Kind    string            `json:"kind"`              // PodChaos, ProcessPause, ...
	Action  string            `json:"action,omitempty"`  // pod-kill, pod-failure, ...
	Event   EventKind         `json:"event"`             //
	At      time.Duration     `json:"at_ns"`             // since run start
	Targets []string          `json:"targets,omitempty"` // node names
	Roles   map[string]string `json:"roles,omitempty"`   // target -> its role at injection, e.g. store-leader, store-follower
	Proof   Proof             `json:"proof,omitempty"`   // evidence events only
	Detail  string            `json:"detail,omitempty"`  // in words, with figures
}

// Sample is one reading of the resources of a node or of the generator
// (Node "generator").
type Sample struct {
	At         time.Duration `json:"at_ns"`
	Node       string        `json:"node"`
	CPU        float64       `json:"cpu_s"`                // user+system seconds used since the process started
	RSS        int64         `json:"rss_bytes"`            //
	DiskBytes  int64         `json:"disk_bytes,omitempty"` // written to storage since the process started
	PID        int           `json:"pid,omitempty"`        // a change means that the process was started again
	LagP50     time.Duration `json:"lag_p50_ns,omitempty"` // generator only: send lag so far
	LagP99     time.Duration `json:"lag_p99_ns,omitempty"`
	LagMax     time.Duration `json:"lag_max_ns,omitempty"`
	StallMax   time.Duration `json:"stall_max_ns,omitempty"` // generator only: longest time that load or prober did not get to run so far
	Dispatched int64         `json:"dispatched,omitempty"`   // generator only: ops handed out so far

	// Generator only, since the sample before: how much of an operation's latency
	// may be the generator's own.
	OwnDelayP99 time.Duration `json:"own_delay_p99_ns,omitempty"`
	OwnDelayMax time.Duration `json:"own_delay_max_ns,omitempty"`
}

// Footer closes history.jsonl. A history without it is torn.
type Footer struct {
	Version   int              `json:"version"`           // of the format, 1
	Scheduled map[Phase]int64  `json:"scheduled"`         // warmup and load: operations due, computed from the arrival function and not by counting lines
	Counts    map[Phase]Counts `json:"counts"`            // lines written, by phase
	End       time.Duration    `json:"end_ns"`            // when recording ended
	Stopped   string           `json:"stopped,omitempty"` // why the load ended early, if it did
	Aborted   string           `json:"aborted,omitempty"` // which condition of the scenario's abort was met, if one was

	Thresholds []Threshold `json:"thresholds,omitempty"` // of the load's script, in its own order
}

// Threshold is a limit that the script of a load sets on a metric of its own, as
// the script's program found it.
type Threshold struct {
	Metric   string   `json:"metric"`             // such as statequake_op_duration{entity:cart}
	Limit    string   `json:"limit"`              // such as p(99)<250
	Measured *float64 `json:"measured,omitempty"` // in the unit of the metric; nil if it was not measured
	Crossed  bool     `json:"crossed"`
}

// Counts counts operations by outcome.
type Counts struct {
	OK     int64 `json:"ok"`
	Fail   int64 `json:"fail"`
	Info   int64 `json:"info"`
	Unsent int64 `json:"unsent"`
}

// Total is the number of operations counted.
func (c Counts) Total() int64 { return c.OK + c.Fail + c.Info + c.Unsent }

// Add counts one operation.
func (c *Counts) Add(o Outcome) {
	switch o {
	case OK:
		c.OK++
	case Fail:
		c.Fail++
	case Info:
		c.Info++
	case Unsent:
		c.Unsent++
	}
}

// String lists the counts by outcome.
func (c Counts) String() string {
	return fmt.Sprintf("%d ok, %d fail, %d info, %d unsent", c.OK, c.Fail, c.Info, c.Unsent)
}

// FooterOf returns the footer of a recording of these operations alone, in which
// nothing was due that they lack.
func FooterOf(ops []Op) *Footer {
	f := &Footer{Version: Version, Scheduled: map[Phase]int64{}, Counts: map[Phase]Counts{}}
	for i := range ops {
		op := &ops[i]
		c := f.Counts[op.Phase]
		c.Add(op.Outcome)
		f.Counts[op.Phase] = c
		if op.Phase == Warmup || op.Phase == Load {
			f.Scheduled[op.Phase] = c.Total()
		}
		f.End = max(f.End, op.Returned)
	}
	return f
}

// Identity checks that every operation that was due is recorded with exactly
// one outcome: for the phases warmup and load, scheduled = ok + fail + info +
// unsent. The error names each phase that does not agree, and both numbers.
func (f Footer) Identity() error {
	var problems []string
	for _, p := range []Phase{Warmup, Load} {
		if counts := f.Counts[p]; f.Scheduled[p] != counts.Total() {
			problems = append(problems, fmt.Sprintf("%s: %d operations scheduled, %d recorded (%v)",
				p, f.Scheduled[p], counts.Total(), counts))
		}
	}
	if problems != nil {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// check returns an error if o has a phase or outcome that the format lacks: a
// checker that knows neither would pass over it in silence.
func (o *Op) check() error {
	switch o.Phase {
	case Warmup, Load, Probe, Drain, Audit:
	default:
		return fmt.Errorf("phase: %q is not one of warmup, load, probe, drain, audit", o.Phase)
	}
	switch o.Outcome {
	case OK, Fail, Info, Unsent:
	default:
		return fmt.Errorf("outcome: %q is not one of ok, fail, info, unsent", o.Outcome)
	}
	return nil
}

// check returns an error if f is no event of a fault.
func (f *Fault) check() error {
	if f.Name == "" {
		return errors.New("name: missing")
	}
	switch f.Event {
	case Requested, Injected, Recovered:
		if f.Proof != "" {
			return fmt.Errorf("proof: not part of a %s event", f.Event)
		}
	case Evidence:
		switch f.Proof {
		case Confirmed, Mismatch, Inconclusive:
		default:
			return fmt.Errorf("proof: %q is not one of confirmed, mismatch, inconclusive", f.Proof)
		}
	default:
		return fmt.Errorf("event: %q is not one of requested, injected, evidence, recovered", f.Event)
	}
	return nil
}

// check returns an error if s is of no node or cannot be written.
func (s *Sample) check() error {
	if s.Node == "" {
		return errors.New("node: missing")
	}
	if math.IsNaN(s.CPU) || math.IsInf(s.CPU, 0) {
		return fmt.Errorf("cpu_s: %v is not a number", s.CPU)
	}
	return nil
}
