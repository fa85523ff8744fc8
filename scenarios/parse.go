package scenarios

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"statequake/chaos"
)

// maxSize is the largest scenario accepted, in bytes.
const maxSize = 1 << 20

// Options changes how a scenario is parsed.
type Options struct {
	// Set holds path=value arguments, applied in order before anything is
	// checked. The value is YAML; an empty one removes the field.
	Set []string
	// CheckExpectation says what is wrong with one line of expect, if not nil.
	CheckExpectation func(name, limit string) error
}

// Parse reads a scenario; file names it in errors. All problems are reported
// together, one error each, as "file:line: field: problem", some with a second
// line "hint: ...". The result shares no memory with data.
func Parse(file string, data []byte, opt Options) (*Scenario, error) {
	_, s, err := parse(file, data, opt)
	return s, err
}

// parse is Parse; the parser knows where everything was written.
func parse(file string, data []byte, opt Options) (*parser, *Scenario, error) {
	if len(data) > maxSize {
		return nil, nil, problem{text: "is larger than 1 MiB"}.format(file)
	}
	root, bad := document(data)
	if bad != nil {
		return nil, nil, bad.format(file)
	}
	if root == nil {
		return nil, nil, problem{text: "is empty", hint: "statequake scenarios lists bundled ones to start from"}.format(file)
	}
	p := &parser{origin: map[*yaml.Node]string{}, places: map[string]place{"": {line: 1}}}
	if root.Kind == yaml.MappingNode {
		for _, arg := range opt.Set {
			if bad := p.set(root, arg); bad != nil {
				p.problems = append(p.problems, *bad)
			}
		}
	}
	s := p.scenario(file, root, opt)
	s.Claim = claim(data)
	if err := join(file, p.problems); err != nil {
		return nil, nil, err
	}
	return p, s, nil
}

// claim returns the leading comment that begins with "# Claim:", up to an
// empty comment line or the first line that is none.
func claim(data []byte) string {
	var words []string
	found := false
	for line := range strings.Lines(string(data)) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "#")
		text = strings.TrimSpace(text)
		if rest, ok := strings.CutPrefix(text, "Claim:"); ok && !found {
			found, text = true, rest
		}
		if !ok || found && text == "" {
			break
		}
		if found {
			words = append(words, strings.Fields(text)...)
		}
	}
	return strings.Join(words, " ")
}

var namePattern = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

func (p *parser) scenario(file string, root *yaml.Node, opt Options) *Scenario {
	o := p.object("", root, []string{"name", "seed", "system", "load", "probe", "record", "faults", "abort", "expect", "reveals", "machine", "resolved"})
	if o.broken {
		return &Scenario{}
	}
	var s Scenario
	o.need("name", "")
	s.Name = p.name(o)
	o.need("seed", "seed: 42, or any other whole number, makes operations and fault times repeatable")
	s.Seed = o.integer("seed", 0, -1<<63, 1<<63-1)
	var system, load object
	s.System, system = p.system(o)
	s.Load, load = p.load(o, filepath.Dir(file))
	p.schedule(load, &s.Load, filepath.Dir(file))
	p.own(system, &s, filepath.Dir(file))
	p.retry(load, &s)
	p.sessions(load, &s.Load)
	s.Probe = p.probe(o, s.System.Nodes)
	s.Record = p.record(o)
	s.Faults = p.faults(o)
	s.Abort = p.abort(o)
	s.Expect = p.expect(o, opt.CheckExpectation)
	s.Reveals = o.choice("reveals", "", "kind of violation", violationKinds)
	s.System.Network = p.joined(system, s.Faults)
	p.contradictions(&s)
	p.disks(&s)
	p.storeRoles(&s)
	p.early(&s)
	p.scripted(&s)
	return &s
}

func (p *parser) name(o object) string {
	name, ok := o.scalar("name")
	if ok && !namePattern.MatchString(name) {
		o.refuse("name", "", "%q is not a name: lower-case letters, digits and dashes, at most 64", shorten(name))
	}
	return name
}

