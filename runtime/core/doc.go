// Package core is one shard of the reference runtime as a state machine: it
// decides which command runs when, what must be stored before which reply, and
// how a successor picks up. It does no I/O, starts no goroutine and reads no
// clock; the package node feeds it. A Shard is not safe for concurrent use.
package core
