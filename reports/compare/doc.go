// Package compare says whether the runs of a head are worse than those of a
// base, from their verdict.json files alone.
//
// A violation of correctness is never a matter of statistics: one in head
// decides. Speed is compared metric by metric: a confidence interval of how
// much worse head is, against a margin. What the runs cannot decide is called
// inconclusive, never no worse.
package compare
