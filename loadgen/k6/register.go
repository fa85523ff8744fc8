// Package k6 lets k6 scripts send operations that statequake judges.
//
// It is an extension of k6: the module k6/x/statequake and the output statequake.
// k6 is AGPL-3.0; this package and the program statequake-k6 are a Go module of
// their own, and nothing of statequake imports it.
package k6

import (
	"go.k6.io/k6/js/modules"
	"go.k6.io/k6/output"
)

func init() {
	s := newSession()
	modules.Register("k6/x/statequake", &RootModule{s})
	output.RegisterExtension("statequake", func(p output.Params) (output.Output, error) { return newOutput(s, p) })
}
