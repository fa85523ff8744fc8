// Package script runs a k6 script as the load of a run.
//
// The script's process, statequake-k6, decides which operations are due and when.
// It hands each one to this process before it is sent, over a socket that it
// inherits; this process carries it out, records it, and answers with what came
// of it. So no operation is unknown to the record, whatever becomes of the script,
// and all of them take the same way to the system, faults of the network
// included.
//
// Both ends are here: Driver is that of the harness, Conn that of the script's
// process. Lines of JSON go both ways. A line of the script has at most MaxCall
// bytes, whatever texts it is made of.
package script
