// Package ownership decides which shards a node claims, serves and hands over,
// as a state machine: it does no I/O, starts no goroutine and reads no clock.
// The package node feeds it. It decides who tries; the fence of the store
// decides who owns, and nothing here has to be right for data to be safe except
// the times after which a claimed shard may be served.
package ownership
