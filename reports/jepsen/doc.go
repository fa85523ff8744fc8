// Package jepsen speaks the histories of Jepsen: it reads, judges and writes
// them.
//
// A history is what Jepsen leaves in history.edn, or the operation lines of its
// log. An operation is invoked and completes: ok, fail (certainly no effect) or
// info (of unknown outcome, open for ever). The order of the history is the
// order of time; the field :time is for the reader's eye.
package jepsen
