// Package recovery measures, from the history of a run alone, how a system
// came back after each fault.
package recovery
