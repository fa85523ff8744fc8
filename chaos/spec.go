package chaos

import (
	"syscall"
	"time"
)

// Spec is what a fault does to its targets, in plain units: durations, shares
// from 0 to 1, bytes. It is one of Kill, Fail, Pause, Network, IO, Stress,
// Clock, Power and Full.
type Spec interface{ spec() }

// Kill ends the node's process (PodChaos pod-kill).
type Kill struct {
	Grace time.Duration // from SIGTERM to SIGKILL; 0 for SIGKILL at once
}

// Fail ends the node's process and keeps it down (PodChaos pod-failure).
type Fail struct{}

// Pause stops the node's process (ProcessPause).
type Pause struct{}

// Network disturbs what passes between the targets and their peers
// (NetworkChaos). Exactly one of the pointers is set, but for netem.
type Network struct {
	Direction string // to: from the targets to the peers; from: the other way; both
	Partition *Partition
	Delay     *Delay
	Loss      *Random
	Duplicate *Random
	Corrupt   *Random
	Bandwidth *Bandwidth
}

// Partition lets nothing pass.
type Partition struct {
	Reject bool // who sends is reset or refused, where a partition is silent otherwise; on streams only
}

// Delay holds packets back for Latency, give or take Jitter.
type Delay struct {
	Latency, Jitter time.Duration
	Correlation     float64 // of a packet's jitter with that of the packet before
	Reorder         *Reorder
}

// Reorder sends a share of the packets at once, each Gap-th one drawn.
type Reorder struct {
	Share, Correlation float64
	Gap                int // 0 means 1
}

// Random happens to a share of the packets.
type Random struct {
	Share       float64
	Correlation float64 // with what happened to the packet before
}

// Bandwidth is a token bucket.
type Bandwidth struct {
	BytesPerS int64
	Limit     int64 // bytes that may wait
	Buffer    int64 // size of the bucket in bytes
}

// IO disturbs operations on the files of the node's data directory (IOChaos).
// One of Latency, Errno, Mistake and Attr is set.
type IO struct {
	Path    string   // glob, relative to the data directory; "" for all files
	Methods []string // such as read, write, fsync; none for all
	Share   float64  // of the operations

	Latency time.Duration
	Errno   syscall.Errno
	Mistake *Mistake
	Attr    *Attr
}

// Mistake overwrites parts of what is read or written.
type Mistake struct {
	Random         bool  // fill with random bytes, not with zeros
	MaxOccurrences int64 // parts per operation: 1 to this
	MaxLength      int64 // bytes per part: 1 to this
}

// Attr replaces attributes of files; nil leaves one as it is.
type Attr struct {
	Ino, Size, Blocks     *uint64
	Atime, Mtime, Ctime   *time.Time
	Kind                  string // such as regularFile; "" leaves it
	Perm                  *uint16
	Nlink, UID, GID, Rdev *uint32
}

// Stress takes CPU time, memory, or both from the nodes (StressChaos).
type Stress struct {
	CPU    *CPUStress
	Memory *MemoryStress
}

// CPUStress is Workers that each use the share Load of one CPU.
type CPUStress struct {
	Workers int
	Load    float64
}

// MemoryStress is Workers that each hold Bytes, or Share of the memory if that
// is not 0.
type MemoryStress struct {
	Workers int
	Bytes   int64
	Share   float64
}

// Clock moves what the node reads from some clocks (TimeChaos).
type Clock struct {
	Offset time.Duration
	Clocks []string // such as CLOCK_REALTIME
}

// Power is a loss of power: the node's process ends and its disk forgets what
// was not synced (PowerLoss).
type Power struct {
	Strict bool    // a directory entry survives only if its directory was synced, not after any sync
	Torn   float64 // share of the pages not synced that reach the disk all the same
}

// Full leaves the node's disk with that many bytes (DiskFull).
type Full struct{ Free int64 }

func (Kill) spec()    {}
func (Fail) spec()    {}
func (Pause) spec()   {}
func (Network) spec() {}
func (IO) spec()      {}
func (Stress) spec()  {}
func (Clock) spec()   {}
func (Power) spec()   {}
func (Full) spec()    {}
