package scenarios

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"

	"statequake/fixtures/custom"
	"statequake/loadgen"
)

// referenceName is the name of the bundled runtime.
const referenceName = "reference"

// ownFields describe one's own system; the package custom reads them.
var ownFields = []string{"exec", "url", "ready_url", "http"}

// systemFields are the fields of system.
var systemFields = append([]string{
	"name", "version", "nodes", "ack", "window", "restart_delay", "store_delay", "shards", "max_memory", "bug", "network",
}, ownFields...)

// referenceFields mean something to the reference runtime only.
var referenceFields = []string{"store_delay", "shards", "max_memory", "bug"}

const witnessHint = "system.http.ops.witness reads the ids of the applied operations"

// isOwn tells whether a system is described by the scenario itself.
func isOwn(system object) bool { return slices.ContainsFunc(ownFields, system.has) }

func (p *parser) systemName(o object) string {
	if !isOwn(o) {
		if name, ok := o.scalar("name"); ok && name != referenceName {
			hint := custom.DidYouMean(name, []string{referenceName})
			if hint == "" {
				hint = "one's own system has system.exec or system.url, and system.http"
			}
			o.refuse("name", hint, "unknown system %q; have %s", shorten(name), referenceName)
		}
		return referenceName
	}
	name := p.name(o)
	if name == referenceName {
		o.refuse("name", "", "%s is the name of the bundled runtime; give your own system another one", referenceName)
	}
	return name
}

// own reads how to run or reach one's own system and what to send to it. dir is
// the folder of the scenario file.
func (p *parser) own(o object, s *Scenario, dir string) {
	if !isOwn(o) {
		if o.has("version") {
			o.refuse("version", "", "the reference runtime comes with statequake and has its version")
		}
		return
	}
	for _, field := range referenceFields {
		if o.has(field) {
			o.refuse(field, "", "means something to the reference runtime only")
		}
	}
	s.System.Version, _ = o.scalar("version")
	s.System.StoreDelay, s.System.Shards, s.System.MaxMemory, s.System.Bug = 0, 0, 0, ""
	if s.Load.Workload.Name == "" {
		return // reported already; without it nobody knows what has to be sent
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		p.refuse("system", "", "%v", err)
		return
	}
	object, ok := p.ownObject(o)
	if !ok {
		return
	}
	system, err := custom.Parse(object, custom.Options{Nodes: s.System.Nodes, Dir: dir, Ops: sent(s.Load.Workload)})
	p.refuseAll("system", err)
	if err != nil {
		return
	}
	s.System.Own, s.System.Nodes = system, system.Nodes()
	if !system.Started() && o.has("nodes") && o.integer("nodes", 0, 1, 9) != int64(system.Nodes()) {
		o.refuse("nodes", "", "contradicts system.url, which has %d", system.Nodes())
	}
	if !system.Started() && o.has("restart_delay") {
		o.refuse("restart_delay", "", "nothing is started again that was not started: the system has a url")
	}
	if !system.Started() {
		s.System.RestartDelay = 0
	}
	if system.Witness() {
		return
	}
	if s.System.Ack == "memory" {
		o.refuse("ack", witnessHint, "memory cannot be judged without a witness")
	}
	if name := s.Load.Workload.Name; name != "register" && name != "counter" {
		p.refuse("load.workload.name", "name: register, or counter; or "+witnessHint, "%s cannot be judged without a witness", name)
	}
}

// ownObject is the part of system that the package custom reads, as JSON.
func (p *parser) ownObject(o object) (json.RawMessage, bool) {
	var b bytes.Buffer
	whole := true
	for _, field := range ownFields {
		n := o.values[field]
		if n == nil {
			continue
		}
		value, ok := p.foreign(join2(o.path, field), n)
		whole = whole && ok
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		writeString(&b, field)
		b.WriteByte(':')
		b.Write(value)
	}
	return slices.Concat([]byte{'{'}, b.Bytes(), []byte{'}'}), whole
}

// sent are the operations that a run of the workload sends, with the names of
// their args: those of the mix, and what probes and audits need.
func sent(w Workload) map[string][]string {
	ops := map[string][]string{}
	_, all := loadgen.Operations(w.Name)
	for _, op := range all {
		if w.Mix == nil || w.Mix[op.Name] > 0 || op.Probe || op.Name == auditRead {
			ops[op.Name] = op.Fields
		}
	}
	return ops
}
