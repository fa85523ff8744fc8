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

	// Of entities, timers and ownership.
	WallClockTimers      bool // timers follow the wall clock wherever it jumps
	DoubleActivation     bool // half of the callers of an entity find another activation of it
	ConcurrentCommands   bool // commands decide on a state without those that are under way
	RejectedStateKept    bool // what a rejected command had emitted is applied in memory
	TimerLost            bool // a shard begins without the timers of its journal and checkpoints
	TimerFiredTwice      bool // a timer of an entity fires again a little later, and nobody notices
	TransferHalfApplied  bool // no timer takes an action up again
	FailedCommandApplied bool // what waits long for its write is refused, and written nevertheless
	StaleHandover        bool // a node answers reads from what it has handed over
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
	"ack-before-journal": {Bugs{AckBeforeJournal: true}, "answers before the write is durable"},
	"no-fence":           {Bugs{NoFence: true}, "a deposed owner goes on serving and writing"},
	"double-apply":       {Bugs{DoubleApply: true}, "executes a command again that is retried"},
	"dirty-read":         {Bugs{DirtyRead: true}, "answers reads with what is not durable yet"},
	"no-fsync":           {Bugs{NoFsync: true}, "the store in the nodes does not wait for the disk"},
	"lease-not-checked":  {Bugs{LeaseNotChecked: true}, "an owner that cannot confirm its lease goes on serving"},

	"wall-clock-timers":      {Bugs{WallClockTimers: true}, "timers follow the wall clock wherever it jumps"},
	"double-activation":      {Bugs{DoubleActivation: true}, "has two activations of one entity at once"},
	"concurrent-commands":    {Bugs{ConcurrentCommands: true}, "lets commands of one entity decide at the same time"},
	"rejected-state-kept":    {Bugs{RejectedStateKept: true}, "keeps in memory what a rejected command had changed"},
	"timer-lost":             {Bugs{TimerLost: true}, "forgets timers when a node fails"},
	"timer-fired-twice":      {Bugs{TimerFiredTwice: true}, "lets a timer fire again"},
	"transfer-half-applied":  {Bugs{TransferHalfApplied: true}, "completes no transfer whose node has died"},
	"failed-command-applied": {Bugs{FailedCommandApplied: true}, "applies commands that it has answered with a failure"},
	"stale-handover":         {Bugs{StaleHandover: true}, "goes on answering reads from what it has handed over"},
	"deleted-resurrected":    {Bugs{DeletedResurrected: true}, "brings deleted entities back when a node fails"},
}

// BugNames are the names in Planted, sorted.
func BugNames() []string { return slices.Sorted(maps.Keys(Planted)) }
