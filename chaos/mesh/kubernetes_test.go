//go:build e2e_kubernetes

package mesh

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"statequake/chaos"
	"statequake/chaos/crd"
	"statequake/scenarios"
)

// These tests need a real API server and a real etcd, which make e2e-kubernetes
// builds: see there.

var (
	cluster    *envtest.Environment
	clusterAPI client.Client
	statequake string // the program
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		log.SetLogger(logr.Discard())
		bin, err := filepath.Abs("../../bin")
		if err != nil {
			panic(err)
		}
		statequake = filepath.Join(bin, "statequake")
		cluster = &envtest.Environment{
			BinaryAssetsDirectory: filepath.Join(bin, "kubernetes"),
			CRDDirectoryPaths:     []string{"../crd"},
			ErrorIfCRDPathMissing: true,
		}
		config, err := cluster.Start()
		if err != nil {
			fmt.Fprintf(os.Stderr, "start the API server: %v\nhint: make e2e-kubernetes builds it\n", err)
			return 1
		}
		defer func() {
			if err := cluster.Stop(); err != nil {
				fmt.Fprintf(os.Stderr, "stop the API server: %v\n", err)
			}
		}()
		config.QPS = -1 // the server has nothing else to do
		if clusterAPI, err = client.New(config, client.Options{Scheme: scheme.Scheme}); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

func namespace(t *testing.T, name string) {
	t.Helper()
	if err := clusterAPI.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		t.Fatal(err)
	}
}

// The stories on a real API server: schemas, strict fields, finalizers,
// preconditions, conflicts.
func TestStoriesOnKubernetes(t *testing.T) {
	live(t, clusterAPI, namespace)
}

// create has the API server take an object, and returns what it made of it.
func create(t *testing.T, text []byte) (*unstructured.Unstructured, error) {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	err := clusterAPI.Create(t.Context(), o, client.FieldValidation("Strict"))
	return o, err
}

// The objects of every bundled scenario are taken as they were written.
func TestBundledAccepted(t *testing.T) {
	namespace(t, "bundled")
	accepted := map[string]int{}
	for _, info := range scenarios.Bundled() {
		for _, f := range info.Scenario.Faults {
			if instead[f.Plan.Kind] != "" {
				continue
			}
			o, err := Render(t.Context(), Fault{Name: info.Scenario.Name + "-" + f.Name, Chaos: f.Chaos, Plan: f.Plan}, Place{Namespace: "bundled"})
			if err != nil {
				t.Errorf("%s: %s: %v", info.Name, f.Name, err)
				continue
			}
			text, err := o.JSON()
			if err != nil {
				t.Fatal(err)
			}
			made, err := create(t, text)
			if err != nil {
				t.Errorf("%s: %s: %v", info.Name, f.Name, err)
				continue
			}
			var written struct{ Spec map[string]any }
			if err := json.Unmarshal(f.Chaos, &written); err != nil {
				t.Fatal(err)
			}
			spec, _, _ := unstructured.NestedMap(made.Object, "spec")
			if path := missing(written.Spec, spec); path != "" {
				t.Errorf("%s: %s: the API server has no spec%s as written\nwritten %v\nhas     %v", info.Name, f.Name, path, written.Spec, spec)
			}
			accepted[f.Plan.Kind]++
		}
	}
	t.Logf("accepted: %v", accepted)
	for _, kind := range []string{chaos.PodChaos, chaos.NetworkChaos, chaos.IOChaos, chaos.StressChaos, chaos.TimeChaos} {
		if accepted[kind] == 0 {
			t.Errorf("no bundled scenario has a %s", kind)
		}
	}
}

