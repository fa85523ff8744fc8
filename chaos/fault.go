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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	strictjson "sigs.k8s.io/json"

	"statequake/chaos/crd"
)

// Kinds of faults, and actions of some.
const (
	PodChaos     = "PodChaos"
	NetworkChaos = "NetworkChaos"
	IOChaos      = "IOChaos"
	StressChaos  = "StressChaos"
	TimeChaos    = "TimeChaos"
	ProcessPause = "ProcessPause" // this and the following: not of Chaos Mesh
	PowerLoss    = "PowerLoss"
	DiskFull     = "DiskFull"

	PodKill    = "pod-kill"
	PodFailure = "pod-failure"
)

const (
	meshVersion = "chaos-mesh.org/v1alpha1"
	ownVersion  = "statequake.dev/v1alpha1"
)

// kindOf is a kind of fault.
type kindOf struct {
	name    string
	version string
	actions []string // none: the kind has no actions
	parse   func(f *Fault, text []byte) error
}

// kinds is the vocabulary.
func kinds() []kindOf {
	return []kindOf{
		{PodChaos, meshVersion, []string{PodKill, PodFailure}, (*Fault).parsePodChaos},
		{NetworkChaos, meshVersion, []string{"partition", "delay", "loss", "duplicate", "corrupt", "bandwidth", "netem"}, (*Fault).parseNetworkChaos},
		{IOChaos, meshVersion, []string{"latency", "fault", "mistake", "attrOverride"}, (*Fault).parseIOChaos},
		{StressChaos, meshVersion, nil, (*Fault).parseStressChaos},
		{TimeChaos, meshVersion, nil, (*Fault).parseTimeChaos},
		{ProcessPause, ownVersion, nil, (*Fault).parseProcessPause},
		{PowerLoss, ownVersion, nil, (*Fault).parsePowerLoss},
		{DiskFull, ownVersion, nil, (*Fault).parseDiskFull},
	}
}

// clusterOnly are the kinds of Chaos Mesh that are never executed here, with
// what to use instead.
var clusterOnly = map[string]string{
	"AWSChaos":             "PodChaos pod-failure takes a node away, as a stopped instance does",
	"AzureChaos":           "PodChaos pod-failure takes a node away, as a stopped machine does",
	"GCPChaos":             "PodChaos pod-failure takes a node away, as a stopped instance does",
	"BlockChaos":           "IOChaos latency delays a node's files, as a slow volume does",
	"DNSChaos":             "nodes know each other by address; NetworkChaos partition makes one unreachable",
	"HTTPChaos":            "NetworkChaos delays or loses requests and answers",
	"JVMChaos":             "ProcessPause stops a node, as a long garbage collection does; IOChaos fault lets its calls fail",
	"KernelChaos":          "IOChaos fault lets a node's system calls on files fail",
	"PhysicalMachineChaos": "PodChaos, NetworkChaos, IOChaos, StressChaos and TimeChaos do the same to nodes",
	"Schedule":             "list the faults; each has a trigger of its own",
	"Workflow":             "list the faults; each has a trigger of its own, and while runs one during another",
}

// Means says which faults can be executed somewhere.
type Means struct {
	On  string              // where, in words; "" means this system
	Can map[string][]string // the actions of a kind; nil for a kind without actions
}

// Local is what this package executes on local processes; what PodChaos and
// ProcessPause need is there in any case, the others need their executors.
var Local = Means{On: "local processes", Can: map[string][]string{
	PodChaos:     {PodKill, PodFailure},
	ProcessPause: nil,
	NetworkChaos: {"partition", "delay", "loss", "duplicate", "corrupt", "bandwidth", "netem"},
	IOChaos:      {"latency", "fault", "mistake"},
	StressChaos:  nil,
	TimeChaos:    nil,
	PowerLoss:    nil,
	DiskFull:     nil,
}}

