package scenarios

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"statequake/chaos"
)

// Facts are what a run directory records beside the scenario itself. They do
// not change what is run.
type Facts struct {
	Machine   Machine
	Version   string // of statequake
	Isolation string // how the run is kept apart from the rest of the machine
	RunTag    string // first part of every operation id of the run
}

// Machine is the machine that a run was made on.
type Machine struct {
	Go     string `yaml:"go"` // version of the Go toolchain that built statequake
	OS     string `yaml:"os"`
	Arch   string `yaml:"arch"`
	Kernel string `yaml:"kernel,omitempty"`       // release, empty if unknown
	CPUs   int    `yaml:"cpus"`                   // that this process may use
	Memory int64  `yaml:"memory_bytes,omitempty"` // 0 if unknown
}

// ThisMachine reads the facts of the machine it runs on.
func ThisMachine() Machine {
	m := Machine{Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	meminfo, _ := os.ReadFile("/proc/meminfo")
	if found := regexp.MustCompile(`(?m)^MemTotal:\s+(\d+) kB$`).FindSubmatch(meminfo); found != nil {
		kib, _ := strconv.ParseInt(string(found[1]), 10, 64)
		m.Memory = kib << 10
	}
	return m
}

// Resolved writes the scenario with every default filled in, and the facts, if
// there are any.
// Parse accepts the result, ignores the facts and returns a scenario equal to
// s, so a run directory's scenario can be run again.
func (s *Scenario) Resolved(facts Facts) ([]byte, error) {
	var b bytes.Buffer
	writeClaim(&b, s.Claim)

	file := resolvedFile{Name: s.Name, Seed: s.Seed, Expect: s.Expect, Reveals: s.Reveals, Machine: facts.Machine}
	var err error
	if file.System, err = s.System.resolved(); err != nil {
		return nil, fmt.Errorf("write scenario %s: %w", s.Name, err)
	}
	file.Load = resolvedLoad{
		Workload: s.Load.Workload.resolved(),
		Driver:   s.Load.Driver, Route: s.Load.Route,
		Warmup: s.Load.Warmup.String(), Duration: s.Load.Duration.String(), Timeout: s.Load.Timeout.String(),
		MaxConns: s.Load.MaxConns,
		Retry:    map[string]any{"max": s.Load.Retry.Max, "duplicate": decimal(float64(s.Load.Retry.Duplicate)) + "%"},
	}
	if s.Load.Driver == "k6" {
		file.Load.Driver = s.Load.Script.resolved()
	}
	if s.Load.Arrivals != (Arrivals{}) { // else a script decides
		file.Load.Arrivals = s.Load.Arrivals.resolved()
	}
	file.Probe = map[string]any{"every": s.Probe.Every.String(), "keys": s.Probe.Keys}
	file.Record = map[string]any{"compress": s.Record.Compress}
	file.Abort = s.Abort.resolved()
	for _, f := range s.Faults {
		object, err := fromJSON(f.Chaos)
		if err != nil {
			return nil, fmt.Errorf("fault %s: %w", f.Name, err)
		}
		file.Faults = append(file.Faults, newResolvedFault(f, object))
	}
	file.Resolved.Statequake, file.Resolved.Isolation, file.Resolved.RunTag = facts.Version, facts.Isolation, facts.RunTag

	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(file); err != nil {
		return nil, fmt.Errorf("write scenario %s: %w", s.Name, err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("write scenario %s: %w", s.Name, err)
	}
	return b.Bytes(), nil
}

// resolvedFile is the order and the spelling of a resolved scenario.
type resolvedFile struct {
	Name    string            `yaml:"name"`
	Seed    int64             `yaml:"seed"`
	System  resolvedSystem    `yaml:"system"`
	Load    resolvedLoad      `yaml:"load"`
	Probe   map[string]any    `yaml:"probe,flow"`
	Record  map[string]any    `yaml:"record,flow"`
	Faults  []resolvedFault   `yaml:"faults,omitempty"`
	Abort   map[string]any    `yaml:"abort,flow"`
	Expect  map[string]string `yaml:"expect,omitempty"`
	Reveals string            `yaml:"reveals,omitempty"`
	Machine Machine           `yaml:"machine,omitempty"`

	Resolved struct {
		Statequake string `yaml:"statequake"`
		Isolation  string `yaml:"isolation"`
		RunTag     string `yaml:"run_tag"`
	} `yaml:"resolved,omitempty"`
}

type resolvedSystem struct {
	Name         string  `yaml:"name"`
	Version      string  `yaml:"version,omitempty"`
	Nodes        int     `yaml:"nodes"`
	Store        string  `yaml:"store,omitempty"`
	Ack          string  `yaml:"ack"`
	Window       string  `yaml:"window,omitempty"`
	RestartDelay string  `yaml:"restart_delay,omitempty"`
	StoreDelay   string  `yaml:"store_delay,omitempty"`
	Shards       int     `yaml:"shards,omitempty"`
	MaxMemory    string  `yaml:"max_memory,omitempty"`
	Bug          *string `yaml:"bug,omitempty"`
	Network      string  `yaml:"network,omitempty"`

	Own map[string]*yaml.Node `yaml:",inline"` // exec, url, ready_url, http
}

// resolved is the system with the fields that its kind has.
func (s *System) resolved() (resolvedSystem, error) {
	r := resolvedSystem{Name: s.Name, Version: s.Version, Nodes: s.Nodes, Store: s.Store, Ack: s.Ack, Network: s.Network}
	if s.Ack == "memory" {
		r.Window = s.Window.String()
	}
	if s.Own == nil || s.Own.Started() {
		r.RestartDelay = s.RestartDelay.String()
	}
	if s.Own == nil {
		r.StoreDelay, r.Shards, r.Bug = s.StoreDelay.String(), s.Shards, &s.Bug
		if s.MaxMemory > 0 {
			r.MaxMemory = bytesText(s.MaxMemory)
		}
		return r, nil
	}
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(s.Own.Resolved(), &parts); err != nil {
		return r, fmt.Errorf("system: %w", err)
	}
	r.Own = map[string]*yaml.Node{}
	for field, part := range parts {
		node, err := fromJSON(part)
		if err != nil {
			return r, fmt.Errorf("system.%s: %w", field, err)
		}
		r.Own[field] = node
	}
	return r, nil
}

type resolvedLoad struct {
	Workload resolvedWorkload `yaml:"workload"`
	Driver   any              `yaml:"driver,flow"`
	Route    string           `yaml:"route"`
	Arrivals map[string]any   `yaml:"arrivals,flow,omitempty"`
	Warmup   string           `yaml:"warmup"`
	Duration string           `yaml:"duration"`
	Timeout  string           `yaml:"timeout"`
	MaxConns int              `yaml:"max_conns"`
	Retry    map[string]any   `yaml:"retry,flow"`
}

type resolvedFault struct {
	Name   string           `yaml:"name"`
	At     string           `yaml:"at,omitempty"`
	Within []string         `yaml:"within,flow,omitempty"`
	After  map[string]int64 `yaml:"after,flow,omitempty"`
	On     map[string]any   `yaml:"on,flow,omitempty"`
	While  string           `yaml:"while,omitempty"`
	Chaos  *yaml.Node       `yaml:"chaos"`
}

func newResolvedFault(f Fault, object *yaml.Node) resolvedFault {
	r := resolvedFault{Name: f.Name, Chaos: object}
	switch t := f.Trigger.(type) {
	case chaos.At:
		r.At = time.Duration(t).String()
	case chaos.Within:
		r.Within = []string{t.From.String(), t.To.String()}
	case chaos.AfterAcks:
		r.After = map[string]int64{"acks": int64(t)}
	case chaos.OnFile:
		r.On = map[string]any{t.Op: t.Path, "nth": t.Nth}
	case chaos.While:
		r.While = string(t)
	}
	return r
}

// writeClaim writes the leading comment that claim reads.
func writeClaim(b *bytes.Buffer, claim string) {
	if claim == "" {
		return
	}
	line := "# Claim:"
	for word := range strings.FieldsSeq(claim) {
		if len(line)+1+len(word) > 80 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

// decimal writes f in the fewest digits that read back as f.
func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// fromJSON is the inverse of toJSON.
func fromJSON(object json.RawMessage) (*yaml.Node, error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	decoder.UseNumber()
	n, err := nextNode(decoder)
	if err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	}
	return n, err
}

func nextNode(decoder *json.Decoder) (*yaml.Node, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	scalar := func(tag, value string) (*yaml.Node, error) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}, nil
	}
	switch v := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if v == '{' {
			n.Kind = yaml.MappingNode
		}
		for decoder.More() {
			c, err := nextNode(decoder) // in an object, keys and values in turn
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		_, err := decoder.Token() // the closing delimiter
		return n, err
	case string:
		n, err := scalar("!!str", v)
		if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
			n.Style = yaml.DoubleQuotedStyle
		}
		return n, err
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return scalar("!!float", v.String())
		}
		return scalar("!!int", v.String())
	case bool:
		return scalar("!!bool", strconv.FormatBool(v))
	default:
		return scalar("!!null", "null")
	}
}
