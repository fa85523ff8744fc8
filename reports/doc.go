// Package reports turns a run directory into a verdict and shows it: on the
// terminal, and as verdict.json, report.html, report.md, junit.xml,
// results.bench and static pictures in plots.
//
// It reads the run directory only, so an old run can be judged again at any
// time, with the same result.
package reports
