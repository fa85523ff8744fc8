package groups

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"statequake/reports"
	"statequake/reports/plot"
)

// Scale says what a scale curve shows.
type Scale struct {
	By     string // path of a numeric field of the resolved scenario
	Figure string // throughput, p50, p99 or knee
	Ideal  *bool  // whether to draw the line in proportion to the first point; nil: where more of By should bring more of Figure
}

// figures are what the y axis of a scale curve can show.
var figures = []choice{
	{"throughput", "answered ok (1/s)"},
	{"p50", "p50 latency (ms)"},
	{"p99", "p99 latency (ms)"},
	{"knee", "highest rate within the bound (1/s)"},
}

// Draw draws the scale curve. Groups of one system and one contract are joined
// by a line.
func (s Scale) Draw(groups []*Group) (*Picture, error) {
	figure, err := pick("figure", s.Figure, figures)
	if err != nil {
		return nil, err
	}
	grows := s.Figure == "throughput" || s.Figure == "knee"
	if s.Ideal != nil && *s.Ideal && !grows {
		return nil, fmt.Errorf("--ideal: a latency does not grow in proportion; only with --figure throughput or knee")
	}
	p := plot.Scale{Title: title("Scale", groups), Y: figure, Ideal: grows && (s.By == "system.nodes" || s.By == "load.arrivals.closed.clients")}
	if s.Ideal != nil {
		p.Ideal = *s.Ideal
	}
	picture := &Picture{}
	unit := ""
	for i, g := range groups {
		if err := g.keep(func(r *Run) string {
			if why := passed(r); why != "" {
				return why
			}
			return s.why(r.verdict)
		}); err != nil {
			return nil, err
		}
		drawn := plot.ScaleGroup{Name: g.Name, Series: g.System + ", " + g.Contract()}
		for j, r := range g.Runs {
			x, its, err := field(r.Dir, s.By)
			if err != nil {
				return nil, err
			}
			if i == 0 && j == 0 {
				unit = its
			}
			switch {
			case its != unit:
				return nil, fmt.Errorf("%s: %s: has the unit %q, others have %q", r.Dir, s.By, its, unit)
			case !(x > 0):
				return nil, fmt.Errorf("%s: %s: is %v, must be positive", r.Dir, s.By, x)
			case j > 0 && x != drawn.X:
				return nil, fmt.Errorf("%s: %s: is %v, and %v in other runs of the group\nhint: a group is one point; make two groups of them", r.Dir, s.By, x, drawn.X)
			}
			drawn.X = x
			drawn.Runs = append(drawn.Runs, plot.ScaleRun{Name: r.Name, Value: s.value(r.verdict)})
		}
		p.Groups = append(p.Groups, drawn)
		picture.Lines = append(picture.Lines, fmt.Sprintf("%s: %s %v%s; %s; %s", reports.Harmless(g.Name), s.By, drawn.X, unit, reports.Plural(int64(len(g.Runs)), "run"), g.Contract()))
	}
	p.X = reports.Clip(s.By, 80)
	if unit != "" {
		p.X += " (" + strings.TrimPrefix(unit, " ") + ")"
	}
	p.Notes = notes(groups)
	picture.Notes = p.Notes
	picture.Files, err = p.Files()
	return picture, err
}

// why is why a run's figure is unknown, "" if it is not.
func (s Scale) why(v *reports.Verdict) string {
	switch {
	case s.Figure != "knee" && v.FindMax != nil:
		return "searched for the highest rate" // the better system is driven further
	case !math.IsNaN(s.value(v)):
		return ""
	case s.Figure == "knee" && v.FindMax != nil:
		return "without a knee of the system"
	}
	return "without this figure"
}

// value is NaN if unknown.
func (s Scale) value(v *reports.Verdict) float64 {
	switch s.Figure {
	case "knee":
		if v.FindMax != nil && v.FindMax.OfSystem() != nil {
			return *v.FindMax.OfSystem()
		}
	case "throughput":
		if v.Throughput.All != nil {
			return *v.Throughput.All
		}
	case "p50", "p99":
		all := v.Latency.All
		switch {
		case all.N == 0:
		case s.Figure == "p50":
			return milliseconds(all.P50)
		default:
			return milliseconds(all.P99)
		}
	}
	return math.NaN()
}

// field is a number in the resolved scenario of a run directory: a plain one, a
// rate as in 500/s, a share as in 5%, or a duration, which is in seconds.
func field(dir, path string) (value float64, unit string, err error) {
	file := filepath.Join(dir, "scenario.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, "", err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return 0, "", fmt.Errorf("%s: %w", file, err)
	}
	if len(doc.Content) == 0 {
		return 0, "", fmt.Errorf("%s: is empty", file)
	}
	node := doc.Content[0]
	for _, name := range strings.Split(path, ".") {
		node = child(node, name)
		if node == nil {
			return 0, "", fmt.Errorf("%s: %s: there is no such field\nhint: a path names a field of the resolved scenario, as in load.arrivals.closed.clients", file, path)
		}
	}
	text := node.Value
	for _, suffix := range []string{"/s", "%"} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = rest, suffix
		}
	}
	if node.Kind == yaml.ScalarNode {
		if value, err = strconv.ParseFloat(text, 64); err == nil && !math.IsInf(value, 0) && !math.IsNaN(value) {
			return value, unit, nil
		}
		if d, err := time.ParseDuration(node.Value); err == nil {
			return d.Seconds(), " s", nil
		}
	}
	return 0, "", fmt.Errorf("%s:%d: %s: is not a number", file, node.Line, path)
}

// child is the member of a mapping, or nil.
func child(node *yaml.Node, name string) *yaml.Node {
	if node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == name {
				return node.Content[i+1]
			}
		}
	}
	return nil
}
