package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"statequake/chaos"
	"statequake/chaos/mesh"
	"statequake/history"
	"statequake/loadgen"
	"statequake/scenarios"
)

// meshOptions say which faults go to Kubernetes, and how.
type meshOptions struct {
	file      string
	set       []string
	fault     string // "": all
	namespace string
	pods      map[string]string // node -> pod
	cluster   string            // address of a node that knows owners and roles; "": nobody does

	kubeconfig, context string
	out                 string // "": the evidence is printed only
}

// meshFaults are the faults that were asked for.
type meshFaults struct {
	*scenarios.FaultFile
	o meshOptions
}

func readMeshFaults(o meshOptions) (*meshFaults, error) {
	file, err := scenarios.OpenFaults(o.file, chaos.Everything(), scenarios.Options{Set: o.set})
	if err != nil {
		return nil, err
	}
	if o.fault != "" {
		if err := file.Only(o.fault); err != nil {
			return nil, err
		}
	}
	return &meshFaults{file, o}, nil
}

// render makes the object of fault i, as things are now.
func (m *meshFaults) render(ctx context.Context, i int, namespace string) (*mesh.Object, error) {
	place := mesh.Place{Namespace: namespace, Pods: m.o.pods}
	var hottest func() (entity, key string)
	name := m.Faults[i].Name
	if s := m.Scenario; s != nil {
		name = s.Name + "-" + name
		place.Seed = s.Seed
		workload, err := loadgen.NewWorkload(s.Load.Workload.Config(s.Seed))
		if err != nil {
			return nil, err
		}
		hottest = workload.Hottest
	}
	if m.o.cluster != "" {
		var err error
		if place.Pods, err = podsOf(ctx, m.o.cluster, m.o.pods); err != nil {
			return nil, err
		}
		place.Resolve = func(ctx context.Context, label, value string) ([]string, error) {
			return lookUp(ctx, m.o.cluster, label, value, hottest)
		}
	}
	object, err := mesh.Render(ctx, mesh.Fault{Name: name, Chaos: m.Faults[i].Chaos, Plan: m.Faults[i].Plan}, place)
	if err != nil {
		separator := ": "
		if m.Scenario != nil {
			separator = "."
		}
		return nil, fmt.Errorf("%s%s%w", m.Places[i], separator, err)
	}
	return object, nil
}

// renderAll makes the objects of all faults, or says of each that has none why.
func (m *meshFaults) renderAll(ctx context.Context, namespace string) ([]*mesh.Object, error) {
	var objects []*mesh.Object
	var errs []error
	for i := range m.Faults {
		object, err := m.render(ctx, i, namespace)
		objects, errs = append(objects, object), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return objects, nil
}

// renderChaos prints the objects of a file's faults for kubectl.
func renderChaos(ctx context.Context, out io.Writer, o meshOptions) error {
	m, err := readMeshFaults(o)
	if err != nil {
		return err
	}
	objects, err := m.renderAll(ctx, o.namespace)
	if err != nil {
		return err
	}
	return mesh.Write(out, objects)
}

// applyChaos has a Kubernetes cluster carry out a file's faults, one after the
// other, and prints what happens. When ctx ends, the one in progress is removed
// and the others are left out.
func applyChaos(ctx context.Context, out io.Writer, o meshOptions) error {
	m, err := readMeshFaults(o)
	if err != nil {
		return err
	}
	client, namespace, err := mesh.Connect(o.kubeconfig, o.context)
	if err != nil {
		return err
	}
	if o.namespace != "" {
		namespace = o.namespace
	}
	objects, err := m.renderAll(ctx, namespace) // before anything happens: can all of them be
	if err != nil {
		return err
	}
	for i, object := range objects {
		if len(object.Unresolved) > 0 {
			return fmt.Errorf("%s: nobody can look up %s, so nothing would be selected\nhint: --cluster ADDRESS asks a node of the system; for minority and majority --pod NODE=POD of all nodes will do",
				m.Places[i], strings.Join(object.Unresolved, "; "))
		}
	}
	evidence, err := newMeshEvidence(o.out)
	if err != nil {
		return err
	}
	began := time.Now()
	client.Now = func() time.Duration { return time.Since(began) }
	client.Record = func(f history.Fault) {
		evidence.record(f)
		fmt.Fprintf(out, "%8.3fs  %-9s  %s %s", f.At.Seconds(), f.Event, f.Name, strings.Join(f.Targets, ","))
		if f.Proof != "" {
			fmt.Fprintf(out, "  %s", f.Proof)
		}
		if f.Detail != "" {
			fmt.Fprintf(out, ": %s", f.Detail)
		}
		fmt.Fprintln(out)
	}

	unproven := false
	for i := range m.Faults {
		if ctx.Err() != nil {
			fmt.Fprintf(out, "not injected: %s\n", m.Faults[i].Name)
			unproven = true
			continue
		}
		// Owners and roles may have changed meanwhile.
		object, err := m.render(ctx, i, namespace)
		if err != nil {
			return errors.Join(err, evidence.close())
		}
		report, err := client.Inject(ctx, object)
		if err := errors.Join(err, evidence.keep(object.Name, report)); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", m.Places[i], err), evidence.close())
		}
		unproven = unproven || report.Proof != history.Confirmed
	}
	if err := evidence.close(); err != nil {
		return err
	}
	if unproven {
		return exit(2)
	}
	return nil
}

