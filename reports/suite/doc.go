// Package suite sums up the runs of a suite from their directories.
//
// The directory of a suite holds plan.json, which says what was to be run, the
// scenarios as they are run, and the directories of the runs. Everything else
// in it is made from these: suite.json, summary.html, summary.md and junit.xml.
package suite
