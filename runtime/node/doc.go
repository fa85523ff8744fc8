// Package node runs shards: it claims them, feeds their state machines, makes
// their groups durable, answers and forwards commands over HTTP. runtime/DESIGN.md says
// why the steps come in the order in which they do.
package node
