// Package history is what happened in a run: the operations, the fault events
// and the resource samples, and the run directory that holds them. A Writer,
// opened with Create, records them; ReadRun, LoadRun and ReadOps read them back.
//
// FORMAT.md defines every field on disk. The package imports nothing but the
// standard library and a Zstandard decoder, so that any tool can read a run.
package history
