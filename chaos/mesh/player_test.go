package mesh

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chaos-mesh/chaos-mesh/api/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"statequake/chaos"
)

// player plays Chaos Mesh's part in a namespace as far as objects show it:
// finalizer, desired phase, records, conditions and events are written in the
// order and with the words of its controllers. Nothing is done to pods, but that
// a pod-kill deletes them and that a set of pods replaces them.
type player struct {
	t   *testing.T
	api client.Client
	ns  string

	refuses    func(id string) string // why the injection of a record fails; "": it does not
	slow       bool                   // injects nothing before the duration is over
	lies       bool                   // says that pods were killed that were not
	neverUndo  bool                   // recoveries fail
	deaf       bool                   // does not heed the annotation either
	noReplaced bool                   // killed pods stay away
}

// play runs the player until the test ends.
func (p *player) play() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			for _, kind := range []string{chaos.PodChaos, chaos.NetworkChaos, chaos.IOChaos, chaos.StressChaos, chaos.TimeChaos} {
				p.round(ctx, kind)
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	p.t.Cleanup(func() { cancel(); <-ended })
}

// round takes every object of a kind one step further.
func (p *player) round(ctx context.Context, kind string) {
	var list unstructured.UnstructuredList
	list.SetGroupVersionKind(schema.FromAPIVersionAndKind(version, kind+"List"))
	if err := p.api.List(ctx, &list, client.InNamespace(p.ns)); err != nil {
		return // as after the end of the test
	}
	for i := range list.Items {
		if err := p.step(ctx, &list.Items[i]); err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			p.t.Errorf("player: %s: %v", list.Items[i].GetName(), err)
		}
	}
}

// step writes one change of an object, as each of the controllers does.
func (p *player) step(ctx context.Context, o *unstructured.Unstructured) error {
	var status v1alpha1.ChaosStatus
	if fields, ok, _ := unstructured.NestedMap(o.Object, "status"); ok {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &status); err != nil {
			return err
		}
	}
	deleted := o.GetDeletionTimestamp() != nil
	action, _, _ := unstructured.NestedString(o.Object, "spec", "action")
	oneShot := action == chaos.PodKill

	if !deleted && !slices.Contains(o.GetFinalizers(), recordsFinalizer) {
		p.event(ctx, o, "Normal", "FinalizerInited", "Finalizer has been inited")
		o.SetFinalizers(append(o.GetFinalizers(), recordsFinalizer))
		return p.api.Update(ctx, o)
	}

	phase, reason := v1alpha1.RunningPhase, "Experiment has started"
	switch {
	case deleted:
		phase, reason = v1alpha1.StoppedPhase, "Experiment has been deleted"
	case !oneShot:
		text, _, _ := unstructured.NestedString(o.Object, "spec", "duration")
		if d, err := time.ParseDuration(text); err == nil && time.Since(o.GetCreationTimestamp().Time) > d {
			phase, reason = v1alpha1.StoppedPhase, "Time up according to the duration"
		}
	}
	if status.Experiment.DesiredPhase != phase {
		status.Experiment.DesiredPhase = phase
		p.event(ctx, o, "Normal", "Started", reason)
		return p.write(ctx, o, &status)
	}

	changed, err := p.records(ctx, o, &status)
	if err != nil {
		return err
	}
	if changed {
		return p.write(ctx, o, &status)
	}
	if conditions := conditionsOf(&status); !slices.Equal(conditions, status.Conditions) {
		status.Conditions = conditions
		return p.write(ctx, o, &status)
	}

	undone := !slices.ContainsFunc(status.Experiment.Records, func(r *v1alpha1.Record) bool { return r.Phase != v1alpha1.NotInjected })
	forced := o.GetAnnotations()[cleanAnnotation] == "forced" && !p.deaf
	if deleted && len(o.GetFinalizers()) > 0 && (undone || forced) {
		p.event(ctx, o, "Normal", "FinalizerInited", "Finalizer has been removed")
		o.SetFinalizers(nil)
		return p.api.Update(ctx, o)
	}
	return nil
}

