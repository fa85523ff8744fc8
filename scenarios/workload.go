package scenarios

import (
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"statequake/fixtures/custom"
	"statequake/loadgen"
)

// Config is the workload for the load generator, with the seed of its scenario.
func (w Workload) Config(seed int64) loadgen.WorkloadConfig {
	return loadgen.WorkloadConfig{
		Name: w.Name, Keys: w.Keys, Mix: w.Mix, Seed: seed, Retire: w.Retire, Sessions: w.Sessions,
		Zipf: w.Zipf, Latest: w.Latest, Hot: loadgen.HotSet{Keys: w.HotKeys.Share(), Ops: w.HotOps.Share()},
		Values: loadgen.Sizes{From: w.ValuesFrom, To: w.ValuesTo},
	}
}

func (p *parser) workload(load object) Workload {
	load.need("workload", "workload: {name: shopping-cart}")
	o := load.object("workload", "name", "keys", "skew", "mix", "value_size", "sessions", "retire")
	if !load.has("workload") {
		return Workload{}
	}
	o.need("name", oneOf(loadgen.WorkloadNames()))
	w := Workload{
		Name: o.choice("name", "", "workload", loadgen.WorkloadNames()),
		Keys: int(o.integer("keys", 1000, 1, 1_000_000)),

		Retire: int(o.integer("retire", loadgen.MaxRetire, loadgen.MinRetire, loadgen.MaxRetire)),
	}
	own := loadgen.DefaultsOf(w.Name)
	if w.Name == "ledger" && w.Keys == 1 {
		o.refuse("keys", "", "1 is out of range (2 to 1000000): a transfer of ledger needs two accounts")
	}
	w.Sessions = int(o.integer("sessions", int64(own.Sessions), 1, loadgen.MaxSessions))
	p.skew(o, &w, own.Skew)
	p.valueSize(o, &w, own)
	w.Mix = p.mix(o, w.Name)
	return w
}

// latestZipf is the exponent of skew: latest, that of YCSB.
const latestZipf = 0.99

// skew reads how popular keys are.
func (p *parser) skew(o object, w *Workload, own loadgen.Skew) {
	n := o.values["skew"]
	if n == nil {
		w.Zipf, w.Latest = own.Zipf, own.Latest
		return
	}
	const hint = "skew: {zipf: 0.99}, {latest: 0.99}, {hot: {keys: 1%, ops: 90%}}, or skew: uniform"
	if n.Kind == yaml.ScalarNode {
		if o.choice("skew", "uniform", "skew", []string{"uniform", "latest", "{zipf: exponent}", "{latest: exponent}", "{hot: {keys: share, ops: share}}"}) == "latest" {
			w.Zipf, w.Latest = latestZipf, true
		}
		return
	}
	skew := o.object("skew", "zipf", "latest", "hot")
	if skew.broken {
		return
	}
	if len(skew.values) != 1 {
		o.refuse("skew", hint, "want one of zipf, latest, hot")
		return
	}
	w.Latest = skew.has("latest")
	w.Zipf = skew.number("zipf", "", 0, 0.01, 5, "0.99") + skew.number("latest", "", 0, 0.01, 5, "0.99")
	if skew.has("hot") {
		hot := skew.object("hot", "keys", "ops")
		hot.need("keys", "keys: 1%")
		hot.need("ops", "ops: 90%")
		w.HotKeys = Percent(hot.number("keys", "%", 0, 0.0001, 100, "1%"))
		w.HotOps = Percent(hot.number("ops", "%", 0, 0.0001, 100, "90%"))
	}
}

// valueSize reads how long the values are that the workload writes.
func (p *parser) valueSize(o object, w *Workload, own loadgen.Defaults) {
	n := o.values["value_size"]
	w.ValuesFrom, w.ValuesTo = own.Values.From, own.Values.To
	if n == nil {
		return
	}
	if w.Name != "" && !own.Writes {
		o.refuse("value_size", "", "means nothing to workload %s: register and ycsb-a to ycsb-f write values", w.Name)
		return
	}
	if n.Kind == yaml.ScalarNode {
		w.ValuesFrom = int(o.integer("value_size", 0, 1, loadgen.MaxValue))
		w.ValuesTo = w.ValuesFrom
		return
	}
	sizes := o.object("value_size", "from", "to")
	sizes.need("from", "value_size: {from: 10, to: 1000}, or value_size: 100")
	sizes.need("to", "value_size: {from: 10, to: 1000}, or value_size: 100")
	w.ValuesFrom = int(sizes.integer("from", 1, 1, loadgen.MaxValue))
	w.ValuesTo = int(sizes.integer("to", loadgen.MaxValue, 1, loadgen.MaxValue))
	if w.ValuesFrom > w.ValuesTo {
		sizes.refuse("to", "", "%d is less than from, which is %d", w.ValuesTo, w.ValuesFrom)
	}
}

