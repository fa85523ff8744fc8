package compare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Gate says what decides the exit code beside a violation of correctness, which
// always does.
type Gate struct {
	File string `json:"file"`
	// Warn lets pass what these runs do not decide; it is said, and that is all.
	// What was not measured does not pass.
	Warn bool `json:"inconclusive_warns"`
}

// DefaultGate is the name of a gate without a file: every metric gates, with its
// own margin, and so does what is inconclusive.
const DefaultGate = "default"

// Budgets says by metric how much is allowed.
type Budgets map[string]Budget

// Budget is what is allowed of one metric. Limits hold for the median of head's
// usable runs, ends included; they are in the metric's unit.
type Budget struct {
	Margin   *float64 // 0.05: head may be worse by 5 %; nil is the metric's own
	Max, Min *float64 // Max of metrics of which lower is better, Min of the others
	Informs  bool     // it is shown, and decides nothing
}

// maxGate is the largest gate file accepted, in bytes.
const maxGate = 1 << 20

// ReadGate reads a gate file, see ParseGate, or returns DefaultGate's.
func ReadGate(file string) (Config, error) {
	if file == DefaultGate {
		return Config{Budgets: Budgets{}, Gate: &Gate{File: DefaultGate}}, nil
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%w\nhint: %s is the gate without a file", err, DefaultGate)
	}
	if err != nil {
		return Config{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxGate+1))
	if err != nil {
		return Config{}, fmt.Errorf("read %s: %w", file, err)
	}
	return ParseGate(file, data)
}

// gateSample is a gate file in one line.
const gateSample = `metrics: {p99: {margin: 15%, max: 500ms}, throughput: {min: 480/s}}`

