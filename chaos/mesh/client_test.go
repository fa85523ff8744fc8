package mesh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chaos-mesh/chaos-mesh/api/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"statequake/chaos"
	"statequake/history"
)

// inMemory is an API server without rules: no schemas, and no strictness. It
// gives objects a UID and a time of creation, which its library does not.
func inMemory(t *testing.T, funcs interceptor.Funcs) client.Client {
	t.Helper()
	s := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(s), v1alpha1.AddToScheme(s)); err != nil {
		t.Fatal(err)
	}
	create := funcs.Create
	funcs.Create = func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		o.SetUID(uuid.NewUUID())
		o.SetCreationTimestamp(metav1.Now())
		if create != nil {
			return create(ctx, api, o, opts...)
		}
		return api.Create(ctx, o, opts...)
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for kind := range s.AllKnownTypes() {
		mapper.Add(kind, meta.RESTScopeNamespace)
	}
	return fake.NewClientBuilder().WithScheme(s).WithRESTMapper(mapper).WithInterceptorFuncs(funcs).
		WithIndex(&corev1.Event{}, "involvedObject.uid", func(o client.Object) []string {
			return []string{string(o.(*corev1.Event).InvolvedObject.UID)}
		}).
		WithStatusSubresource(&corev1.Pod{}).Build()
}

// recorded is a Client with bounds for tests, and what it recorded.
type recorded struct {
	Client
	mu     sync.Mutex
	faults []history.Fault
}

func newRecorded(api client.Client) *recorded {
	began := time.Now()
	r := &recorded{}
	r.Client = Client{api: api, InjectWithin: 4 * time.Second, RecoverWithin: 3 * time.Second, Patience: time.Second,
		Now: func() time.Duration { return time.Since(began) },
		Record: func(f history.Fault) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.faults = append(r.faults, f)
		}}
	return r
}

// events are the recorded events, one word each.
func (r *recorded) events() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var words []string
	for _, f := range r.faults {
		words = append(words, string(f.Event))
	}
	return strings.Join(words, " ")
}

