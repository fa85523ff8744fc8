// Package stress makes a machine short of CPU time or of memory.
//
// Workers are processes of their own: this program started again, which ends
// up in Main. The kernel kills them when this process ends of whatever, and
// what they use is not counted as this process's.
//
// Local nodes share one machine, so stress reaches all of them alike, whichever
// a selector names, and the load generator too. Workers inherit the priority of
// this process, and its cgroup with its limits.
//
// That workers use what they should is not taken from them: it is read from
// /proc, over a second at least.
package stress
