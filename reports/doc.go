// Package reports turns a run directory into a verdict and shows it: on the
// terminal, and as verdict.json, report.md, junit.xml and results.bench.
//
// It reads the run directory only, so an old run can be judged again at any
// time, with the same result.
package reports
