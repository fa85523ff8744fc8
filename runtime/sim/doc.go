// Package sim runs whole clusters of the reference runtime, with their store,
// network, clocks, clients and faults, in one goroutine under a scheduler that
// draws everything from a seed: the same seed is the same run, byte for byte.
// The state machines are the real ones, of the packages ownership and core;
// what the package node does around them is written here again, as events.
//
// runtime/DESIGN.md says what is modelled and what is not.
package sim
