package mesh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	kyaml "sigs.k8s.io/yaml"

	"statequake/chaos"
	"statequake/chaos/process"
)

// version is the apiVersion of every object.
const version = "chaos-mesh.org/v1alpha1"

// instead says what to use on a cluster for the kinds that only exist here.
var instead = map[string]string{
	chaos.ProcessPause: "PodChaos pod-failure takes a pod away for a duration; NetworkChaos partition silences it and keeps its memory",
	chaos.PowerLoss:    "PodChaos pod-kill ends the processes; what they did not sync survives, unless the machine itself is stopped",
	chaos.DiskFull:     "IOChaos fault with errno 28 and methods [write] fails writes as a full disk does",
}

// Fault is a fault as a scenario or a file gives it.
type Fault struct {
	Name  string          // of the object, made a DNS name if it is none
	Chaos json.RawMessage // the object as written
	Plan  *chaos.Fault    // the same, parsed
}

// Place is where the nodes run. The zero value knows nothing about it.
type Place struct {
	Namespace string            // of the object, and of the pods that selectors without one select; "" leaves both to the cluster
	Pods      map[string]string // node -> its pod, of all nodes
	Seed      int64             // fixes minority and majority, as in a run

	// Resolve names the nodes that have a value of chaos.OwnerOfLabel or
	// chaos.RoleLabel now; nil: nobody knows. minority and majority need Pods
	// only.
	Resolve func(ctx context.Context, label, value string) ([]string, error)
}

// Object is a fault as an object of Chaos Mesh.
type Object struct {
	Name, Namespace, Kind string // Namespace may be ""
	Plan                  *chaos.Fault

	Notes      []string          // what a reader of the YAML has to know
	Unresolved []string          // requirements that no pod meets, such as "statequake.dev/owner-of: hottest": as it stands, nothing is selected
	Nodes      map[string]string // pod -> node, as far as known

	root *yaml.Node
}

