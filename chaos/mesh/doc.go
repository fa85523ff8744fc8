// Package mesh hands faults to a Kubernetes cluster that runs Chaos Mesh.
//
// Render makes of a fault the object that kubectl takes. Its spec is that of the
// fault as written, so that the cluster judges the same text that ran on local
// processes. Only selectors may change: they get the namespace, and if the pods
// of the nodes are known, the names of those that they match. A label that is
// looked up at the instant of injection is on no pod, so without the pods the
// object selects nothing; Object.Unresolved says so.
//
// A Client creates such an object, watches its status and removes it again. What
// it tells are events of package history:
//
//	requested   the object is about to be created
//	injected    the status says that every selected record was injected
//	evidence    confirmed only then; mismatch if some were not, or if a killed
//	            pod still runs; inconclusive if nothing was selected or nobody
//	            wrote a status
//	recovered   the status says that every record was recovered; after a
//	            pod-kill, which has no end, that a new pod is ready
//
// The status is the word of Chaos Mesh, which injects, too. Only a pod-kill is
// checked against another observer, the pods of the API server.
//
// Chaos Mesh keeps an object until all of it is undone. One that is still there
// after Client.Patience is told to give up by an annotation, and at last loses
// its finalizers; then what it did may still be in force, which the Report says.
package mesh
