package k6

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports"
	"statequake/reports/check"
	"statequake/reports/stats"
)

// judged is the verdict on a run directory.
func judged(t *testing.T, dir string) *reports.Verdict {
	t.Helper()
	v, err := reports.Judge(dir)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const counts = `
import { check } from 'k6';
import exec from 'k6/execution';
import statequake from 'k6/x/statequake';
export const options = { vus: 3, iterations: 60, thresholds: LIMITS };
const client = statequake.connect();
export default async function () {
  const key = statequake.tag() + '-' + exec.vu.idInTest;
  const a = client.invokeSync('thing', key, 'add', { n: 1 });
  const b = await client.invoke('thing', key, 'add', { n: 2 });
  const c = client.invokeSync('thing', key, 'refuse');
  check([a, b, c], {
    'answered': ([a, b]) => a.ok && b.ok && a.outcome === 'ok' && typeof a.result === 'object',
    'in order': ([a, b]) => b.version === a.version + 1 && b.digest.length === 16 && b.node === 'n1',
    'refused': ([, , c]) => !c.ok && c.outcome === 'fail' && c.version === undefined && c.error.includes('never') && c.duration > 0,
  });
}
`

// A run by hand is judged like any other; k6's exit code is its own, and a crossed
// threshold an expectation that was missed.
func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name, limits string
		code, judged int
	}{
		{"kept", `{checks: ['rate==1'], statequake_fail: ['count==60'], 'statequake_op_duration{command:add}': ['p(99)<5000'], statequake_info: ['count==0'], 'statequake_ops{outcome:ok}': ['count==120']}`, 0, 0},
		{"crossed", `{'statequake_ops{entity:thing}': ['count<100']}`, 99, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t)
			dir := filepath.Join(t.TempDir(), "run")
			code, said := n.k6(t, strings.Replace(counts, "LIMITS", tt.limits, 1), "--out", "statequake="+dir)
			if code != tt.code {
				t.Fatalf("k6 ended with %d, want %d:\n%s", code, tt.code, said)
			}
			ops, run := record(t, dir)
			if run.Footer == nil || run.Footer.Identity() != nil || run.Footer.Scheduled[history.Load] != 180 || len(ops) != 183 {
				t.Errorf("%d operations, footer %+v, want 180 and the audit of 3 keys", len(ops), run.Footer)
			}
			v := judged(t, dir)
			if v.Load.OK != 120 || v.Load.Fail != 60 || len(run.Samples) == 0 {
				t.Errorf("%+v, %d samples", v.Load, len(run.Samples))
			}
			if v.ExitCode() != tt.judged {
				t.Errorf("judged %d (%s), want %d: %q", v.ExitCode(), v.Verdict, tt.judged, v.Reasons)
			}
			for _, x := range v.Expectations {
				if x.Measured == nil || x.Met != (tt.code == 0) {
					t.Errorf("%+v", x)
				}
			}
			if len(v.Expectations) == 0 {
				t.Error("no threshold is in the verdict")
			}
		})
	}
}

// The witness audit judges what k6 wrote: a system that forgets a write is
// found.
func TestLostWriteIsFound(t *testing.T) {
	n := newNode(t)
	done := make(chan struct{})
	defer close(done)
	go func() { // forgets the first write of a key that has many
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
			n.mu.Lock()
			for at, ids := range n.ids {
				if len(ids) > 10 {
					n.ids[at] = ids[1:]
				}
			}
			n.mu.Unlock()
		}
	}()
	dir := filepath.Join(t.TempDir(), "run")
	if code, said := n.k6(t, strings.Replace(counts, "LIMITS", "{}", 1), "--out", "statequake="+dir); code != 0 {
		t.Fatalf("k6 ended with %d:\n%s", code, said)
	}
	if v := judged(t, dir); v.Verdict != check.Violated || v.ExitCode() != 1 {
		t.Errorf("verdict %s: %q", v.Verdict, v.Reasons)
	}
}

// What k6 does not start for want of users is in the books, and the generator says
// so of itself.
func TestDroppedIterations(t *testing.T) {
	n := newNode(t)
	n.delay = func() time.Duration { return 20 * time.Millisecond }
	dir := filepath.Join(t.TempDir(), "run")
	code, said := n.k6(t, `
import statequake from 'k6/x/statequake';
export const options = { scenarios: { few: { executor: 'constant-arrival-rate', rate: 200, duration: '3s', preAllocatedVUs: 1, maxVUs: 1 } } };
const client = statequake.connect();
export default function () { client.invokeSync('thing', statequake.tag(), 'get'); }
`, "--out", "statequake="+dir)
	if code != 0 {
		t.Fatalf("k6 ended with %d:\n%s", code, said)
	}
	v := judged(t, dir)
	if v.Load.Scheduled < 590 || v.Load.Scheduled > 602 || v.Load.Unsent < 400 || v.Load.OK+v.Load.Unsent != v.Load.Scheduled {
		t.Errorf("%+v, want 600 scheduled, most of them unsent", v.Load)
	}
	if v.Load.Generator != stats.Invalid || v.ExitCode() != 2 {
		t.Errorf("generator %s, exit code %d, want invalid and 2", v.Load.Generator, v.ExitCode())
	}
	if reasons := strings.Join(v.Load.GeneratorReasons, " "); !strings.Contains(reasons, "k6 had too few virtual users") {
		t.Errorf("reasons %q", reasons)
	}
}