// system reads the system, but not what describes one's own.
func (p *parser) system(root object) (System, object) {
	root.need("system", "system: {name: reference}")
	o := root.object("system", append(slices.Clone(systemFields), "store")...)
	if root.has("system") {
		o.need("name", "name: reference is the bundled runtime; any other name, with exec or url, is one's own system")
	}
	nodes := int64(3)
	if isOwn(o) {
		nodes = 1
	}
	s := System{
		Name:         p.systemName(o),
		Nodes:        int(o.integer("nodes", nodes, 1, 9)),
		Store:        p.store(o),
		Ack:          o.choice("ack", "durable", "contract", []string{"durable", "memory"}),
		RestartDelay: o.duration("restart_delay", time.Second, 0, 10*time.Minute),
		StoreDelay:   o.duration("store_delay", 0, 0, 10*time.Second),
		Shards:       int(o.integer("shards", 16, 1, 1024)),
		MaxMemory:    o.size("max_memory", 0, 1<<10, 1<<40),
	}
	if bug, _ := o.scalar("bug"); bug != "" {
		s.Bug = o.choice("bug", "", "bug", bugs)
	}
	window := o.duration("window", 500*time.Millisecond, time.Millisecond, time.Minute)
	switch {
	case s.Ack == "memory":
		s.Window = window
	case o.has("window"):
		o.refuse("window", "system.ack: memory has one", "contradicts ack: durable, under which nothing acknowledged is volatile")
	}
	return s, o
}

// store reads where the reference runtime keeps its state.
func (p *parser) store(system object) string {
	if !isOwn(system) {
		return system.choice("store", "etcd", "store", []string{"etcd", "postgres"})
	}
	if system.has("store") {
		system.refuse("store", "", "means something to the reference runtime only")
	}
	return ""
}

// joined reads what joins the nodes. Streams need no privileges, so they are what
// is taken if nothing is said and the faults can do with them.
func (p *parser) joined(system object, faults []Fault) string {
	network, given := system.scalar("network")
	if given {
		network = system.choice("network", "streams", "network", []string{"streams", "packets"})
	}
	some, packets := false, false
	for _, f := range faults {
		if f.Plan == nil || f.Plan.Kind != chaos.NetworkChaos {
			continue
		}
		some = true
		packets = packets || chaos.CheckStreams(f.Plan.Spec) != nil
	}
	switch {
	case !some && given:
		system.refuse("network", "", "says nothing without a NetworkChaos")
	case !some || given:
	case packets:
		network = "packets"
	default:
		network = "streams"
	}
	return network
}

// load reads the load, but for its retries. dir is the folder of the scenario file.
func (p *parser) load(root object, dir string) (Load, object) {
	root.need("load", "")
	o := root.object("load", "workload", "driver", "route", "arrivals", "warmup", "duration", "timeout", "max_conns", "retry")
	if !root.has("load") {
		return Load{}, o
	}
	var l Load
	l.Workload = p.workload(o)
	l.Driver, l.Script = p.driver(o, dir)
	l.Route = o.choice("route", "spread", "route", []string{"spread", "owner"})
	if l.Driver != "k6" || o.has("arrivals") {
		l.Arrivals = p.arrivals(o)
	}
	l.Warmup = o.duration("warmup", 2*time.Second, 0, 10*time.Minute)
	if l.Arrivals.Replay == nil && l.Arrivals.FindMax == nil { // which have a length of their own
		o.need("duration", "duration: 30s")
	}
	l.Duration = o.duration("duration", 0, time.Second, 24*time.Hour)
	l.Timeout = o.duration("timeout", 10*time.Second, 10*time.Millisecond, 10*time.Minute)
	l.MaxConns = int(o.integer("max_conns", 1024, 1, 65536))
	if l.Driver == "vegeta" && l.Arrivals.Clients > 0 {
		o.refuse("driver", "driver: http", "vegeta sends at a rate and has no closed loop")
	}
	if l.Driver == "k6" && o.has("arrivals") && l.Arrivals.Constant == 0 {
		o.refuse("arrivals", "arrivals: {constant: 500/s} is the rate of the script's statequake.pacer(), or leave it out", "the script decides when it sends, and takes a constant rate only")
	}
	return l, o
}