// ParseGate reads a gate file, YAML with comments, into a Config whose pairing
// is Auto; file names it in errors. It is strict: every problem is an error
// "file:line: field: problem" with a hint in a line of its own, all joined.
//
//	alpha: 2%             # DefaultAlpha without it
//	inconclusive: warn    # or fail
//	others: inform        # metrics that are not named here; or gate
//	metrics:
//	  p99: {margin: 15%, max: 500ms}
//	  throughput: {min: 480/s}
//	  cpu_per_op: {gate: false}
func ParseGate(file string, data []byte) (Config, error) {
	doc, err := oneDocument(file, data)
	if err != nil {
		return Config{}, err
	}
	p := gateParser{file: file}
	cfg := Config{Budgets: Budgets{}, Gate: &Gate{File: file}}
	othersInform := false
	top := map[string]func(path string, value *yaml.Node){
		"alpha": func(path string, value *yaml.Node) {
			v, err := parseMargin(value.Value)
			if err != nil || !(v >= 0.0001 && v < 0.5) {
				p.refuse(value, path, "%q is not a chance from 0.01%% to less than 50%%", value.Value)("alpha: 2%%")
				return
			}
			cfg.Alpha = v
		},
		"inconclusive": func(path string, value *yaml.Node) {
			cfg.Gate.Warn = p.oneOf(path, value, "fail", "warn") == "warn"
		},
		"others": func(path string, value *yaml.Node) {
			othersInform = p.oneOf(path, value, "gate", "inform") == "inform"
		},
		"metrics": func(path string, value *yaml.Node) {
			p.fields(value, path, func(name string, key, value *yaml.Node) {
				i := slices.Index(metricNames(), name)
				if i < 0 {
					p.refuse(key, path, "unknown metric %q", name)("have %s", strings.Join(metricNames(), ", "))
					return
				}
				cfg.Budgets[name] = p.budget(metrics[i], path+"."+name, value)
			})
		},
	}
	p.fields(doc, "", func(name string, key, value *yaml.Node) {
		read, ok := top[name]
		switch {
		case ok && name != "metrics" && value.Kind != yaml.ScalarNode:
			p.refuse(value, name, "expected one value")("")
		case ok:
			read(name, value)
		case slices.Contains(metricNames(), name):
			p.refuse(key, "", "unknown field %q", name)("metrics: {%s: ...}", name)
		default:
			p.refuse(key, "", "unknown field %q", name)("have alpha, inconclusive, others, metrics")
		}
	})
	gates := false
	for _, m := range metrics {
		b, named := cfg.Budgets[m.name]
		if !named && othersInform {
			b.Informs = true
			cfg.Budgets[m.name] = b
		}
		gates = gates || !b.Informs
	}
	if len(p.problems) == 0 && !gates {
		p.refuse(doc, "", "no metric gates")("%s", gateSample)
	}
	if err := errors.Join(p.problems...); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// oneDocument is the only YAML document in data.
func oneDocument(file string, data []byte) (*yaml.Node, error) {
	if len(data) > maxGate {
		return nil, fmt.Errorf("%s: is larger than 1 MiB", file)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, fmt.Errorf("%s: is empty\nhint: %s", file, gateSample)
	} else if err != nil {
		return nil, notYAML(file, err)
	}
	if err := decoder.Decode(&more); err == nil {
		return nil, fmt.Errorf("%s:%d: a second document begins", file, more.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, notYAML(file, err)
	}
	return doc.Content[0], nil
}

// gateParser collects what is wrong with a gate file.
type gateParser struct {
	file     string
	problems []error
}

// refuse adds a problem, and returns what adds the hint to it.
func (p *gateParser) refuse(n *yaml.Node, path, format string, args ...any) func(hint string, args ...any) {
	if path != "" {
		path += ": "
	}
	at := len(p.problems)
	p.problems = append(p.problems, fmt.Errorf("%s:%d: %s%s", p.file, n.Line, path, fmt.Sprintf(format, args...)))
	return func(hint string, args ...any) {
		if hint != "" {
			p.problems[at] = fmt.Errorf("%w\nhint: %s", p.problems[at], fmt.Sprintf(hint, args...))
		}
	}
}

// fields calls each with the fields of a mapping.
func (p *gateParser) fields(n *yaml.Node, path string, each func(name string, key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		p.refuse(n, path, "expected a mapping")("%s", gateSample)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			p.refuse(key, path, "a field name must be a word")("")
			continue
		}
		if seen[key.Value] {
			p.refuse(key, path, "%q is given twice", key.Value)("")
			continue
		}
		seen[key.Value] = true
		each(key.Value, key, value)
	}
}

// oneOf reads one of two words.
func (p *gateParser) oneOf(path string, value *yaml.Node, words ...string) string {
	if !slices.Contains(words, value.Value) {
		p.refuse(value, path, "%q is neither %s", value.Value, strings.Join(words, " nor "))("%s: %s", path, words[0])
	}
	return value.Value
}

// budget reads what is allowed of a metric.
func (p *gateParser) budget(m metric, path string, n *yaml.Node) Budget {
	var b Budget
	limit := "max"
	if m.higher {
		limit = "min"
	}
	var limited *yaml.Node
	p.fields(n, path, func(field string, key, value *yaml.Node) {
		path := path + "." + field
		if value.Kind != yaml.ScalarNode {
			p.refuse(value, path, "expected one value")("")
			return
		}
		var v float64
		var err error
		var into **float64
		switch field {
		case "gate":
			var gates bool
			if err := value.Decode(&gates); err != nil || value.Tag != "!!bool" {
				p.refuse(value, path, "%q is neither true nor false", value.Value)("gate: false shows the metric only")
			}
			b.Informs = !gates
			return
		case "margin":
			into = &b.Margin
			v, err = parseMargin(value.Value)
		case limit:
			limited = key
			into = &b.Max
			if m.higher {
				into = &b.Min
			}
			v, err = m.unit.parse(value.Value)
		default:
			p.refuse(key, path, "unknown field")("have gate, margin, %s", limit)
			return
		}
		if err != nil {
			p.refuse(value, path, "%v", err)("")
			return
		}
		*into = &v
	})
	if b.Informs && limited != nil {
		p.refuse(limited, path+"."+limit, "a limit decides, and gate: false says that nothing does")("remove one of them")
	}
	return b
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
