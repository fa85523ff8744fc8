package mesh

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chaos-mesh/chaos-mesh/api/v1alpha1"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"statequake/history"
)

const (
	// Annotation by which a Client knows its object again: the answer to its
	// creation may be lost.
	injectionAnnotation = "statequake.dev/injection"

	// Asks Chaos Mesh to let an object go although it is not undone.
	cleanAnnotation = "chaos-mesh.chaos-mesh.org/cleanFinalizer"

	// Held by Chaos Mesh until every record is recovered.
	recordsFinalizer = "chaos-mesh/records"
)

// Default bounds of a Client.
const (
	injectWithin  = 30 * time.Second
	recoverWithin = 30 * time.Second
	patience      = 10 * time.Second
	callWithin    = 5 * time.Second // one request
	selectWithin  = 3 * time.Second // after Chaos Mesh said that it selected nothing
	every         = 100 * time.Millisecond
)

// Client has one cluster carry out faults. Set Now and Record, then call
// Inject, concurrently if need be.
type Client struct {
	Now    func() time.Duration // run clock
	Record func(history.Fault)  // called concurrently

	InjectWithin  time.Duration // how long an injection may take; 0 means 30 s
	RecoverWithin time.Duration // how long a recovery may take after the fault's duration; 0 means 30 s
	Patience      time.Duration // how long a deletion may take before each step that forces it; 0 means 10 s

	api client.Client
}

// Connect makes a Client of a kubeconfig file, for the context of that name or
// the file's current one if it is "". It returns the context's namespace, too,
// "default" if it names none. Nothing is asked yet. Neither the environment nor
// the home directory are consulted: a fault must not reach another cluster than
// the one that was named.
func Connect(kubeconfig, contextName string) (*Client, string, error) {
	loading := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: contextName})
	config, err := loading.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	namespace, _, err := loading.Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	c, err := newClient(config)
	return c, namespace, err
}

func newClient(config *rest.Config) (*Client, error) {
	log.SetLogger(logr.Discard()) // or it complains on stderr that nobody did
	config = rest.CopyConfig(config)
	config.WarningHandlerWithContext = rest.NoWarnings{}
	config.Timeout = callWithin
	api, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", config.Host, err)
	}
	return &Client{api: api}, nil
}

