package check

import (
	"encoding/binary"
	"math"
	"strings"
	"time"

	"statequake/history"
)

// Collector takes the operations of a run one by one and judges them together,
// in a bounded memory: beyond Options.Memory they wait on disk, by key, and are
// judged part by part. It is not safe for concurrent use.
type Collector struct {
	opt   Options
	forms forms
	disk  disk

	ops      store // by hash of the key: the operations, and those that they may cause
	ids      store // by hash: the hashes of all ids, 8 bytes each
	inMemory int64 // that ops and ids may take

	n          uint64 // operations added
	counts     counts
	entity     string // of the last operation added
	entityHash uint64

	calm time.Duration // the last instant at which an operation is known to have gone wrong

	keyBits     uint64 // what is used of the hashes of keys; all but in tests
	witnessOnly bool   // leave out what needs no witness; only to measure
}

// Rest is what Judge needs to know of a run beside its operations.
type Rest struct {
	Faults  []history.Fault
	Footer  *history.Footer // nil if the history is torn
	Skipped int             // unreadable last lines
}

// New returns a collector, which must be closed.
func New(opt Options) *Collector {
	opt = opt.withDefaults()
	return &Collector{
		opt: opt, inMemory: opt.Memory, disk: disk{dir: opt.Dir},
		calm: always, keyBits: math.MaxUint64,
	}
}

// Add takes an operation, in any order; if ids repeat, the first is judged. op
// may be used again afterwards. Add returns an error if what does not fit into
// memory cannot be written to disk.
func (c *Collector) Add(op *history.Op) error {
	seq := c.n
	c.n++
	c.counts[indexOf(phases[:], op.Phase)][indexOf(outcomes[:], op.Outcome)]++
	if op.Phase != history.Audit && op.Outcome != history.OK {
		c.calm = max(c.calm, op.Returned)
	}
	if op.Entity != c.entity || c.n == 1 {
		c.entity = strings.Clone(op.Entity)
		c.entityHash = hashEntity(c.entity)
	}
	hash := (c.entityHash + hashText(op.Key)) & c.keyBits
	p := partOf(hash)
	c.ops.keep(p, len(c.forms.pack(c.ops.reserve(p, maxRecord(op)), op, hash, seq)))
	c.putID(op.ID)
	c.addCaused(op, hash, seq)
	if c.ops.used+c.ids.used > c.inMemory {
		return c.spill()
	}
	return nil
}

// putID keeps an id, to find those that repeat.
func (c *Collector) putID(id string) {
	h := hashText(id)
	binary.LittleEndian.PutUint64(c.ids.add(partOf(h), 8), h)
}

func (c *Collector) spill() error {
	if err := c.ops.spill(&c.disk); err != nil {
		return err
	}
	return c.ids.spill(&c.disk)
}

// partOf is the part of a store for what has that hash.
func partOf(hash uint64) uint8 { return uint8(hash >> 56) }

// Judge returns what Run does. It is to be called once, after the last Add. It
// returns an error if the disk cannot be used.
func (c *Collector) Judge(rest Rest) ([]Result, error) {
	return newJudging(c, rest).results()
}

// Close gives back memory and disk.
func (c *Collector) Close() error {
	c.ops.release()
	c.ids.release()
	c.ops, c.ids, c.forms = store{}, store{}, forms{}
	return c.disk.close()
}
