// Package differential holds the tests that compare the checkers that do not
// search with Porcupine, which does, on random small histories.
//
//	STATEQUAKE_HISTORIES=1000000 go test ./reports/check/differential -v
package differential