// Event is what Kubernetes tells of an object.
type Event struct {
	At      time.Time `json:"at"` // the cluster's clock, whole seconds
	Type    string    `json:"type"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
}

// Report is the evidence of one fault.
type Report struct {
	Proof   history.Proof   `json:"proof"`
	Detail  string          `json:"detail"`
	Object  json.RawMessage `json:"object,omitempty"`  // as last seen: spec, conditions and records
	Events  []Event         `json:"events,omitempty"`  // about it, the oldest first
	Cleared string          `json:"cleared,omitempty"` // what it took to remove it, if a deletion did not do; then the fault may still be in force
}

// Inject creates the object, waits until it is injected, until its duration is
// over and it has recovered, and removes it. If ctx ends, it is removed at once.
// The error says that it could not be created, or not be removed.
func (c *Client) Inject(ctx context.Context, o *Object) (Report, error) {
	w := &watched{c: c, o: o, ctx: context.WithoutCancel(ctx)}
	if err := cmp.Or(ctx.Err(), w.prepare()); err != nil {
		return Report{}, err
	}
	c.Record(w.event(history.Requested, c.Now()))

	maybe, created := w.create()
	if created == nil {
		w.follow(ctx)
	} else {
		w.proof, w.detail = history.Inconclusive, created.Error()
	}
	var removed error
	if maybe {
		removed = w.remove()
	}
	evidence := w.event(history.Evidence, c.Now())
	evidence.Proof, evidence.Detail = w.proof, w.detail
	c.Record(evidence)
	if w.recovered > 0 {
		back := w.event(history.Recovered, w.recovered)
		back.Detail = w.how
		c.Record(back)
	}
	report := Report{Proof: w.proof, Detail: w.detail, Events: w.events, Cleared: w.cleared}
	if w.last != nil {
		object, err := w.last.MarshalJSON()
		if err != nil {
			return report, err
		}
		report.Object = object
	}
	return report, errors.Join(created, removed)
}

// watched is one object on its way.
type watched struct {
	c   *Client
	o   *Object
	ctx context.Context // for what has to be done whatever ends

	body *unstructured.Unstructured // to be created
	mark string                     // value of injectionAnnotation
	pods map[string]types.UID       // of the namespaces in which pods may be killed, before the injection: "NAMESPACE/NAME" -> UID

	last      *unstructured.Unstructured // as last seen
	status    v1alpha1.ChaosStatus       // of last
	events    []Event
	blind     error // why events cannot be read
	targets   []string
	proof     history.Proof
	detail    string
	recovered time.Duration // run clock; 0: not seen
	how       string
	cleared   string
}

// event is an event of the fault.
func (w *watched) event(kind history.EventKind, at time.Duration) history.Fault {
	return history.Fault{Name: w.o.Name, Kind: w.o.Kind, Action: w.o.Plan.Action, Event: kind, At: at, Targets: w.targets}
}

// prepare makes the body, and notes the pods if they matter.
func (w *watched) prepare() error {
	text, err := w.o.JSON()
	if err != nil {
		return err
	}
	w.body = &unstructured.Unstructured{}
	if err := w.body.UnmarshalJSON(text); err != nil {
		return fmt.Errorf("%s: %w", w.o.Name, err)
	}
	if w.body.GetNamespace() == "" {
		return fmt.Errorf("%s: an object of Chaos Mesh is in a namespace, and none is given", w.o.Name)
	}
	// Asked first, so that a cluster that cannot be reached is no object whose
	// creation is in doubt.
	kind := w.body.GroupVersionKind()
	if _, err := w.c.api.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version); meta.IsNoMatchError(err) {
		return fmt.Errorf("the cluster does not know the kind %s\nhint: Chaos Mesh has to be installed there", w.o.Kind)
	} else if err != nil {
		return fmt.Errorf("ask the cluster for %s: %w", w.o.Kind, err)
	}
	w.mark = rand.Text()
	annotations := w.body.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[injectionAnnotation] = w.mark
	w.body.SetAnnotations(annotations)
	if w.oneShot() {
		w.pods = w.listPods()
	}
	return nil
}

// oneShot says whether the fault is done with its injection: it has no duration
// and nothing to undo.
func (w *watched) oneShot() bool { return w.o.Plan.Duration == 0 }

func (w *watched) key() client.ObjectKey {
	return client.ObjectKey{Namespace: w.body.GetNamespace(), Name: w.body.GetName()}
}

// create creates the object; there may be one then even if that failed. The
// request does not end with the run's context, so that what it did is known.
func (w *watched) create() (maybe bool, err error) {
	ctx, cancel := context.WithTimeout(w.ctx, callWithin)
	defer cancel()
	object := w.body.DeepCopy()
	// Strict: what the cluster's version of Chaos Mesh does not know would be
	// dropped in silence.
	err = w.c.api.Create(ctx, object, client.FieldValidation("Strict"))
	var answer apierrors.APIStatus
	switch {
	case err == nil:
		w.see(object)
		return true, nil
	case apierrors.IsAlreadyExists(err):
		return false, fmt.Errorf("create %s %s: it exists already\nhint: kubectl delete -n %s %s %s removes what an earlier run left", w.o.Kind, w.key(),
			w.body.GetNamespace(), strings.ToLower(w.o.Kind), w.body.GetName())
	case errors.As(err, &answer):
		code := answer.Status().Code
		maybe = code < 400 || code >= 500
	default:
		maybe = true
	}
	return maybe, fmt.Errorf("create %s %s: %w", w.o.Kind, w.key(), err)
}

// see takes note of the object as it is now.
func (w *watched) see(object *unstructured.Unstructured) {
	var status v1alpha1.ChaosStatus
	if fields, ok, _ := unstructured.NestedMap(object.Object, "status"); ok {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &status); err != nil {
			return
		}
	}
	w.last, w.status = object, status
}

// look reads the object. It returns false if there is none, or another of the
// same name.
func (w *watched) look() (there bool, err error) {
	ctx, cancel := context.WithTimeout(w.ctx, callWithin)
	defer cancel()
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(w.body.GroupVersionKind())
	err = w.c.api.Get(ctx, w.key(), object)
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return true, err
	case object.GetAnnotations()[injectionAnnotation] != w.mark:
		return false, nil
	}
	w.see(object)
	return true, nil
}

// readEvents reads what Kubernetes tells of the object.
func (w *watched) readEvents() {
	if w.last == nil || w.last.GetUID() == "" {
		return
	}
	ctx, cancel := context.WithTimeout(w.ctx, callWithin)
	defer cancel()
	var list corev1.EventList
	w.blind = w.c.api.List(ctx, &list, client.InNamespace(w.body.GetNamespace()),
		client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("involvedObject.uid", string(w.last.GetUID()))})
	if w.blind != nil {
		return
	}
	w.events = nil
	for _, e := range list.Items {
		at := e.LastTimestamp.Time
		if at.IsZero() {
			at = e.EventTime.Time
		}
		w.events = append(w.events, Event{at.UTC(), e.Type, e.Reason, e.Message})
	}
	slices.SortStableFunc(w.events, func(a, b Event) int { return a.At.Compare(b.At) })
}

// poll calls done every 100 ms until it returns true, for so long at most, or
// until ctx ends; false then.
func (w *watched) poll(ctx context.Context, within time.Duration, done func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if ctx.Err() != nil {
			return false
		}
		if done() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
}

// follow waits until the object is injected and then until it has recovered.
// It leaves proof and detail behind.
func (w *watched) follow(ctx context.Context) {
	began := w.c.Now()
	var trouble error // of the last look
	var empty time.Duration
	gone, none := false, false
	w.poll(ctx, cmp.Or(w.c.InjectWithin, injectWithin), func() bool {
		there, err := w.look()
		if trouble = err; err != nil {
			return false
		}
		if gone = !there; gone {
			return true
		}
		if w.injected() && w.struck() {
			return true
		}
		if len(w.status.Experiment.Records) == 0 {
			w.readEvents()
			if empty == 0 && w.failed() != "" {
				empty = w.c.Now()
			}
			// It tries again whenever the object changes, but not by itself.
			none = empty > 0 && w.c.Now()-empty > selectWithin
		}
		return none || w.late()
	})
	w.name()
	w.proof, w.detail = w.judge(ctx, gone, trouble)
	if w.proof != history.Confirmed {
		return
	}
	at := w.c.Now()
	w.detail += fmt.Sprintf(", seen %s after the object was created", (at - began).Round(time.Millisecond))
	w.c.Record(w.event(history.Injected, at))

	within := w.o.Plan.Duration + cmp.Or(w.c.RecoverWithin, recoverWithin)
	w.poll(ctx, within, func() bool {
		if w.oneShot() {
			return w.replaced()
		}
		there, err := w.look()
		if err != nil {
			return false
		}
		if !there {
			w.detail += "; then somebody else deleted the object"
			return true
		}
		return w.undone()
	})
}

// injected says whether every selected record was injected, now or before.
func (w *watched) injected() bool {
	records := w.status.Experiment.Records
	over := w.condition(v1alpha1.ConditionAllInjected) || w.condition(v1alpha1.ConditionAllRecovered)
	return over && len(records) > 0 && !slices.ContainsFunc(records, func(r *v1alpha1.Record) bool { return r.InjectedCount == 0 })
}

// late says whether the duration, which counts from the creation in whole
// seconds, was over before anything was injected.
func (w *watched) late() bool {
	e := w.status.Experiment
	return e.DesiredPhase == v1alpha1.StoppedPhase && len(e.Records) > 0 && w.condition(v1alpha1.ConditionAllRecovered) &&
		!slices.ContainsFunc(e.Records, func(r *v1alpha1.Record) bool { return r.InjectedCount > 0 })
}

// undone says whether every record was injected and recovered, and notes it.
// The condition AllRecovered alone also holds before anything was injected.
func (w *watched) undone() bool {
	records := w.status.Experiment.Records
	if w.oneShot() || len(records) == 0 || !w.condition(v1alpha1.ConditionAllRecovered) ||
		slices.ContainsFunc(records, func(r *v1alpha1.Record) bool { return r.RecoveredCount == 0 || r.Phase != v1alpha1.NotInjected }) {
		return false
	}
	w.back(fmt.Sprintf("the status says: %d of %d records recovered", len(records), len(records)))
	return true
}

// back notes that the fault is undone, the first time.
func (w *watched) back(how string) {
	if w.recovered == 0 {
		w.recovered, w.how = w.c.Now(), how
	}
}

func (w *watched) condition(kind v1alpha1.ChaosConditionType) bool {
	return slices.ContainsFunc(w.status.Conditions, func(c v1alpha1.ChaosCondition) bool {
		return c.Type == kind && c.Status == corev1.ConditionTrue
	})
}

// name notes whom the fault hits: nodes, or pods whose nodes are not known. The
// other end of a NetworkChaos has records as well.
func (w *watched) name() {
	w.targets = nil
	for _, r := range w.status.Experiment.Records {
		if r.SelectorKey != "." {
			continue
		}
		pod := podName(r.Id)
		if node := w.o.Nodes[pod]; node != "" {
			pod = node
		}
		if !slices.Contains(w.targets, pod) {
			w.targets = append(w.targets, pod)
		}
	}
	slices.Sort(w.targets)
}

// podKey is the "NAMESPACE/NAME" of a record's id, which may go on with the name
// of a container.
func podKey(id string) string {
	parts := strings.SplitN(id, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

func podName(id string) string {
	key := podKey(id)
	return key[strings.IndexByte(key, '/')+1:]
}

// failed is the last failure that the events tell of; "" if they tell of none.
func (w *watched) failed() string {
	for _, e := range slices.Backward(w.events) {
		if e.Type == corev1.EventTypeWarning {
			return e.Message
		}
	}
	return ""
}

// judge says what the status proves.
func (w *watched) judge(ctx context.Context, gone bool, trouble error) (history.Proof, string) {
	records := w.status.Experiment.Records
	w.readEvents()
	why := w.failed()
	if why != "" {
		why = ": " + why
	}
	switch {
	case w.injected() && w.struck():
		detail := fmt.Sprintf("the status says: %d of %d records injected", len(records), len(records))
		switch {
		case w.oneShot() && w.pods == nil:
			detail += "; the pods cannot be read, so nobody else says so"
		case w.oneShot():
			detail += "; their pods are gone or going"
		}
		return history.Confirmed, detail
	case ctx.Err() != nil:
		return history.Inconclusive, "ended before it was seen injected"
	case gone:
		return history.Inconclusive, "somebody else deleted the object before it was seen injected"
	case trouble != nil:
		return history.Inconclusive, fmt.Sprintf("the API server does not answer: %v", trouble)
	case w.injected():
		return history.Mismatch, "the status says that all records were injected, but a pod that it names still runs as before"
	case w.late():
		return history.Mismatch, "its duration was over before anything was injected" + why
	case len(records) == 0 && why == "" && w.status.Experiment.DesiredPhase == "":
		return history.Inconclusive, "nobody wrote a status: Chaos Mesh does not run there, or does not watch the namespace"
	case len(records) == 0:
		return history.Inconclusive, "it selected nothing" + why
	}
	injected := 0
	for _, r := range records {
		if r.InjectedCount > 0 {
			injected++
			continue
		}
		for _, e := range slices.Backward(r.Events) {
			if e.Type == v1alpha1.TypeFailed {
				why = ": " + r.Id + ": " + e.Message
				break
			}
		}
	}
	return history.Mismatch, fmt.Sprintf("the status says: %d of %d records injected%s", injected, len(records), why)
}

// listPods notes the pods of every namespace in which the object may select
// some; nil if they cannot be read.
func (w *watched) listPods() map[string]types.UID {
	ctx, cancel := context.WithTimeout(w.ctx, callWithin)
	defer cancel()
	namespaces, _, _ := unstructured.NestedStringSlice(w.body.Object, "spec", "selector", "namespaces")
	pods, _, _ := unstructured.NestedMap(w.body.Object, "spec", "selector", "pods")
	for namespace := range pods {
		namespaces = append(namespaces, namespace)
	}
	if len(namespaces) == 0 {
		namespaces = []string{w.body.GetNamespace()}
	}
	found := map[string]types.UID{}
	for _, namespace := range namespaces {
		var list corev1.PodList
		if err := w.c.api.List(ctx, &list, client.InNamespace(namespace)); err != nil {
			return nil
		}
		for _, p := range list.Items {
			if p.DeletionTimestamp == nil {
				found[p.Namespace+"/"+p.Name] = p.UID
			}
		}
	}
	return found
}

// struck says whether the pods of a pod-kill that were seen before are gone or
// being deleted. It is true for other faults, and if pods cannot be read.
func (w *watched) struck() bool {
	if w.pods == nil {
		return true
	}
	for _, r := range w.status.Experiment.Records {
		before, known := w.pods[podKey(r.Id)]
		if !known {
			continue
		}
		pod, err := w.pod(r.Id)
		if err != nil || pod != nil && pod.UID == before && pod.DeletionTimestamp == nil {
			return false
		}
	}
	return true
}

// replaced says whether a new pod is ready in the place of every one that a
// pod-kill ended, and notes it.
func (w *watched) replaced() bool {
	if w.pods == nil {
		return true // nobody can tell
	}
	for _, r := range w.status.Experiment.Records {
		pod, err := w.pod(r.Id)
		if err != nil || pod == nil || pod.UID == w.pods[podKey(r.Id)] || !slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}) {
			return false
		}
	}
	w.back("new pods of the same names are ready")
	return true
}

// pod reads the pod of a record; nil if there is none.
func (w *watched) pod(id string) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(w.ctx, callWithin)
	defer cancel()
	namespace, _, _ := strings.Cut(podKey(id), "/")
	var pod corev1.Pod
	err := w.c.api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: podName(id)}, &pod)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return &pod, err
}

// remove deletes the object and does not return before it is gone, but for a
// bounded time: a deletion that does not end is forced, in two steps. What the
// status says meanwhile counts as recovery.
func (w *watched) remove() error {
	patience := cmp.Or(w.c.Patience, patience)
	var trouble error
	gone := func() bool {
		there, err := w.look()
		trouble = err
		if err == nil && there {
			w.undone()
		}
		return err == nil && !there
	}
	asked := false
	w.poll(w.ctx, patience, func() bool {
		if !asked {
			asked = w.delete() == nil
		}
		return gone()
	})
	held := w.last != nil && slices.Contains(w.last.GetFinalizers(), recordsFinalizer)
	switch {
	case gone() || w.last == nil && trouble == nil:
		if held && w.proof == history.Confirmed && !w.oneShot() {
			w.back("the object is gone, which Chaos Mesh allows when every record is recovered")
		}
	case w.force(map[string]any{"annotations": map[string]any{cleanAnnotation: "forced"}}, patience, gone):
		w.cleared = "annotation " + cleanAnnotation + "=forced"
	case w.force(map[string]any{"finalizers": nil}, patience, gone):
		w.cleared = "finalizers removed"
	default:
		return fmt.Errorf("delete %s %s: it is still there after %s: %w\nhint: kubectl patch -n %s %s %s --type merge -p '{\"metadata\":{\"finalizers\":null}}'",
			w.o.Kind, w.key(), 3*patience, cmp.Or(trouble, errors.New("it keeps its finalizers")), w.body.GetNamespace(), strings.ToLower(w.o.Kind), w.body.GetName())
	}
	if w.cleared != "" {
		w.detail += "; the deletion did not end: " + w.cleared + ", so what was done may still be in force"
	}
	w.readEvents()
	return nil
}

// delete asks for the deletion of the object, if it is ours.
func (w *watched) delete() error {
	ctx, cancel := context.WithTimeout(w.ctx, callWithin)
	defer cancel()
	there, err := w.look()
	if err != nil || !there {
		return err
	}
	uid := w.last.GetUID()
	return client.IgnoreNotFound(w.c.api.Delete(ctx, w.last.DeepCopy(), client.Preconditions{UID: &uid}))
}

// force changes the metadata of an object that is being deleted, and waits.
func (w *watched) force(metadata map[string]any, within time.Duration, gone func() bool) bool {
	if w.last == nil {
		return false
	}
	metadata["uid"] = string(w.last.GetUID()) // of no other object
	patch, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return false
	}
	done := false
	return w.poll(w.ctx, within, func() bool {
		if !done {
			ctx, cancel := context.WithTimeout(w.ctx, callWithin)
			defer cancel()
			_ = w.delete() // it may not have been heard yet
			done = w.c.api.Patch(ctx, w.last.DeepCopy(), client.RawPatch(types.MergePatchType, patch)) == nil
		}
		return gone()
	})
}