func object(t *testing.T, namespace, kind, spec string) *Object {
	t.Helper()
	text := []byte(fmt.Sprintf(`{"kind":%q,"spec":%s}`, kind, spec))
	plan, err := chaos.ParseFor(chaos.Everything(), "fault", chaos.At(0), text)
	if err != nil {
		t.Fatal(err)
	}
	o, err := Render(t.Context(), Fault{Name: "fault", Chaos: text, Plan: plan}, Place{Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

const (
	killAll   = `{"action":"pod-kill","mode":"all","selector":{}}`
	killNone  = `{"action":"pod-kill","mode":"one","selector":{"labelSelectors":{"statequake.dev/owner-of":"hottest"}}}`
	failOne   = `{"action":"pod-failure","mode":"one","duration":"6s","selector":{"labelSelectors":{"statequake.dev/node":"n2"}}}`
	failLong  = `{"action":"pod-failure","mode":"all","duration":"10m","selector":{}}`
	partition = `{"action":"partition","mode":"one","duration":"6s","direction":"both","selector":{"labelSelectors":{"statequake.dev/node":"n1"}},
		"target":{"mode":"all","selector":{"expressionSelectors":[]}}}`
)

// stories are the lives of faults; each namespace is one, with the pods shop-1
// and shop-2 of the nodes n1 and n2.
var stories = []struct {
	name       string
	kind, spec string
	player     *player                // nil: there is no Chaos Mesh
	end        func(w *recorded) bool // ends the context when it says so

	inject, recover, patience time.Duration // bounds of what is waited for in vain; 0 means 1 min

	events  string
	proof   history.Proof
	detail  string // part of it
	targets string
	cleared string
	told    string // reason of an event that the report must hold
}{
	{name: "fails-and-recovers", kind: chaos.PodChaos, spec: failOne, player: &player{},
		events: "requested injected evidence recovered", proof: history.Confirmed, detail: "1 of 1 records injected", targets: "shop-2", told: "Recovered"},
	{name: "killed", kind: chaos.PodChaos, spec: killAll, player: &player{},
		events: "requested injected evidence recovered", proof: history.Confirmed, detail: "their pods are gone or going", targets: "shop-1 shop-2", told: "Applied"},
	{name: "killed-for-good", recover: 3 * time.Second, kind: chaos.PodChaos, spec: killAll, player: &player{noReplaced: true},
		events: "requested injected evidence", proof: history.Confirmed, targets: "shop-1 shop-2"},
	{name: "partitioned", kind: chaos.NetworkChaos, spec: partition, player: &player{},
		events: "requested injected evidence recovered", proof: history.Confirmed, detail: "3 of 3 records injected", targets: "shop-1"},
	{name: "not-killed", inject: 8 * time.Second, kind: chaos.PodChaos, spec: killAll, player: &player{lies: true},
		events: "requested evidence", proof: history.Mismatch, detail: "still runs as before", targets: "shop-1 shop-2"},
	{name: "selects-nothing", kind: chaos.PodChaos, spec: killNone, player: &player{},
		events: "requested evidence", proof: history.Inconclusive, detail: "selected nothing: Failed to select targets: no pod is selected", told: "Failed"},
	{name: "refused", inject: 8 * time.Second, kind: chaos.PodChaos, spec: failLong,
		player: &player{refuses: func(id string) string {
			if strings.HasSuffix(id, "shop-2") {
				return "the kernel has no netem"
			}
			return ""
		}},
		events: "requested evidence", proof: history.Mismatch, detail: "1 of 2 records injected: ", targets: "shop-1 shop-2"},
	{name: "nobody-there", inject: 3 * time.Second, kind: chaos.PodChaos, spec: killAll,
		events: "requested evidence", proof: history.Inconclusive, detail: "nobody wrote a status"},
	{name: "late", kind: chaos.PodChaos, spec: strings.Replace(failOne, "6s", "1s", 1), player: &player{slow: true},
		events: "requested evidence", proof: history.Mismatch, detail: "over before anything was injected", targets: "shop-2"},
	{name: "stuck", patience: 5 * time.Second, kind: chaos.PodChaos, spec: failLong, player: &player{neverUndo: true},
		end:    func(w *recorded) bool { return strings.HasSuffix(w.events(), "injected") },
		events: "requested injected evidence", proof: history.Confirmed, detail: "may still be in force", targets: "shop-1 shop-2", cleared: "annotation chaos-mesh.chaos-mesh.org/cleanFinalizer=forced"},
	{name: "stuck-for-good", patience: time.Second, kind: chaos.PodChaos, spec: failLong, player: &player{neverUndo: true, deaf: true},
		end:    func(w *recorded) bool { return strings.HasSuffix(w.events(), "injected") },
		events: "requested injected evidence", proof: history.Confirmed, detail: "may still be in force", targets: "shop-1 shop-2", cleared: "finalizers removed"},
	{name: "interrupted", kind: chaos.PodChaos, spec: failLong, player: &player{},
		end:    func(w *recorded) bool { return strings.HasSuffix(w.events(), "injected") },
		events: "requested injected evidence recovered", proof: history.Confirmed, targets: "shop-1 shop-2"},
	{name: "interrupted-early", kind: chaos.PodChaos, spec: failLong,
		end:    func(w *recorded) bool { return w.events() == "requested" },
		events: "requested evidence", proof: history.Inconclusive, detail: "ended before"},
}

// live lets the stories happen on an API server. namespace makes one of the
// name that it is given.
func live(t *testing.T, api client.Client, namespace func(t *testing.T, name string)) {
	var all sync.WaitGroup // they wait more than they work, so there may be more than t.Parallel allows
	defer all.Wait()
	for _, tt := range stories {
		all.Go(func() {
			t.Run(tt.name, func(t *testing.T) {
				namespace(t, tt.name)
				for i, pod := range []string{"shop-1", "shop-2"} {
					if err := newPod(t.Context(), api, tt.name, pod, map[string]string{chaos.NodeLabel: fmt.Sprintf("n%d", i+1)}); err != nil {
						t.Fatal(err)
					}
				}
				if tt.player != nil {
					p := *tt.player
					p.t, p.api, p.ns = t, api, tt.name
					p.play()
				}
				w := newRecorded(api)
				// What has to come may come late on a busy machine.
				w.InjectWithin, w.RecoverWithin, w.Patience = cmp.Or(tt.inject, time.Minute), cmp.Or(tt.recover, time.Minute), cmp.Or(tt.patience, time.Minute)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.end != nil {
					go func() {
						for ctx.Err() == nil && !tt.end(w) {
							time.Sleep(time.Millisecond)
						}
						cancel()
					}()
				}
				o := object(t, tt.name, tt.kind, tt.spec)
				began := time.Now()
				report, err := w.Inject(ctx, o)
				if err != nil {
					t.Fatal(err)
				}
				if limit := 2 * time.Minute; time.Since(began) > limit {
					t.Errorf("it took %s, more than %s", time.Since(began), limit)
				}
				if got := w.events(); got != tt.events {
					t.Errorf("events %s, want %s", got, tt.events)
				}
				if report.Proof != tt.proof || !strings.Contains(report.Detail, tt.detail) {
					t.Errorf("%s: %s, want %s: ...%s...", report.Proof, report.Detail, tt.proof, tt.detail)
				}
				last := w.faults[slices.IndexFunc(w.faults, func(f history.Fault) bool { return f.Event == history.Evidence })]
				if got := strings.Join(last.Targets, " "); got != tt.targets || last.Proof != tt.proof {
					t.Errorf("evidence %s of %q, want %s of %q", last.Proof, got, tt.proof, tt.targets)
				}
				if report.Cleared != tt.cleared {
					t.Errorf("cleared by %q, want %q", report.Cleared, tt.cleared)
				}
				if tt.told != "" && !slices.ContainsFunc(report.Events, func(e Event) bool { return e.Reason == tt.told }) {
					t.Errorf("no event %s in %v", tt.told, report.Events)
				}
				if left := leftOver(t, api, tt.name); left != "" {
					t.Errorf("left over: %s", left)
				}
			})
		})
	}
}

// leftOver names an object of Chaos Mesh that is still in a namespace.
func leftOver(t *testing.T, api client.Client, namespace string) string {
	t.Helper()
	for _, kind := range []string{chaos.PodChaos, chaos.NetworkChaos} {
		var list unstructured.UnstructuredList
		list.SetGroupVersionKind(schema.FromAPIVersionAndKind(version, kind+"List"))
		if err := api.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Items {
			return kind + " " + o.GetName()
		}
	}
	return ""
}

func TestStories(t *testing.T) {
	live(t, inMemory(t, interceptor.Funcs{}), func(*testing.T, string) {})
}

// An object of the same name that somebody else made stays as it is.
func TestExists(t *testing.T) {
	api := inMemory(t, interceptor.Funcs{})
	other := &unstructured.Unstructured{Object: map[string]any{"apiVersion": version, "kind": "PodChaos",
		"metadata": map[string]any{"name": "fault", "namespace": "shop"}, "spec": map[string]any{}}}
	if err := api.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	w := newRecorded(api)
	report, err := w.Inject(t.Context(), object(t, "shop", chaos.PodChaos, killAll))
	if err == nil || !strings.Contains(err.Error(), "exists already\nhint: kubectl delete -n shop podchaos fault") {
		t.Errorf("error %v", err)
	}
	if report.Proof != history.Inconclusive || w.events() != "requested evidence" {
		t.Errorf("%s, events %s", report.Proof, w.events())
	}
	if leftOver(t, api, "shop") == "" {
		t.Error("the other object was removed")
	}
}

// What was created although the answer was lost is removed, too.
func TestLostAnswer(t *testing.T) {
	api := inMemory(t, interceptor.Funcs{Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		if err := api.Create(ctx, o, opts...); err != nil || o.GetName() != "fault" {
			return err
		}
		return errors.New("connection reset by peer")
	}})
	w := newRecorded(api)
	report, err := w.Inject(t.Context(), object(t, "shop", chaos.PodChaos, killAll))
	if err == nil || report.Proof != history.Inconclusive || !strings.Contains(report.Detail, "connection reset") {
		t.Errorf("%s: %s, error %v", report.Proof, report.Detail, err)
	}
	if left := leftOver(t, api, "shop"); left != "" {
		t.Errorf("left over: %s", left)
	}
}

// An API server that goes away does not hold the caller for ever.
func TestAPIServerGone(t *testing.T) {
	var gone sync.Once
	down := make(chan struct{})
	answer := func() error {
		select {
		case <-down:
			return errors.New("connection refused")
		default:
			return nil
		}
	}
	api := inMemory(t, interceptor.Funcs{
		Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := answer(); err != nil {
				return err
			}
			return api.Get(ctx, key, o, opts...)
		},
		Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			defer gone.Do(func() { close(down) })
			return api.Create(ctx, o, opts...)
		},
		Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return answer()
		},
	})
	w := newRecorded(api)
	w.InjectWithin, w.Patience = 300*time.Millisecond, 300*time.Millisecond
	report, err := w.Inject(t.Context(), object(t, "shop", chaos.PodChaos, killAll))
	if err == nil || !strings.Contains(err.Error(), "still there") || !strings.Contains(err.Error(), "hint: kubectl patch -n shop podchaos fault") {
		t.Errorf("error %v", err)
	}
	if report.Proof != history.Inconclusive || !strings.Contains(report.Detail, "connection refused") {
		t.Errorf("%s: %s", report.Proof, report.Detail)
	}
}