// missing is the path of the first value of want that have lacks; have may hold
// more, such as defaults and namespaces.
func missing(want, have any) string {
	switch want := want.(type) {
	case map[string]any:
		have, ok := have.(map[string]any)
		if !ok {
			return "?"
		}
		for key, value := range want {
			if path := missing(value, have[key]); path != "" {
				return "." + key + strings.TrimSuffix(path, "?")
			}
		}
	case []any:
		have, ok := have.([]any)
		if !ok || len(have) != len(want) {
			return "?"
		}
		for i := range want {
			if path := missing(want[i], have[i]); path != "" {
				return fmt.Sprintf("[%d]%s", i, strings.TrimSuffix(path, "?"))
			}
		}
	default:
		// As JSON, since one decoder makes float64 of whole numbers and the other int64.
		a, errA := json.Marshal(want)
		b, errB := json.Marshal(have)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			return "?"
		}
	}
	return ""
}

// What the schemas refuse offline, the API server refuses with the same field
// and the same reason.
func TestRefusedAlike(t *testing.T) {
	namespace(t, "refused-alike")
	for _, tt := range []struct{ kind, spec string }{
		{"PodChaos", `{"action":"pod-explode","mode":"one","selector":{}}`},
		{"PodChaos", `{"action":"pod-kill","mode":"many","selector":{}}`},
		{"PodChaos", `{"action":"pod-kill","mode":"one"}`},
		{"PodChaos", `{"action":"pod-kill","mode":"one","selector":{"labelSelectors":{"a":1}}}`},
		{"PodChaos", `{"action":"pod-kill","mode":"one","selector":{},"gracePeriod":-1}`},
		{"NetworkChaos", `{"action":"partition","mode":"one","selector":{},"direction":"sideways"}`},
		{"NetworkChaos", `{"action":"delay","mode":"one","selector":{},"delay":{"latency":"10 parsecs"}}`},
		{"NetworkChaos", `{"action":"partition","mode":"one","selector":{},"partitionBehavior":"argue"}`},
		{"NetworkChaos", `{"action":"partition","mode":"one","selector":{},"target":{"mode":"none","selector":{}}}`},
		{"IOChaos", `{"action":"latency","mode":"one","selector":{}}`},
		{"IOChaos", `{"action":"mistake","volumePath":"/data","mode":"one","selector":{},"mistake":{"filling":"jam"}}`},
		{"StressChaos", `{"mode":"one","selector":{},"stressors":{"cpu":{"workers":9000}}}`},
		{"StressChaos", `{"mode":"one","selector":{},"stressors":{"cpu":{"workers":1,"load":101}}}`},
		{"TimeChaos", `{"mode":"one","selector":{}}`},
	} {
		var spec map[string]any
		if err := json.Unmarshal([]byte(tt.spec), &spec); err != nil {
			t.Fatal(err)
		}
		offline, err := crd.Validate(tt.kind, integers(map[string]any{"spec": spec}).(map[string]any))
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, e := range offline {
			want = append(want, e.Field+": "+e.ErrorBody())
		}
		_, err = create(t, []byte(fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":"refused","namespace":"refused-alike"},"spec":%s}`, version, tt.kind, tt.spec)))
		var answer apierrors.APIStatus
		if !errors.As(err, &answer) || !apierrors.IsInvalid(err) {
			t.Errorf("%s %s: error %v", tt.kind, tt.spec, err)
			continue
		}
		var got []string
		for _, cause := range answer.Status().Details.Causes {
			got = append(got, cause.Field+": "+cause.Message)
		}
		if len(want) == 0 || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s %s:\nAPI server %q\noffline    %q", tt.kind, tt.spec, got, want)
		}
	}
}

// integers makes whole numbers of JSON int64, as the API server reads them.
func integers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			v[key] = integers(v[key])
		}
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	}
	return v
}

// An object that the server does not take leaves nothing and no
// false evidence.
func TestInvalidOnKubernetes(t *testing.T) {
	namespace(t, "invalid")
	o := object(t, "invalid", chaos.PodChaos, killAll)
	set(child(o.root, "spec"), "mode", text("many"))
	w := newRecorded(clusterAPI)
	report, err := w.Inject(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), `spec.mode: Unsupported value: "many"`) || w.events() != "requested evidence" || report.Proof == "confirmed" {
		t.Errorf("%s, events %s, error %v", report.Proof, w.events(), err)
	}
	set(child(o.root, "spec"), "mode", text("all"))
	set(child(o.root, "spec"), "mood", text("bad"))
	if _, err := newRecorded(clusterAPI).Inject(t.Context(), o); err == nil || !strings.Contains(err.Error(), `unknown field "spec.mood"`) {
		t.Errorf("unknown field: error %v", err)
	}
}