// A pacer drops nothing, however few the users are; what no user comes for in time
// is unsent.
func TestPacer(t *testing.T) {
	n := newNode(t)
	n.delay = func() time.Duration { return 20 * time.Millisecond }
	script := `
import statequake from 'k6/x/statequake';
export const options = { vus: 1, duration: '20s' };
const client = statequake.connect();
const pacer = statequake.pacer({ rate: '100/s', duration: '2s', timeout: 'TIMEOUT' });
export default function () {
  const slot = pacer.next();
  if (slot === null) return;
  client.invokeSync('thing', statequake.tag(), 'get', undefined, { due: slot });
}
`
	t.Run("queue", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		code, said := n.k6(t, strings.Replace(script, "TIMEOUT", "20s", 1), "--duration", "6s", "--out", "statequake="+dir)
		if code != 0 {
			t.Fatalf("k6 ended with %d:\n%s", code, said)
		}
		v := judged(t, dir)
		if v.Load.Scheduled != 200 || v.Load.OK != 200 {
			t.Errorf("%+v, want 200 ok", v.Load)
		}
		// 200 operations of at least 20 ms each take 4 s, and were due within 2 s.
		if got := v.Latency.All.Max; got < 1900*time.Millisecond {
			t.Errorf("the longest latency is %v, want about 2 s: it counts from the due instant", got)
		}
		if reasons := strings.Join(v.Load.GeneratorReasons, " "); strings.Contains(reasons, "due operations") || strings.Contains(reasons, "virtual users") {
			t.Errorf("generator %s: %q: the pacer handed out every operation", v.Load.Generator, reasons)
		}
	})
	t.Run("expired", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		code, said := n.k6(t, strings.Replace(script, "TIMEOUT", "100ms", 1), "--duration", "4s", "--out", "statequake="+dir)
		if code != 0 {
			t.Fatalf("k6 ended with %d:\n%s", code, said)
		}
		v := judged(t, dir)
		if v.Load.Scheduled != 200 || v.Load.Unsent < 50 || v.Load.OK+v.Load.Unsent != 200 {
			t.Errorf("%+v, want 200, about half of them unsent", v.Load)
		}
		if v.Load.Generator != stats.Invalid {
			t.Errorf("generator %s", v.Load.Generator)
		}
	})
	t.Run("cut short", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		code, said := n.k6(t, strings.Replace(script, "TIMEOUT", "20s", 1), "--duration", "1s", "--out", "statequake="+dir)
		if code != 0 {
			t.Fatalf("k6 ended with %d:\n%s", code, said)
		}
		v := judged(t, dir)
		if v.Load.Scheduled < 90 || v.Load.Scheduled > 200 || v.Load.Unsent < 30 || v.Load.OK+v.Load.Unsent != v.Load.Scheduled {
			t.Errorf("%+v, want about 100 scheduled, about half of them unsent", v.Load)
		}
	})
	t.Run("unused slot", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "run")
		forgetful := strings.Replace(strings.Replace(script, ", { due: slot }", "", 1), "TIMEOUT", "20s", 1)
		code, said := n.k6(t, forgetful, "--duration", "3s", "--out", "statequake="+dir)
		if code != 0 {
			t.Fatalf("k6 ended with %d:\n%s", code, said)
		}
		if v := judged(t, dir); v.Load.Unsent != 200 {
			t.Errorf("%+v, want all 200 of the pacer unsent", v.Load)
		}
	})
}

