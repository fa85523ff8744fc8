package scenarios

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// ownScenario is a scenario of somebody's own system, without a witness.
const ownScenario = `name: mine
seed: 1
system:
  name: my-store
  exec:
    start: [./my-store, --port, "${port}"]
    dir: server
  http:
    ops:
      set: {method: PUT, path: "/kv/${key}", body: '{"value": ${args.value}}'}
      get: {path: "/kv/${key}"}
    replies:
      - {status: 200, outcome: ok, result: {value: /value}}
load:
  workload: {name: register}
  arrivals: {constant: 10/s}
  duration: 5s
faults:
  - name: kill
    at: 1s
    chaos: {kind: PodChaos, spec: {action: pod-kill, mode: one, selector: {labelSelectors: {statequake.dev/node: n1}}}}
`

func TestOwnSystem(t *testing.T) {
	dir := t.TempDir()
	s, err := Parse(filepath.Join(dir, "mine.yaml"), []byte(ownScenario), Options{})
	if err != nil {
		t.Fatal(err)
	}
	own := s.System.Own
	if own == nil || !own.Started() || own.Witness() || own.Idempotent() {
		t.Fatalf("own system: %+v", own)
	}
	if s.System.Name != "my-store" || s.System.Nodes != 1 || s.Probe.Keys != 1 || s.Load.Retry.Max != 0 || s.System.Bug != "" || s.System.Shards != 0 {
		t.Errorf("defaults: %+v, probe %+v, retry %+v", s.System, s.Probe, s.Load.Retry)
	}
	text, err := s.Resolved(Facts{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "dir: "+filepath.Join(dir, "server")+"\n") {
		t.Errorf("the working directory is not absolute:\n%s", text)
	}
	// Elsewhere it means the same: that is what makes a run directory replayable.
	again, err := Parse(filepath.Join(t.TempDir(), "scenario.yaml"), text, Options{})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !reflect.DeepEqual(s, again) {
		t.Errorf("resolved and parsed again:\n got %+v\nwant %+v", again, s)
	}
}

func TestOwnSystemByURL(t *testing.T) {
	text := strings.NewReplacer(
		"  exec:\n    start: [./my-store, --port, \"${port}\"]\n    dir: server\n", "  url: [http://127.0.0.1:8080/a, http://127.0.0.1:8081/a]\n  version: 3\n",
		"    ops:\n", "    idempotent: true\n    ops:\n",
	).Replace(ownScenario[:strings.Index(ownScenario, "faults:")])
	s, err := Parse("f.yaml", []byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.System.Nodes != 2 || s.System.Own.Started() || s.System.Version != "3" || s.Load.Retry.Max != 3 || s.System.RestartDelay != 0 {
		t.Errorf("%+v, retry %+v", s.System, s.Load.Retry)
	}
	resolved, err := s.Resolved(Facts{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("scenario.yaml", resolved, Options{})
	if err != nil {
		t.Fatalf("%v\n%s", err, resolved)
	}
	if !reflect.DeepEqual(s, again) {
		t.Errorf("resolved and parsed again:\n got %+v\nwant %+v", again, s)
	}
}

// TestOwnWithoutWitness: a workload that its answers can judge needs none.
func TestOwnWithoutWitness(t *testing.T) {
	counter := strings.NewReplacer("{name: register}", "{name: counter}", "      set: ", "      add: ", "${args.value}", "${args.n}").Replace(ownScenario)
	if _, err := Parse("f.yaml", []byte(counter), Options{}); err != nil {
		t.Errorf("counter: %v", err)
	}
	cart := strings.NewReplacer("{name: register}", "{name: shopping-cart}", "      set: ", "      remove: {path: /x}\n      add: ", "${args.value}", "${args.item}").Replace(ownScenario)
	_, err := Parse("f.yaml", []byte(cart), Options{})
	if want := "shopping-cart cannot be judged without a witness\nhint: name: register, or counter; or " + witnessHint; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("shopping-cart: %v, want %s", err, want)
	}
}

func TestBadOwnSystem(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"named like ours", "name: my-store", "name: reference",
			"f.yaml:4: system.name: reference is the name of the bundled runtime; give your own system another one"},
		{"bug", "name: my-store", "name: my-store\n  bug: no-fence",
			"f.yaml:5: system.bug: means something to the reference runtime only"},
		{"store", "name: my-store", "name: my-store\n  store: postgres",
			"f.yaml:5: system.store: means something to the reference runtime only"},
		{"memory", "name: my-store", "name: my-store\n  ack: memory",
			"f.yaml:5: system.ack: memory cannot be judged without a witness\nhint: " + witnessHint},
		{"an operation is missing", "      get: {path: \"/kv/${key}\"}\n", "",
			"f.yaml:9: system.http.ops.get: "},
		{"placeholder", "${port}", "${prot}",
			"f.yaml:6: system.exec.start[2]: "},
		{"counter", "{name: register}", "{name: counter}",
			"f.yaml:9: system.http.ops."},
		{"retries", "  duration: 5s", "  duration: 5s\n  retry: {max: 1, duplicate: 1%}",
			"f.yaml:18: load.retry.max: the system may apply an operation twice that is sent twice\nhint: system.http.idempotent: true declares that an operation id is applied once\n" +
				"f.yaml:18: load.retry.duplicate: "},
		{"owner", "statequake.dev/node: n1", "statequake.dev/owner-of: hottest",
			"f.yaml:21: faults[0].chaos.spec.selector.labelSelectors.statequake.dev/owner-of: is known of the reference runtime only\nhint: statequake.dev/node: n1 names a node"},
		{"no such node", "statequake.dev/node: n1", "statequake.dev/node: n2",
			"f.yaml:21: faults[0].chaos.spec.selector.labelSelectors.statequake.dev/node: there is no node \"n2\"; the nodes are n1 to n1"},
		{"lost acks", "faults:", "expect: {lost_acks: 0}\nfaults:",
			"f.yaml:18: expect.lost_acks: cannot be counted without a witness\nhint: " + witnessHint},
		{"faults at a url", "exec:\n    start: [./my-store, --port, \"${port}\"]\n    dir: server", "url: http://127.0.0.1:80",
			"f.yaml:16: faults: nothing is known of the processes of a system that runs at a url"},
		{"url elsewhere", "exec:\n    start: [./my-store, --port, \"${port}\"]\n    dir: server", "url: http://example.com:80",
			"f.yaml:5: system.url: "},
		{"shell", `[./my-store, --port, "${port}"]`, "./my-store --port ${port}",
			"f.yaml:6: system.exec.start: expected a list"},
	} {
		text := strings.Replace(ownScenario, c.old, c.new, 1)
		if text == ownScenario {
			t.Fatalf("%s: %q is not in the scenario", c.name, c.old)
		}
		_, err := Parse("f.yaml", []byte(text), Options{})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s:\n got %v\nwant %s", c.name, err, c.want)
		}
	}
}