// retry reads load.retry. Its defaults depend on the system: what does not
// recognize an operation that it gets twice would apply it twice.
func (p *parser) retry(load object, s *Scenario) {
	retry := load.object("retry", "max", "duplicate")
	once := s.System.Own != nil && !s.System.Own.Idempotent()
	most := int64(3)
	if once {
		most = 0
	}
	s.Load.Retry.Max = int(retry.integer("max", most, 0, 100))
	s.Load.Retry.Duplicate = Percent(retry.number("duplicate", "%", 0, 0, 100, "1%"))
	const hint = "system.http.idempotent: true declares that an operation id is applied once"
	if once && s.Load.Retry.Max > 0 {
		retry.refuse("max", hint, "the system may apply an operation twice that is sent twice")
	}
	if once && s.Load.Retry.Duplicate > 0 {
		retry.refuse("duplicate", hint, "the system may apply an operation twice that is sent twice")
	}
}

// driver reads what sends the load: a name, or k6 with its script.
func (p *parser) driver(load object, dir string) (string, Script) {
	const hint = "driver: {k6: script.js}"
	if n := load.values["driver"]; n == nil || n.Kind != yaml.MappingNode {
		if name, _ := load.scalar("driver"); name == "k6" {
			load.refuse("driver", hint, "k6 needs a script")
			return "k6", Script{}
		}
		return load.choice("driver", "http", "driver", []string{"http", "vegeta"}), Script{}
	}
	o := load.object("driver", "k6", "binary")
	o.need("k6", hint)
	path := func(field string) string {
		text, _ := o.scalar(field)
		if text == "" || filepath.IsAbs(text) {
			return text
		}
		whole, err := filepath.Abs(filepath.Join(dir, text))
		if err != nil {
			o.refuse(field, "", "%v", err)
		}
		return whole
	}
	return "k6", Script{Path: path("k6"), Binary: path("binary")}
}

func (p *parser) probe(root object, nodes int) Probe {
	o := root.object("probe", "every", "keys")
	return Probe{
		Every: o.duration("every", 20*time.Millisecond, time.Millisecond, time.Minute),
		Keys:  int(o.integer("keys", int64(nodes), 1, 1024)),
	}
}

func (p *parser) record(root object) Record {
	return Record{Compress: root.object("record", "compress").choice("compress", "false", "value", []string{"true", "false"}) == "true"}
}

func (p *parser) faults(root object) []Fault {
	n := root.values["faults"]
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		root.refuse("faults", "faults: [{name: ..., at: 10s, chaos: {kind: ..., spec: ...}}]", "expected a list, got %s", describe(n))
		return nil
	}
	var faults []Fault
	var plans []*chaos.Fault
	first := map[string]string{}
	known := slices.Concat([]string{"name"}, chaos.Triggers(), []string{"chaos"})
	for i, item := range n.Content {
		path := fmt.Sprintf("faults[%d]", i)
		p.remember(path, nil, item)
		o := p.object(path, item, known)
		if o.broken {
			faults, plans = append(faults, Fault{}), append(plans, nil) // keeps the positions
			continue
		}
		o.need("name", "")
		o.need("chaos", "chaos: {kind: PodChaos, spec: {action: pod-kill, ...}}")
		f := Fault{Name: p.name(o)}
		if !slices.ContainsFunc(chaos.Triggers(), o.has) {
			f.Trigger = chaos.DefaultTrigger(kindOf(o.values["chaos"]))
		}
		if f.Trigger == nil {
			f.Trigger = p.trigger(o)
		}
		if other, ok := first[f.Name]; ok && o.has("name") {
			o.refuse("name", "", "%s is the name of %s too", f.Name, other)
		}
		first[f.Name] = path
		if o.has("chaos") {
			p.chaos(o, &f)
		}
		faults, plans = append(faults, f), append(plans, f.Plan)
	}
	p.refuseAll("", chaos.CheckTriggers(plans))
	return faults
}

// trigger reads when a fault starts; nil if it says nothing that can be.
func (p *parser) trigger(fault object) chaos.Trigger {
	object := map[string]json.RawMessage{}
	for _, field := range chaos.Triggers() {
		n := fault.values[field]
		if n == nil {
			continue
		}
		value, ok := p.foreign(join2(fault.path, field), n)
		if ok && field == "at" {
			problems := len(p.problems)
			fault.duration(field, 0, 0, 24*time.Hour)
			value, ok = quoted(n.Value), len(p.problems) == problems
		}
		if !ok {
			return nil
		}
		object[field] = value
	}
	text, err := json.Marshal(object)
	if err != nil {
		panic("scenarios: encode a trigger: " + err.Error()) // of JSON that was just made
	}
	trigger, err := chaos.ParseTrigger(text)
	p.refuseAll(fault.path, err)
	if err != nil {
		return nil
	}
	return trigger
}