// A cluster without Chaos Mesh is told from one that cannot be reached, and at
// neither is anything attempted.
func TestWithoutChaosMesh(t *testing.T) {
	var posts atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			posts.Add(1)
		}
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/api":
			io.WriteString(w, `{"kind":"APIVersions","versions":["v1"]}`)
		case "/apis":
			io.WriteString(w, `{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "config")
	config := `
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "` + server.URL + `"}}]
users: [{name: u, user: {}}]
contexts: [{name: here, context: {cluster: c, user: u, namespace: shop}}, {name: there, context: {cluster: c, user: u}}]
current-context: here
`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	inject := func(contextName, namespace, want string) {
		t.Helper()
		c, got, err := Connect(file, contextName)
		if err != nil || got != namespace {
			t.Fatalf("context %q: namespace %q, %v, want %q", contextName, got, err, namespace)
		}
		w := newRecorded(c.api)
		if _, err := w.Inject(t.Context(), object(t, namespace, chaos.PodChaos, killAll)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want ...%s...", err, want)
		}
		if w.events() != "" || posts.Load() != 0 {
			t.Errorf("events %q, %d requests that change something", w.events(), posts.Load())
		}
	}
	inject("", "shop", "the cluster does not know the kind PodChaos\nhint: Chaos Mesh has to be installed there")
	server.Close()
	inject("there", "default", "connection refused")
	if _, _, err := Connect(file, "nowhere"); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("unknown context: %v", err)
	}
	// The environment is not asked.
	t.Setenv("KUBECONFIG", file)
	if _, _, err := Connect(filepath.Join(t.TempDir(), "none"), ""); err == nil {
		t.Error("no error for a file that is not there")
	}
}

// An object of the same name that somebody puts in the place of ours is not ours
// to delete.
func TestReplaced(t *testing.T) {
	api := inMemory(t, interceptor.Funcs{})
	w := newRecorded(api)
	w.InjectWithin = time.Minute
	replaced := make(chan error, 1)
	go func() {
		key := client.ObjectKey{Namespace: "shop", Name: "fault"}
		var ours v1alpha1.PodChaos
		for api.Get(t.Context(), key, &ours) != nil && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		other := &v1alpha1.PodChaos{Spec: ours.Spec}
		other.Namespace, other.Name = key.Namespace, key.Name
		replaced <- errors.Join(api.Delete(t.Context(), &ours), api.Create(t.Context(), other))
	}()
	report, err := w.Inject(t.Context(), object(t, "shop", chaos.PodChaos, killAll))
	if err := errors.Join(err, <-replaced); err != nil {
		t.Fatal(err)
	}
	if report.Proof != history.Inconclusive || !strings.Contains(report.Detail, "somebody else deleted the object") {
		t.Errorf("%s: %s", report.Proof, report.Detail)
	}
	if leftOver(t, api, "shop") == "" {
		t.Error("the other object was removed")
	}
}
