// Package loadgen sends a workload to a system under test on a schedule that
// the system cannot slow down, and hands over every operation with its outcome.
//
// Three drivers share one way of sending: the Generator (the workload, open or
// closed loop), the Prober (a steady touch of a few keys) and Audit (reads every
// key back at the end). An operation that became due is always handed over
// exactly once, whatever the system does: ok, fail, info or unsent.
package loadgen
