// Package scenarios is the plan of a run: one claim about a system, the load
// and the faults that test it, and what is expected, written in YAML.
//
// A scenario is data only. It is parsed strictly: unknown fields, duplicate
// keys and contradictions are errors with file and line, all reported
// together.
package scenarios
