package chaos

import (
	"strings"
	"testing"
	"time"
)

func TestParseTrigger(t *testing.T) {
	for object, want := range map[string]Trigger{
		`{"at":"8s"}`:                       At(8 * time.Second),
		`{"at":"0s"}`:                       At(0),
		`{"within":["5s","9s"]}`:            Within{5 * time.Second, 9 * time.Second},
		`{"after":{"acks":2000}}`:           AfterAcks(2000),
		`{"on":{"fsync":"*.wal","nth":3}}`:  OnFile{"fsync", "*.wal", 3},
		`{"on":{"write":"member/snap/db"}}`: OnFile{"write", "member/snap/db", 1},
		`{"while":"other"}`:                 While("other"),
	} {
		if got, err := ParseTrigger([]byte(object)); err != nil || got != want {
			t.Errorf("%s: %#v, %v, want %#v", object, got, err, want)
		}
	}
}

func TestParseTriggerErrors(t *testing.T) {
	for _, tt := range []struct{ object, want string }{
		{`{}`, "trigger is missing; have at, within, after, on, while"},
		{`7`, "not a JSON object of a fault: "},
		{`{"at":"8s","while":"x"}`, "while: contradicts at; give one of them"},
		{`{"when":"8s"}`, "when: unknown field"},
		{`{"at":8}`, "at: is a JSON number, want string"},
		{`{"at":null}`, "at: is empty"},
		{`{"at":"soon"}`, "at: time: invalid duration"},
		{`{"at":"-1s"}`, "at: -1s is negative"},
		{`{"within":["5s"]}`, "within: has 1 instants, want 2"},
		{`{"within":["5s","x"]}`, "within[1]: time: invalid duration"},
		{`{"within":["5s","4s"]}`, "within[1]: 4s is before 5s"},
		{`{"after":{}}`, "after.acks: is missing"},
		{`{"after":{"acks":0}}`, "after.acks: 0 is not positive"},
		{`{"after":{"bytes":1}}`, "after.bytes: unknown field"},
		{`{"on":{}}`, "on: is missing fsync or write"},
		{`{"on":{"fsync":"a","write":"b"}}`, "on.write: contradicts on.fsync"},
		{`{"on":{"write":"["}}`, `on.write: "[" is not a glob`},
		{`{"on":{"write":"a","nth":0}}`, "on.nth: 0 is not positive"},
		{`{"while":""}`, "while: is missing the name of a fault"},
	} {
		if got, err := ParseTrigger([]byte(tt.object)); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s\n got %v, %v\nwant %s", tt.object, got, err, tt.want)
		}
	}
}

func FuzzParseTrigger(f *testing.F) {
	f.Add(`{"within":["5s","9s"]}`)
	f.Add(`{"on":{"fsync":"*.wal","nth":3}}`)
	f.Add(`{"after":{"acks":1}}`)
	f.Fuzz(func(t *testing.T, object string) {
		trigger, err := ParseTrigger([]byte(object))
		if err == nil && trigger == nil {
			t.Error("neither trigger nor error")
		}
	})
}

func TestWithinIsDrawnFromTheSeed(t *testing.T) {
	w := Within{5 * time.Millisecond, 9 * time.Millisecond}
	draws := map[time.Duration]bool{}
	for seed := range int64(50) {
		f := &Fault{Name: "f"}
		a := w.instant(New(Config{Seed: seed}).random(f, "within"))
		b := w.instant(New(Config{Seed: seed}).random(f, "within"))
		if a != b || a < w.From || a > w.To {
			t.Errorf("seed %d: %v, then %v", seed, a, b)
		}
		draws[a] = true
	}
	if len(draws) < 40 {
		t.Errorf("%d instants for 50 seeds", len(draws))
	}
	if same := (Within{time.Second, time.Second}); same.instant(New(Config{}).random(&Fault{}, "")) != time.Second {
		t.Error("an interval of one instant was missed")
	}
}

func TestCheckTriggers(t *testing.T) {
	f := func(name string, trigger Trigger) *Fault { return &Fault{Name: name, Trigger: trigger} }
	for _, tt := range []struct {
		faults []*Fault
		want   string
	}{
		{[]*Fault{f("a", At(0)), nil, f("b", While("a")), f("c", While("b"))}, ""},
		{[]*Fault{f("a", At(0)), f("b", While("x"))}, `faults[1].while: there is no fault "x"; have a, b`},
		{[]*Fault{f("a", While("a"))}, "faults[0].while: waits for itself: a -> a"},
		{[]*Fault{f("a", While("b")), f("b", While("a")), f("c", While("a"))},
			"faults[0].while: waits for itself: a -> b -> a\nfaults[1].while: waits for itself: b -> a -> b"},
	} {
		got := ""
		if err := CheckTriggers(tt.faults); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}
