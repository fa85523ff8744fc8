package k6

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.k6.io/k6/cmd"

	"statequake/history"
)

// asK6 makes this test program k6 with the extension.
const asK6 = "STATEQUAKE_TEST_IS_K6"

func TestMain(m *testing.M) {
	if os.Getenv(asK6) != "" {
		cmd.Execute()
		return
	}
	os.Exit(m.Run())
}

// node is a node of the reference runtime, as far as a script can tell: every
// command but get, refuse and witness is a write. Results mean nothing.
type node struct {
	*httptest.Server
	delay func() time.Duration // before an answer

	mu   sync.Mutex
	ids  map[string][]string // by entity and key
	seen int
}

func newNode(t *testing.T) *node {
	n := &node{ids: map[string][]string{}, delay: func() time.Duration { return 0 }}
	n.Server = httptest.NewServer(n)
	t.Cleanup(n.Close)
	return n
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(n.delay())
	parts := strings.Split(r.URL.Path, "/") // "", v1, entities, type, key, command
	io.Copy(io.Discard, r.Body)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen++
	if len(parts) == 5 && parts[2] == "actions" {
		fmt.Fprint(w, `{"result":{},"node":"n1"}`)
		return
	}
	if len(parts) != 6 {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":"no such thing","effect":"none"}`)
		return
	}
	at := parts[3] + "/" + parts[4]
	result := json.RawMessage(`{}`)
	switch parts[5] {
	case "witness":
		ids := n.ids[at]
		if ids == nil {
			ids = []string{}
		}
		result, _ = json.Marshal(map[string][]string{"ids": ids})
	case "get":
		result = json.RawMessage(`{"value":"v"}`)
	case "refuse":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"never","effect":"none"}`)
		return
	default:
		n.ids[at] = append(n.ids[at], r.Header.Get("Statequake-Op"))
	}
	digest := history.ZeroDigest
	for _, id := range n.ids[at] {
		digest = history.NextDigest(digest, id)
	}
	json.NewEncoder(w).Encode(map[string]any{"result": result, "version": len(n.ids[at]), "digest": digest, "epoch": 1, "node": "n1"})
}

// k6 runs a script and returns its exit code and what it said.
func (n *node) k6(t *testing.T, script string, args ...string) (code int, said string) {
	t.Helper()
	c := n.command(t, script, args...)
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), string(out)
}

func (n *node) command(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	if !strings.HasSuffix(script, ".js") {
		path := filepath.Join(t.TempDir(), "script.js")
		if err := os.WriteFile(path, []byte(script), 0o644); err != nil {
			t.Fatal(err)
		}
		script = path
	}
	all := append([]string{"run", "--quiet", "--no-color", "--address", ""}, args...)
	c := exec.Command(os.Args[0], append(all, script)...)
	c.Env = append(os.Environ(), asK6+"=1", "K6_NO_USAGE_REPORT=true", "K6_AUTO_EXTENSION_RESOLUTION=false", "STATEQUAKE_URL="+n.URL)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// record reads a run directory.
func record(t *testing.T, dir string) ([]history.Op, *history.Run) {
	t.Helper()
	var ops []history.Op
	run, err := history.ReadRun(dir, func(op *history.Op) error {
		c := *op
		c.Args, c.Result = append([]byte(nil), op.Args...), append([]byte(nil), op.Result...)
		ops = append(ops, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ops, run
}
