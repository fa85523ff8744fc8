package campaign

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The test binary is also the program: with a mode in this variable.
const variable = "CAMPAIGN_TEST_MODE"

const verdict = `{"verdict":"unknown","reasons":["It is."],"lost_acks":3,
"checks":[{"violations":[{"kind":"lost"},{"kind":"lost"}]},{"violations":[]}],
"faults":[{"name":"f1","requested_ns":1000,"injected_ns":2000,"recovered_ns":null,"evidence":{"verdict":"confirmed","detail":"seen"},
"recovery":{"outage_ns":{"p50":5,"max":7,"n":2},"lost_acks":3,"rpo_ns":9}}],
"expectations":[{"name":"lost_acks","met":false}]}`

func TestMain(m *testing.M) {
	mode := os.Getenv(variable)
	if mode == "" {
		os.Exit(m.Run())
	}
	if mode == "sleep" {
		time.Sleep(time.Minute)
	}
	dir := os.Args[len(os.Args)-1]
	fmt.Println(strings.Join(os.Args[1:], " "))
	if mode == "failed" {
		fmt.Println("statequake: run it: no\nhint: do not")
		os.Exit(exitFailed)
	}
	if mode != "broken" {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "verdict.json"), []byte(verdict), 0o644)); err != nil {
			panic(err)
		}
	}
	if mode == "leave" {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), variable+"=sleep")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			panic(err)
		}
	}
	os.Exit(2)
}

func run(t *testing.T, mode string) Run {
	t.Helper()
	t.Setenv(variable, mode)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Run{Binary: binary, Dir: filepath.Join(t.TempDir(), "a", "b"), Args: []string{"mine.yaml", "--set", "seed=2"}}
}

func TestDo(t *testing.T) {
	r := run(t, "plain")
	out, v, err := r.Do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out.Code != 2 || strings.Contains(fmt.Sprint(out.Left), "process") || out.Resumed || out.Took <= 0 {
		t.Errorf("%+v", out)
	}
	f := v.Faults[0]
	if v.Verdict != "unknown" || *v.LostAcks != 3 || !slices.Equal(v.Violations(), []string{"lost", "lost"}) || v.Expectations[0].Met ||
		*f.Requested != 1000 || *f.Injected != 2000 || f.Recovered != nil || f.Evidence.Verdict != "confirmed" || *f.Recovery.Outage.Max != 7 || *f.Recovery.RPO != 9 {
		t.Errorf("%+v", v)
	}
	if text, err := os.ReadFile(r.Dir + ".log"); string(text) != "run mine.yaml --set seed=2 --out "+r.Dir+"\n" {
		t.Errorf("%s %v", text, err)
	}
	if _, err := os.Stat(r.Dir + ".bin"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the name of the program is left: %v", err)
	}

	r.Resume = true
	if again, _, err := r.Do(t.Context()); err != nil || !again.Resumed || again.Code != 2 || again.Took != out.Took {
		t.Errorf("resumed: %+v, %v", again, err)
	}
	r.Args = []string{"other.yaml"}
	if again, _, err := r.Do(t.Context()); err != nil || again.Resumed {
		t.Errorf("another run: %+v, %v", again, err)
	}
}

func TestDoLeaves(t *testing.T) {
	out, _, err := run(t, "leave").Do(t.Context())
	// Tests of others may make interfaces meanwhile.
	out.Left = slices.DeleteFunc(out.Left, func(thing string) bool { return !strings.Contains(thing, "process") })
	if err != nil || len(out.Left) != 1 || !strings.HasPrefix(out.Left[0], "stopped process ") || out.LeftFor < leftWithin {
		t.Errorf("%+v, %v", out, err)
	}
	for _, thing := range out.Left {
		var pid int
		if _, err := fmt.Sscanf(thing, "stopped process %d", &pid); err == nil {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func TestDoFails(t *testing.T) {
	if _, _, err := run(t, "broken").Do(t.Context()); err == nil || !strings.Contains(err.Error(), "exit code 2 without a verdict") {
		t.Errorf("without a verdict: %v", err)
	}
	if out, v, err := run(t, "failed").Do(t.Context()); err != nil || out.Code != 3 || v.Verdict != Failed || v.Reasons[0] != "run it: no" {
		t.Errorf("failed: %+v, %+v, %v", out, v, err)
	}
	r := run(t, "sleep")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := r.Do(ctx); err == nil || err.Error() != "interrupted" {
		t.Errorf("interrupted: %v", err)
	}
	r.Binary = "/does/not/exist"
	if _, _, err := r.Do(t.Context()); err == nil {
		t.Error("a missing program is no error")
	}
}

func TestEach(t *testing.T) {
	var running, most, done atomic.Int64
	err := Each(t.Context(), 20, 2, func(context.Context, int) error {
		most.Store(max(most.Load(), running.Add(1)))
		time.Sleep(time.Millisecond)
		running.Add(-1)
		done.Add(1)
		return nil
	})
	if err != nil || done.Load() != 20 || most.Load() > 2 {
		t.Errorf("%d done, %d at once, %v", done.Load(), most.Load(), err)
	}
	bad := errors.New("bad")
	if err := Each(t.Context(), 20, 2, func(_ context.Context, i int) error {
		if i == 3 {
			return bad
		}
		return nil
	}); err != bad {
		t.Error(err)
	}
	if err := Each(t.Context(), 1, 0, nil); err == nil {
		t.Error("none at a time is no error")
	}
}

func TestQuantile(t *testing.T) {
	var values []time.Duration
	for i := range 50 {
		values = append(values, time.Duration(50-i))
	}
	for q, want := range map[float64]time.Duration{0.5: 25, 0.99: 50, 1: 50, 0: 1} {
		if got := Quantile(values, q); got != want {
			t.Errorf("%v: %d, want %d", q, got, want)
		}
	}
	if Quantile(nil, 0.5) != 0 {
		t.Error("of nothing")
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		123 * time.Microsecond: "0.1 ms", 9940 * time.Microsecond: "9.9 ms", 9960 * time.Microsecond: "10 ms", 999 * time.Millisecond: "999 ms",
		time.Second: "1.00 s", 9994 * time.Millisecond: "9.99 s", 12340 * time.Millisecond: "12.3 s", -20 * time.Millisecond: "-20 ms",
	} {
		if got := Words(d); got != want {
			t.Errorf("%d: %s, want %s", d, got, want)
		}
	}
}
