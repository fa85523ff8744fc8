package core

import (
	"maps"
	"slices"
)

// Bugs are faults of the runtime that can be switched on to prove that a
// checker finds them. Each one takes away all protection against one hazard.
type Bugs struct {
	// Of the journal: what is acknowledged, and what comes back after a failure.
	AckBeforeJournal bool // replies leave before their group is durable
	NoFence          bool // the owner keeps serving and appending whatever its epoch
	DoubleApply      bool // a retried command is executed again
	DirtyRead        bool // reads of not yet durable state are not held back
	NoFsync          bool // the store calls durable what is not synced to disk; etcd only
	LeaseNotChecked  bool // the lease goes on while the store does not answer whether it may
	TailDropped      bool // recovery takes the last group of the journal for one that was not written whole
	DedupeLost       bool // what was answered before a recovery is not known after it
	ReorderedGroup   bool // the records of a group are written in another order than they took effect
	SplitGroup       bool // every other record of a group is written with the next one, and answered with its own
	BatchDropped     bool // now and then a flush leaves out the group of one shard and calls it durable
	SnapshotOffByOne bool // the first record after a checkpoint is taken to be in it
	CheckpointAhead  bool // a checkpoint names the position that the shard has reached when it is written, not that of its state
	VersionReset     bool // versions count from when the entity was loaded from its checkpoint
	ShutdownLoss     bool // a shard that is given up answers what it holds and does not flush it
	WindowExceeded   bool // acknowledges from memory, however old the oldest record that is not durable

	// Of entities, timers and ownership.
	WallClockTimers      bool // timers follow the wall clock wherever it jumps
	DoubleActivation     bool // half of the callers of an entity find another activation of it
	ConcurrentCommands   bool // commands decide on a state without those that are under way
	RejectedStateKept    bool // what a rejected command had emitted is applied in memory
	TimerLost            bool // a shard begins without the timers of its journal and checkpoints
	TimerFiredTwice      bool // a timer of an entity fires again a little later, and nobody notices
	TransferHalfApplied  bool // no timer takes an action up again
	FailedCommandApplied bool // what waits long for its write is refused, and written nevertheless
	StaleForward         bool // a node answers reads for what has moved from its memory
	DeletedResurrected   bool // the journal does not have that an entity was deleted
}

// Plant is one bug that can be planted alone.
type Plant struct {
	Bugs Bugs
	Does string // what it does, as the end of a sentence about the runtime
}

// Planted are the bugs by name. The name of each stands here alone: everything
// that lists bugs asks for it.
var Planted = map[string]Plant{
	"ack-before-journal":  {Bugs{AckBeforeJournal: true}, "answers before the write is durable"},
	"no-fence":            {Bugs{NoFence: true}, "a deposed owner goes on serving and writing"},
	"double-apply":        {Bugs{DoubleApply: true}, "executes a command again that is retried"},
	"dirty-read":          {Bugs{DirtyRead: true}, "answers reads with what is not durable yet"},
	"no-fsync":            {Bugs{NoFsync: true}, "the store in the nodes does not wait for the disk"},
	"lease-not-checked":   {Bugs{LeaseNotChecked: true}, "an owner that cannot confirm its lease goes on serving"},
	"tail-dropped":        {Bugs{TailDropped: true}, "recovery drops the last group of the journal"},
	"dedupe-lost":         {Bugs{DedupeLost: true}, "a new owner does not know which operations were answered before it"},
	"reordered-group":     {Bugs{ReorderedGroup: true}, "writes the operations of a group to the journal in another order"},
	"split-group":         {Bugs{SplitGroup: true}, "writes a group in two transactions and answers after the first"},
	"batch-dropped":       {Bugs{BatchDropped: true}, "leaves one shard's group out of a flush and answers all the same"},
	"snapshot-off-by-one": {Bugs{SnapshotOffByOne: true}, "skips the first record after a snapshot"},
	"checkpoint-ahead":    {Bugs{CheckpointAhead: true}, "a checkpoint says that it covers more of the journal than it does"},
	"version-reset":       {Bugs{VersionReset: true}, "counts versions from 0 again after an entity had left memory"},
	"shutdown-loss":       {Bugs{ShutdownLoss: true}, "a graceful shutdown answers what it holds and skips the last flush"},
	"window-exceeded":     {Bugs{WindowExceeded: true}, "acknowledges from memory beyond the window"},

	"wall-clock-timers":      {Bugs{WallClockTimers: true}, "timers follow the wall clock wherever it jumps"},
	"double-activation":      {Bugs{DoubleActivation: true}, "has two activations of one entity at once"},
	"concurrent-commands":    {Bugs{ConcurrentCommands: true}, "lets commands of one entity decide at the same time"},
	"rejected-state-kept":    {Bugs{RejectedStateKept: true}, "keeps in memory what a rejected command had changed"},
	"timer-lost":             {Bugs{TimerLost: true}, "forgets timers when a node fails"},
	"timer-fired-twice":      {Bugs{TimerFiredTwice: true}, "lets a timer fire again"},
	"transfer-half-applied":  {Bugs{TransferHalfApplied: true}, "completes no transfer whose node has died"},
	"failed-command-applied": {Bugs{FailedCommandApplied: true}, "applies commands that it has answered with a failure"},
	"stale-forward":          {Bugs{StaleForward: true}, "answers reads for entities that have moved, instead of forwarding them"},
	"deleted-resurrected":    {Bugs{DeletedResurrected: true}, "brings deleted entities back when a node fails"},
}

// BatchDroppedEvery is which flushes of a node leave a group out while
// BatchDropped is on.
const BatchDroppedEvery = 5

// BugNames are the names in Planted, sorted.
func BugNames() []string { return slices.Sorted(maps.Keys(Planted)) }

// backwards returns records in the opposite order, at the positions that they
// have together.
func backwards(records []Record) []Record {
	turned := slices.Clone(records)
	slices.Reverse(turned)
	for i := range turned {
		turned[i].Pos = records[i].Pos
	}
	return turned
}

// split writes each group in two parts: every other record of it goes with the
// next group.
type split struct {
	half []Record // still to be written
	pos  int64    // of the last record written
}

// write returns what is left of the group before and the first part of this
// one, at the positions that follow.
func (s *split) write(group []Record) []Record {
	written := s.half
	s.half = nil
	for i, r := range group {
		if i%2 == 0 {
			written = append(written, r)
		} else {
			s.half = append(s.half, r)
		}
	}
	for i := range written {
		s.pos++
		written[i].Pos = s.pos
	}
	return written
}