// Everything is the whole vocabulary.
func Everything() Means {
	m := Means{Can: map[string][]string{}}
	for _, k := range kinds() {
		m.Can[k.name] = k.actions
	}
	return m
}

// String lists kinds and actions in the order of the vocabulary.
func (m Means) String() string {
	var list []string
	for _, k := range kinds() {
		actions, ok := m.Can[k.name]
		if ok && k.actions == nil {
			list = append(list, k.name)
		}
		for _, action := range k.actions {
			if slices.Contains(actions, action) {
				list = append(list, k.name+" "+action)
			}
		}
	}
	return strings.Join(list, ", ")
}

func (m Means) on() string {
	if m.On == "" {
		return "this system"
	}
	return m.On
}

// Fault is one fault of a scenario, parsed and found executable.
type Fault struct {
	Name     string
	At       time.Duration // earliest start by its trigger, from the start of the schedule
	Trigger  Trigger
	Kind     string
	Action   string        // "" for a kind without actions
	Duration time.Duration // 0 for what has none: pod-kill, PowerLoss
	Spec     Spec

	selector selector
	peers    *selector // other end of a NetworkChaos; nil: everybody
}

// processPause, powerLoss and diskFull are the objects of our own kinds.
type processPause struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec struct {
		v1alpha1.PodSelector `json:",inline"`

		Duration *string `json:"duration,omitempty" webhook:"Duration"`
	} `json:"spec"`
}

type powerLoss struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec struct {
		v1alpha1.PodSelector `json:",inline"`

		DirectoryEntries string `json:"directoryEntries,omitempty"`
		Torn             string `json:"torn,omitempty"`
	} `json:"spec"`
}

type diskFull struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec struct {
		v1alpha1.PodSelector `json:",inline"`

		Free     string  `json:"free,omitempty" webhook:"Bytes"`
		Duration *string `json:"duration,omitempty" webhook:"Duration"`
	} `json:"spec"`
}

// Parse is ParseFor with the Local means and a start at an instant.
func Parse(name string, at time.Duration, object []byte) (*Fault, error) {
	return ParseFor(Local, name, At(at), object)
}

// ParseFor reads a fault from an object of Chaos Mesh or of our own kinds, as
// JSON; kind and spec suffice. What the means do not have, unknown fields,
// fields that would have no effect here, and whatever a cluster with Chaos Mesh
// rejects are errors. They begin with the path of the field ("spec.mode: ...").
func ParseFor(means Means, name string, trigger Trigger, object []byte) (*Fault, error) {
	// The kind first: read as the wrong kind every field would be unknown.
	var meta metav1.TypeMeta
	if err := json.Unmarshal(object, &meta); err != nil {
		return nil, jsonError(err)
	}
	all := kinds()
	i := slices.IndexFunc(all, func(k kindOf) bool { return k.name == meta.Kind })
	actions, can := means.Can[meta.Kind]
	switch {
	case meta.Kind == "":
		return nil, fmt.Errorf("kind: is missing; have %v", means)
	case i < 0 && clusterOnly[meta.Kind] != "":
		return nil, fmt.Errorf("kind: %s is for clusters, not available on %s; have %v\nhint: %s", meta.Kind, means.on(), means, clusterOnly[meta.Kind])
	case i < 0 || !can:
		return nil, fmt.Errorf("kind: %s is not available on %s; have %v", meta.Kind, means.on(), means)
	}
	k := all[i]
	if meta.APIVersion != "" && meta.APIVersion != k.version {
		return nil, fmt.Errorf("apiVersion: %q, want %q or none", meta.APIVersion, k.version)
	}
	f := &Fault{Name: name, Kind: k.name, Trigger: trigger}
	switch t := trigger.(type) {
	case At:
		f.At = time.Duration(t)
	case Within:
		f.At = t.From
	}
	if k.actions != nil {
		if err := f.parseAction(k, means, actions, object); err != nil {
			return nil, err
		}
	}
	if err := k.parse(f, object); err != nil {
		return nil, err
	}
	return f, nil
}

