// Package journal says what the runtime asks of its store: who owns which shard,
// each shard's journal, and the checkpoints of entities. Its subpackages are the
// drivers; journaltest holds them to this contract.
package journal

import (
	"context"
	"errors"
)

// Limits that every driver takes. What is larger may never be accepted.
const (
	MaxData = 11 << 17 // bytes of one group, checkpoint or head: 1.375 MiB
	MaxID   = 1024     // bytes of a checkpoint's type and key together
)

// Store is one node's handle on the store that all nodes of a cluster share.
// Its methods are safe for concurrent use.
//
// Every method acts at one instant between call and return, the same for all
// handles (it is linearizable), except where it says otherwise. After an error,
// the end of ctx included, a write has happened, has not, or still will: at an
// instant after the return. A write that carries an epoch does not happen after
// the epoch is over, however late it comes, and an epoch is over when a later
// claim or release of its shard has taken effect. An epoch is used only through
// the handle that claimed it.
//
// Shards are numbered from 0. Names of nodes and addresses are UTF-8 without
// NUL; the types and keys of checkpoints and all data are any bytes.
type Store interface {
	// View reads owners and members, all as of the same instant.
	View(ctx context.Context) (View, error)

	// Beat shows that node, whose API listens on addr (host:port), is alive and
	// reaches the store. It changes the member's Revision.
	Beat(ctx context.Context, node, addr string) error

	// WatchOwners sends on changed, without blocking, when an owner may have
	// changed, and returns when ctx ends. It is a hint to look: it may come
	// late, too often or not at all.
	WatchOwners(ctx context.Context, changed chan<- struct{})

	// Claim makes node the owner of shard if the owner's revision is still seen
	// (0: never owned) and returns the new revision, which is the epoch. It is
	// larger than all earlier ones of the shard. won is false if somebody else
	// was faster.
	Claim(ctx context.Context, shard int, seen int64, node string) (epoch int64, won bool, err error)

	// Release ends epoch and lets next serve at once; the caller has stopped
	// serving. If the epoch is over already nothing happens and there is no error.
	Release(ctx context.Context, shard int, epoch int64, node, next string) error

	// Append makes groups durable, each if its epoch is the current one of its
	// shard and its position is free; groups of different shards succeed and
	// fail separately, and need not become durable at the same instant. A call
	// holds one group per shard at most.
	//
	// Append tries again after errors that leave the fate open, until ctx ends.
	// A group is never written twice and never over another: what stands at its
	// position is compared with it byte for byte. So the data must differ from
	// what another epoch would write there, by naming the epoch for instance.
	//
	// With fenced false neither epoch nor position is compared: whatever stands
	// at the position is replaced.
	Append(ctx context.Context, groups []Append, fenced bool) []Fate

	// Tail reads where the journal of a shard starts (nil: never cut) and the
	// entries after that in the order of their positions, all as of one instant.
	Tail(ctx context.Context, shard int) (head []byte, entries [][]byte, err error)

	// Store writes checkpoints, each whole or not at all, in the place of older
	// ones. It returns ErrDeposed if epoch is over; then the later checkpoints
	// were not written. A call holds an entity at most once.
	Store(ctx context.Context, shard int, epoch int64, checkpoints []Checkpoint) error

	// Cut removes the entries up to and with seq, which are durable, and notes
	// head in their place, all at one instant. It returns ErrDeposed, and does
	// nothing, if epoch is over.
	Cut(ctx context.Context, shard int, epoch, seq int64, head []byte) error

	// Load reads the checkpoint of an entity, nil if there is none.
	Load(ctx context.Context, shard int, typ, key string) ([]byte, error)

	// Maintain gives space of what was removed or replaced back when enough has
	// gathered. Every node calls it about once per second.
	Maintain(ctx context.Context) error

	// Status tells what the handle knows, without asking anybody.
	Status() Status

	// Failed delivers the error with which the store stopped on its own. A
	// store that only cannot be reached has not failed.
	Failed() <-chan error

	// Close frees the handle; nothing may be called after it.
	Close()
}

// Owner is who owns a shard. While Released is false, Revision is the epoch of
// Node.
type Owner struct {
	Node     string
	Released bool   // Node has stopped serving; Next should take over
	Next     string // of a released shard
	Revision int64  // 0: never owned; grows with every claim and release
}

// Member is what a node tells of itself.
type Member struct {
	Addr     string // host:port of its API
	Revision int64  // changes with every beat, never 0
}

// View is a picture of owners and members. Shards that were never owned and
// nodes that never beat are not in it.
type View struct {
	Owners  map[int]Owner
	Members map[string]Member
}

// Append is one group on its way into the journal of a shard, where it becomes
// the entry at position Seq. Positions start at 1; what was cut is not used again.
type Append struct {
	Shard int
	Epoch int64
	Seq   int64
	Data  []byte
}

// Fate says what became of an Append.
type Fate int

const (
	Undecided Fate = iota // ctx ended first; it may or may not be durable, or still become so
	Durable               // it is durable
	Deposed               // the epoch is over, or another group stands there; it is durable only if the successor says so
)

// Checkpoint is the stored state of one entity of a shard, with the owner's encoding.
type Checkpoint struct {
	Type, Key string
	Data      []byte
}

// ErrDeposed: the epoch is over.
var ErrDeposed = errors.New("the epoch is over")

// Status is what a handle knows of its store.
type Status struct {
	Up     bool   // it can decide at present
	Leader string // node that leads it; "" if there is none at present, or if no node ever does
	Size   int64  // bytes on disk, as this node sees it
	Used   int64  // part of Size that is in use
}