// records selects, injects and recovers.
func (p *player) records(ctx context.Context, o *unstructured.Unstructured, status *v1alpha1.ChaosStatus) (changed bool, err error) {
	e := &status.Experiment
	if e.Records == nil {
		for _, s := range []struct {
			key  string
			path []string
		}{{".", []string{"spec"}}, {".Target", []string{"spec", "target"}}} {
			holder, ok, _ := unstructured.NestedMap(o.Object, s.path...)
			if !ok {
				continue
			}
			ids, err := p.pods(ctx, o.GetNamespace(), holder)
			if err != nil {
				return false, err
			}
			if len(ids) == 0 {
				if status.Conditions == nil { // its controllers are called as often as the object changes
					p.event(ctx, o, "Warning", "Failed", "Failed to select targets: no pod is selected")
				}
				e.Records = nil
				return false, nil
			}
			for _, id := range ids {
				e.Records = append(e.Records, &v1alpha1.Record{Id: id, SelectorKey: s.key, Phase: v1alpha1.NotInjected})
			}
		}
		return true, nil
	}
	action, _, _ := unstructured.NestedString(o.Object, "spec", "action")
	for _, r := range e.Records {
		now := metav1.Now()
		switch {
		case e.DesiredPhase == v1alpha1.RunningPhase && r.Phase == v1alpha1.NotInjected:
			if p.slow {
				continue
			}
			if p.refuses != nil && p.refuses(r.Id) != "" {
				if len(r.Events) > 0 {
					continue
				}
				r.Events = append(r.Events, *v1alpha1.NewRecordEvent(v1alpha1.TypeFailed, v1alpha1.Apply, p.refuses(r.Id), now))
				p.event(ctx, o, "Warning", "Failed", "Failed to apply chaos: "+p.refuses(r.Id))
				changed = true
				continue
			}
			if action == chaos.PodKill && !p.lies {
				if err := p.kill(ctx, r.Id); err != nil {
					return false, err
				}
			}
			r.Phase = v1alpha1.Injected
			r.InjectedCount++
			r.Events = append(r.Events, *v1alpha1.NewRecordEvent(v1alpha1.TypeSucceeded, v1alpha1.Apply, "", now))
			p.event(ctx, o, "Normal", "Applied", "Successfully apply chaos for "+r.Id)
			changed = true
		case e.DesiredPhase == v1alpha1.StoppedPhase && r.Phase == v1alpha1.Injected && !p.neverUndo:
			r.Phase = v1alpha1.NotInjected
			r.RecoveredCount++
			r.Events = append(r.Events, *v1alpha1.NewRecordEvent(v1alpha1.TypeSucceeded, v1alpha1.Recover, "", now))
			p.event(ctx, o, "Normal", "Recovered", "Successfully recover chaos for "+r.Id)
			changed = true
		}
	}
	return changed, nil
}

// conditionsOf are the conditions that follow from the records.
func conditionsOf(status *v1alpha1.ChaosStatus) []v1alpha1.ChaosCondition {
	records := status.Experiment.Records
	is := func(yes bool) corev1.ConditionStatus {
		if yes {
			return corev1.ConditionTrue
		}
		return corev1.ConditionFalse
	}
	all := func(phase v1alpha1.Phase) bool {
		return records != nil && !slices.ContainsFunc(records, func(r *v1alpha1.Record) bool { return r.Phase != phase })
	}
	return []v1alpha1.ChaosCondition{
		{Type: v1alpha1.ConditionSelected, Status: is(records != nil)},
		{Type: v1alpha1.ConditionAllInjected, Status: is(all(v1alpha1.Injected))},
		{Type: v1alpha1.ConditionAllRecovered, Status: is(all(v1alpha1.NotInjected))},
		{Type: v1alpha1.ConditionPaused, Status: corev1.ConditionFalse},
	}
}

// pods selects pods: by name, or by namespaces and labels; one or all of them.
func (p *player) pods(ctx context.Context, namespace string, holder map[string]any) ([]string, error) {
	named, _, _ := unstructured.NestedMap(holder, "selector", "pods")
	namespaces, _, _ := unstructured.NestedStringSlice(holder, "selector", "namespaces")
	labels, _, _ := unstructured.NestedStringMap(holder, "selector", "labelSelectors")
	if len(namespaces) == 0 {
		namespaces = []string{namespace}
	}
	for ns := range named {
		namespaces = []string{ns}
	}
	var ids []string
	for _, ns := range namespaces {
		var list corev1.PodList
		if err := p.api.List(ctx, &list, client.InNamespace(ns), client.MatchingLabels(labels)); err != nil {
			return nil, err
		}
		names, _, _ := unstructured.NestedStringSlice(named, ns)
		for _, pod := range list.Items {
			if len(named) == 0 || slices.Contains(names, pod.Name) {
				ids = append(ids, ns+"/"+pod.Name)
			}
		}
	}
	if mode, _, _ := unstructured.NestedString(holder, "mode"); mode == "one" && len(ids) > 1 {
		ids = ids[:1]
	}
	return ids, nil
}

func (p *player) kill(ctx context.Context, id string) error {
	namespace, name, _ := strings.Cut(id, "/")
	var pod corev1.Pod
	if err := p.api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &pod); err != nil {
		return err
	}
	if err := p.api.Delete(ctx, &pod); err != nil || p.noReplaced {
		return err
	}
	return newPod(ctx, p.api, namespace, name, pod.Labels)
}

func (p *player) write(ctx context.Context, o *unstructured.Unstructured, status *v1alpha1.ChaosStatus) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return err
	}
	o.Object["status"] = fields
	return p.api.Update(ctx, o)
}

func (p *player) event(ctx context.Context, o *unstructured.Unstructured, kind, reason, message string) {
	now := metav1.Now()
	err := p.api.Create(ctx, &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: fmt.Sprintf("%s.%x", o.GetName(), now.UnixNano())},
		InvolvedObject: corev1.ObjectReference{APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Namespace: o.GetNamespace(),
			Name: o.GetName(), UID: o.GetUID()},
		Type: kind, Reason: reason, Message: message, FirstTimestamp: now, LastTimestamp: now, Count: 1,
	})
	if err != nil && ctx.Err() == nil {
		p.t.Errorf("player: event %s of %s: %v", reason, o.GetName(), err)
	}
}

// newPod makes a pod that is ready, as far as its status says.
func newPod(ctx context.Context, api client.Client, namespace, name string, labels map[string]string) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "node", Image: "none"}}},
	}
	if err := api.Create(ctx, pod); err != nil {
		return err
	}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	return api.Status().Update(ctx, pod)
}
