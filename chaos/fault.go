package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chaos-mesh/chaos-mesh/api/genericwebhook"
	"github.com/chaos-mesh/chaos-mesh/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	strictjson "sigs.k8s.io/json"
)

// Kinds and actions that can be executed on local processes.
const (
	PodChaos     = "PodChaos"
	ProcessPause = "ProcessPause"

	PodKill    = "pod-kill"
	PodFailure = "pod-failure"
)

const supported = "have PodChaos pod-kill, PodChaos pod-failure, ProcessPause"

// Fault is one fault of a scenario, parsed and found executable.
type Fault struct {
	Name     string
	At       time.Duration // from the start of the schedule
	Kind     string        // PodChaos or ProcessPause
	Action   string        // pod-kill or pod-failure; "" for ProcessPause
	Duration time.Duration // 0 for pod-kill
	Grace    time.Duration // pod-kill only: from SIGTERM to SIGKILL, 0 for SIGKILL at once

	selector selector
}

// processPause is the object of a ProcessPause.
type processPause struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec struct {
		v1alpha1.PodSelector `json:",inline"`

		Duration *string `json:"duration,omitempty" webhook:"Duration"`
	} `json:"spec"`
}

// Parse reads a fault from a Chaos Mesh object, or a ProcessPause, as JSON;
// kind and spec suffice. Unknown fields, fields that would have no effect
// here, and whatever the admission webhook of Chaos Mesh rejects are errors.
// They begin with the path of the field ("spec.mode: ...").
func Parse(name string, at time.Duration, object []byte) (*Fault, error) {
	// The kind first: read as the wrong kind every field would be unknown.
	var meta metav1.TypeMeta
	if err := json.Unmarshal(object, &meta); err != nil {
		return nil, jsonError(err)
	}
	f := &Fault{Name: name, At: at, Kind: meta.Kind}
	var err error
	switch meta.Kind {
	case PodChaos:
		err = f.parsePodChaos(object)
	case ProcessPause:
		err = f.parseProcessPause(object)
	case "":
		err = fmt.Errorf("kind: is missing; %s", supported)
	default:
		err = fmt.Errorf("kind: %s is not available on local processes; %s", meta.Kind, supported)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Fault) parsePodChaos(text []byte) error {
	var object v1alpha1.PodChaos
	if err := decode(text, &object); err != nil {
		return err
	}
	if err := checkVersion(object.APIVersion, "chaos-mesh.org/v1alpha1"); err != nil {
		return err
	}
	spec := &object.Spec
	f.Action = string(spec.Action)
	switch f.Action {
	case PodKill, PodFailure:
	case string(v1alpha1.ContainerKillAction):
		return fmt.Errorf("spec.action: container-kill is not available on local processes, which have no containers\nhint: pod-kill ends the node's process, as container-kill would")
	case "":
		return errors.New("spec.action: is missing; have pod-kill, pod-failure")
	default:
		return fmt.Errorf("spec.action: unknown action %q; have pod-kill, pod-failure", f.Action)
	}
	if err := object.Default(context.Background(), &object); err != nil {
		return err
	}
	if err := validate(&object); err != nil {
		return err
	}

	switch {
	case len(spec.ContainerNames) > 0:
		return fmt.Errorf("spec.containerNames: has no effect with %s", f.Action)
	case spec.RemoteCluster != "":
		return errors.New("spec.remoteCluster: is not available on local processes")
	case spec.GracePeriod < 0:
		return fmt.Errorf("spec.gracePeriod: %d s is negative", spec.GracePeriod)
	case spec.GracePeriod > 0 && f.Action != PodKill:
		return fmt.Errorf("spec.gracePeriod: has no effect with %s", f.Action)
	case f.Action == PodKill && spec.Duration != nil:
		return errors.New("spec.duration: has no effect with pod-kill; the node comes back after the system's restart delay\nhint: pod-failure keeps it down for a duration")
	}
	f.Grace = time.Duration(spec.GracePeriod) * time.Second
	if f.Action == PodFailure {
		var err error
		if f.Duration, err = duration(spec.Duration, f.Action); err != nil {
			return err
		}
	}
	var err error
	f.selector, err = parseSelector(&spec.PodSelector)
	return err
}

func (f *Fault) parseProcessPause(text []byte) error {
	var object processPause
	if err := decode(text, &object); err != nil {
		return err
	}
	if err := checkVersion(object.APIVersion, "statequake.dev/v1alpha1"); err != nil {
		return err
	}
	if err := validate(&object); err != nil {
		return err
	}
	var err error
	if f.Duration, err = duration(object.Spec.Duration, ProcessPause); err != nil {
		return err
	}
	f.selector, err = parseSelector(&object.Spec.PodSelector)
	return err
}

// decode reads JSON and fails on unknown and on repeated fields.
func decode(text []byte, object any) error {
	strict, err := strictjson.UnmarshalStrict(text, object)
	if err != nil {
		return jsonError(err)
	}
	if len(strict) > 0 {
		// They read: unknown field "spec.selectr".
		problem, path, ok := strings.Cut(strict[0].Error(), ` "`)
		if !ok {
			return strict[0]
		}
		return fmt.Errorf("%s: %s", strings.TrimSuffix(path, `"`), problem)
	}
	return nil
}

// jsonError puts the path of the field first, where the error has one.
func jsonError(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Errorf("%s: is a JSON %s, want %s", fieldPath(wrong.Field), wrong.Value, wrong.Type.Kind())
	}
	return fmt.Errorf("not a JSON object of a fault: %w", err)
}

func checkVersion(got, want string) error {
	if got != "" && got != want {
		return fmt.Errorf("apiVersion: %q, want %q or none", got, want)
	}
	return nil
}

// validate does what the object's ValidateCreate would do, but that one's
// error does not keep the paths of the fields apart.
func validate(object any) error {
	errs := genericwebhook.Validate(object)
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s", fieldPath(errs[0].Field), errs[0].ErrorBody())
}

// fieldPath turns a path of Go's field names into one of JSON names: without
// embedded structs, and in lower case.
func fieldPath(path string) string {
	parts := strings.Split(path, ".")
	parts = slices.DeleteFunc(parts, func(p string) bool {
		return p == "ContainerSelector" || p == "PodSelector" || p == "GenericSelectorSpec" || p == "TypeMeta" || p == "ObjectMeta"
	})
	for i, p := range parts {
		if p != "" {
			parts[i] = strings.ToLower(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, ".")
}

// duration is the duration that an action needs.
func duration(text *string, action string) (time.Duration, error) {
	if text == nil || *text == "" {
		return 0, fmt.Errorf("spec.duration: is missing; %s needs one", action)
	}
	d, err := time.ParseDuration(*text)
	if err != nil {
		return 0, fmt.Errorf("spec.duration: %w", err)
	}
	if d <= 0 {
		return 0, fmt.Errorf("spec.duration: %s is not positive", *text)
	}
	return d, nil
}
