package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	kyaml "sigs.k8s.io/yaml"

	"statequake/chaos"
)

var threePods = map[string]string{"n1": "shop-0", "n2": "shop-1", "n3": "shop-2"}

func render(t *testing.T, kind, spec string, trigger chaos.Trigger, at Place) (*Object, error) {
	t.Helper()
	text := []byte(fmt.Sprintf(`{"kind":%q,"spec":%s}`, kind, spec))
	plan, err := chaos.ParseFor(chaos.Everything(), "f", trigger, text)
	if err != nil {
		t.Fatal(err)
	}
	return Render(t.Context(), Fault{Name: "f", Chaos: text, Plan: plan}, at)
}

// spec is the rendered spec as JSON.
func spec(t *testing.T, o *Object) string {
	t.Helper()
	text, err := o.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var object struct{ Spec json.RawMessage }
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	return string(object.Spec)
}

func TestSelectors(t *testing.T) {
	owner := func(_ context.Context, label, value string) ([]string, error) {
		if label == chaos.OwnerOfLabel && value == "cart/cart-1.1" {
			return []string{"n2"}, nil
		}
		return nil, fmt.Errorf("nobody knows %s", value)
	}
	for _, tt := range []struct {
		selector   string
		at         Place
		want       string // rendered selector, or the error
		unresolved string
		note       string // part of one
	}{
		{selector: `{}`, want: `{}`},
		{selector: `{}`, at: Place{Namespace: "shop"}, want: `{"namespaces":["shop"]}`},
		{selector: `{"namespaces":["other"]}`, at: Place{Namespace: "shop"}, want: `{"namespaces":["other"]}`},
		{selector: `{"labelSelectors":{"statequake.dev/node":"n1"}}`, at: Place{Namespace: "shop"},
			want: `{"labelSelectors":{"statequake.dev/node":"n1"},"namespaces":["shop"]}`, note: "pods must carry the label statequake.dev/node"},
		{selector: `{"expressionSelectors":[{"key":"statequake.dev/node","operator":"NotIn","values":["n1"]}]}`, at: Place{Namespace: "shop", Pods: threePods},
			want: `{"pods":{"shop":["shop-1","shop-2"]}}`},
		{selector: `{}`, at: Place{Namespace: "shop", Pods: threePods}, want: `{"pods":{"shop":["shop-0","shop-1","shop-2"]}}`},
		{selector: `{}`, at: Place{Pods: threePods}, want: "spec.selector: pods are in a namespace"},
		{selector: `{"labelSelectors":{"statequake.dev/node":"n4"}}`, at: Place{Namespace: "shop", Pods: threePods}, want: "spec.selector: matches no node now"},

		{selector: `{"labelSelectors":{"statequake.dev/owner-of":"cart/cart-1.1"}}`,
			want: `{"labelSelectors":{"statequake.dev/owner-of":"cart/cart-1.1"}}`, unresolved: "statequake.dev/owner-of: cart/cart-1.1", note: "the pod that owns cart/cart-1.1"},
		{selector: `{"labelSelectors":{"statequake.dev/owner-of":"cart/cart-1.1"}}`, at: Place{Namespace: "shop", Pods: threePods}, // nobody to ask
			want: `{"labelSelectors":{"statequake.dev/owner-of":"cart/cart-1.1"},"namespaces":["shop"]}`, unresolved: "statequake.dev/owner-of: cart/cart-1.1"},
		{selector: `{"labelSelectors":{"statequake.dev/owner-of":"cart/cart-1.1"}}`, at: Place{Namespace: "shop", Pods: threePods, Resolve: owner},
			want: `{"pods":{"shop":["shop-1"]}}`, note: "was looked up: n2"},
		{selector: `{"expressionSelectors":[{"key":"statequake.dev/owner-of","operator":"NotIn","values":["cart/cart-1.1"]}]}`,
			at:   Place{Namespace: "shop", Pods: threePods, Resolve: owner},
			want: `{"pods":{"shop":["shop-0","shop-2"]}}`},
		{selector: `{"labelSelectors":{"statequake.dev/role":"store-leader"}}`, at: Place{Namespace: "shop", Pods: threePods, Resolve: owner},
			want: "spec.selector: nobody knows store-leader"},
		{selector: `{"labelSelectors":{"statequake.dev/role":"majority"}}`, at: Place{Namespace: "shop"},
			want:       `{"labelSelectors":{"statequake.dev/role":"majority"},"namespaces":["shop"]}`,
			unresolved: "statequake.dev/role: majority", note: "the pods that are not in the minority"},
	} {
		o, err := render(t, chaos.PodChaos, `{"action":"pod-kill","mode":"all","selector":`+tt.selector+`}`, chaos.At(0), tt.at)
		if err != nil {
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%s at %v: %v, want %s", tt.selector, tt.at, err, tt.want)
			}
			continue
		}
		if got, want := spec(t, o), `{"action":"pod-kill","mode":"all","selector":`+tt.want+`}`; got != want {
			t.Errorf("%s at %v:\n got %s\nwant %s", tt.selector, tt.at, got, want)
		}
		if got := strings.Join(o.Unresolved, "; "); got != tt.unresolved {
			t.Errorf("%s at %v: unresolved %q, want %q", tt.selector, tt.at, got, tt.unresolved)
		}
		if notes := strings.Join(o.Notes, "\n"); !strings.Contains(notes, tt.note) {
			t.Errorf("%s at %v: no %q in\n%s", tt.selector, tt.at, tt.note, notes)
		}
	}
}

