// Package compare says whether the runs of heads are worse than those of a base.
// It rests on their verdict.json files alone; charts read the histories, too.
//
// A violation of correctness is never a matter of statistics: one in a head
// decides. Speed is compared metric by metric: a confidence interval of how
// much worse head is, against a margin. What the runs cannot decide is called
// inconclusive, never no worse.
package compare