// quoted is a text in JSON.
func quoted(s string) json.RawMessage {
	var b bytes.Buffer
	writeString(&b, s)
	return b.Bytes()
}

// storeRoles reports faults that select nodes by their role in a store of which
// they are no part.
func (p *parser) storeRoles(s *Scenario) {
	if s.System.Store != "postgres" {
		return
	}
	for i, f := range s.Faults {
		var object struct {
			Spec struct {
				Selector struct {
					LabelSelectors map[string]string `json:"labelSelectors"`
				} `json:"selector"`
			} `json:"spec"`
		}
		if f.Plan == nil || json.Unmarshal(f.Chaos, &object) != nil {
			continue // reported already
		}
		if role, ok := object.Spec.Selector.LabelSelectors[chaos.RoleLabel]; ok && role != chaos.Minority && role != chaos.Majority {
			p.refuse(fmt.Sprintf("faults[%d].chaos.spec.selector.labelSelectors.%s", i, chaos.RoleLabel),
				"system.store: etcd has a leader and followers; "+chaos.OwnerOfLabel+": hottest selects without them",
				"contradicts system.store: postgres, a server beside the nodes, so none of them is a %s", shorten(role))
		}
	}
}

// chaos reads the Chaos Mesh object of a fault.
// kindOf is the kind that an object of a fault has, "" if it has none.
func kindOf(object *yaml.Node) string {
	if object == nil || object.Kind != yaml.MappingNode {
		return ""
	}
	if _, kind := child(object, "kind"); kind != nil {
		return kind.Value
	}
	return ""
}

func (p *parser) chaos(o object, f *Fault) {
	path, n := join2(o.path, "chaos"), o.values["chaos"]
	if n.Kind != yaml.MappingNode {
		o.refuse("chaos", "", "expected a mapping, got %s", describe(n))
		return
	}
	object, ok := p.foreign(path, n)
	if !ok {
		return
	}
	plan, err := chaos.ParseFor(chaos.Local, f.Name, f.Trigger, object)
	p.refuseAll(path, err)
	f.Chaos, f.Plan = object, plan
}

// foreign returns the value at path as JSON, for a package that reads it by
// itself, and remembers where its parts were written.
func (p *parser) foreign(path string, n *yaml.Node) (json.RawMessage, bool) {
	object, bad := toJSON(n)
	if bad != nil {
		at := p.where(path)
		if at.set == "" {
			at.line = bad.place.line
		}
		p.problems = append(p.problems, problem{at, path, bad.text, bad.hint})
		return nil, false
	}
	p.rememberAll(path, n)
	return object, true
}

// refuseAll reports what was joined into err; each part reads "field: problem",
// the field seen from path.
func (p *parser) refuseAll(path string, err error) {
	for _, err := range split(err) {
		text, hint := splitHint(err)
		field, what, ok := strings.Cut(text, ": ")
		if !ok || strings.ContainsAny(field, ` "`) {
			p.refuse(path, hint, "%s", text)
			continue
		}
		p.refuse(join2(path, field), hint, "%s", what)
	}
}

// rememberAll notes where every value below n was written, by its path.
func (p *parser) rememberAll(path string, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			name := join2(path, n.Content[i].Value)
			p.remember(name, n.Content[i], n.Content[i+1])
			p.rememberAll(name, n.Content[i+1])
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			name := fmt.Sprintf("%s[%d]", path, i)
			p.remember(name, nil, item)
			p.rememberAll(name, item)
		}
	}
}

// split returns the errors that were joined into err.
func split(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func (p *parser) expect(root object, check func(name, limit string) error) map[string]string {
	o := root.object("expect")
	limits := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(o.values)) {
		limit, ok := o.scalar(name)
		if !ok {
			continue
		}
		limits[name] = limit
		if check == nil {
			continue
		}
		if err := check(name, limit); err != nil {
			text, hint := splitHint(err)
			o.refuse(name, hint, "%s", text)
		}
	}
	return limits
}