// The same file, unchanged: it runs on local processes, its objects are taken by
// the API server, and its faults are injected by what plays Chaos Mesh there.
func TestSameFile(t *testing.T) {
	namespace(t, "same")
	const scenario = `name: same
seed: 7
system: {name: reference, nodes: 3, ack: durable}
load:
  workload: {name: counter, keys: 30}
  arrivals: {constant: 50/s}
  warmup: 500ms
  duration: 11s
  timeout: 10s
faults:
  - name: kill
    at: 500ms
    chaos:
      kind: PodChaos
      spec: {action: pod-kill, mode: one, selector: {labelSelectors: {statequake.dev/node: n1}}}
  - name: away
    at: 3s
    chaos:
      kind: PodChaos
      spec: {action: pod-failure, mode: one, duration: 5s, selector: {labelSelectors: {statequake.dev/role: minority}}}
`
	dir := t.TempDir()
	file := filepath.Join(dir, "same.yaml")
	if err := os.WriteFile(file, []byte(scenario), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(want int, args ...string) string {
		t.Helper()
		cmd := exec.Command(statequake, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
			t.Fatalf("statequake %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	ran := run(0, "run", file, "--out", filepath.Join(dir, "run"))
	if !strings.Contains(ran, "PASS") {
		t.Errorf("run:\n%s", ran)
	}

	config := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(config, kubeconfig(t), 0o600); err != nil {
		t.Fatal(err)
	}
	to := []string{"--namespace", "same"}
	for i, pod := range []string{"shop-1", "shop-2", "shop-3"} {
		if err := newPod(t.Context(), clusterAPI, "same", pod, nil); err != nil {
			t.Fatal(err)
		}
		to = append(to, "--pod", fmt.Sprintf("n%d=%s", i+1, pod))
	}

	rendered := run(0, append([]string{"chaos", file, "--render"}, to...)...)
	decoder := yaml.NewYAMLToJSONDecoder(bytes.NewReader([]byte(rendered)))
	var names []string
	for {
		var o unstructured.Unstructured
		if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, rendered)
		}
		names = append(names, o.GetName())
		if err := clusterAPI.Create(t.Context(), &o, client.FieldValidation("Strict"), client.DryRunAll); err != nil {
			t.Errorf("%s: %v", o.GetName(), err)
		}
	}
	if got := strings.Join(names, " "); got != "same-kill same-away" {
		t.Errorf("rendered %s", got)
	}

	p := &player{t: t, api: clusterAPI, ns: "same"}
	p.play()
	applied := run(0, append([]string{"chaos", file, "--kubeconfig", config, "--out", filepath.Join(dir, "evidence")}, to...)...)
	for _, want := range []string{"injected   same-kill n1", "injected   same-away n", "recovered  same-kill n1", "recovered  same-away n"} {
		if !strings.Contains(applied, want) {
			t.Errorf("no %q in\n%s", want, applied)
		}
	}
	kept, err := os.ReadFile(filepath.Join(dir, "evidence", "same-kill.json"))
	var report Report
	if err := errors.Join(err, json.Unmarshal(kept, &report)); err != nil || report.Proof != "confirmed" || len(report.Events) == 0 || len(report.Object) == 0 {
		t.Errorf("evidence %v\n%s", err, kept)
	}
	if left := leftOver(t, clusterAPI, "same"); left != "" {
		t.Errorf("left over: %s", left)
	}
}

func kubeconfig(t *testing.T) []byte {
	t.Helper()
	user, err := cluster.AddUser(envtest.User{Name: "statequake", Groups: []string{"system:masters"}}, &rest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := user.KubeConfig()
	if err != nil {
		t.Fatal(err)
	}
	return text
}