// Render makes an object of a fault. Kinds of our own are refused. Fields keep
// their order; metadata as written keeps what it says.
func Render(ctx context.Context, f Fault, at Place) (*Object, error) {
	if hint, own := instead[f.Plan.Kind]; own {
		return nil, fmt.Errorf("kind: %s is not of Chaos Mesh, so no cluster executes it\nhint: %s", f.Plan.Kind, hint)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(f.Chaos, &doc); err != nil { // JSON is YAML
		return nil, fmt.Errorf("read the object: %w", err)
	}
	root := doc.Content[0]
	plain(root)
	o := &Object{Name: dnsName(f.Name), Namespace: at.Namespace, Kind: f.Plan.Kind, Plan: f.Plan}
	o.root = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	metadata := child(root, "metadata")
	if metadata == nil {
		metadata = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	o.metadata(metadata)
	set(o.root, "apiVersion", text(version))
	set(o.root, "kind", text(o.Kind))
	set(o.root, "metadata", metadata)
	for i := 0; i+1 < len(root.Content); i += 2 {
		if key := root.Content[i].Value; child(o.root, key) == nil {
			set(o.root, key, root.Content[i+1])
		}
	}
	if note := triggerNote(f.Plan.Trigger); note != "" {
		o.Notes = append(o.Notes, note)
	}
	if err := o.selectors(ctx, at); err != nil {
		return nil, err
	}
	if o.Kind == chaos.IOChaos {
		o.Notes = append(o.Notes, "spec.volumePath: stands for the data directory of a local process; on a cluster it is where the volume is mounted in the container.")
	}
	return o, nil
}

// metadata fills in name and namespace, unless they were written.
func (o *Object) metadata(n *yaml.Node) {
	for _, m := range []struct {
		key   string
		value *string
	}{{"name", &o.Name}, {"namespace", &o.Namespace}} {
		if written := child(n, m.key); written != nil && written.Value != "" && (m.key == "name" || *m.value == "") {
			*m.value = written.Value
		} else if *m.value != "" {
			set(n, m.key, text(*m.value))
		}
	}
}

// selectors fills in namespaces and pods.
func (o *Object) selectors(ctx context.Context, at Place) error {
	spec := child(o.root, "spec")
	own, peers := o.Plan.Lookups()
	unknown := len(at.Pods) == 0 || at.Resolve == nil && slices.ContainsFunc(slices.Concat(own, peers), needsSystem)

	var selected, selectedPeers []string
	if !unknown {
		var nodes []chaos.Node
		o.Nodes = map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(at.Pods)) {
			nodes = append(nodes, chaos.Node{Node: process.Node{Name: name}, Labels: map[string]string{chaos.NodeLabel: name}})
			o.Nodes[at.Pods[name]] = name
		}
		if o.Namespace == "" {
			return errors.New("spec.selector: pods are in a namespace, and none is given\nhint: --namespace names it")
		}
		var err error
		selected, selectedPeers, err = chaos.New(chaos.Config{Nodes: nodes, Seed: at.Seed, Resolve: at.Resolve}).Match(ctx, o.Plan)
		if err != nil {
			return fmt.Errorf("spec.selector: %w", err)
		}
	}
	for _, s := range []struct {
		path    string
		holder  *yaml.Node // of the field selector
		lookups []chaos.Lookup
		names   []string
	}{
		{"spec.selector", spec, own, selected},
		{"spec.target.selector", child(spec, "target"), peers, selectedPeers},
	} {
		if s.holder == nil {
			continue
		}
		selector := child(s.holder, "selector")
		if selector == nil || selector.Kind != yaml.MappingNode {
			selector = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			set(s.holder, "selector", selector)
		}
		if !unknown {
			if len(s.names) == 0 {
				return fmt.Errorf("%s: matches no node now", s.path)
			}
			var pods []*yaml.Node
			for _, name := range s.names {
				pods = append(pods, text(at.Pods[name]))
			}
			was := describe(selector)
			selector.Content = nil
			list := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			set(list, o.Namespace, &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: pods})
			set(selector, "pods", list)
			o.Notes = append(o.Notes, fmt.Sprintf("%s: %s was looked up: %s.", s.path, was, strings.Join(s.names, ", ")))
			continue
		}
		if at.Namespace != "" && child(selector, "namespaces") == nil {
			set(selector, "namespaces", &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{text(at.Namespace)}})
		}
		for _, l := range s.lookups {
			what := l.Label + ": " + strings.Join(l.Values, ", ")
			if l.Not {
				what = "not " + what
			}
			o.Unresolved = append(o.Unresolved, what)
			o.Notes = append(o.Notes, fmt.Sprintf("%s: %s is looked up at the instant of injection, and no pod carries it: as it stands, this selects nothing. "+
				"Put there pods: {NAMESPACE: [POD, ...]}, with %s.", s.path, what, meaning(l)))
		}
		if usesNodeLabel(selector) {
			o.Notes = append(o.Notes, fmt.Sprintf("%s: pods must carry the label %s, the name of the node.", s.path, chaos.NodeLabel))
		}
	}
	return nil
}

// needsSystem says whether only the system can answer a look-up.
func needsSystem(l chaos.Lookup) bool {
	return l.Label != chaos.RoleLabel || slices.ContainsFunc(l.Values, func(v string) bool { return v != chaos.Minority && v != chaos.Majority })
}

// meaning says which pods a look-up means.
func meaning(l chaos.Lookup) string {
	var parts []string
	for _, value := range l.Values {
		switch {
		case l.Label == chaos.OwnerOfLabel && value == "hottest":
			parts = append(parts, "the pod that owns the key most in demand")
		case l.Label == chaos.OwnerOfLabel:
			parts = append(parts, "the pod that owns "+value)
		case value == chaos.Minority:
			parts = append(parts, "the largest number of pods that is less than half")
		case value == chaos.Majority:
			parts = append(parts, "the pods that are not in the minority")
		default:
			parts = append(parts, "the pod or pods with the role "+value)
		}
	}
	which := strings.Join(parts, " and ")
	if l.Not {
		which = "all but " + which
	}
	return which
}

