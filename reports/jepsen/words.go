package jepsen

import (
	"fmt"
	"sort"
	"time"
)

// find returns the operation of the key with its values.
func (k *key) find(op *Op) *keyOp {
	i := sort.Search(len(k.ops), func(i int) bool { return k.ops[i].Call >= op.Call })
	return &k.ops[i]
}

// resultOf is what an operation completed with, without its key.
func (k *key) resultOf(op *Op) string { return string(k.find(op).answer()) }

// describe names an operation by its function, what it was invoked with, and
// its line.
func (k *key) describe(op *Op) string {
	if op.F == "read" {
		return fmt.Sprintf(":read (line %d)", op.Line)
	}
	return fmt.Sprintf(":%s %s (line %d)", op.F, brief(k.find(op).argument()), op.Line)
}

// answered tells what an operation was answered with.
func (k *key) answered(op *Op) string {
	return fmt.Sprintf("%s was answered %s with %s", k.describe(op), returned(op), brief([]byte(k.resultOf(op))))
}

// called says when an operation was invoked: by the history's time, or by the
// line.
func called(op *Op) string { return when(op.Called, op.Line) }

// returned says when an operation completed.
func returned(op *Op) string { return when(op.Returned, op.DoneLine) }

func when(t time.Duration, line int) string {
	if t < 0 {
		return fmt.Sprintf("in line %d", line)
	}
	return fmt.Sprintf("at %.3f s", t.Seconds())
}
