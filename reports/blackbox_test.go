package reports

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"statequake/history"
	"statequake/reports/check"
)

// newBlackBox is the run of newFixture on registers of a system that keeps no
// witness and tells nothing but values.
func newBlackBox() *fixture {
	f := newFixture()
	f.edit("name: reference\n  nodes: 3\n  store: etcd", `name: mydb
  version: "1.2"
  url: [http://a:8080, http://b:8080]
  http:
    ops:
      set: {method: PUT, path: "/kv/{key}"}
      get: {method: GET, path: "/kv/{key}"}`)
	f.edit("{name: counter, keys: 6}", "{name: register, keys: 6}")
	f.edit("  lost_acks: \"0\"\n", "")
	values := map[string]string{}
	for i := range f.ops {
		op := &f.ops[i]
		op.Entity, op.Version, op.Digest, op.Epoch, op.Node = "register", -1, "", 0, ""
		if op.Name != "add" {
			op.Name = "get"
		} else {
			op.Name, op.Args = "set", json.RawMessage(fmt.Sprintf(`{"value":%q}`, op.ID))
		}
		if op.Outcome != history.OK {
			continue
		}
		if op.Name == "set" {
			values[op.Key] = string(op.Args)
		}
		op.Result = json.RawMessage(cmp.Or(values[op.Key], `{"value":null}`))
	}
	return f
}

func TestBlackBoxPass(t *testing.T) {
	f := newBlackBox()
	v := f.judge(t)
	if v.Verdict != check.Pass || v.ExitCode() != 0 || v.LostAcks != nil || v.Faults[0].Recovery.LostAcks != nil {
		t.Errorf("verdict is %s, exit code %d, lost acks %v, reasons %q", v.Verdict, v.ExitCode(), v.LostAcks, v.Reasons)
	}
	if got, want := v.headline(), "no violation was found: 1,956 answers judged on 7 keys by the register check"; got != want {
		t.Errorf("headline is %q, want %q", got, want)
	}
	if got, want := v.System.about(), "mydb 1.2 at http://a:8080, http://b:8080, ack: durable"; got != want {
		t.Errorf("the system is %q, want %q", got, want)
	}
	for name, text := range rendered(t, v) {
		for _, wrong := range []string{"no acknowledged write was lost", "<nil>", "NaN", "0 acknowledged writes lost", "witness"} {
			if name != "report.html" && strings.Contains(text, wrong) {
				t.Errorf("%s says %q", name, wrong)
			}
		}
	}
}

// rendered is everything that is made of a verdict.
func rendered(t *testing.T, v *Verdict) map[string]string {
	t.Helper()
	var summary bytes.Buffer
	if err := Summary(&summary, v, false, 0); err != nil {
		t.Fatal(err)
	}
	page, err := renderHTML(v)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := junit(v)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"summary": summary.String(), "report.html": string(page), "report.md": string(markdown(v)),
		"junit.xml": string(cases), "results.bench": string(bench(v)),
	}
}

// What nobody can count is null, unknown in words, and no expectation is met
// by it.
func TestBlackBoxLostAcksAreUnknown(t *testing.T) {
	f := newBlackBox()
	f.edit("expect:\n", "expect:\n  lost_acks: \"0\"\n")
	v := f.judge(t)
	if v.Verdict != check.Pass || v.ExitCode() != 4 || !slices.Contains(v.Reasons, "The expectation lost_acks is missed: it could not be measured, limit 0.") {
		t.Errorf("verdict is %s, exit code %d, reasons %q", v.Verdict, v.ExitCode(), v.Reasons)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), `"lost_acks":null`); n != 2 {
		t.Errorf("%d times lost_acks is null, want 2: of the run and of its fault", n)
	}
	if text := rendered(t, v)["summary"]; !strings.Contains(strings.Join(strings.Fields(text), " "), "lost acknowledged writes unknown") {
		t.Errorf("summary is\n%s", text)
	}
}