// SIGKILL leaves a torn run, which is judged as such; SIGINT a whole one.
func TestSignals(t *testing.T) {
	for _, tt := range []struct {
		signal syscall.Signal
		code   int
	}{{syscall.SIGKILL, -1}, {syscall.SIGINT, 105}} {
		t.Run(tt.signal.String(), func(t *testing.T) {
			n := newNode(t)
			n.delay = func() time.Duration { return 5 * time.Millisecond }
			dir := filepath.Join(t.TempDir(), "run")
			c := n.command(t, strings.Replace(strings.Replace(counts, "LIMITS", "{}", 1), "iterations: 60", "duration: '60s'", 1), "--out", "statequake="+dir)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			defer c.Process.Kill()
			deadline := time.Now().Add(30 * time.Second)
			for { // until something is on disk
				if info, err := os.Stat(filepath.Join(dir, "history.jsonl")); err == nil && info.Size() > 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("no operation was recorded within 30 s")
				}
				time.Sleep(10 * time.Millisecond)
			}
			c.Process.Signal(tt.signal)
			c.Wait()
			if got := c.ProcessState.ExitCode(); got != tt.code {
				t.Errorf("exit code %d, want %d", got, tt.code)
			}
			_, run := record(t, dir)
			torn := run.Footer == nil
			if torn != (tt.signal == syscall.SIGKILL) {
				t.Errorf("torn: %v", torn)
			}
			v := judged(t, dir)
			if v.Load.OK == 0 || v.Verdict == check.Violated || torn && v.Verdict == check.Pass {
				t.Errorf("verdict %s: %q", v.Verdict, v.Reasons)
			}
			if !torn && !strings.Contains(run.Footer.Stopped, "interrupt") {
				t.Errorf("stopped %q", run.Footer.Stopped)
			}
		})
	}
}

// What a script gets wrong is said with its remedy, and nothing is sent.
func TestScriptErrors(t *testing.T) {
	n := newNode(t)
	for _, tt := range []struct{ name, body, want string }{
		{"unknown option", `statequake.connect({ ulr: 'x' })`, `connect: unknown option "ulr"; have url, urls, run, timeout, retries, maxConns`},
		{"bad URL", `statequake.connect({ url: 'ftp://x' })`, `"ftp://x" is not the URL of a node`},
		{"URL and run", `statequake.connect({ url: 'http://127.0.0.1:1', run: '/tmp' })`, `url and run contradict each other`},
		{"no run there", `statequake.connect({ run: '/nowhere' })`, `/nowhere`},
		{"no rate", `statequake.pacer({ duration: '1s' })`, `pacer: rate: missing`},
		{"no duration", `statequake.pacer({ rate: '10/s' })`, `pacer: duration: missing`},
		{"bad rate", `statequake.pacer({ rate: 'fast', duration: '1s' })`, `rate "fast"`},
		{"two pacers of one name", `statequake.pacer({ rate: '10/s', duration: '1s' }); statequake.pacer({ rate: '20/s', duration: '1s' })`, `made with other options before`},
		{"while initialized", `statequake.connect().invokeSync('cart', 'k', 'get')`, `nothing is sent while the script is initialized`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, said := n.k6(t, "import statequake from 'k6/x/statequake';\n"+tt.body+";\nexport default function () {}\n")
			if code != 107 || !strings.Contains(strings.ReplaceAll(said, `\"`, `"`), tt.want) {
				t.Errorf("exit code %d, want 107 and %q:\n%s", code, tt.want, said)
			}
		})
	}
	for _, tt := range []struct{ name, body, want string }{
		{"no key", `client.invokeSync('cart', '', 'get')`, `key: 0 bytes, want 1 to 1024`},
		{"list as args", `client.invokeSync('cart', 'k', 'add', [1])`, `args: not an object`},
		{"number as a slot", `client.invokeSync('cart', 'k', 'get', {}, { due: 7 })`, `due: not what pacer.next returned`},
		{"slot used twice", `const s = pacer.next(); client.invokeSync('cart', 'k', 'get', {}, { due: s }); client.invokeSync('cart', 'k', 'get', {}, { due: s })`, `was sent already`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, said := n.k6(t, "import statequake from 'k6/x/statequake';\nconst client = statequake.connect();\nconst pacer = statequake.pacer({ rate: '100/s', duration: '1s' });\nexport default function () { "+tt.body+" }\n")
			if !strings.Contains(said, tt.want) {
				t.Errorf("want %q:\n%s", tt.want, said)
			}
		})
	}
	t.Run("directory in use", func(t *testing.T) {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, "x"), nil, 0o644)
		if code, said := n.k6(t, "export default function () {}", "--out", "statequake="+dir); code == 0 || !strings.Contains(said, "is not empty (it holds x)") {
			t.Errorf("exit code %d:\n%s", code, said)
		}
	})
}

// The examples are scripts that run.
func TestExamples(t *testing.T) {
	scripts, err := filepath.Glob("examples/*.js")
	if err != nil || len(scripts) < 3 {
		t.Fatalf("%d examples, %v", len(scripts), err)
	}
	for _, script := range scripts {
		t.Run(filepath.Base(script), func(t *testing.T) {
			n := newNode(t)
			dir := filepath.Join(t.TempDir(), "run")
			t.Setenv("STATEQUAKE_DURATION", "2s")
			code, said := n.k6(t, script, "--out", "statequake="+dir)
			if code != 0 {
				t.Fatalf("k6 ended with %d:\n%s", code, said)
			}
			if v := judged(t, dir); v.Load.OK == 0 || v.Load.Fail != 0 {
				t.Errorf("%+v", v.Load)
			}
		})
	}
}
