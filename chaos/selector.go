package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/chaos-mesh/chaos-mesh/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Labels of nodes.
const (
	NodeLabel    = "statequake.dev/node"     // the node's name
	OwnerOfLabel = "statequake.dev/owner-of" // looked up: owner of a key
	RoleLabel    = "statequake.dev/role"     // looked up: role in the system
)

// Roles that every system has, values of RoleLabel: the nodes are split in two
// by a draw from the seed and the fault's name.
const (
	Minority = "minority" // the largest number of nodes that is less than half: 1 of 3 or 4, 2 of 5
	Majority = "majority" // all others
)

// selector selects nodes and takes some of them.
type selector struct {
	mode    v1alpha1.SelectorMode
	value   int // fixed: nodes; percentages: percent
	labels  labels.Selector
	lookups []lookup
}

// lookup is a requirement that only the system can judge: In or NotIn the
// nodes that have one of the values.
type lookup struct {
	label  string
	values []string
	not    bool
}

// parseSelector reads the selector that stands at place.
func parseSelector(place string, spec *v1alpha1.PodSelector) (selector, error) {
	s := selector{mode: spec.Mode, labels: labels.NewSelector()}
	switch spec.Mode {
	case v1alpha1.OneMode, v1alpha1.AllMode:
		if spec.Value != "" {
			return s, fmt.Errorf("%s.value: has no effect with mode %s", place, spec.Mode)
		}
	case v1alpha1.FixedMode, v1alpha1.FixedPercentMode, v1alpha1.RandomMaxPercentMode:
		var err error
		if s.value, err = strconv.Atoi(spec.Value); err != nil {
			return s, fmt.Errorf("%s.value: %w", place, err) // validate has seen it
		}
	default:
		return s, fmt.Errorf("%s.mode: unknown mode %q; have one, all, fixed, fixed-percent, random-max-percent", place, spec.Mode)
	}

	for _, other := range []struct {
		name string
		used bool
	}{
		{"annotationSelectors", len(spec.Selector.AnnotationSelectors) > 0},
		{"fieldSelectors", len(spec.Selector.FieldSelectors) > 0},
		{"nodeSelectors", len(spec.Selector.NodeSelectors) > 0},
		{"nodes", len(spec.Selector.Nodes) > 0},
		{"podPhaseSelectors", len(spec.Selector.PodPhaseSelectors) > 0},
		{"pods", len(spec.Selector.Pods) > 0},
	} {
		if other.used {
			return s, fmt.Errorf("%s.selector.%s: is not available on local processes; have labelSelectors, expressionSelectors", place, other.name)
		}
	}
	path := field.NewPath(place, "selector")
	for _, label := range slices.Sorted(maps.Keys(spec.Selector.LabelSelectors)) {
		value := spec.Selector.LabelSelectors[label]
		if err := s.require(path.Child("labelSelectors").Key(label), label, metav1.LabelSelectorOpIn, []string{value}); err != nil {
			return s, err
		}
	}
	for i, e := range spec.Selector.ExpressionSelectors {
		if err := s.require(path.Child("expressionSelectors").Index(i), e.Key, e.Operator, e.Values); err != nil {
			return s, err
		}
	}
	return s, nil
}

// operators are those of metav1.LabelSelectorAsSelector.
var operators = map[metav1.LabelSelectorOperator]selection.Operator{
	metav1.LabelSelectorOpIn:           selection.In,
	metav1.LabelSelectorOpNotIn:        selection.NotIn,
	metav1.LabelSelectorOpExists:       selection.Exists,
	metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
}

// require adds one requirement.
func (s *selector) require(path *field.Path, label string, op metav1.LabelSelectorOperator, values []string) error {
	operator, ok := operators[op]
	if !ok {
		return fmt.Errorf("%s.operator: unknown operator %q; have In, NotIn, Exists, DoesNotExist", path, op)
	}
	if label != OwnerOfLabel && label != RoleLabel {
		r, err := labels.NewRequirement(label, operator, values, field.WithPath(path))
		if err != nil {
			return err
		}
		s.labels = s.labels.Add(*r)
		return nil
	}
	// Their values need not be label values: TYPE/KEY is none.
	if op != metav1.LabelSelectorOpIn && op != metav1.LabelSelectorOpNotIn {
		return fmt.Errorf("%s.operator: %s says nothing with %s; have In, NotIn", path, op, label)
	}
	if len(values) == 0 || slices.Contains(values, "") {
		return fmt.Errorf("%s: %s needs a value", path, label)
	}
	s.lookups = append(s.lookups, lookup{label, values, op == metav1.LabelSelectorOpNotIn})
	return nil
}

// match returns the names of the selected nodes at this instant, sorted.
func (s *selector) match(ctx context.Context, nodes []Node, resolve func(ctx context.Context, label, value string) ([]string, error)) ([]string, error) {
	var names []string
	for _, n := range nodes {
		if s.labels.Matches(labels.Set(n.Labels)) {
			names = append(names, n.Name)
		}
	}
	slices.Sort(names)
	for _, l := range s.lookups {
		var having []string
		for _, value := range l.values {
			found, err := resolve(ctx, l.label, value)
			if err != nil {
				return nil, err
			}
			having = append(having, found...)
		}
		names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(having, name) == l.not })
	}
	return names, nil
}

// half is the minority or the majority of nodes.
func half(nodes []Node, role string, random *rand.Rand) []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	random.Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
	cut := (len(names) - 1) / 2
	if role == Minority {
		return names[:cut]
	}
	return names[cut:]
}

// take draws from the selected nodes as many as the mode says, sorted.
func (s *selector) take(names []string, random *rand.Rand) []string {
	n := len(names)
	switch s.mode {
	case v1alpha1.OneMode:
		n = min(1, n)
	case v1alpha1.FixedMode:
		n = min(s.value, n)
	case v1alpha1.FixedPercentMode:
		n = n * s.value / 100
	case v1alpha1.RandomMaxPercentMode:
		n = n * random.IntN(s.value+1) / 100
	}
	taken := slices.Clone(names)
	random.Shuffle(len(taken), func(i, k int) { taken[i], taken[k] = taken[k], taken[i] })
	taken = taken[:n]
	slices.Sort(taken)
	return taken
}