// triggerNote says what becomes of a trigger that a bare object has not.
func triggerNote(t chaos.Trigger) string {
	var when string
	switch t := t.(type) {
	case chaos.At:
		if t == 0 {
			return ""
		}
		when = fmt.Sprintf("%s after the warmup", time.Duration(t))
	case chaos.Within:
		when = fmt.Sprintf("at an instant from %s to %s after the warmup, drawn from the seed", t.From, t.To)
	case chaos.AfterAcks:
		when = fmt.Sprintf("after %d acknowledged operations", t)
	case chaos.OnFile:
		when = fmt.Sprintf("in %s %d of %s, which waits until the fault is in force", t.Op, t.Nth, t.Path)
	case chaos.While:
		when = fmt.Sprintf("while fault %s is in force", string(t))
	default:
		return ""
	}
	return "A run starts it " + when + "; kubectl applies it at once."
}

// usesNodeLabel says whether a selector asks for the name of the node.
func usesNodeLabel(selector *yaml.Node) bool {
	if child(child(selector, "labelSelectors"), chaos.NodeLabel) != nil {
		return true
	}
	expressions := child(selector, "expressionSelectors")
	return expressions != nil && slices.ContainsFunc(expressions.Content, func(e *yaml.Node) bool {
		key := child(e, "key")
		return key != nil && key.Value == chaos.NodeLabel
	})
}

// JSON is the object as the API server takes it.
func (o *Object) JSON() ([]byte, error) {
	written, err := encode(o.root)
	if err != nil {
		return nil, err
	}
	return kyaml.YAMLToJSON(written)
}

// Write writes objects as the documents of one YAML stream, each below its notes.
func Write(out io.Writer, objects []*Object) error {
	for i, o := range objects {
		var b bytes.Buffer
		if i > 0 {
			b.WriteString("---\n")
		}
		for _, note := range o.Notes {
			b.WriteString(comment(note))
		}
		object, err := encode(o.root)
		if err != nil {
			return err
		}
		b.Write(object)
		if _, err := out.Write(b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func encode(n *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(n); err != nil {
		return nil, err
	}
	return b.Bytes(), encoder.Close()
}

// comment wraps a note into lines of a YAML comment.
func comment(note string) string {
	const width = 78
	var b strings.Builder
	line := "#"
	for _, word := range strings.Fields(note) {
		if len(line)+1+len(word) > width && line != "#" {
			b.WriteString(line + "\n")
			line = "#  "
		}
		line += " " + word
	}
	return b.String() + line + "\n"
}

// describe is a selector on one line.
func describe(selector *yaml.Node) string {
	if len(selector.Content) == 0 {
		return "{} (every node)"
	}
	var value map[string]any
	if err := selector.Decode(&value); err != nil {
		return "the selector"
	}
	line, err := json.Marshal(value)
	if err != nil {
		return "the selector"
	}
	return string(line)
}

// plain gives every value below n the style of a block, and quotes what a
// reader of YAML 1.1, which kubectl is, would take for something else.
func plain(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" && ambiguous(n.Value) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		plain(c)
	}
}

// ambiguous says whether text without quotes is something else in YAML 1.1.
func ambiguous(s string) bool {
	var value any
	return kyaml.Unmarshal([]byte(s), &value) != nil || value != s
}

func text(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	plain(n)
	return n
}

// child is the value of a key in a mapping, nil if there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// set replaces the value of a key in a mapping, or appends it.
func set(n *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content[i+1] = value
			return
		}
	}
	n.Content = append(n.Content, text(key), value)
}

// dnsName makes a name that Kubernetes takes for an object: lower-case letters,
// digits and dashes, a letter or digit at both ends, at most 63 bytes. Names
// that have to be changed stay apart by a hash.
func dnsName(name string) string {
	const most = 63
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	clean = strings.Trim(clean, "-")
	if clean == name && len(name) <= most {
		return name
	}
	hash := fnv.New32a()
	hash.Write([]byte(name))
	clean = strings.TrimRight(clean[:min(len(clean), most-9)], "-")
	return strings.TrimLeft(fmt.Sprintf("%s-%08x", clean, hash.Sum32()), "-")
}
