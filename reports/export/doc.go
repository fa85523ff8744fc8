// Package export writes a recorded run in the formats of other load testers, so
// that their reports and plots can be used on it. The formats are those of
// vegeta 12.13: vegeta report and vegeta plot read each of them.
package export
