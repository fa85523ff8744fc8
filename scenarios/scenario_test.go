package scenarios

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"statequake/chaos"
	"statequake/loadgen"
)

// small is the least that a scenario must say.
const small = `name: small
seed: 7
system: {name: reference}
load:
  workload: {name: counter}
  arrivals: {constant: 10/s}
  duration: 5s
`

const withFault = small + `faults:
  - name: kill-owner
    at: 2s
    chaos:
      kind: PodChaos
      spec: {action: pod-kill, mode: one, selector: {labelSelectors: {statequake.dev/owner-of: hottest}}}
`

// edit returns text with old replaced by new, which must be there once.
func edit(t *testing.T, text, old, new string) string {
	t.Helper()
	if strings.Count(text, old) != 1 {
		t.Fatalf("%q is not in the text once", old)
	}
	return strings.Replace(text, old, new, 1)
}

func TestDefaults(t *testing.T) {
	s, err := Parse("small.yaml", []byte("# Claim: counters\n# count.\n#\n# An aside.\n"+small), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := &Scenario{
		Name: "small", Claim: "counters count.", Seed: 7,
		System: System{Name: "reference", Nodes: 3, Store: "etcd", Ack: "durable", RestartDelay: time.Second, Shards: 16},
		Load: Load{
			Workload: Workload{Name: "counter", Keys: 1000, Mix: map[string]int{"add": 80, "get": 20}, Retire: 512},
			Driver:   "http", Route: "spread", Arrivals: Arrivals{Constant: 10},
			Warmup: 2 * time.Second, Duration: 5 * time.Second, Timeout: 10 * time.Second, MaxConns: 1024,
			Retry: Retry{Max: 3},
		},
		Probe:  Probe{Every: 20 * time.Millisecond, Keys: 3},
		Abort:  Abort{DiskFree: 256 << 20},
		Expect: map[string]string{},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
}

func TestMemoryWindow(t *testing.T) {
	text := edit(t, small, "{name: reference}", "{name: reference, ack: memory}")
	s, err := Parse("small.yaml", []byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.System.Window != 500*time.Millisecond {
		t.Errorf("window %s, want 500ms", s.System.Window)
	}
}

func TestClosedLoop(t *testing.T) {
	text := edit(t, small, "{constant: 10/s}", "{closed: {clients: 16}}")
	s, err := Parse("small.yaml", []byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Arrivals{Clients: 16}); s.Load.Arrivals != want {
		t.Errorf("arrivals %+v, want %+v", s.Load.Arrivals, want)
	}
}

// The parser refuses the numbers of keys that a workload cannot be made of.
func TestLeastKeys(t *testing.T) {
	for _, name := range loadgen.WorkloadNames() {
		for keys := 1; keys <= 3; keys++ {
			text := edit(t, small, "{name: counter}", fmt.Sprintf("{name: %s, keys: %d}", name, keys))
			_, refused := Parse("small.yaml", []byte(text), Options{})
			_, unable := loadgen.NewWorkload(loadgen.WorkloadConfig{Name: name, Keys: keys, Sessions: loadgen.DefaultsOf(name).Sessions})
			if (refused == nil) != (unable == nil) {
				t.Errorf("%s: the parser says %v, the workload %v", name, refused, unable)
			}
		}
	}
}

func TestSet(t *testing.T) {
	tests := []struct {
		set []string
		ok  func(s *Scenario) bool
	}{
		{[]string{"system.bug=no-fence"}, func(s *Scenario) bool { return s.System.Bug == "no-fence" }},
		{[]string{"record.compress=true"}, func(s *Scenario) bool { return s.Record.Compress }},
		{[]string{"system.bug=no-fence", "system.bug="}, func(s *Scenario) bool { return s.System.Bug == "" }},
		{[]string{"system.bug="}, func(s *Scenario) bool { return s.System.Bug == "" }},
		{[]string{"system.store=postgres"}, func(s *Scenario) bool { return s.System.Store == "postgres" }},
		{[]string{`system.bug=""`}, func(s *Scenario) bool { return s.System.Bug == "" }},
		{[]string{"load.arrivals.constant=800/s"}, func(s *Scenario) bool { return s.Load.Arrivals.Constant == 800 }},
		{[]string{"load.arrivals={closed: {clients: 4}}"}, func(s *Scenario) bool { return s.Load.Arrivals == Arrivals{Clients: 4} }},
		{[]string{"faults[0].at=3s"}, func(s *Scenario) bool {
			return s.Faults[0].Trigger == chaos.At(3*time.Second) && s.Faults[0].Plan.At == 3*time.Second
		}},
		{[]string{"faults.kill-owner.at=3s"}, func(s *Scenario) bool { return s.Faults[0].Trigger == chaos.At(3*time.Second) }},
		{[]string{"faults[0].at=", "faults[0].within=[1s, 4s]"}, func(s *Scenario) bool {
			return s.Faults[0].Trigger == chaos.Within{From: time.Second, To: 4 * time.Second}
		}},
		{[]string{"faults[0].at=", "faults[0].after.acks=20"}, func(s *Scenario) bool { return s.Faults[0].Trigger == chaos.AfterAcks(20) }},
		{[]string{"faults.kill-owner="}, func(s *Scenario) bool { return len(s.Faults) == 0 }},
		{[]string{"faults[0]="}, func(s *Scenario) bool { return len(s.Faults) == 0 }},
		{[]string{"faults="}, func(s *Scenario) bool { return len(s.Faults) == 0 }},
		{[]string{"load.retry.max=5"}, func(s *Scenario) bool { return s.Load.Retry.Max == 5 }},
		{[]string{"load.retry.max=5", "load.retry.max="}, func(s *Scenario) bool { return s.Load.Retry.Max == 3 }},
		{[]string{"load.retry.duplicate=2.5%"}, func(s *Scenario) bool { return s.Load.Retry.Duplicate.Share() == 0.025 }},
		{[]string{"load.workload.skew.zipf=1.2"}, func(s *Scenario) bool { return s.Load.Workload.Zipf == 1.2 }},
		{[]string{"load.workload.skew=latest"}, func(s *Scenario) bool { return s.Load.Workload.Latest && s.Load.Workload.Zipf == 0.99 }},
		{[]string{"load.workload.skew={hot: {keys: 1%, ops: 90%}}"}, func(s *Scenario) bool {
			return s.Load.Workload.Config(s.Seed).Hot == loadgen.HotSet{Keys: 0.01, Ops: 0.9}
		}},
		{[]string{"load.workload={name: ycsb-d}"}, func(s *Scenario) bool { // has a skew and sizes of its own
			c := s.Load.Workload.Config(s.Seed)
			return c.Latest && c.Zipf == 0.99 && c.Values == loadgen.Sizes{From: 100, To: 100} && c.Mix["insert"] == 5
		}},
		{[]string{"load.workload={name: register, value_size: {from: 10, to: 1000}}"}, func(s *Scenario) bool {
			return s.Load.Workload.Config(s.Seed).Values == loadgen.Sizes{From: 10, To: 1000}
		}},
		{[]string{"load.workload={name: shop}"}, func(s *Scenario) bool { return s.Load.Workload.Sessions == 100 && s.Load.Workload.Mix == nil }},
		{[]string{"expect.answered_within.1s=95%"}, func(s *Scenario) bool { return s.Expect["answered_within.1s"] == "95%" }},
		{[]string{"expect.steady.p99=50ms", "expect.steady.p99=60ms"}, func(s *Scenario) bool { return s.Expect["steady.p99"] == "60ms" && len(s.Expect) == 1 }},
		{[]string{"expect.steady.p99="}, func(s *Scenario) bool { return len(s.Expect) == 0 }},
		{[]string{"faults[0].chaos.spec.selector.labelSelectors.statequake.dev/owner-of=cart-3.1"}, func(s *Scenario) bool {
			return strings.Contains(string(s.Faults[0].Chaos), `{"statequake.dev/owner-of":"cart-3.1"}`)
		}},
		{[]string{"faults[0].chaos.spec.mode=all"}, func(s *Scenario) bool { return strings.Contains(string(s.Faults[0].Chaos), `"mode":"all"`) }},
		{[]string{"seed=-9"}, func(s *Scenario) bool { return s.Seed == -9 }},
	}
	for _, tt := range tests {
		s, err := Parse("f.yaml", []byte(withFault), Options{Set: tt.set})
		if err != nil {
			t.Errorf("--set %v: %v", tt.set, err)
		} else if !tt.ok(s) {
			t.Errorf("--set %v has no effect: %+v", tt.set, s)
		}
	}
}

// Nodes have a role in a store that is in them, and none in one beside them.
func TestStoreRoles(t *testing.T) {
	for _, role := range []string{"store-leader", "store-follower"} {
		text := edit(t, withFault, "statequake.dev/owner-of: hottest", "statequake.dev/role: "+role)
		if _, err := Parse("f.yaml", []byte(text), Options{}); err != nil {
			t.Errorf("%s with etcd: %v", role, err)
		}
		_, err := Parse("f.yaml", []byte(text), Options{Set: []string{"system.store=postgres"}})
		want := "f.yaml:13: faults[0].chaos.spec.selector.labelSelectors.statequake.dev/role: contradicts system.store: postgres, a server beside the nodes, so none of them is a " + role + "\n" +
			"hint: system.store: etcd has a leader and followers; statequake.dev/owner-of: hottest selects without them"
		if err == nil || err.Error() != want {
			t.Errorf("%s with postgres:\n got %v\nwant %s", role, err, want)
		}
	}
}

func TestBadSet(t *testing.T) {
	tests := []struct{ set, want string }{
		{"system.bgu=no-fence", "--set system.bgu=no-fence: system.bgu: unknown field\nhint: did you mean bug?"},
		{"system.bgu=", "--set system.bgu=: system.bgu: unknown field\nhint: did you mean bug?"},
		{"system.bug=no-fense", "--set system.bug=no-fense: system.bug: unknown bug \"no-fense\"; have " + strings.Join(bugs, ", ") + "\nhint: did you mean no-fence?"},
		{"load.duration=abc", "--set load.duration=abc: load.duration: \"abc\" is not a duration\nhint: a duration has a unit, for instance 500ms, 30s or 2m"},
		{"load.duration.max=3s", "--set load.duration.max=3s: load.duration is \"5s\", which has no fields\nhint: replace it as a whole, --set 'load.duration={...}'"},
		{"load.arrivals.closed.clients=4", "--set load.arrivals.closed.clients=4: load.arrivals.closed: contradicts load.arrivals.constant; give one of them\nhint: --set 'load.arrivals={constant: 800/s}' replaces both"},
		{"faults[1].at=5s", "--set faults[1].at=5s: faults[1]: no such item; the list has 1, counted from 0"},
		{"faults[x].at=5s", "--set faults[x].at=5s: faults: \"[x].at\" is not a position such as [0]"},
		{"faults[0]at=5s", "--set faults[0]at=5s: faults: \"[0]at\" is not a position such as [0]"},
		{"faults.kill-ovner.at=5s", "--set faults.kill-ovner.at=5s: faults: no item is named kill-ovner; have kill-owner\nhint: did you mean kill-owner?"},
		{"faults.kill-owner.at=9s", "--set faults.kill-owner.at=9s: faults[0].at: 9s is after the load ends (5s)"},
		{"faults.kill-owner.name=", "f.yaml:9: faults[0].name: missing"},
		{"load[0]=1", "--set load[0]=1: load is not a list"},
		{"probe[0]=1", "--set probe[0]=1: probe is not a list"},
		{"system..bug=no-fence", "--set system..bug=no-fence: the path has an empty part"},
		{"system.bug", "--set system.bug: expected path=value\nhint: for instance load.arrivals.constant=800/s"},
		{"system.=x", "--set system.=x: expected path=value\nhint: for instance load.arrivals.constant=800/s"},
		{"name=[", "--set name=[: in the value: not YAML: did not find expected node content"},
		{"name=&a x", "--set name=&a x: in the value: anchor &a: anchors are not accepted\nhint: write the value out"},
		{"name=#x", "--set name=#x: the value is a comment\nhint: quote a value that begins with #"},
		{"seed=", "f.yaml:1: seed: missing\nhint: seed: 42, or any other whole number, makes operations and fault times repeatable"},
		{"faults[0].chaos.spec.mode=many", "--set faults[0].chaos.spec.mode=many: faults[0].chaos.spec.mode: unknown mode \"many\"; have one, all, fixed, fixed-percent, random-max-percent"},
	}
	for _, tt := range tests {
		_, err := Parse("f.yaml", []byte(withFault), Options{Set: []string{tt.set}})
		if err == nil {
			t.Errorf("--set %s: accepted", tt.set)
		} else if err.Error() != tt.want {
			t.Errorf("--set %s:\n got %s\nwant %s", tt.set, err, tt.want)
		}
	}
}

func TestExpectations(t *testing.T) {
	check := func(name, limit string) error {
		if name != "lost_acks" {
			return errors.New("unknown expectation\nhint: have lost_acks")
		}
		if limit != "0" {
			return fmt.Errorf("%q is not a count", limit)
		}
		return nil
	}
	_, err := Parse("f.yaml", []byte(small+"expect: {lost_acks: none, outage: 4s}\n"), Options{CheckExpectation: check})
	want := "f.yaml:8: expect.lost_acks: \"none\" is not a count\nf.yaml:8: expect.outage: unknown expectation\nhint: have lost_acks"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, err := Parse("f.yaml", []byte(small+"expect: {lost_acks: 0}\n"), Options{CheckExpectation: check}); err != nil {
		t.Error(err)
	}
}

// All problems are told at once, but not without end.
func TestManyErrors(t *testing.T) {
	var b strings.Builder
	b.WriteString(small)
	for i := range 30 {
		fmt.Fprintf(&b, "wrong%d: 1\n", i)
	}
	_, err := Parse("f.yaml", []byte(b.String()), Options{})
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	if got, want := lines[len(lines)-1], "f.yaml: and 10 more problems"; got != want {
		t.Errorf("last line %q, want %q", got, want)
	}
	if got, want := lines[0], "f.yaml:8: wrong0: unknown field"; got != want {
		t.Errorf("first line %q, want %q", got, want)
	}
	if n := strings.Count(err.Error(), "unknown field"); n != maxErrors {
		t.Errorf("%d problems are listed, want %d", n, maxErrors)
	}
}

func TestSizeLimit(t *testing.T) {
	pad := func(size int) []byte {
		return append([]byte(small), "# "+strings.Repeat("x", size-len(small)-2)...)
	}
	if _, err := Parse("f.yaml", pad(maxSize), Options{}); err != nil {
		t.Errorf("1 MiB is refused: %v", err)
	}
	_, err := Parse("f.yaml", pad(maxSize+1), Options{})
	if want := "f.yaml: is larger than 1 MiB"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	file := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(file, pad(4*maxSize), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, Options{}); err == nil || err.Error() != file+": is larger than 1 MiB" {
		t.Errorf("got %v", err)
	}
}

func TestResolvedRoundTrip(t *testing.T) {
	facts := Facts{Machine: ThisMachine(), Version: "v1.2.3", Isolation: "namespace", RunTag: "7f3a"}
	texts := map[string]string{
		"small":   small,
		"fault":   withFault,
		"closed":  edit(t, small, "{constant: 10/s}", "{closed: {clients: 3}}"),
		"memory":  edit(t, small, "{name: reference}", "{name: reference, ack: memory, window: 250ms}"),
		"store":   edit(t, small, "{name: reference}", "{name: reference, store: postgres}"),
		"percent": small + "  retry: {max: 0, duplicate: 0.7%}\n",
		"latest":  edit(t, small, "{name: counter}", "{name: counter, skew: latest, sessions: 20}"),
		"older":   edit(t, small, "{name: counter}", "{name: counter, skew: {latest: 0.5}}"),
		"hot":     edit(t, small, "{name: counter}", "{name: register, skew: {hot: {keys: 1.5%, ops: 90%}}, value_size: 100}"),
		"sizes":   edit(t, small, "{name: counter}", "{name: ycsb-d, value_size: {from: 10, to: 1000}}"),
		"shop":    edit(t, small, "{name: counter}", "{name: shop, sessions: 7}"),
		"odd":     small + "expect: {\"true\": \"null\", \"a: b\": '#', '<<': \"0x1\", '': 1}\n",
	}
	for _, name := range bundledNames() {
		data, err := Source(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(data)
	}
	for name, text := range texts {
		s, err := Parse(name, []byte(text), Options{})
		if err != nil {
			t.Fatal(err)
		}
		data, err := s.Resolved(facts)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("resolved "+name, data, Options{})
		if err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
		if !reflect.DeepEqual(s, again) {
			t.Errorf("%s changed:\n%+v\n%+v\n%s", name, s, again, data)
		}
		for _, want := range []string{"seed: ", "statequake: v1.2.3", "run_tag: 7f3a", "restart_delay: ", "cpus: "} {
			if !strings.Contains(string(data), want) {
				t.Errorf("%s: the resolved scenario lacks %q:\n%s", name, want, data)
			}
		}
	}
}

// A chaos object survives the way to YAML and back to the byte, whatever text
// is in it.
func TestChaosJSONRoundTrip(t *testing.T) {
	object := `{"kind":"X","a":{"b":[1,-2,0.5,1e+21,true,null,"50","1e3","no","",{}],"c":[]},"d":"line\nbreak \u2028  ","e":"` + "\u00e9\u0085\ufeff\x7f" + `","f.g/h":" x"}`
	s := &Scenario{Faults: []Fault{{Name: "f", Chaos: []byte(object)}}}
	data, err := s.Resolved(Facts{})
	if err != nil {
		t.Fatal(err)
	}
	root, bad := document(data)
	if bad != nil {
		t.Fatalf("%v\n%s", bad, data)
	}
	_, faults := child(root, "faults")
	_, n := child(faults.Content[0], "chaos")
	got, bad := toJSON(n)
	if bad != nil {
		t.Fatal(bad)
	}
	if string(got) != object {
		t.Errorf("got  %s\nwant %s\n%s", got, object, data)
	}
}

func TestBundled(t *testing.T) {
	infos := Bundled()
	var names []string
	for _, info := range infos {
		names = append(names, info.Name)
		s := info.Scenario
		if s.Claim == "" {
			t.Errorf("%s makes no claim", info.Name)
		}
		if s.Name != filepath.Base(info.Name) {
			t.Errorf("%s calls itself %s", info.Name, s.Name)
		}
		planted := strings.HasPrefix(info.Name, "bugs/")
		if planted != (s.System.Bug != "") || planted != (s.Reveals != "") || planted && s.System.Bug != s.Name {
			t.Errorf("%s: bug %q reveals %q", info.Name, s.System.Bug, s.Reveals)
		}
		// A search ends when it has found something.
		if total := s.Load.Warmup + s.Load.Duration; total > 35*time.Second && s.Load.Arrivals.FindMax == nil {
			t.Errorf("%s runs %s of load, more than 35s", info.Name, total)
		}
	}
	want := []string{"approval", "clock-skew", "cpu-stress", "deaf-owner", "device-twin", "disk-errors", "disk-full", "double-kill", "durable-throughput", "find-max", "kill-followers", "kill-owner", "leaderboard", "ledger", "memory-ack", "memory-power-loss", "memory-throughput", "mixed", "noisy-network", "one-way", "partition-owner", "pause-owner", "playback", "pod-failure", "power-loss-all", "power-loss-owner", "quickstart", "rolling-kill", "rolling-restart", "slow-disk", "slow-network", "steady", "wrong-reads"}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, "bugs/") })
	if !slices.Equal(names, want) {
		t.Errorf("bundled %v, want %v", names, want)
	}
}

func TestOpen(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("mine.yaml", []byte(small), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("steady.yaml", []byte(small), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("bugs", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"mine.yaml": "small", "quickstart": "quickstart", "quickstart.yaml": "quickstart", "bugs/no-fence": "no-fence",
		"steady": "steady", "steady.yaml": "small", // a file comes first
	} {
		s, err := Open(name, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if s.Name != want {
			t.Errorf("%s opened %s, want %s", name, s.Name, want)
		}
	}
	for name, want := range map[string]string{
		"quikstart": "no file \"quikstart\" and no bundled scenario \"quikstart\"; " + oneOf(bundledNames()) + "\nhint: did you mean quickstart?",
		"bugs":      "bugs: is a folder, not a scenario",
	} {
		if _, err := Open(name, Options{}); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, want)
		}
	}
	_, err := Open("bugs/no-fence", Options{Set: []string{"system.bgu="}})
	if want := "--set system.bgu=: system.bgu: unknown field\nhint: did you mean bug?"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range bundledNames() {
		data, err := Source(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "system.bug=")
	}
	f.Add([]byte(withFault), "faults.kill-owner.chaos.spec.mode=all")
	f.Add([]byte("a: &a [*a]\n"), "expect.steady.p99=1ms")
	f.Add([]byte("? {a: b}\n: [1]\n"), "a[0].b={c: d}")
	f.Fuzz(func(t *testing.T, data []byte, set string) {
		s, err := Parse("f.yaml", data, Options{Set: []string{set}})
		if err != nil {
			return
		}
		text, err := s.Resolved(Facts{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("resolved.yaml", text, Options{})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(s, again) {
			t.Fatalf("changed:\n%+v\n%+v\n%s", s, again, text)
		}
	})
}
