package compare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Budgets says by metric how much is allowed.
type Budgets map[string]Budget

// Budget is what is allowed of one metric. Limits hold for the median of head's
// usable runs, ends included; they are in the metric's unit.
type Budget struct {
	Margin   *float64 // 0.05: head may be worse by 5 %; nil is the metric's own
	Max, Min *float64 // Max of metrics of which lower is better, Min of the others
}

// maxBudget is the largest budget file accepted, in bytes.
const maxBudget = 1 << 20

// ReadBudgets reads a budget file, see ParseBudgets.
func ReadBudgets(file string) (Budgets, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBudget+1))
	if err != nil {
		return nil, fmt.Errorf("read budgets: %w", err)
	}
	return ParseBudgets(file, data)
}

// ParseBudgets reads budgets in YAML; file names them in errors. It is strict:
// every problem is an error "file:line: field: problem", all joined.
//
//	p99: {margin: 15%, max: 500ms}
//	throughput: {min: 480/s}
func ParseBudgets(file string, data []byte) (Budgets, error) {
	if len(data) > maxBudget {
		return nil, fmt.Errorf("%s: is larger than 1 MiB", file)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, fmt.Errorf("%s: is empty\nhint: p99: {margin: 15%%, max: 500ms}", file)
	} else if err != nil {
		return nil, notYAML(file, err)
	}
	if err := decoder.Decode(&more); err == nil {
		return nil, fmt.Errorf("%s:%d: a second document begins", file, more.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, notYAML(file, err)
	}
	b := Budgets{}
	var problems []error
	refuse := func(n *yaml.Node, path, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s:%d: %s%s", file, n.Line, path, fmt.Sprintf(format, args...)))
	}
	fields := func(n *yaml.Node, path string, each func(name string, key, value *yaml.Node)) {
		if n.Kind != yaml.MappingNode {
			refuse(n, path, "expected a mapping")
			return
		}
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if key.Kind != yaml.ScalarNode {
				refuse(key, path, "a field name must be a word")
				continue
			}
			if seen[key.Value] {
				refuse(key, path, "%q is given twice", key.Value)
				continue
			}
			seen[key.Value] = true
			each(key.Value, key, value)
		}
	}
	fields(doc.Content[0], "", func(name string, key, value *yaml.Node) {
		i := slices.Index(metricNames(), name)
		if i < 0 {
			refuse(key, "", "unknown metric %q; have %s", name, strings.Join(metricNames(), ", "))
			return
		}
		m, budget := metrics[i], Budget{}
		fields(value, name+": ", func(field string, key, value *yaml.Node) {
			parse, into := m.unit.parse, &budget.Max
			switch {
			case field == "margin":
				parse, into = parseMargin, &budget.Margin
			case field == "min" && m.higher:
				into = &budget.Min
			case field == "max" && !m.higher:
			default:
				limit := "max"
				if m.higher {
					limit = "min"
				}
				refuse(key, name+": ", "unknown field %q; have margin, %s", field, limit)
				return
			}
			if value.Kind != yaml.ScalarNode {
				refuse(value, name+"."+field+": ", "expected one value")
				return
			}
			v, err := parse(value.Value)
			if err != nil {
				refuse(value, name+"."+field+": ", "%v", err)
				return
			}
			*into = &v
		})
		b[name] = budget
	})
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return b, nil
}

// notYAML puts the file's name before an error of the YAML library, which
// names the line where it can.
func notYAML(file string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if line, rest, ok := strings.Cut(strings.TrimPrefix(text, "line "), ": "); ok && strings.HasPrefix(text, "line ") {
		return fmt.Errorf("%s:%s: not YAML: %s", file, line, rest)
	}
	return fmt.Errorf("%s: not YAML: %s", file, text)
}

// SetMargin reads METRIC=PERCENT, as in p99=15%, into b.
func (b Budgets) SetMargin(arg string) error {
	name, percent, ok := strings.Cut(arg, "=")
	if !ok {
		return fmt.Errorf("margin %q: expected METRIC=PERCENT, as in p99=15%%", arg)
	}
	if !slices.Contains(metricNames(), name) {
		return fmt.Errorf("margin %q: unknown metric %q; have %s", arg, name, strings.Join(metricNames(), ", "))
	}
	margin, err := parseMargin(percent)
	if err != nil {
		return fmt.Errorf("margin %q: %w", arg, err)
	}
	budget := b[name]
	budget.Margin = &margin
	b[name] = budget
	return nil
}

// parseMargin reads a share in percent, from 0 to 1000.
func parseMargin(s string) (float64, error) {
	number, ok := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || !(v >= 0 && v <= 1000) {
		return 0, fmt.Errorf("%q is not a margin from 0%% to 1000%%, as in 5%%", s)
	}
	return v / 100, nil
}

// parse reads a limit, at least 0.
func (u unit) parse(s string) (float64, error) {
	switch u {
	case nanoseconds:
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return 0, fmt.Errorf("%q is not a duration, as in 250ms", s)
		}
		return float64(d), nil
	case perSecond:
		number, ok := strings.CutSuffix(s, "/s")
		v, err := strconv.ParseFloat(number, 64)
		if !ok || err != nil || !(v >= 0 && v <= 1e12) {
			return 0, fmt.Errorf("%q is not a rate, as in 480/s", s)
		}
		return v, nil
	default:
		v, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%q is not a whole number, as in 0", s)
		}
		return float64(v), nil
	}
}

// limit is the absolute limit in words, empty if there is none.
func (b Budget) limit(m metric) string {
	switch {
	case b.Max != nil:
		return "at most " + m.unit.format(*b.Max)
	case b.Min != nil:
		return "at least " + m.unit.format(*b.Min)
	}
	return ""
}

func (b Budget) allows(v float64) bool {
	return (b.Max == nil || v <= *b.Max) && (b.Min == nil || v >= *b.Min)
}
