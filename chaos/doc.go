// Package chaos disturbs a system under test on schedule and proves that it
// did.
//
// Faults are objects of the Chaos Mesh API, so that one can be copied out of a
// scenario and applied to a cluster, and the other way round; three kinds are
// our own (apiVersion statequake.dev/v1alpha1). docs/faults.md lists kinds and
// actions. What of them can be executed is a matter of Means: Local names what
// is executed here. A Nemesis does by itself, to processes:
//
//	PodChaos pod-kill      SIGKILL; SIGTERM first with gracePeriod (seconds)
//	PodChaos pod-failure   SIGKILL, and the node stays down for the duration
//	ProcessPause           SIGSTOP for the duration, then SIGCONT
//
// Everything else needs an Executor in Config.Executors. An Executor gets the
// fault as a Spec in plain units, the targets, and, for a NetworkChaos, the
// peers; it needs no types of Chaos Mesh.
//
// # Validation
//
// An object is judged as a cluster judges it, offline: its defaults are filled
// in, then come the rules of Chaos Mesh's admission webhook, then the schema
// (package crd), for each misses what another finds. Last come our own rules:
// no field without an effect.
//
// # Selectors
//
// labelSelectors and expressionSelectors select nodes by their labels at the
// instant of injection; namespaces are taken but say nothing, since local
// nodes are in none. Every node has statequake.dev/node; two more labels are
// looked up at that instant:
//
//	statequake.dev/owner-of   hottest, a key, or TYPE/KEY: the node that owns it
//	statequake.dev/role       such as store-leader or store-follower; minority or majority
//
// Minority and majority split all nodes in two by a draw per fault, so that the
// target of a NetworkChaos can be the complement of its selector.
//
// Which of the selected nodes a mode takes is drawn from the run's seed and the
// fault's name, in the order of the nodes' names. The counts are Chaos Mesh's:
// fixed takes at most as many as there are, percentages round down, and
// random-max-percent draws a percentage from 0 to value, both included. So
// fixed-percent 33 of 2 nodes is none.
//
// # Triggers
//
// A Trigger starts a fault at an instant, at one drawn from the seed, or at an
// event: acknowledgements, a file operation of a node, another fault. An event
// that does not come leaves inconclusive evidence behind, so that the run
// cannot pass for a test of that fault.
package chaos