// sessions reports what a load with clients of its own cannot have.
func (p *parser) sessions(load object, l *Load) {
	n := l.Workload.Sessions
	if n == 0 {
		return
	}
	const path = "load.workload.sessions"
	if !load.has("workload") {
		return
	}
	if l.Driver == "k6" {
		if n != loadgen.DefaultsOf(l.Workload.Name).Sessions {
			p.refuse(path, "", "contradicts load.driver.k6, whose users are those of the script")
		}
		l.Workload.Sessions = 0
		return
	}
	if l.Arrivals.Clients > 0 {
		p.refuse(path, "arrivals: {constant: 200/s} has each client do something every sessions / rate", "contradicts load.arrivals.closed, whose clients take whatever operation is next")
	}
	if l.Driver == "vegeta" {
		p.refuse(path, "driver: http", "contradicts load.driver: vegeta, whose workers belong to nobody")
	}
	if need := loadgen.ConnsOf(n, l.Retry.Duplicate.Share()); need > l.MaxConns {
		p.refuse(path, "", "%d clients need %d connections so that none waits for another, more than load.max_conns, which is %d", n, need, l.MaxConns)
	}
}

// mix reads the weights of a workload's operations; without any it is the
// workload's own mix. workload is empty if it is not known.
func (p *parser) mix(o object, workload string) map[string]int {
	if loadgen.DefaultsOf(workload).Journey {
		if o.has("mix") {
			o.refuse("mix", "", "contradicts workload %s, whose journeys say what is sent", workload)
		}
		return nil
	}
	_, defaults := loadgen.Operations(workload)
	if !o.has("mix") || workload == "" {
		weights := map[string]int{}
		for _, d := range defaults {
			weights[d.Name] = d.Weight
		}
		return weights
	}
	var ops []string
	for _, d := range defaults {
		ops = append(ops, d.Name)
	}
	mix := o.object("mix")
	weights, sum := map[string]int{}, 0
	for _, op := range slices.Sorted(maps.Keys(mix.values)) {
		if !slices.Contains(ops, op) {
			mix.refuse(op, custom.DidYouMean(op, ops), "workload %s has no operation %q; %s", workload, shorten(op), oneOf(ops))
			continue
		}
		weights[op] = int(mix.integer(op, 1, 0, 1_000_000))
		sum += weights[op]
	}
	if sum == 0 && len(weights) == len(mix.values) {
		o.refuse("mix", "", "the weights add up to 0, so there is nothing to send")
	}
	return weights
}

// resolvedWorkload is the order and the spelling of a workload.
type resolvedWorkload struct {
	Name string         `yaml:"name"`
	Keys int            `yaml:"keys"`
	Skew any            `yaml:"skew,flow"`
	Mix  map[string]int `yaml:"mix,flow,omitempty"`

	ValueSize any `yaml:"value_size,flow,omitempty"`
	Sessions  int `yaml:"sessions,omitempty"`
	Retire    int `yaml:"retire"`
}

func (w Workload) resolved() resolvedWorkload {
	r := resolvedWorkload{Name: w.Name, Keys: w.Keys, Skew: "uniform", Mix: w.Mix, Sessions: w.Sessions, Retire: w.Retire}
	switch {
	case w.Latest:
		r.Skew = map[string]float64{"latest": w.Zipf}
	case w.Zipf > 0:
		r.Skew = map[string]float64{"zipf": w.Zipf}
	case w.HotOps > 0:
		r.Skew = map[string]any{"hot": map[string]string{"keys": decimal(float64(w.HotKeys)) + "%", "ops": decimal(float64(w.HotOps)) + "%"}}
	}
	switch {
	case w.ValuesTo == 0:
	case w.ValuesFrom == w.ValuesTo:
		r.ValueSize = w.ValuesFrom
	default:
		r.ValueSize = map[string]int{"from": w.ValuesFrom, "to": w.ValuesTo}
	}
	return r
}
