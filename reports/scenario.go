package reports

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"statequake/history"
	"statequake/reports/recovery"
	"statequake/reports/stats"
)

// scenarioFile is the resolved scenario in a run directory.
const scenarioFile = "scenario.yaml"

// scenario is what the verdict needs of a resolved scenario. Other fields are
// left alone: whether they are right was settled before the run.
type scenario struct {
	text    string // the file
	Claim   string `yaml:"-"` // from the leading comment "# Claim:"
	Name    string `yaml:"name"`
	Seed    int64  `yaml:"seed"`
	Reveals string `yaml:"reveals"`

	System struct {
		Name    string        `yaml:"name"`
		Version string        `yaml:"version"`
		Nodes   int           `yaml:"nodes"`
		Store   string        `yaml:"store"`
		Network string        `yaml:"network"`
		Ack     string        `yaml:"ack"`
		Window  time.Duration `yaml:"window"`
		Bug     string        `yaml:"bug"`
		URL     urls          `yaml:"url"`
		HTTP    *struct {
			Ops map[string]yaml.Node `yaml:"ops"`
		} `yaml:"http"`
	} `yaml:"system"`

	Load struct {
		Driver   driver `yaml:"driver"`
		Arrivals struct {
			Closed struct {
				Clients int `yaml:"clients"`
			} `yaml:"closed"`
			FindMax *findMax `yaml:"find_max"`
		} `yaml:"arrivals"`
		Warmup   time.Duration `yaml:"warmup"`
		Duration time.Duration `yaml:"duration"`
	} `yaml:"load"`

	Faults []struct {
		Name  string `yaml:"name"`
		Chaos struct {
			Kind string `yaml:"kind"`
			Spec struct {
				Action string `yaml:"action"`
			} `yaml:"spec"`
		} `yaml:"chaos"`
	} `yaml:"faults"`

	search *stats.Search // of load.arrivals.find_max; nil without it

	Expect  map[string]string `yaml:"expect"`
	Machine Machine           `yaml:"machine"`

	Resolved struct {
		Statequake string `yaml:"statequake"`
		Isolation  string `yaml:"isolation"`
	} `yaml:"resolved"`
}

// Machine is the machine that a run was made on; zero values are unknown.
type Machine struct {
	OS     string `yaml:"os" json:"os"`
	Arch   string `yaml:"arch" json:"arch"`
	Kernel string `yaml:"kernel" json:"kernel,omitempty"`
	Go     string `yaml:"go" json:"go"`
	CPUs   int    `yaml:"cpus" json:"cpus"`
	Memory int64  `yaml:"memory_bytes" json:"memory_bytes,omitempty"`
}

// urls is a URL, or a list of them, as one text.
type urls string

// UnmarshalYAML reads a string or a list of strings.
func (u *urls) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.SequenceNode {
		return node.Decode((*string)(u))
	}
	var list []string
	if err := node.Decode(&list); err != nil {
		return err
	}
	*u = urls(strings.Join(list, ", "))
	return nil
}

// driver is what sent the load.
type driver struct {
	Name   string
	Script string // of k6
}

// UnmarshalYAML reads a name, or a mapping whose field k6 names a script.
func (d *driver) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return node.Decode(&d.Name)
	}
	var of struct {
		K6 *string `yaml:"k6"`
	}
	if err := node.Decode(&of); err != nil {
		return err
	}
	if of.K6 != nil {
		d.Name, d.Script = "k6", *of.K6
	}
	return nil
}

// undriven says what the figures of a load lack because k6 had nobody to send it,
// "" if they lack nothing. What a stop left unsent is no such thing.
func (s *scenario) undriven(footer *history.Footer, unsent int64) string {
	if s.Load.Driver.Name != "k6" || unsent == 0 || footer != nil && footer.Stopped+footer.Aborted != "" {
		return ""
	}
	were := "operations were"
	if unsent == 1 {
		were = "operation was"
	}
	return fmt.Sprintf("k6 had too few virtual users: %s %s left unsent, and latencies lack what those would have waited. A larger maxVUs, or statequake.pacer with any number of users, has them.", count(unsent), were)
}

// witnessed reports whether the system under test keeps a witness for the audit
// to read. A system that the scenario maps to HTTP requests does so only if
// there is a request for it.
func (s *scenario) witnessed() bool {
	if s.System.HTTP == nil {
		return true
	}
	_, ok := s.System.HTTP.Ops[history.WitnessOp]
	return ok
}

// observed are kinds of faults that nobody injected: what befell the system by
// itself.
var observed = []string{"OwnExit", "NotReady"}

// unplanned are the names of faults that are no part of the scenario: those by
// hand, but not what befell the system by itself.
func (s *scenario) unplanned(faults []recovery.Fault) []string {
	planned := map[string]bool{}
	for _, f := range s.Faults {
		planned[f.Name] = true
	}
	var names []string
	for _, f := range faults {
		if !planned[f.Name] && !slices.Contains(observed, f.Kind) {
			names = append(names, f.Name)
		}
	}
	return names
}

// readScenario reads the resolved scenario of a run directory.
func readScenario(dir string) (*scenario, error) {
	path := filepath.Join(dir, scenarioFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	var s scenario
	if err := yaml.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.text = string(data)
	s.Claim = claim(s.text)
	if s.System.Version == "" && s.System.Name == "reference" {
		s.System.Version = s.Resolved.Statequake // it comes with statequake
	}
	var problems []error
	refuse := func(field, problem string) {
		problems = append(problems, fmt.Errorf("%s: %s: %s", path, field, problem))
	}
	if s.Name == "" {
		refuse("name", "missing")
	}
	if s.System.Ack == "" {
		refuse("system.ack", "missing, so there is no contract to judge by")
	}
	if s.Load.Duration <= 0 {
		refuse("load.duration", "missing or not positive")
	}
	if f := s.Load.Arrivals.FindMax; f != nil {
		if s.search, err = f.search(); err != nil {
			refuse("load.arrivals.find_max", err.Error())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Expect)) {
		if err := CheckExpectation(name, s.Expect[name]); err != nil {
			text, _, _ := strings.Cut(err.Error(), "\nhint: ")
			refuse("expect."+name, text)
		}
	}
	return &s, errors.Join(problems...)
}

// claim is the text of a leading comment that begins with "# Claim:", up to an
// empty comment line or the first line that is none.
func claim(text string) string {
	var words []string
	found := false
	for line := range strings.Lines(text) {
		line, ok := strings.CutPrefix(strings.TrimSpace(line), "#")
		line = strings.TrimSpace(line)
		if rest, begins := strings.CutPrefix(line, "Claim:"); begins && !found {
			found, line = true, rest
		}
		if !ok || found && line == "" {
			break
		}
		if found {
			words = append(words, strings.Fields(line)...)
		}
	}
	return strings.Join(words, " ")
}
