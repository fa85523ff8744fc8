package check

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestEarly: what is found on a key during the load is certain, whatever the
// contract and whatever comes later.
func TestEarly(t *testing.T) {
	for _, tc := range []struct {
		name, ops string
		opt       Options
		want      string
	}{
		{"clean", `
			0-1 n1.1 add a 1 -> 1 @ a
			2-3 n1.1 get g -> 1 @ a
			8-9 n1.1 audit z -> a`, Options{Ack: Durable, Witness: true}, ""},
		{"lost", `
			0-1 n1.1 add a 1 -> 1 @ a
			2-3 n1.1 add b 1 -> 2 @ a b
			8-9 n1.1 audit z -> a`, Options{Ack: Durable, Witness: true}, "lost"},
		{"never answered, and not there", `
			0-1 n1.1 add a 1 -> 1 @ a
			2-7 n1.1 add b 1 -> info
			8-9 n1.1 audit z -> a`, Options{Ack: Durable, Witness: true}, ""},
		{"the audit was not answered", `
			0-1 n1.1 add a 1 -> 1 @ a
			8-9 n1.1 audit z -> info`, Options{Ack: Durable, Witness: true}, ""},
		{"memory may lose, and when is better known at the end", `
			0-1 n1.1 add a 1 -> 1 @ a
			2-3 n1.1 add b 1 -> 2 @ a b
			6-7 n1.1 get g -> 2 @ a b
			8-9 n2.2 audit z -> a`, Options{Ack: Memory, Window: time.Millisecond, Witness: true}, ""},
		{"memory does not apply twice", `
			0-1 n1.1 add a 1 -> 1 @ a
			8-9 n1.1 audit z -> a a`, Options{Ack: Memory, Window: time.Second, Witness: true}, "duplicated"},
		{"nor what certainly had no effect", `
			0-1 n1.1 add a 1 -> fail
			8-9 n1.1 audit z -> a`, Options{Ack: Memory, Window: time.Second, Witness: true}, "phantom"},
		{"a register without a witness", `
			0-1 n1.0 set a on register/r a -> a
			2-3 n1.0 set b on register/r b -> b
			8-9 n1.0 audit-get z on register/r -> a`, Options{Ack: Durable}, "lost"},
		{"a timer that is late, perhaps for a fault", `
			0-5 n1.1 submit s on approval/P {"by":"u","deadline_ms":1000} -> {"state":"pending","round":1} @ s
			9000-9001 n1.1 audit z on approval/P -> s`, Options{Ack: Durable, Witness: true}, ""},
	} {
		var kinds []string
		for _, v := range Early(mustParse(t, tc.ops).Ops, tc.opt) {
			kinds = append(kinds, v.Kind)
		}
		if got := strings.Join(kinds, " "); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestLaterAudit: an audit during the load does not stand for the one at the end.
func TestLaterAudit(t *testing.T) {
	for _, tc := range []struct {
		name, last string
		witness    bool
		want       Verdict
	}{
		{"answered", "20-21 n1.1 audit z -> a", true, Pass},
		{"lost since", "20-21 n1.1 audit z ->", true, Violated},
		{"not answered", "20-21 n1.1 audit z -> info", true, Unknown},
		{"refused", "20-21 n1.1 audit z -> fail", true, Unknown},
		{"not sent", "20-21 n1.1 audit z -> unsent", true, Unknown},
		{"answered, without a witness", "20-21 n1.0 audit-get z on register/r -> a", false, Pass},
		{"not answered, without a witness", "20-21 n1.0 audit-get z on register/r -> info", false, Unknown},
	} {
		text := "0-1 n1.1 add a 1 -> 1 @ a\n8-9 n1.1 audit y -> a\n" + tc.last
		if !tc.witness {
			text = "0-1 n1.0 set a on register/r a -> a\n8-9 n1.0 audit-get y on register/r -> a\n" + tc.last
		}
		results := Run(mustParse(t, text), Options{Ack: Durable, Witness: tc.witness})
		if got := Overall(results); got != tc.want {
			t.Errorf("%s: %s, want %s: %s", tc.name, got, tc.want, fmt.Sprint(show(results, false)))
		}
	}
	// What the early audit shows by itself is found all the same.
	run := mustParse(t, "0-1 n1.1 add a 1 -> 1 @ a\n8-9 n1.1 audit y ->\n20-21 n1.1 audit z -> info")
	if r := find(Run(run, Options{Ack: Durable, Witness: true}), "witness"); r.Kinds[Lost] == 0 {
		t.Errorf("%+v", r)
	}
}
