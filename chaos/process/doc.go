// Package process injects faults into local processes: it kills them, keeps
// them down, and stops them for a while.
//
// Every fault is confirmed by an observer that does not take the injector's
// word for it: it reads /proc and talks to the node's API. A process is told
// from a later one with the same pid by its start time.
package process