func TestBlackBoxWithoutFaults(t *testing.T) {
	f := newBlackBox()
	start, end := strings.Index(f.scenario, "faults:\n"), strings.Index(f.scenario, "expect:\n")
	f.scenario = f.scenario[:start] + "faults: []\n" + f.scenario[end:]
	f.edit("  outage_max: 4s\n", "")
	f.edit("  answered_within.1s: 95%\n  steady.p99: 50ms\n", "  answered_within.1s: 90%\n")
	f.faults = nil
	v := f.judge(t)
	if v.Verdict != check.Pass || v.ExitCode() != 0 || len(v.Reasons) != 0 {
		t.Errorf("verdict is %s, exit code %d, reasons %q", v.Verdict, v.ExitCode(), v.Reasons)
	}
	for name, text := range rendered(t, v) {
		if name != "report.html" && strings.Contains(text, "kill-owner:") {
			t.Errorf("%s speaks of a fault:\n%s", name, text)
		}
	}
}

func TestBlackBoxViolation(t *testing.T) {
	f := newBlackBox()
	f.op("7f3a-a0").Result = f.op("7f3a-l600").Result
	v := f.judge(t)
	if v.Verdict != check.Violated || v.ExitCode() != 1 || v.LostAcks != nil {
		t.Errorf("verdict is %s, exit code %d, reasons %q", v.Verdict, v.ExitCode(), v.Reasons)
	}
	if got, want := v.headline(), "the system broke its contract: 1 violation of kind lost (register check)"; got != want {
		t.Errorf("headline is %q, want %q", got, want)
	}
	for name, text := range rendered(t, v) {
		if name != "results.bench" && !strings.Contains(text, "lost") {
			t.Errorf("%s does not say lost", name)
		}
	}
}

func TestBlackBoxUnknown(t *testing.T) {
	for _, tt := range []struct {
		name   string
		spoil  func(*fixture)
		reason string
	}{
		{"a key was not read back", func(f *fixture) {
			f.ops = slices.DeleteFunc(f.ops, func(op history.Op) bool { return op.ID == "7f3a-a3" })
		}, "The register check is undecided: keys that no audit read after everything else on them had been answered, so that nobody knows what is left (register/k3.1)."},
		{"an audit failed", func(f *fixture) {
			op := f.op("7f3a-a3")
			op.Outcome, op.Result, op.Error = history.Info, nil, "timeout"
		}, "keys that no audit read"},
		{"nothing at all", func(f *fixture) { f.ops, f.footer.Scheduled = nil, nil }, "an empty history proves nothing"},
		{"torn", func(f *fixture) { f.footer = nil }, "the history has no footer"},
		{"memory", func(f *fixture) { f.edit("ack: durable", "ack: memory\n  window: 1s") }, "there is no witness, and nothing else can judge ack: memory"},
		{"an entity that only a witness can judge", func(f *fixture) {
			for i := range f.ops {
				if op := &f.ops[i]; op.Phase == history.Probe || op.Key == "{probe-1}.1" {
					op.Entity = "blob"
				}
			}
		}, "The porcupine check is undecided: keys without a model"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newBlackBox()
			tt.spoil(f)
			v := f.judge(t)
			if v.Verdict != check.Unknown || v.ExitCode() != 2 || v.LostAcks != nil {
				t.Errorf("verdict is %s, exit code %d, lost acks %v", v.Verdict, v.ExitCode(), v.LostAcks)
			}
			if !strings.Contains(strings.Join(v.Reasons, "\n"), tt.reason) {
				t.Errorf("reasons are %q, want one with %q", v.Reasons, tt.reason)
			}
			rendered(t, v)
		})
	}
}

// A system of one's own may have a witness: then the scenario says how to read
// it.
func TestOwnSystemWithWitness(t *testing.T) {
	f := newFixture()
	f.edit("  store: etcd\n", "")
	f.edit("name: reference\n", "name: mydb\n  url: http://a:8080\n  http: {ops: {add: {}, get: {}, witness: {}}}\n")
	v := f.judge(t)
	if v.Verdict != check.Pass || v.LostAcks == nil || *v.LostAcks != 0 || v.System.URL != "http://a:8080" {
		t.Errorf("verdict is %s, lost acks %v, url %q, reasons %q", v.Verdict, v.LostAcks, v.System.URL, v.Reasons)
	}
}
