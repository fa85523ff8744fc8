// Package hand carries faults by hand to a running harness, over a Unix socket
// in its run directory.
//
// The socket is RUN_DIR/control.sock. Only the user that runs the harness, and
// root, can connect to it (mode 0600). It is there while faults are taken, and
// goes with the harness; one that a killed harness left behind refuses
// connections, and the next harness there replaces it.
//
// It speaks HTTP:
//
//	GET    /v1               Info, as JSON
//	POST   /v1/faults        an Order; injects it now, and answers with a stream of Lines until it is over
//	DELETE /v1/faults/NAME   heals a fault before its duration is over
//
// A fault lives no longer than the connection of its POST: when the client goes
// away, however it does, the fault is healed at once. What is refused is
// answered with 400 and Problems, and nothing has happened then.
package hand