// parseAction reads the action alone, so that what is not executed is not
// judged either.
func (f *Fault) parseAction(k kindOf, means Means, can []string, text []byte) error {
	var object struct {
		Spec struct {
			Action string `json:"action"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(text, &object); err != nil {
		return jsonError(err)
	}
	f.Action = object.Spec.Action
	switch {
	case f.Action == "":
		return fmt.Errorf("spec.action: is missing; have %s", strings.Join(can, ", "))
	case f.Kind == PodChaos && f.Action == string(v1alpha1.ContainerKillAction):
		return fmt.Errorf("spec.action: container-kill is not available on %s, which have no containers\nhint: pod-kill ends the node's process, as container-kill would", means.on())
	case !slices.Contains(k.actions, f.Action):
		return fmt.Errorf("spec.action: unknown action %q; have %s", f.Action, strings.Join(can, ", "))
	case f.Action == string(v1alpha1.IoAttrOverride) && !slices.Contains(can, f.Action):
		return fmt.Errorf("spec.action: attrOverride is not available on %s; have %v\nhint: fault with methods: [getattr] lets a node fail to read attributes", means.on(), means)
	case !slices.Contains(can, f.Action):
		return fmt.Errorf("spec.action: %s is not available on %s; have %v", f.Action, means.on(), means)
	}
	return nil
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

// mesh reads an object of Chaos Mesh as a cluster would: defaults, the rules of
// its admission webhook, then the schema. Each finds what the others do not.
func mesh(f *Fault, text []byte, object interface {
	runtime.Object
	Default(context.Context, runtime.Object) error
}) error {
	if err := decode(text, object); err != nil {
		return err
	}
	if err := object.Default(context.Background(), object); err != nil {
		return err
	}
	if err := validate(object); err != nil {
		return err
	}
	whole, err := json.Marshal(object)
	if err != nil {
		return err
	}
	var fields map[string]any
	if err := json.Unmarshal(whole, &fields); err != nil {
		return err
	}
	errs, err := crd.Validate(f.Kind, map[string]any{"spec": fields["spec"]})
	if err != nil {
		return err
	}
	return first(errs)
}

// validate does what the object's ValidateCreate would do, but that one's
// error does not keep the paths of the fields apart.
func validate(object any) error { return first(genericwebhook.Validate(object)) }

// first is the first of some errors, with the path of the field in front.
func first(errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	e := errs[0]
	path := fieldPath(e.Field)
	if e.Type == field.ErrorTypeNotSupported {
		name := path[strings.LastIndex(path, ".")+1:]
		have := strings.ReplaceAll(strings.TrimPrefix(e.Detail, "supported values: "), `"`, "")
		return fmt.Errorf("%s: unknown %s %q; have %s", path, name, e.BadValue, have)
	}
	return fmt.Errorf("%s: %s", path, e.ErrorBody())
}

// embedded are structs whose fields stand in the object that embeds them.
var embedded = []string{"ContainerSelector", "PodSelector", "GenericSelectorSpec", "TcParameter", "Stressor", "TypeMeta", "ObjectMeta"}

// fieldNames are JSON names that are not the Go name in lower case.
var fieldNames = map[string]string{"MemoryStressor": "memory", "CPUStressor": "cpu", "UID": "uid", "GID": "gid", "OOMScoreAdj": "oomScoreAdj"}

// fieldPath turns a path of Go's field names into one of JSON names: without
// embedded structs, and in lower case.
func fieldPath(path string) string {
	parts := strings.Split(path, ".")
	parts = slices.DeleteFunc(parts, func(p string) bool { return slices.Contains(embedded, p) })
	for i, p := range parts {
		if name, ok := fieldNames[p]; ok {
			parts[i] = name
		} else if p != "" {
			parts[i] = strings.ToLower(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, ".")
}