// Minority and majority are those of a run with the seed: one draw, so that they
// split all pods in two.
func TestHalves(t *testing.T) {
	const halves = `{"action":"partition","mode":"all","selector":{"labelSelectors":{"statequake.dev/role":"minority"}},"direction":"both",
		"target":{"mode":"all","selector":{"labelSelectors":{"statequake.dev/role":"majority"}}},"duration":"1s"}`
	seen := map[string]bool{}
	for seed := range int64(20) {
		o, err := render(t, chaos.NetworkChaos, halves, chaos.At(0), Place{Namespace: "shop", Pods: threePods, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		var s struct {
			Selector struct{ Pods map[string][]string }
			Target   struct {
				Selector struct{ Pods map[string][]string }
			}
		}
		if err := json.Unmarshal([]byte(spec(t, o)), &s); err != nil {
			t.Fatal(err)
		}
		minority, majority := s.Selector.Pods["shop"], s.Target.Selector.Pods["shop"]
		if len(minority) != 1 || len(majority) != 2 || strings.Contains(strings.Join(majority, " "), minority[0]) {
			t.Errorf("seed %d: minority %v, majority %v", seed, minority, majority)
		}
		seen[minority[0]] = true
	}
	if len(seen) != 3 {
		t.Errorf("over 20 seeds only %v were the minority", seen)
	}
}

// Whatever is written comes out the same, although kubectl reads YAML 1.1.
func TestAsWritten(t *testing.T) {
	for _, value := range []string{"n1", "on", "yes", "NO", "null", "~", "", "0x10", "010", "1e3", "12:30", "1_000", "- a", "a: b", "#x", "  x ", "é\n\"'", "2026-01-01", "{}", "true"} {
		value, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		text := []byte(fmt.Sprintf(`{"kind":"PodChaos","metadata":{"labels":{"a":%s}},"spec":{"action":"pod-kill","mode":"one","selector":{},"gracePeriod":3}}`, value))
		plan, err := chaos.ParseFor(chaos.Everything(), "f", chaos.At(0), text)
		if err != nil {
			t.Fatal(err)
		}
		o, err := Render(t.Context(), Fault{Name: "f", Chaos: text, Plan: plan}, Place{})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := Write(&b, []*Object{o}); err != nil {
			t.Fatal(err)
		}
		var got, want map[string]any
		if err := kyaml.Unmarshal([]byte(b.String()), &got); err != nil {
			t.Fatalf("%s: %v in\n%s", value, err, &b)
		}
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		want["apiVersion"] = version
		want["metadata"].(map[string]any)["name"] = "f"
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %v\nwant %v\n%s", value, got, want, &b)
		}
	}
}

func TestMetadata(t *testing.T) {
	text := []byte(`{"apiVersion":"chaos-mesh.org/v1alpha1","kind":"PodChaos","metadata":{"name":"mine","namespace":"theirs"},"spec":{"action":"pod-kill","mode":"one","selector":{}}}`)
	plan, err := chaos.ParseFor(chaos.Everything(), "f", chaos.At(0), text)
	if err != nil {
		t.Fatal(err)
	}
	for namespace, want := range map[string]string{"": "theirs", "shop": "shop"} {
		o, err := Render(t.Context(), Fault{Name: "f", Chaos: text, Plan: plan}, Place{Namespace: namespace})
		if err != nil || o.Name != "mine" || o.Namespace != want {
			t.Errorf("%q: %s/%s, %v, want %s/mine", namespace, o.Namespace, o.Name, err, want)
		}
	}
}

func TestOwnKinds(t *testing.T) {
	for kind, spec := range map[string]string{
		chaos.ProcessPause: `{"mode":"one","selector":{},"duration":"1s"}`,
		chaos.PowerLoss:    `{"mode":"one","selector":{}}`,
		chaos.DiskFull:     `{"mode":"one","selector":{},"duration":"1s"}`,
	} {
		_, err := render(t, kind, spec, chaos.At(0), Place{})
		if err == nil || !strings.HasPrefix(err.Error(), "kind: "+kind+" is not of Chaos Mesh") || !strings.Contains(err.Error(), "\nhint: ") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestTriggerNotes(t *testing.T) {
	for _, tt := range []struct {
		trigger chaos.Trigger
		want    string
	}{
		{chaos.At(8 * time.Second), "8s after the warmup"},
		{chaos.Within{From: time.Second, To: 2 * time.Second}, "from 1s to 2s after the warmup"},
		{chaos.AfterAcks(2000), "after 2000 acknowledged operations"},
		{chaos.OnFile{Op: "fsync", Path: "*.wal", Nth: 3}, "in fsync 3 of *.wal"},
		{chaos.While("other"), "while fault other is in force"},
	} {
		o, err := render(t, chaos.PodChaos, `{"action":"pod-kill","mode":"one","selector":{}}`, tt.trigger, Place{})
		if err != nil || len(o.Notes) != 1 || !strings.Contains(o.Notes[0], tt.want) || !strings.Contains(o.Notes[0], "kubectl applies it at once") {
			t.Errorf("%v: %q, %v, want %q", tt.trigger, o.Notes, err, tt.want)
		}
	}
}

func TestDNSName(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, tt := range []struct{ name, want string }{
		{"quickstart-kill-owner", "quickstart-kill-owner"},
		{"-a-", "a-"}, {"Kill Owner", "kill-owner-"}, {"---", ""}, {long, long[:54] + "-"},
	} {
		got := dnsName(tt.name)
		if !strings.HasPrefix(got, tt.want) || len(got) > 63 || strings.Trim(got, "-") != got || got == "" {
			t.Errorf("%s: %q, want %s...", tt.name, got, tt.want)
		}
	}
	if dnsName("a b") == dnsName("a-b") || dnsName(long+"a") == dnsName(long+"b") {
		t.Error("different names became one")
	}
}
