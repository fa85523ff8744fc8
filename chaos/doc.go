// Package chaos disturbs a system under test on schedule and proves that it
// did.
//
// Faults are objects of the Chaos Mesh API, so that one can be copied out of a
// scenario and applied to a cluster, and the other way round. On local
// processes these run:
//
//	PodChaos pod-kill      SIGKILL; SIGTERM first with gracePeriod (seconds)
//	PodChaos pod-failure   SIGKILL, and the node stays down for the duration
//	ProcessPause           SIGSTOP for the duration, then SIGCONT
//
// ProcessPause is not of Chaos Mesh (apiVersion statequake.dev/v1alpha1); its
// spec has mode, value, selector and duration, as PodChaos has.
//
// # Selectors
//
// labelSelectors and expressionSelectors select nodes by their labels at the
// instant of injection; namespaces are taken but say nothing, since local
// nodes are in none. Every node has statequake.dev/node; two more labels are
// looked up at that instant:
//
//	statequake.dev/owner-of   hottest, a key, or TYPE/KEY: the node that owns it
//	statequake.dev/role       such as store-leader or store-follower
//
// Which of the selected nodes a mode takes is drawn from the run's seed and the
// fault's name, in the order of the nodes' names. The counts are Chaos Mesh's:
// fixed takes at most as many as there are, percentages round down, and
// random-max-percent draws a percentage from 0 to value, both included. So
// fixed-percent 33 of 2 nodes is none.
package chaos