// podsOf says which pod every node of a cluster is.
func podsOf(ctx context.Context, addr string, given map[string]string) (map[string]string, error) {
	c, err := askCluster(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("--cluster: %w", err)
	}
	pods := map[string]string{}
	var names []string
	for _, member := range c.Members {
		names = append(names, member.Node)
		pods[member.Node] = member.Node
		if pod := given[member.Node]; pod != "" {
			pods[member.Node] = pod
		}
	}
	for node := range given {
		if pods[node] == "" {
			return nil, fmt.Errorf("--pod: the cluster has no node %q; have %s", node, strings.Join(names, ", "))
		}
	}
	return pods, nil
}

// lookUp asks a node of a cluster which nodes have a label now.
func lookUp(ctx context.Context, addr, label, value string, hottest func() (entity, key string)) ([]string, error) {
	if label == chaos.OwnerOfLabel {
		entity, key, ok := strings.Cut(value, "/")
		if value == "hottest" {
			if hottest == nil {
				return nil, fmt.Errorf("%s: hottest is known of a scenario's load only\nhint: name a key, as in cart/cart-1.1", label)
			}
			entity, key = hottest()
		} else if !ok {
			entity, _, _ = strings.Cut(value, "-")
			key = value
		}
		c, err := askClusterFor(ctx, addr, url.Values{"type": {entity}, "key": {key}})
		if err != nil {
			return nil, err
		}
		if c.Owner == "" {
			return nil, fmt.Errorf("%s: nobody owns %s/%s at present", label, entity, key)
		}
		return []string{c.Owner}, nil
	}
	c, err := askCluster(ctx, addr)
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, m := range c.Members {
		role := "store-follower"
		if m.Node == c.StoreLeader {
			role = "store-leader"
		}
		if role == value {
			nodes = append(nodes, m.Node)
		}
	}
	if c.StoreLeader == "" || len(nodes) == 0 {
		return nil, fmt.Errorf("%s: nobody is %s at present", label, value)
	}
	return nodes, nil
}

// meshEvidence writes what a cluster says about faults into a directory.
type meshEvidence struct {
	dir string // "": nowhere

	mu     sync.Mutex
	faults *os.File
	err    error
}

func newMeshEvidence(dir string) (*meshEvidence, error) {
	if dir == "" {
		return &meshEvidence{}, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	faults, err := os.OpenFile(filepath.Join(dir, "faults.jsonl"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return &meshEvidence{dir: dir, faults: faults}, nil
}

// record appends an event to faults.jsonl, as in a run directory.
func (e *meshEvidence) record(f history.Fault) {
	if e.dir == "" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	line, err := json.Marshal(f)
	if err == nil {
		_, err = e.faults.Write(append(line, '\n'))
	}
	e.err = errors.Join(e.err, err)
}

// keep writes the object of a fault as it was last seen, and what Kubernetes
// told of it.
func (e *meshEvidence) keep(name string, report mesh.Report) error {
	if e.dir == "" || report.Proof == "" {
		return nil
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("evidence of %s: %w", name, err)
	}
	return os.WriteFile(filepath.Join(e.dir, name+".json"), append(text, '\n'), 0o644)
}

func (e *meshEvidence) close() error {
	if e.dir == "" {
		return nil
	}
	return errors.Join(e.err, e.faults.Close())
}
